//! Delivering a plan: publish chunks within a window, settle reports, publish again what is left, until all is final.

use std::time::{Duration, Instant};

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use outflow_model::id::{AttemptId, ChunkNo, Lane, RunId};
use outflow_model::limit::Micros;
use outflow_model::outcome::Status;
use outflow_model::policy::ErrorClass;
use outflow_model::port::Trouble;
use outflow_model::port::ledger::{Chunk, Run, RunPatch};
use outflow_model::port::queue::{Delivery, Outgoing};
use outflow_model::run::RunState;
use outflow_model::wire::{ChunkV1, Next, ReportV1, VERSION};
use tokio::sync::watch;
use tracing::{Instrument, info, info_span, warn};

use super::board::{Board, InFlight, is_open, poison, unknown};
use super::plan_file::read_frame;
use super::{Engine, EngineError, Finished, Signal, Start, Stopped};

/// A run's gate closes by itself when its owner has been silent for so long.
const GATE: Micros = 60_000_000;
const GATE_RENEWAL: Micros = 15_000_000;
/// A cancel is looked for this often.
const LOOK: Duration = Duration::from_millis(500);
/// Reports settled together.
const SETTLE: usize = 64;
/// What is left of a delivery that ended without a word is published again after this long.
const SILENT: Micros = 1_000_000;

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
        let mut board = Board::new(self.ledger.chunks(&run.id).await?, self.queue.outlives_processes());
        self.show(|progress| {
            progress.state = Some(RunState::Delivering);
            progress.planned = run.tally.total().planned;
            progress.settled = board.settled;
        });
        let dispatched = self.dispatch(&run, start, signal, &mut board).await;
        self.limiter.close_gate(&run.destination, &run.id).await?;
        dispatched?;
        let (state, stopped) = match board.stopped {
            Some(Stopped::Interrupted) => (RunState::Interrupted, None),
            stopped => (RunState::Folding, stopped),
        };
        let reason = match &stopped {
            Some(Stopped::Fatal(refusal)) => {
                Some(format!("{} ({}): {}", refusal.class.code(), refusal.code, refusal.message))
            }
            Some(Stopped::Cancelled) => Some("Cancelled by a user".to_owned()),
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

    async fn dispatch(
        &self,
        run: &Run,
        start: &Start,
        mut signal: watch::Receiver<Signal>,
        board: &mut Board,
    ) -> Result<(), EngineError> {
        let window = (start.sync.concurrency as usize * 4).max(8);
        let (mut renewed, mut looked): (Option<Micros>, Option<tokio::time::Instant>) = (None, None);
        self.decide_lost(&run.id, board).await?;
        loop {
            let now = self.clock.now();
            if board.stopped.is_none() && renewed.is_none_or(|renewed| now - renewed > GATE_RENEWAL) {
                self.limiter.open_gate(&run.destination, &run.id, GATE).await?;
                renewed = Some(now);
            }
            if looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
                looked = Some(tokio::time::Instant::now());
                if self.ledger.run(&run.id).await?.is_some_and(|run| run.cancel) {
                    self.stop(run, board, Stopped::Cancelled).await?;
                }
                self.take_back(run, board).await?;
            }
            if *signal.borrow_and_update() == Signal::Interrupt {
                self.stop(run, board, Stopped::Interrupted).await?;
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
            if board.in_flight.is_empty() && (board.stopped.is_some() || board.waiting.is_empty()) {
                return Ok(());
            }
            let pause = match board.next_due() {
                Some(due) if board.in_flight.is_empty() => Duration::from_micros((due - now).clamp(0, 200_000) as u64),
                _ => Duration::from_millis(200),
            };
            tokio::select! {
                first = self.queue.next_report() => self.settle(run, start, board, first?).await?,
                () = tokio::time::sleep(pause) => {}
                changed = signal.changed() => if changed.is_err() { tokio::time::sleep(pause).await },
            }
        }
    }

    /// Closes the gate; what is in flight is settled, nothing more is published.
    async fn stop(&self, run: &Run, board: &mut Board, why: Stopped) -> Result<(), EngineError> {
        if board.stopped.is_none() {
            info!(run = %run.id, why = ?why, "The run stops; what is in flight is settled");
            board.stopped = Some(why);
            self.limiter.close_gate(&run.destination, &run.id).await?;
        }
        Ok(())
    }

    /// Requests that an earlier process announced and whose answer was lost with it: their records are unknown.
    async fn decide_lost(&self, run: &RunId, board: &mut Board) -> Result<(), EngineError> {
        let mut reports = Vec::new();
        // A worker that is still at it will tell of its own.
        let over = board.chunks.values().filter(|chunk| !board.in_flight.contains_key(&chunk.number));
        for chunk in over {
            let lost = chunk.merged.undecided();
            if !lost.is_empty() {
                reports.push(unknown(run, chunk, &lost));
            }
        }
        for (_, chunk) in self.ledger.settle(&reports, self.clock.now()).await? {
            if chunk.merged.is_final() {
                board.waiting.remove(&chunk.number);
            }
            board.put(chunk);
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
            let span = info_span!("publish", otel.kind = "producer", chunk = number, attempt = chunk.attempt);
            let message = message(run, start, chunk, &remaining, payload, outflow_trace::parent_of(&span));
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
        // All of them wait for the broker at once.
        while let Some((number, published)) = leaving.next().await {
            match published {
                Err(error) if error.trouble == Trouble::Unavailable => {
                    warn!(run = %run.id, chunk = number, %error, "A chunk could not be published; it is tried again");
                    board.in_flight.remove(&number);
                    board.wait_for_rest(number, self.clock.now() + SILENT);
                }
                published => published?,
            }
        }
        Ok(())
    }

    /// Settles a report, and whatever else has arrived meanwhile, in one transaction.
    async fn settle(&self, run: &Run, start: &Start, board: &mut Board, first: Delivery) -> Result<(), EngineError> {
        let mut deliveries = vec![first];
        while deliveries.len() < SETTLE {
            match tokio::time::timeout(Duration::from_millis(1), self.queue.next_report()).await {
                Ok(delivery) => deliveries.push(delivery?),
                Err(_) => break,
            }
        }
        let mut reports = Vec::with_capacity(deliveries.len());
        for delivery in &deliveries {
            match ReportV1::decode(&delivery.body) {
                Ok(report) => reports.push(report),
                Err(error) => warn!(%error, "A report cannot be read; it is dropped, and its chunk published again"),
            }
        }
        let time = |of: fn(&ReportV1) -> Micros| reports.iter().map(of).sum::<Micros>() as f64;
        let (took, waited) = (time(|report| report.took), time(|report| report.waited));
        if took > 0.0 {
            self.show(|progress| progress.held_back = f64::midpoint(progress.held_back, waited / took));
        }
        let now = self.clock.now();
        for (of, chunk) in self.ledger.settle(&reports, now).await? {
            if of == run.id {
                board.put(chunk);
            }
        }
        for delivery in deliveries {
            delivery.ack().await?;
        }
        for report in reports.into_iter().filter(|report| report.id.run == run.id) {
            self.conclude(run, start, board, report, now).await?;
        }
        Ok(())
    }

    /// Decides what becomes of a chunk whose delivery has ended.
    async fn conclude(
        &self,
        run: &Run,
        start: &Start,
        board: &mut Board,
        report: ReportV1,
        now: Micros,
    ) -> Result<(), EngineError> {
        let number = report.id.chunk;
        let current = board.in_flight.get(&number).is_some_and(|sent| sent.attempt == report.id.attempt);
        if report.next == Next::Continue || !current {
            return Ok(());
        }
        let sent = board.in_flight.remove(&number).map_or_else(Vec::new, |sent| sent.rows);
        self.give_up(&run.id, board, number, now).await?;
        let Some(chunk) = board.chunks.get_mut(&number) else { return Ok(()) };
        if chunk.merged.is_final() {
            return Ok(());
        }
        let delivery = &start.sync.config.delivery;
        match report.next {
            Next::Again { after, counted, parked, class } => {
                // A delivery that waits for the destination's own work is not held up by a limit.
                let works = parked.is_some() && class == ErrorClass::Backoff;
                let too_long = !works && after > Micros::from(delivery.max_wait_seconds) * 1_000_000;
                let given_up = (counted && chunk.tries >= delivery.tries) || too_long;
                // A chunk that neither waits nor is in flight is given up: its remaining records are deferred.
                if !given_up {
                    board.waiting.insert(number);
                }
            }
            Next::Stop { refusal } => {
                board.waiting.insert(number);
                self.stop(run, board, Stopped::Fatal(refusal)).await?;
            }
            Next::Poison => {
                self.halve(&run.id, board, number, &sent, now).await?;
            }
            // Once may be the worker's own end; again is the message's.
            Next::Lost if chunk.tries > 1 => {
                self.halve(&run.id, board, number, &sent, now).await?;
            }
            Next::Done | Next::Lost | Next::Continue => {
                board.poisoned.passed(number);
                let progress = sent.iter().any(|row| chunk.merged.status(*row) != Status::Remaining);
                board.wait_for_rest(number, if progress { now } else { now + SILENT });
            }
        }
        Ok(())
    }

    /// Nobody will answer for what was announced and is undecided: it is unknown.
    async fn give_up(&self, run: &RunId, board: &mut Board, number: ChunkNo, now: Micros) -> Result<(), EngineError> {
        let Some(chunk) = board.chunks.get(&number) else { return Ok(()) };
        let lost = chunk.merged.undecided();
        if lost.is_empty() {
            return Ok(());
        }
        let report = unknown(run, chunk, &lost);
        for (_, chunk) in self.ledger.settle(&[report], now).await? {
            board.put(chunk);
        }
        Ok(())
    }

    /// Takes back what no worker holds: of a run that stops at once, else where its message can no longer exist.
    async fn take_back(&self, run: &Run, board: &mut Board) -> Result<(), EngineError> {
        let lane = Lane(run.destination.clone());
        let stopped = board.stopped.is_some();
        let mut nothing_waits = None;
        for number in board.in_flight.keys().copied().collect::<Vec<_>>() {
            let Some(sent) = board.in_flight.get_mut(&number) else { continue };
            let attempt = AttemptId { run: run.id.clone(), chunk: number, attempt: sent.attempt };
            if !stopped && sent.seen.elapsed() < self.silence {
                continue;
            }
            if self.limiter.is_claimed(&run.destination, &attempt).await? {
                sent.seen = Instant::now();
                continue;
            }
            if !stopped && nothing_waits.is_none() {
                nothing_waits = Some(self.queue.waiting(&lane).await? == 0);
            }
            if !stopped && nothing_waits != Some(true) {
                continue;
            }
            // From now on nobody sends it: whoever is given it yet finds it finished.
            self.limiter.finish(&run.destination, &attempt).await?;
            info!(run = %run.id, chunk = number, "A chunk that no worker holds is taken back");
            board.in_flight.remove(&number);
            self.give_up(&run.id, board, number, self.clock.now()).await?;
            board.wait_for_rest(number, self.clock.now());
        }
        Ok(())
    }

    /// Cuts a chunk whose message ends its worker.
    async fn halve(
        &self,
        run: &RunId,
        board: &mut Board,
        number: ChunkNo,
        sent: &[u32],
        now: Micros,
    ) -> Result<(), EngineError> {
        let alone = board.poisoned.halve(number, sent);
        if let (Some(row), Some(chunk)) = (alone, board.chunks.get(&number)) {
            for (_, chunk) in self.ledger.settle(&[poison(run, chunk, row)], now).await? {
                board.put(chunk);
            }
        }
        board.wait_for_rest(number, now);
        Ok(())
    }
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
