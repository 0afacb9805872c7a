//! Keys in the form in which records are addressed: two rows are one where the destination is given the same identity.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use outflow_model::cell::{Cell, Kind};
use outflow_model::column::Column;
use outflow_model::mapping::{FieldRule, Mapper, SourceColumn};
use outflow_model::number::by_value;
use outflow_snapshot::{Compared, Detector, SnapshotError, cell};

use super::columns::append;
use crate::project::ResolvedSync;

/// How the key's columns are compared.
pub(super) struct KeyForms<'a> {
    mapper: &'a Mapper,
    columns: Vec<KeyColumn>,
}

/// A key column.
struct KeyColumn {
    kind: Kind,
    is_folded: bool,
    form: Form,
    /// The place of the identity field that it is sent as.
    field: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As the column is.
    AsIs,
    /// As the text of its identity field.
    Identity,
    /// As the text that a JSON value is, a number by its value.
    Text,
}

impl KeyColumn {
    /// What the form is of.
    fn compared_kind(&self) -> Kind {
        if self.form == Form::AsIs { self.kind } else { Kind::Text }
    }

    /// Whether some of its values may be of a form that addresses no record.
    fn may_be_refused(&self) -> bool {
        self.field.is_some() && !matches!(self.compared_kind(), Kind::Bool | Kind::Int)
    }
}

impl<'a> KeyForms<'a> {
    pub(super) fn new(sync: &ResolvedSync, mapper: &'a Mapper, columns: &[SourceColumn]) -> Self {
        let columns = columns.iter().zip(&sync.fold).take(sync.key.len()).map(|(column, is_folded)| {
            let rule = rule_of(sync, &column.name);
            let form = match rule {
                Some((_, rule)) if !rule.is_plain() || column.kind == Kind::Json => Form::Identity,
                None if column.kind == Kind::Json => Form::Text,
                _ => Form::AsIs,
            };
            KeyColumn { kind: column.kind, is_folded: *is_folded, form, field: rule.map(|(place, _)| place) }
        });
        Self { mapper, columns: columns.collect() }
    }

    /// A detector that compares keys so.
    pub(super) fn apply<'d>(&'d self, detector: Detector<'d>) -> Detector<'d> {
        if self.columns.iter().all(|column| column.form == Form::AsIs && !column.may_be_refused()) {
            return detector;
        }
        let kinds: Vec<_> = self.columns.iter().map(|column| (column.compared_kind(), column.is_folded)).collect();
        detector.comparing(&kinds, Box::new(|batch| self.of(batch)))
    }

    /// The keys of a batch as they are compared. What cannot address a record is not compared with anything.
    fn of(&self, batch: &RecordBatch) -> Result<Compared, SnapshotError> {
        let (keys, mut refused) = if self.columns.iter().all(|column| column.form == Form::AsIs) {
            (batch.columns().iter().take(self.columns.len()).cloned().collect(), BTreeMap::new())
        } else {
            self.converted(batch)
        };
        for (column, array) in self.columns.iter().zip(&keys).filter(|(column, _)| column.may_be_refused()) {
            let (Some(field), kind) = (column.field, column.compared_kind()) else { continue };
            for row in 0..batch.num_rows() {
                let fault = match cell(array, kind, row) {
                    Cell::Null => None,
                    Cell::Text(text) if column.is_folded => self.mapper.address_fault(field, Cell::Text(text.trim())),
                    cell => self.mapper.address_fault(field, cell),
                };
                if let Some(fault) = fault {
                    refused.entry(row as u32).or_insert(fault);
                }
            }
        }
        let named = keys.into_iter().enumerate().map(|(place, array)| (place.to_string(), array, true));
        let keys = RecordBatch::try_from_iter_with_nullable(named).map_err(|_| SnapshotError::Type(0))?;
        Ok(Compared { keys, refused })
    }

    /// The keys of a batch as the mapping makes them, and the rows with a whole key that it refuses.
    fn converted(&self, batch: &RecordBatch) -> (Vec<ArrayRef>, BTreeMap<u32, String>) {
        let rows: Vec<u32> = (0..batch.num_rows() as u32).collect();
        let input: Vec<Column> = self
            .columns
            .iter()
            .zip(batch.columns())
            .map(|(KeyColumn { kind, .. }, array)| {
                let mut column = Column::with_capacity(*kind, rows.len());
                append(array, &rows, &mut column);
                column
            })
            .collect();
        let (table, invalid) = self.mapper.apply_identity(&input, 0..rows.len());
        let is_whole = |row: u32| input.iter().all(|column| !column.cell(row as usize).is_null());
        let refused =
            invalid.into_iter().filter(|refused| is_whole(refused.row)).map(|refused| (refused.row, refused.message));
        let keys = self.columns.iter().zip(&input).zip(batch.columns()).map(|((column, raw), array)| {
            let sent = match (column.form, column.field.and_then(|field| table.fields.get(field))) {
                (Form::AsIs, _) => return array.clone(),
                (Form::Identity, Some(field)) => &field.column,
                _ => raw,
            };
            let text = |row: &u32| {
                let sent = sent.cell(*row as usize);
                (!sent.is_null()).then(|| address(sent))
            };
            Arc::new(rows.iter().map(text).collect::<StringArray>()) as ArrayRef
        });
        (keys.collect(), refused.collect())
    }
}

/// The text that a value addresses a record with; of a number it is the same for each way to write it.
fn address(value: Cell<'_>) -> String {
    value.resolved(|value| match value {
        Cell::Decimal(digits) => by_value(digits).unwrap_or_else(|| value.to_text()),
        value => value.to_text(),
    })
}

/// The identity field that a key column is sent as: its place among those fields, and its rule.
fn rule_of<'s>(sync: &'s ResolvedSync, column: &str) -> Option<(usize, &'s FieldRule)> {
    let rules = sync.identity.iter().filter_map(|field| sync.config.mapping.get(field));
    rules.enumerate().find(|(_, rule)| rule.column.as_deref() == Some(column))
}

/// The key's columns as a snapshot names them: with the form in which they are compared.
pub(super) fn names(sync: &ResolvedSync, columns: &[SourceColumn]) -> Vec<(String, Kind)> {
    let name = |column: &SourceColumn| {
        let rule = rule_of(sync, &column.name).map(|(_, rule)| rule);
        let form = [
            rule.and_then(|rule| rule.r#type).map(|kind| kind.name().to_owned()),
            rule.and_then(|rule| rule.zone.clone()),
            rule.and_then(|rule| rule.normalize).map(|form| format!("{form:?}").to_lowercase()),
        ];
        let form: Vec<String> = form.into_iter().flatten().collect();
        let form = if form.is_empty() { String::new() } else { format!(" as {}", form.join(" ")) };
        let becomes_number = matches!(rule.and_then(|rule| rule.r#type), Some(Kind::Int | Kind::Decimal));
        let kind = match column.kind {
            // JSON is compared as the text that it is.
            Kind::Json => Kind::Text,
            // One number, whichever way the source writes it today.
            Kind::Int | Kind::Float if becomes_number => Kind::Decimal,
            kind => kind,
        };
        (format!("{}{form}", column.name), kind)
    };
    columns.iter().take(sync.key.len()).map(name).collect()
}
