//! SQL around a model's SQL.

use crate::error::SourceError;
use crate::port::Sql;

/// How a database's SQL is written, as far as it matters where a statement ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Postgres,
    Sqlite,
}

/// A model's one statement, without what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement<'a> {
    model: &'a Sql,
    /// Where in the model it begins.
    begin: usize,
    pub(crate) text: &'a str,
}

impl<'a> Statement<'a> {
    /// Finds the statement's end: final semicolons, comments and blanks do no harm, a second statement is a mistake.
    pub(crate) fn new(model: &'a Sql, dialect: Dialect) -> Result<Self, SourceError> {
        let mut lexer = Lexer { text: &model.text, at: 0, dialect };
        let (mut begin, mut end, mut depth, mut is_over) = (None, 0, 0_u32, false);
        while let Some((at, token)) = lexer.next() {
            if token == Token::Semicolon && depth == 0 {
                is_over = true;
                continue;
            }
            if is_over && begin.is_some() {
                let reason = "A second statement begins here; a model is one SELECT";
                return Err(refused(model, Some(at), reason));
            }
            (begin, is_over) = (begin.or(Some(at)), false);
            match token {
                Token::Open => depth += 1,
                Token::Close if depth == 0 => {
                    return Err(refused(model, Some(at), "This closing parenthesis was never opened"));
                }
                Token::Close => depth -= 1,
                Token::Semicolon | Token::Other => {}
            }
            end = lexer.at;
        }
        let found = begin.and_then(|begin| Some(Self { model, begin, text: model.text.get(begin..end)? }));
        found.ok_or_else(|| refused(model, None, "The model has no SQL"))
    }

    /// Selects `expressions` from the model; all of its columns if there are none.
    pub(crate) fn narrowed(&self, expressions: &[String]) -> String {
        let list = if expressions.is_empty() { "*".to_owned() } else { expressions.join(", ") };
        format!("SELECT {list} FROM (\n{}\n) AS model", self.text)
    }

    /// The source's refusal, at the byte of `narrowed` that it names.
    pub(crate) fn refused(&self, narrowed: &str, at: Option<usize>, reason: &str) -> SourceError {
        let in_model = narrowed.find(self.text).zip(at).and_then(|(wrapped, at)| {
            let at = at.checked_sub(wrapped).filter(|at| *at <= self.text.len())?;
            Some(self.begin + at)
        });
        refused(self.model, in_model, reason)
    }
}

/// A refusal with its place in the model's file, and the file alone if the place is not known.
fn refused(model: &Sql, at: Option<usize>, reason: &str) -> SourceError {
    let place = at.and_then(|at| model.text.get(..at)).map(|before| {
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        format!(":{}:{}", model.line as usize + line, column + 1)
    });
    let file =
        if model.file.is_empty() { String::new() } else { model.file.clone() + &place.unwrap_or_default() + ": " };
    SourceError::Query(format!("{file}{reason}"))
}

/// `name` as a quoted identifier.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Semicolon,
    Open,
    Close,
    Other,
}

/// Walks over SQL; comments and blanks are not tokens, literals and quoted names are one each.
struct Lexer<'a> {
    text: &'a str,
    at: usize,
    dialect: Dialect,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next token and where it begins.
    fn next(&mut self) -> Option<(usize, Token)> {
        self.skip_blanks();
        let at = self.at;
        let rest = self.rest();
        let first = rest.chars().next()?;
        let is_postgres = self.dialect == Dialect::Postgres;
        let (length, token) = match first {
            ';' => (1, Token::Semicolon),
            '(' => (1, Token::Open),
            ')' => (1, Token::Close),
            '\'' | '"' => (literal(rest, first, false), Token::Other),
            'e' | 'E' if is_postgres && rest.get(1..).is_some_and(|rest| rest.starts_with('\'')) => {
                (1 + literal(rest.get(1..).unwrap_or_default(), '\'', true), Token::Other)
            }
            '`' if !is_postgres => (literal(rest, '`', false), Token::Other),
            '[' if !is_postgres => (rest.find(']').map_or(rest.len(), |end| end + 1), Token::Other),
            '$' if is_postgres => (dollars(rest), Token::Other),
            _ if is_word(first) => (rest.find(|c| !is_word(c) && c != '$').unwrap_or(rest.len()), Token::Other),
            _ => (first.len_utf8(), Token::Other),
        };
        self.at += length.max(1);
        Some((at, token))
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}'));
            let skipped = rest.len() - trimmed.len();
            let comment = if trimmed.starts_with("--") {
                trimmed.find('\n').unwrap_or(trimmed.len())
            } else if trimmed.starts_with("/*") {
                comment(trimmed, self.dialect == Dialect::Postgres)
            } else {
                0
            };
            self.at += skipped + comment;
            if comment == 0 {
                return;
            }
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of a literal that ends with `quote`; a doubled one, or in some literals one after a backslash, is a part of it.
fn literal(text: &str, quote: char, escapes: bool) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && escapes {
            chars.next();
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return at + 1;
        }
    }
    text.len()
}

