//! Drives a destination through one chunk: step by step, each request inside the limits, one outcome per record.

mod book;
mod decide;
mod group;
mod learn;
mod request;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use outflow_model::backoff::Backoff;
use outflow_model::limit::Micros;
use outflow_model::policy::ErrorClass;
use outflow_model::port;
use outflow_model::port::clock::Clock;
use outflow_model::port::limiter::Limiter;
use outflow_model::port::queue::{Outgoing, Queue};
use outflow_model::table::Table;
use outflow_model::text::with_causes;
use outflow_model::wire::{ChunkV1, Next, ParkedV1, ReportV1};
use outflow_trace::Seldom;
use tokio::sync::watch;
use tracing::warn;

use crate::account::Account;
use book::Book;
use request::HOLD;

/// Passes over the records that transient trouble left, before they are handed back.
const PASSES: u32 = 3;
/// Batches of records that were in each other's way are cut smaller by this power of two.
const SHRINK: u32 = 3;
const HAND_BACK: Micros = 2_000_000;
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(200), cap: Duration::from_secs(5) };

/// What a delivery works with.
pub(crate) struct Tools {
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) limiter: Arc<dyn Limiter>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Claims lapse after so much silence.
    pub(crate) lease: Micros,
    /// Bounds how often the log says the same of every request.
    pub(crate) told: Seldom,
    /// Set when the worker is to end.
    pub(crate) draining: watch::Sender<bool>,
}

impl Tools {
    /// True where nothing more is begun.
    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Waits until nothing more is begun.
    pub(crate) async fn drained(&self) {
        _ = self.draining.subscribe().wait_for(|draining| *draining).await;
    }

    /// Waits for so long, or until nothing more is begun.
    pub(crate) async fn sleep(&self, time: Duration) {
        _ = tokio::time::timeout(time, self.drained()).await;
    }

    /// Says that the limiter is away, and why; seldom, since each request that waits for it would.
    pub(crate) fn tell_away(&self, error: &port::PortError) {
        if self.told.is_due() {
            warn!(error = with_causes(error), "The limiter cannot be asked; nothing is sent until it answers");
        }
    }

    /// Sends a report; it is durable then.
    pub(crate) async fn report(&self, report: &ReportV1) -> port::Result<()> {
        let body = report
            .encode()
            .map_err(|error| port::PortError::caused(port::Trouble::Corrupt, "Cannot write a report", error))?;
        self.queue.report(Outgoing::new(report.id.to_string(), body)).await
    }
}

/// One delivery of one chunk.
pub(crate) struct Delivery<'a> {
    tools: &'a Tools,
    account: &'a Account,
    chunk: &'a ChunkV1,
    /// Who has the chunk's claim: this delivery.
    holder: &'a str,
    table: &'a Table,
    book: Book<'a>,
    /// What this pass is to deliver yet.
    groups: VecDeque<Group>,
    /// Requests that were announced.
    intents: u32,
    /// Where the group under way goes on from, should this delivery end.
    held: Option<ParkedV1>,
    /// Batches are cut smaller by this power of two.
    shrink: u32,
    /// How long the destination wants the next pass to wait.
    rest: Micros,
}

/// Why a delivery ends before its records are done.
enum Stop {
    /// Hand back what is left.
    Next(Next),
    /// The queue or the limiter failed.
    Port(port::PortError),
}

impl From<port::PortError> for Stop {
    fn from(error: port::PortError) -> Self {
        Self::Port(error)
    }
}

/// A group of records on its way, with what to resume it with.
struct Group {
    rows: Vec<u32>,
    bulk: bool,
    /// The durable state that it goes on from, in this process or another.
    durable: Option<Vec<u8>>,
}

impl<'a> Delivery<'a> {
    pub(crate) fn new(
        tools: &'a Tools,
        account: &'a Account,
        chunk: &'a ChunkV1,
        holder: &'a str,
        table: &'a Table,
    ) -> Self {
        Self {
            tools,
            account,
            chunk,
            holder,
            table,
            book: Book::new(account, chunk, table),
            groups: VecDeque::new(),
            intents: 0,
            held: None,
            // What jobs left over goes in smaller ones.
            shrink: if chunk.bulk { SHRINK * chunk.tries.min(4) } else { 0 },
            rest: 0,
        }
    }

