//! A worker's own share of an account while Redis does not answer: half of what an even split among the workers would give
//! each, for deliveries whose gate and claim are known to hold, and no longer than they do. What only all workers together
//! can keep (a day's quota, a cap on requests under way) leaves it no share, and neither does a window so short that the
//! workers, who cannot agree on turns, might use it up by one request each.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::Clock;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use metrics::counter;
use outflow_model::id::AttemptId;
use outflow_model::limit::{Ask, Cause, Micros};
use outflow_model::port::limiter::{Request, Verdict};
use tracing::warn;

/// A share is so much less than an even split: what Redis had permitted last still counts in every window, and the workers'
/// requests may coincide.
const MARGIN: u64 = 2;

/// What is known without Redis.
pub(super) struct LocalShare {
    known: Mutex<Known>,
    time: Time,
}

#[derive(Default)]
struct Known {
    /// Workers seen lately, this one among them.
    workers: u64,
    /// Until when an attempt's gate is open and its claim held, and by which delivery.
    holds: HashMap<AttemptId, (String, Instant)>,
    /// Accounts that have been without Redis since it answered last.
    alone: HashMap<String, Alone>,
    /// What requests used up of accounts that Redis was not asked for and is to be told of, in microseconds.
    owed: HashMap<String, Micros>,
    /// Requests that were permitted here.
    slots: HashSet<u64>,
    paused: HashMap<String, Instant>,
    /// Pauses that Redis has not been told of.
    untold: HashMap<String, Instant>,
    /// Accounts of which days are counted.
    counted: HashSet<String>,
}

/// An account without Redis.
struct Alone {
    /// Hands out time, in microseconds. It begins with none, for others may have sent until just now.
    pace: RateLimiter<NotKeyed, InMemoryState, Time>,
    /// What each request takes: as much as the largest so far, so that nothing is saved up.
    takes: NonZeroU32,
}

impl Alone {
    fn new(takes: NonZeroU32, time: Time) -> Option<Self> {
        let quota = Quota::with_period(Duration::from_micros(1))?.allow_burst(takes);
        let pace = RateLimiter::direct_with_clock(quota, time);
        // All that a new one allows at once.
        pace.check_n(takes).ok()?.ok()?;
        Some(Self { pace, takes })
    }
}

/// What Redis is being told of that was used up of an account. Where it was not, that is owed still.
pub(super) struct Owed<'a> {
    share: &'a LocalShare,
    account: &'a str,
    pub(super) micros: Micros,
}

impl Owed<'_> {
    /// Redis was told.
    pub(super) fn told(mut self) {
        self.micros = 0;
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        if self.micros > 0 {
            *self.share.known().owed.entry(self.account.to_owned()).or_default() += self.micros;
        }
    }
}

/// What tells the time.
#[derive(Clone)]
pub(super) struct Time(Arc<dyn Fn() -> Instant + Send + Sync>);

impl Clock for Time {
    type Instant = Instant;

    fn now(&self) -> Instant {
        (self.0)()
    }
}

impl LocalShare {
    pub(super) fn new() -> Self {
        Self::at(Time(Arc::new(Instant::now)))
    }

