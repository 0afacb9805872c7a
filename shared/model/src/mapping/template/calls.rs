//! Operators, filters and tests of templates. Null stays null, numbers stay exact, and no message holds a value.

use std::cmp::Ordering;
use std::sync::Arc;

use chrono_tz::Tz;
use minijinja::value::{Object, ObjectRepr, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use sha2::{Digest, Sha256};

use super::hex;
use super::number::{absolute, arithmetic, compare, decimal_digits, equal, kind, number, read, round, truncate};
use super::value::{text, write_json};
use crate::cell::Cell;
use crate::mapping::parse;

/// Operators that a compiled template calls as functions; no column can have their place in a template.
pub(super) const OPERATORS: [&str; 21] = [
    "+", "-", "*", "/", "//", "%", "**", "neg", "~", "==", "!=", "<", "<=", ">", ">=", "in", ".", "|", "is", MEMBER,
    ITEM,
];
/// Reads a member that must be there.
pub(super) const MEMBER: &str = ".!";
/// Takes an item that must be there.
pub(super) const ITEM: &str = "[]!";

/// What went wrong in a template, in words that hold no value.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Failure(pub(super) String);

/// An error of these calls.
pub(super) fn fail(reason: String) -> Error {
    Error::from(ErrorKind::InvalidOperation).with_source(Failure(reason))
}

/// Makes the operators, and the filters that this engine has or changes, known.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    for operator in OPERATORS {
        environment.add_global(operator, Value::from_object(Operator(operator)));
    }
    environment.add_filter("sha256", |value: Value| text(&value).map(|text| hex(&Sha256::digest(text.as_bytes()))));
    for name in ["json", "tojson"] {
        environment.add_filter(name, |value: Value| {
            let mut out = String::new();
            write_json(&value, 128, &mut out).map(|()| out)
        });
    }
    environment.add_filter("date", |value: Value| {
        let days =
            value.as_str().ok_or("does not take another kind than text").and_then(|text| parse::date(text, Tz::UTC));
        days.map(|days| Cell::Date(days).to_text())
            .map_err(|reason| fail(format!("`date`: the {} {reason}", kind(&value))))
    });
    environment.add_filter("decimal", to_number);
    environment.add_filter("int", |value: Value| {
        let whole = to_number(value.clone()).ok().as_ref().and_then(truncate);
        whole.ok_or_else(|| fail(format!("`int` cannot read a number from {}", kind(&value))))
    });
    environment.add_filter("float", |value: Value| {
        let read = text(&value).ok().and_then(|text| parse::float(&text).ok());
        read.ok_or_else(|| fail(format!("`float` cannot read a number from {}", kind(&value))))
    });
    environment.add_filter("string", |value: Value| text(&value));
    environment.add_filter("abs", |value: Value| absolute(&value).ok_or_else(|| no_number("abs", &value)));
    environment.add_filter("round", |value: Value, places: Option<i64>| {
        let places = places.unwrap_or(0).clamp(-100, 100);
        round(&value, places).ok_or_else(|| no_number("round", &value))
    });
    environment.add_filter("sum", |values: Value| {
        let mut items = items("sum", &values)?.into_iter();
        items.try_fold(Value::from(0), |sum, item| arithmetic("+", &sum, &item))
    });
    environment.add_filter("min", |values: Value| extreme("min", &values, Ordering::Less));
    environment.add_filter("max", |values: Value| extreme("max", &values, Ordering::Greater));
    environment.add_filter("join", |values: Value, between: Option<String>| {
        if values.as_str().is_some() {
            return Err(fail("`join` does not take text".to_owned()));
        }
        let texts = items("join", &values)?.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        Ok(texts.join(between.as_deref().unwrap_or("")))
    });
}

fn no_number(filter: &str, value: &Value) -> Error {
    fail(format!("`{filter}` does not take {}", kind(value)))
}

