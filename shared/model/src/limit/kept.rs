//! What is kept of an account's use from one process to the next.

use serde::{Deserialize, Serialize};

use super::log::Log;
use super::{Ask, LATE_MAX, Limits, Micros, Unit, Usage};

/// The use of an account's windows as it is written down: a little ahead of it, so that not each request is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept(Vec<KeptWindow>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptWindow {
    unit: Unit,
    per_ms: u64,
    arrival: Micros,
    log: Log,
}

/// Any request: what is asked here is the same of all.
const ANY: Ask<'static> = Ask { records: 1, cost: 1, urgent: true, sync: "", weight: 1, slot: 0, timeout: 0, late: 0 };

impl Usage {
    /// The use of the windows, as far as it will be known when requests have gone on for so long. What is bounded is exact, and is to
    /// be kept for each request.
    pub fn keep(&self, limits: &Limits, ahead: Micros) -> Kept {
        let used = self.arrivals.iter().zip(&self.logs);
        let windows = limits.windows.iter().zip(used).map(|(window, (arrival, log))| {
            let ahead = if window.unit == Unit::Requests { ahead } else { 0 };
            KeptWindow { unit: window.unit, per_ms: window.per_ms, arrival: arrival + ahead, log: log.clone() }
        });
        Kept(windows.collect())
    }

    /// Whether `kept` covers the use of the windows.
    pub fn is_covered_by(&self, kept: &Kept, limits: &Limits) -> bool {
        let now = self.keep(limits, 0);
        now.0.len() == kept.0.len()
            && now.0.iter().zip(&kept.0).all(|(now, kept)| {
                (now.unit, now.per_ms, &now.log) == (kept.unit, kept.per_ms, &kept.log) && now.arrival <= kept.arrival
            })
    }

    /// Goes on from what another process has kept. Of windows that it did not have, or whose use lies beyond any that it can have
    /// had by `now`, nothing is known: they begin without a burst.
    pub fn go_on(&mut self, kept: Kept, limits: &Limits, now: Micros) {
        self.resume();
        let terms = limits.terms(&ANY);
        for ((window, term), kept) in limits.windows.iter().zip(&terms.windows).zip(kept.0) {
            let furthest = now + 2 * term.within + LATE_MAX + terms.horizon;
            let is_same = (window.unit, window.per_ms) == (kept.unit, kept.per_ms);
            let known = is_same && kept.arrival <= furthest && kept.log.last().is_none_or(|last| last <= furthest);
            self.arrivals.push(if known { kept.arrival } else { term.just_used(now, 0) });
            self.logs.push(if known { kept.log } else { Log::unknown(now, term.units) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Answer, Window};

    const NOW: Micros = 1_000_000_000;

    fn limits(unit: Unit, limit: u64) -> Limits {
        Limits { windows: vec![Window { unit, limit, per_ms: 60_000 }], ..Limits::default() }
    }

    fn ask(records: u64) -> Ask<'static> {
        Ask { records, ..ANY }
    }

    fn sends(usage: &mut Usage, limits: &Limits, now: Micros, records: u64) -> bool {
        matches!(usage.acquire(limits, now, &Ask { urgent: false, ..ask(records) }), Answer::Send { at, .. } if at == now)
    }

    #[test]
    fn a_window_that_one_process_has_used_is_used_for_the_next() {
        for (unit, limit, records) in [(Unit::Requests, 1, 1), (Unit::Records, 500, 500)] {
            let limits = limits(unit, limit);
            let (mut first, mut next) = (Usage::default(), Usage::default());
            assert!(sends(&mut first, &limits, NOW, records));
            next.go_on(first.keep(&limits, 200_000), &limits, NOW + 1_000_000);
            assert!(!sends(&mut next, &limits, NOW + 1_000_000, records), "{unit:?}");
            assert!(sends(&mut next, &limits, NOW + 62_000_000, records), "{unit:?}");
        }
    }

    #[test]
    fn what_is_kept_covers_the_requests_until_it_is_kept_again() {
        let limits = limits(Unit::Requests, 6_000);
        let mut usage = Usage::default();
        assert!(sends(&mut usage, &limits, NOW, 1));
        let kept = usage.keep(&limits, 200_000);
        assert!(usage.is_covered_by(&kept, &limits));
        let covered = (1..200).take_while(|n| {
            sends(&mut usage, &limits, NOW + n * 20_000, 1);
            usage.is_covered_by(&kept, &limits)
        });
        assert!((8..=11).contains(&covered.count()));
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_hold_the_account_up() {
        let limits = limits(Unit::Requests, 1);
        let (mut before, mut after) = (Usage::default(), Usage::default());
        assert!(sends(&mut before, &limits, NOW + 3_600_000_000, 1));
        after.go_on(before.keep(&limits, 0), &limits, NOW);
        assert!(!sends(&mut after, &limits, NOW, 1));
        assert!(sends(&mut after, &limits, NOW + 62_000_000, 1));
    }
}
