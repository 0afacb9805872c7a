//! Delivering a plan: publish chunks within a window, have reports settled, publish again what is left, until all is final.

use std::time::Duration;

use outflow_model::id::{ChunkNo, RunId};
use outflow_model::limit::Micros;
use outflow_model::policy::ErrorClass;
use outflow_model::port::ledger::{Chunk, Run, RunPatch};
use outflow_model::port::queue::Take;
use outflow_model::run::RunState;
use outflow_model::text::with_causes;
use outflow_model::wire::Next;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::board::{Board, Memory, light};
use super::figures::Standing;
use super::finish::page;
use super::{CANCELLED, Engine, EngineError, Finished, Signal, Start, Stopped};

/// A run's gate closes by itself when its owner has been silent for so long.
const GATE: Micros = 60_000_000;
const GATE_RENEWAL: Duration = Duration::from_secs(15);
/// So many times the chunks that one worker delivers at a time are in flight, where workers are many.
const MANY: usize = 16;
/// A service that is away is tried again after so long.
const AWAY: Duration = Duration::from_secs(1);
/// A cancel is looked for this often.
pub(crate) const LOOK: Duration = Duration::from_millis(500);

impl Engine {
    /// Delivers a planned run and ends it, unless it is interrupted.
    pub(super) async fn deliver(
        &self,
        run: Run,
        start: &Start,
        signal: watch::Receiver<Signal>,
        warnings: Vec<String>,
    ) -> Result<Finished, EngineError> {
        if run.state != RunState::Delivering {
            let patch = RunPatch { state: Some(RunState::Delivering), ..RunPatch::default() };
            self.ledger.patch(&run.id, run.state, patch).await?;
        }
        self.show(|progress| {
            progress.state = Some(RunState::Delivering);
            progress.planned = run.tally.total().planned;
        });
        let stopped = self.dispatch_on(&run, start, signal).await?;
        let state = match &stopped {
            Some(Stopped::Interrupted) => RunState::Interrupted,
            _ => RunState::Folding,
        };
        let cause = match &stopped {
            Some(Stopped::Fatal(refusal)) => Some(refusal.clone()),
            _ => None,
        };
        if let Some(refusal) = cause.as_ref().filter(|refusal| refusal.class == ErrorClass::RefreshAuth)
            && self.pauses_refused
        {
            self.pause_refused(&run.destination, refusal).await?;
        }
        let patch = RunPatch {
            state: Some(state),
            cancel: matches!(stopped, Some(Stopped::Cancelled)),
            failed: cause.is_some(),
            reason: self.reason(&run, start, stopped).await?,
            cause,
            ..RunPatch::default()
        };
        self.ledger.patch(&run.id, RunState::Delivering, patch).await?;
        if state == RunState::Interrupted {
            return self.finished(&run.id, warnings).await;
        }
        self.finish(&run.id, Some(start), warnings).await
    }

    /// Dispatches until every chunk is final or the run is stopped, and waits for a service that is away. Closes the gate at the end.
    async fn dispatch_on(
        &self,
        run: &Run,
        start: &Start,
        signal: watch::Receiver<Signal>,
    ) -> Result<Option<Stopped>, EngineError> {
        let mut memory = Memory::default();
        loop {
            let dispatched = match self.light_chunks(&run.id).await {
                Ok(chunks) => {
                    let (outlived, now) = (self.queue.outlives_processes(), self.clock.now());
                    let delivery = &start.sync.config.delivery;
                    let mut board = Board::new(chunks, outlived, std::mem::take(&mut memory), delivery, now);
                    let dispatched = self.dispatch(run, start, signal.clone(), &mut board).await;
                    memory = board.memory;
                    dispatched
                }
                Err(error) => Err(error),
            };
            match dispatched {
                // What is under way goes on without this process, and the ledger knows it: as good as a new start. The gate stays
                // as it is, so that what is published is delivered meanwhile.
                Err(error) if error.is_away() && self.queue.outlives_processes() && *signal.borrow() == Signal::Run => {
                    warn!(run = %run.id, error = with_causes(&error), "A service is away; the run waits for it");
                    tokio::time::sleep(AWAY).await;
                }
                // It is another coordinator's run by now, and so is its gate.
                Err(error) if error.is_conflict() => return Err(error),
                ended => {
                    // Nothing is under way any more: whatever comes yet is a copy, and finds nothing that lets it leave.
                    if let Err(error) = self.limiter.forget(&run.destination, &run.id).await {
                        warn!(run = %run.id, error = with_causes(&error), "The run's gate could not be closed; it closes by itself");
                    }
                    return ended;
                }
            }
        }
    }

