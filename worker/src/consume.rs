//! Takes chunks from a lane, several at a time, and reports on each before it is acknowledged.

use std::sync::Arc;
use std::time::Duration;

use outflow_model::id::Lane;
use outflow_model::limit::Micros;
use outflow_model::outcome::Refusal;
use outflow_model::policy::ErrorClass;
use outflow_model::port::clock::Clock;
use outflow_model::port::limiter::{Claimed, Limiter};
use outflow_model::port::queue::{Delivery as Message, Queue, Take};
use outflow_model::port::{PortError, Result, Trouble};
use outflow_model::text::with_causes;
use outflow_model::wire::{CHUNK_CAP, ChunkV1, Next, ReportV1, unpack, unpacked_len};
use outflow_trace::Seldom;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{Instrument, Span, info_span, warn};

use crate::account::{Account, Accounts};
use crate::deliver::{Delivery, Tools};
use crate::figures::{self, InHand};
use crate::room::Room;
use crate::transport::BULK_ANSWER_CAP;

/// Chunks under delivery take no more bytes than this, where nobody says otherwise.
pub const MEMORY: u64 = 256 * 1024 * 1024;
/// A message that was delivered so often without an acknowledgement is not tried again.
const POISON: u32 = 10;
/// A claim lapses after this much silence: so long a chunk waits whose worker has died.
const LEASE: Micros = 15_000_000;
/// No lane is served by more than so many deliveries of one worker at a time.
const MOST: u32 = 1_000;
/// A chunk that another worker holds is asked for this often.
const CLAIM_AGAIN: Duration = Duration::from_millis(500);

/// A worker: what it needs to serve lanes.
pub struct Worker {
    name: String,
    accounts: Accounts,
    room: Arc<Room>,
    pub(crate) tools: Tools,
}

impl Worker {
    /// A worker called `name`.
    pub fn new(
        name: String,
        accounts: Accounts,
        queue: Arc<dyn Queue>,
        limiter: Arc<dyn Limiter>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (draining, _) = watch::channel(false);
        let room = Arc::new(Room::new(MEMORY));
        Self {
            name,
            accounts,
            room,
            tools: Tools { queue, limiter, clock, lease: LEASE, told: Seldom::default(), draining },
        }
    }

    /// Its claims lapse after so much silence.
    #[must_use]
    pub fn with_lease(mut self, lease: Micros) -> Self {
        self.tools.lease = lease;
        self
    }

