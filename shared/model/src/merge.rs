//! Settling: reports merged into what is known of a chunk. A join: idempotent, and the same in any order.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::column::Column;
use crate::id::Attempt;
use crate::limit::Micros;
use crate::outcome::{Refusal, Status};
use crate::reasons::Reasons;
use crate::wire::ReportV1;

/// What is known of a chunk's records, from every report of every delivery of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Merged {
    /// One [`Status`] byte per record.
    #[serde(with = "serde_bytes")]
    statuses: Vec<u8>,
    /// The destination's record ids, where told.
    ids: Option<Column>,
    /// Why records did not succeed.
    reasons: Reasons,
    /// Requests announced before they left, by attempt and number.
    intents: BTreeMap<(Attempt, u32), Vec<u32>>,
    /// Announced requests whose answer is known.
    resolved: BTreeSet<(Attempt, u32)>,
    /// By attempt, how many requests somebody else says were announced.
    #[serde(default)]
    announced: BTreeMap<Attempt, u32>,
    /// By attempt, how long its records waited, in microseconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    waits: BTreeMap<Attempt, Micros>,
}

impl Merged {
    /// Nothing known of `rows` records.
    pub fn new(rows: u32) -> Self {
        Self { statuses: vec![Status::Remaining as u8; rows as usize], ..Self::default() }
    }

    /// `rows` records that are not sent, since what was to be done does not apply to them.
    pub fn skipped(rows: u32) -> Self {
        Self { statuses: vec![Status::Skipped as u8; rows as usize], ..Self::default() }
    }

    /// Merges `report`. Records that it does not know keep their status.
    pub fn join(&mut self, report: &ReportV1) {
        let attempt = report.id.attempt;
        if let Some(theirs) = &report.ids {
            self.join_ids(theirs, &report.statuses);
        }
        for (mine, theirs) in self.statuses.iter_mut().zip(&report.statuses) {
            *mine = (*mine).max(Status::from_byte(*theirs) as u8);
        }
        self.reasons.join(&report.reasons);
        self.intents.extend(report.intents.iter().map(|(number, rows)| ((attempt, *number), rows.clone())));
        self.resolved.extend(report.resolved.iter().map(|number| (attempt, *number)));
        if report.announced > 0 {
            let announced = self.announced.entry(attempt).or_default();
            *announced = report.announced.max(*announced);
        }
        if report.waits > 0 {
            let waits = self.waits.entry(attempt).or_default();
            *waits = report.waits.max(*waits);
        }
    }

    fn join_ids(&mut self, theirs: &Column, statuses: &[u8]) {
        let mut ids = Column::with_capacity(theirs.kind(), self.statuses.len());
        for row in 0..self.statuses.len() {
            let told = theirs.cell(row);
            let known = self.ids.as_ref().map_or(crate::cell::Cell::Null, |ids| ids.cell(row));
            let theirs_hold = statuses.get(row).is_some_and(|status| Status::from_byte(*status) == Status::Succeeded);
            ids.push(if theirs_hold && known.is_null() { told } else { known });
        }
        self.ids = Some(ids);
    }

    /// Where record `row` stands. A record announced and never resolved is unknown, unless something better is known.
    pub fn status(&self, row: u32) -> Status {
        self.statuses.get(row as usize).map_or(Status::Remaining, |status| Status::from_byte(*status))
    }

    /// Records that were announced and whose answer never came.
    pub fn undecided(&self) -> BTreeSet<u32> {
        let open = self.intents.iter().filter(|(intent, _)| !self.resolved.contains(intent));
        open.flat_map(|(_, rows)| rows).copied().filter(|row| self.status(*row) < Status::Unknown).collect()
    }

    /// True where a request of an attempt was announced and the announcement has not been heard yet: it is on its way.
    pub fn is_unheard(&self, attempt: Attempt) -> bool {
        let heard = self.intents.range((attempt, 0)..=(attempt, u32::MAX)).count();
        self.announced.get(&attempt).is_some_and(|announced| *announced as usize > heard)
    }

    /// How long the records have waited in all, in microseconds: records of a chunk wait together.
    pub fn waited(&self) -> Micros {
        self.waits.values().sum()
    }

    /// Declares records that will not be heard of again unknown.
    pub fn give_up(&mut self, rows: &BTreeSet<u32>) {
        for row in rows {
            if let Some(status) = self.statuses.get_mut(*row as usize) {
                *status = (*status).max(Status::Unknown as u8);
            }
        }
    }

    /// Records without a final status, by place.
    pub fn remaining(&self) -> Vec<u32> {
        let open = self.statuses.iter().enumerate().filter(|(_, status)| **status == Status::Remaining as u8);
        open.map(|(row, _)| row as u32).collect()
    }

