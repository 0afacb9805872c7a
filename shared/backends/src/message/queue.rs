//! A queue whose messages pass a codec on their way in and out.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use outflow_model::id::Lane;
use outflow_model::port::queue::{Consumer, Delivery, Outgoing, Queue, Receipt, Take};
use outflow_model::port::{PortError, Result, Trouble};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Codec, Decoded, Kind, Unread};

/// First and longest time for which a process leaves messages that it cannot read to others. A broker counts how often it delivers
/// a message, so they come and go seldom.
const ASIDE: [Duration; 2] = [Duration::from_secs(30), Duration::from_mins(5)];
/// Deliveries after which a report counts as one that no coordinator can read.
const UNREADABLE_AFTER: u32 = 2;

/// `inner`, with a codec applied to every message.
pub(super) struct EncodedQueue {
    inner: Arc<dyn Queue>,
    codec: Arc<Codec>,
    aside: [Duration; 2],
    /// One for all who read: reports that this process cannot read are left to others by all of them.
    reports: Mutex<Weak<Reader>>,
}

impl EncodedQueue {
    pub(super) fn new(inner: Arc<dyn Queue>, codec: Codec) -> Self {
        Self { inner, codec: Arc::new(codec), aside: ASIDE, reports: Mutex::default() }
    }

    #[cfg(test)]
    pub(super) fn with_aside(self, aside: [Duration; 2]) -> Self {
        Self { aside, ..self }
    }

    fn read(&self, kind: Kind, open: Box<dyn Fn() -> Arc<dyn Consumer> + Send + Sync>) -> Arc<Reader> {
        let (state, _) = watch::channel(State::Open(open()));
        Arc::new(Reader {
            kind,
            codec: self.codec.clone(),
            open,
            state,
            pause: Mutex::new(self.aside[0]),
            aside: self.aside,
            decoding: tokio::sync::Mutex::new(None),
        })
    }
}

#[async_trait]
impl Queue for EncodedQueue {
    async fn publish(&self, lane: &Lane, urgent: bool, message: Outgoing) -> Result<()> {
        let body = self.codec.encode(Kind::Chunk, &message.id, &message.body).await?;
        self.inner.publish(lane, urgent, Outgoing { body, ..message }).await
    }

    fn consume(&self, lane: &Lane, most: u16) -> Arc<dyn Consumer> {
        let (inner, lane) = (self.inner.clone(), lane.clone());
        self.read(Kind::Chunk, Box::new(move || inner.consume(&lane, most)))
    }

    async fn waiting(&self, lane: &Lane) -> Result<u64> {
        self.inner.waiting(lane).await
    }

    fn outlives_processes(&self) -> bool {
        self.inner.outlives_processes()
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }

    async fn report(&self, message: Outgoing) -> Result<()> {
        let body = self.codec.encode(Kind::Report, &message.id, &message.body).await?;
        self.inner.report(Outgoing { body, ..message }).await
    }

    fn reports(&self) -> Arc<dyn Consumer> {
        let mut held = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = held.upgrade() {
            return open;
        }
        let inner = self.inner.clone();
        let open = self.read(Kind::Report, Box::new(move || inner.reports()));
        *held = Arc::downgrade(&open);
        open
    }
}

/// Whether messages are taken.
#[derive(Clone)]
enum State {
    Open(Arc<dyn Consumer>),
    /// Not until then: what comes is for others. The reason is there if no process seems to be able to read it.
    Aside(Instant, Option<String>),
    Stopped,
}

/// A message of the inner queue, and what the codec made of it.
type Passed = (Delivery, std::result::Result<Decoded, Unread>);

/// A consumer of a lane or of the reports.
struct Reader {
    kind: Kind,
    codec: Arc<Codec>,
    open: Box<dyn Fn() -> Arc<dyn Consumer> + Send + Sync>,
    state: watch::Sender<State>,
    /// How long it stands aside next time.
    pause: Mutex<Duration>,
    aside: [Duration; 2],
    /// The report under way. A caller that stops waiting leaves it to the next one: reports stay in their order, since what a
    /// worker announced comes before what became of it.
    decoding: tokio::sync::Mutex<Option<BoxFuture<'static, Passed>>>,
}

impl Drop for Reader {
    /// Messages that were taken keep the inner consumer alive; it takes no more.
    fn drop(&mut self) {
        if let State::Open(inner) = &*self.state.borrow() {
            inner.stop();
        }
    }
}

impl Reader {
    /// The next message in this state; none if it was not for this process, or the state has changed.
    async fn step(&self, state: State, take: Take) -> Result<Option<Delivery>> {
        match state {
            State::Open(inner) => {
                let (delivery, decoded) = self.pass(inner.as_ref(), take).await?;
                return Ok(self.settle(inner, delivery, decoded));
            }
            State::Aside(until, Some(reason)) if Instant::now() < until => {
                return Err(PortError::new(Trouble::Unavailable, reason));
            }
            State::Aside(until, _) => tokio::time::sleep_until(until).await,
            State::Stopped => std::future::pending().await,
        }
        self.state.send_if_modified(|state| {
            let is_over = matches!(state, State::Aside(until, _) if Instant::now() >= *until);
            if is_over {
                *state = State::Open((self.open)());
            }
            is_over
        });
        Ok(None)
    }

