//! What an answer tells of the account's limits, taken to the limiter.

use outflow_destinations::Response;
use outflow_model::port;
use tracing::debug;

use super::Delivery;
use crate::told::Told;

impl Delivery<'_> {
    /// Takes it.
    pub(super) async fn learn(&self, response: &Response) -> port::Result<()> {
        let (account, limiter) = (self.account, &self.tools.limiter);
        let Told { window, daily } = Told::read(&account.manifest, response);
        let wait = window.map_or(0, |stated| account.limits.throttle_for(stated));
        if wait > 0 {
            debug!(account = account.name, wait, "The account is throttled: less is left than its reserve");
            limiter.pause(&account.name, wait).await?;
        }
        if let Some((used, allowed)) = daily {
            limiter.learn_daily(&account.name, used, Some(allowed)).await?;
        }
        Ok(())
    }
}