    /// Delivers what is pending; the report says what came of it.
    pub(crate) async fn run(mut self) -> ReportV1 {
        let began = self.tools.clock.now();
        let next = match self.passes().await {
            Ok(()) if self.book.again.is_empty() => Next::Done,
            Ok(()) => {
                let (after, class) = (self.hand_back().max(self.rest), self.book.class);
                self.book.report.waits += after;
                Next::Again { after, counted: true, parked: None, class }
            }
            Err(Stop::Next(next)) => next,
            Err(Stop::Port(error)) => {
                warn!(error = with_causes(&error), "A delivery stops half-way; what is known of it is reported");
                let (parked, class) = (self.held.take(), ErrorClass::Backoff);
                Next::Again { after: HAND_BACK, counted: true, parked, class }
            }
        };
        self.book.report.took = self.tools.clock.now() - began;
        self.book.known(next)
    }

    async fn passes(&mut self) -> Result<(), Stop> {
        let mut rows = self.chunk.pending();
        if let Some(parked) = &self.chunk.parked {
            let waiting: BTreeSet<u32> = parked.rows.iter().copied().collect();
            rows.retain(|row| !waiting.contains(row));
            let durable = Some(parked.state.clone());
            self.groups.push_back(Group { rows: parked.rows.clone(), bulk: true, durable });
        }
        for pass in 1..=PASSES {
            self.cut(&rows);
            self.rest = 0;
            while let Some(group) = self.groups.pop_front() {
                self.group(group).await?;
                // A job is a try: what it left over is cut anew by the next delivery, which counts it.
                if self.chunk.bulk && !self.book.again.is_empty() {
                    return Ok(());
                }
            }
            if self.book.again.is_empty() || pass == PASSES {
                return Ok(());
            }
            rows = std::mem::take(&mut self.book.again);
            rows.sort_unstable();
            if std::mem::take(&mut self.book.smaller) {
                self.shrink += SHRINK;
            }
            let after = std::mem::take(&mut self.rest);
            self.back_off(pass, after, self.book.class).await?;
        }
        Ok(())
    }

    /// How much longer the records may wait.
    fn patience(&self) -> Micros {
        self.chunk.max_wait - self.chunk.waited - self.book.report.waits
    }

    /// Waits before what has failed so often is tried again, and no less than the destination asks for; hands back what is left
    /// where that is too long.
    async fn back_off(&mut self, failed: u32, asked: Micros, class: ErrorClass) -> Result<(), Stop> {
        let usual = BACKOFF.after(failed, self.tools.clock.entropy() as u8).as_micros() as Micros;
        let after = usual.max(asked);
        if after > self.patience().min(HOLD) {
            return Err(self.wait_for(after.max(self.hand_back()), true, class));
        }
        self.book.report.waits += after;
        self.tools.sleep(Duration::from_micros(after as u64)).await;
        Ok(())
    }

    /// What is left is published again once its records have waited for so long.
    fn wait_for(&mut self, after: Micros, counted: bool, class: ErrorClass) -> Stop {
        self.book.report.waits += after;
        Stop::Next(Next::Again { after, counted, parked: self.held.take(), class })
    }

    fn cut(&mut self, rows: &[u32]) {
        let Account { destination, settings, limits, .. } = self.account;
        let size =
            |bulk| destination.batch_size(self.chunk.operation, &self.chunk.object, settings, bulk).max(1) as usize;
        // What a job left over goes by the usual interface where it fits one call.
        let bulk = self.chunk.bulk && (self.chunk.tries == 0 || rows.len() > size(false));
        // A request that is larger than a window would exceed it whenever it leaves.
        let most = limits.most_records().filter(|_| !bulk).map_or(usize::MAX, |most| most as usize);
        for rows in rows.chunks((size(bulk) >> self.shrink).clamp(1, most)) {
            self.groups.push_back(Group { rows: rows.to_vec(), bulk, durable: None });
        }
    }

    /// How long the next try waits.
    fn hand_back(&self) -> Micros {
        HAND_BACK << self.chunk.tries.min(6)
    }
}