/// Reads a number from a number, a bool or a text.
fn to_number(value: Value) -> Result<Value, Error> {
    if number(&value).is_some() && value.kind() != ValueKind::Number || value.is_integer() {
        return Ok(value);
    }
    let digits = match value.kind() {
        ValueKind::Bool => i64::from(value.is_true()).to_string(),
        _ => text(&value)?,
    };
    read(digits.trim()).ok_or_else(|| fail(format!("`decimal` cannot read a number from {}", kind(&value))))
}

/// A list's items but for nulls.
fn items(filter: &str, values: &Value) -> Result<Vec<Value>, Error> {
    match values.kind() {
        ValueKind::Seq | ValueKind::Iterable => Ok(values.try_iter()?.filter(|item| !item.is_none()).collect()),
        _ => Err(no_number(filter, values)),
    }
}

fn extreme(filter: &'static str, values: &Value, wanted: Ordering) -> Result<Value, Error> {
    let mut found: Option<Value> = None;
    for item in items(filter, values)? {
        let better = match &found {
            Some(best) => compare(filter, &item, best)? == Some(wanted),
            None => true,
        };
        if better {
            found = Some(item);
        }
    }
    Ok(found.unwrap_or_default())
}

/// An operator as a function.
#[derive(Debug)]
struct Operator(&'static str);

impl Object for Operator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        match (self.0, args) {
            ("|", [args @ .., name]) => filter(state, name.as_str().unwrap_or_default(), args),
            ("is", [args @ .., name]) => test(state, name.as_str().unwrap_or_default(), args).map(Value::from),
            (MEMBER, [left, right]) => match binary(".", left, right)? {
                value if value.is_undefined() => {
                    let name = right.as_str().unwrap_or_default();
                    Err(fail(format!("`.{name}` finds nothing in {}; `| default` gives it a value", kind(left))))
                }
                value => Ok(value),
            },
            (ITEM, [value]) if value.is_undefined() => {
                Err(fail("`[…]` finds nothing; `| default` gives it a value".to_owned()))
            }
            (ITEM, [value]) => Ok(value.clone()),
            ("neg", [value]) => binary("-", &Value::from(0), value),
            (operator, [left, right]) => binary(operator, left, right),
            _ => Err(Error::from(ErrorKind::MissingArgument)),
        }
    }
}

fn binary(operator: &'static str, left: &Value, right: &Value) -> Result<Value, Error> {
    if let Some(value) = [left, right].into_iter().find(|value| value.is_undefined()) {
        return Err(fail(format!("`{operator}` does not take {}; `| default` gives it one", kind(value))));
    }
    let is_list = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    Ok(match operator {
        "==" => Value::from(equal(left, right)),
        "!=" => Value::from(!equal(left, right)),
        // Of an object without that member, or of null, the member is absent, or null.
        "." if left.is_none() => Value::from(()),
        "." => left.get_attr(right.as_str().unwrap_or_default())?,
        _ if left.is_none() || right.is_none() => Value::from(()),
        "<" | "<=" | ">" | ">=" => {
            let order = compare(operator, left, right)?;
            Value::from(match operator {
                "<" => order == Some(Ordering::Less),
                "<=" => order != Some(Ordering::Greater),
                ">" => order == Some(Ordering::Greater),
                _ => order != Some(Ordering::Less),
            })
        }
        "~" => Value::from(text(left)? + &text(right)?),
        "in" if is_list(right) => Value::from(right.try_iter()?.any(|item| equal(&item, left))),
        "in" => match (right.as_str(), right.kind()) {
            (Some(whole), _) => Value::from(whole.contains(&text(left)?)),
            (None, ValueKind::Map) => Value::from(right.try_iter()?.any(|name| name == *left)),
            _ => return Err(fail(format!("`in` does not look into {}", kind(right)))),
        },
        "+" => match (left.as_str(), right.as_str()) {
            (Some(left), Some(right)) => Value::from(format!("{left}{right}")),
            _ if is_list(left) && is_list(right) => left.try_iter()?.chain(right.try_iter()?).collect(),
            _ => arithmetic(operator, left, right)?,
        },
        _ => arithmetic(operator, left, right)?,
    })
}

