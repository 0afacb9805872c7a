//! Cells as template values, and template values as text and as JSON.

use std::collections::HashSet;

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::calls::fail;
use super::number::{decimal_digits, kind, read};
use crate::cell::{Cell, write_json_string};
use crate::json::{Token, Tokens, unescape};
use crate::number::write_float;

/// Levels of JSON that a template can take: the template engine works level by level on the stack.
const DEPTH: usize = 128;

/// What is said of a value that is not there, where nothing more is known.
pub(super) const UNDEFINED: &str = "a value is undefined; `| default` gives it one";

/// A cell as a value; the reason where a template cannot take it.
pub(super) fn value(cell: Cell<'_>) -> Result<Value, &'static str> {
    Ok(match cell {
        Cell::Null => Value::from(()),
        Cell::Bool(value) => Value::from(value),
        Cell::Int(value) => Value::from(value),
        Cell::Float(value) => Value::from(value),
        Cell::Json(text) => return document(text),
        Cell::Decimal(digits) => read(digits).ok_or("a decimal is not finite, or has more than 1000 digits")?,
        Cell::Text(text) => Value::from(text),
        other => Value::from(other.to_text()),
    })
}

enum Open {
    Array(Vec<Value>),
    Object(Vec<(String, Value)>),
}

fn document(json: &str) -> Result<Value, &'static str> {
    const WRONG: &str = "a JSON column holds a text that is not valid JSON";
    let mut open: Vec<(Open, Option<String>)> = Vec::new();
    let mut name = None;
    let mut last = None;
    for token in Tokens::new(json) {
        let value = match token.map_err(|_| WRONG)? {
            Token::Null => Value::from(()),
            Token::Bool(value) => Value::from(value),
            Token::Number(digits) => read(digits).ok_or("a number in a JSON column has more than 1000 digits")?,
            Token::Text(inside) => Value::from(unescape(inside)),
            Token::Name(inside) => {
                name = Some(unescape(inside).into_owned());
                continue;
            }
            Token::BeginArray | Token::BeginObject if open.len() >= DEPTH => {
                return Err("a JSON column nests deeper than 128 levels");
            }
            Token::BeginArray => {
                open.push((Open::Array(Vec::new()), name.take()));
                continue;
            }
            Token::BeginObject => {
                open.push((Open::Object(Vec::new()), name.take()));
                continue;
            }
            Token::EndArray | Token::EndObject => {
                let (closed, own_name) = open.pop().ok_or(WRONG)?;
                name = own_name;
                match closed {
                    Open::Array(items) => Value::from(items),
                    Open::Object(members) => {
                        let names: HashSet<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
                        if names.len() < members.len() {
                            return Err("a JSON column has a name twice in one object");
                        }
                        Value::from_pairs(members)
                    }
                }
            }
        };
        match open.last_mut() {
            Some((Open::Array(items), _)) => items.push(value),
            Some((Open::Object(members), _)) => members.push((name.take().unwrap_or_default(), value)),
            None => last = Some(value),
        }
    }
    last.ok_or(WRONG)
}

/// Appends a value's text, as a field of that value would be sent; nothing for null.
pub(super) fn write_text(value: &Value, out: &mut String) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => {}
        ValueKind::Undefined => return Err(fail(UNDEFINED.to_owned())),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number if !value.is_integer() => write_number(value, out)?,
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => write_json(value, DEPTH, out)?,
        _ => match value.as_str() {
            Some(text) => out.push_str(text),
            None => out.push_str(&value.to_string()),
        },
    }
    Ok(())
}

/// A value's text.
pub(super) fn text(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_text(value, &mut out)?;
    Ok(out)
}

fn write_number(value: &Value, out: &mut String) -> Result<(), Error> {
    match f64::try_from(value.clone()) {
        Ok(float) if float.is_finite() => write_float(float, out),
        _ => return Err(fail("a float is not a finite number".to_owned())),
    }
    Ok(())
}

/// Appends a value as JSON, every digit of its numbers kept; at most `depth` levels.
pub(super) fn write_json(value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
    let inner = || depth.checked_sub(1).ok_or_else(|| fail("a value nests deeper than 128 levels".to_owned()));
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool | ValueKind::Number => write_text(value, out)?,
        ValueKind::String => write_json_string(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq | ValueKind::Iterable => {
            let depth = inner()?;
            out.push('[');
            for (place, item) in value.try_iter()?.enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_json(&item, depth, out)?;
            }
            out.push(']');
        }
        ValueKind::Map => {
            let depth = inner()?;
            out.push('{');
            for (place, name) in value.try_iter()?.enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_json_string(&text(&name)?, out);
                out.push(':');
                write_json(&value.get_item(&name)?, depth, out)?;
            }
            out.push('}');
        }
        _ => match decimal_digits(value) {
            Some(digits) => out.push_str(&digits),
            None => return Err(fail(format!("{} has no JSON form", kind(value)))),
        },
    }
    Ok(())
}
