//! What the ledger says of all runs together.

use std::collections::BTreeMap;

use anyhow::Result;
use outflow_backends::PostgresLedger;
use outflow_model::port::ledger::Runs;
use serde_json::{Value, json};

use crate::measure::round;

/// Every run of a soak.
#[derive(Default)]
pub(super) struct Books {
    states: BTreeMap<&'static str, u64>,
    planned: u64,
    succeeded: u64,
    deferred: u64,
    rejected: u64,
    unknown: u64,
    longest: f64,
    /// Runs that have not ended, or whose accounting does not close, and why.
    open: Vec<String>,
    /// Why runs failed.
    reasons: BTreeMap<String, u64>,
}

impl Books {
    pub(super) async fn of(ledger: &PostgresLedger) -> Result<Self> {
        let mut books = Self::default();
        for run in ledger.runs(None, u32::MAX >> 1).await? {
            *books.states.entry(run.state.name()).or_default() += 1;
            let total = run.tally.total();
            books.planned += total.planned;
            books.succeeded += total.succeeded + total.skipped;
            books.deferred += total.deferred;
            books.rejected += total.rejected;
            books.unknown += total.unknown;
            books.longest = books.longest.max((run.ended.unwrap_or(run.requested) - run.requested) as f64 / 1e6);
            match run.tally.closes() {
                Ok(()) if run.state.is_end() => {}
                Ok(()) => books.open.push(format!("{} is {}", run.id, run.state.name())),
                Err(why) => books.open.push(format!("{}: {why}", run.id)),
            }
            if let Some(reason) = run.reason {
                *books.reasons.entry(reason).or_default() += 1;
            }
        }
        Ok(books)
    }

    /// True where every run has ended and every record that was planned has an end.
    pub(super) const fn close(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "states": self.states, "records_planned": self.planned, "records_succeeded": self.succeeded,
            "records_deferred": self.deferred, "records_rejected": self.rejected, "records_unknown": self.unknown,
            "longest_seconds": round(self.longest), "open_books": self.open, "reasons": self.reasons,
        })
    }
}
