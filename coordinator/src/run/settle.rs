//! Settling what workers report, and taking back what no worker has.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use outflow_model::id::{AttemptId, ChunkNo, Lane, RunId};
use outflow_model::limit::Micros;
use outflow_model::outcome::Status;
use outflow_model::port::ledger::{Chunk, Run};
use outflow_model::port::limiter::Revoked;
use outflow_model::port::queue::{Consumer, Delivery, Take};
use outflow_model::wire::{Next, ReportV1};
use tracing::{info, warn};

use super::board::{Board, InFlight, Wait, poison, unknown, waits};
use super::{Engine, EngineError, Start, Stopped};

/// Reports settled together.
const SETTLE: usize = 64;
/// So many silences are waited out for a report that must be on its way.
pub(super) const PATIENCE: u32 = 4;
/// What is left of a delivery that ended without a word is published again after this long.
pub(super) const SILENT: Micros = 1_000_000;

impl Engine {
    /// Settles a report, and whatever else has arrived meanwhile; returns the chunks of `run` among what was settled.
    pub(super) async fn settle_reports(
        &self,
        run: &RunId,
        waiting: &dyn Consumer,
        first: Delivery,
    ) -> Result<Vec<Chunk>, EngineError> {
        let mut deliveries = vec![first];
        while deliveries.len() < SETTLE {
            match tokio::time::timeout(Duration::from_millis(1), waiting.next(Take::Any)).await {
                Ok(delivery) => deliveries.push(delivery?),
                Err(_) => break,
            }
        }
        let (mut reports, mut read) = (Vec::with_capacity(deliveries.len()), Vec::with_capacity(deliveries.len()));
        for delivery in deliveries {
            match ReportV1::decode(&delivery.body) {
                Ok(report) => {
                    reports.push(report);
                    read.push(delivery);
                }
                Err(error) => {
                    warn!(message = delivery.id, %error, "A report cannot be read; it is put aside, and its chunk published again");
                    delivery.put_aside().await?;
                }
            }
        }
        let time = |of: fn(&ReportV1) -> Micros| reports.iter().map(of).sum::<Micros>() as f64;
        let (took, waited) = (time(|report| report.took), time(|report| report.waited));
        if took > 0.0 {
            self.show(|progress| {
                let before = progress.held_back.unwrap_or_default();
                progress.held_back = Some(f64::midpoint(before, waited / took));
            });
        }
        let mut own = Vec::new();
        let settled = self.ledger.settle(&reports, self.clock.now()).await?;
        for report in &reports {
            let is_known = settled.iter().any(|(of, chunk)| *of == report.id.run && chunk.number == report.id.chunk);
            if !is_known && self.news.strays.is_due() {
                warn!(
                    message = %report.id,
                    "A report is about a run that this ledger does not have, and is dropped. If the run has not expired, another \
                     installation uses the same queue and `prefix`: give each a prefix of its own"
                );
            }
        }
        for (of, chunk) in settled {
            if of == *run {
                own.push(chunk);
            } else {
                self.news.tell(&of, chunk.number);
            }
        }
        try_join_all(read.into_iter().map(Delivery::ack)).await?;
        Ok(own)
    }

    /// Looks in the ledger for what others have settled of these chunks: a report goes to whichever coordinator takes it.
    pub(super) async fn look(
        &self,
        run: &Run,
        start: &Start,
        board: &mut Board,
        numbers: &[ChunkNo],
    ) -> Result<(), EngineError> {
        let chunks = self.ledger.some_chunks(&run.id, numbers).await?;
        self.conclude(run, start, board, chunks).await
    }

    /// Takes these chunks in, and decides what becomes of those whose delivery has ended.
    pub(super) async fn conclude(
        &self,
        run: &Run,
        start: &Start,
        board: &mut Board,
        chunks: Vec<Chunk>,
    ) -> Result<(), EngineError> {
        let numbers: Vec<ChunkNo> = chunks.iter().map(|chunk| chunk.number).collect();
        // All of them, before anything is decided: the run may be another coordinator's by now.
        chunks.into_iter().try_for_each(|chunk| board.put(chunk))?;
        for number in &numbers {
            let Some(chunk) = board.chunks.get(number) else { continue };
            let Some((attempt, next)) = chunk.ended.clone() else { continue };
            // What a worker had announced that is gone: until that is heard nobody knows what may be sent again.
            if chunk.merged.is_unheard(attempt) {
                continue;
            }
            if board.in_flight.get(number).is_some_and(|sent| sent.attempt == attempt) {
                self.conclude_one(run, start, board, *number, next).await?;
            }
        }
        Ok(())
    }

