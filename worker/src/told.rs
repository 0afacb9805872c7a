//! What an answer's headers tell of an account's limits.

use outflow_destinations::{Manifest, Response};
use outflow_model::limit::Stated;

/// It.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// A window of requests.
    pub(crate) window: Option<Stated>,
    /// Requests of the day that are used, and how many there are.
    pub(crate) daily: Option<(u64, u64)>,
}

impl Told {
    /// Reads it as a manifest says.
    pub(crate) fn read(manifest: &Manifest, response: &Response) -> Self {
        let throttle = &manifest.throttle;
        // Some tell less than nothing when more was used than allowed.
        let number = |name: &Option<String>| {
            let number: i64 = response.header(name.as_deref()?)?.trim().parse().ok()?;
            Some(number.max(0) as u64)
        };
        // Other statuses may be of something on the way, which has limits of its own.
        let is_its_own = matches!(response.status, 200..=299 | 429);
        let limit = number(&throttle.window_limit).filter(|_| is_its_own);
        let per_ms = number(&throttle.window_ms).or_else(|| manifest.one_window());
        let stated = |(limit, per_ms)| Stated { limit, remaining: number(&throttle.window_remaining), per_ms };
        let usage = throttle.daily_usage.as_deref().and_then(|name| response.header(name)).and_then(used_of_allowed);
        let left = number(&throttle.daily_limit).zip(number(&throttle.daily_remaining));
        let daily = left.map(|(limit, remaining)| (limit.saturating_sub(remaining), limit)).or(usage);
        Self { window: limit.zip(per_ms).map(stated), daily }
    }
}

/// Reads `used/allowed`, such as `api-usage=44/15000`.
fn used_of_allowed(text: &str) -> Option<(u64, u64)> {
    let first = text.split([';', ',']).next()?;
    let (used, allowed) = first.rsplit_once('=').map_or(first, |(_, value)| value).split_once('/')?;
    Some((used.trim().parse().ok()?, allowed.trim().parse().ok()?))
}
