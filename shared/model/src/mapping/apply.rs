//! Applying a mapping: model columns in, destination fields out, invalid rows named.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use chrono_tz::Tz;

use super::coerce::{article, can_become, coerce_in, digest, normalize, unfit};
use super::rule::{Mapping, Origin};
use super::template::Template;
use super::{FieldRule, MappingProblem};
use crate::cell::{Cell, Kind};
use crate::column::Column;
use crate::json;
use crate::suggest::did_you_mean;
use crate::table::{Field, RECORD_CAP, Table};

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
    /// Its place in the table.
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
    zone: Tz,
    source: Source,
}

enum Source {
    Column(usize),
    Constant(Column),
    Template { template: Box<Template>, columns: Vec<usize> },
    Array(Vec<usize>),
}

impl Source {
    /// The columns that it reads.
    const fn columns(&self) -> &[usize] {
        match self {
            Self::Column(column) => std::slice::from_ref(column),
            Self::Constant(_) => &[],
            Self::Template { columns, .. } | Self::Array(columns) => columns.as_slice(),
        }
    }
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
        hide(&mut fields);
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

    /// Maps the rows of `rows`. Those that are refused stay in the table and are named once each.
    pub fn apply(&self, input: &[Column], rows: Range<usize>) -> (Table, Vec<Invalid>) {
        self.map(&self.fields, input, rows)
    }

    /// Maps the identity alone, for rows that are only addressed.
    pub fn apply_identity(&self, input: &[Column], rows: Range<usize>) -> (Table, Vec<Invalid>) {
        self.map(self.fields.get(..self.identity as usize).unwrap_or_default(), input, rows)
    }

    /// How many bytes all fields read of `input`, of each column as `size` says: what they become, unless a template makes more of it.
    pub fn bytes_read(&self, input: &[Column], size: impl Fn(&Column) -> usize) -> usize {
        let columns = self.fields.iter().flat_map(|plan| plan.source.columns());
        columns.filter_map(|column| input.get(*column)).map(size).sum()
    }

    /// Why `cell` cannot address a record as the identity's field at place `field`, in the words of [`Invalid::message`];
    /// nothing if it can, and if no rule has to change it first.
    pub fn address_fault(&self, field: usize, cell: Cell<'_>) -> Option<String> {
        let reason = unaddressable(cell).or_else(|| unfit(cell))?;
        self.fields.get(field).map(|plan| refused(&plan.path, reason))
    }

    /// Why its constants cannot be sent, each with its field.
    pub(super) fn unfit_constants(&self) -> Vec<(String, String)> {
        let mut unfit = Vec::new();
        for plan in self.fields.iter().filter(|plan| matches!(plan.source, Source::Constant(_))) {
            plan.fit(&[], 0..1, &mut |_, reason| unfit.push((plan.path.clone(), reason.to_owned())));
        }
        unfit
    }

    fn map(&self, plans: &[Plan], input: &[Column], rows: Range<usize>) -> (Table, Vec<Invalid>) {
        let mut invalid = BTreeMap::new();
        let count = rows.len();
        let mut table = Table { rows: count as u32, identity: self.identity, ..Table::default() };
        for plan in plans {
            let mut refuse = |row: usize, reason: &str| {
                invalid.entry(row as u32).or_insert_with(|| refused(&plan.path, reason));
            };
            let column = plan.fit(input, rows.clone(), &mut refuse);
            if table.fields.len() < self.identity as usize {
                for row in 0..count {
                    if let Some(reason) = unaddressable(column.cell(row)) {
                        refuse(row, reason);
                    }
                }
            }
            table.fields.push(Field {
                path: plan.path.clone(),
                null: plan.rule.null,
                sensitive: plan.rule.sensitive,
                column,
            });
            if table.bytes() <= RECORD_CAP {
                continue;
            }
            for row in (0..count).filter(|row| table.record_bytes(*row) > RECORD_CAP) {
                refuse(row, &format!("with it, the record has more than {} MiB", RECORD_CAP >> 20));
            }
            if invalid.len() == count {
                // Nothing is sent of it; the rest would take more memory still.
                break;
            }
        }
        (table, invalid.into_iter().map(|(row, message)| Invalid { row, message }).collect())
    }
}

