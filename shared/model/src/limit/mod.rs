//! The limiter's arithmetic: what an account allows, and when the next request may leave. Pure; integers only, so that
//! every backend computes the same.
//!
//! Each window is a GCRA (generic cell rate algorithm): a theoretical arrival time per window instead of a counter, so
//! no edge exists at which twice the limit could pass. A limit is a promise about arrival: requests are spaced such that any
//! `limit + 1` of them span more than the window, what the network may add, and how long after their permits requests have left
//! lately. A permit that is older than that is asked for again. Where a window counts something else than requests, what left in it
//! is remembered, too: the last request might be larger than what is left.

mod check;
mod kept;
mod log;
mod stated;
mod usage;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use kept::Kept;
pub use log::Bound;
pub use stated::Stated;
pub use usage::Usage;

/// A moment or a duration in microseconds.
pub type Micros = i64;

/// A fiftieth of a window is left for what the network may add, but no less than this…
const JITTER_MIN: Micros = 10_000;
/// …and no more than this.
const JITTER_MAX: Micros = 1_000_000;
/// How late a request leaves is believed up to so much, and no further beyond what is known already than four times that and this.
const LATE_MAX: Micros = 5_000_000;
const LATE_STEP: Micros = 100_000;
/// It counts less and less, and is forgotten after so long.
const LATE_FORGOTTEN: Micros = 20_000_000;
/// No request is booked further ahead than this, and no urgent one further than four times this: whoever waits longer asks again, and
/// holds nothing meanwhile.
const BOOKED_MAX: Micros = 2_000_000;

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
    #[schemars(range(min = 1, max = check::MOST))]
    pub limit: u64,
    /// Length of the window in milliseconds.
    #[schemars(range(min = 1, max = check::MOST))]
    pub per_ms: u64,
}

/// Everything that bounds the use of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Sliding windows, all of which hold at once.
    pub windows: Vec<Window>,
    /// Requests under way at one time.
    #[schemars(range(min = 1))]
    pub in_flight: Option<u32>,
    /// Requests per day of the account.
    #[schemars(range(min = 1))]
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
    /// The request's own number.
    pub slot: u64,
    /// It leaves its place among those under way after so long.
    pub timeout: Micros,
    /// The longest that a request of whoever asks has left after its permit since the last ask.
    pub late: Micros,
}

/// The answer to an ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Booked: send at that moment.
    Send {
        /// When.
        at: Micros,
        /// How late requests have left lately: what the windows make up for.
        late: Micros,
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
    /// The destination asked for a pause, or others use the reserve.
    Paused,
    /// The day's quota is used up.
    Daily,
    /// Another sync's turn.
    Share,
}

/// What one request means for one window. A backend that keeps its usage elsewhere needs no more than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// Units that it uses.
    pub units: i64,
    /// The window's length, with what the network may add between two requests.
    pub within: Micros,
    /// So many intervals between units are as long as that, and as long as requests are late.
    pub apart: i64,
    /// Intervals that a unit may come before its turn.
    pub early: i64,
    /// Units that may leave in it at most; nothing where each request is one unit, for then pacing is enough.
    pub most: Option<i64>,
}

impl Term {
    /// Microseconds between two units where requests are so late.
    pub const fn interval(&self, late: Micros) -> Micros {
        (self.within + late + self.apart - 1) / self.apart
    }

    /// What may leave at most where requests are so late.
    pub fn bound(&self, late: Micros) -> Option<Bound> {
        self.most.map(|units| Bound { units, within: self.within + late })
    }

    /// The theoretical arrival where a unit has left at `now` and no burst is left.
    pub const fn just_used(&self, now: Micros, late: Micros) -> Micros {
        now + (self.early + 1) * self.interval(late)
    }

    /// When the request may leave, given the theoretical arrival.
    pub fn at(&self, arrival: Micros, now: Micros, late: Micros) -> Micros {
        (arrival - self.early * self.interval(late)).max(now)
    }

    /// The theoretical arrival once the request has left at `at`.
    pub fn after(&self, arrival: Micros, at: Micros, late: Micros) -> Micros {
        arrival.max(at) + self.units * self.interval(late)
    }
}

/// What one request means for an account: all of its arithmetic that does not depend on what was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// One per window.
    pub windows: Vec<Term>,
    /// The longest interval between two requests.
    pub ahead: Micros,
    /// How far ahead the request may be booked.
    pub horizon: Micros,
    /// What it adds to its sync's share.
    pub share: i64,
}

impl Limits {
    /// What `ask` means under these limits.
    pub fn terms(&self, ask: &Ask<'_>) -> Terms {
        let windows: Vec<_> = self.windows.iter().map(|window| window.term(ask, self.reserve_percent)).collect();
        let ahead = windows.iter().map(|term| term.interval(0)).max().unwrap_or(0);
        let booked = ahead.min(BOOKED_MAX);
        let horizon = if ask.urgent { 4 * booked.max(50_000) } else { booked };
        Terms { windows, ahead, horizon, share: 1_000 / i64::from(ask.weight.max(1)) }
    }

    /// How long after its permit a request may leave where the windows make up for `late`: half of what the network may add is left to
    /// the network.
    pub fn usable(&self, late: Micros) -> Micros {
        late + self.windows.iter().map(Window::jitter).min().unwrap_or(JITTER_MAX) / 2
    }

