//! Delivering a plan: publish chunks within a window, have reports settled, publish again what is left, until all is final.

use std::time::{Duration, Instant};

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use metrics::{gauge, histogram};
use outflow_model::id::{AttemptId, ChunkNo, Lane, RunId};
use outflow_model::limit::Micros;
use outflow_model::port::Trouble;
use outflow_model::port::ledger::{Chunk, Run, RunPatch};
use outflow_model::port::queue::Outgoing;
use outflow_model::run::RunState;
use outflow_model::wire::{ChunkV1, Next, VERSION};
use tokio::sync::watch;
use tracing::field::Empty;
use tracing::{Instrument, Span, info, info_span, warn};

use super::board::{Board, InFlight, is_open};
use super::plan_file::read_frame;
use super::{CANCELLED, Engine, EngineError, Finished, Signal, Start, Stopped};

/// A run's gate closes by itself when its owner has been silent for so long.
const GATE: Micros = 60_000_000;
const GATE_RENEWAL: Micros = 15_000_000;
/// So many of a run's chunks are in its trace, and of the others one of so many.
const RECORDED: ChunkNo = 200;
const ONE_OF: ChunkNo = 100;
/// So many times the chunks that one worker delivers at a time are in flight, where workers are many.
const MANY: usize = 16;
/// A service that is away is tried again after so long.
const AWAY: Duration = Duration::from_secs(1);
/// A cancel is looked for this often.
const LOOK: Duration = Duration::from_millis(500);

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
        let stopped = loop {
            let dispatched = self.dispatch(&run, start, signal.clone()).await;
            let closed = self.limiter.close_gate(&run.destination, &run.id).await;
            match dispatched {
                // What is under way goes on without this process, and the ledger knows it: as good as a new start.
                Err(error) if error.is_away() && self.queue.outlives_processes() && *signal.borrow() == Signal::Run => {
                    warn!(run = %run.id, %error, "A service is away; the run waits for it");
                    tokio::time::sleep(AWAY).await;
                }
                Err(error) => return Err(error),
                Ok(stopped) => {
                    if let Err(error) = closed {
                        warn!(run = %run.id, %error, "The run's gate could not be closed; it closes by itself");
                    }
                    break stopped;
                }
            }
        };
        let (state, stopped) = match stopped {
            Some(Stopped::Interrupted) => (RunState::Interrupted, None),
            stopped => (RunState::Folding, stopped),
        };
        let reason = match &stopped {
            Some(Stopped::Fatal(refusal)) => {
                Some(format!("{} ({}): {}", refusal.class.code(), refusal.code, refusal.message))
            }
            Some(Stopped::Cancelled) => {
                let told = self.ledger.run(&run.id).await?.and_then(|run| run.reason);
                Some(told.unwrap_or_else(|| CANCELLED.to_owned()))
            }
            _ => None,
        };
        let patch = RunPatch {
            state: Some(state),
            cancel: matches!(stopped, Some(Stopped::Cancelled)),
            failed: matches!(stopped, Some(Stopped::Fatal(_))),
            reason,
            ..RunPatch::default()
        };
        self.ledger.patch(&run.id, RunState::Delivering, patch).await?;
        if state == RunState::Interrupted {
            return self.finished(&run.id, warnings).await;
        }
        self.finish(&run.id, start, warnings).await
    }

    /// Publishes and settles until every chunk is final, or the run is stopped: then why.
    async fn dispatch(
        &self,
        run: &Run,
        start: &Start,
        mut signal: watch::Receiver<Signal>,
    ) -> Result<Option<Stopped>, EngineError> {
        let board = &mut Board::new(self.ledger.chunks(&run.id).await?, self.queue.outlives_processes());
        let reports = self.queue.reports();
        // Shared by as many workers as there are.
        let share = if self.queue.outlives_processes() { MANY } else { 4 };
        let window = (start.sync.concurrency as usize * share).max(8);
        let (mut renewed, mut looked): (Option<Micros>, Option<tokio::time::Instant>) = (None, None);
        self.decide_lost(&run.id, board).await?;
        loop {
            let now = self.clock.now();
            if looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
                looked = Some(tokio::time::Instant::now());
                if self.ledger.run(&run.id).await?.is_some_and(|run| run.cancel) {
                    self.stop(run, board, Stopped::Cancelled).await?;
                }
                if self.queue.outlives_processes() {
                    self.look(run, start, board).await?;
                }
                self.take_back(run, start, board).await?;
            }
            if *signal.borrow_and_update() == Signal::Interrupt {
                self.stop(run, board, Stopped::Interrupted).await?;
            }
            if board.stopped.is_none() && renewed.is_none_or(|renewed| now - renewed > GATE_RENEWAL) {
                self.limiter.open_gate(&run.destination, &run.id, start.sync.concurrency, GATE).await?;
                renewed = Some(now);
            }
            if board.stopped.is_none() && board.in_flight.len() <= window / 2 {
                let due = board.due(now, window - board.in_flight.len());
                self.publish(run, start, board, &due).await?;
            }
            self.show(|progress| {
                progress.settled = board.settled;
                progress.in_flight = board.in_flight.len();
                progress.waiting = board.waiting.len();
            });
            for (name, count) in
                [("outflow_chunks_in_flight", board.in_flight.len()), ("outflow_chunks_runnable", board.runnable(now))]
            {
                gauge!(name, "lane" => run.destination.clone(), "sync" => run.sync.clone()).set(count as f64);
            }
            if board.in_flight.is_empty() && (board.stopped.is_some() || board.waiting.is_empty()) {
                return Ok(board.stopped.take());
            }
            let pause = match board.next_due() {
                Some(due) if board.in_flight.is_empty() => Duration::from_micros((due - now).clamp(0, 200_000) as u64),
                _ => Duration::from_millis(200),
            };
            tokio::select! {
                first = reports.next() => self.settle(run, start, board, reports.as_ref(), first?).await?,
                () = self.news.notified() => self.look(run, start, board).await?,
                () = tokio::time::sleep(pause) => {}
                changed = signal.changed() => if changed.is_err() { tokio::time::sleep(pause).await },
            }
        }
    }

    /// Closes the gate; what is in flight is settled, nothing more is published.
    pub(super) async fn stop(&self, run: &Run, board: &mut Board, why: Stopped) -> Result<(), EngineError> {
        if board.stopped.is_none() {
            info!(run = %run.id, why = ?why, "The run stops; what is in flight is settled");
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

    async fn publish(
        &self,
        run: &Run,
        start: &Start,
        board: &mut Board,
        numbers: &[ChunkNo],
    ) -> Result<(), EngineError> {
        let Some(plan) = run.plan.as_deref().filter(|_| !numbers.is_empty()) else { return Ok(()) };
        // Counted before it leaves: a chunk that was never published is known to be unsent.
        self.ledger.published(&run.id, numbers).await?;
        let lane = Lane(start.sync.account.name.clone());
        let mut leaving = FuturesUnordered::new();
        for number in numbers {
            let Some(chunk) = board.chunks.get_mut(number) else { continue };
            if chunk.attempt > 0 {
                // Whoever still has the attempt before, or is given it again, sends no more.
                let before = AttemptId { run: run.id.clone(), chunk: *number, attempt: chunk.attempt };
                self.limiter.finish(&run.destination, &before).await?;
            }
            chunk.attempt += 1;
            let frame = self.store.read(plan, chunk.offset, chunk.length).await?;
            let (payload, _) = read_frame(&frame)?;
            let remaining = board.poisoned.cut(*number, chunk.merged.remaining());
            let (span, traceparent) = publishing_span(chunk, &lane);
            let message = message(run, start, chunk, &remaining, payload, traceparent);
            span.record("messaging.message.id", message.id.to_string());
            let outgoing = Outgoing {
                id: message.id.to_string(),
                traceparent: message.traceparent.clone(),
                body: message.encode()?.into(),
            };
            let publishing = self.queue.publish(&lane, message.urgent, outgoing).instrument(span);
            leaving.push(publishing.map(|published| (*number, published)));
            board.waiting.remove(number);
            let sent = InFlight { attempt: chunk.attempt, rows: remaining, seen: Instant::now() };
            board.in_flight.insert(*number, sent);
        }
        let began = Instant::now();
        // All of them wait for the broker at once.
        while let Some((number, published)) = leaving.next().await {
            histogram!("outflow_publish_confirm_seconds").record(began.elapsed());
            match published {
                // It may be there all the same: it is taken back once it is sure that nobody has it.
                Err(error) if error.trouble == Trouble::Unavailable => {
                    warn!(run = %run.id, chunk = number, %error, "A chunk could not be published");
                }
                published => published?,
            }
        }
        Ok(())
    }
}

/// The span of a chunk's publication, and what its worker goes on from. A run's first chunks are recorded, and whichever
/// is published again, and a few of the others.
fn publishing_span(chunk: &Chunk, lane: &Lane) -> (Span, Option<String>) {
    if chunk.number >= RECORDED && chunk.attempt == 1 && !chunk.number.is_multiple_of(ONE_OF) {
        return (Span::none(), outflow_trace::unrecorded_parent_of(&Span::current()));
    }
    let span = info_span!(
        "publish",
        otel.kind = "producer",
        messaging.system = "rabbitmq",
        messaging.operation.type = "send",
        messaging.operation.name = "publish",
        messaging.destination.name = %lane,
        messaging.message.id = Empty,
        chunk = chunk.number,
        attempt = chunk.attempt,
    );
    let traceparent = outflow_trace::parent_of(&span);
    (span, traceparent)
}

/// The message that hands `remaining` records of a chunk to a worker.
fn message(
    run: &Run,
    start: &Start,
    chunk: &Chunk,
    remaining: &[u32],
    payload: &[u8],
    traceparent: Option<String>,
) -> ChunkV1 {
    let sync = &start.sync;
    ChunkV1 {
        version: VERSION,
        id: AttemptId { run: run.id.clone(), chunk: chunk.number, attempt: chunk.attempt },
        sync: sync.name.clone(),
        weight: sync.config.priority,
        urgent: sync.config.urgent,
        account: sync.account.clone(),
        object: sync.config.object.clone(),
        operation: chunk.operation,
        repeatable: sync.repeatable(chunk.operation),
        wants_ids: sync.config.mode.removes(),
        bulk: sync.bulk(chunk.operation, u64::from(chunk.rows)).is_some(),
        rows: chunk.rows,
        only: (remaining.len() < chunk.rows as usize).then(|| remaining.to_vec()),
        tries: chunk.tries,
        parked: chunk.parked.clone().filter(|parked| is_open(chunk, parked)),
        traceparent,
        payload: payload.to_vec(),
    }
}
