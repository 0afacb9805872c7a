//! Request bodies from a manifest's structure and its placeholders.

use std::collections::BTreeMap;

use outflow_model::cell::write_json_string;
use outflow_model::number::write_float;
use outflow_model::table::{NullPolicy, Shape, Style};

use crate::protocol::{Batch, Settings};

/// A structure made ready: literal JSON, and the places to fill.
#[derive(Debug)]
pub(super) struct Body(Vec<Part>);

#[derive(Debug, PartialEq)]
enum Part {
    Literal(String),
    /// `$records`: the list of all records.
    Records,
    /// `$record`: the one record.
    Record,
    /// `$fields`: the record's fields as an object.
    Fields,
    /// `$rest`: the fields that do not address the record.
    Rest,
    /// `$identity`: the value of the identity field.
    Identity,
    /// `$identity_name`: the identity field's name.
    IdentityName,
    /// `$index`: the record's number in the request, as text.
    Index,
    /// `$record_id`: the destination's own id.
    RecordId,
    /// `$token`: names the delivery; the same when it is sent again.
    Token,
    /// `$object`: the object's name.
    Object,
    /// `$config.NAME`: a setting.
    Setting(String),
}

impl Body {
    /// Makes a structure ready; an unknown placeholder is an error.
    pub(super) fn compile(structure: &toml::Value) -> Result<Self, String> {
        let mut parts = Vec::new();
        compile(structure, &mut parts)?;
        Ok(Self(parts))
    }

    fn write(&self, batch: &Batch<'_>, row: Option<(usize, u32)>, context: &Context<'_>, out: &mut String) {
        for part in &self.0 {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Records => context.write_records(batch, out),
                Part::Record => {
                    if let Some(row) = batch.rows.first() {
                        context.record.write(batch, Some((0, *row)), context, out);
                    }
                }
                Part::Object => write_json_string(batch.object, out),
                Part::Token => write_json_string(batch.token, out),
                Part::Setting(name) => write_json_string(setting(batch.settings, name), out),
                Part::IdentityName => {
                    let name = batch.table.identity_fields().first().map_or("", |field| field.path.as_str());
                    write_json_string(name, out);
                }
                Part::Fields | Part::Rest | Part::Identity | Part::Index | Part::RecordId => {
                    if let Some((index, row)) = row {
                        write_value(part, batch, index, row as usize, context, out);
                    }
                }
            }
        }
    }
}

fn write_value(part: &Part, batch: &Batch<'_>, index: usize, row: usize, context: &Context<'_>, out: &mut String) {
    match part {
        Part::Fields => context.shape.write(batch.table, row, context.style, out),
        Part::Rest => context.rest.write(batch.table, row, context.style, out),
        Part::Identity => match batch.table.identity_fields() {
            [field] => _ = context.style.write(field.column.cell(row), NullPolicy::Send, out),
            _ => write_json_string(&batch.table.identity_text(row), out),
        },
        Part::Index => {
            out.push('"');
            out.push_str(itoa::Buffer::new().format(index));
            out.push('"');
        }
        _ => match batch.table.record_id(row) {
            Some(id) => write_json_string(id, out),
            None => out.push_str("null"),
        },
    }
}

/// What a body is written with.
pub(super) struct Context<'a> {
    pub(super) record: &'a Body,
    pub(super) style: &'a Style,
    pub(super) shape: Shape,
    pub(super) rest: Shape,
}

impl Context<'_> {
    fn write_records(&self, batch: &Batch<'_>, out: &mut String) {
        out.push('[');
        for (index, row) in batch.rows.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            self.record.write(batch, Some((index, *row)), self, out);
        }
        out.push(']');
    }

    /// The body of a request: one JSON document.
    pub(super) fn body(&self, body: &Body, batch: &Batch<'_>) -> String {
        let mut out = String::with_capacity(batch.rows.len() * 256);
        // What stands for a record's values outside of `record` stands for those of the one record.
        body.write(batch, batch.rows.first().map(|row| (0, *row)), self, &mut out);
        out
    }

    /// The body of a request: one record per line.
    pub(super) fn lines(&self, batch: &Batch<'_>) -> String {
        let mut out = String::with_capacity(batch.rows.len() * 256);
        for (index, row) in batch.rows.iter().enumerate() {
            self.record.write(batch, Some((index, *row)), self, &mut out);
            out.push('\n');
        }
        out
    }
}

/// A path or header with its `{…}` filled in; values in a path are percent-encoded.
pub(super) fn fill(text: &str, batch: &Batch<'_>, encode: bool) -> String {
    fill_each(text, |name, out| match name {
        "object" => push_encoded(batch.object, encode, out),
        "token" => push_encoded(batch.token, encode, out),
        "identity" => {
            let row = batch.rows.first().map_or(0, |row| *row as usize);
            push_encoded(&batch.table.identity_text(row), encode, out);
        }
        name => out.push_str(setting(batch.settings, name)),
    })
}

