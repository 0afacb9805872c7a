//! A queue around another one, whose messages pass a layer on their way in and out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use outflow_model::id::Lane;
use outflow_model::port::queue::{Consumer, Delivery, Outgoing, Queue, Receipt, Reports, Take};
use outflow_model::port::{PortError, Result, Trouble};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{debug, warn};

/// How long a process leaves messages that it cannot read to others; doubles up to the last. A broker counts how often it
/// delivers a message, so they come and go seldom.
const ASIDE: [Duration; 2] = [Duration::from_secs(30), Duration::from_mins(5)];
/// A message that came back so often is one that the others cannot read either.
const NOBODY: u32 = 2;

/// Chunks go out, reports come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chunk,
    Report,
}

/// What a layer makes of a body that came.
pub(super) enum Passed {
    /// The message, and what is of no use once it has been acknowledged.
    Read { body: Bytes, leaves: Option<String> },
    /// Nobody can read it, for this reason: it is given up.
    Unreadable(String),
    /// What it was about was dealt with, for this reason; where the message has just been sent, processes that are set up otherwise
    /// can read it.
    Gone(String),
    /// Processes that are set up otherwise can read it; this one cannot, for this reason.
    ForOthers(String),
}

/// What is done to each message on its way.
#[async_trait]
pub(super) trait Layer: Send + Sync + 'static {
    /// The body to send in this one's place.
    async fn out(&self, kind: Kind, id: &str, body: Bytes) -> Result<Bytes>;
    /// The body that was sent.
    async fn back(&self, kind: Kind, id: &str, body: Bytes) -> Passed;
    /// Does away with what an acknowledged message leaves.
    async fn clear(&self, _leaves: &str) {}
}

/// `inner`, with every message passing `layer`.
pub(super) struct Layered<L> {
    inner: Arc<dyn Queue>,
    layer: Arc<L>,
    aside: [Duration; 2],
    /// One for all who read: reports that this process cannot read are left by all of them.
    reports: Mutex<Weak<Reader<L>>>,
}

impl<L: Layer> Layered<L> {
    pub(super) fn new(inner: Arc<dyn Queue>, layer: L) -> Self {
        Self { inner, layer: Arc::new(layer), aside: ASIDE, reports: Mutex::default() }
    }

    #[cfg(test)]
    pub(super) fn with_aside(self, aside: [Duration; 2]) -> Self {
        Self { aside, ..self }
    }

    fn reader(&self, of: Of) -> Arc<Reader<L>> {
        let (stand, _) = watch::channel(Stand::Open(of.open(self.inner.as_ref())));
        let shared = Shared {
            layer: self.layer.clone(),
            kind: of.kind(),
            stand,
            pause: Mutex::new(self.aside[0]),
            aside: self.aside,
            room: Arc::new(Semaphore::new(of.at_once())),
            ready: Mutex::default(),
            passed: Notify::new(),
        };
        Arc::new(Reader { inner: self.inner.clone(), of, shared: Arc::new(shared) })
    }
}

#[async_trait]
impl<L: Layer> Queue for Layered<L> {
    async fn publish(&self, lane: &Lane, urgent: bool, message: Outgoing) -> Result<()> {
        let body = self.layer.out(Kind::Chunk, &message.id, message.body).await?;
        self.inner.publish(lane, urgent, Outgoing { body, ..message }).await
    }

    fn consume(&self, lane: &Lane, most: u16) -> Arc<dyn Consumer> {
        self.reader(Of::Lane(lane.clone(), most))
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
        let body = self.layer.out(Kind::Report, &message.id, message.body).await?;
        self.inner.report(Outgoing { body, ..message }).await
    }

    fn reports(&self) -> Arc<dyn Reports> {
        let mut held = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = held.upgrade() {
            return open;
        }
        let open = self.reader(Of::Reports);
        *held = Arc::downgrade(&open);
        open
    }
}

/// What is read.
enum Of {
    Lane(Lane, u16),
    Reports,
}

impl Of {
    fn open(&self, queue: &dyn Queue) -> Inner {
        match self {
            Self::Lane(lane, most) => Inner::Lane(queue.consume(lane, *most)),
            Self::Reports => Inner::Reports(queue.reports()),
        }
    }