    async fn conclude_one(
        &self,
        run: &Run,
        start: &Start,
        board: &mut Board,
        number: ChunkNo,
        next: Next,
    ) -> Result<(), EngineError> {
        let now = self.clock.now();
        let sent = board.in_flight.remove(&number).map_or_else(Vec::new, |sent| sent.rows);
        self.give_up(&run.id, board, number, Next::Continue).await?;
        let Some(chunk) = board.chunks.get_mut(&number) else { return Ok(()) };
        if chunk.merged.is_final() {
            return Ok(());
        }
        match next {
            Next::Again { .. } => {
                let delivery = &start.sync.config.delivery;
                let wait = waits(&next, chunk, delivery);
                let moves_to = if wait == Wait::Goes { &mut board.waiting } else { &mut board.memory.given_up };
                moves_to.insert(number);
                let chunk = board.chunks.get(&number).filter(|_| wait == Wait::TooLong);
                if chunk.is_some_and(|chunk| board.is_exhausted_by(chunk, delivery)) {
                    self.stop(run, board, Stopped::Exhausted).await?;
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
            Next::Returned | Next::Done | Next::Lost | Next::Continue => {
                if next != Next::Returned {
                    board.memory.poisoned.passed(number);
                }
                // Where claims are forgotten as fast as they are made, nothing else would slow it down.
                let progress = sent.iter().any(|row| chunk.merged.status(*row) != Status::Remaining);
                board.wait_for_rest(number, if progress { now } else { now + SILENT });
            }
        }
        Ok(())
    }

    /// Nobody will answer for what was announced and is undecided: it is unknown. With [`Next::Done`] the delivery has
    /// ended with that.
    pub(super) async fn give_up(
        &self,
        run: &RunId,
        board: &mut Board,
        number: ChunkNo,
        next: Next,
    ) -> Result<(), EngineError> {
        let Some(chunk) = board.chunks.get(&number) else { return Ok(()) };
        let lost = chunk.merged.undecided();
        if lost.is_empty() && next == Next::Continue {
            return Ok(());
        }
        let report = ReportV1 { next, ..unknown(run, chunk, &lost) };
        for (_, chunk) in self.ledger.settle(&[report], self.clock.now()).await? {
            board.put(chunk)?;
        }
        Ok(())
    }

    /// Takes back what no worker holds: of a run that stops at once, else where the lane has been empty for the time of silence, and
    /// no delivery has held the chunk for as long.
    pub(super) async fn take_back(&self, run: &Run, start: &Start, board: &mut Board) -> Result<(), EngineError> {
        let stopped = board.stopped.is_some();
        let silent = |sent: &InFlight| stopped || sent.seen.elapsed() >= self.silence;
        let numbers: Vec<ChunkNo> =
            board.in_flight.iter().filter(|(_, sent)| silent(sent)).map(|(number, _)| *number).collect();
        if numbers.is_empty() {
            return Ok(());
        }
        if !stopped && self.queue.waiting(&Lane(run.destination.clone())).await? > 0 {
            // It may be any of them.
            board.in_flight.values_mut().for_each(|sent| sent.seen = Instant::now());
            return Ok(());
        }
        for number in numbers {
            let Some(sent) = board.in_flight.get_mut(&number) else { continue };
            let (attempt, silent) = (sent.attempt, sent.seen.elapsed());
            // From then on nobody sends it: whoever is given it yet finds it finished.
            let id = AttemptId { run: run.id.clone(), chunk: number, attempt };
            let grace = if stopped { 0 } else { self.silence.as_micros() as Micros };
            let revoked = self.limiter.revoke(&run.destination, &id, grace).await?;
            match revoked {
                Revoked::Held => sent.seen = Instant::now(),
                // What it had announced is on its way here. It never leaves from now on, and once it is heard the rest goes on.
                Revoked::Lapsed { announced } if self.is_unheard(board, id, announced).await? => {}
                // Its report is on its way here, or its message to a worker that says so; unless they are lost.
                Revoked::Finished | Revoked::Forgotten if silent < self.silence * PATIENCE => {}
                _ => {
                    info!(run = %run.id, chunk = number, attempt, ?revoked, "A chunk that no worker holds is taken back");
                    // What was not announced has not left: a request is announced before it is permitted.
                    let is_known = matches!(revoked, Revoked::Taken | Revoked::Lapsed { .. });
                    let sent = board.in_flight.remove(&number).map_or_else(Vec::new, |sent| sent.rows);
                    self.give_up(&run.id, board, number, Next::Done).await?;
                    if !is_known {
                        self.doubt(&run.id, start, board, number, &sent).await?;
                    }
                    board.wait_for_rest(number, self.clock.now());
                }
            }
        }
        Ok(())
    }

    /// Notes how many requests a delivery had announced that is gone; whether one of them has not been heard of here.
    async fn is_unheard(&self, board: &mut Board, id: AttemptId, announced: u32) -> Result<bool, EngineError> {
        let Some(chunk) = board.chunks.get(&id.chunk) else { return Ok(false) };
        let (number, attempt) = (id.chunk, id.attempt);
        let report = ReportV1 { announced, ..ReportV1::empty(id, chunk.rows, Next::Lost) };
        for (_, chunk) in self.ledger.settle(&[report], self.clock.now()).await? {
            board.put(chunk)?;
        }
        Ok(board.chunks.get(&number).is_some_and(|chunk| chunk.merged.is_unheard(attempt)))
    }

    /// Of a delivery of which the limiter has forgotten what it announced, or whose last words are lost, every word may be lost: where
    /// sending twice could do harm, all that it had is unknown.
    async fn doubt(
        &self,
        run: &RunId,
        start: &Start,
        board: &mut Board,
        number: ChunkNo,
        sent: &[u32],
    ) -> Result<(), EngineError> {
        let Some(chunk) = board.chunks.get(&number) else { return Ok(()) };
        if start.sync.repeatable(chunk.operation) {
            return Ok(());
        }
        let open = sent.iter().copied().filter(|row| chunk.merged.status(*row) == Status::Remaining).collect();
        let report = unknown(run, chunk, &open);
        for (_, chunk) in self.ledger.settle(&[report], self.clock.now()).await? {
            board.put(chunk)?;
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
        let alone = board.memory.poisoned.halve(number, sent);
        if let (Some(row), Some(chunk)) = (alone, board.chunks.get(&number)) {
            for (_, chunk) in self.ledger.settle(&[poison(run, chunk, row)], now).await? {
                board.put(chunk)?;
            }
        }
        board.wait_for_rest(number, now);
        Ok(())
    }
}
