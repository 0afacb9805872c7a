//! What the ledger says of all runs together.

use std::collections::BTreeMap;

use anyhow::Result;
use outflow_backends::PostgresLedger;
use outflow_model::port::ledger::Runs;
use serde_json::{Value, json};

use crate::measure::round;

/// So many of the longest runs are shown.
const SHOWN: usize = 5;

/// Every run of a soak.
#[derive(Default)]
pub(super) struct Books {
    states: BTreeMap<&'static str, u64>,
    planned: u64,
    succeeded: u64,
    deferred: u64,
    rejected: u64,
    unknown: u64,
    /// How long each run took and when it was asked for, in seconds since the first.
    lengths: Vec<(f64, f64)>,
    /// Runs that have not ended, or whose accounting does not close, and why.
    open: Vec<String>,
    /// Why runs failed.
    reasons: BTreeMap<String, u64>,
}

impl Books {
    pub(super) async fn of(ledger: &PostgresLedger) -> Result<Self> {
        let mut books = Self::default();
        let runs = ledger.runs(None, u32::MAX >> 1).await?;
        let first = runs.iter().map(|run| run.requested).min().unwrap_or_default();
        let seconds = |from, until| round((until - from) as f64 / 1e6);
        for run in runs {
            *books.states.entry(run.state.name()).or_default() += 1;
            let total = run.tally.total();
            books.planned += total.planned;
            books.succeeded += total.succeeded + total.skipped;
            books.deferred += total.deferred;
            books.rejected += total.rejected;
            books.unknown += total.unknown;
            let took = seconds(run.requested, run.ended.unwrap_or(run.requested));
            books.lengths.push((took, seconds(first, run.requested)));
            match run.tally.closes() {
                Ok(()) if run.state.is_end() => {}
                Ok(()) => books.open.push(format!("{} is {}", run.id, run.state.name())),
                Err(why) => books.open.push(format!("{}: {why}", run.id)),
            }
            if let Some(reason) = run.reason {
                *books.reasons.entry(reason).or_default() += 1;
            }
        }
        books.lengths.sort_by(|one, other| other.0.total_cmp(&one.0));
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
            "longest_seconds_and_when": self.lengths.get(..SHOWN).unwrap_or(&self.lengths), "open_books": self.open, "reasons": self.reasons,
        })
    }
}
