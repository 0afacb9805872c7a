//! Publishing chunks: each is counted before it leaves, and all of them wait for the broker at once.

use std::time::Instant;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt};
use metrics::histogram;
use outflow_model::id::{AttemptId, ChunkNo, Lane};
use outflow_model::outcome::Refusal;
use outflow_model::policy::ErrorClass;
use outflow_model::port::ledger::{Chunk, Run};
use outflow_model::port::queue::Outgoing;
use outflow_model::port::{self, Trouble};
use outflow_model::text::with_causes;
use outflow_model::wire::{ChunkV1, VERSION};
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span, warn};

use super::board::{Board, InFlight, is_open};
use super::{Engine, EngineError, Start, Stopped};

/// So many of a run's chunks are in its trace, and of the others one of so many.
const RECORDED: ChunkNo = 200;
const ONE_OF: ChunkNo = 100;

impl Engine {
    /// Publishes these chunks; a chunk that the broker will never take stops the run.
    pub(super) async fn publish(
        &self,
        run: &Run,
        start: &Start,
        board: &mut Board,
        numbers: &[ChunkNo],
    ) -> Result<(), EngineError> {
        if numbers.is_empty() {
            return Ok(());
        }
        // What may be away is asked first: a chunk that is counted and does not leave is taken for one under way.
        let (mut frames, mut before, mut granted) = (Vec::new(), Vec::new(), Vec::new());
        for number in numbers {
            let Some(chunk) = board.chunks.get(number) else { continue };
            let id = AttemptId { run: run.id.clone(), chunk: *number, attempt: chunk.attempt };
            granted.push(AttemptId { attempt: chunk.attempt + 1, ..id.clone() });
            before.push(id);
            match self.frame(run, chunk).await {
                Ok(frame) => frames.push((number, frame)),
                Err(error) if error.is_damage() => {
                    // What is in flight is settled; the rest cannot be sent.
                    let refusal = Refusal::transient("PLAN_LOST", format!("The run's plan cannot be read: {error}"));
                    return self.stop(run, board, Stopped::Fatal(refusal)).await;
                }
                Err(error) => return Err(error),
            }
        }
        // Whoever still has the attempt before, or is given it again, sends no more.
        self.limiter.close(&run.destination, &before).await?;
        // Counted before it leaves: a chunk that was never published is known to be unsent.
        self.ledger.published(&run.id, numbers).await?;
        // Granted once the ledger has said that the run is still this coordinator's; a worker sends nothing without that.
        self.limiter.grant(&run.destination, &granted).await?;
        let lane = Lane(start.sync.account.name.clone());
        let leaving = FuturesUnordered::new();
        for (number, frame) in frames {
            let Some(chunk) = board.chunks.get_mut(number) else { continue };
            chunk.attempt += 1;
            let remaining = board.memory.poisoned.cut(*number, chunk.merged.remaining());
            let (span, traceparent) = publishing_span(chunk, &lane);
            let message = message(run, start, chunk, &remaining, &frame.payload, traceparent);
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
        self.confirm(run, board, leaving).await
    }

    /// Waits until the broker has answered for each chunk that is leaving, all of them at once.
    async fn confirm(
        &self,
        run: &Run,
        board: &mut Board,
        mut leaving: impl Stream<Item = (ChunkNo, port::Result<()>)> + Unpin,
    ) -> Result<(), EngineError> {
        let began = Instant::now();
        while let Some((number, published)) = leaving.next().await {
            histogram!("outflow_publish_confirm_seconds").record(began.elapsed());
            match published {
                // It may be there all the same: it is taken back once it is sure that nobody has it.
                Err(error) if error.trouble == Trouble::Unavailable => {
                    warn!(run = %run.id, chunk = number, error = with_causes(&error), "A chunk could not be published");
                }
                // It would be refused again.
                Err(error) => {
                    let code = "NOT_PUBLISHED".to_owned();
                    let message = format!("Chunk {number} could not be published: {error}");
                    let refusal = Refusal { class: ErrorClass::FatalConfig, code, message };
                    self.stop(run, board, Stopped::Fatal(refusal)).await?;
                }
                Ok(()) => {}
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
        otel.name = format!("publish {lane}"),
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
        waited: chunk.merged.waited(),
        max_wait: sync.config.delivery.max_wait(),
        // A message that was cut smaller goes without a job that is about more.
        parked: chunk.parked.clone().filter(|parked| {
            is_open(chunk, parked) && parked.rows.iter().all(|row| remaining.binary_search(row).is_ok())
        }),
        traceparent,
        payload: payload.to_vec(),
    }
}
