//! What PostgreSQL refuses, in words that may be shown: with code and place, without values.

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

use outflow_model::text::with_causes;

use crate::error::SourceError;
use crate::message::{masked, one_line, words};
use crate::sql::Statement;

/// The read is tried again as a whole: a standby cancelled it, locks stood against each other, or no session was free.
const TRANSIENT: &[&str] = &["40001", "40P01", "53300", "57P03"];

/// Classes of errors that are in the query: its syntax, names and rights, what PostgreSQL does not do, and a value in it.
const MISTAKES: &[&str] = &["42", "0A", "22"];

/// Classes of errors whose words are the server's own: about a connection, values, constraints, names and rights, conflicts and
/// resources. Whatever else has another code may be worded by anybody.
const OWN: &[&str] = &["08", "0A", "22", "23", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"];

/// What errors about values are called, where their words begin with the value.
const CONDITIONS: &[(&str, &str)] = &[
    ("22001", "a text is too long for its type"),
    ("22003", "a number is out of range"),
    ("22007", "a text is not a date or time"),
    ("22008", "a date or time is out of range"),
    ("22021", "a text is not valid in its encoding"),
    ("22P02", "a text is not valid for its type"),
    ("22P05", "a character is not in the encoding"),
    ("23", "a constraint does not hold"),
    ("22", "a value is not what the query needs"),
];

/// The server's refusal of `sent`, which `statement` is a part of.
pub(super) fn refused(error: &sqlx::Error, statement: &Statement<'_>, sent: &str) -> SourceError {
    let Some(found) = error.as_database_error() else {
        return SourceError::Broken { rows: 0, reason: with_causes(error) };
    };
    let reason = reason(found, sent);
    if is_transient(error) {
        return SourceError::Away(reason);
    }
    let position = match found.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::position) {
        Some(PgErrorPosition::Original(place)) => sent.char_indices().nth(place.saturating_sub(1)).map(|(at, _)| at),
        Some(PgErrorPosition::Internal { .. }) | None => None,
    };
    let refused = statement.refused(sent, position, &format!("The source refuses the query: {reason}"));
    let code = found.code().unwrap_or_default();
    match refused {
        SourceError::Query(text) if !MISTAKES.iter().any(|class| code.starts_with(class)) => SourceError::Refused(text),
        refused => refused,
    }
}

/// The read broke off after `rows`, while the server returned what `sent` asked for.
pub(super) fn broken(error: &sqlx::Error, rows: u64, sent: &str) -> SourceError {
    let reason = error.as_database_error().map_or_else(|| with_causes(error), |found| self::reason(found, sent));
    if is_transient(error) { SourceError::Away(reason) } else { SourceError::Broken { rows, reason } }
}

/// Why no connection came about.
pub(super) fn connect(error: &sqlx::Error, source_name: &str, verifies: bool) -> SourceError {
    let mut reason = match error.as_database_error() {
        Some(found) => one_line(found.message()),
        None => with_causes(error),
    };
    // A certificate that is not trusted comes as an error of the connection, not of TLS.
    if verifies && (matches!(error, sqlx::Error::Tls(_)) || reason.contains("certificate")) {
        reason += ". Its certificate is verified, since the URL says no sslmode: name the authority with sslrootcert=FILE, or \
                   choose another sslmode";
    }
    if is_transient(error) {
        return SourceError::Away(format!("Cannot connect to {source_name}: {reason}"));
    }
    SourceError::Connect { source_name: source_name.to_owned(), reason }
}

fn is_transient(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| TRANSIENT.contains(&&*code))
}

/// What the server says, and its code. Its words are shown as far as they are about the query: those of functions of the database, and
/// all behind the first quotation in those about values, may hold what a row holds, as details and context may.
fn reason(found: &dyn DatabaseError, query: &str) -> String {
    let code = found.code().unwrap_or_default();
    let said = found.try_downcast_ref::<PgDatabaseError>().map(Said::from).unwrap_or_default();
    let reason = said.reason(found.message(), &code, query);
    if code.is_empty() { reason } else { format!("{reason} (SQLSTATE {code})") }
}