    fn at(time: Time) -> Self {
        Self { known: Mutex::default(), time }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many workers send.
    pub(super) fn seen(&self, workers: u64) {
        self.known().workers = workers;
    }

    /// Takes what was used up of an account here and Redis is to be told of: of many that ask at once, one tells it.
    pub(super) fn owed<'a>(&'a self, account: &'a str) -> Owed<'a> {
        let micros = self.known().owed.remove(account).unwrap_or(0);
        Owed { share: self, account, micros }
    }

    /// Redis has answered for an account.
    pub(super) fn answered(&self, account: &str) {
        if self.known().alone.remove(account).is_some() {
            warn!(account, "Redis answers again; the account's budget is shared");
        }
    }

    /// A request of this delivery may have its share from the moment at which Redis was asked, for so long.
    pub(super) fn holds(&self, request: &Request<'_>, asked: Instant, time: Duration) {
        if let Some(attempt) = request.attempt {
            self.known().holds.insert(attempt.clone(), (request.worker.to_owned(), asked + time));
        }
    }

    /// An attempt has ended here.
    pub(super) fn let_go(&self, attempt: Option<&AttemptId>) {
        if let Some(attempt) = attempt {
            self.known().holds.remove(attempt);
        }
    }

    /// Forgets what holds no more.
    pub(super) fn sweep(&self) {
        let (mut known, now) = (self.known(), self.time.now());
        known.holds.retain(|_, (_, until)| *until > now);
        known.paused.retain(|_, until| *until > now);
        known.untold.retain(|_, until| *until > now);
    }

    /// The account is closed for so long.
    pub(super) fn pause(&self, account: &str, wait: Micros) -> Instant {
        let until = self.time.now() + Duration::from_micros(wait.max(0) as u64);
        later(&mut self.known().paused, account, until);
        until
    }

    /// The account is closed for so long, of which Redis is to be told.
    pub(super) fn pause_untold(&self, account: &str, wait: Micros) -> Instant {
        let until = self.pause(account, wait);
        later(&mut self.known().untold, account, until);
        until
    }

    /// Until when the account is closed, and for how long from now, where Redis has not been told of it.
    pub(super) fn untold(&self, account: &str) -> Option<(Instant, Micros)> {
        let (known, now) = (self.known(), self.time.now());
        known.untold.get(account).filter(|until| **until > now).map(|until| (*until, micros(*until - now).max(1)))
    }

    /// Redis was told of a pause until then.
    pub(super) fn told_pause(&self, account: &str, until: Instant) {
        let mut known = self.known();
        if known.untold.get(account).is_some_and(|untold| *untold <= until) {
            known.untold.remove(account);
        }
    }

    /// The account's days are counted.
    pub(super) fn counts_days(&self, account: &str) {
        self.known().counted.insert(account.to_owned());
    }

    /// Whether a request that Redis had booked may leave.
    pub(super) fn may_leave(&self, request: &Request<'_>) -> bool {
        let (known, now) = (self.known(), self.time.now());
        known.is_held(request, now) && known.paused.get(request.account).is_none_or(|until| *until <= now)
    }

    /// Whether a request may leave that Redis was not asked for; nothing where it has no share.
    pub(super) fn permit(&self, request: &Request<'_>) -> Option<Verdict> {
        let Request { account, limits, slot, .. } = *request;
        let (mut known, now) = (self.known(), self.time.now());
        let is_counted = limits.daily.is_some() || limits.in_flight.is_some() || known.counted.contains(account);
        if is_counted || known.workers == 0 || !known.is_held(request, now) {
            return None;
        }
        if let Some(until) = known.paused.get(account).filter(|until| **until > now) {
            return Some(Verdict::Later { wait: micros(*until - now), cause: Cause::Paused });
        }
        let (takes, uses) = cost(request, known.workers)?;
        let alone = match known.alone.remove(account) {
            Some(alone) if alone.takes >= takes => alone,
            Some(_) => Alone::new(takes, self.time.clone())?,
            None => {
                warn!(account, "Redis does not answer; this worker goes on with its own share of the account");
                Alone::new(takes, self.time.clone())?
            }
        };
        let alone = known.alone.entry(account.to_owned()).or_insert(alone);
        let checked = alone.pace.check_n(alone.takes).ok()?;
        if let Err(not_yet) = checked {
            let wait = micros(not_yet.wait_time_from(now)).max(1_000);
            return Some(Verdict::Later { wait, cause: Cause::Window });
        }
        *known.owed.entry(account.to_owned()).or_default() += uses;
        known.slots.insert(slot);
        counter!("outflow_limiter_alone_total", "lane" => account.to_owned()).increment(1);
        Some(Verdict::Go)
    }

    /// Whether it was permitted here; it has ended.
    pub(super) fn ended(&self, slot: u64) -> bool {
        self.known().slots.remove(&slot)
    }
}

/// What a request takes of its worker's time, and uses up of the account, both in microseconds; nothing where the workers
/// might use up a window by one such request each.
fn cost(request: &Request<'_>, workers: u64) -> Option<(NonZeroU32, Micros)> {
    let Request { limits, records, cost, urgent, sync, weight, slot, timeout, .. } = *request;
    let terms = limits.terms(&Ask { records, cost, urgent, sync, weight, slot, timeout });
    let mut uses = 0;
    for (term, window) in terms.windows.iter().zip(&limits.windows) {
        let used = term.units.max(0).saturating_mul(term.interval);
        if (used as u64).saturating_mul(MARGIN * workers) > window.per_ms.saturating_mul(1_000) {
            return None;
        }
        uses = uses.max(used);
    }
    let takes = u32::try_from(uses as u64 * MARGIN * workers).ok()?.max(1);
    Some((NonZeroU32::new(takes)?, uses))
}

impl Known {
    fn is_held(&self, request: &Request<'_>, now: Instant) -> bool {
        let held = request.attempt.and_then(|attempt| self.holds.get(attempt));
        held.is_some_and(|(holder, until)| holder == request.worker && *until > now)
    }
}

/// An account is closed until then; never shortens a pause.
fn later(pauses: &mut HashMap<String, Instant>, account: &str, until: Instant) {
    let known = pauses.entry(account.to_owned()).or_insert(until);
    *known = until.max(*known);
}

fn micros(time: Duration) -> Micros {
    Micros::try_from(time.as_micros()).unwrap_or(Micros::MAX)
}

#[cfg(test)]
mod tests {
    use outflow_model::id::RunId;
    use outflow_model::limit::{Limits, Unit, Window};

    use super::*;

    const LEASE: Duration = Duration::from_secs(15);

    fn limits(unit: Unit, limit: u64, per_ms: u64) -> Limits {
        Limits { windows: vec![Window { unit, limit, per_ms }], ..Limits::default() }
    }

