//! What an account has used, kept in memory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::log::Log;
use super::{Answer, Ask, Cause, LATE_FORGOTTEN, LATE_MAX, LATE_STEP, Limits, Micros};
use crate::cell::DAY;

/// What an account has used. Kept by a limiter backend, one per account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Theoretical arrival time per window.
    pub(super) arrivals: Vec<Micros>,
    /// What left per window; empty where a window has no bound.
    pub(super) logs: Vec<Log>,
    /// Nothing may be sent before.
    paused_until: Micros,
    /// Requests under way, by their slot, and until when they hold their place.
    in_flight: BTreeMap<u64, Micros>,
    /// Requests sent on `day`.
    daily: u64,
    /// Requests per day that the destination allows, where it has told.
    allowed: Option<u64>,
    /// Days since 1970-01-01, UTC.
    day: i64,
    /// The use of syncs that asked lately, divided by their weight.
    shares: BTreeMap<String, Share>,
    /// Another process may have sent until just now.
    resumed: bool,
    /// How late requests have left, and when that was told.
    late: (Micros, Micros),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Share {
    used: i64,
    asked: Micros,
}

/// A sync that has not asked for this long does not wait for a share.
const SHARE_MEMORY: Micros = 500_000;
/// Requests, in 1/1000 at weight 1, that a sync may be ahead of another that waits.
const SHARE_LEAD: i64 = 4_000;

impl Usage {
    /// Books `ask` or says when to ask again. `now` never goes back.
    pub fn acquire(&mut self, limits: &Limits, now: Micros, ask: &Ask<'_>) -> Answer {
        let (terms, late) = (limits.terms(ask), self.learn_late(ask.late, now));
        self.arrivals.truncate(terms.windows.len());
        self.logs.truncate(terms.windows.len());
        for term in terms.windows.iter().skip(self.arrivals.len()) {
            self.arrivals.push(if self.resumed { term.just_used(now, late) } else { 0 });
            self.logs.push(if self.resumed { Log::unknown(now, term.units) } else { Log::default() });
        }
        self.roll_day(now);
        if self.paused_until > now {
            return Answer::Later { at: self.paused_until, cause: Cause::Paused };
        }
        let daily = limits.daily.into_iter().chain(self.allowed).min();
        if daily.is_some_and(|daily| self.daily >= limits.of_day(daily)) {
            return Answer::Later { at: (self.day + 1) * DAY, cause: Cause::Daily };
        }
        self.in_flight.retain(|_, until| *until > now);
        if limits.in_flight.is_some_and(|cap| self.in_flight.len() >= cap.max(1) as usize) {
            return Answer::Later { at: now + 5_000, cause: Cause::InFlight };
        }
        let paced = terms.windows.iter().zip(&self.arrivals).map(|(term, arrival)| term.at(*arrival, now, late));
        let bounded = terms.windows.iter().zip(&self.logs);
        let bounded = bounded.filter_map(|(term, log)| Some(log.at(term.units, term.bound(late)?, now)));
        let at = paced.chain(bounded).fold(now, Micros::max);
        if at > now + terms.horizon {
            return Answer::Later { at: at - terms.horizon, cause: Cause::Window };
        }
        if !terms.windows.is_empty() && !self.take_share(now, ask, terms.share) {
            return Answer::Later { at: now + terms.ahead.max(1_000), cause: Cause::Share };
        }
        for (term, arrival) in terms.windows.iter().zip(&mut self.arrivals) {
            *arrival = term.after(*arrival, at, late);
        }
        for (term, log) in terms.windows.iter().zip(&mut self.logs) {
            if let Some(bound) = term.bound(late) {
                log.book(term.units, bound, at);
            }
        }
        self.in_flight.insert(ask.slot, at + ask.timeout);
        self.daily += 1;
        Answer::Send { at, late }
    }

