//! Applying a mapping: model columns in, destination fields out, invalid rows named.

use std::collections::BTreeMap;

use super::coerce::{coerce, digest, normalize};
use super::rule::{Mapping, Origin};
use super::template::Template;
use super::{FieldRule, MappingProblem};
use crate::cell::{Cell, Kind};
use crate::column::Column;
use crate::suggest::did_you_mean;
use crate::table::{Field, Table};

/// A column of the model: its name and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceColumn {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
}

/// A row that the mapping refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Its place in the batch.
    pub row: u32,
    /// Which field, and why; never a value.
    pub message: String,
}

/// A mapping made ready for rows of known columns.
pub struct Mapper {
    fields: Vec<Plan>,
    identity: u32,
}

struct Plan {
    path: String,
    rule: FieldRule,
    kind: Kind,
    source: Source,
}

enum Source {
    Column(usize),
    Constant(Column),
    Template { template: Box<Template>, columns: Vec<usize> },
    Array(Vec<usize>),
}

impl Mapper {
    /// Makes `mapping` ready for rows of `columns`. The fields named in `identity` come first.
    pub fn new(mapping: &Mapping, identity: &[&str], columns: &[SourceColumn]) -> Result<Self, Vec<MappingProblem>> {
        let mut problems = Vec::new();
        let mut fields = Vec::with_capacity(mapping.len());
        let first = identity.iter().filter_map(|name| mapping.get_key_value(*name));
        let rest = mapping.iter().filter(|(path, _)| !identity.contains(&path.as_str()));
        for (path, rule) in first.chain(rest) {
            match plan(path, rule, columns) {
                Ok(plan) => fields.push(plan),
                Err((key, reason)) => problems.push(MappingProblem { field: path.clone(), key, reason }),
            }
        }
        let identity = identity.iter().filter(|name| mapping.contains_key(**name)).count() as u32;
        if problems.is_empty() { Ok(Self { fields, identity }) } else { Err(problems) }
    }

    /// The columns that a mapping reads, sorted; templates that do not compile read none.
    pub fn columns(mapping: &Mapping) -> Vec<String> {
        let mut columns: Vec<String> = mapping
            .values()
            .flat_map(|rule| match rule.origin() {
                Ok(Origin::Column(name)) => vec![name.to_owned()],
                Ok(Origin::Array(names)) => names.to_vec(),
                Ok(Origin::Template(source)) => {
                    Template::compile(source).map(|template| template.columns().to_vec()).unwrap_or_default()
                }
                Ok(Origin::Constant(_)) | Err(_) => Vec::new(),
            })
            .collect();
        columns.sort();
        columns.dedup();
        columns
    }

    /// Maps `rows` rows. Rows that are refused stay in the table and are named once each.
    pub fn apply(&self, input: &[Column], rows: usize) -> (Table, Vec<Invalid>) {
        self.map(&self.fields, input, rows)
    }

    /// Maps the identity alone, for rows that are only addressed.
    pub fn apply_identity(&self, input: &[Column], rows: usize) -> (Table, Vec<Invalid>) {
        self.map(self.fields.get(..self.identity as usize).unwrap_or_default(), input, rows)
    }

    fn map(&self, plans: &[Plan], input: &[Column], rows: usize) -> (Table, Vec<Invalid>) {
        let mut invalid = BTreeMap::new();
        let mut fields = Vec::with_capacity(plans.len());
        for plan in plans {
            let mut refuse = |row: usize, reason: &str| {
                invalid.entry(row as u32).or_insert_with(|| format!("Field \"{}\": {reason}", plan.path));
            };
            let column = plan.column(input, rows, &mut refuse);
            let is_identity = fields.len() < self.identity as usize;
            let checked = is_identity || column.kind() == Kind::Float;
            for row in (0..rows).filter(|_| checked) {
                match column.cell(row) {
                    Cell::Null if is_identity => refuse(row, "the value that addresses the record is null"),
                    Cell::Text("") if is_identity => refuse(row, "the value that addresses the record is empty"),
                    Cell::Float(value) if !value.is_finite() => refuse(row, "the value is no finite number"),
                    _ => {}
                }
            }
            fields.push(Field {
                path: plan.path.clone(),
                null: plan.rule.null,
                sensitive: plan.rule.sensitive,
                column,
            });
        }
        let table = Table { rows: rows as u32, fields, identity: self.identity, record_ids: None };
        (table, invalid.into_iter().map(|(row, message)| Invalid { row, message }).collect())
    }
}

