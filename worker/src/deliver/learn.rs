//! What an answer's headers tell of the account's limits.

use outflow_destinations::Response;
use outflow_model::limit::Stated;
use outflow_model::port;
use tracing::debug;

use super::Delivery;

/// Reads `used/allowed`, such as `api-usage=44/15000`.
fn used_of_allowed(text: &str) -> Option<(u64, u64)> {
    let first = text.split([';', ',']).next()?;
    let (used, allowed) = first.rsplit_once('=').map_or(first, |(_, value)| value).split_once('/')?;
    Some((used.trim().parse().ok()?, allowed.trim().parse().ok()?))
}

impl Delivery<'_> {
    /// Takes it.
    pub(super) async fn learn(&self, response: &Response) -> port::Result<()> {
        let (account, limiter) = (self.account, &self.tools.limiter);
        let throttle = &account.manifest.throttle;
        // Some tell less than nothing when more was used than allowed.
        let number = |name: &Option<String>| {
            let number: i64 = response.header(name.as_deref()?)?.trim().parse().ok()?;
            Some(number.max(0) as u64)
        };
        // Other statuses may be of something on the way, which has limits of its own.
        let is_its_own = matches!(response.status, 200..=299 | 429);
        if let Some(limit) = number(&throttle.window_limit).filter(|_| is_its_own)
            && let Some(per_ms) = number(&throttle.window_ms).or_else(|| account.manifest.one_window())
        {
            let stated = Stated { limit, remaining: number(&throttle.window_remaining), per_ms };
            let wait = account.limits.throttle_for(stated);
            if wait > 0 {
                debug!(account = account.name, wait, "The account is throttled: less is left than its reserve");
                limiter.pause(&account.name, wait).await?;
            }
        }
        let usage = throttle.daily_usage.as_deref().and_then(|name| response.header(name));
        if let Some((used, allowed)) = usage.and_then(used_of_allowed) {
            limiter.learn_daily(&account.name, used, Some(allowed)).await?;
        }
        if let (Some(limit), Some(remaining)) = (number(&throttle.daily_limit), number(&throttle.daily_remaining)) {
            limiter.learn_daily(&account.name, limit.saturating_sub(remaining), Some(limit)).await?;
        }
        Ok(())
    }
}