    /// How late requests leave. What is told once counts for a while; who tells far more than is known may be an exception.
    fn learn_late(&mut self, told: Micros, now: Micros) -> Micros {
        let (late, since) = self.late;
        let late = late * (LATE_FORGOTTEN + since - now).clamp(0, LATE_FORGOTTEN) / LATE_FORGOTTEN;
        let told = told.clamp(0, LATE_MAX.min(4 * late + LATE_STEP));
        if told >= late {
            self.late = (told, now);
        }
        late.max(told)
    }

    /// A request that was booked has ended.
    pub fn release(&mut self, slot: u64) {
        self.in_flight.remove(&slot);
    }

    /// A request that was booked was never sent: its place among those under way and in the day is free again.
    pub fn cancel(&mut self, slot: u64) {
        if self.in_flight.remove(&slot).is_some() {
            self.daily = self.daily.saturating_sub(1);
        }
    }

    /// Begins where another process may have sent until just now: the windows begin without a burst.
    pub const fn resume(&mut self) {
        self.resumed = true;
    }

    /// Closes the account until `until`; never shortens a pause.
    pub fn pause(&mut self, until: Micros) {
        self.paused_until = self.paused_until.max(until);
    }

    /// Until when the account is closed.
    pub const fn paused_until(&self) -> Micros {
        self.paused_until
    }

    /// The destination says how much of the day's quota is used, for others may use the account too, and how much there
    /// is. Less is believed where it is below half of what is known: its day begins at another hour than ours. A little less is no
    /// news, for what is under way has not been counted there.
    pub fn learn_daily(&mut self, now: Micros, used: u64, allowed: Option<u64>) {
        self.roll_day(now);
        self.allowed = allowed.or(self.allowed);
        self.daily = if used < self.daily / 2 { used } else { self.daily.max(used) };
    }

    /// Requests counted for the day of `now`, with the day: what must survive a restart.
    pub fn daily(&mut self, now: Micros) -> (i64, u64) {
        self.roll_day(now);
        (self.day, self.daily)
    }

    fn roll_day(&mut self, now: Micros) {
        let day = now.div_euclid(DAY);
        if day > self.day {
            self.day = day;
            self.daily = 0;
        }
    }

