//! Drives a destination through one chunk: step by step, each request inside the limits, one outcome per record.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use outflow_destinations::{Batch, Event, Failure, Request, Response, Step};
use outflow_model::backoff::Backoff;
use outflow_model::cell::{Cell, Kind};
use outflow_model::column::Column;
use outflow_model::limit::Micros;
use outflow_model::outcome::{Again, Outcome, Refusal, Status};
use outflow_model::policy::ErrorClass;
use outflow_model::port;
use outflow_model::port::clock::Clock;
use outflow_model::port::limiter::{Ended, Limiter, Request as Permit, Verdict};
use outflow_model::port::queue::Queue;
use outflow_model::table::Table;
use outflow_model::wire::{ChunkV1, Next, ParkedV1, ReportV1, RowRefusal, VERSION};
use tracing::{Instrument, debug, info_span, warn};

use crate::account::Account;
use crate::auth::NoToken;

/// A worker holds a chunk no longer than this for a limit; then it hands back what is left.
const HOLD: Micros = 30_000_000;
/// A claim lapses after this much silence.
const LEASE: Micros = 120_000_000;
/// Passes over the records that transient trouble left, before they are handed back.
const PASSES: u32 = 3;
/// Batches of records that were in each other's way are cut smaller by this power of two.
const SHRINK: u32 = 3;
/// A pause where the destination names none.
const DEFAULT_PAUSE: Micros = 1_000_000;
const HAND_BACK: Micros = 2_000_000;
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(200), cap: Duration::from_secs(5) };

/// What a delivery works with.
pub(crate) struct Tools {
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) limiter: Arc<dyn Limiter>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) worker: String,
}

/// One delivery of one chunk.
pub(crate) struct Delivery<'a> {
    tools: &'a Tools,
    account: &'a Account,
    chunk: &'a ChunkV1,
    table: &'a Table,
    report: ReportV1,
    told: Vec<Option<String>>,
    intents: u32,
    /// Records that transient trouble left, and why.
    again: Vec<u32>,
    class: ErrorClass,
    /// Where the group under way goes on from, should this delivery end.
    held: Option<ParkedV1>,
    /// Why records did not succeed (yet).
    refusals: BTreeMap<u32, Refusal>,
    /// Some of them were in each other's way.
    smaller: bool,
    /// Batches are cut smaller by this power of two.
    shrink: u32,
    /// Records that were given their one more try.
    retried: BTreeSet<u32>,
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

/// A permitted request. Dropped before it has ended, it gives its budget back: a worker that is stopped leaks nothing.
struct Slot {
    limiter: Arc<dyn Limiter>,
    account: String,
    ended: bool,
}

impl Slot {
    fn new(tools: &Tools, account: &Account) -> Self {
        Self { limiter: tools.limiter.clone(), account: account.name.clone(), ended: false }
    }

    async fn end(mut self, ended: Ended) -> port::Result<()> {
        self.ended = true;
        self.limiter.end(&self.account, ended).await
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let (false, Ok(runtime)) = (self.ended, tokio::runtime::Handle::try_current()) {
            let (limiter, account) = (self.limiter.clone(), std::mem::take(&mut self.account));
            runtime.spawn(async move { limiter.end(&account, Ended::Sent).await });
        }
    }
}

