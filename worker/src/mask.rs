//! Takes values out of texts that others have written about them.

use std::collections::BTreeSet;
use std::fmt::Write;

use aho_corasick::{AhoCorasick, MatchKind};
use outflow_model::table::Table;

/// What stands in a value's place.
const MASK: &str = "***";
/// A shorter value is masked only where it stands alone: it is part of too many words.
const SHORT: usize = 4;
/// A text of so many characters may have been cut off within a value.
const CUT: usize = 290;

/// Values that must not be shown, in every form in which a destination may repeat them.
#[derive(Default)]
pub(crate) struct Mask {
    /// The forms, and whether each is masked within words.
    forms: Vec<(String, bool)>,
    finder: Option<AhoCorasick>,
}

impl Mask {
    /// Masks these values.
    pub(crate) fn new<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let mut forms = BTreeSet::new();
        values.for_each(|value| add(value, &mut forms));
        let forms: Vec<_> = forms.into_iter().map(|form| (form.clone(), is_long(&form))).collect();
        if forms.is_empty() {
            return Self::default();
        }
        let patterns = forms.iter().map(|(form, _)| form.as_str());
        let finder =
            AhoCorasick::builder().match_kind(MatchKind::Standard).ascii_case_insensitive(true).build(patterns).ok();
        Self { forms, finder }
    }

    /// Masks the sensitive values of these rows.
    pub(crate) fn of(table: &Table, rows: impl Iterator<Item = u32> + Clone) -> Self {
        let sensitive = table.fields.iter().filter(|field| field.sensitive);
        let values: BTreeSet<String> =
            sensitive.flat_map(|field| rows.clone().map(|row| field.column.cell(row as usize).to_text())).collect();
        Self::new(values.iter().map(String::as_str))
    }

    /// The text without the values. Where there are values that cannot be looked for, there is no text.
    pub(crate) fn apply(&self, text: &str) -> String {
        if self.forms.is_empty() {
            return text.to_owned();
        }
        let Some(finder) = &self.finder else { return MASK.to_owned() };
        let mut found: Vec<(usize, usize)> = finder
            .find_overlapping_iter(text)
            .filter(|found| {
                self.forms.get(found.pattern().as_usize()).is_none_or(|(_, long)| *long)
                    || stands_alone(text, found.span().into())
            })
            .map(|found| (found.start(), found.end()))
            .collect();
        found.extend(self.cut_off(text));
        found.sort_unstable();
        let (mut out, mut at) = (String::with_capacity(text.len()), 0);
        for (start, end) in found {
            if start >= at {
                out.push_str(&text[at..start]);
                out.push_str(MASK);
            }
            at = at.max(end);
        }
        out.push_str(&text[at..]);
        out
    }

    /// The beginning of a value at the end of a text that was cut: by us, which its last character says, or perhaps by others.
    fn cut_off(&self, text: &str) -> Option<(usize, usize)> {
        let (text, is_cut) = text.strip_suffix('…').map_or((text, false), |text| (text, true));
        if !is_cut && text.chars().count() < CUT {
            return None;
        }
        let ends = |start: &usize| {
            let tail = &text[*start..];
            let begins = |form: &str| form.get(..tail.len()).is_some_and(|form| form.eq_ignore_ascii_case(tail));
            self.forms.iter().any(|(form, long)| *long && begins(form))
        };
        let most = self.forms.iter().map(|(form, _)| form.len()).max().unwrap_or(0);
        let from = text.len().saturating_sub(most);
        let starts = text.char_indices().map(|(at, _)| at).filter(|at| *at >= from);
        starts.take_while(|at| text.len() - at >= SHORT).find(ends).map(|start| (start, text.len()))
    }
}

/// Whether a form is masked within words: it is long, and more than a number.
fn is_long(form: &str) -> bool {
    form.chars().count() >= SHORT && !is_number(form)
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.,eE".contains(&byte))
        && text.bytes().any(|byte| byte.is_ascii_digit())
}

/// Whether no letter or digit goes on before or after the place.
fn stands_alone(text: &str, place: std::ops::Range<usize>) -> bool {
    let before = text[..place.start].chars().next_back();
    let after = text[place.end..].chars().next();
    // What JSON escapes ends in a letter, and is no part of a word.
    !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
}

/// Adds the forms of a value.
fn add(value: &str, forms: &mut BTreeSet<String>) {
    let value = value.trim();
    if value.is_empty() {
        return;
    }
    if let Ok(document @ (serde_json::Value::Array(_) | serde_json::Value::Object(_))) = serde_json::from_str(value) {
        leaves(&document, forms);
    }
    let mut plain = vec![value.to_owned(), value.to_lowercase(), value.to_uppercase()];
    numbers(value, &mut plain);
    moments(value, &mut plain);
    for value in plain {
        let escaped = escaped(&value);
        forms.insert(self::escaped(&escaped));
        forms.insert(ascii(&escaped));
        forms.insert(escaped);
        let url: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
        let path = url.replace('+', "%20");
        forms.insert(path.replace("%40", "@"));
        forms.insert(path);
        forms.insert(url);
        let html = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        forms.insert(html.replace('"', "&quot;").replace('\'', "&#39;"));
        forms.insert(html.replace('"', "&#34;").replace('\'', "&#x27;"));
        forms.insert(value);
    }
}

