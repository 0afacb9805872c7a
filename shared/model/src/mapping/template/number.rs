//! Exact numbers in templates: decimals of any length, and arithmetic that never passes through a float.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use bigdecimal::{BigDecimal, RoundingMode, Signed, ToPrimitive, Zero};
use minijinja::value::{DynObject, Object, ObjectRepr, ValueKind};
use minijinja::{Error, Value};

use super::calls::fail;
use crate::number::{parts, plain, write_float};

/// Digits that an operand may have, zeros of its exponent counted: arithmetic must not grow without bound.
const DIGITS: i64 = 1_000;
/// Digits of a quotient that does not end.
const QUOTIENT_DIGITS: u64 = 34;

/// A decimal as a template's value: printed with all its digits, true unless it is zero.
#[derive(Debug)]
pub(super) struct Decimal {
    number: BigDecimal,
    /// Written in the template: its places are not those of a column, and results with it have no zeros at their end.
    is_literal: bool,
}

impl Decimal {
    fn value(number: BigDecimal, is_literal: bool) -> Value {
        Value::from_object(Self { number, is_literal })
    }
}

impl Object for Decimal {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        !self.number.is_zero()
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        Some(self.number.cmp(&other.downcast_ref::<Self>()?.number))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&digits(&self.number))
    }
}

/// The digits of `number`, as JSON takes them.
fn digits(number: &BigDecimal) -> String {
    let (whole, scale) = number.as_bigint_and_exponent();
    let text = format!("{whole}e{}", -scale);
    plain(&text).map(std::borrow::Cow::into_owned).unwrap_or(text)
}

/// The digits of a decimal; nothing for another value.
pub(super) fn decimal_digits(value: &Value) -> Option<String> {
    value.downcast_object_ref::<Decimal>().map(|decimal| digits(&decimal.number))
}

/// The number that `text` is, as a whole number if it is written as one; nothing if it is none, or too long.
pub(super) fn read(text: &str) -> Option<Value> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(Value::from(whole));
    }
    parse(text).map(|number| Decimal::value(number, false))
}

/// The number that a template holds as `text`; nothing if it is none, or too long.
pub(super) fn literal(text: &str) -> Option<Value> {
    match text.parse::<i64>() {
        Ok(whole) => Some(Value::from(whole)),
        Err(_) => parse(text).map(|number| Decimal::value(number, true)),
    }
}

fn parse(text: &str) -> Option<BigDecimal> {
    let parts = parts(text)?;
    let length = parts.digits.len() as i64 + parts.exponent.abs();
    if length > DIGITS { None } else { plain(text)?.parse().ok() }
}

/// A number's value, and whether its places say nothing: it is a float, or was written in the template.
pub(super) fn number(value: &Value) -> Option<(BigDecimal, bool)> {
    if let Some(decimal) = value.downcast_object_ref::<Decimal>() {
        return Some((decimal.number.clone(), decimal.is_literal));
    }
    if value.kind() != ValueKind::Number {
        return None;
    }
    if value.is_integer() {
        return i128::try_from(value.clone()).ok().map(|whole| (BigDecimal::from(whole), false));
    }
    let float = f64::try_from(value.clone()).ok().filter(|float| float.is_finite())?;
    let mut text = String::new();
    write_float(float, &mut text);
    parse(&text).map(|number| (number, true))
}

/// The value of a result: a whole number that fits and has no fraction digits as such.
fn result(number: BigDecimal, shortened: bool) -> Value {
    let number = if shortened { number.normalized() } else { number };
    let whole = (number.fractional_digit_count() <= 0).then(|| number.to_i64()).flatten();
    whole.map_or_else(|| Decimal::value(number, false), Value::from)
}

