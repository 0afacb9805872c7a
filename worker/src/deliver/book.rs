//! What is known of a chunk's records while they are delivered.

use std::collections::BTreeSet;

use outflow_model::cell::{Cell, Kind};
use outflow_model::column::Column;
use outflow_model::outcome::{Again, Outcome, Refusal, Status};
use outflow_model::policy::ErrorClass;
use outflow_model::table::Table;
use outflow_model::wire::{ChunkV1, Next, ReportV1};

use crate::account::Account;
use crate::mask::sensitive;

/// Outcomes so far, and the records that are to be sent again.
pub(super) struct Book<'a> {
    account: &'a Account,
    chunk: &'a ChunkV1,
    table: &'a Table,
    /// The report as far as it goes, with why records did not succeed (yet); record ids are put in at its end.
    pub(super) report: ReportV1,
    told: Vec<Option<String>>,
    /// Records that transient trouble left, and of what class the last was.
    pub(super) again: Vec<u32>,
    pub(super) class: ErrorClass,
    /// Some of them were in each other's way.
    pub(super) smaller: bool,
    /// Records that were given their one more try.
    retried: BTreeSet<u32>,
}

impl<'a> Book<'a> {
    pub(super) fn new(account: &'a Account, chunk: &'a ChunkV1, table: &'a Table) -> Self {
        Self {
            account,
            chunk,
            table,
            report: ReportV1::empty(chunk.id.clone(), chunk.rows, Next::Done),
            told: if chunk.wants_ids { vec![None; chunk.rows as usize] } else { Vec::new() },
            again: Vec::new(),
            class: ErrorClass::Backoff,
            smaller: false,
            retried: BTreeSet::new(),
        }
    }

    /// A report of everything that is known.
    pub(super) fn known(&self, next: Next) -> ReportV1 {
        ReportV1 { next, ids: self.ids(), ..self.report.clone() }
    }

    /// The record ids that were told, one per record of the chunk.
    fn ids(&self) -> Option<Column> {
        if self.told.iter().all(Option::is_none) {
            return None;
        }
        let mut column = Column::with_capacity(Kind::Text, self.told.len());
        self.told.iter().for_each(|id| column.push(id.as_deref().map_or(Cell::Null, Cell::Text)));
        Some(column)
    }

    /// Takes the outcomes of records in, one each.
    pub(super) fn done(&mut self, rows: &[u32], mut outcomes: Vec<Outcome>) {
        let refusals = outcomes.iter_mut().filter_map(|outcome| match outcome {
            Outcome::Rejected(refusal) | Outcome::Retry { refusal, .. } => Some(refusal),
            Outcome::Succeeded { .. } | Outcome::Skipped => None,
        });
        self.make_discreet(rows, &mut refusals.collect::<Vec<_>>());
        for (row, outcome) in rows.iter().zip(outcomes) {
            match outcome {
                Outcome::Succeeded { id } => {
                    self.set(*row, Status::Succeeded);
                    if let Some(told) = self.told.get_mut(*row as usize) {
                        *told = id;
                    }
                }
                Outcome::Skipped => self.set(*row, Status::Skipped),
                Outcome::Rejected(refusal) => self.reject(*row, &refusal),
                Outcome::Retry { refusal, again: Again::Once }
                    if !self.retried.insert(*row) || (self.chunk.bulk && self.chunk.tries > 0) =>
                {
                    self.reject(*row, &Refusal { class: ErrorClass::RejectRecord, ..refusal });
                }
                Outcome::Retry { refusal, again } => {
                    if again == Again::Smaller {
                        self.smaller = true;
                    }
                    self.send_again(&[*row], &refusal);
                }
            }
        }
    }

    /// Records are to be sent again.
    pub(super) fn retry(&mut self, rows: &[u32], refusal: Refusal) {
        let refusal = self.discreet(rows, refusal);
        self.send_again(rows, &refusal);
    }

    fn send_again(&mut self, rows: &[u32], refusal: &Refusal) {
        // An answer that is not understood a second time may be so for one record's sake: the others go without it.
        let broken = |refusal: &Refusal| refusal.class == ErrorClass::BrokenAnswer;
        if rows.len() > 1 && broken(refusal) && rows.iter().any(|row| self.report.reasons.of(*row).is_some_and(broken))
        {
            self.smaller = true;
        }
        self.class = refusal.class;
        self.give_reason(rows, refusal);
        self.again.extend(rows);
    }

    fn set(&mut self, row: u32, status: Status) {
        if let Some(known) = self.report.statuses.get_mut(row as usize) {
            *known = status as u8;
        }
    }

    fn reject(&mut self, row: u32, refusal: &Refusal) {
        self.set(row, Status::Rejected);
        self.give_reason(&[row], refusal);
    }

    /// Records get their final status, and why.
    pub(super) fn mark(&mut self, rows: &[u32], status: Status, refusal: Refusal) {
        rows.iter().for_each(|row| self.set(*row, status));
        self.note(rows, refusal);
    }

    /// Remembers why records did not succeed (yet).
    pub(super) fn note(&mut self, rows: &[u32], refusal: Refusal) {
        let refusal = self.discreet(rows, refusal);
        self.give_reason(rows, &refusal);
    }

    fn give_reason(&mut self, rows: &[u32], refusal: &Refusal) {
        rows.iter().for_each(|row| self.report.reasons.replace(*row, self.chunk.id.attempt, refusal));
    }

    /// A refusal of these records, with their sensitive values masked.
    pub(super) fn discreet(&self, rows: &[u32], mut refusal: Refusal) -> Refusal {
        self.make_discreet(rows, &mut [&mut refusal]);
        refusal
    }

    /// Masks the sensitive values of all records that were sent together: a destination may say of one what another holds.
    fn make_discreet(&self, rows: &[u32], refusals: &mut [&mut Refusal]) {
        self.account.make_discreet(refusals, sensitive(self.table, rows));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{chunk, hubspot, keys};

    #[test]
    fn one_more_try_is_given_once_and_a_job_has_had_it_before() {
        let account = Account::open(&hubspot(), &keys("s3cret").0).unwrap();
        let table = Table { rows: 2, ..Table::default() };
        let once = || Outcome::Retry { refusal: Refusal::transient("TAKEN", "it is taken"), again: Again::Once };
        for (bulk, tries, first) in [(false, 5, true), (true, 0, true), (true, 1, false)] {
            let chunk = ChunkV1 { bulk, tries, ..chunk(1) };
            let mut book = Book::new(&account, &chunk, &table);
            book.done(&[1], vec![once()]);
            assert_eq!(book.again == [1], first, "bulk {bulk}, {tries} tries");
            book.again.clear();
            book.done(&[1], vec![once()]);
            assert!(book.again.is_empty());
            assert_eq!(book.report.statuses, [Status::Remaining as u8, Status::Rejected as u8]);
            let class = book.report.reasons.of(1).map(|refusal| refusal.class);
            assert_eq!(class, Some(ErrorClass::RejectRecord));
        }
    }
}