    /// How many messages pass at a time. Reports stay in their order: what a worker announced comes before what became of it.
    const fn at_once(&self) -> usize {
        match self {
            Self::Lane(..) => Semaphore::MAX_PERMITS,
            Self::Reports => 1,
        }
    }

    const fn kind(&self) -> Kind {
        match self {
            Self::Lane(..) => Kind::Chunk,
            Self::Reports => Kind::Report,
        }
    }
}

/// The reader of the queue within.
#[derive(Clone)]
enum Inner {
    Lane(Arc<dyn Consumer>),
    Reports(Arc<dyn Reports>),
}

impl Inner {
    async fn next(&self, take: Take) -> Result<Delivery> {
        match self {
            Self::Lane(consumer) => consumer.next(take).await,
            Self::Reports(reports) => reports.next().await,
        }
    }

    fn stop(&self) {
        if let Self::Lane(consumer) = self {
            consumer.stop();
        }
    }
}

/// A message on its way through the layer.
struct Coming {
    inner: Inner,
    delivery: Delivery,
    _room: Option<OwnedSemaphorePermit>,
}

/// Whether messages are taken.
#[derive(Clone)]
enum Stand {
    Open(Inner),
    /// Not until then: what comes is for others, for the reason given where nobody seems to be able to read it.
    Aside(Instant, Option<String>),
    Stopped,
}

/// A consumer of a lane, or a reader of reports.
struct Reader<L> {
    inner: Arc<dyn Queue>,
    of: Of,
    shared: Arc<Shared<L>>,
}

impl<L> Drop for Reader<L> {
    /// Messages that were taken keep the reader within alive; it takes no more.
    fn drop(&mut self) {
        if let Stand::Open(inner) = &*self.shared.stand.borrow() {
            inner.stop();
        }
    }
}

/// What a reader shares with the messages that pass its layer. They pass in tasks of their own, since whoever waits for the
/// next message may give up waiting at any moment.
struct Shared<L> {
    layer: Arc<L>,
    kind: Kind,
    stand: watch::Sender<Stand>,
    /// How long it stands aside next time.
    pause: Mutex<Duration>,
    aside: [Duration; 2],
    /// For messages that pass.
    room: Arc<Semaphore>,
    ready: Mutex<VecDeque<(Take, Delivery)>>,
    /// Told when a message has passed.
    passed: Notify,
}

impl<L: Layer> Reader<L> {
    async fn take(&self, take: Take) -> Result<Delivery> {
        let shared = &self.shared;
        let mut changes = shared.stand.subscribe();
        // The message that this call has asked for, as it passes.
        let mut coming: Option<JoinHandle<()>> = None;
        loop {
            // Registered before the look: what passes in between is not missed.
            let mut passed = std::pin::pin!(shared.passed.notified());
            passed.as_mut().enable();
            if let Some(delivery) = shared.take_ready(take) {
                return Ok(delivery);
            }
            let stand = changes.borrow_and_update().clone();
            tokio::select! {
                () = passed => {}
                () = ended(&mut coming) => {}
                _ = changes.changed() => {}
                next = self.step(stand, take), if coming.is_none() => {
                    if let Some(next) = next? {
                        coming = Some(tokio::spawn(shared.clone().pass(take, next)));
                    }
                }
            }
        }
    }

    /// The next message within, as things stand; none where they stand otherwise now.
    async fn step(&self, stand: Stand, take: Take) -> Result<Option<Coming>> {
        match stand {
            Stand::Open(inner) => {
                let room = self.shared.room.clone().acquire_owned().await.ok();
                let delivery = inner.next(take).await?;
                Ok(Some(Coming { inner, delivery, _room: room }))
            }
            Stand::Aside(until, None) => {
                tokio::time::sleep_until(until).await;
                self.reopen();
                Ok(None)
            }
            Stand::Aside(until, Some(_)) if Instant::now() >= until => {
                self.reopen();
                Ok(None)
            }
            Stand::Aside(_, Some(reason)) => Err(PortError::new(Trouble::Unavailable, reason)),
            Stand::Stopped => std::future::pending().await,
        }
    }

    fn reopen(&self) {
        self.shared.stand.send_if_modified(|stand| {
            let over = matches!(stand, Stand::Aside(until, _) if Instant::now() >= *until);
            if over {
                *stand = Stand::Open(self.of.open(self.inner.as_ref()));
            }
            over
        });
    }
}

