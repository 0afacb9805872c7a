//! Where the chunks of a run under delivery stand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use outflow_model::id::{Attempt, AttemptId, ChunkNo, RunId};
use outflow_model::limit::Micros;
use outflow_model::outcome::{Refusal, Status};
use outflow_model::policy::ErrorClass;
use outflow_model::port::ledger::Chunk;
use outflow_model::port::{PortError, Result, Trouble};
use outflow_model::wire::{Next, ParkedV1, ReportV1};

use super::Stopped;
use super::poison::Poisoned;
use super::settle::SILENT;
use crate::project::DeliveryConfig;

/// Chunks in flight hold no more than this of the plan, in bytes.
const IN_FLIGHT: u64 = 64 * 1024 * 1024;
/// The board is looked at this often, where nothing else makes it move.
const PAUSE: Duration = Duration::from_millis(200);
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
    /// When a record got its outcome last, or the board was set up.
    progressed: Instant,
}

impl Board {
    /// The board of a run that begins, or goes on at `now`; with `outlived`, what an earlier process has published is still on
    /// its way.
    pub(super) fn new(
        chunks: Vec<Chunk>,
        outlived: bool,
        mut memory: Memory,
        delivery: &DeliveryConfig,
        now: Micros,
    ) -> Self {
        let seen = Instant::now();
        let chunks: Vec<Chunk> = chunks.into_iter().map(|chunk| in_time(chunk, now)).collect();
        let (mut in_flight, mut waiting) = (BTreeMap::new(), BTreeSet::new());
        // What another process has given up stays so, but for what it would have had to wait for and is due by now.
        let given_up = |chunk: &&Chunk| match &chunk.ended {
            Some((attempt, next)) if *attempt == chunk.attempt => match waits(next, chunk, delivery) {
                Wait::Over => true,
                Wait::TooLong => chunk.merged.waited() > delivery.max_wait() || chunk.not_before > now,
                Wait::Goes => false,
            },
            _ => false,
        };
        memory.given_up.extend(chunks.iter().filter(given_up).map(|chunk| chunk.number));
        let is_over = |chunk: &&Chunk| chunk.merged.is_final() || memory.given_up.contains(&chunk.number);
        for chunk in chunks.iter().filter(|chunk| !is_over(chunk)) {
            let ended = chunk.ended.as_ref().map_or(0, |(attempt, _)| *attempt);
            // Also what ended before all was heard that its worker had announced.
            if outlived && (chunk.attempt > ended || chunk.merged.is_unheard(chunk.attempt)) {
                let rows = chunk.merged.remaining();
                in_flight.insert(chunk.number, InFlight { attempt: chunk.attempt, rows, seen });
            } else {
                waiting.insert(chunk.number);
            }
        }
        let settled = chunks.iter().map(settled).sum();
        let chunks = chunks.into_iter().map(|chunk| (chunk.number, light(chunk))).collect();
        Self { chunks, in_flight, waiting, memory, stopped: None, paused: false, settled, progressed: seen }
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

    /// How long nothing is to be done, unless something is heard.
    pub(super) fn pause(&self, now: Micros) -> Duration {
        let waiting = self.waiting.iter().filter_map(|number| self.chunks.get(number));
        match waiting.map(|chunk| chunk.not_before).min() {
            // What may not be sent is due in vain.
            Some(due) if self.in_flight.is_empty() && self.may_send() => {
                Duration::from_micros((due - now).max(0) as u64).min(PAUSE)
            }
            _ => PAUSE,
        }
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

    /// Whether no record of the run has had an outcome since a chunk, which has waited for too long, began to wait: what the others
    /// would wait for is the same.
    pub(super) fn is_exhausted_by(&self, chunk: &Chunk, delivery: &DeliveryConfig) -> bool {
        let asked = match chunk.ended {
            Some((_, Next::Again { after, .. })) => after,
            _ => 0,
        };
        let waited = (chunk.merged.waited() - asked).max(0);
        2 * waited >= delivery.max_wait() && self.progressed.elapsed() >= Duration::from_micros(waited as u64)
    }

    /// Takes a joined chunk in; a conflict where another coordinator has published it since: the run is that one's by now.
    pub(super) fn put(&mut self, chunk: Chunk) -> Result<()> {
        if self.chunks.get(&chunk.number).is_some_and(|known| known.attempt < chunk.attempt) {
            let context = format!("Cannot settle chunk {}: another coordinator has published it again", chunk.number);
            return Err(PortError::new(Trouble::Conflict, context));
        }
        let before = self.chunks.get(&chunk.number).map_or(0, settled);
        let more = settled(&chunk) - before.min(settled(&chunk));
        if more > 0 {
            self.settled += more;
            self.progressed = Instant::now();
        }
        self.chunks.insert(chunk.number, light(chunk));
        Ok(())
    }
}

/// The chunk, due no later than its delivery asked for: a clock that was set back since has moved nothing.
fn in_time(chunk: Chunk, now: Micros) -> Chunk {
    let asked = match &chunk.ended {
        Some((_, Next::Again { after, .. })) => *after,
        _ => 0,
    };
    Chunk { not_before: chunk.not_before.min(now + asked.max(SILENT)), ..chunk }
}

/// A chunk without what only the fold needs of it: a board holds every chunk of its run.
pub(super) fn light(mut chunk: Chunk) -> Chunk {
    chunk.merged.forget_details();
    chunk
}

/// Whether what is left of a chunk is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// It is.
    Goes,
    /// Not in this run: it would wait for too long.
    TooLong,
    /// Not in this run: it was tried often enough.
    Over,
}

/// Whether what `next` asks for is done in this run. A chunk's records wait together, and all of their waits count.
pub(super) fn waits(next: &Next, chunk: &Chunk, delivery: &DeliveryConfig) -> Wait {
    let Next::Again { after, counted, parked, class } = next else { return Wait::Goes };
    // A delivery that waits for the destination's own work is not held up by a limit.
    let works = parked.is_some() && *class == ErrorClass::Backoff;
    if *counted && chunk.tries >= delivery.tries {
        Wait::Over
    } else if chunk.merged.waited() > delivery.max_wait() || (!works && *after > delivery.max_wait()) {
        Wait::TooLong
    } else {
        Wait::Goes
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

/// The records of a chunk without a final outcome.
pub(super) fn remaining(chunk: &Chunk) -> BTreeSet<u32> {
    (0..chunk.rows).filter(|row| chunk.merged.status(*row) == Status::Remaining).collect()
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
            message: "It may have been sent: its process ended, or stood still for too long, before the answer"
                .to_owned(),
        };
        report.reasons.set(*row, chunk.attempt, &refusal);
    }
    report
}

/// A report that names the record which ends its worker.
pub(super) fn poison(run: &RunId, chunk: &Chunk, row: u32) -> ReportV1 {
    let id = AttemptId { run: run.clone(), chunk: chunk.number, attempt: chunk.attempt };
    let mut report = ReportV1::empty(id, chunk.rows, Next::Continue);
    let refusal = Refusal::transient("POISON", "Each worker that delivered this record ended before it could report");
    report.reasons.set(row, chunk.attempt, &refusal);
    report
}

#[cfg(test)]
mod tests {
    use outflow_model::change::{Change, Operation};
    use outflow_model::merge::Merged;

