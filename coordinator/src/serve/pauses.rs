//! Pauses take effect though the coordinator that executes a run is cut off from the limiter: every coordinator closes its gates.

use std::collections::BTreeSet;

use outflow_model::port;
use outflow_model::text::with_causes;
use tracing::warn;

use super::{AGAIN, Coordinator};
use crate::run::LOOK;

impl Coordinator {
    /// Closes the gates of accounts that are paused.
    pub(super) async fn keep_pauses(&self) {
        let mut closed = BTreeSet::new();
        loop {
            let kept = self.keep_pauses_once(&mut closed).await;
            if let Err(error) = &kept {
                warn!(
                    error = with_causes(error),
                    "The gates of a paused account could not be closed; it is tried again"
                );
            }
            tokio::time::sleep(if kept.is_ok() { LOOK } else { AGAIN }).await;
        }
    }

    /// Closes those that are not among `closed`.
    async fn keep_pauses_once(&self, closed: &mut BTreeSet<String>) -> port::Result<()> {
        let pauses = self.in_time(self.engine.ledger.pauses()).await?;
        let paused: BTreeSet<String> = pauses.into_iter().map(|pause| pause.account).collect();
        closed.retain(|account| paused.contains(account));
        for account in paused {
            if !closed.contains(&account) {
                self.in_time(self.engine.close_gates(&account)).await?;
                closed.insert(account);
            }
        }
        Ok(())
    }
}