    /// True where every record has its final status.
    pub fn is_final(&self) -> bool {
        !self.statuses.contains(&(Status::Remaining as u8))
    }

    /// Why record `row` did not succeed, as last told.
    pub fn refusal(&self, row: u32) -> Option<&Refusal> {
        self.reasons.of(row)
    }

    /// The destination's id of record `row`, where told.
    pub fn record_id(&self, row: u32) -> Option<&str> {
        match self.ids.as_ref()?.cell(row as usize) {
            crate::cell::Cell::Text(id) => Some(id),
            _ => None,
        }
    }

    /// Forgets reasons and record ids, which are large: whoever needs them reads them where they are kept.
    pub fn forget_details(&mut self) {
        self.reasons = Reasons::default();
        self.ids = None;
    }

    /// How many records it is about.
    pub const fn rows(&self) -> u32 {
        self.statuses.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::{AttemptId, RunId};
    use crate::wire::Next;

    const ROWS: u32 = 5;

    /// Any number, the same for the same statuses.
    fn number_of(statuses: &[u8]) -> u8 {
        statuses.iter().sum()
    }

    fn report() -> impl Strategy<Value = ReportV1> {
        let statuses = proptest::collection::vec(0_u8..5, ROWS as usize);
        let intents = proptest::collection::vec((0_u32..3, proptest::collection::vec(0..ROWS, 0..3)), 0..2);
        (1_u32..4, statuses, intents, proptest::collection::vec(0_u32..3, 0..2)).prop_map(
            |(attempt, statuses, intents, resolved)| {
                let id = AttemptId { run: RunId::new(0, 0), chunk: 0, attempt };
                let intents = intents.into_iter().map(|(number, _)| (number, vec![number % ROWS])).collect();
                let refusal = Refusal::rejected(format!("code {attempt}"), "");
                let waits = Micros::from(number_of(&statuses));
                let mut report =
                    ReportV1 { statuses, intents, resolved, waits, ..ReportV1::empty(id, ROWS, Next::Done) };
                report.reasons.set(attempt % ROWS, attempt, &refusal);
                report
            },
        )
    }

    proptest! {
        #[test]
        fn settling_twice_or_in_any_order_gives_the_same(reports in proptest::collection::vec(report(), 1..6)) {
            let settle = |order: &mut dyn Iterator<Item = &ReportV1>| {
                let mut merged = Merged::new(ROWS);
                order.for_each(|report| merged.join(report));
                merged
            };
            let once = settle(&mut reports.iter());
            prop_assert_eq!(&once, &settle(&mut reports.iter().rev()));
            prop_assert_eq!(&once, &settle(&mut reports.iter().chain(&reports)));
        }
    }

    #[test]
    fn waits_of_several_attempts_add_up_and_are_counted_once() {
        let waits = |attempt, waits| {
            let id = AttemptId { run: RunId::new(0, 0), chunk: 0, attempt };
            ReportV1 { waits, ..ReportV1::empty(id, ROWS, Next::Continue) }
        };
        let mut merged = Merged::new(ROWS);
        [waits(1, 5), waits(1, 7), waits(1, 7), waits(2, 4)].iter().for_each(|report| merged.join(report));
        assert_eq!(merged.waited(), 11);
    }

    #[test]
    fn a_late_report_of_an_older_attempt_changes_no_reason() {
        let report = |attempt, code: &str| {
            let id = AttemptId { run: RunId::new(0, 0), chunk: 0, attempt };
            let mut report = ReportV1::empty(id, 1, Next::Done);
            report.reasons.set(0, attempt, &Refusal::rejected(code, ""));
            report
        };
        for order in [[(1, "OLD"), (2, "NEW")], [(2, "NEW"), (1, "OLD")]] {
            let mut merged = Merged::new(1);
            order.into_iter().for_each(|(attempt, code)| merged.join(&report(attempt, code)));
            assert_eq!(merged.refusal(0).map(|refusal| refusal.code.as_str()), Some("NEW"));
        }
    }

    #[test]
    fn an_announced_request_without_an_answer_is_undecided_until_it_is_resolved() {
        let id = AttemptId { run: RunId::new(0, 0), chunk: 0, attempt: 1 };
        let mut merged = Merged::new(2);
        let intent = ReportV1 { intents: vec![(0, vec![0, 1])], ..ReportV1::empty(id.clone(), 2, Next::Continue) };
        merged.join(&intent);
        assert_eq!(merged.undecided(), BTreeSet::from([0, 1]));
        let answer = ReportV1 {
            statuses: vec![Status::Succeeded as u8, Status::Remaining as u8],
            resolved: vec![0],
            ..ReportV1::empty(id, 2, Next::Done)
        };
        merged.join(&answer);
        assert!(merged.undecided().is_empty());
        assert_eq!(merged.remaining(), [1]);
    }
}
