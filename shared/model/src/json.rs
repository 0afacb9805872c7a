//! JSON texts read token by token: whatever their depth, they take no stack, and no digit or character changes.

use std::borrow::Cow;

/// Why a text cannot be used as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It breaks the grammar of RFC 8259.
    #[error("the text is not valid JSON")]
    Syntax,
    /// It escapes half of a surrogate pair, which is no character: strict readers refuse it.
    #[error("the JSON holds half of a surrogate pair, which is not a character")]
    Surrogate,
    /// An object has a name twice: some readers take the first value, some the last.
    #[error("the JSON has a name twice in one object; which value is meant cannot be known")]
    Twice,
}

/// One token of a JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as it is written.
    Number(&'a str),
    /// A string's inside as it is written, escapes and all.
    Text(&'a str),
    /// A member's name, as it is written inside its quotes.
    Name(&'a str),
    /// `[`
    BeginArray,
    /// `]`
    EndArray,
    /// `{`
    BeginObject,
    /// `}`
    EndObject,
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    ValueOrEnd,
    NameOrEnd,
    Name,
    CommaOrEnd,
    Nothing,
}

/// Reads a JSON text's tokens, and nothing but a whole JSON text: the last item is an error where it breaks off.
pub struct Tokens<'a> {
    text: &'a str,
    at: usize,
    next: Next,
    /// The open containers: `true` for an object.
    open: Vec<bool>,
}

impl<'a> Tokens<'a> {
    /// Reads `text` from its start.
    pub const fn new(text: &'a str) -> Self {
        Self { text, at: 0, next: Next::Value, open: Vec::new() }
    }

    fn skip_blanks(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn token(&mut self) -> Result<Option<Token<'a>>, JsonError> {
        loop {
            let Some(byte) = self.skip_blanks() else {
                return if self.next == Next::Nothing { Ok(None) } else { Err(JsonError::Syntax) };
            };
            match (self.next, byte) {
                (Next::CommaOrEnd, b',') => {
                    self.at += 1;
                    self.next = if self.open.last() == Some(&true) { Next::Name } else { Next::Value };
                }
                (Next::CommaOrEnd | Next::ValueOrEnd, b']') if self.open.last() == Some(&false) => {
                    return Ok(Some(self.close(Token::EndArray)));
                }
                (Next::CommaOrEnd | Next::NameOrEnd, b'}') if self.open.last() == Some(&true) => {
                    return Ok(Some(self.close(Token::EndObject)));
                }
                (Next::Name | Next::NameOrEnd, b'"') => {
                    let name = self.string()?;
                    if self.skip_blanks() != Some(b':') {
                        return Err(JsonError::Syntax);
                    }
                    self.at += 1;
                    self.next = Next::Value;
                    return Ok(Some(Token::Name(name)));
                }
                (Next::Value | Next::ValueOrEnd, byte) => return self.value(byte).map(Some),
                _ => return Err(JsonError::Syntax),
            }
        }
    }

    fn close(&mut self, token: Token<'a>) -> Token<'a> {
        self.at += 1;
        self.open.pop();
        self.after_value();
        token
    }

    fn after_value(&mut self) {
        self.next = if self.open.is_empty() { Next::Nothing } else { Next::CommaOrEnd };
    }

    fn value(&mut self, byte: u8) -> Result<Token<'a>, JsonError> {
        let (opens, next, token) = match byte {
            b'[' => (false, Next::ValueOrEnd, Token::BeginArray),
            b'{' => (true, Next::NameOrEnd, Token::BeginObject),
            _ => {
                let token = match byte {
                    b'"' => Token::Text(self.string()?),
                    b't' => self.word("true", Token::Bool(true))?,
                    b'f' => self.word("false", Token::Bool(false))?,
                    b'n' => self.word("null", Token::Null)?,
                    _ => self.number()?,
                };
                self.after_value();
                return Ok(token);
            }
        };
        self.at += 1;
        self.open.push(opens);
        self.next = next;
        Ok(token)
    }

    fn word(&mut self, word: &str, token: Token<'a>) -> Result<Token<'a>, JsonError> {
        if !self.rest().starts_with(word) {
            return Err(JsonError::Syntax);
        }
        self.at += word.len();
        Ok(token)
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn number(&mut self) -> Result<Token<'a>, JsonError> {
        let rest = self.rest();
        let end = rest.bytes().position(|b| !matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        let number = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        if !is_number(number) {
            return Err(JsonError::Syntax);
        }
        self.at += number.len();
        Ok(Token::Number(number))
    }

    fn string(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at + 1;
        let bytes = self.text.as_bytes();
        let mut at = start;
        loop {
            match bytes.get(at).ok_or(JsonError::Syntax)? {
                b'"' => break,
                b'\\' => at = escape(self.text, at)?.1,
                0..0x20 => return Err(JsonError::Syntax),
                _ => at += 1,
            }
        }
        self.at = at + 1;
        self.text.get(start..at).ok_or(JsonError::Syntax)
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Result<Token<'a>, JsonError>;

    fn next(&mut self) -> Option<Self::Item> {
        let token = self.token();
        if token.is_err() {
            (self.next, self.at) = (Next::Nothing, self.text.len());
        }
        token.transpose()
    }
}

/// The character that is escaped at `at`, and where the text goes on.
fn escape(text: &str, at: usize) -> Result<(char, usize), JsonError> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or(JsonError::Syntax)
    };
    let letter = match text.as_bytes().get(at + 1).ok_or(JsonError::Syntax)? {
        letter @ (b'"' | b'\\' | b'/') => char::from(*letter),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let high = unit(at + 2)?;
            if !(0xd800..0xe000).contains(&high) {
                return Ok((char::from_u32(high).ok_or(JsonError::Surrogate)?, at + 6));
            }
            if high >= 0xdc00 || text.get(at + 6..at + 8) != Some("\\u") {
                return Err(JsonError::Surrogate);
            }
            let low = unit(at + 8)?;
            if !(0xdc00..0xe000).contains(&low) {
                return Err(JsonError::Surrogate);
            }
            let whole = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            return Ok((char::from_u32(whole).ok_or(JsonError::Surrogate)?, at + 12));
        }
        _ => return Err(JsonError::Syntax),
    };
    Ok((letter, at + 2))
}

/// True if `text` is a number in JSON's grammar.
pub fn is_number(text: &str) -> bool {
    let text = text.as_bytes();
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let (whole, rest) = digits(unsigned);
    let is_whole = whole == 1 || whole > 1 && !unsigned.starts_with(b"0");
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => digits(rest),
        _ => (1, rest),
    };
    let (exponent, rest) = match rest {
        [b'e' | b'E', b'+' | b'-', rest @ ..] | [b'e' | b'E', rest @ ..] => digits(rest),
        _ => (1, rest),
    };
    is_whole && fraction > 0 && exponent > 0 && rest.is_empty()
}

