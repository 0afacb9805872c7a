//! Limits that are local by nature: they bound what this process does by itself, whatever others do.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// So many logins of an account may come at once…
const LOGINS: NonZeroU32 = match NonZeroU32::new(30) {
    Some(logins) => logins,
    None => NonZeroU32::MIN,
};
/// …and one more each time this has passed: vendors lock accounts that log in for ever.
const LOGIN: Duration = Duration::from_secs(2);

/// Bounds the logins of one account.
pub(crate) struct Logins(DefaultDirectRateLimiter);

impl Default for Logins {
    fn default() -> Self {
        Self(limited(LOGIN, LOGINS))
    }
}

fn limited(each: Duration, burst: NonZeroU32) -> DefaultDirectRateLimiter {
    let quota = Quota::with_period(each).unwrap_or(Quota::per_second(NonZeroU32::MIN));
    RateLimiter::direct(quota.allow_burst(burst))
}

impl Logins {
    /// True where one more login is allowed now.
    pub(crate) fn may_begin(&self) -> bool {
        self.0.check().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_bounded() {
        let logins = Logins::default();
        assert_eq!((0..100).filter(|_| logins.may_begin()).count(), 30);
    }
}