/// The length of a literal between two `$tag$`; 1 where the dollar begins none.
fn dollars(text: &str) -> usize {
    let Some(tag) = text.get(1..).and_then(|rest| rest.find('$')).and_then(|end| text.get(..end + 2)) else { return 1 };
    let name = tag.trim_matches('$');
    if !name.chars().all(is_word) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return 1;
    }
    let inner = text.get(tag.len()..).unwrap_or_default();
    inner.find(tag).map_or(text.len(), |end| end + 2 * tag.len())
}

/// The length of a comment, which in some dialects may hold others.
fn comment(text: &str, nested: bool) -> usize {
    let (mut at, mut depth) = (2, 1);
    while depth > 0 {
        let rest = text.get(at..).unwrap_or_default();
        let Some(end) = rest.find("*/") else { return text.len() };
        match rest.find("/*").filter(|begin| nested && *begin < end) {
            Some(begin) => (at, depth) = (at + begin + 2, depth + 1),
            None => (at, depth) = (at + end + 2, depth - 1),
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(text: &str, dialect: Dialect) -> Result<String, String> {
        let model = Sql { text: text.to_owned(), file: "models/m.sql".to_owned(), line: 4 };
        Statement::new(&model, dialect).map(|found| found.text.to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_follows_the_statement_does_no_harm() {
        for dialect in [Dialect::Postgres, Dialect::Sqlite] {
            for end in [
                "",
                ";",
                "; -- customers",
                ";\n/* end; */",
                ";\n\n-- one;\n-- two\n",
                ";\u{c}",
                ";\u{a0}\n;;",
                "\u{a0}",
                " -- ';",
                " /* ; */",
                "\u{feff};",
            ] {
                for sql in ["SELECT 'a' AS a", "SELECT ';'", "select \";\" from t where a = ')' -- x\n and b = '''; '"]
                {
                    assert_eq!(statement(&format!("\n{sql}{end}"), dialect), Ok(sql.to_owned()), "{end:?}");
                }
            }
        }
    }

    #[test]
    fn literals_of_each_dialect_hold_semicolons() {
        for sql in ["SELECT E'\\';'", "SELECT $$;$$, $a$;$$;$a$", "SELECT /* /* ; */ ; */ 1", "SELECT a$b$, c$b$"] {
            assert_eq!(statement(&format!("{sql};"), Dialect::Postgres), Ok(sql.to_owned()));
        }
        for sql in ["SELECT [;], `;`", "SELECT '\\'"] {
            assert_eq!(statement(&format!("{sql};"), Dialect::Sqlite), Ok(sql.to_owned()));
        }
    }

    #[test]
    fn second_statement_is_told_with_its_place() {
        let second =
            |place: &str| Err(format!("models/m.sql:{place}: A second statement begins here; a model is one SELECT"));
        assert_eq!(statement("SELECT 1;\n /**/SELECT 2", Dialect::Postgres), second("5:6"));
        assert_eq!(statement("SELECT 1\n;   SELECT 2", Dialect::Sqlite), second("5:5"));
        assert!(statement("SELECT 1) AS a, (SELECT 2", Dialect::Postgres).is_err());
        assert!(statement(" -- nothing\n;", Dialect::Postgres).is_err());
    }

    #[test]
    fn refusals_name_the_place_in_the_models_file() {
        let model =
            Sql { text: "\n-- all\nSELECT a,\n  brr FROM t; --\n".to_owned(), file: "m.sql".to_owned(), line: 5 };
        let statement = Statement::new(&model, Dialect::Postgres).unwrap();
        let narrowed = statement.narrowed(&[quoted("a\"b")]);
        assert_eq!(narrowed, "SELECT \"a\"\"b\" FROM (\nSELECT a,\n  brr FROM t\n) AS model");
        let refused = statement.refused(&narrowed, narrowed.find("brr"), "no");
        assert_eq!(refused.to_string(), "m.sql:8:3: no");
        assert_eq!(statement.refused(&narrowed, Some(0), "no").to_string(), "m.sql: no");
    }
}
