//! Decimal numbers as texts: read in every usual form, written in the one that JSON takes, and compared by value.

use std::borrow::Cow;

use crate::json::is_number;

/// Digits that an exponent is written out to; beyond, the exponent stays.
const WRITTEN_OUT: i64 = 100;
/// A number's exponent lies below it, on either side: nine digits are more than any source has, and far from where the
/// arithmetic ends.
const EXPONENT_BOUND: u64 = 1_000_000_000;

/// A decimal number's parts: its value is `digits` × 10^`exponent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Whether it is below zero; zero is not.
    pub negative: bool,
    /// The digits, without zeros at either end; empty for zero.
    pub digits: String,
    /// The power of ten.
    pub exponent: i64,
}

/// The parts of a number that may have a sign, a leading or trailing point, leading zeros and an exponent; nothing if
/// `text` is not a number, or is NaN or infinite.
pub fn parts(text: &str) -> Option<Parts> {
    let (negative, whole, fraction, exponent) = split(text)?;
    let all = format!("{whole}{fraction}");
    let significant = all.trim_start_matches('0');
    let digits = significant.trim_end_matches('0');
    if digits.is_empty() {
        return Some(Parts { negative: false, digits: String::new(), exponent: 0 });
    }
    let exponent = exponent - fraction.len() as i64 + (significant.len() - digits.len()) as i64;
    Some(Parts { negative, digits: digits.to_owned(), exponent })
}

/// The number in the form that JSON takes, all its digits kept: `+5`, `.5`, `007` and `5.` become `5`, `0.5`, `7` and
/// `5`, and an exponent is written out if that gives no more than 100 digits. Nothing if `text` is not a number.
pub fn plain(text: &str) -> Option<Cow<'_, str>> {
    if is_number(text) && !text.bytes().any(|byte| byte.eq_ignore_ascii_case(&b'e')) {
        return Some(Cow::Borrowed(text));
    }
    let (negative, whole, fraction, exponent) = split(text)?;
    let sign = if negative { "-" } else { "" };
    let point = whole.len() as i64 + exponent;
    let length = point.max(0).max(whole.len() as i64) + (fraction.len() as i64 - exponent).max(0);
    let all = format!("{whole}{fraction}");
    if length > WRITTEN_OUT && exponent != 0 {
        let significant = all.trim_start_matches('0');
        if significant.is_empty() {
            return Some(Cow::Borrowed("0"));
        }
        let power = point - (all.len() - significant.len()) as i64 - 1;
        let (first, rest) = significant.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        return Some(Cow::Owned(format!("{sign}{first}{point}{rest}e{power}")));
    }
    let before = all.get(..usize::try_from(point.clamp(0, all.len() as i64)).ok()?)?;
    let after = all.get(before.len()..)?;
    let zeros = |count: i64| "0".repeat(usize::try_from(count.max(0)).unwrap_or_default());
    let (before, after) = (format!("{before}{}", zeros(point - all.len() as i64)), format!("{}{after}", zeros(-point)));
    let before = match before.trim_start_matches('0') {
        "" => "0",
        before => before,
    };
    let dot = if after.is_empty() { "" } else { "." };
    Some(Cow::Owned(format!("{sign}{before}{dot}{after}")))
}

/// The number in a form that equal ones share: that of [`plain`] without zeros at the end of its fraction, so that `1`, `1.0` and
/// `10e-1` are `1`. Nothing if `text` is not a number.
pub fn by_value(text: &str) -> Option<String> {
    let Parts { negative, digits, exponent } = parts(text)?;
    if digits.is_empty() {
        return Some("0".to_owned());
    }
    let form = format!("{}{digits}e{exponent}", if negative { "-" } else { "" });
    Some(plain(&form).map_or_else(|| form.clone(), Cow::into_owned))
}

/// Sign, whole part, fraction and exponent of a number.
fn split(text: &str) -> Option<(bool, &str, &str, i64)> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent),
        None => (digits, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if whole.len() + fraction.len() == 0
        || unsigned.is_empty()
        || ![whole, fraction, unsigned].into_iter().all(all_digits)
    {
        return None;
    }
    let exponent = exponent.parse::<i64>().ok().filter(|exponent| exponent.unsigned_abs() < EXPONENT_BOUND)?;
    Some((negative, whole, fraction, exponent))
}

