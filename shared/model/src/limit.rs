//! The limiter's arithmetic: what an account allows, and when the next request may leave. Pure; integers only, so that
//! every backend computes the same.
//!
//! Each window is a GCRA (generic cell rate algorithm): a theoretical arrival time per window instead of a counter, so
//! no edge exists at which twice the limit could pass. Requests are spaced such that any `limit + 1` of them span more
//! than the window plus the jitter that the network may add.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A moment or a duration in microseconds.
pub type Micros = i64;

/// What a window counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Requests.
    #[default]
    Requests,
    /// Records within requests.
    Records,
    /// Points, as the operation's cost says.
    Cost,
}

/// So many units in any stretch of so many milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// What is counted.
    #[serde(default)]
    pub unit: Unit,
    /// Units allowed in the window.
    #[schemars(range(min = 1))]
    pub limit: u64,
    /// Length of the window in milliseconds.
    #[schemars(range(min = 1))]
    pub per_ms: u64,
}

/// Everything that bounds the use of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Sliding windows, all of which hold at once.
    pub windows: Vec<Window>,
    /// Requests under way at one time.
    pub in_flight: Option<u32>,
    /// Requests per day of the account.
    pub daily: Option<u64>,
    /// Percent of every window and of the daily quota kept back for other users of the account.
    #[schemars(range(max = 99))]
    pub reserve_percent: u8,
}

/// What a request would use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask<'a> {
    /// Records in it.
    pub records: u64,
    /// Points that it costs.
    pub cost: u64,
    /// True for the urgent lane, which books further ahead than the normal one.
    pub urgent: bool,
    /// The sync that asks.
    pub sync: &'a str,
    /// The sync's share against others that wait, from 1.
    pub weight: u32,
}

/// The answer to an ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Booked: send at that moment.
    Send {
        /// When.
        at: Micros,
    },
    /// Nothing booked: ask again at that moment.
    Later {
        /// When.
        at: Micros,
        /// What stands in the way.
        cause: Cause,
    },
}

/// What stands in the way of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A window is full.
    Window,
    /// As many requests as allowed are under way.
    InFlight,
    /// The destination asked for a pause.
    Paused,
    /// The day's quota is used up.
    Daily,
    /// Another sync's turn.
    Share,
}

/// What an account has used. Kept by a limiter backend, one per account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Theoretical arrival time per window.
    arrivals: Vec<Micros>,
    /// Nothing may be sent before.
    paused_until: Micros,
    /// Requests under way.
    in_flight: u32,
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
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Share {
    used: u64,
    asked: Micros,
}

const DAY: Micros = 86_400_000_000;
/// A sync that has not asked for this long does not wait for a share.
const SHARE_MEMORY: Micros = 500_000;
/// Requests, in 1/1000 at weight 1, that a sync may be ahead of another that waits.
const SHARE_LEAD: u64 = 4_000;

impl Window {
    const fn effective(&self, reserve_percent: u8) -> i64 {
        let kept = self.limit * (100 - if reserve_percent > 99 { 99 } else { reserve_percent } as u64) / 100;
        if kept == 0 { 1 } else { kept as i64 }
    }

    /// Requests that may leave together after a pause: little, since it is taken from the sustained rate.
    const fn burst(limit: i64) -> i64 {
        let burst = limit / 64;
        if burst < 1 { 1 } else { burst }
    }

    /// Microseconds between two units.
    fn interval(&self, reserve_percent: u8) -> Micros {
        let limit = self.effective(reserve_percent);
        let per = self.per_ms as i64 * 1_000;
        let jitter = (per / 50).clamp(10_000, 1_000_000);
        ((per + jitter) + limit - Self::burst(limit)) / (limit - Self::burst(limit) + 1)
    }

    const fn units(&self, ask: &Ask<'_>) -> i64 {
        match self.unit {
            Unit::Requests => 1,
            Unit::Records => ask.records as i64,
            Unit::Cost => ask.cost as i64,
        }
    }

    /// The theoretical arrival where a unit has left at `now` and no burst is left.
    fn just_used(&self, now: Micros, reserve_percent: u8) -> Micros {
        now + Self::burst(self.effective(reserve_percent)) * self.interval(reserve_percent)
    }

    /// When `units` may leave, given the theoretical arrival, and the arrival after it.
    fn book(&self, arrival: Micros, now: Micros, units: i64, reserve_percent: u8) -> (Micros, Micros) {
        let interval = self.interval(reserve_percent);
        let tolerance = (Self::burst(self.effective(reserve_percent)) - 1) * interval;
        let at = (arrival - tolerance).max(now);
        (at, arrival.max(at) + units * interval)
    }
}