/// The values in a JSON document.
fn leaves(document: &serde_json::Value, forms: &mut BTreeSet<String>) {
    match document {
        serde_json::Value::Array(items) => items.iter().for_each(|item| leaves(item, forms)),
        serde_json::Value::Object(members) => members.values().for_each(|item| leaves(item, forms)),
        serde_json::Value::String(text) => add(text, forms),
        serde_json::Value::Number(number) => add(&number.to_string(), forms),
        serde_json::Value::Null | serde_json::Value::Bool(_) => {}
    }
}

/// A text as JSON writes it within quotes.
fn escaped(text: &str) -> String {
    let written = serde_json::to_string(text).unwrap_or_default();
    written.get(1..written.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

/// JSON with everything that is not ASCII escaped.
fn ascii(escaped: &str) -> String {
    let mut out = String::with_capacity(escaped.len());
    for letter in escaped.chars() {
        if letter.is_ascii() {
            out.push(letter);
        } else {
            letter.encode_utf16(&mut [0; 2]).iter().for_each(|unit| _ = write!(out, "\\u{unit:04x}"));
        }
    }
    out
}

/// Other ways to write a number: without needless zeros, as a float, with separators.
fn numbers(value: &str, forms: &mut Vec<String>) {
    if !is_number(value) {
        return;
    }
    let unsigned = value.trim_start_matches(['+', '-']);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    if !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return;
    }
    let fraction = fraction.trim_end_matches('0');
    let grouped = |separator: char| {
        let mut out = String::new();
        for (at, digit) in whole.chars().enumerate() {
            if at > 0 && (whole.len() - at).is_multiple_of(3) {
                out.push(separator);
            }
            out.push(digit);
        }
        out
    };
    for whole in [whole.to_owned(), whole.trim_start_matches('0').to_owned(), grouped(','), grouped('.'), grouped(' ')]
    {
        if whole.is_empty() {
            continue;
        }
        if fraction.is_empty() {
            forms.extend([format!("{whole}.0"), format!("{whole}.00"), whole]);
        } else {
            forms.extend([
                format!("{whole}.{fraction}"),
                format!("{whole}.{fraction:0<2}"),
                format!("{whole},{fraction}"),
            ]);
        }
    }
}

/// Other ways to write a date or a moment: with a blank, without a zone, the day alone.
fn moments(value: &str, forms: &mut Vec<String>) {
    let is_day = |day: &str| {
        day.bytes().enumerate().all(|(at, byte)| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() })
    };
    let Some(day) = value.get(..10).filter(|day| is_day(day)) else { return };
    forms.push(day.to_owned());
    if let Some(time) = value.get(11..19) {
        forms.extend([format!("{day} {time}"), format!("{day}T{time}")]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(values: &[&str], text: &str) -> String {
        Mask::new(values.iter().copied()).apply(text)
    }

    #[test]
    fn a_value_is_masked_in_every_form_in_which_it_is_repeated() {
        for (value, text, wanted) in [
            ("Graz", "cannot write Graz", "cannot write ***"),
            ("Ada@Example.com", "ada@example.com is taken", "*** is taken"),
            ("ÖDÖN", "ödön is taken", "*** is taken"),
            (r#"St. "P""#, r#"{"why":"St. \"P\""}"#, r#"{"why":"***"}"#),
            (r#"St. "P""#, r#"{"why":"{\"v\":\"St. \\\"P\\\"\"}"}"#, r#"{"why":"{\"v\":\"***\"}"}"#),
            ("Zoë", r#"{"why":"Zo\u00eb"}"#, r#"{"why":"***"}"#),
            ("a b@x.io", "GET /?q=a+b%40x.io", "GET /?q=***"),
            ("a b@x.io", "GET /a%20b%40x.io", "GET /***"),
            ("a b@x.io", "GET /a%20b@x.io", "GET /***"),
            ("Tom & Co", "<b>Tom &amp; Co</b>", "<b>***</b>"),
            ("1234.50", "1234.5 and 1,234.50 and 1234.50", "*** and *** and ***"),
            ("1234", "1234.0 is no 51234", "*** is no 51234"),
            ("2026-01-02T03:04:05Z", "2026-01-02 03:04:05 of 2026-01-02", "*** of ***"),
            (r#"["Ada","Bob"]"#, "no option Ada", "no option ***"),
            // What is short stands alone, or is part of other words.
            ("x", "x is no max", "*** is no max"),
            ("42", "42: error 4242", "***: error 4242"),
            ("", "nothing", "nothing"),
        ] {
            assert_eq!(masked(&[value], text), wanted, "{value}");
        }
    }

    #[test]
    fn values_that_overlap_leave_nothing_of_each_other() {
        assert_eq!(masked(&["Graz", "Graz-West", "West 12"], "in Graz-West 12."), "in ***.");
        assert_eq!(masked(&["abcd", "bcde"], "abcde abcd"), "*** ***");
    }

    #[test]
    fn the_beginning_of_a_value_that_was_cut_off_is_masked() {
        let text = format!("{}Lovela", "x ".repeat(147));
        assert!(masked(&["Lovelace"], &text).ends_with("x ***"));
        assert_eq!(masked(&["Lovelace"], "code Lovela…"), "code ***…");
        assert!(masked(&["Lovelace"], "Lovela").ends_with("Lovela"), "a short text is whole");
    }
}