/// Writes a float with the fewest digits that give it back: whole numbers below 10^16 without a fraction, very large and
/// very small ones with an exponent. Finite numbers come out as JSON takes them.
pub fn write_float(value: f64, out: &mut String) {
    use std::fmt::Write;
    if value == 0.0 {
        out.push('0');
    } else if value.fract() == 0.0 && value.abs() < 1e16 {
        _ = write!(out, "{value}");
    } else {
        _ = write!(out, "{value:?}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_numbers_share_one_form_and_others_do_not() {
        let googol = format!("1{}", "0".repeat(100));
        for (want, forms) in [
            ("1", ["1", "1.0", "1.00", "10e-1"]),
            ("300", ["300", "3e2", "+300.", "0300.0"]),
            ("0", ["0", "-0.0", "0e5", ".0"]),
            ("-0.05", ["-0.05", "-.050", "-5e-2", "-0.5E-1"]),
            ("1e100", ["1e100", "10e99", &googol, "1.0e100"]),
            ("1.5e-400", ["1.5e-400", "1.50e-400", "15e-401", "0.15e-399"]),
        ] {
            for form in forms {
                assert_eq!(by_value(form).as_deref(), Some(want), "{form}");
            }
        }
        assert_ne!(by_value("9007199254740993"), by_value("9007199254740992"));
        assert_eq!([by_value("a"), by_value("1.0x")], [None, None]);
    }

    #[test]
    fn every_usual_form_becomes_a_json_number_of_the_same_value() {
        let most = format!("1{}", "0".repeat(99));
        let cases = [
            ("+5", "5"),
            (".5", "0.5"),
            ("5.", "5"),
            ("007", "7"),
            ("-007.50", "-7.50"),
            ("1e5", "100000"),
            ("1.25E-3", "0.00125"),
            ("12.5e1", "125"),
            ("-.5e-1", "-0.05"),
            ("0e9", "0000000000"),
            ("1e99", &most),
            ("1e100", "1e100"),
            ("1e400", "1e400"),
            ("12.50e-400", "1.250e-399"),
            ("12345678901234567890.10", "12345678901234567890.10"),
            ("1.10", "1.10"),
            ("1e999999999", "1e999999999"),
            ("-1.5e-999999999", "-1.5e-999999999"),
            ("00.01e999999999", "1e999999997"),
        ];
        for (text, want) in cases {
            let want = if text == "0e9" { "0" } else { want };
            assert_eq!(plain(text).as_deref(), Some(want), "{text}");
            assert!(is_number(want), "{want}");
        }
        for wrong in [
            "",
            "-",
            "+",
            ".",
            "e5",
            "1e",
            "1e+",
            "NaN",
            "Infinity",
            "1,5",
            "0x10",
            "1_000",
            "--1",
            "1e99999999999",
            "1e1000000000",
            "1e-1000000000",
            "1e9223372036854775807",
            "1e-9223372036854775808",
            "1.5e-9223372036854775808",
            "0e-9223372036854775808",
            "1e-9223372036854775809",
            "٣",
        ] {
            assert_eq!(plain(wrong), None, "{wrong}");
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn floats_are_written_shortest_and_whole_ones_without_fraction() {
        let written = |value: f64| {
            let mut out = String::new();
            write_float(value, &mut out);
            out
        };
        let cases = [
            (123.0, "123"),
            (-0.0, "0"),
            (0.1, "0.1"),
            (1e300, "1e300"),
            (4_567_890_123.0, "4567890123"),
            (1e-7, "1e-7"),
        ];
        for (value, want) in cases {
            assert_eq!(written(value), want);
            assert!(is_number(want), "{want}");
        }
    }

    proptest! {
        #[test]
        fn plain_form_keeps_the_value(text in "[+-]?[0-9]{0,5}(\\.[0-9]{0,5})?([eE][+-]?[0-9]{1,2})?") {
            let Some(plain) = plain(&text) else { return Ok(()) };
            prop_assert!(is_number(&plain), "{}", plain);
            prop_assert_eq!(parts(&text), parts(&plain));
        }

        #[test]
        fn floats_come_back(value in proptest::num::f64::NORMAL) {
            let mut out = String::new();
            write_float(value, &mut out);
            prop_assert!(is_number(&out), "{}", out);
            prop_assert_eq!(out.parse::<f64>(), Ok(value));
        }
    }
}