impl Usage {
    /// Books `ask` or says when to ask again. `now` never goes back.
    pub fn acquire(&mut self, limits: &Limits, now: Micros, ask: &Ask<'_>) -> Answer {
        self.arrivals.truncate(limits.windows.len());
        for window in limits.windows.iter().skip(self.arrivals.len()) {
            self.arrivals.push(if self.resumed { window.just_used(now, limits.reserve_percent) } else { 0 });
        }
        self.roll_day(now);
        if self.paused_until > now {
            return Answer::Later { at: self.paused_until, cause: Cause::Paused };
        }
        let daily = limits.daily.into_iter().chain(self.allowed).min();
        if daily.is_some_and(|daily| self.daily >= daily * u64::from(100 - limits.reserve_percent.min(99)) / 100) {
            return Answer::Later { at: (self.day + 1) * DAY, cause: Cause::Daily };
        }
        if limits.in_flight.is_some_and(|cap| self.in_flight >= cap.max(1)) {
            return Answer::Later { at: now + 5_000, cause: Cause::InFlight };
        }
        let booked: Vec<_> = limits
            .windows
            .iter()
            .zip(&self.arrivals)
            .map(|(window, arrival)| window.book(*arrival, now, window.units(ask), limits.reserve_percent))
            .collect();
        let at = booked.iter().map(|(at, _)| *at).fold(now, Micros::max);
        let ahead = limits.windows.iter().map(|window| window.interval(limits.reserve_percent)).max().unwrap_or(0);
        let horizon = if ask.urgent { 4 * ahead.max(50_000) } else { ahead };
        if at > now + horizon {
            return Answer::Later { at: at - horizon, cause: Cause::Window };
        }
        if !limits.windows.is_empty() && !self.take_share(now, ask) {
            return Answer::Later { at: now + ahead.max(1_000), cause: Cause::Share };
        }
        for ((window, arrival), _) in limits.windows.iter().zip(&mut self.arrivals).zip(&booked) {
            *arrival = window.book(*arrival, at, window.units(ask), limits.reserve_percent).1;
        }
        self.in_flight += 1;
        self.daily += 1;
        Answer::Send { at }
    }

    /// A request that was booked has ended.
    pub const fn release(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// A request that was booked was never sent: its slot in flight and in the day is free again.
    pub const fn cancel(&mut self) {
        self.release();
        self.daily = self.daily.saturating_sub(1);
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
    /// is.
    pub fn learn_daily(&mut self, now: Micros, used: u64, allowed: Option<u64>) {
        self.roll_day(now);
        self.allowed = allowed.or(self.allowed);
        self.daily = self.daily.max(used);
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
    fn take_share(&mut self, now: Micros, ask: &Ask<'_>) -> bool {
        self.shares.retain(|_, share| share.asked + SHARE_MEMORY > now);
        let least = self.shares.iter().filter(|(sync, _)| *sync != ask.sync).map(|(_, share)| share.used).min();
        let share = self.shares.entry(ask.sync.to_owned()).or_insert(Share { used: least.unwrap_or(0), asked: now });
        share.asked = now;
        if !ask.urgent && least.is_some_and(|least| share.used > least + SHARE_LEAD) {
            return false;
        }
        share.used += 1_000 / u64::from(ask.weight.max(1));
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const ASK: Ask<'static> = Ask { records: 100, cost: 1, urgent: false, sync: "s", weight: 1 };

    fn limits(limit: u64, per_ms: u64) -> Limits {
        Limits { windows: vec![Window { unit: Unit::Requests, limit, per_ms }], ..Limits::default() }
    }

    /// Asks as fast as allowed for `micros`; the moments at which requests left.
    fn drain(limits: &Limits, micros: Micros) -> Vec<Micros> {
        let (mut usage, mut now, mut sent) = (Usage::default(), 1_000_000_000, Vec::new());
        let end = now + micros;
        while now < end {
            match usage.acquire(limits, now, &ASK) {
                Answer::Send { at } => {
                    now = at;
                    sent.push(at);
                    usage.release();
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

    #[test]
    fn a_restart_does_not_begin_with_a_burst() {
        for (limit, per_ms) in [(190, 10_000), (1, 1_000), (1_000, 1_000)] {
            let limits = limits(limit, per_ms);
            let (mut usage, mut now, mut sent) = (Usage::default(), 1_000_000_000, Vec::new());
            let end = now + 3 * per_ms as i64 * 1_000;
            let mut lives = 0;
            while now < end {
                match usage.acquire(&limits, now, &ASK) {
                    Answer::Send { at } => {
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
        assert_eq!(usage.acquire(&limits(10, 1_000), 5_000_000, &ASK), Answer::Send { at: 5_000_000 });
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
    fn in_flight_is_bounded_and_given_back() {
        let limits = Limits { in_flight: Some(1), ..Limits::default() };
        let mut usage = Usage::default();
        assert!(matches!(usage.acquire(&limits, 1, &ASK), Answer::Send { .. }));
        assert!(matches!(usage.acquire(&limits, 1, &ASK), Answer::Later { cause: Cause::InFlight, .. }));
        usage.release();
        assert!(matches!(usage.acquire(&limits, 1, &ASK), Answer::Send { .. }));
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
                        Answer::Send { at } => {
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