/// Makes every field sensitive that reads a column of a sensitive one: it shows the same value in another form.
fn hide(fields: &mut [Plan]) {
    let sensitive: BTreeSet<usize> =
        fields.iter().filter(|plan| plan.rule.sensitive).flat_map(|plan| plan.source.columns().to_vec()).collect();
    for plan in fields {
        plan.rule.sensitive |= plan.source.columns().iter().any(|column| sensitive.contains(column));
    }
}

/// What a row's [`Invalid::message`] says of the field at `path`.
fn refused(path: &str, reason: &str) -> String {
    format!("Field \"{path}\": {reason}")
}

/// Why a value cannot address a record; nothing if it can.
fn unaddressable(cell: Cell<'_>) -> Option<&'static str> {
    cell.resolved(|cell| match cell {
        Cell::Null => Some("the value that addresses the record is null"),
        Cell::Text("") => Some("the value that addresses the record is empty"),
        Cell::Json(_) => Some("an object or array cannot address a record"),
        _ => None,
    })
}

impl Plan {
    /// The field's values in `rows`, of which those without a form on the wire are refused.
    fn fit(&self, input: &[Column], rows: Range<usize>, refuse: &mut impl FnMut(usize, &str)) -> Column {
        let column = self.column(input, rows.clone(), refuse);
        let unfit_kinds = [Kind::Float, Kind::Decimal, Kind::Date, Kind::Time, Kind::Timestamp, Kind::TimestampTz];
        for row in (0..rows.len()).filter(|_| unfit_kinds.contains(&column.kind())) {
            if let Some(reason) = unfit(column.cell(row)) {
                refuse(row, reason);
            }
        }
        column
    }

    /// The field's values in `rows`; `refuse` is called with places in the column.
    fn column(&self, input: &[Column], rows: Range<usize>, refuse: &mut impl FnMut(usize, &str)) -> Column {
        let empty = Column::new(Kind::Text);
        let at = |column: &usize| input.get(*column).unwrap_or(&empty);
        match &self.source {
            Source::Column(column) if self.rule.is_plain() && self.kind != Kind::Json => at(column).slice(rows),
            Source::Column(column) => self.convert(rows, |row| Ok(at(column).cell(row)), refuse),
            Source::Constant(constant) => self.convert(rows, |_| Ok(constant.cell(0)), refuse),
            Source::Array(columns) => {
                let mut list = String::new();
                let (count, mut out) = (rows.len(), Column::with_capacity(Kind::Json, rows.len()));
                for (place, row) in rows.enumerate() {
                    let written = write_list(columns.iter().map(|column| at(column).cell(row)), &mut list);
                    match written {
                        Ok(()) => out.push_text(&list),
                        Err(reason) => {
                            refuse(place, &reason);
                            out.push_null();
                        }
                    }
                }
                if self.rule.is_plain() {
                    return out;
                }
                self.convert(0..count, |row| Ok(out.cell(row)), refuse)
            }
            Source::Template { template, columns } => {
                let (count, mut rendered) = (rows.len(), Column::with_capacity(Kind::Text, rows.len()));
                let renderer = template.prepare();
                for (place, row) in rows.enumerate() {
                    let cells = columns.iter().map(|column| at(column).cell(row));
                    let text = renderer.as_ref().map_err(Clone::clone).and_then(|renderer| renderer.render(cells));
                    match text {
                        Ok(Some(text)) => rendered.push_text(&text),
                        Ok(None) => rendered.push_null(),
                        Err(reason) => {
                            refuse(place, &format!("the template fails: {reason}"));
                            rendered.push_null();
                        }
                    }
                }
                if self.rule.is_plain() {
                    return rendered;
                }
                self.convert(0..count, |row| Ok(rendered.cell(row)), refuse)
            }
        }
    }

    fn convert<'a>(
        &self,
        rows: Range<usize>,
        cell: impl Fn(usize) -> Result<Cell<'a>, String>,
        refuse: &mut impl FnMut(usize, &str),
    ) -> Column {
        let mut out = Column::with_capacity(self.kind, rows.len());
        for (place, row) in rows.enumerate() {
            let before = out.len();
            let pushed = cell(row).and_then(|cell| self.push(cell, &mut out));
            if let Err(reason) = pushed {
                refuse(place, &reason);
            }
            if out.len() == before {
                out.push_null();
            }
        }
        out
    }

    fn push(&self, cell: Cell<'_>, out: &mut Column) -> Result<(), String> {
        if self.rule.normalize.is_none() && self.rule.hash.is_none() {
            return coerce_in(cell, self.kind, self.zone, out);
        }
        let mut plain = Column::new(Kind::Text);
        coerce_in(cell, Kind::Text, self.zone, &mut plain)?;
        let Cell::Text(text) = plain.cell(0) else {
            out.push_null();
            return Ok(());
        };
        let mut text = text.to_owned();
        if let Some(form) = self.rule.normalize {
            match normalize(&text, form)? {
                Some(normal) => text = normal,
                None => {
                    out.push_null();
                    return Ok(());
                }
            }
        }
        if let Some(kind) = self.rule.hash {
            text = digest(&text, kind);
        }
        coerce_in(Cell::Text(&text), self.kind, self.zone, out)
    }
}