/// How many digits stand first, and what stands behind them.
fn digits(text: &[u8]) -> (usize, &[u8]) {
    let count = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    (count, text.get(count..).unwrap_or_default())
}

/// Resolves the escapes of a string's inside, as [`Token::Text`] and [`Token::Name`] hold it.
pub fn unescape(inside: &str) -> Cow<'_, str> {
    let Some(first) = inside.find('\\') else { return Cow::Borrowed(inside) };
    let mut out = String::with_capacity(inside.len());
    out.push_str(inside.get(..first).unwrap_or_default());
    let mut at = first;
    while let Some(rest) = inside.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with('\\') {
            let (letter, next) = escape(inside, at).unwrap_or((char::REPLACEMENT_CHARACTER, at + 2));
            out.push(letter);
            at = next;
        } else {
            let plain = rest.find('\\').unwrap_or(rest.len());
            out.push_str(rest.get(..plain).unwrap_or_default());
            at += plain;
        }
    }
    Cow::Owned(out)
}

/// A JSON text as a value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scalar<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as it is written.
    Number(&'a str),
    /// A string, escapes resolved.
    Text(Cow<'a, str>),
    /// An object or an array, not looked into.
    Document(&'a str),
}

/// The value that a JSON text is; the inside of an object or array is not checked.
pub fn scalar(text: &str) -> Result<Scalar<'_>, JsonError> {
    let mut tokens = Tokens::new(text);
    let scalar = match tokens.next().ok_or(JsonError::Syntax)?? {
        Token::Null => Scalar::Null,
        Token::Bool(value) => Scalar::Bool(value),
        Token::Number(digits) => Scalar::Number(digits),
        Token::Text(inside) => Scalar::Text(unescape(inside)),
        _ => return Ok(Scalar::Document(text)),
    };
    match tokens.next() {
        None => Ok(scalar),
        Some(_) => Err(JsonError::Syntax),
    }
}

/// The names of open objects.
#[derive(Default)]
struct Names<'a> {
    names: Vec<Cow<'a, str>>,
    /// Where those of each open object begin.
    starts: Vec<usize>,
}

