//! A destination that is nowhere: each record is written as JSON and forgotten. For rehearsals, and for measuring all that
//! is before a destination.

use outflow_model::change::Operation;
use outflow_model::outcome::{Outcome, Refusal};
use outflow_model::table::{Shape, Style};

use crate::manifest::Manifest;
use crate::protocol::{Batch, Destination, Event, Failure, Settings, Step};

/// The manifest's text.
pub(crate) const MANIFEST: &str = include_str!("manifest.toml");

struct Blackhole(Manifest);

/// Makes the destination ready.
#[expect(clippy::unnecessary_wraps, reason = "every destination is opened alike")]
pub(crate) fn open(manifest: Manifest) -> Result<Box<dyn Destination>, String> {
    Ok(Box::new(Blackhole(manifest)))
}

impl Destination for Blackhole {
    fn batch_size(&self, operation: Operation, _object: &str, _settings: &Settings, _bulk: bool) -> u32 {
        self.0.operation(operation).map_or(1, |spec| spec.records)
    }

    fn start(&self, batch: &Batch<'_>) -> Result<Step, Failure> {
        let fields = batch.table.fields.iter().enumerate().map(|(at, field)| (at, field.path.as_str()));
        let (shape, style) = (Shape::of(fields, true), Style::default());
        let mut text = String::new();
        let outcomes = batch.rows.iter().map(|row| {
            let row = *row as usize;
            text.clear();
            shape.write(batch.table, row, &style, &mut text);
            if batch.table.identity > 0 && batch.table.identity_text(row).is_empty() {
                return Outcome::Rejected(Refusal::rejected("NO_IDENTITY", "Nothing addresses the record"));
            }
            Outcome::Succeeded { id: None }
        });
        Ok(Step::Done(outcomes.collect()))
    }

    fn resume(&self, _batch: &Batch<'_>, _state: &[u8], _event: Event<'_>) -> Result<Step, Failure> {
        Err(Failure::broken("Nothing was sent, so there is no answer to it"))
    }
}

#[cfg(test)]
mod tests {
    use outflow_model::cell::{Cell, Kind};
    use outflow_model::column::Column;
    use outflow_model::mode::Mode;
    use outflow_model::table::{Field, NullPolicy, Table};

    use super::*;

    fn table(emails: &[&str]) -> Table {
        let mut column = Column::new(Kind::Text);
        emails.iter().for_each(|email| column.push(Cell::Text(email)));
        let field = Field { path: "email".to_owned(), null: NullPolicy::Send, sensitive: false, column };
        Table { rows: emails.len() as u32, fields: vec![field], identity: 1, record_ids: None }
    }

    #[test]
    fn each_record_of_the_batch_has_its_outcome_and_nothing_is_sent() {
        let destination = open(Manifest::parse(MANIFEST).unwrap()).unwrap();
        let (table, settings) = (table(&["a@x", "not in the batch", "", "b@x"]), Settings::new());
        let batch = Batch {
            operation: Operation::Upsert,
            object: "anything",
            table: &table,
            rows: &[3, 2, 0],
            settings: &settings,
            token: "",
            wants_ids: true,
            bulk: false,
        };
        let Ok(Step::Done(outcomes)) = destination.start(&batch) else { panic!("it is done at once") };
        let taken = Outcome::Succeeded { id: None };
        assert_eq!((&outcomes[0], &outcomes[2], outcomes.len()), (&taken, &taken, 3));
        assert!(matches!(&outcomes[1], Outcome::Rejected(refusal) if refusal.code == "NO_IDENTITY"));
    }

    #[test]
    fn it_takes_every_mode() {
        let manifest = Manifest::parse(MANIFEST).unwrap();
        assert_eq!(manifest.object("anything").unwrap().modes.len(), Mode::ALL.len());
    }
}
