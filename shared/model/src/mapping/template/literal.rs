//! Numbers that are written in a template. The template engine reads those with a point as floats, and computes with constants
//! before any row is there: both would lose digits.

use std::borrow::Cow;

use minijinja::Value;
use minijinja::machinery::{Instruction, Instructions, Token, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::number::literal;

/// Marks a text as a number that was written in the template.
const MARK: char = '\0';
/// The filter that stands behind it.
const FILTER: &str = "decimal";

/// The template with each of its numbers as a text behind which a filter stands: the engine computes with neither.
pub(super) fn hidden(source: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut copied = 0;
    // A template that the lexer refuses has been refused before.
    for (token, span) in tokenize(source, false, SyntaxConfig::default()).map_while(Result::ok) {
        let (start, end) = (span.start_offset as usize, span.end_offset as usize);
        let digits = match token {
            Token::Int(whole) => whole.to_string(),
            Token::Int128(whole) => whole.to_string(),
            Token::Float(_) => source.get(start..end).unwrap_or_default().replace('_', ""),
            _ => continue,
        };
        out.extend([source.get(copied..start).unwrap_or_default(), "(\""]);
        out.push(MARK);
        out.extend([&digits, "\"|", FILTER, ")"]);
        copied = end;
    }
    out.push_str(source.get(copied..).unwrap_or_default());
    if copied == 0 { Cow::Borrowed(source) } else { Cow::Owned(out) }
}

/// The number that the filter at `place` reads, if it was written in the template.
pub(super) fn shown(instructions: &Instructions<'_>, place: u32) -> Result<Option<Value>, String> {
    let (Some(Instruction::ApplyFilter(FILTER, ..)), Some(before)) = (instructions.get(place), place.checked_sub(1))
    else {
        return Ok(None);
    };
    let Some(Instruction::LoadConst(text)) = instructions.get(before) else { return Ok(None) };
    let Some(digits) = text.as_str().and_then(|text| text.strip_prefix(MARK)) else { return Ok(None) };
    literal(digits).map(Some).ok_or_else(|| "A number of the template has more than 1000 digits.".to_owned())
}
