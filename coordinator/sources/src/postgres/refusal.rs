//! What PostgreSQL refuses, in words that may be shown: with code and place, without values.

use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

use crate::error::SourceError;
use crate::message::{masked, one_line};
use crate::sql::Statement;

/// The read is tried again as a whole: a standby cancelled it, locks stood against each other, or no session was free.
const TRANSIENT: &[&str] = &["40001", "40P01", "53300", "57P03"];

/// Classes of errors that are in the query: its syntax, names and rights, what PostgreSQL does not do, and a value in it.
const MISTAKES: &[&str] = &["42", "0A", "22"];

/// The server's refusal of `sent`, which `statement` is a part of.
pub(super) fn refused(error: &sqlx::Error, statement: &Statement<'_>, sent: &str) -> SourceError {
    let Some(found) = error.as_database_error() else {
        return SourceError::Broken { rows: 0, reason: SourceError::reason(error) };
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
    let reason =
        error.as_database_error().map_or_else(|| SourceError::reason(error), |found| self::reason(found, sent));
    if is_transient(error) { SourceError::Away(reason) } else { SourceError::Broken { rows, reason } }
}

/// Why no connection came about.
pub(super) fn connect(error: &sqlx::Error, source_name: &str, verifies: bool) -> SourceError {
    let mut reason = match error.as_database_error() {
        Some(found) => one_line(found.message()),
        None => SourceError::reason(error),
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

/// The server's words and its code. Details and context may hold values, as may the words of errors about values and of those
/// that functions of the database raise.
fn reason(found: &dyn sqlx::error::DatabaseError, query: &str) -> String {
    let code = found.code().unwrap_or_default();
    if code.starts_with("P0") {
        return format!("a function of the database raised an error (SQLSTATE {code})");
    }
    let is_about_values = code.starts_with("22") || code.starts_with("23");
    let mut reason = masked(found.message(), query, is_about_values);
    if code.starts_with("42")
        && let Some(hint) = found.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::hint)
    {
        reason = format!("{reason}. {}", masked(hint.trim_end_matches('.'), hint, false));
    }
    if code.is_empty() { reason } else { format!("{reason} (SQLSTATE {code})") }
}

#[cfg(test)]
mod tests {
    use super::*;

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