impl<L: Layer> Shared<L> {
    fn ready(&self) -> MutexGuard<'_, VecDeque<(Take, Delivery)>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message that has passed; what was taken for anybody may be no urgent one.
    fn take_ready(&self, take: Take) -> Option<Delivery> {
        let mut ready = self.ready();
        let at = ready.iter().position(|(taken, _)| take == Take::Any || *taken == Take::Urgent)?;
        ready.remove(at).map(|(_, delivery)| delivery)
    }

    async fn pass(self: Arc<Self>, take: Take, coming: Coming) {
        let Coming { inner, mut delivery, _room } = coming;
        let (id, redelivered) = (delivery.id.clone(), delivery.redelivered);
        match self.layer.back(self.kind, &id, std::mem::take(&mut delivery.body)).await {
            Passed::Read { body, leaves } => {
                *self.pause.lock().unwrap_or_else(PoisonError::into_inner) = self.aside[0];
                let receipt = Through { delivery, layer: self.layer.clone(), leaves, _inner: inner };
                let mut ready = self.ready();
                // Whoever has stopped takes no more: what passes then is handed back.
                if !matches!(&*self.stand.borrow(), Stand::Stopped) {
                    ready.push_back((take, Delivery::new(id, body, redelivered, Box::new(receipt))));
                }
            }
            Passed::Unreadable(reason) => {
                warn!(message = id, reason, "A message cannot be read; it is put aside");
                if let Err(error) = delivery.put_aside().await {
                    warn!(message = id, %error, "A message could not be put aside");
                }
            }
            Passed::Gone(reason) if redelivered > 0 => {
                debug!(message = id, reason, "A message came again that was dealt with; it is dropped");
                if let Err(error) = delivery.ack().await {
                    warn!(message = id, %error, "A message could not be dropped");
                }
            }
            Passed::Gone(reason) | Passed::ForOthers(reason) => self.leave(delivery, reason),
        }
        self.passed.notify_waiters();
    }

    /// Hands a message back, and whatever else waits here, and takes no more for a while.
    fn leave(&self, delivery: Delivery, reason: String) {
        let mut pause = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, redelivered) = (delivery.id.clone(), delivery.redelivered);
        drop(delivery);
        let stood_aside = self.stand.send_if_modified(|stand| {
            let is_open = matches!(stand, Stand::Open(_));
            if let Stand::Open(inner) = stand {
                inner.stop();
                // A chunk that waits is seen to wait. A report that nobody settles looks like a delivery that was lost.
                let nobody = self.kind == Kind::Report && redelivered >= NOBODY;
                *stand = Stand::Aside(Instant::now() + *pause, nobody.then(|| reason.clone()));
            }
            is_open
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

/// Waits for a task's end, where there is a task; then there is none.
async fn ended(task: &mut Option<JoinHandle<()>>) {
    match task {
        Some(running) => _ = running.await,
        None => std::future::pending().await,
    }
    *task = None;
}

/// Settles the message within. It keeps the reader that the message came from, for over that it is acknowledged.
struct Through<L> {
    delivery: Delivery,
    layer: Arc<L>,
    leaves: Option<String>,
    _inner: Inner,
}

#[async_trait]
impl<L: Layer> Receipt for Through<L> {
    async fn ack(self: Box<Self>) -> Result<()> {
        self.delivery.ack().await?;
        if let Some(leaves) = &self.leaves {
            self.layer.clear(leaves).await;
        }
        Ok(())
    }

    fn hand_back(self: Box<Self>) {
        drop(self.delivery);
    }

    /// Whoever looks at it finds what it leaves, until that is swept with its run.
    async fn put_aside(self: Box<Self>) -> Result<()> {
        self.delivery.put_aside().await
    }
}

#[async_trait]
impl<L: Layer> Consumer for Reader<L> {
    async fn next(&self, take: Take) -> Result<Delivery> {
        self.take(take).await
    }

    fn stop(&self) {
        self.shared.stand.send_modify(|stand| {
            if let Stand::Open(inner) = stand {
                inner.stop();
            }
            *stand = Stand::Stopped;
        });
        self.shared.ready().clear();
    }
}

#[async_trait]
impl<L: Layer> Reports for Reader<L> {
    async fn next(&self) -> Result<Delivery> {
        self.take(Take::Any).await
    }
}