    use super::*;

    const HOUR: Micros = 3_600_000_000;

    /// A chunk whose delivery has ended with `next` at noon.
    fn chunk(number: ChunkNo, tries: u32, next: Next) -> Chunk {
        let after = if let Next::Again { after, .. } = next { after } else { 0 };
        Chunk {
            number,
            change: Change::Add,
            operation: Operation::Upsert,
            rows: 3,
            offset: 0,
            length: 1,
            attempt: 1,
            tries,
            not_before: 12 * HOUR + after,
            requests: 0,
            parked: None,
            ended: Some((1, next)),
            merged: Merged::new(3),
        }
    }

    fn again(after: Micros, counted: bool) -> Next {
        Next::Again { after, counted, parked: None, class: ErrorClass::Quota }
    }

    /// What a process that goes on with them waits for.
    fn waiting(chunks: Vec<Chunk>, now: Micros) -> Vec<ChunkNo> {
        let board = Board::new(chunks, true, Memory::default(), &DeliveryConfig::default(), now);
        board.waiting.into_iter().collect()
    }

    #[test]
    fn what_ended_before_all_was_heard_of_it_is_not_sent_again() {
        let mut lost = chunk(0, 1, Next::Lost);
        let id = AttemptId { run: RunId::new(1, 1), chunk: 0, attempt: 1 };
        lost.merged.join(&ReportV1 { announced: 2, ..ReportV1::empty(id.clone(), 3, Next::Lost) });
        let announcement = |number, row| ReportV1 {
            intents: vec![(number, vec![row])],
            ..ReportV1::empty(id.clone(), 3, Next::Continue)
        };
        lost.merged.join(&announcement(1, 0));
        assert!(waiting(vec![lost.clone()], 13 * HOUR).is_empty(), "the second announcement is on its way");
        lost.merged.join(&announcement(2, 1));
        assert_eq!(waiting(vec![lost], 13 * HOUR), [0]);
    }