/// Writes `cells` as a JSON array.
fn write_list<'a>(cells: impl Iterator<Item = Cell<'a>>, out: &mut String) -> Result<(), String> {
    out.clear();
    out.push('[');
    for (place, cell) in cells.enumerate() {
        if place > 0 {
            out.push(',');
        }
        match cell {
            Cell::Json(text) => json::compact(text, out).map_err(|error| error.to_string())?,
            cell => match unfit(cell) {
                Some(reason) => return Err(reason.to_owned()),
                None => cell.write_json(out),
            },
        }
    }
    out.push(']');
    Ok(())
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
            let column = constant(value, rule.digits.as_deref());
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
    let zone = match &rule.zone {
        Some(_) if !matches!(rule.r#type, Some(Kind::Date | Kind::Time | Kind::Timestamp | Kind::TimestampTz)) => {
            let reason = "It says in which zone `type: date`, `time`, `timestamp` or `timestamp_tz` reads a value; without one of \
                          them, it changes nothing.";
            return Err((Some("zone"), reason.to_owned()));
        }
        Some(name) => name.parse().map_err(|_| {
            (
                Some("zone"),
                format!("There is no time zone \"{name}\"; write one of the IANA list, such as Europe/Vienna."),
            )
        })?,
        None => Tz::UTC,
    };
    let changed = if rule.hash.is_some() || rule.normalize.is_some() { Kind::Text } else { own };
    let kind = rule.r#type.unwrap_or(changed);
    if !can_become(changed, kind) {
        let reason = format!(
            "{} {} value cannot become {} {}.",
            capital(article(changed)),
            changed.name(),
            article(kind),
            kind.name()
        );
        return Err((Some("type"), reason));
    }
    Ok(Plan { path: path.to_owned(), rule: rule.clone(), kind, zone, source })
}

const fn capital(article: &str) -> &str {
    if article.len() == 2 { "An" } else { "A" }
}

fn constant(value: &serde_json::Value, digits: Option<&str>) -> Column {
    use serde_json::Value;
    let kind = match value {
        Value::Bool(_) => Kind::Bool,
        Value::Number(number) if number.is_i64() => Kind::Int,
        Value::Number(_) => Kind::Decimal,
        Value::Null | Value::String(_) => Kind::Text,
        Value::Array(_) | Value::Object(_) => Kind::Json,
    };
    let mut column = Column::new(kind);
    match value {
        Value::Null => column.push_null(),
        Value::Bool(value) => column.push_int(i64::from(*value)),
        Value::Number(number) => match number.as_i64() {
            Some(value) => column.push_int(value),
            None => column.push_text(digits.unwrap_or(&number.to_string())),
        },
        Value::String(text) => column.push_text(text),
        Value::Array(_) | Value::Object(_) => column.push_text(digits.unwrap_or(&value.to_string())),
    }
    column
}

#[cfg(test)]
mod tests;
