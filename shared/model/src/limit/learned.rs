//! What a destination itself tells of its windows, in its answers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Limits, Micros, Unit, Window};

/// A limit that is higher than the one learned is believed when so many answers in a row have told it.
const SIGHTINGS: u32 = 10;

/// What an answer tells of a window of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Requests that the destination allows in it.
    pub limit: u64,
    /// How many of them are left, for whoever uses the account.
    pub remaining: Option<u64>,
    /// Its length in milliseconds.
    pub per_ms: u64,
}

/// What was told of an account, by the length of the window.
#[derive(Clone, Debug, Default)]
pub struct Learned(BTreeMap<u64, Known>);

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    limit: u64,
    /// A higher limit that was told last, and how often in a row.
    higher: (u64, u32),
}

impl Learned {
    /// Takes what an answer tells: a lower limit at once, a higher one when it was told often enough. True where another limit is
    /// known from then on.
    pub fn hear(&mut self, configured: &Limits, told: Allowance) -> bool {
        let Some(window) = configured.told_of(told).filter(|_| told.limit > 0) else { return false };
        let Some(known) = self.0.get_mut(&told.per_ms) else {
            let is_lower = told.limit < window.limit;
            if is_lower {
                self.know(told.per_ms, told.limit);
            }
            return is_lower;
        };
        let sightings = if known.higher.0 == told.limit { known.higher.1 + 1 } else { 1 };
        known.higher = if told.limit > known.limit { (told.limit, sightings) } else { (0, 0) };
        let is_another = told.limit < known.limit || known.higher.1 >= SIGHTINGS;
        if is_another {
            self.know(told.per_ms, told.limit);
        }
        is_another
    }

    /// Somebody else has learned it.
    pub fn know(&mut self, per_ms: u64, limit: u64) {
        self.0.insert(per_ms, Known { limit, ..Known::default() });
    }

    /// The limit that was told of a window.
    pub fn limit(&self, window: &Window) -> Option<u64> {
        self.0.get(&window.per_ms).filter(|_| window.unit == Unit::Requests).map(|known| known.limit)
    }

    /// What holds: as configured, or lower where the destination says so. It never raises what is configured: that bound may be
    /// there for others' sake.
    pub fn lower<'a>(&self, configured: &'a Limits) -> Cow<'a, Limits> {
        let mut limits = Cow::Borrowed(configured);
        for (place, window) in configured.windows.iter().enumerate() {
            if let Some(limit) = self.limit(window).filter(|limit| *limit < window.limit) {
                limits.to_mut().windows[place].limit = limit;
            }
        }
        limits
    }
}

impl Limits {
    /// The window that is told of.
    fn told_of(&self, told: Allowance) -> Option<&Window> {
        self.windows.iter().find(|window| window.unit == Unit::Requests && window.per_ms == told.per_ms)
    }

    /// How long nothing may be sent where this is told: the reserve is kept free beside what others use, and is all of it again when
    /// the window has passed.
    pub fn pause_for(&self, told: Allowance) -> Micros {
        let Some(window) = self.told_of(told) else { return 0 };
        let window = Window { limit: told.limit, ..*window };
        let reserve = window.limit - window.ours(self.reserve_percent).min(window.limit);
        let missing = told.remaining.map_or(0, |remaining| reserve.saturating_sub(remaining));
        (u128::from(missing) * u128::from(window.per_ms) * 1_000 / u128::from(reserve.max(1))) as Micros
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: Allowance = Allowance { limit: 100, remaining: None, per_ms: 10_000 };

    fn window(limit: u64, per_ms: u64) -> Window {
        Window { unit: Unit::Requests, limit, per_ms }
    }

    fn limits(windows: &[Window], reserve_percent: u8) -> Limits {
        Limits { windows: windows.to_vec(), reserve_percent, ..Limits::default() }
    }

    #[test]
    fn a_lower_limit_holds_at_once_and_a_higher_one_when_it_was_told_ten_times_in_a_row() {
        let (mut learned, limits) = (Learned::default(), limits(&[window(190, 10_000)], 0));
        assert!(learned.hear(&limits, TOLD));
        assert_eq!(learned.lower(&limits).windows, [window(100, 10_000)]);
        let higher = Allowance { limit: 150, ..TOLD };
        for told in [[higher; 9].as_slice(), &[TOLD], &[higher; 9]].concat() {
            assert!(!learned.hear(&limits, told));
        }
        assert_eq!(learned.lower(&limits).windows, [window(100, 10_000)]);
        assert!(learned.hear(&limits, higher));
        assert_eq!(learned.lower(&limits).windows, [window(150, 10_000)]);
    }

    #[test]
    fn nothing_that_is_told_raises_what_is_configured() {
        let (mut learned, limits) = (Learned::default(), limits(&[window(50, 10_000)], 0));
        assert!((0..20).all(|_| !learned.hear(&limits, TOLD)));
        assert!(learned.hear(&limits, Allowance { limit: 40, ..TOLD }));
        assert_eq!((0..20).filter(|_| learned.hear(&limits, TOLD)).count(), 1);
        assert_eq!(*learned.lower(&limits), limits);
    }

    #[test]
    fn only_the_window_that_is_told_of_changes() {
        let records = Window { unit: Unit::Records, ..window(500, 10_000) };
        let limits = limits(&[window(20, 1_000), records, window(190, 10_000)], 40);
        let mut learned = Learned::default();
        for unknown in [Allowance { per_ms: 60_000, ..TOLD }, Allowance { limit: 0, remaining: Some(0), ..TOLD }] {
            assert!(!learned.hear(&limits, unknown) && limits.pause_for(unknown) == 0);
        }
        assert!(learned.hear(&limits, TOLD));
        assert_eq!(learned.lower(&limits).windows, [window(20, 1_000), records, window(100, 10_000)]);
    }

    #[test]
    fn where_others_use_the_account_the_reserve_is_kept_free() {
        let wait = |percent, limit, remaining| {
            let told = Allowance { limit, remaining: Some(remaining), ..TOLD };
            limits(&[window(100, 10_000)], percent).pause_for(told)
        };
        assert_eq!((wait(40, 100, 100), wait(40, 100, 40)), (0, 0));
        assert_eq!((wait(40, 100, 36), wait(40, 100, 0)), (1_000_000, 10_000_000));
        assert_eq!(wait(0, 100, 0), 0);
        assert_eq!((wait(99, 1, 0), wait(40, u64::MAX, 0)), (0, 10_000_000));
    }
}