    /// Why the run was stopped, for people.
    async fn reason(&self, run: &Run, start: &Start, stopped: Option<Stopped>) -> Result<Option<String>, EngineError> {
        Ok(match stopped {
            Some(Stopped::Fatal(refusal)) => {
                Some(format!("{} ({}): {}", refusal.class.code(), refusal.code, refusal.message))
            }
            Some(Stopped::Exhausted) => {
                let seconds = start.sync.config.delivery.max_wait_seconds;
                Some(format!(
                    "{} took nothing for `max_wait_seconds` ({seconds}); what is left is deferred",
                    run.destination
                ))
            }
            Some(Stopped::Cancelled) => {
                let told = self.ledger.run(&run.id).await?.and_then(|run| run.reason);
                Some(told.unwrap_or_else(|| CANCELLED.to_owned()))
            }
            Some(Stopped::Interrupted) | None => None,
        })
    }

    /// Every chunk of a run, without what only the fold needs.
    pub(super) async fn light_chunks(&self, run: &RunId) -> Result<Vec<Chunk>, EngineError> {
        let mut all: Vec<Chunk> = Vec::new();
        loop {
            let from = all.last().map_or(0, |last| last.number + 1);
            let some = page(self.ledger.as_ref(), run, from).await?;
            if some.is_empty() {
                return Ok(all);
            }
            all.extend(some.into_iter().map(light));
        }
    }

    /// Publishes and settles until every chunk is final, or the run is stopped: then why.
    async fn dispatch(
        &self,
        run: &Run,
        start: &Start,
        mut signal: watch::Receiver<Signal>,
        board: &mut Board,
    ) -> Result<Option<Stopped>, EngineError> {
        let (reports, mut news) = (self.queue.reports(), self.news.of(&run.id));
        let standing = Standing::of(run);
        // Shared by as many workers as there are.
        let share = if self.queue.outlives_processes() { MANY } else { 4 };
        let window = (start.sync.concurrency as usize * share).max(8);
        // By this machine's ticks: the ledger's clock may stand still.
        let (mut renewed, mut looked): (Option<Instant>, Option<Instant>) = (None, None);
        self.decide_lost(&run.id, board).await?;
        loop {
            let now = self.clock.now();
            if looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
                looked = Some(Instant::now());
                if self.ledger.run(&run.id).await?.is_some_and(|run| run.cancel) {
                    self.stop(run, board, Stopped::Cancelled).await?;
                }
                if self.heed_pause(run, board).await? {
                    renewed = None;
                }
                if self.queue.outlives_processes() {
                    let in_flight: Vec<ChunkNo> = board.in_flight.keys().copied().collect();
                    self.look(run, start, board, &in_flight).await?;
                }
                self.take_back(run, start, board).await?;
            }
            if *signal.borrow_and_update() == Signal::Interrupt {
                self.stop(run, board, Stopped::Interrupted).await?;
            }
            if board.stopped.is_none() && renewed.is_none_or(|renewed| renewed.elapsed() >= GATE_RENEWAL) {
                renewed = Some(Instant::now());
                // Either way its claims stay known.
                if board.paused {
                    self.limiter.close_gate(&run.destination, &run.id).await?;
                } else {
                    self.limiter.open_gate(&run.destination, &run.id, start.sync.concurrency, GATE).await?;
                }
            }
            if board.may_send() && board.in_flight.len() <= window / 2 {
                let due = board.due(now, window - board.in_flight.len());
                self.publish(run, start, board, &due).await?;
            }
            self.show(|progress| {
                progress.settled = board.settled;
                progress.in_flight = board.in_flight.len();
                progress.waiting = board.waiting.len();
            });
            standing.show(board, now);
            if board.in_flight.is_empty() && (board.stopped.is_some() || board.waiting.is_empty()) {
                return Ok(board.stopped.take());
            }
            let pause = board.pause(now);
            tokio::select! {
                first = reports.next(Take::Any) => {
                    let own = self.settle_reports(&run.id, reports.as_ref(), first?).await?;
                    self.conclude(run, start, board, own).await?;
                }
                Some(settled) = news.recv() => {
                    let mut settled = vec![settled];
                    settled.extend(std::iter::from_fn(|| news.try_recv().ok()));
                    self.look(run, start, board, &settled).await?;
                }
                () = tokio::time::sleep(pause) => {}
                changed = signal.changed() => if changed.is_err() { tokio::time::sleep(pause).await },
            }
        }
    }

    /// Closes the gate; what is in flight is settled, nothing more is published.
    pub(super) async fn stop(&self, run: &Run, board: &mut Board, why: Stopped) -> Result<(), EngineError> {
        if board.stopped.is_none() {
            info!(run = %run.id, why = why.name(), "The run stops; what is in flight is settled");
            board.stopped = Some(why);
            self.limiter.close_gate(&run.destination, &run.id).await?;
        }
        Ok(())
    }

    /// Requests that an earlier process announced and whose answer was lost with it: their records are unknown.
    async fn decide_lost(&self, run: &RunId, board: &mut Board) -> Result<(), EngineError> {
        // A worker that is still at it will tell of its own.
        let over: Vec<ChunkNo> = board.waiting.iter().copied().collect();
        for number in over {
            self.give_up(run, board, number, Next::Continue).await?;
            if board.chunks.get(&number).is_some_and(|chunk| chunk.merged.is_final()) {
                board.waiting.remove(&number);
            }
        }
        Ok(())
    }
}
