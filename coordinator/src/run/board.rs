//! Where the chunks of a run under delivery stand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use outflow_model::id::{Attempt, AttemptId, ChunkNo, RunId};
use outflow_model::limit::Micros;
use outflow_model::outcome::{Refusal, Status};
use outflow_model::policy::ErrorClass;
use outflow_model::port::ledger::Chunk;
use outflow_model::wire::{Next, ParkedV1, ReportV1, RowRefusal};

use super::Stopped;
use super::poison::Poisoned;

/// Chunks in flight hold no more than this of the plan, in bytes.
const IN_FLIGHT: u64 = 64 * 1024 * 1024;
/// A publication of a chunk that a worker has, or will get.
pub(super) struct InFlight {
    pub(super) attempt: Attempt,
    /// The records in its message.
    pub(super) rows: Vec<u32>,
    /// When it was published, or was last seen in a worker's hands.
    pub(super) seen: Instant,
}

/// What a delivery has learned that the ledger does not tell; it outlives a service that was away.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) poisoned: Poisoned,
    /// Chunks that are tried no more: what remains of them is deferred.
    pub(super) given_up: BTreeSet<ChunkNo>,
}

/// The chunks of a run under delivery.
pub(super) struct Board {
    pub(super) chunks: BTreeMap<ChunkNo, Chunk>,
    /// Published, and not yet reported on to the end.
    pub(super) in_flight: BTreeMap<ChunkNo, InFlight>,
    /// Not final, and not in flight.
    pub(super) waiting: BTreeSet<ChunkNo>,
    pub(super) memory: Memory,
    pub(super) stopped: Option<Stopped>,
    /// Nothing is sent to the account for now.
    pub(super) paused: bool,
    pub(super) settled: u64,
}

impl Board {
    /// The board of a run that begins, or goes on; with `outlived`, what an earlier process has published is still on its
    /// way.
    pub(super) fn new(chunks: Vec<Chunk>, outlived: bool, memory: Memory) -> Self {
        let seen = Instant::now();
        let (mut in_flight, mut waiting) = (BTreeMap::new(), BTreeSet::new());
        let is_over = |chunk: &&Chunk| chunk.merged.is_final() || memory.given_up.contains(&chunk.number);
        for chunk in chunks.iter().filter(|chunk| !is_over(chunk)) {
            let ended = chunk.ended.as_ref().map_or(0, |(attempt, _)| *attempt);
            if outlived && chunk.attempt > ended {
                let rows = chunk.merged.remaining();
                in_flight.insert(chunk.number, InFlight { attempt: chunk.attempt, rows, seen });
            } else {
                waiting.insert(chunk.number);
            }
        }
        let settled = chunks.iter().map(settled).sum();
        let chunks = chunks.into_iter().map(|chunk| (chunk.number, chunk)).collect();
        Self { chunks, in_flight, waiting, memory, stopped: None, paused: false, settled }
    }

    /// Whether anything more may be sent.
    pub(super) fn may_send(&self) -> bool {
        self.stopped.is_none() && !self.paused
    }

    /// The waiting chunks that may be published now: at most `room`, and no more bytes in flight than allowed.
    pub(super) fn due(&self, now: Micros, room: usize) -> Vec<ChunkNo> {
        let length = |number: &ChunkNo| self.chunks.get(number).map_or(0, |chunk| chunk.length);
        let mut bytes: u64 = self.in_flight.keys().map(length).sum();
        let is_due = |number: &&ChunkNo| self.chunks.get(*number).is_some_and(|chunk| chunk.not_before <= now);
        let due = self.waiting.iter().filter(is_due).take(room);
        due.take_while(|number| {
            let first = bytes == 0;
            bytes += length(number);
            first || bytes <= IN_FLIGHT
        })
        .copied()
        .collect()
    }

    /// Chunks that a worker could deliver now: those in flight, and those that wait for nothing but their turn.
    pub(super) fn runnable(&self, now: Micros) -> usize {
        if !self.may_send() {
            return self.in_flight.len();
        }
        let waiting = self.waiting.iter().filter_map(|number| self.chunks.get(number));
        self.in_flight.len() + waiting.filter(|chunk| chunk.not_before <= now).count()
    }

    /// When the next waiting chunk is due.
    pub(super) fn next_due(&self) -> Option<Micros> {
        self.waiting.iter().filter_map(|number| self.chunks.get(number)).map(|chunk| chunk.not_before).min()
    }

    /// Publishes what is left of a chunk at `due`; what was given up stays behind.
    pub(super) fn wait_for_rest(&mut self, number: ChunkNo, due: Micros) {
        let Some(chunk) = self.chunks.get_mut(&number) else { return };
        if self.memory.poisoned.cut(number, chunk.merged.remaining()).is_empty() {
            self.memory.given_up.insert(number);
        } else {
            chunk.not_before = due;
            self.waiting.insert(number);
        }
    }

    /// Takes a joined chunk in.
    pub(super) fn put(&mut self, chunk: Chunk) {
        let before = self.chunks.get(&chunk.number).map_or(0, settled);
        self.settled += settled(&chunk) - before.min(settled(&chunk));
        self.chunks.insert(chunk.number, chunk);
    }
}

/// Records of a chunk that have a final outcome.
pub(super) fn settled(chunk: &Chunk) -> u64 {
    u64::from(chunk.rows) - chunk.merged.remaining().len() as u64
}

/// True where every record of a parked delivery is still without an outcome.
pub(super) fn is_open(chunk: &Chunk, parked: &ParkedV1) -> bool {
    parked.rows.iter().all(|row| chunk.merged.status(*row) == Status::Remaining)
}

/// A report that declares records unknown.
pub(super) fn unknown(run: &RunId, chunk: &Chunk, rows: &BTreeSet<u32>) -> ReportV1 {
    let id = AttemptId { run: run.clone(), chunk: chunk.number, attempt: chunk.attempt };
    let mut report = ReportV1::empty(id, chunk.rows, Next::Continue);
    for row in rows {
        if let Some(status) = report.statuses.get_mut(*row as usize) {
            *status = Status::Unknown as u8;
        }
        let refusal = Refusal {
            class: ErrorClass::Unknown,
            code: "NO_ANSWER".to_owned(),
            message: "Sent, but the process ended before the answer".to_owned(),
        };
        report.refusals.push(RowRefusal { row: *row, refusal });
    }
    report
}

/// A report that names the record which ends its worker.
pub(super) fn poison(run: &RunId, chunk: &Chunk, row: u32) -> ReportV1 {
    let id = AttemptId { run: run.clone(), chunk: chunk.number, attempt: chunk.attempt };
    let mut report = ReportV1::empty(id, chunk.rows, Next::Continue);
    let refusal = Refusal::transient("POISON", "Each worker that delivered this record ended before it could report");
    report.refusals.push(RowRefusal { row, refusal });
    report
}