/// `left` and `right` put together by an arithmetic operator.
pub(super) fn arithmetic(operator: &'static str, left: &Value, right: &Value) -> Result<Value, Error> {
    let (Some((a, from_float)), Some((b, also))) = (number(left), number(right)) else {
        return Err(fail(format!("`{operator}` does not take {} and {}", kind(left), kind(right))));
    };
    if [&a, &b].into_iter().any(|number| number.digits() as i64 + number.fractional_digit_count().abs() > DIGITS) {
        return Err(fail(format!("`{operator}` does not take numbers with more than {DIGITS} digits")));
    }
    let shortened = from_float || also;
    if matches!(operator, "/" | "//" | "%") && b.is_zero() {
        return Err(fail(format!("`{operator}` divides by zero")));
    }
    Ok(match operator {
        "+" => result(a + b, shortened),
        "-" => result(a - b, shortened),
        "*" => result(a * b, shortened),
        "/" => result(round_quotient(&a, &b), true),
        "//" => result(floor(&a, &b), true),
        "%" => result(&a - floor(&a, &b) * &b, shortened),
        _ => {
            let Some(power) = b.to_u32().filter(|power| *power <= 100 && b == *power) else {
                return Err(fail("`**` takes a whole number from 0 to 100 as its second number".to_owned()));
            };
            if a.digits() * u64::from(power) > DIGITS as u64 {
                return Err(fail(format!("`**` does not make numbers with more than {DIGITS} digits")));
            }
            result((0..power).fold(BigDecimal::from(1), |product, _| product * &a), shortened)
        }
    })
}

fn round_quotient(a: &BigDecimal, b: &BigDecimal) -> BigDecimal {
    let quotient = a / b;
    if quotient.digits() <= QUOTIENT_DIGITS {
        return quotient;
    }
    let places = quotient.fractional_digit_count() - (quotient.digits() - QUOTIENT_DIGITS) as i64;
    quotient.with_scale_round(places, RoundingMode::HalfUp)
}

/// The largest whole number that is not above `a / b`.
fn floor(a: &BigDecimal, b: &BigDecimal) -> BigDecimal {
    let scale = a.fractional_digit_count().max(b.fractional_digit_count());
    let (whole_a, _) = a.with_scale(scale).into_bigint_and_exponent();
    let (whole_b, _) = b.with_scale(scale).into_bigint_and_exponent();
    let (quotient, rest) = (&whole_a / &whole_b, &whole_a % &whole_b);
    let below = !rest.is_zero() && rest.is_negative() != whole_b.is_negative();
    BigDecimal::from(if below { quotient - 1 } else { quotient })
}

/// How two values compare; nothing if either is null.
pub(super) fn compare(operator: &'static str, left: &Value, right: &Value) -> Result<Option<Ordering>, Error> {
    if left.is_none() || right.is_none() {
        return Ok(None);
    }
    if let (Some((a, _)), Some((b, _))) = (number(left), number(right)) {
        return Ok(Some(a.cmp(&b)));
    }
    if kind(left) != kind(right) {
        return Err(fail(format!("`{operator}` does not compare {} with {}", kind(left), kind(right))));
    }
    Ok(Some(left.cmp(right)))
}

/// Whether two values are equal; numbers by their value, values of different kinds never.
pub(super) fn equal(left: &Value, right: &Value) -> bool {
    match (number(left), number(right)) {
        (Some((a, _)), Some((b, _))) => a == b,
        _ => left == right,
    }
}

/// The number rounded to `places` after the point, halves away from zero.
pub(super) fn round(value: &Value, places: i64) -> Option<Value> {
    let (number, shortened) = number(value)?;
    let rounded = number.with_scale_round(places, RoundingMode::HalfUp);
    Some(result(if places < 0 { rounded.with_scale(0) } else { rounded }, shortened))
}

/// The number without its fraction.
pub(super) fn truncate(value: &Value) -> Option<Value> {
    number(value).map(|(number, _)| result(number.with_scale_round(0, RoundingMode::Down), false))
}

/// The number without its sign.
pub(super) fn absolute(value: &Value) -> Option<Value> {
    number(value).map(|(number, shortened)| result(number.abs(), shortened))
}

/// The word for what a value is.
pub(super) fn kind(value: &Value) -> &'static str {
    match value.kind() {
        ValueKind::Undefined => "an undefined value",
        ValueKind::None => "null",
        ValueKind::Bool => "bool",
        ValueKind::Number if value.is_integer() => "int",
        ValueKind::Number => "float",
        ValueKind::String => "text",
        ValueKind::Seq | ValueKind::Iterable => "array",
        ValueKind::Map => "object",
        ValueKind::Plain if value.downcast_object_ref::<Decimal>().is_some() => "decimal",
        _ => "another value",
    }
}

/// A whole number or a decimal as a decimal; nothing for another value.
pub(super) fn as_decimal(value: &Value) -> Option<Value> {
    number(value).map(|(number, is_literal)| Decimal::value(number, is_literal))
}