    /// How many records a request may have, where windows count them: at least one.
    pub fn most_records(&self) -> Option<u64> {
        let counting = self.windows.iter().filter(|window| window.unit == Unit::Records);
        counting.map(|window| window.ours(self.reserve_percent)).min()
    }

    /// How long the windows make so many requests with so many records take at least.
    pub fn least(&self, requests: u64, records: u64) -> Micros {
        let of = |window: &Window| {
            let units = if window.unit == Unit::Records { records } else { requests };
            let ours = window.ours(self.reserve_percent);
            let late = u128::from(units.saturating_sub(burst(ours)));
            (late * window.per() as u128 / u128::from(ours)) as Micros
        };
        self.windows.iter().map(of).max().unwrap_or(0)
    }

    /// How many requests of a day's `quota` are ours.
    pub fn of_day(&self, quota: u64) -> u64 {
        ours(quota, self.reserve_percent)
    }
}

/// What is ours of an allowance where so much is kept back for others.
fn ours(allowance: u64, reserve_percent: u8) -> u64 {
    (u128::from(allowance) * u128::from(100 - reserve_percent.min(99)) / 100) as u64
}

/// How many units of a window may leave at once. Few, since they are taken from the sustained rate.
fn burst(limit: u64) -> u64 {
    (limit / 64).max(1)
}

impl Window {
    /// Units that are ours.
    fn ours(&self, reserve_percent: u8) -> u64 {
        ours(self.limit, reserve_percent).max(1)
    }

    fn per(&self) -> Micros {
        self.per_ms as i64 * 1_000
    }

    /// What the network may add between two requests.
    fn jitter(&self) -> Micros {
        (self.per() / 50).clamp(JITTER_MIN, JITTER_MAX)
    }

    fn term(&self, ask: &Ask<'_>, reserve_percent: u8) -> Term {
        let limit = self.ours(reserve_percent) as i64;
        let burst = burst(limit as u64) as i64;
        let units = match self.unit {
            Unit::Requests => 1,
            Unit::Records => ask.records as i64,
            Unit::Cost => ask.cost as i64,
        };
        Term {
            units,
            within: self.per() + self.jitter(),
            apart: limit - burst + 1,
            early: burst - 1,
            most: (self.unit != Unit::Requests).then_some(limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(windows: &[(Unit, u64, u64)], reserve_percent: u8) -> Limits {
        let windows =
            windows.iter().map(|(unit, limit, per_ms)| Window { unit: *unit, limit: *limit, per_ms: *per_ms });
        Limits { windows: windows.collect(), reserve_percent, ..Limits::default() }
    }

    #[test]
    fn what_leaves_at_once_takes_no_time() {
        let (one, many) = (limits(&[(Unit::Requests, 1, 2_000)], 40), limits(&[(Unit::Requests, 100, 60_000)], 0));
        assert_eq!([one.least(1, 9), one.least(3, 9)], [0, 4_000_000]);
        assert_eq!([many.least(1, 9), many.least(3, 9)], [0, 1_200_000]);
        assert_eq!(limits(&[(Unit::Records, 640, 1_000)], 0).least(1, 650), 1_000_000);
        assert_eq!(Limits::default().least(9, 9), 0);
    }

    #[test]
    fn a_permit_is_good_for_what_its_windows_make_up_for() {
        let [short, long] = [(Unit::Requests, 60, 1_000), (Unit::Requests, 100, 60_000)];
        assert_eq!(limits(&[long, short], 0).usable(30_000), 40_000);
        assert_eq!(limits(&[], 0).usable(0), 500_000);
        let ask = Ask { records: 1, cost: 1, urgent: false, sync: "s", weight: 1, slot: 0, timeout: 0, late: 0 };
        let term = limits(&[short], 0).terms(&ask).windows[0];
        assert!(60 * term.interval(30_000) - limits(&[short], 0).usable(30_000) > 1_000_000, "61 span the window");
    }

    #[test]
    fn a_request_has_no_more_records_than_the_least_of_its_windows() {
        let windows = [(Unit::Requests, 4, 1_000), (Unit::Records, 500, 1_000), (Unit::Records, 300, 60_000)];
        assert_eq!(limits(&windows, 40).most_records(), Some(180));
        assert_eq!(limits(&windows[..1], 0).most_records(), None);
        assert_eq!(limits(&[(Unit::Records, 1, 1_000)], 99).most_records(), Some(1));
    }

    #[test]
    fn nothing_is_booked_for_a_moment_that_is_far_off() {
        let ask = Ask { records: 1, cost: 1, urgent: false, sync: "s", weight: 1, slot: 0, timeout: 0, late: 0 };
        let slow = limits(&[(Unit::Requests, 1, 60_000)], 0);
        assert_eq!(slow.terms(&ask).horizon, BOOKED_MAX);
        assert_eq!(slow.terms(&Ask { urgent: true, ..ask }).horizon, 4 * BOOKED_MAX);
        let quick = limits(&[(Unit::Requests, 1, 1_000)], 0).terms(&ask);
        assert_eq!(quick.horizon, quick.ahead);
    }
}