    #[test]
    fn what_is_due_while_its_account_is_paused_is_waited_for_all_the_same() {
        let due = vec![chunk(0, 0, Next::Done)];
        let mut board = Board::new(due, true, Memory::default(), &DeliveryConfig::default(), 13 * HOUR);
        assert_eq!(board.pause(13 * HOUR), Duration::ZERO);
        assert_eq!(board.pause(12 * HOUR - 1), Duration::from_micros(1));
        board.paused = true;
        assert_eq!(board.pause(13 * HOUR), PAUSE);
    }

    #[test]
    fn a_chunk_that_another_coordinator_has_published_is_a_conflict() {
        let (known, delivery) = (chunk(0, 0, Next::Done), DeliveryConfig::default());
        let mut board = Board::new(vec![known.clone()], true, Memory::default(), &delivery, 13 * HOUR);
        assert!(board.put(known.clone()).is_ok());
        let newer = Chunk { attempt: 2, ..known };
        assert!(board.put(newer).is_err_and(|error| error.trouble == Trouble::Conflict));
        assert_eq!(board.chunks.get(&0).map(|chunk| chunk.attempt), Some(1), "it is not taken for one's own");
    }

    #[test]
    fn a_clock_that_was_set_back_holds_no_chunk_up() {
        let board = Board::new(
            vec![chunk(0, 0, again(1_000_000, false))],
            true,
            Memory::default(),
            &DeliveryConfig::default(),
            9 * HOUR,
        );
        assert_eq!(board.due(9 * HOUR + 1_000_000, 1), [0], "it was asked to wait for a second");
    }

    #[test]
    fn what_one_process_has_given_up_no_other_waits_for() {
        let waited = |number, waits| {
            let mut chunk = chunk(number, 0, again(0, false));
            let id = AttemptId { run: RunId::new(1, 1), chunk: number, attempt: 1 };
            chunk.merged.join(&ReportV1 { waits, ..ReportV1::empty(id, 3, Next::Continue) });
            chunk
        };
        let chunks = || {
            let most = DeliveryConfig::default().tries;
            vec![
                chunk(0, 1, again(0, true)),
                chunk(1, 0, again(HOUR, false)),
                chunk(2, most, again(0, true)),
                chunk(3, 0, Next::Done),
                waited(4, HOUR),
                waited(5, HOUR / 8),
            ]
        };
        assert_eq!(waiting(chunks(), 12 * HOUR + 1), [0, 3, 5], "an hour is too long, and so many tries are enough");
        assert_eq!(
            waiting(chunks(), 14 * HOUR),
            [0, 1, 3, 5],
            "what had to wait is due by now, unless it has waited enough"
        );
    }
}
