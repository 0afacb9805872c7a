//! What left in a window whose requests are not alike: pacing alone would let the last of them pass however large it is.

use serde::{Deserialize, Serialize};

use super::Micros;

/// A window is looked at in so many parts: what left in one of them counts as if all of it had left with its last.
const PARTS: Micros = 64;

/// The bound of a window's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Units that may leave…
    pub units: i64,
    /// …within so many microseconds.
    pub within: Micros,
}

/// Units that have left, or are booked to, and when the last of them did; in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Log(Vec<(Micros, i64)>);

impl Log {
    /// The log of whoever does not know what has left until `now`: a request like the one that is asked for.
    pub(super) fn unknown(now: Micros, units: i64) -> Self {
        Self(vec![(now, units)])
    }

    /// When the last of it left.
    pub(super) fn last(&self) -> Option<Micros> {
        self.0.last().map(|(left, _)| *left)
    }

    /// When `units` more may leave, from `now` on. What was booked before leaves before.
    pub(super) fn at(&self, units: i64, bound: Bound, now: Micros) -> Micros {
        let mut used: i64 = self.0.iter().map(|(_, units)| units).sum();
        let mut at = self.0.last().map_or(now, |(last, _)| now.max(*last));
        for (left, gone) in &self.0 {
            if used + units <= bound.units {
                break;
            }
            at = at.max(left + bound.within);
            used -= gone;
        }
        at
    }

    /// They leave at `at`.
    pub(super) fn book(&mut self, units: i64, bound: Bound, at: Micros) {
        self.0.retain(|(left, _)| left + bound.within > at);
        let part = (bound.within / PARTS).max(1);
        match self.0.last_mut() {
            Some((last, sum)) if *last / part == at / part => (*last, *sum) = (at, *sum + units),
            _ => self.0.push((at, units)),
        }
    }
}