impl Plan {
    fn column(&self, input: &[Column], rows: usize, refuse: &mut impl FnMut(usize, &str)) -> Column {
        let empty = Column::new(Kind::Text);
        let at = |column: &usize| input.get(*column).unwrap_or(&empty);
        match &self.source {
            Source::Column(column) if self.rule.is_plain() => at(column).clone(),
            Source::Column(column) => self.convert(rows, |row| Ok(at(column).cell(row)), refuse),
            Source::Constant(constant) => self.convert(rows, |_| Ok(constant.cell(0)), refuse),
            Source::Array(columns) => {
                let mut out = Column::with_capacity(Kind::Json, rows);
                for row in 0..rows {
                    out.push_text_with(|text| {
                        text.push('[');
                        for (place, column) in columns.iter().enumerate() {
                            if place > 0 {
                                text.push(',');
                            }
                            at(column).cell(row).write_json(text);
                        }
                        text.push(']');
                    });
                }
                out
            }
            Source::Template { template, columns } => {
                let mut rendered = Column::with_capacity(Kind::Text, rows);
                for row in 0..rows {
                    match template.render(columns.iter().map(|column| at(column).cell(row))) {
                        Ok(text) => rendered.push_text(&text),
                        Err(reason) => {
                            refuse(row, &format!("the template fails: {reason}"));
                            rendered.push_null();
                        }
                    }
                }
                if self.rule.is_plain() {
                    return rendered;
                }
                self.convert(rows, |row| Ok(rendered.cell(row)), refuse)
            }
        }
    }

    fn convert<'a>(
        &self,
        rows: usize,
        cell: impl Fn(usize) -> Result<Cell<'a>, String>,
        refuse: &mut impl FnMut(usize, &str),
    ) -> Column {
        let mut out = Column::with_capacity(self.kind, rows);
        for row in 0..rows {
            let before = out.len();
            let pushed = cell(row).and_then(|cell| self.push(cell, &mut out));
            if let Err(reason) = pushed {
                refuse(row, &reason);
            }
            if out.len() == before {
                out.push_null();
            }
        }
        out
    }

    fn push(&self, cell: Cell<'_>, out: &mut Column) -> Result<(), String> {
        if cell.is_null() || (self.rule.normalize.is_none() && self.rule.hash.is_none()) {
            return coerce(cell, self.kind, out);
        }
        let mut text = cell.to_text();
        if let Some(form) = self.rule.normalize {
            text = normalize(&text, form)?;
        }
        if let Some(kind) = self.rule.hash {
            text = digest(&text, kind);
        }
        coerce(Cell::Text(&text), self.kind, out)
    }
}

