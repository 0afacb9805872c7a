//! The accounting of a run, and the law that it closes.

use serde::{Deserialize, Serialize};

use crate::change::Change;

/// Totals of planned records of one change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// Records in the plan.
    pub planned: u64,
    /// Acknowledged by the destination.
    pub succeeded: u64,
    /// Did not apply, as the mode asked.
    pub skipped: u64,
    /// Refused by the destination.
    pub rejected: u64,
    /// Transient trouble outlasted the retry budget.
    pub deferred: u64,
    /// Sent without an answer, to a destination that cannot be repeated.
    pub unknown: u64,
    /// No outcome when the run stopped.
    pub aborted: u64,
}

impl Delivered {
    /// Records without a final word.
    pub const fn pending(&self) -> u64 {
        self.planned
            .saturating_sub(self.succeeded + self.skipped + self.rejected + self.deferred + self.unknown + self.aborted)
    }

    fn sum(parts: [&Self; 3]) -> Self {
        let mut total = Self::default();
        for part in parts {
            let Self { planned, succeeded, skipped, rejected, deferred, unknown, aborted } = *part;
            total.planned += planned;
            total.succeeded += succeeded;
            total.skipped += skipped;
            total.rejected += rejected;
            total.deferred += deferred;
            total.unknown += unknown;
            total.aborted += aborted;
        }
        total
    }
}

/// The accounting of one run, to the last row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Rows that the model returned.
    pub extracted: u64,
    /// Rows equal to what was acknowledged.
    pub unchanged: u64,
    /// Rows whose change the mode does not send.
    pub ignored: u64,
    /// Rows refused or unknown in an earlier run, and still so.
    pub withheld: u64,
    /// Rows that Outflow refused before planning.
    pub invalid: u64,
    /// Rows in the snapshot that the model no longer has.
    pub missing: u64,
    /// Of `missing`: the mode does not send removes, or they cannot be addressed.
    pub missing_ignored: u64,
    /// Of `missing_ignored`: rows that cannot be addressed, since their keys are not known.
    #[serde(default)]
    pub missing_invalid: u64,
    /// Of `missing`: withheld.
    pub missing_withheld: u64,
    /// Of `missing_withheld`: only since a row without a readable key may be any of them.
    #[serde(default)]
    pub missing_unsure: u64,
    /// Of `invalid`: rows whose key is null or cannot be read.
    #[serde(default)]
    pub keyless: u64,
    /// Delivery of added rows.
    pub add: Delivered,
    /// Delivery of changed rows.
    pub change: Delivered,
    /// Delivery of removed rows.
    pub remove: Delivered,
}

impl Tally {
    /// The delivery of `change`.
    pub const fn delivered(&self, change: Change) -> &Delivered {
        match change {
            Change::Add => &self.add,
            Change::Change => &self.change,
            Change::Remove => &self.remove,
        }
    }

    /// The delivery of `change`, to count into.
    pub const fn delivered_mut(&mut self, change: Change) -> &mut Delivered {
        match change {
            Change::Add => &mut self.add,
            Change::Change => &mut self.change,
            Change::Remove => &mut self.remove,
        }
    }

    /// Delivery of all changes together.
    pub fn total(&self) -> Delivered {
        Delivered::sum([&self.add, &self.change, &self.remove])
    }

    /// The laws of a plan: every extracted and every missing row is accounted for once.
    pub fn plan_closes(&self) -> Result<(), String> {
        let present =
            self.unchanged + self.ignored + self.withheld + self.invalid + self.add.planned + self.change.planned;
        if self.extracted != present {
            return Err(format!("{} rows were extracted, but {present} are accounted for", self.extracted));
        }
        let missing = self.missing_ignored + self.missing_withheld + self.remove.planned;
        if self.missing != missing {
            return Err(format!("{} rows are missing, but {missing} are accounted for", self.missing));
        }
        Ok(())
    }

    /// The laws of an ended run: those of its plan, and nothing planned is pending.
    pub fn closes(&self) -> Result<(), String> {
        self.plan_closes()?;
        for change in Change::ALL {
            let Delivered { planned, succeeded, skipped, rejected, deferred, unknown, aborted } =
                *self.delivered(change);
            let ended = succeeded + skipped + rejected + deferred + unknown + aborted;
            if planned != ended {
                return Err(format!("{planned} records were planned to {}, but {ended} have ended", change.name()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_row_is_noticed() {
        let mut tally = Tally { extracted: 3, unchanged: 1, ..Tally::default() };
        tally.add.planned = 2;
        assert!(tally.plan_closes().is_ok());
        tally.add.succeeded = 1;
        assert_eq!(tally.add.pending(), 1);
        assert!(tally.closes().is_err());
        tally.add.rejected = 1;
        assert!(tally.closes().is_ok());
        tally.missing = 1;
        assert!(tally.plan_closes().is_err());
    }
}