/// What a server says beside its message.
#[derive(Clone, Copy, Default)]
struct Said<'a> {
    /// It names a place in the query's text.
    has_place: bool,
    /// It arose in something that the query called.
    is_within: bool,
    hint: Option<&'a str>,
    /// The server's file that reports it.
    file: &'a str,
}

impl<'a> From<&'a PgDatabaseError> for Said<'a> {
    fn from(error: &'a PgDatabaseError) -> Self {
        Self {
            has_place: matches!(error.position(), Some(PgErrorPosition::Original(_))),
            is_within: error.r#where().is_some_and(|place| !place.is_empty()),
            hint: error.hint(),
            file: error.file().unwrap_or_default(),
        }
    }
}

impl Said<'_> {
    fn reason(self, message: &str, code: &str, query: &str) -> String {
        if self.has_place && !self.is_within && code.starts_with("42") {
            // The parser's words: it has seen no row yet.
            let reason = masked(message, query);
            let hint = self.hint.map(|hint| one_line(hint.trim_end_matches('.')));
            return hint.map_or_else(|| reason.clone(), |hint| format!("{reason}. {hint}"));
        }
        // PostgreSQL calls the files of its languages pl_exec.c, plpy_elog.c, plperl.c, pltcl.c.
        if code.starts_with("P0") || (self.is_within && self.file.starts_with("pl")) {
            return "a function of the database raised an error".to_owned();
        }
        let is_own = OWN.iter().any(|class| code.starts_with(class)) || (code.starts_with("XX") && !self.is_within);
        let condition =
            || CONDITIONS.iter().find(|(class, _)| code.starts_with(class)).map(|(_, name)| (*name).to_owned());
        let words = if is_own { words(message) } else { None };
        words.or_else(condition).unwrap_or_else(|| "the database raised an error".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_others_than_the_server_are_left_out() {
        let (own, raised) = (Said::default(), Said { is_within: true, file: "pl_exec.c", ..Said::default() });
        let parser = Said { has_place: true, hint: Some("Perhaps you meant \"a\"."), ..Said::default() };
        for (said, message, code, expected) in [
            (
                own,
                "ungültige Eingabesyntax für Typ bigint: »Ada«",
                "22P02",
                "ungültige Eingabesyntax für Typ bigint: \"…\"",
            ),
            (own, "Wert »Ada« ist ungültig", "22003", "a number is out of range"),
            (own, "»Ada«", "22999", "a value is not what the query needs"),
            (own, "improper relation name (too many dotted names): Ada", "42601", "improper relation name: \"…\""),
            (own, "Ada Lovelace", "AB123", "the database raised an error"),
            (own, "Ada Lovelace", "38000", "the database raised an error"),
            (raised, "Ada Lovelace", "22012", "a function of the database raised an error"),
            (raised, "Ada Lovelace", "40001", "a function of the database raised an error"),
            (Said { has_place: true, ..raised }, "Ada", "42703", "a function of the database raised an error"),
            (Said { is_within: true, ..own }, "Ada Lovelace", "XX000", "the database raised an error"),
            (parser, "column \"b\" does not exist", "42703", "column \"b\" does not exist. Perhaps you meant \"a\""),
            (
                parser,
                "invalid input syntax for type integer: \"x\"",
                "22P02",
                "invalid input syntax for type integer: \"…\"",
            ),
        ] {
            assert_eq!(said.reason(message, code, "SELECT b"), expected, "{message} {code}");
        }
    }

    #[test]
    fn refused_certificate_says_what_to_do() {
        let io = || sqlx::Error::Io(std::io::Error::other("invalid peer certificate: UnknownIssuer"));
        let said = |error: sqlx::Error, verifies| connect(&error, "source warehouse", verifies).to_string();
        assert!(said(io(), true).contains("sslrootcert=FILE"));
        assert!(said(sqlx::Error::Tls("the server does not support TLS".into()), true).contains("sslrootcert=FILE"));
        assert!(!said(io(), false).contains("sslrootcert"), "a URL with sslmode knows what it asks for");
        let refused = sqlx::Error::Io(std::io::ErrorKind::ConnectionRefused.into());
        assert!(!said(refused, true).contains("sslrootcert"));
    }
}