    /// Counts the ask for its sync, unless that sync is ahead of another that waits.
    fn take_share(&mut self, now: Micros, ask: &Ask<'_>, weighted: i64) -> bool {
        self.shares.retain(|_, share| share.asked + SHARE_MEMORY > now);
        let least = self.shares.iter().filter(|(sync, _)| *sync != ask.sync).map(|(_, share)| share.used).min();
        let share = self.shares.entry(ask.sync.to_owned()).or_insert(Share { used: least.unwrap_or(0), asked: now });
        share.asked = now;
        if !ask.urgent && least.is_some_and(|least| share.used > least + SHARE_LEAD) {
            return false;
        }
        share.used += weighted;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::limit::{Unit, Window};

    const ASK: Ask<'static> =
        Ask { records: 100, cost: 1, urgent: false, sync: "s", weight: 1, slot: 0, timeout: 60_000_000, late: 0 };

    fn limits(limit: u64, per_ms: u64) -> Limits {
        Limits { windows: vec![Window { unit: Unit::Requests, limit, per_ms }], ..Limits::default() }
    }

    /// Asks as fast as allowed for `micros`; the moments at which requests left.
    fn drain(limits: &Limits, micros: Micros) -> Vec<Micros> {
        let (mut usage, mut now, mut sent) = (Usage::default(), 1_000_000_000, Vec::new());
        let end = now + micros;
        while now < end {
            match usage.acquire(limits, now, &ASK) {
                Answer::Send { at, .. } => {
                    now = at;
                    sent.push(at);
                    usage.release(0);
                }
                Answer::Later { at, .. } => now = at.max(now + 1),
            }
        }
        sent
    }

    /// The most requests that any window of `per` saw.
    fn worst(sent: &[Micros], per: Micros) -> usize {
        let mut inside = VecDeque::new();
        let mut worst = 0;
        for at in sent {
            inside.push_back(*at);
            while inside.front().is_some_and(|first| at - first >= per) {
                inside.pop_front();
            }
            worst = worst.max(inside.len());
        }
        worst
    }

    #[test]
    fn no_window_ever_sees_more_than_its_limit_and_little_is_wasted() {
        for (limit, per_ms) in [(190, 10_000), (1, 1_000), (4, 1_000), (100, 20_000), (2_500, 60_000)] {
            let sent = drain(&limits(limit, per_ms), 60_000_000);
            let per = per_ms as i64 * 1_000;
            assert!(worst(&sent, per) <= limit as usize, "{limit} per {per_ms} ms");
            let allowance = limit as f64 * 60_000.0 / per_ms as f64;
            assert!(sent.len() as f64 >= allowance * 0.95, "{} of {allowance} used", sent.len());
        }
    }

    /// Requests arrive as late as a permit may be used, or at once; nobody sees it, and nobody knows before the first is late.
    #[test]
    fn no_window_sees_more_than_its_limit_however_late_requests_arrive() {
        for (limit, per_ms) in [(60, 1_000), (190, 10_000), (4, 1_000)] {
            let (limits, per) = (limits(limit, per_ms), per_ms as i64 * 1_000);
            let (mut usage, mut now, mut arrived) = (Usage::default(), 1_000_000_000, Vec::new());
            let (mut told, mut dice) = (0, 1_u64);
            while now < 1_000_000_000 + 8 * per {
                match usage.acquire(&limits, now, &Ask { late: std::mem::take(&mut told), ..ASK }) {
                    Answer::Send { at, late } => {
                        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let usable = limits.usable(late);
                        // Some are so late that they are not used.
                        let delay = if dice >> 62 == 0 { (dice >> 40) as Micros % 400_000 } else { 0 };
                        told = delay;
                        if delay <= usable {
                            arrived.push(at + delay);
                        }
                        now = at;
                    }
                    Answer::Later { at, .. } => now = at.max(now + 1),
                }
            }
            arrived.sort_unstable();
            assert!(worst(&arrived, per) <= limit as usize, "{limit} per {per_ms} ms");
            assert!(arrived.len() as u64 >= 4 * limit, "{} of {limit} per {per_ms} ms", arrived.len());
        }
    }

    #[test]
    fn how_late_requests_leave_is_remembered_for_a_while_and_one_exception_counts_little() {
        let mut usage = Usage::default();
        let mut late =
            |at: Micros, late: Micros| match usage.acquire(&Limits::default(), DAY + at, &Ask { late, ..ASK }) {
                Answer::Send { late, .. } => late,
                later @ Answer::Later { .. } => panic!("{later:?}"),
            };
        assert_eq!((late(0, 30_000), late(1, 0), late(LATE_FORGOTTEN / 2, 0)), (30_000, 29_999, 15_000));
        assert_eq!(
            (late(LATE_FORGOTTEN / 2, 3_600_000_000), late(LATE_FORGOTTEN / 2, 3_600_000_000)),
            (160_000, 740_000)
        );
        assert_eq!((late(2 * LATE_FORGOTTEN, 0), late(2 * LATE_FORGOTTEN, -5)), (0, 0));
    }

    #[test]
    fn a_restart_does_not_begin_with_a_burst() {
        for (limit, per_ms) in [(190, 10_000), (1, 1_000), (1_000, 1_000)] {
            let limits = limits(limit, per_ms);
            let (mut usage, mut now, mut sent) = (Usage::default(), 1_000_000_000, Vec::new());
            let end = now + 3 * per_ms as i64 * 1_000;
            let mut lives = 0;
            while now < end {
                match usage.acquire(&limits, now, &ASK) {
                    Answer::Send { at, .. } => {
                        now = at;
                        sent.push(at);
                    }
                    Answer::Later { at, .. } => now = at.max(now + 1),
                }
                // It dies right after a request, again and again.
                if sent.len() / 7 > lives {
                    lives += 1;
                    usage = Usage::default();
                    usage.resume();
                }
            }
            assert!(worst(&sent, per_ms as i64 * 1_000) <= limit as usize, "{limit} per {per_ms} ms");
        }
    }

    #[test]
    fn several_windows_hold_at_once_and_count_their_own_units() {
        let limits = Limits {
            windows: vec![
                Window { unit: Unit::Requests, limit: 50, per_ms: 1_000 },
                Window { unit: Unit::Records, limit: 1_000, per_ms: 1_000 },
            ],
            ..Limits::default()
        };
        let sent = drain(&limits, 10_000_000);
        assert!(worst(&sent, 1_000_000) <= 10);
    }

    /// The most units that any window of `per` saw.
    fn most(sent: &[(Micros, i64)], per: Micros) -> i64 {
        let within = |from: Micros| sent.iter().filter(move |(at, _)| (from..from + per).contains(at));
        sent.iter().map(|(from, _)| within(*from).map(|(_, units)| units).sum()).max().unwrap_or(0)
    }

    #[test]
    fn no_window_of_records_ever_sees_more_than_its_limit_however_large_requests_are() {
        let sizes: [&[u64]; 6] = [&[300], &[100], &[1], &[37, 100, 100], &[1, 1, 1, 1, 300], &[1_000, 7]];
        for (limit, per_ms) in [(1_000, 1_000), (1_000, 60_000), (1_007, 10_000)] {
            let limits = Limits { windows: vec![Window { unit: Unit::Records, limit, per_ms }], ..Limits::default() };
            for sizes in sizes {
                for resumed in [false, true] {
                    let (mut usage, mut now, mut sent) = (Usage::default(), 1_000_000_000, Vec::new());
                    if resumed {
                        usage.resume();
                    }
                    let end = now + 6 * per_ms as i64 * 1_000;
                    for records in sizes.iter().copied().cycle() {
                        let ask = Ask { records, ..ASK };
                        now = loop {
                            match usage.acquire(&limits, now, &ask) {
                                Answer::Send { at, .. } => break at,
                                Answer::Later { at, .. } => now = at.max(now + 1),
                            }
                        };
                        usage.release(0);
                        if now >= end {
                            break;
                        }
                        sent.push((now, records as i64));
                    }
                    let most = most(&sent, per_ms as i64 * 1_000);
                    assert!(most <= limit as i64, "{most} of {limit} per {per_ms} ms by {sizes:?}");
                    if let ([size], false) = (sizes, resumed) {
                        let fits = (limit / size * size * 6) as f64;
                        let used: i64 = sent.iter().map(|(_, units)| units).sum();
                        assert!(used as f64 >= fits * 0.9, "{used} of {fits} were used by {size} of {limit}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_reserve_is_left_to_others() {
        let limits = Limits { reserve_percent: 40, ..limits(100, 1_000) };
        assert!(worst(&drain(&limits, 10_000_000), 1_000_000) <= 60);
    }

    #[test]
    fn a_pause_closes_the_account_for_everyone_until_its_end() {
        let mut usage = Usage::default();
        usage.pause(5_000_000);
        usage.pause(4_000_000);
        let urgent = Ask { urgent: true, ..ASK };
        let closed = Answer::Later { at: 5_000_000, cause: Cause::Paused };
        assert_eq!(usage.acquire(&limits(10, 1_000), 1_000_000, &urgent), closed);
        assert_eq!(usage.acquire(&limits(10, 1_000), 5_000_000, &ASK), Answer::Send { at: 5_000_000, late: 0 });
    }

    #[test]
    fn the_daily_quota_is_renewed_at_midnight_and_learned_from_the_destination() {
        let limits = Limits { daily: Some(2), ..Limits::default() };
        let mut usage = Usage::default();
        usage.learn_daily(DAY, 1, None);
        assert!(matches!(usage.acquire(&limits, DAY, &ASK), Answer::Send { .. }));
        assert_eq!(usage.acquire(&limits, DAY + 1, &ASK), Answer::Later { at: 2 * DAY, cause: Cause::Daily });
        assert!(matches!(usage.acquire(&limits, 2 * DAY, &ASK), Answer::Send { .. }));
        assert_eq!(usage.daily(2 * DAY), (2, 1));
    }

    #[test]
    fn a_destination_whose_day_begins_at_another_hour_is_believed() {
        let limits = Limits { daily: Some(100), ..Limits::default() };
        let mut usage = Usage::default();
        for (told, known) in [(100, 100), (50, 100), (49, 49), (24, 49), (23, 23), (60, 60)] {
            usage.learn_daily(DAY, told, None);
            assert_eq!(usage.daily(DAY), (1, known), "{told} were told");
        }
        assert!(matches!(usage.acquire(&limits, DAY, &ASK), Answer::Send { .. }));
    }

    #[test]
    fn a_place_is_held_from_when_the_request_leaves() {
        let limits = Limits { in_flight: Some(2), ..limits(1, 1_000) };
        let mut usage = Usage::default();
        assert!(matches!(usage.acquire(&limits, DAY, &ASK), Answer::Send { .. }));
        let Answer::Send { at, .. } = usage.acquire(&limits, DAY, &Ask { slot: 1, ..ASK }) else {
            panic!("it is not booked")
        };
        assert!(at > DAY);
        let (next, lapses) = (Ask { slot: 2, ..ASK }, at + ASK.timeout);
        usage.acquire(&limits, lapses - 1_000, &Ask { slot: 3, ..ASK });
        assert!(matches!(usage.acquire(&limits, lapses - 1, &next), Answer::Later { cause: Cause::InFlight, .. }));
        assert!(matches!(usage.acquire(&limits, lapses, &next), Answer::Send { .. }));
    }

    #[test]
    fn in_flight_is_bounded_and_given_back() {
        let limits = Limits { in_flight: Some(1), ..Limits::default() };
        let mut usage = Usage::default();
        assert!(matches!(usage.acquire(&limits, 1, &ASK), Answer::Send { .. }));
        assert!(matches!(usage.acquire(&limits, 1, &ASK), Answer::Later { cause: Cause::InFlight, .. }));
        usage.release(0);
        assert!(matches!(usage.acquire(&limits, 1, &ASK), Answer::Send { .. }));
    }

    #[test]
    fn a_place_that_nobody_gives_back_lapses() {
        let limits = Limits { in_flight: Some(1), ..Limits::default() };
        let mut usage = Usage::default();
        assert!(matches!(usage.acquire(&limits, 1, &ASK), Answer::Send { .. }));
        let next = Ask { slot: 1, ..ASK };
        assert!(matches!(usage.acquire(&limits, ASK.timeout, &next), Answer::Later { cause: Cause::InFlight, .. }));
        assert!(matches!(usage.acquire(&limits, ASK.timeout + 1, &next), Answer::Send { .. }));
    }

    #[test]
    fn an_urgent_request_books_ahead_of_normal_ones() {
        let limits = limits(10, 1_000);
        let mut usage = Usage::default();
        let mut now = 1_000_000;
        while matches!(usage.acquire(&limits, now, &ASK), Answer::Send { .. }) {}
        assert!(matches!(usage.acquire(&limits, now, &Ask { urgent: true, ..ASK }), Answer::Send { .. }));
        now += 1;
        assert!(matches!(usage.acquire(&limits, now, &ASK), Answer::Later { cause: Cause::Window, .. }));
    }

    #[test]
    fn syncs_that_wait_share_by_weight() {
        let limits = limits(100, 1_000);
        let (mut usage, mut now, mut sent) = (Usage::default(), 1_000_000_000, [0_u32; 2]);
        let asks = [Ask { sync: "heavy", weight: 3, ..ASK }, Ask { sync: "light", weight: 1, ..ASK }];
        let mut due = [now; 2];
        while now < 1_020_000_000 {
            for turn in 0..2 {
                if due[turn] <= now {
                    due[turn] = match usage.acquire(&limits, now, &asks[turn]) {
                        Answer::Send { at, .. } => {
                            sent[turn] += 1;
                            at
                        }
                        Answer::Later { at, .. } => at,
                    };
                }
            }
            now += 500;
        }
        let ratio = f64::from(sent[0]) / f64::from(sent[1]);
        assert!((2.5..=3.5).contains(&ratio), "{sent:?}");
    }
}
