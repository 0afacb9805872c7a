//! Records ready for a destination: typed columns under their field paths.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cell::{Cell, write_json_string};
use crate::column::Column;

/// What stands in for a value that must not be shown.
pub const MASKED: &str = "***";

/// No record has more bytes: its chunk would be more than a worker unpacks.
pub const RECORD_CAP: usize = 128 * 1024 * 1024;

/// What is sent where a value is null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NullPolicy {
    /// Send null.
    #[default]
    Send,
    /// Leave the field out.
    Skip,
    /// Send what empties the field at this destination.
    Clear,
}

/// One destination field and its values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// The field's name, or its path with dots.
    pub path: String,
    /// What is sent for null.
    pub null: NullPolicy,
    /// Values must not be shown.
    pub sensitive: bool,
    /// One value per record.
    pub column: Column,
}

/// Records of one operation, columnar.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// How many records.
    pub rows: u32,
    /// The fields, identity first.
    pub fields: Vec<Field>,
    /// How many of `fields`, from the start, address the record.
    pub identity: u32,
    /// The destination's own ids, where known and needed.
    pub record_ids: Option<Column>,
}

/// How a destination writes values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Style {
    /// Every value as a string.
    pub text: bool,
    /// The text that empties a field; null where there is none.
    pub clear: Option<String>,
    /// Whether a field path's dots nest objects.
    pub nest: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self { text: false, clear: None, nest: true }
    }
}

impl Style {
    /// Writes `cell` as this destination wants it; false, and nothing written, where the field is left out.
    pub fn write(&self, cell: Cell<'_>, null: NullPolicy, out: &mut String) -> bool {
        match (cell, null) {
            (Cell::Null, NullPolicy::Skip) => return false,
            (Cell::Null, NullPolicy::Send | NullPolicy::Clear) => match &self.clear {
                Some(clear) => write_json_string(clear, out),
                None => out.push_str("null"),
            },
            (cell, _) if self.text => cell.write_json_text(out),
            (cell, _) => cell.write_json(out),
        }
        true
    }
}

impl Table {
    fn columns(&self) -> impl Iterator<Item = &Column> {
        self.fields.iter().map(|field| &field.column).chain(&self.record_ids)
    }

    /// About how many bytes its values take.
    pub fn bytes(&self) -> usize {
        self.columns().map(Column::bytes).sum()
    }

    /// About how many bytes the values of record `row` take.
    pub fn record_bytes(&self, row: usize) -> usize {
        self.columns().map(|column| column.size(row)).sum()
    }

    /// The records of `keep`, in its order.
    #[must_use]
    pub fn take(&self, keep: &[u32]) -> Self {
        self.with_columns(keep.len() as u32, |column| column.take(keep))
    }

    /// The records of `rows`.
    #[must_use]
    pub fn slice(&self, rows: Range<usize>) -> Self {
        self.with_columns(rows.len() as u32, |column| column.slice(rows.clone()))
    }

    fn with_columns(&self, rows: u32, of: impl Fn(&Column) -> Column) -> Self {
        let field = |field: &Field| Field { column: of(&field.column), path: field.path.clone(), ..*field };
        Self {
            rows,
            fields: self.fields.iter().map(field).collect(),
            identity: self.identity,
            record_ids: self.record_ids.as_ref().map(of),
        }
    }

    /// Adds the records of `other`, which has the same fields.
    pub fn append(&mut self, other: &Self) {
        self.rows += other.rows;
        for (field, more) in self.fields.iter_mut().zip(&other.fields) {
            field.column.append(&more.column);
        }
        if let Some((ids, more)) = self.record_ids.as_mut().zip(other.record_ids.as_ref()) {
            ids.append(more);
        }
    }

    /// The fields that address the record.
    pub fn identity_fields(&self) -> &[Field] {
        self.fields.get(..self.identity as usize).unwrap_or(&self.fields)
    }

    /// The text that addresses record `row`: the value of its identity field, or the values of several as [`join`] writes
    /// them.
    pub fn identity_text(&self, row: usize) -> String {
        self.joined_identity(|field| field.column.cell(row).to_text())
    }

    /// As [`Self::identity_text`], for people: sensitive values masked.
    pub fn shown_identity(&self, row: usize) -> String {
        let shown = |field: &Field| if field.sensitive { MASKED.to_owned() } else { field.column.cell(row).to_text() };
        self.joined_identity(shown)
    }

    fn joined_identity(&self, text: impl Fn(&Field) -> String) -> String {
        match self.identity_fields() {
            [field] => text(field),
            fields => join(&fields.iter().map(text).collect::<Vec<_>>()),
        }
    }

    /// The destination's id of record `row`, where known.
    pub fn record_id(&self, row: usize) -> Option<&str> {
        match self.record_ids.as_ref()?.cell(row) {
            Cell::Text(id) => Some(id),
            _ => None,
        }
    }
}

