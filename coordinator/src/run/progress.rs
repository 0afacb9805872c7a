//! How far a run has come.

use outflow_model::port::ledger::Chunk;
use outflow_model::run::RunState;

use super::board::settled;

/// What a run is doing right now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Where it stands.
    pub state: Option<RunState>,
    /// Rows read from the source.
    pub extracted: u64,
    /// Records in the plan.
    pub planned: u64,
    /// Records with a final outcome.
    pub settled: u64,
    /// Chunks published and not yet reported on.
    pub in_flight: usize,
    /// Chunks that wait for a limit or for their next try.
    pub waiting: usize,
    /// How much of the time of late deliveries went into waiting for the limiter, from 0 to 1, where that is known.
    pub held_back: Option<f64>,
}

impl Progress {
    /// Adds chunks of a run that another process executes, as the ledger knows them.
    pub fn add(&mut self, chunks: &[Chunk]) {
        let open = |chunk: &&Chunk| !chunk.merged.is_final();
        let under_way = |chunk: &&Chunk| chunk.attempt > chunk.ended.as_ref().map_or(0, |(attempt, _)| *attempt);
        let (in_flight, waiting): (Vec<_>, Vec<_>) = chunks.iter().filter(open).partition(under_way);
        self.planned += chunks.iter().map(|chunk| u64::from(chunk.rows)).sum::<u64>();
        self.settled += chunks.iter().map(settled).sum::<u64>();
        self.in_flight += in_flight.len();
        self.waiting += waiting.len();
    }
}