impl<'a> Names<'a> {
    fn see(&mut self, token: Token<'a>) -> Result<(), JsonError> {
        match token {
            Token::BeginObject => self.starts.push(self.names.len()),
            Token::Name(inside) => self.names.push(unescape(inside)),
            Token::EndObject => {
                let start = self.starts.pop().unwrap_or(0);
                let own = self.names.get_mut(start..).unwrap_or_default();
                own.sort_unstable();
                if own.array_windows().any(|[one, next]| one == next) {
                    return Err(JsonError::Twice);
                }
                self.names.truncate(start);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Appends `text` without the blanks between its tokens, digits and characters as they are; a text that is not JSON, or has a name
/// twice in one object, is an error, and `out` then holds a part of it.
pub fn compact(text: &str, out: &mut String) -> Result<(), JsonError> {
    out.reserve(text.len());
    let (mut follows, mut names) = (false, Names::default());
    for token in Tokens::new(text) {
        let token = token?;
        names.see(token)?;
        if follows && !matches!(token, Token::EndArray | Token::EndObject) {
            out.push(',');
        }
        follows = !matches!(token, Token::BeginArray | Token::BeginObject | Token::Name(_));
        match token {
            Token::Null => out.push_str("null"),
            Token::Bool(value) => out.push_str(if value { "true" } else { "false" }),
            Token::Number(digits) => out.push_str(digits),
            Token::Text(inside) | Token::Name(inside) => {
                out.push('"');
                out.push_str(inside);
                out.push_str(if matches!(token, Token::Name(_)) { "\":" } else { "\"" });
            }
            Token::BeginArray => out.push('['),
            Token::EndArray => out.push(']'),
            Token::BeginObject => out.push('{'),
            Token::EndObject => out.push('}'),
        }
    }
    Ok(())
}

/// Checks that `text` is JSON.
pub fn check(text: &str) -> Result<(), JsonError> {
    Tokens::new(text).try_for_each(|token| token.map(|_| ()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compacted(text: &str) -> Result<String, JsonError> {
        let mut out = String::new();
        compact(text, &mut out)?;
        Ok(out)
    }

    #[test]
    fn compact_form_loses_blanks_alone() {
        let text =
            " { \"a b\" : [ 1.50 , -0 , 1E+5, \"x\\n \\u00e9\" ] ,\n\t\"b\":{ } , \"c\" : [ ] , \"d\": null }\r\n";
        let want = "{\"a b\":[1.50,-0,1E+5,\"x\\n \\u00e9\"],\"b\":{},\"c\":[],\"d\":null}";
        assert_eq!(compacted(text), Ok(want.to_owned()));
    }

    #[test]
    fn name_twice_in_one_object_is_refused_at_any_depth() {
        for text in ["{\"a\":1,\"a\":2}", "[{\"b\":{\"a\":1,\"c\":2,\"\\u0061\":1}}]", "{\"\":1,\"\":1}"] {
            assert_eq!(compacted(text), Err(JsonError::Twice), "{text}");
        }
        for text in ["{\"a\":{\"a\":1},\"b\":{\"a\":1}}", "[{\"a\":1},{\"a\":1}]", "{\"a\":\"a\",\"A\":[]}"] {
            assert_eq!(compacted(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn text_that_is_not_json_is_refused() {
        let wrong = [
            "",
            " ",
            "not json",
            "1,\"a\":2",
            "[1,]",
            "{\"a\":1,}",
            "{,}",
            "[",
            "]",
            "{\"a\"}",
            "{\"a\":}",
            "{1:2}",
            "\"a",
            "\"\n\"",
            "\"\\x\"",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "NaN",
            "nul",
            "nullx",
            "[1 2]",
            "{\"a\":1]",
            "[1}",
            "1 2",
            "'a'",
            "\u{feff}1",
            "\"\\u12\"",
        ];
        for text in wrong {
            assert_eq!(check(text), Err(JsonError::Syntax), "{text:?}");
        }
        for text in ["\"\\ud83d\"", "\"\\ude00\"", "[\"\\ud83d\\u0041\"]", "{\"\\ud83dx\":1}"] {
            assert_eq!(check(text), Err(JsonError::Surrogate), "{text:?}");
        }
    }

    #[test]
    fn scalars_are_what_they_say() {
        assert_eq!(scalar(" \"a\\\"\\ud83d\\ude00\" "), Ok(Scalar::Text(Cow::Owned("a\"😀".to_owned()))));
        assert_eq!(scalar("12345678901234567890.10"), Ok(Scalar::Number("12345678901234567890.10")));
        assert_eq!(scalar("null "), Ok(Scalar::Null));
        assert_eq!(scalar("{\"a\":1}"), Ok(Scalar::Document("{\"a\":1}")));
        assert_eq!(scalar("1,2"), Err(JsonError::Syntax));
    }

    #[test]
    fn depth_costs_no_stack() {
        let text = "[".repeat(200_000) + &"]".repeat(200_000);
        assert_eq!(compacted(&text).as_deref(), Ok(text.as_str()));
    }

    proptest! {
        #[test]
        fn grammar_agrees_with_serde(text in "[\\[\\]{}:,\" \\\\ua0-9.eE+tfn-]{0,12}") {
            let serde = serde_json::from_str::<&serde_json::value::RawValue>(&text);
            // RawValue does not look at surrogates.
            prop_assert_eq!(check(&text) != Err(JsonError::Syntax), serde.is_ok());
        }
    }
}