/// Applies a filter; null stays null through all but `default` and those that write JSON.
fn filter(state: &mut State<'_, '_>, name: &str, args: &[Value]) -> Result<Value, Error> {
    let Some((value, rest)) = args.split_first() else { return Err(Error::from(ErrorKind::MissingArgument)) };
    match name {
        "default" | "d" => {
            let is_absent = value.is_undefined() || value.is_none();
            let is_lax = rest.get(1).is_some_and(Value::is_true) && !is_absent && !value.is_true();
            let other = || rest.first().cloned().unwrap_or_else(|| Value::from(""));
            return Ok(if is_absent || is_lax { other() } else { value.clone() });
        }
        "json" | "tojson" => {}
        _ if value.is_none() => return Ok(Value::from(())),
        _ => {}
    }
    // What the engine's own filters do not know, they get as text; numbers in lists alike, so that they sort by value.
    let own = ["json", "tojson", "int", "float", "decimal", "abs", "round", "string", "sha256"].contains(&name);
    let args: Vec<Value> = if own { args.to_vec() } else { args.iter().map(plain).collect() };
    state.apply_filter(name, &args).map_err(|error| match error.kind() {
        _ if failure(&error).is_some() => error,
        ErrorKind::UnknownFilter => fail(format!("there is no filter `{name}`")),
        other => fail(format!("the filter `{name}` on {}: {other}", kind(value))),
    })
}

/// A decimal as its text, and a list of whole numbers and decimals as a list of decimals.
fn plain(value: &Value) -> Value {
    if let Some(digits) = decimal_digits(value) {
        return Value::from(digits);
    }
    let Some(items) =
        value.as_object().filter(|object| object.repr() == ObjectRepr::Seq).and_then(|_| value.try_iter().ok())
    else {
        return value.clone();
    };
    let items: Vec<Value> = items.collect();
    let is_mixed = items.iter().any(|item| decimal_digits(item).is_some());
    if !is_mixed {
        return value.clone();
    }
    items.iter().map(|item| super::number::as_decimal(item).unwrap_or_else(|| item.clone())).collect()
}

fn test(state: &mut State<'_, '_>, name: &str, args: &[Value]) -> Result<bool, Error> {
    let is_decimal = |value: &Value| decimal_digits(value).is_some();
    let operator = match name {
        "eq" | "equalto" | "==" => "==",
        "ne" | "!=" => "!=",
        "lt" | "lessthan" | "<" => "<",
        "le" | "<=" => "<=",
        "gt" | "greaterthan" | ">" => ">",
        "ge" | ">=" => ">=",
        "in" => "in",
        _ => "",
    };
    match (operator, args) {
        ("", [value, ..]) if is_decimal(value) => match name {
            "number" => return Ok(true),
            "integer" | "int" | "float" | "string" | "sequence" | "mapping" | "iterable" | "boolean" => {
                return Ok(false);
            }
            "odd" | "even" | "divisibleby" => {
                let divisor = args.get(1).cloned().unwrap_or_else(|| Value::from(2));
                let rest = arithmetic("%", value, &divisor)?;
                return Ok(equal(&rest, &Value::from(i64::from(name == "odd"))));
            }
            _ => {}
        },
        ("", _) => {}
        (operator, [left, right]) => return binary(operator, left, right).map(|value| value.is_true()),
        _ => return Err(Error::from(ErrorKind::MissingArgument)),
    }
    state.perform_test(name, args).map_err(|error| match error.kind() {
        ErrorKind::UnknownTest => fail(format!("there is no test `{name}`")),
        kind => fail(format!("the test `{name}`: {kind}")),
    })
}

/// What one of these calls says went wrong.
pub(super) fn failure(error: &Error) -> Option<&Failure> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(failure) = error.downcast_ref() {
            return Some(failure);
        }
        source = error.source();
    }
    None
}