/// The values of a key or identity as one text: a single one as it is, several separated by a blank, and of these the ones
/// that are empty or hold blanks, quotes or backslashes as JSON strings, so that no two keys have one text.
pub fn join(values: &[String]) -> String {
    if let [value] = values {
        return value.clone();
    }
    let mut out = String::new();
    for (place, value) in values.iter().enumerate() {
        if place > 0 {
            out.push(' ');
        }
        let is_plain = |letter: char| !letter.is_whitespace() && !letter.is_control() && !matches!(letter, '"' | '\\');
        if !value.is_empty() && value.chars().all(is_plain) {
            out.push_str(value);
        } else {
            write_json_string(value, &mut out);
        }
    }
    out
}

/// The nesting of a table's fields, worked out once and written for every record.
pub struct Shape(Vec<(String, Node)>);

enum Node {
    /// A value: the field's place in the table.
    Leaf(usize),
    /// An object within.
    Object(Shape),
}

impl Shape {
    /// The shape of `fields`, given by place and path.
    pub fn of<'a>(fields: impl IntoIterator<Item = (usize, &'a str)>, nest: bool) -> Self {
        let mut shape = Self(Vec::new());
        for (at, path) in fields {
            let parts: Vec<&str> = if nest { path.split('.').collect() } else { vec![path] };
            shape.insert(&parts, at);
        }
        shape
    }

    fn insert(&mut self, path: &[&str], at: usize) {
        let Some((name, rest)) = path.split_first() else { return };
        if rest.is_empty() {
            self.0.push((quoted(name), Node::Leaf(at)));
            return;
        }
        let name = quoted(name);
        if let Some((_, Node::Object(inner))) = self.0.iter_mut().find(|(existing, _)| *existing == name) {
            inner.insert(rest, at);
            return;
        }
        let mut inner = Self(Vec::new());
        inner.insert(rest, at);
        self.0.push((name, Node::Object(inner)));
    }

    /// Writes record `row` of `table` as a JSON object.
    pub fn write(&self, table: &Table, row: usize, style: &Style, out: &mut String) {
        out.push('{');
        self.write_members(table, row, style, out);
        out.push('}');
    }

    /// Writes the members alone; true where there was one.
    pub fn write_members(&self, table: &Table, row: usize, style: &Style, out: &mut String) -> bool {
        let mut any = false;
        for (name, node) in &self.0 {
            let before = out.len();
            if any {
                out.push(',');
            }
            out.push_str(name);
            let written = match node {
                Node::Leaf(at) => {
                    table.fields.get(*at).is_some_and(|field| style.write(field.column.cell(row), field.null, out))
                }
                Node::Object(inner) => {
                    inner.write(table, row, style, out);
                    true
                }
            };
            if written {
                any = true;
            } else {
                out.truncate(before);
            }
        }
        any
    }
}

fn quoted(name: &str) -> String {
    let mut out = String::new();
    write_json_string(name, &mut out);
    out.push(':');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Kind;

    fn field(path: &str, null: NullPolicy, value: Option<&str>) -> Field {
        let mut column = Column::new(Kind::Text);
        column.push(value.map_or(Cell::Null, Cell::Text));
        Field { path: path.to_owned(), null, sensitive: false, column }
    }

    #[test]
    fn nested_paths_become_objects_and_null_follows_its_policy() {
        let table = Table {
            rows: 1,
            fields: vec![
                field("email", NullPolicy::Send, Some("a@x")),
                field("address.city", NullPolicy::Send, Some("Graz")),
                field("left_out", NullPolicy::Skip, None),
                field("address.zip", NullPolicy::Send, None),
            ],
            identity: 1,
            record_ids: None,
        };
        let paths = || table.fields.iter().enumerate().map(|(at, field)| (at, field.path.as_str()));
        let mut out = String::new();
        Shape::of(paths(), true).write(&table, 0, &Style::default(), &mut out);
        assert_eq!(out, r#"{"email":"a@x","address":{"city":"Graz","zip":null}}"#);
        out.clear();
        let style = Style { text: true, clear: Some(String::new()), nest: false };
        Shape::of(paths(), false).write(&table, 0, &style, &mut out);
        assert_eq!(out, r#"{"email":"a@x","address.city":"Graz","address.zip":""}"#);
        assert_eq!(table.identity_text(0), "a@x");
    }

    #[test]
    fn composite_identities_never_become_one_text() {
        let keys =
            [["a b", "c"], ["a", "b c"], ["a", ""], ["", "a"], ["a\"", "b"], ["a", "\"b\""], ["a\\", "b"], ["a", "b"]];
        let texts: std::collections::BTreeSet<String> = keys.iter().map(|key| join(&key.map(str::to_owned))).collect();
        assert_eq!(texts.len(), keys.len());
        assert_eq!(
            (join(&["a b".to_owned()]), join(&["DE", "1"].map(str::to_owned))),
            ("a b".to_owned(), "DE 1".to_owned())
        );
        let table = Table {
            rows: 1,
            fields: vec![field("a", NullPolicy::Send, Some("x y")), field("b", NullPolicy::Send, Some("z"))],
            identity: 2,
            record_ids: None,
        };
        assert_eq!(table.identity_text(0), "\"x y\" z");
        assert_eq!(table.shown_identity(0), table.identity_text(0));
        let mut masked = table;
        masked.fields[0].sensitive = true;
        assert_eq!(masked.shown_identity(0), "*** z");
    }
}