    /// The moments, in milliseconds, at which so many workers together send requests, from Redis's end to their leases' end.
    fn sent(workers: u64, limits: &Limits, records: impl Fn(u64) -> u64) -> Vec<(u64, u64)> {
        let begin = Instant::now();
        let now = Arc::new(Mutex::new(begin));
        let clock = now.clone();
        let time = Time(Arc::new(move || *clock.lock().unwrap_or_else(PoisonError::into_inner)));
        let attempt = AttemptId { run: RunId::new(1, 1), chunk: 0, attempt: 1 };
        let request = |slot| Request {
            account: "crm",
            limits,
            attempt: Some(&attempt),
            worker: "w",
            slot,
            lease: 0,
            timeout: 0,
            records: records(slot),
            cost: 1,
            urgent: false,
            sync: "s",
            weight: 1,
        };
        let shares: Vec<LocalShare> = (0..workers).map(|_| LocalShare::at(time.clone())).collect();
        for share in &shares {
            share.seen(workers);
            share.holds(&request(0), begin, LEASE);
        }
        let (mut moments, mut slot) = (Vec::new(), 0);
        for at in 0..20_000 {
            *now.lock().unwrap() = begin + Duration::from_millis(at);
            for share in &shares {
                while share.permit(&request(slot)) == Some(Verdict::Go) {
                    moments.push((at, records(slot)));
                    slot += 1;
                }
            }
        }
        moments
    }

    /// The most that any window of so many milliseconds sees.
    fn most(moments: &[(u64, u64)], window: u64) -> u64 {
        let within =
            |from: u64| moments.iter().filter(|(at, _)| (from..from + window).contains(at)).map(|(_, n)| n).sum();
        moments.iter().map(|(from, _)| within(*from)).max().unwrap_or(0)
    }

    #[test]
    fn all_workers_together_stay_below_the_limit_and_stop_with_their_leases() {
        for workers in [1, 2, 4, 16] {
            let moments = sent(workers, &limits(Unit::Requests, 190, 10_000), |_| 1);
            assert!((70..=120).contains(&most(&moments, 10_000)), "{workers}: {}", most(&moments, 10_000));
            assert!(moments.iter().all(|(at, _)| *at < LEASE.as_millis() as u64));
            // What Redis had permitted evenly until its end, and they since, is no more than the limit.
            for (at, _) in &moments {
                let since = moments.iter().filter(|(other, _)| other <= at).count() as u64;
                assert!(
                    190 * (10_000 - at.min(&10_000)) / 10_000 + since.min(most(&moments, 10_000)) <= 191,
                    "at {at}"
                );
            }
        }
    }

    #[test]
    fn small_requests_after_a_large_one_save_nothing_up() {
        let moments = sent(2, &limits(Unit::Records, 10_000, 10_000), |slot| if slot < 4 { 500 } else { 10 });
        assert!(moments.len() > 4 && most(&moments, 10_000) <= 5_000, "{moments:?}");
        let gap = moments.windows(2).filter(|pair| pair[1].0 == pair[0].0).count();
        assert!(gap <= moments.len() / 2, "no more than one of each worker at a time: {moments:?}");
    }

    #[test]
    fn what_is_owed_is_told_once_and_again_where_it_was_not_heard() {
        let share = LocalShare::new();
        share.known().owed.insert("crm".to_owned(), 7);
        let (first, second) = (share.owed("crm"), share.owed("crm"));
        assert_eq!((first.micros, second.micros), (7, 0));
        share.known().owed.insert("crm".to_owned(), 2);
        drop((first, second));
        let again = share.owed("crm");
        assert_eq!(again.micros, 9, "what was permitted meanwhile is owed, too");
        again.told();
        assert_eq!(share.owed("crm").micros, 0);
    }

    #[test]
    fn a_pause_is_told_until_redis_has_heard_of_it() {
        let share = LocalShare::new();
        share.pause("crm", 60_000_000);
        assert_eq!(share.untold("crm"), None, "Redis knows of this one");
        let first = share.pause_untold("crm", 60_000_000);
        let second = share.pause_untold("crm", 90_000_000);
        share.told_pause("crm", first);
        assert_eq!(share.untold("crm").map(|(until, _)| until), Some(second));
        share.told_pause("crm", second);
        assert_eq!(share.untold("crm"), None);
        share.pause_untold("crm", 0);
        assert_eq!(share.untold("crm"), None, "it has ended");
    }

    #[test]
    fn where_one_request_each_might_be_too_much_nothing_leaves() {
        assert_eq!(sent(4, &limits(Unit::Requests, 1, 1_000), |_| 1), []);
        assert_eq!(sent(3, &limits(Unit::Records, 1_000, 1_000), |_| 500), []);
        assert_eq!(sent(1, &Limits { in_flight: Some(8), ..limits(Unit::Requests, 190, 10_000) }, |_| 1), []);
        assert_eq!(sent(1, &Limits { daily: Some(8), ..limits(Unit::Requests, 190, 10_000) }, |_| 1), []);
    }
}
