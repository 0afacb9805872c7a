//! Foreign text, fit for being shown.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write;

/// An error with its causes on one line, none of them twice.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let further = error.to_string();
        if !text.contains(&further) {
            text = format!("{text}: {further}");
        }
        cause = error.source();
    }
    text
}

/// A text as it is compared where letter case and surrounding blanks make no difference. A Greek sigma at the end of a word has
/// a small letter of its own, but no capital one: it is compared as every other.
pub fn folded(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    // Without an early end, which would keep the bytes from being looked at together.
    if text.bytes().fold(true, |is_plain, byte| is_plain & byte.is_ascii() & !byte.is_ascii_uppercase()) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.to_lowercase().replace('ς', "σ"))
}

/// Whether a character does something else than being seen: moves the cursor, begins a line, turns the direction of what follows.
pub const fn is_unseen(letter: char) -> bool {
    matches!(
        letter,
        '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
            | '\u{fdd0}'..='\u{fdef}'
    )
}

/// Writes a character visibly.
pub fn push_seen(letter: char, out: &mut String) {
    match letter {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        letter if is_unseen(letter) => _ = write!(out, "\\u{{{:x}}}", u32::from(letter)),
        letter => out.push(letter),
    }
}

/// Text on one line of at most `most` characters, with what cannot be seen written as in a program: a line break as `\n`, an
/// escape as `\u{1b}`. What is cut off is said.
pub fn one_line(text: &str, most: usize) -> Cow<'_, str> {
    let cut = text.char_indices().nth(most).map(|(at, _)| at);
    if cut.is_none() && !text.contains(is_unseen) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(cut.unwrap_or(text.len()));
    text[..cut.unwrap_or(text.len())].chars().for_each(|letter| push_seen(letter, &mut out));
    if cut.is_some() {
        _ = write!(out, "… ({} characters)", text.chars().count());
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use crate::port::{PortError, Trouble};

    use super::*;

    #[test]
    fn an_error_is_shown_with_its_causes_and_none_twice() {
        let error = PortError::caused(Trouble::Unavailable, "Redis cannot be used", "WRONGPASS invalid password");
        assert_eq!(with_causes(&error), "Redis cannot be used: WRONGPASS invalid password");
        let again = PortError::caused(Trouble::Unavailable, "Redis cannot be used", error);
        assert_eq!(with_causes(&again), "Redis cannot be used: WRONGPASS invalid password");
    }

    #[test]
    fn texts_that_differ_in_case_and_blanks_alone_are_compared_as_one() {
        for (one, other) in [("Ada@X.io", " ada@x.io\t"), ("ZOË", "zoë"), ("ΟΔΟΣ", "οδος"), ("ΟΔΟΣ", "οδοσ"), ("", " ")]
        {
            assert_eq!(folded(one), folded(other));
        }
        assert_ne!(folded("zoe"), folded("zoë"));
    }

    #[test]
    fn what_cannot_be_seen_is_written_and_what_is_long_is_cut() {
        assert_eq!(one_line("Zoë 👩‍🔬 ok", 100), "Zoë 👩‍🔬 ok");
        assert_eq!(one_line("a\nb\r\tc\0", 100), "a\\nb\\r\\tc\\u{0}");
        assert_eq!(one_line("\x1b[31mred\u{202e}der\u{9b}0m", 100), "\\u{1b}[31mred\\u{202e}der\\u{9b}0m");
        assert_eq!(one_line("äöü", 2), "äö… (3 characters)");
        assert_eq!(one_line("äöü", 3), "äöü");
    }
}