/// A path with its `{object}` and `{setting}` filled in.
pub fn fill_settings(text: &str, object: &str, settings: &Settings) -> String {
    fill_each(text, |name, out| match name {
        "object" => push_encoded(object, true, out),
        name => out.push_str(setting(settings, name)),
    })
}

/// The headers of every request, for one that is about no record.
pub fn fill_headers(headers: &BTreeMap<String, String>, object: &str, settings: &Settings) -> Vec<(String, String)> {
    let fill = |text: &str| {
        fill_each(text, |name, out| match name {
            "object" => out.push_str(object),
            name => out.push_str(setting(settings, name)),
        })
    };
    headers.iter().map(|(name, value)| (name.to_lowercase(), fill(value))).collect()
}

/// The path that reads one record.
pub fn fill_read(text: &str, object: &str, name: &str, key: &str, fields: &[&str], settings: &Settings) -> String {
    fill_each(text, |part, out| match part {
        "object" => push_encoded(object, true, out),
        "identity_name" => push_encoded(name, true, out),
        "identity" => push_encoded(key, true, out),
        "fields" => push_encoded(&fields.join(","), true, out),
        name => out.push_str(setting(settings, name)),
    })
}

fn fill_each(text: &str, mut value: impl FnMut(&str, &mut String)) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, tail) = after.split_once('}').unwrap_or((after, ""));
        out.push_str(before);
        value(name, &mut out);
        rest = tail;
    }
    out.push_str(rest);
    out
}

pub(crate) fn push_encoded(text: &str, encode: bool, out: &mut String) {
    use std::fmt::Write;
    if !encode {
        return out.push_str(text);
    }
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            _ = write!(out, "%{byte:02X}");
        }
    }
}

fn setting<'a>(settings: &'a Settings, name: &str) -> &'a str {
    settings.get(name).map_or("", String::as_str)
}

fn compile(structure: &toml::Value, parts: &mut Vec<Part>) -> Result<(), String> {
    match structure {
        toml::Value::String(text) => match placeholder(text)? {
            Some(part) => parts.push(part),
            None => {
                let mut quoted = String::new();
                write_json_string(text, &mut quoted);
                literal(&quoted, parts);
            }
        },
        toml::Value::Integer(value) => literal(&value.to_string(), parts),
        toml::Value::Float(value) => {
            let mut digits = String::new();
            write_float(*value, &mut digits);
            literal(&digits, parts);
        }
        toml::Value::Boolean(value) => literal(&value.to_string(), parts),
        toml::Value::Datetime(value) => literal(&format!("\"{value}\""), parts),
        toml::Value::Array(items) => {
            literal("[", parts);
            for (place, item) in items.iter().enumerate() {
                literal(if place > 0 { "," } else { "" }, parts);
                compile(item, parts)?;
            }
            literal("]", parts);
        }
        toml::Value::Table(members) => {
            literal("{", parts);
            for (place, (name, value)) in members.iter().enumerate() {
                literal(if place > 0 { "," } else { "" }, parts);
                let mut quoted = String::new();
                write_json_string(name, &mut quoted);
                literal(&quoted, parts);
                literal(":", parts);
                compile(value, parts)?;
            }
            literal("}", parts);
        }
    }
    Ok(())
}

fn literal(text: &str, parts: &mut Vec<Part>) {
    match parts.last_mut() {
        Some(Part::Literal(last)) => last.push_str(text),
        _ => parts.push(Part::Literal(text.to_owned())),
    }
}

/// The names between braces in `text`, and whether one is left open.
pub(super) fn names(text: &str) -> (Vec<&str>, bool) {
    let (mut names, mut rest) = (Vec::new(), text);
    while let Some((_, after)) = rest.split_once('{') {
        let Some((name, tail)) = after.split_once('}') else { return (names, true) };
        names.push(name);
        rest = tail;
    }
    (names, false)
}

/// The placeholders in a structure.
pub(super) fn placeholders<'a>(structure: &'a toml::Value, found: &mut Vec<&'a str>) {
    match structure {
        toml::Value::String(text) => found.extend(text.strip_prefix('$')),
        toml::Value::Array(items) => items.iter().for_each(|item| placeholders(item, found)),
        toml::Value::Table(members) => members.values().for_each(|value| placeholders(value, found)),
        _ => {}
    }
}

fn placeholder(text: &str) -> Result<Option<Part>, String> {
    let Some(name) = text.strip_prefix('$') else { return Ok(None) };
    Ok(Some(match name {
        "records" => Part::Records,
        "record" => Part::Record,
        "fields" => Part::Fields,
        "rest" => Part::Rest,
        "identity" => Part::Identity,
        "identity_name" => Part::IdentityName,
        "index" => Part::Index,
        "record_id" => Part::RecordId,
        "token" => Part::Token,
        "object" => Part::Object,
        other => match other.strip_prefix("config.") {
            Some(name) => Part::Setting(name.to_owned()),
            None => return Err(format!("\"{text}\" is no placeholder.")),
        },
    }))
}