    /// Takes the next message and decodes it. A chunk whose caller stops waiting goes back to its lane.
    async fn pass(&self, inner: &dyn Consumer, take: Take) -> Result<Passed> {
        if self.kind == Kind::Chunk {
            return Ok(decode(self.codec.clone(), self.kind, inner.next(take).await?).await);
        }
        let mut decoding = self.decoding.lock().await;
        let passing = match &mut *decoding {
            Some(passing) => passing,
            none => none.insert(decode(self.codec.clone(), self.kind, inner.next(take).await?).boxed()),
        };
        let passed = passing.await;
        *decoding = None;
        Ok(passed)
    }

    fn settle(
        &self,
        inner: Arc<dyn Consumer>,
        delivery: Delivery,
        decoded: std::result::Result<Decoded, Unread>,
    ) -> Option<Delivery> {
        let (id, redelivered) = (delivery.id.clone(), delivery.redelivered);
        match decoded {
            Ok(Decoded { body, stored }) => {
                *self.pause.lock().unwrap_or_else(PoisonError::into_inner) = self.aside[0];
                let receipt = Encoded { delivery, codec: self.codec.clone(), stored, _inner: inner };
                return Some(Delivery::new(id, body, redelivered, Box::new(receipt)));
            }
            Err(Unread::Damaged(reason)) => {
                warn!(message = id, reason, "A message cannot be read; it is put aside");
                end(id, inner, delivery.put_aside());
            }
            Err(Unread::Gone(reason)) if redelivered > 0 => {
                debug!(message = id, reason, "A message came again that was dealt with; it is dropped");
                end(id, inner, delivery.ack());
            }
            Err(Unread::Gone(reason) | Unread::ForOthers(reason)) => self.stand_aside(delivery, reason),
        }
        None
    }

    /// Hands a message back, and whatever else waits here, and takes no more for a while.
    fn stand_aside(&self, delivery: Delivery, reason: String) {
        let mut pause = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, redelivered) = (delivery.id.clone(), delivery.redelivered);
        drop(delivery);
        let stood_aside = self.state.send_if_modified(|state| {
            let State::Open(inner) = state else { return false };
            inner.stop();
            // A chunk that waits is seen to wait. A report that nothing settles looks like a delivery that was lost.
            let is_unreadable = self.kind == Kind::Report && redelivered >= UNREADABLE_AFTER;
            *state = State::Aside(Instant::now() + *pause, is_unreadable.then(|| reason.clone()));
            true
        });
        if stood_aside {
            let seconds = pause.as_secs();
            warn!(
                message = id,
                reason, seconds, "A message cannot be read here; for a while all are left to other processes"
            );
            *pause = (*pause * 2).min(self.aside[1]);
        }
    }
}

#[async_trait]
impl Consumer for Reader {
    async fn next(&self, take: Take) -> Result<Delivery> {
        let mut changes = self.state.subscribe();
        loop {
            let state = changes.borrow_and_update().clone();
            tokio::select! {
                _ = changes.changed() => {}
                next = self.step(state, take) => {
                    if let Some(delivery) = next? {
                        return Ok(delivery);
                    }
                }
            }
        }
    }

    fn stop(&self) {
        self.state.send_modify(|state| {
            if let State::Open(inner) = state {
                inner.stop();
            }
            *state = State::Stopped;
        });
    }
}

async fn decode(codec: Arc<Codec>, kind: Kind, mut delivery: Delivery) -> Passed {
    let body = std::mem::take(&mut delivery.body);
    let decoded = codec.decode(kind, &delivery.id, body).await;
    (delivery, decoded)
}

/// Settles a message of the inner queue in a task of its own: a caller that stops waiting does not leave it half settled.
fn end(id: String, inner: Arc<dyn Consumer>, settling: impl Future<Output = Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = settling.await {
            warn!(message = id, %error, "A message could not be settled");
        }
        drop(inner);
    });
}

/// Settles the encoded message. It keeps the consumer that the message came from, over which it is acknowledged.
struct Encoded {
    delivery: Delivery,
    codec: Arc<Codec>,
    stored: Option<String>,
    _inner: Arc<dyn Consumer>,
}

#[async_trait]
impl Receipt for Encoded {
    async fn ack(self: Box<Self>) -> Result<()> {
        self.delivery.ack().await?;
        if let Some(key) = &self.stored {
            self.codec.forget(key).await;
        }
        Ok(())
    }

    fn hand_back(self: Box<Self>) {
        drop(self.delivery);
    }

    /// The stored body is there for people until it is swept with its run.
    async fn put_aside(self: Box<Self>) -> Result<()> {
        self.delivery.put_aside().await
    }
}
