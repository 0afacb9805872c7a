//! Texts of answers: made readable where they are not quite, and cut where they are long.

use std::borrow::Cow;

use memchr::memchr;

/// The longest code that is kept, in characters.
const CODE: usize = 100;
/// The longest message that is kept, in characters.
const MESSAGE: usize = 1_000;

/// An answer's body as text: without a byte order mark, and with the replacement character for bytes that are not UTF-8
/// and for halves of a surrogate pair.
pub(crate) fn readable(body: &[u8]) -> Cow<'_, str> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let text = std::str::from_utf8(body).map_or_else(|_| String::from_utf8_lossy(body), Cow::Borrowed);
    // Only an escape can hold half a pair, and those of whole characters are rare.
    if memchr(b'\\', text.as_bytes()).is_some() && (text.contains("\\ud") || text.contains("\\uD")) {
        Cow::Owned(paired(&text))
    } else {
        text
    }
}

/// The text with the replacement character for each half of a pair that has no other half.
fn paired(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, escape)) = rest.find('\\').and_then(|at| rest.split_at_checked(at)) {
        out.push_str(before);
        let length = match unit(escape) {
            Some(0xd800..=0xdbff) if matches!(escape.get(6..).and_then(unit), Some(0xdc00..=0xdfff)) => 12,
            Some(0xd800..=0xdfff) => {
                out.push_str("\\ufffd");
                rest = escape.get(6..).unwrap_or_default();
                continue;
            }
            // The backslash and what it escapes.
            _ => 1 + escape.chars().nth(1).map_or(0, char::len_utf8),
        };
        let (taken, after) = escape.split_at_checked(length).unwrap_or((escape, ""));
        out.push_str(taken);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The code unit that an escape at the text's beginning stands for.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

/// A code as it is kept.
pub(crate) fn code(text: &str) -> String {
    cut(text, CODE)
}

/// A message as it is kept.
pub(crate) fn message(text: &str) -> String {
    cut(text, MESSAGE)
}

/// A text of no more than so many characters. A NUL, which databases do not take, becomes the replacement character.
fn cut(text: &str, most: usize) -> String {
    let kept = text.char_indices().nth(most).and_then(|(at, _)| text.get(..at));
    let mut kept = kept.unwrap_or(text).replace('\0', "\u{fffd}");
    if kept.len() < text.len() {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_quite_readable_is_read() {
        for (body, text) in [
            (&b"\xef\xbb\xbf{\"a\":1}"[..], "{\"a\":1}"),
            (br#"{"a":"Caf\ud83d"}"#, r#"{"a":"Caf\ufffd"}"#),
            (br#"{"a":"\ude00\ud83dx\\ud83d"}"#, r#"{"a":"\ufffd\ufffdx\\ud83d"}"#),
            (br#"{"a":"\ud83d\ude00"}"#, r#"{"a":"\ud83d\ude00"}"#),
            (br#"{"a":"\ud83d\ud83d\ude00\"#, r#"{"a":"\ufffd\ud83d\ude00\"#),
            (b"{\"a\":\"Caf\xe9\"}", "{\"a\":\"Caf\u{fffd}\"}"),
        ] {
            assert_eq!(readable(body), text);
        }
    }

    #[test]
    fn long_texts_are_cut_and_nul_is_replaced() {
        assert_eq!(message(&"ä".repeat(2_000)).chars().count(), MESSAGE + 1);
        assert_eq!(code("a\0b"), "a\u{fffd}b");
        assert_eq!(message("as it is"), "as it is");
    }
}
