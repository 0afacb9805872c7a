//! What operators see of runs, as figures.

use metrics::{Gauge, counter, gauge};
use outflow_model::limit::Micros;
use outflow_model::port::ledger::Run;
use outflow_model::run::RunState;
use outflow_model::tally::{Delivered, Tally};

use super::board::Board;

/// Where a run under delivery stands: gauges that fall to zero when nobody delivers it here any more.
pub(super) struct Standing {
    in_flight: Gauge,
    runnable: Gauge,
    left: Gauge,
    planned: u64,
}

impl Standing {
    pub(super) fn of(run: &Run) -> Self {
        let (lane, sync) = (&run.destination, &run.sync);
        Self {
            in_flight: gauge!("outflow_chunks_in_flight", "lane" => lane.clone(), "sync" => sync.clone()),
            runnable: gauge!("outflow_chunks_runnable", "lane" => lane.clone(), "sync" => sync.clone()),
            left: gauge!("outflow_records_left", "lane" => lane.clone(), "sync" => sync.clone()),
            planned: run.tally.total().planned,
        }
    }

    pub(super) fn show(&self, board: &Board, now: Micros) {
        self.in_flight.set(board.in_flight.len() as f64);
        self.runnable.set(board.runnable(now) as f64);
        self.left.set(self.planned.saturating_sub(board.settled) as f64);
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        for gauge in [&self.in_flight, &self.runnable, &self.left] {
            gauge.set(0.0);
        }
    }
}

/// Counts an ended run and its records.
pub(super) fn count_ended(run: &Run, state: RunState, tally: &Tally) {
    count_run(&run.destination, state, 1);
    count_records(&run.destination, &tally.total());
}

/// Begins a lane's counters at zero: of one that begins higher nobody sees the first step.
pub(crate) fn begin(lane: &str) {
    for state in [RunState::Succeeded, RunState::Partial, RunState::Failed, RunState::Cancelled] {
        count_run(lane, state, 0);
    }
    count_records(lane, &Delivered::default());
}

fn count_run(lane: &str, state: RunState, times: u64) {
    counter!("outflow_runs_total", "lane" => lane.to_owned(), "state" => state.name()).increment(times);
}

fn count_records(lane: &str, total: &Delivered) {
    for (outcome, records) in [
        ("succeeded", total.succeeded),
        ("skipped", total.skipped),
        ("rejected", total.rejected),
        ("deferred", total.deferred),
        ("unknown", total.unknown),
        ("aborted", total.aborted),
    ] {
        counter!("outflow_records_total", "lane" => lane.to_owned(), "outcome" => outcome).increment(records);
    }
}
