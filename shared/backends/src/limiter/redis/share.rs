//! A worker's own share of an account while Redis does not answer: half of what an even split among the workers would give
//! each, for deliveries whose gate and claim are known to hold, and no longer than they do. What only all workers together
//! can keep (a day's quota, a cap on requests under way) leaves it no share.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::Clock;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use metrics::counter;
use outflow_model::id::AttemptId;
use outflow_model::limit::{Ask, Cause, Micros};
use outflow_model::port::limiter::{Request, Verdict};
use tracing::warn;

/// A share is so much less than an even split: what Redis had permitted last still counts in every window.
const MARGIN: u64 = 2;

/// What is known without Redis.
#[derive(Default)]
pub(super) struct LocalShare(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Workers seen lately, this one among them.
    workers: u64,
    /// Until when an attempt's gate is open and its claim held, and by which delivery.
    holds: HashMap<AttemptId, (String, Instant)>,
    /// Accounts that have been without Redis since their last request.
    alone: HashMap<String, Pace>,
    /// Requests that were permitted here.
    slots: HashSet<u64>,
    paused: HashMap<String, Instant>,
    /// Accounts whose destination counts days.
    daily: HashSet<String>,
}

/// Time that requests take up, in microseconds. It begins used up, for others may have sent until just now.
struct Pace {
    limiter: RateLimiter<NotKeyed, InMemoryState, Time>,
    longest: NonZeroU32,
}

impl Pace {
    fn new(longest: NonZeroU32) -> Self {
        let quota = Quota::with_period(Duration::from_micros(1)).map(|quota| quota.allow_burst(longest));
        let limiter = RateLimiter::direct_with_clock(quota.unwrap_or(Quota::per_second(longest)), Time);
        // All that a new one allows at once.
        let _ = limiter.check_n(longest);
        Self { limiter, longest }
    }
}

/// The runtime's clock.
#[derive(Clone, Debug)]
struct Time;

impl Clock for Time {
    type Instant = Instant;

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

fn after(wait: Micros) -> Instant {
    Time.now() + Duration::from_micros(wait.max(0) as u64)
}

impl LocalShare {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many workers send.
    pub(super) fn seen(&self, workers: u64) {
        self.known().workers = workers;
    }

    /// Redis has answered for an account: a request of this delivery may have its share until then.
    pub(super) fn holds(&self, request: &Request<'_>, until: Instant) {
        let mut known = self.known();
        if known.alone.remove(request.account).is_some() {
            warn!(account = request.account, "Redis answers again; the account's budget is shared");
        }
        if let Some(attempt) = request.attempt {
            known.holds.insert(attempt.clone(), (request.worker.to_owned(), until));
        }
    }

    /// An attempt has ended here.
    pub(super) fn let_go(&self, attempt: &AttemptId) {
        self.known().holds.remove(attempt);
    }

    /// Forgets what holds no more.
    pub(super) fn sweep(&self) {
        let (mut known, now) = (self.known(), Time.now());
        known.holds.retain(|_, (_, until)| *until > now);
        known.paused.retain(|_, until| *until > now);
    }

    /// The destination asked for a pause.
    pub(super) fn pause(&self, account: &str, wait: Micros) {
        let until = after(wait);
        let mut known = self.known();
        let paused = known.paused.entry(account.to_owned()).or_insert(until);
        *paused = until.max(*paused);
    }

    /// The destination counts days.
    pub(super) fn counts_days(&self, account: &str) {
        self.known().daily.insert(account.to_owned());
    }

    /// Whether a request that Redis had booked may leave.
    pub(super) fn may_leave(&self, request: &Request<'_>) -> bool {
        let (known, now) = (self.known(), Time.now());
        known.is_held(request, now) && known.paused.get(request.account).is_none_or(|until| *until <= now)
    }

    /// Whether a request may leave that Redis was not asked for; nothing where it has no share.
    pub(super) fn permit(&self, request: &Request<'_>) -> Option<Verdict> {
        let Request { account, limits, records, cost, urgent, sync, weight, slot, timeout, .. } = *request;
        let (mut known, now) = (self.known(), Time.now());
        let is_shared = limits.daily.is_some() || limits.in_flight.is_some() || known.daily.contains(account);
        if is_shared || known.workers == 0 || !known.is_held(request, now) {
            return None;
        }
        if let Some(until) = known.paused.get(account).filter(|until| **until > now) {
            return Some(Verdict::Later { wait: micros(*until - now), cause: Cause::Paused });
        }
        let terms = limits.terms(&Ask { records, cost, urgent, sync, weight, slot, timeout });
        let alone = terms.windows.iter().map(|term| term.units.max(0) as u64 * term.interval.max(0) as u64).max();
        let takes = alone.unwrap_or(0).saturating_mul(known.workers * MARGIN).max(1);
        let takes = u32::try_from(takes).ok().and_then(NonZeroU32::new)?;
        let pace = known.alone.entry(account.to_owned()).or_insert_with(|| {
            warn!(account, "Redis does not answer; this worker goes on with its own share of the account");
            Pace::new(takes)
        });
        if takes > pace.longest {
            *pace = Pace::new(takes);
        }
        let wait = match pace.limiter.check_n(takes) {
            Ok(Ok(())) => {
                known.slots.insert(slot);
                counter!("outflow_limiter_alone_total", "lane" => account.to_owned()).increment(1);
                return Some(Verdict::Go);
            }
            Ok(Err(not_yet)) => micros(not_yet.wait_time_from(now)),
            Err(_) => return None,
        };
        Some(Verdict::Later { wait: wait.max(1_000), cause: Cause::Window })
    }

    /// Whether it was permitted here; it has ended.
    pub(super) fn ended(&self, slot: u64) -> bool {
        self.known().slots.remove(&slot)
    }
}

impl Known {
    fn is_held(&self, request: &Request<'_>, now: Instant) -> bool {
        let held = request.attempt.and_then(|attempt| self.holds.get(attempt));
        held.is_some_and(|(holder, until)| holder == request.worker && *until > now)
    }
}

fn micros(time: Duration) -> Micros {
    Micros::try_from(time.as_micros()).unwrap_or(Micros::MAX)
}