type Refused = (Option<&'static str>, String);

fn plan(path: &str, rule: &FieldRule, columns: &[SourceColumn]) -> Result<Plan, Refused> {
    let find = |key: &'static str, name: &str| {
        columns.iter().position(|column| column.name == name).ok_or_else(|| {
            let hint = did_you_mean(name, columns.iter().map(|column| column.name.as_str()));
            (Some(key), format!("The model has no column \"{name}\".{hint}"))
        })
    };
    let (source, own) = match rule.origin().map_err(|reason| (None, reason))? {
        Origin::Column(name) => {
            let at = find("column", name)?;
            (Source::Column(at), columns.get(at).map_or(Kind::Text, |column| column.kind))
        }
        Origin::Constant(value) => {
            let column = constant(value);
            let kind = column.kind();
            (Source::Constant(column), kind)
        }
        Origin::Template(source) => {
            let template = Template::compile(source).map_err(|reason| (Some("template"), reason))?;
            let columns = template.columns().iter().map(|name| find("template", name)).collect::<Result<_, _>>()?;
            (Source::Template { template: Box::new(template), columns }, Kind::Text)
        }
        Origin::Array(names) => {
            let columns = names.iter().map(|name| find("array", name)).collect::<Result<_, _>>()?;
            (Source::Array(columns), Kind::Json)
        }
    };
    let changed = if rule.hash.is_some() || rule.normalize.is_some() { Kind::Text } else { own };
    Ok(Plan { path: path.to_owned(), rule: rule.clone(), kind: rule.r#type.unwrap_or(changed), source })
}

fn constant(value: &serde_json::Value) -> Column {
    use serde_json::Value;
    let kind = match value {
        Value::Bool(_) => Kind::Bool,
        Value::Number(number) if number.is_i64() => Kind::Int,
        Value::Number(_) => Kind::Float,
        Value::Null | Value::String(_) => Kind::Text,
        Value::Array(_) | Value::Object(_) => Kind::Json,
    };
    let mut column = Column::new(kind);
    match value {
        Value::Null => column.push_null(),
        Value::Bool(value) => column.push_int(i64::from(*value)),
        Value::Number(number) => match number.as_i64() {
            Some(value) => column.push_int(value),
            None => column.push_float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => column.push_text(text),
        Value::Array(_) | Value::Object(_) => column.push_text(&value.to_string()),
    }
    column
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(values: &[Option<&str>]) -> Column {
        let mut column = Column::new(Kind::Text);
        values.iter().for_each(|value| column.push(value.map_or(Cell::Null, Cell::Text)));
        column
    }

    fn columns() -> Vec<SourceColumn> {
        ["email", "age"].map(|name| SourceColumn { name: name.to_owned(), kind: Kind::Text }).to_vec()
    }

    fn mapping(rules: &str) -> Result<Mapping, serde_json::Error> {
        serde_json::from_str(rules)
    }

    #[test]
    fn identity_comes_first_and_bad_rows_are_named_without_their_value() -> Result<(), Box<dyn std::error::Error>> {
        let rules = mapping(
            r#"{"age": {"column": "age", "type": "int"}, "email": "email", "both": {"template": "{{ email }}/{{ age }}"}}"#,
        )?;
        let mapper = Mapper::new(&rules, &["email"], &columns()).map_err(|problems| format!("{problems:?}"))?;
        let input = [text(&[Some("a@x"), Some("b@x"), None]), text(&[Some("7"), Some("secret"), None])];
        let (table, invalid) = mapper.apply(&input, 3);
        assert_eq!(table.fields.iter().map(|field| field.path.as_str()).collect::<Vec<_>>(), ["email", "age", "both"]);
        assert_eq!(table.fields[1].column.cell(0), Cell::Int(7));
        assert_eq!(table.fields[2].column.cell(0), Cell::Text("a@x/7"));
        let messages: Vec<_> = invalid.iter().map(|invalid| (invalid.row, invalid.message.as_str())).collect();
        assert_eq!(
            messages,
            [
                (1, "Field \"age\": the value is no int"),
                (2, "Field \"email\": the value that addresses the record is null"),
            ]
        );
        Ok(())
    }

    #[test]
    fn an_unknown_column_is_told_with_the_nearest_name() -> Result<(), Box<dyn std::error::Error>> {
        let rules = mapping(r#"{"email": "emial"}"#)?;
        let problems = Mapper::new(&rules, &["email"], &columns()).err().unwrap_or_default();
        assert_eq!(problems[0].reason, "The model has no column \"emial\". Did you mean \"email\"?");
        assert_eq!(Mapper::columns(&rules), ["emial"]);
        Ok(())
    }
}
