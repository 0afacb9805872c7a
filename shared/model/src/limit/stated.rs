//! What a destination states of its windows in its answers.

use super::{Limits, Micros, Unit, Window};

/// What an answer states of a window of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stated {
    /// Requests that the destination allows in it.
    pub limit: u64,
    /// How many of them are left for all users of the account.
    pub remaining: Option<u64>,
    /// Its length in milliseconds.
    pub per_ms: u64,
}

impl Limits {
    /// The window that an answer states something of.
    fn window_of(&self, stated: Stated) -> Option<&Window> {
        self.windows.iter().find(|window| window.unit == Unit::Requests && window.per_ms == stated.per_ms)
    }

    /// How long the account is throttled when an answer states this: other users have used a part of the reserve, and all of it is
    /// free again when the window has passed.
    pub fn throttle_for(&self, stated: Stated) -> Micros {
        let Some(window) = self.window_of(stated) else { return 0 };
        let window = Window { limit: stated.limit, ..*window };
        let reserve = window.limit - window.ours(self.reserve_percent).min(window.limit);
        let missing = stated.remaining.map_or(0, |remaining| reserve.saturating_sub(remaining));
        (u128::from(missing) * u128::from(window.per_ms) * 1_000 / u128::from(reserve.max(1))) as Micros
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_that_others_use_throttles_the_account_until_it_is_free() {
        let wait = |percent, limit, remaining, per_ms| {
            let windows = vec![Window { unit: Unit::Requests, limit: 100, per_ms: 10_000 }];
            let limits = Limits { windows, reserve_percent: percent, ..Limits::default() };
            limits.throttle_for(Stated { limit, remaining: Some(remaining), per_ms })
        };
        assert_eq!((wait(40, 100, 100, 10_000), wait(40, 100, 40, 10_000)), (0, 0));
        assert_eq!((wait(40, 100, 36, 10_000), wait(40, 100, 0, 10_000)), (1_000_000, 10_000_000));
        assert_eq!((wait(0, 100, 0, 10_000), wait(40, 0, 0, 10_000)), (0, 0));
        assert_eq!((wait(99, 1, 0, 10_000), wait(40, u64::MAX, 0, 10_000)), (0, 10_000_000));
        assert_eq!(wait(40, 100, 0, 60_000), 0, "nothing is configured of a window of that length");
    }
}