/// Names a request's records; the same when they are sent again, another for any other set of records.
fn token(chunk: &ChunkV1, rows: &[u32]) -> String {
    // FNV-1a: the token must be the same in every version.
    let digest = rows
        .iter()
        .flat_map(|row| row.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{}-{}-{digest:016x}", chunk.id.run, chunk.id.chunk)
}

/// True where a request that got this status may have been carried out, in part or whole.
const fn may_be_done(status: u16) -> bool {
    matches!(status, 200..=299 | 500..=502 | 504..=599)
}

/// Reads `used/allowed`, such as `api-usage=44/15000`.
fn used_of_allowed(text: &str) -> Option<(u64, u64)> {
    let first = text.split([';', ',']).next()?;
    let (used, allowed) = first.rsplit_once('=').map_or(first, |(_, value)| value).split_once('/')?;
    Some((used.trim().parse().ok()?, allowed.trim().parse().ok()?))
}

/// A group of records on its way, with what to resume it with.
struct Group {
    rows: Vec<u32>,
    bulk: bool,
    /// The durable state that it goes on from, in this process or another.
    durable: Option<Vec<u8>>,
}

impl<'a> Delivery<'a> {
    pub(crate) fn new(tools: &'a Tools, account: &'a Account, chunk: &'a ChunkV1, table: &'a Table) -> Self {
        let told = if chunk.wants_ids { vec![None; chunk.rows as usize] } else { Vec::new() };
        Self {
            tools,
            account,
            chunk,
            table,
            report: ReportV1::empty(chunk.id.clone(), chunk.rows, Next::Done),
            told,
            intents: 0,
            again: Vec::new(),
            class: ErrorClass::Backoff,
            held: None,
            refusals: BTreeMap::new(),
            smaller: false,
            // What jobs left over goes in smaller ones.
            shrink: if chunk.bulk { SHRINK * chunk.tries.min(4) } else { 0 },
            retried: BTreeSet::new(),
        }
    }

    /// Delivers what is pending; the report says what came of it.
    pub(crate) async fn run(mut self) -> ReportV1 {
        let began = self.tools.clock.now();
        let next = match self.passes().await {
            Ok(()) if self.again.is_empty() => Next::Done,
            Ok(()) => Next::Again { after: self.hand_back(), counted: true, parked: None, class: self.class },
            Err(Stop::Next(next)) => next,
            Err(Stop::Port(error)) => {
                warn!(error = %error, "A delivery stops half-way; what is known of it is reported");
                let (parked, class) = (self.held.take(), ErrorClass::Backoff);
                Next::Again { after: HAND_BACK, counted: true, parked, class }
            }
        };
        self.report.took = self.tools.clock.now() - began;
        self.known(next)
    }

    /// A report of everything that is known.
    fn known(&self, next: Next) -> ReportV1 {
        let refusal = |(row, refusal): (&u32, &Refusal)| RowRefusal { row: *row, refusal: refusal.clone() };
        let refusals = self.refusals.iter().map(refusal).collect();
        ReportV1 { next, refusals, ids: self.ids(), ..self.report.clone() }
    }

    /// The record ids that were told, one per record of the chunk.
    fn ids(&self) -> Option<Column> {
        if self.told.iter().all(Option::is_none) {
            return None;
        }
        let mut column = Column::with_capacity(Kind::Text, self.told.len());
        self.told.iter().for_each(|id| column.push(id.as_deref().map_or(Cell::Null, Cell::Text)));
        Some(column)
    }

    async fn passes(&mut self) -> Result<(), Stop> {
        let mut rows = self.chunk.pending();
        let mut groups = VecDeque::new();
        if let Some(parked) = &self.chunk.parked {
            let waiting: BTreeSet<u32> = parked.rows.iter().copied().collect();
            rows.retain(|row| !waiting.contains(row));
            groups.push_back(Group { rows: parked.rows.clone(), bulk: true, durable: Some(parked.state.clone()) });
        }
        for pass in 1..=PASSES {
            self.cut(&rows, &mut groups);
            while let Some(group) = groups.pop_front() {
                self.group(group, &mut groups).await?;
                // A job is a try: what it left over is cut anew by the next delivery, which counts it.
                if self.chunk.bulk && !self.again.is_empty() {
                    return Ok(());
                }
            }
            if self.again.is_empty() || pass == PASSES {
                return Ok(());
            }
            rows = std::mem::take(&mut self.again);
            rows.sort_unstable();
            if std::mem::take(&mut self.smaller) {
                self.shrink += SHRINK;
            }
            tokio::time::sleep(BACKOFF.after(pass, self.tools.clock.entropy() as u8)).await;
        }
        Ok(())
    }

    fn cut(&self, rows: &[u32], groups: &mut VecDeque<Group>) {
        let Account { destination, settings, .. } = self.account;
        let size =
            |bulk| destination.batch_size(self.chunk.operation, &self.chunk.object, settings, bulk).max(1) as usize;
        // What a job left over goes by the usual interface where it fits one call.
        let bulk = self.chunk.bulk && (self.chunk.tries == 0 || rows.len() > size(false));
        for rows in rows.chunks((size(bulk) >> self.shrink).max(1)) {
            groups.push_back(Group { rows: rows.to_vec(), bulk, durable: None });
        }
    }

    /// How long the next try waits.
    fn hand_back(&self) -> Micros {
        HAND_BACK << self.chunk.tries.min(6)
    }

    /// Delivers one group. What must be sent in smaller groups goes to the front of `groups`.
    async fn group(&mut self, group: Group, groups: &mut VecDeque<Group>) -> Result<(), Stop> {
        let Group { rows, bulk, durable } = group;
        let token = token(self.chunk, &rows);
        let (chunk, account) = (self.chunk, self.account);
        let batch = Batch {
            operation: chunk.operation,
            object: &chunk.object,
            table: self.table,
            rows: &rows,
            settings: &account.settings,
            token: &token,
            wants_ids: chunk.wants_ids,
            bulk,
        };
        let destination = account.destination.as_ref();
        let parked = |state: Vec<u8>| ParkedV1 { version: VERSION, rows: rows.clone(), state };
        self.held = durable.map(parked);
        let (mut renewed, mut troubles) = (false, 0);
        // The status of the last answer to what was sent, and the step that sent it.
        let (mut answered, mut sent) = (None, None);
        let mut step = match &self.held {
            Some(held) => destination.resume(&batch, &held.state, Event::Elapsed),
            None => destination.start(&batch),
        };
        loop {
            step = match step {
                Ok(Step::Done(outcomes)) => {
                    self.done(&rows, outcomes);
                    return Ok(());
                }
                Ok(Step::Wait { after, state }) => {
                    let (parked, class) = (Some(parked(state)), ErrorClass::Backoff);
                    return Err(Stop::Next(Next::Again { after, counted: false, parked, class }));
                }
                Ok(Step::Send { request, state, checkpoint }) => {
                    let now = self.tools.clock.now() / 1_000_000;
                    let added = match account.credentials.add(&account.transport, &request, now).await {
                        Ok(added) => added,
                        Err(NoToken::Later(reason)) => {
                            step = Err(Failure::Transient(Refusal::transient("NO_TOKEN", reason)));
                            continue;
                        }
                        Err(NoToken::Refused(reason)) => {
                            let code = "NO_TOKEN".to_owned();
                            let refusal = Refusal { class: ErrorClass::RefreshAuth, code, message: reason };
                            return Err(Stop::Next(Next::Stop { refusal }));
                        }
                    };
                    let slot = self.permit(rows.len(), request.cost).await?;
                    // Announced last: what was announced either leaves or is unknown.
                    if checkpoint {
                        self.announce(&rows, &state).await?;
                        self.held = chunk.repeatable.then(|| parked(state.clone()));
                    }
                    let answer = self.send(&request, &added, slot).await?;
                    match answer {
                        Ok(response) => {
                            answered = Some(response.status);
                            self.resolve(checkpoint);
                            if response.status == 401 && !renewed && account.credentials.renew(added.generation).await {
                                renewed = true;
                                Ok(Step::Send { request, state, checkpoint })
                            } else {
                                let next = destination.resume(&batch, &state, Event::Answer(&response));
                                sent = Some(Step::Send { request, state, checkpoint });
                                next
                            }
                        }
                        Err(lost) if lost.may_have_arrived && !chunk.repeatable => {
                            let message = format!("Sent, but no answer came ({})", lost.reason);
                            let refusal = Refusal { class: ErrorClass::Unknown, code: "NO_ANSWER".to_owned(), message };
                            self.mark(&rows, Status::Unknown, &refusal);
                            return Ok(());
                        }
                        Err(lost) => {
                            self.resolve(checkpoint);
                            Err(Failure::Transient(Refusal::transient("NO_ANSWER", lost.reason)))
                        }
                    }
                }
                Err(Failure::Throttled { after, .. }) => {
                    let pause = after.unwrap_or(DEFAULT_PAUSE).max(1_000);
                    debug!(account = account.name, pause_ms = pause / 1_000, "The destination asks for a pause");
                    self.tools.limiter.pause(&account.name, pause).await?;
                    // The very request that was refused is sent again.
                    sent.take().map_or_else(|| destination.start(&batch), Ok)
                }
                Err(Failure::Quota { refusal }) => {
                    self.note(&rows, &refusal);
                    let day = 86_400_000_000;
                    let after = day - self.tools.clock.now().rem_euclid(day);
                    let (parked, class) = (self.held.take(), ErrorClass::Quota);
                    return Err(Stop::Next(Next::Again { after, counted: false, parked, class }));
                }
                Err(Failure::Transient(refusal) | Failure::Broken(refusal) | Failure::Split(refusal))
                    if !chunk.repeatable && answered.is_some_and(may_be_done) =>
                {
                    let refusal = Refusal { class: ErrorClass::Unknown, ..refusal };
                    self.mark(&rows, Status::Unknown, &refusal);
                    return Ok(());
                }
                Err(Failure::Transient(refusal) | Failure::Broken(refusal)) => {
                    self.class = refusal.class;
                    self.note(&rows, &refusal);
                    troubles += 1;
                    let Some(held) = &self.held else {
                        self.again.extend(&rows);
                        return Ok(());
                    };
                    if troubles >= PASSES {
                        let (after, class) = (self.hand_back(), refusal.class);
                        let parked = self.held.take();
                        return Err(Stop::Next(Next::Again { after, counted: true, parked, class }));
                    }
                    tokio::time::sleep(BACKOFF.after(troubles, self.tools.clock.entropy() as u8)).await;
                    destination.resume(&batch, &held.state, Event::Elapsed)
                }
                Err(Failure::Unauthorized(refusal) | Failure::Config(refusal)) => {
                    return Err(Stop::Next(Next::Stop { refusal }));
                }
                Err(Failure::Split(refusal)) => {
                    self.held = None;
                    if let [_] = rows.as_slice() {
                        let refusal = Refusal { class: ErrorClass::RejectRecord, ..refusal };
                        self.mark(&rows, Status::Rejected, &refusal);
                    } else {
                        let (first, second) = rows.split_at(rows.len() / 2);
                        groups.push_front(Group { rows: second.to_vec(), bulk, durable: None });
                        groups.push_front(Group { rows: first.to_vec(), bulk, durable: None });
                    }
                    return Ok(());
                }
            };
        }
    }

    /// Reports what is about to be sent and waits until that is durable.
    async fn announce(&mut self, rows: &[u32], state: &[u8]) -> Result<(), Stop> {
        // What is known so far goes with it: a later start goes on from there alone.
        let mut report = ReportV1 { requests: 0, waited: 0, ..self.known(Next::Continue) };
        if self.chunk.repeatable {
            report.checkpoint = Some(ParkedV1 { version: VERSION, rows: rows.to_vec(), state: state.to_vec() });
        } else {
            self.intents += 1;
            report.intents = vec![(self.intents, rows.to_vec())];
        }
        let body = report
            .encode()
            .map_err(|error| port::PortError::caused(port::Trouble::Corrupt, "Cannot write a report", error))?;
        Ok(self.tools.queue.report(body.into()).await?)
    }

    /// The answer to the last announced request is known.
    fn resolve(&mut self, announced: bool) {
        if announced && !self.chunk.repeatable {
            self.report.resolved.push(self.intents);
        }
    }

    /// Waits until the next request may leave.
    async fn permit(&mut self, records: usize, cost: u64) -> Result<Slot, Stop> {
        let chunk = self.chunk;
        let request = Permit {
            account: &self.account.name,
            limits: &self.account.limits,
            attempt: Some(&chunk.id),
            worker: &self.tools.worker,
            records: records as u64,
            cost,
            urgent: chunk.urgent,
            sync: &chunk.sync,
            weight: chunk.weight,
        };
        let mut held = 0;
        loop {
            if !self.tools.limiter.claim(&chunk.id, &self.tools.worker, LEASE).await? {
                return Err(Stop::Next(Next::Done));
            }
            match self.tools.limiter.permit(&request).await? {
                Verdict::Go => return Ok(Slot::new(self.tools, self.account)),
                Verdict::Lost => return Err(Stop::Next(Next::Done)),
                Verdict::Closed => {
                    let (parked, class) = (self.held.take(), ErrorClass::Backoff);
                    return Err(Stop::Next(Next::Again { after: 0, counted: false, parked, class }));
                }
                Verdict::Later { wait, .. } if held + wait > HOLD => {
                    let class = ErrorClass::Throttled;
                    return Err(Stop::Next(Next::Again {
                        after: wait,
                        counted: false,
                        parked: self.held.take(),
                        class,
                    }));
                }
                Verdict::Later { wait, .. } => {
                    held += wait;
                    self.report.waited += wait;
                    tokio::time::sleep(Duration::from_micros(wait.max(100) as u64)).await;
                }
            }
        }
    }

    async fn send(
        &mut self,
        request: &Request,
        added: &crate::auth::Added,
        slot: Slot,
    ) -> Result<Result<Response, crate::transport::NoAnswer>, Stop> {
        let span = info_span!(
            "request",
            otel.kind = "client",
            http.request.method = request.method,
            account = self.account.name,
            http.response.status_code = tracing::field::Empty
        );
        let sent = self.account.transport.send(request, added).instrument(span.clone()).await;
        let ended = match &sent {
            Err(lost) if !lost.may_have_arrived => Ended::Unsent,
            _ => Ended::Sent,
        };
        slot.end(ended).await?;
        self.report.requests += 1;
        if let Ok(response) = &sent {
            span.record("http.response.status_code", response.status);
            self.learn(response).await?;
        }
        Ok(sent)
    }

    /// Takes what the answer's headers say of the day's quota.
    async fn learn(&self, response: &Response) -> Result<(), Stop> {
        let throttle = &self.account.manifest.throttle;
        let usage = throttle.daily_usage.as_deref().and_then(|name| response.header(name));
        if let Some((used, allowed)) = usage.and_then(used_of_allowed) {
            self.tools.limiter.learn_daily(&self.account.name, used, Some(allowed)).await?;
        }
        let number = |name: &Option<String>| -> Option<u64> { response.header(name.as_deref()?)?.trim().parse().ok() };
        if let (Some(limit), Some(remaining)) = (number(&throttle.daily_limit), number(&throttle.daily_remaining)) {
            self.tools.limiter.learn_daily(&self.account.name, limit.saturating_sub(remaining), Some(limit)).await?;
        }
        Ok(())
    }

    fn done(&mut self, rows: &[u32], outcomes: Vec<Outcome>) {
        self.held = None;
        if outcomes.len() != rows.len() {
            let message = format!("{} outcomes for {} records", outcomes.len(), rows.len());
            let refusal = Refusal { class: ErrorClass::BrokenAnswer, code: "BROKEN_ANSWER".to_owned(), message };
            self.note(rows, &refusal);
            self.again.extend(rows);
            return;
        }
        for (row, outcome) in rows.iter().zip(outcomes) {
            match outcome {
                Outcome::Succeeded { id } => {
                    self.set(*row, Status::Succeeded);
                    if let Some(told) = self.told.get_mut(*row as usize) {
                        *told = id;
                    }
                }
                Outcome::Skipped => self.set(*row, Status::Skipped),
                Outcome::Rejected(refusal) => self.mark(&[*row], Status::Rejected, &refusal),
                Outcome::Retry { refusal, again: Again::Once }
                    if !self.retried.insert(*row) || (self.chunk.bulk && self.chunk.tries > 0) =>
                {
                    let refusal = Refusal { class: ErrorClass::RejectRecord, ..refusal };
                    self.mark(&[*row], Status::Rejected, &refusal);
                }
                Outcome::Retry { refusal, again } => {
                    if again == Again::Smaller {
                        self.smaller = true;
                    }
                    self.class = refusal.class;
                    self.note(&[*row], &refusal);
                    self.again.push(*row);
                }
            }
        }
    }

    fn set(&mut self, row: u32, status: Status) {
        if let Some(known) = self.report.statuses.get_mut(row as usize) {
            *known = status as u8;
        }
    }

    fn mark(&mut self, rows: &[u32], status: Status, refusal: &Refusal) {
        rows.iter().for_each(|row| self.set(*row, status));
        self.note(rows, refusal);
    }

    /// Remembers why records did not succeed (yet), with sensitive values masked.
    fn note(&mut self, rows: &[u32], refusal: &Refusal) {
        for row in rows {
            let refusal = Refusal { message: self.masked(*row, &refusal.message), ..refusal.clone() };
            self.refusals.insert(*row, refusal);
        }
    }

    fn masked(&self, row: u32, message: &str) -> String {
        let sensitive = self.table.fields.iter().filter(|field| field.sensitive);
        sensitive
            .map(|field| field.column.cell(row as usize).to_text())
            .filter(|value| !value.is_empty())
            .fold(message.to_owned(), |message, value| message.replace(&value, "***"))
    }
}
