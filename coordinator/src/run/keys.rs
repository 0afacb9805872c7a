//! Keys in the form in which records are addressed: two rows are one where the destination is given the same identity.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use outflow_model::cell::Kind;
use outflow_model::column::Column;
use outflow_model::mapping::{FieldRule, Mapper, SourceColumn};
use outflow_snapshot::{Detector, SnapshotError};

use super::columns::append;
use crate::project::ResolvedSync;

/// How the key's columns are compared.
pub(super) struct KeyForms<'a> {
    mapper: &'a Mapper,
    kinds: Vec<Kind>,
    fold: Vec<bool>,
    forms: Vec<Form>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As the column is.
    AsIs,
    /// As the text of the identity field of this place.
    Identity(usize),
    /// As the text that a JSON value is.
    Text,
}

impl<'a> KeyForms<'a> {
    pub(super) fn new(sync: &ResolvedSync, mapper: &'a Mapper, columns: &[SourceColumn]) -> Self {
        let key = columns.iter().take(sync.key.len());
        let forms = key.clone().map(|column| match rule_of(sync, &column.name) {
            Some((place, rule)) if !rule.is_plain() || column.kind == Kind::Json => Form::Identity(place),
            None if column.kind == Kind::Json => Form::Text,
            _ => Form::AsIs,
        });
        Self { mapper, forms: forms.collect(), kinds: key.map(|column| column.kind).collect(), fold: sync.fold.clone() }
    }

    /// A detector that compares keys so.
    pub(super) fn apply<'d>(&'d self, detector: Detector<'d>) -> Detector<'d> {
        if self.forms.iter().all(|form| *form == Form::AsIs) {
            return detector;
        }
        let kind = |(form, kind): (&Form, &Kind)| if *form == Form::AsIs { *kind } else { Kind::Text };
        let kinds: Vec<_> = self.forms.iter().zip(&self.kinds).map(kind).zip(self.fold.iter().copied()).collect();
        detector.comparing(&kinds, Box::new(|batch| self.of(batch)))
    }

    fn of(&self, batch: &RecordBatch) -> Result<RecordBatch, SnapshotError> {
        let rows: Vec<u32> = (0..batch.num_rows() as u32).collect();
        let input: Vec<Column> = self
            .kinds
            .iter()
            .zip(batch.columns())
            .map(|(kind, array)| {
                let mut column = Column::with_capacity(*kind, rows.len());
                append(array, &rows, &mut column);
                column
            })
            .collect();
        let (table, invalid) = self.mapper.apply_identity(&input, rows.len());
        let refused: BTreeSet<u32> = invalid.into_iter().map(|invalid| invalid.row).collect();
        let text = |row: &u32, place: usize, form: Form| {
            let raw = input.get(place)?.cell(*row as usize);
            let sent = match form {
                Form::Identity(field) if !refused.contains(row) => table.fields.get(field)?.column.cell(*row as usize),
                // What is refused is compared as it is, and with nothing that is sent.
                Form::Identity(_) if !raw.is_null() => return Some(format!("\0{}", raw.to_text())),
                _ => raw,
            };
            (!sent.is_null()).then(|| sent.to_text())
        };
        let arrays = self.forms.iter().zip(batch.columns()).enumerate().map(|(place, (form, array))| {
            let array = match form {
                Form::AsIs => array.clone(),
                form => Arc::new(rows.iter().map(|row| text(row, place, *form)).collect::<StringArray>()) as ArrayRef,
            };
            (format!("{place}"), array)
        });
        RecordBatch::try_from_iter_with_nullable(arrays.map(|(name, array)| (name, array, true)))
            .map_err(|_| SnapshotError::Type(0))
    }
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
        // JSON is compared as the text that it is.
        let kind = if column.kind == Kind::Json { Kind::Text } else { column.kind };
        (format!("{}{form}", column.name), kind)
    };
    columns.iter().take(sync.key.len()).map(name).collect()
}
