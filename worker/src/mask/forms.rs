//! The forms in which a destination may repeat a value.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::SHORT;

/// Whether a form is masked within words: it is long, and more than a number.
pub(super) fn is_long(form: &str) -> bool {
    form.chars().count() >= SHORT && !is_number(form)
}

pub(super) fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.,eE".contains(&byte))
        && text.bytes().any(|byte| byte.is_ascii_digit())
}

/// Calls `each` with the value and, where it is a JSON document, with each value in that.
pub(super) fn parts(value: &str, each: &mut dyn FnMut(&str)) {
    let value = value.trim();
    if value.is_empty() {
        return;
    }
    if value.starts_with(['[', '{'])
        && let Ok(document) = serde_json::from_str(value)
    {
        leaves(&document, each);
    }
    each(value);
}

/// The values in a JSON document.
fn leaves(document: &serde_json::Value, each: &mut dyn FnMut(&str)) {
    match document {
        serde_json::Value::Array(items) => items.iter().for_each(|item| leaves(item, each)),
        serde_json::Value::Object(members) => members.values().for_each(|item| leaves(item, each)),
        serde_json::Value::String(text) => parts(text, each),
        serde_json::Value::Number(number) => parts(&number.to_string(), each),
        serde_json::Value::Null | serde_json::Value::Bool(_) => {}
    }
}

/// The forms of a value, in small letters. Of one that does not fit in a text of `longest` characters they are those of its
/// beginning: no more of it can be there.
pub(super) fn forms(value: &str, longest: usize) -> BTreeSet<String> {
    let value = value.char_indices().nth(longest + 1).and_then(|(end, _)| value.get(..end)).unwrap_or(value);
    let mut plain = vec![value.to_owned()];
    if !value.is_ascii() {
        plain.extend([value.to_lowercase(), value.to_uppercase()]);
    }
    numbers(value, &mut plain);
    moments(value, &mut plain);
    let mut forms = BTreeSet::new();
    for value in plain {
        encode(&value, &mut |form| _ = forms.insert(form.to_ascii_lowercase()));
    }
    forms
}

/// Calls `each` with the value as JSON, URLs and HTML write it.
fn encode(value: &str, each: &mut dyn FnMut(&str)) {
    each(value);
    // All of them leave this as it is.
    if value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte)) {
        return;
    }
    let escaped = escaped(value);
    each(&self::escaped(&escaped));
    each(&ascii(&escaped));
    each(&escaped);
    let url: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
    let path = url.replace('+', "%20");
    each(&path.replace("%40", "@"));
    each(&path);
    each(&url);
    let html = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    each(&html.replace('"', "&quot;").replace('\'', "&#39;"));
    each(&html.replace('"', "&#34;").replace('\'', "&#x27;"));
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
    scientific(whole, fraction, forms);
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
                format!("{whole},{fraction:0<2}"),
            ]);
        }
    }
}

/// A number with one digit before the point, as programs write large and small ones.
fn scientific(whole: &str, fraction: &str, forms: &mut Vec<String>) {
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    let exponent = whole.len() as i64 - 1 - (digits.len() - significant.len()) as i64;
    let significant = significant.trim_end_matches('0');
    let Some((first, rest)) = significant.split_at_checked(1) else { return };
    let sign = if exponent < 0 { '-' } else { '+' };
    let size = exponent.abs();
    for mantissa in if rest.is_empty() {
        [first.to_owned(), format!("{first}.0")]
    } else {
        [0; 2].map(|_| format!("{first}.{rest}"))
    } {
        forms.extend([
            format!("{mantissa}e{exponent}"),
            format!("{mantissa}e{sign}{size}"),
            format!("{mantissa}e{sign}{size:02}"),
        ]);
    }
}

/// Other ways to write a date or a moment: with a blank, without a zone, the day alone.
fn moments(value: &str, forms: &mut Vec<String>) {
    let is_day = |day: &str| {
        day.bytes().enumerate().all(|(at, byte)| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() })
    };
    let Some(day) = value.get(..10).filter(|day| is_day(day)) else { return };
    let parts: Vec<&str> = day.split('-').collect();
    if let [year, month, date] = parts[..] {
        let bare = |part: &str| part.trim_start_matches('0').to_owned();
        let (short, first) = (bare(month), bare(date));
        forms.extend([
            format!("{year}{month}{date}"),
            format!("{year}-{short}-{first}"),
            format!("{year}/{month}/{date}"),
            format!("{month}/{date}/{year}"),
            format!("{date}/{month}/{year}"),
            format!("{short}/{first}/{year}"),
            format!("{first}/{short}/{year}"),
            format!("{date}.{month}.{year}"),
            format!("{first}.{short}.{year}"),
        ]);
    }
    forms.push(day.to_owned());
    if let Some(time) = value.get(11..19) {
        forms.extend([format!("{day} {time}"), format!("{day}T{time}")]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_looked_at_no_further_than_a_text_goes() {
        let value = "Zoë & \"Co\"\n".repeat(30_000);
        for form in forms(&value, 100) {
            assert!(form.chars().count() > 100, "it cannot be all there: {form}");
            assert!(form.len() < 101 * 6, "{} bytes", form.len());
        }
        assert!(forms(&value, 100).len() > 5);
    }

    #[test]
    fn a_number_has_the_forms_in_which_programs_write_it() {
        for (value, written) in [
            ("1234.50", ["1.2345e3", "1.2345e+03", "1234,50", "1,234.50", "1.234,50"]),
            ("-0.00012", ["1.2e-4", "1.2e-04", "0.00012", "0,00012", "0.00012"]),
            ("5000000", ["5e6", "5.0e6", "5e+06", "5,000,000", "5000000.00"]),
        ] {
            let forms = forms(value, 100);
            written.iter().for_each(|form| assert!(forms.contains(*form), "{value}: {form} is not in {forms:?}"));
        }
    }

    #[test]
    fn a_day_has_the_forms_in_which_people_write_it() {
        let forms = forms("2026-03-04T05:06:07Z", 100);
        for written in
            ["2026-03-04", "20260304", "2026-3-4", "03/04/2026", "04.03.2026", "4.3.2026", "2026-03-04 05:06:07"]
        {
            assert!(forms.contains(written), "{written} is not in {forms:?}");
        }
    }

    #[test]
    fn a_plain_word_has_one_form() {
        assert_eq!(forms("Graz", 100), BTreeSet::from(["graz".to_owned()]));
    }
}