    /// Chunks under delivery take no more bytes than this over all lanes, but for one that each lane may always have.
    #[must_use]
    pub fn with_memory(mut self, bytes: u64) -> Self {
        self.room = Arc::new(Room::new(bytes));
        self
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it takes chunks, and limiter and queue can be used; an error names the one that cannot, and why.
    pub async fn readiness(&self) -> std::result::Result<(), String> {
        if self.tools.is_draining() {
            return Err("The worker is about to stop".to_owned());
        }
        let (limiter, queue) = tokio::join!(self.tools.limiter.check(), self.tools.queue.check());
        for (service, checked) in [("limiter", limiter), ("queue", queue)] {
            checked.map_err(|error| format!("{service}: {}", with_causes(&error)))?;
        }
        Ok(())
    }

    /// Takes no more: each delivery ends with the request that is under way, reports what it has done, and hands the rest
    /// back.
    pub fn drain(&self) {
        self.tools.draining.send_replace(true);
    }

    /// Delivers one message and reports; acknowledges it once the report is durable.
    async fn handle(&self, mut message: Message) -> Result<()> {
        // The chunk holds what it needs of the body.
        let chunk = match ChunkV1::decode(&std::mem::take(&mut message.body)) {
            Ok(chunk) => chunk,
            Err(error) => {
                warn!(message = message.id, %error, "A chunk cannot be read; it is put aside, and its run hears of it");
                return message.put_aside().await;
            }
        };
        let span = self.span(&chunk);
        // Each delivery is a holder of its own: a message may come to this worker twice at once.
        let holder = format!("{}/{:x}", self.name, self.tools.clock.entropy());
        let (claimed, waited) = self.claim(&chunk, &holder).await?;
        // Who waited for another has a copy: should the limiter forget that one's claim, it may have begun all the same.
        let is_first = message.redelivered == 0 && !waited;
        let come = match claimed {
            Claimed::Mine if is_first => Come::First,
            Claimed::Mine => Come::Returned,
            Claimed::Ungranted => Come::Ungranted { is_first },
            Claimed::Inherited { announced } => Come::Begun { announced },
            Claimed::Done => return message.ack().await,
            // Handed back.
            Claimed::Held => return Ok(()),
        };
        // The claim is held until the report is durable: a message whose report was lost is delivered again.
        let work = async {
            let _in_hand = InHand::new(&chunk.account.name, matches!(come, Come::Begun { .. }));
            let delivered = self.deliver(&chunk, &holder, message.redelivered, come).instrument(span).await;
            let Some(report) = delivered else { return Ok(false) };
            self.tools.report(&report).await?;
            let ended = report.next.name();
            figures::count_delivery(&chunk.account.name, ended, 1);
            if report.next == Next::Continue {
                return Ok(true);
            }
            // Where it is not marked, a copy of the message is delivered again, which is less than losing this one's end.
            if let Err(error) = self.tools.limiter.finish(&chunk.account.name, &chunk.id).await {
                warn!(error = with_causes(&error), "A delivery could not be marked as finished");
            }
            Ok::<_, PortError>(true)
        };
        let done = tokio::select! {
            done = work => done?,
            never = self.keep_claim(&chunk, &holder) => match never {},
        };
        if done { message.ack().await } else { Ok(()) }
    }

    /// The span of a chunk's delivery, in the trace of its run.
    fn span(&self, chunk: &ChunkV1) -> Span {
        let span = info_span!(
            "process",
            otel.name = format!("process {}", chunk.account.name),
            otel.kind = "consumer",
            messaging.system = "rabbitmq",
            messaging.operation.type = "process",
            messaging.operation.name = "process",
            messaging.destination.name = chunk.account.name,
            messaging.message.id = %chunk.id,
            run = %chunk.id.run,
            chunk = chunk.id.chunk,
            attempt = chunk.id.attempt,
            records = chunk.rows,
            worker = self.name,
        );
        if let Some(parent) = &chunk.traceparent {
            outflow_trace::follow_message(&span, parent);
        }
        span
    }

    /// Waits until nobody else holds the chunk; while this worker drains it does not. True where somebody else held it.
    async fn claim(&self, chunk: &ChunkV1, holder: &str) -> Result<(Claimed, bool)> {
        let Tools { limiter, lease, .. } = &self.tools;
        let mut waited = false;
        loop {
            match limiter.claim(&chunk.account.name, &chunk.id, holder, *lease).await {
                Ok(Claimed::Held) if !self.tools.is_draining() => waited = true,
                Ok(claimed) => return Ok((claimed, waited)),
                Err(_) if self.tools.is_draining() => return Ok((Claimed::Held, waited)),
                // Handing it back would only bring it here again.
                Err(error) if error.trouble == Trouble::Unavailable => self.tools.tell_away(&error),
                Err(error) => return Err(error),
            }
            self.tools.sleep(CLAIM_AGAIN).await;
        }
    }

    /// Renews the claim as long as the delivery goes on, however long a request takes. Whether it still holds is told by
    /// each permit.
    async fn keep_claim(&self, chunk: &ChunkV1, holder: &str) -> std::convert::Infallible {
        let Tools { limiter, lease, .. } = &self.tools;
        loop {
            tokio::time::sleep(Duration::from_micros(*lease as u64 / 3)).await;
            if let Err(error) = limiter.claim(&chunk.account.name, &chunk.id, holder, *lease).await
                && self.tools.told.is_due()
            {
                warn!(error = with_causes(&error), "Claims cannot be renewed");
            }
        }
    }

    /// Delivers a chunk; nothing where it is left to others.
    async fn deliver(&self, chunk: &ChunkV1, holder: &str, redelivered: u32, come: Come) -> Option<ReportV1> {
        let announced = if let Come::Begun { announced } = come { announced } else { 0 };
        let ended = |next| Some(ReportV1 { announced, ..ReportV1::empty(chunk.id.clone(), chunk.rows, next) });
        let stop = |code: &str, message: String| {
            let refusal = Refusal { class: ErrorClass::FatalConfig, code: code.to_owned(), message };
            ended(Next::Stop { refusal })
        };
        if redelivered >= POISON {
            return ended(Next::Poison);
        }
        // The coordinator knows what was announced or checkpointed, and publishes the rest anew.
        let to_be_told = chunk.bulk || !chunk.repeatable;
        let next = match come {
            Come::Begun { .. } if to_be_told => Some(Next::Lost),
            Come::Returned if to_be_told => Some(Next::Returned),
            Come::Ungranted { .. } => Some(Next::Returned),
            _ => None,
        };
        if let Some(next) = next {
            let may_have_begun = matches!(come, Come::Begun { .. } | Come::Ungranted { is_first: false });
            if may_have_begun && to_be_told {
                // What was announced or checkpointed may have been read by a coordinator that hangs: the broker gives it to
                // another when its heartbeats have failed to come.
                self.tools.sleep(Duration::from_micros(self.tools.lease as u64)).await;
                if self.tools.is_draining() {
                    return None;
                }
            }
            return ended(next);
        }
        let account = match self.accounts.get(&chunk.account) {
            Ok(account) => account,
            Err(error) => return stop("ACCOUNT", error.to_string()),
        };
        // Records are there twice while they are read, and as they came; then once more, and in a request's body, which doubles its
        // room as it grows.
        let unpacked = unpacked_len(&chunk.payload).min(CHUNK_CAP as u64);
        // An answer on a job repeats them once more.
        let answer = if chunk.bulk { unpacked.min(BULK_ANSWER_CAP as u64) } else { 0 };
        let bytes = chunk.payload.len() as u64 + 4 * unpacked + answer;
        let lane = Lane(chunk.account.name.clone());
        let _place = tokio::select! {
            biased;
            place = self.room.take(&lane, bytes, chunk.urgent) => place,
            () = self.tools.drained() => {
                let (parked, class) = (chunk.parked.clone(), ErrorClass::Backoff);
                return ended(Next::Again { after: 0, counted: false, parked, class });
            }
        };
        let table = match unpack(&chunk.payload, CHUNK_CAP) {
            Ok(table) => table,
            Err(error) => return stop("PAYLOAD", error.to_string()),
        };
        let report = Delivery::new(&self.tools, &account, chunk, holder, &table).run().await;
        Some(self.with_new_secrets(&account, chunk, report))
    }

    /// Credentials that were refused are read again; where they are others now, what is left of the chunk is sent with them.
    fn with_new_secrets(&self, account: &Account, chunk: &ChunkV1, mut report: ReportV1) -> ReportV1 {
        let Next::Stop { refusal } = &mut report.next else { return report };
        *refusal = account.discreet(refusal);
        let class = refusal.class;
        let is_refused = matches!(class, ErrorClass::RefreshAuth | ErrorClass::FatalConfig);
        // A job goes on with what is known of it: its run finds the rest.
        if is_refused && self.accounts.refused(account) && !chunk.bulk {
            report.next = Next::Again { after: 0, counted: true, parked: None, class };
        }
        report
    }
}

/// Serves a lane with `concurrency` chunks at a time, until the worker is drained, or this is dropped.
pub async fn serve(worker: Arc<Worker>, lane: Lane, concurrency: u32) {
    let (_go_on, stop) = watch::channel(false);
    serve_until(worker, lane, concurrency, stop).await;
}

/// Serves a lane until `stop` is set, too.
pub(crate) async fn serve_until(worker: Arc<Worker>, lane: Lane, concurrency: u32, stop: watch::Receiver<bool>) {
    figures::begin(&lane.0);
    let mut tasks = JoinSet::new();
    let concurrency = concurrency.clamp(1, MOST);
    // No more than are delivered: what waited here would look like a message that is lost.
    let consumer = worker.tools.queue.consume(&lane, concurrency as u16);
    // One more than the lane's share serves urgent chunks alone: they wait for no other.
    let takes = std::iter::repeat_n(Take::Any, concurrency as usize).chain([Take::Urgent]);
    for take in takes {
        let (worker, lane, consumer, mut stop) = (worker.clone(), lane.clone(), consumer.clone(), stop.clone());
        tasks.spawn(async move {
            loop {
                let next = tokio::select! {
                    biased;
                    () = worker.tools.drained() => return consumer.stop(),
                    Ok(()) = async { stop.wait_for(|stop| *stop).await.map(drop) } => return consumer.stop(),
                    next = consumer.next(take) => next,
                };
                let handled = match next {
                    // A task of its own: should it panic, the message is handed back and this consumer goes on.
                    Ok(message) => {
                        let worker = worker.clone();
                        let task = AbortOnDrop(tokio::spawn(async move { worker.handle(message).await }));
                        task.join().await
                    }
                    Err(error) => Err(error),
                };
                if let Err(error) = handled {
                    if error.trouble != Trouble::Unavailable || worker.tools.told.is_due() {
                        warn!(%lane, error = with_causes(&error), "A delivery could not be completed");
                    }
                    if error.trouble == Trouble::Unavailable {
                        worker.tools.sleep(Duration::from_millis(200)).await;
                    }
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// How a message came here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Come {
    /// Straight from its coordinator.
    First,
    /// It was on its way to a worker that gave it back, or is gone, or another held a copy of it; as far as the limiter remembers,
    /// none began.
    Returned,
    /// It was never granted, or the limiter has forgotten that.
    Ungranted {
        /// Whether it came straight from its coordinator.
        is_first: bool,
    },
    /// A worker began to deliver it, and is gone.
    Begun {
        /// Requests that it had announced.
        announced: u32,
    },
}

/// A task that ends with the one that waits for it.
struct AbortOnDrop(tokio::task::JoinHandle<Result<()>>);

impl AbortOnDrop {
    async fn join(mut self) -> Result<()> {
        match (&mut self.0).await {
            Ok(result) => result,
            Err(error) => Err(PortError::caused(Trouble::Corrupt, "A delivery broke off", error)),
        }
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
