//! Asks a cluster for runs, and follows them in its ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use outflow_backends::{PostgresLedger, SystemClock};
use outflow_model::id::RunId;
use outflow_model::port::clock::Clock;
use outflow_model::port::ledger::{Run, RunOptions, Runs};

/// Numbers the runs that this process asks for.
static NEXT: AtomicU32 = AtomicU32::new(0);
/// A run that takes longer is stuck.
const PATIENCE: Duration = Duration::from_mins(3);

/// Whoever wants runs of a cluster; it may be kept beside the cluster.
#[derive(Clone)]
pub struct Client {
    /// The ledger, without a proxy.
    pub ledger: Arc<PostgresLedger>,
}

impl Client {
    /// Asks for a run.
    pub async fn request(&self) -> Result<RunId> {
        let now = SystemClock::default().now();
        let id = RunId::new((now / 1_000) as u64, NEXT.fetch_add(1, Ordering::Relaxed));
        let run = Run::queued(id, "people", "crm", RunOptions::default(), now);
        Ok(self.ledger.request(&run).await?.run)
    }

    /// Waits until a run is as it should be.
    pub async fn until(&self, run: &RunId, is_there: impl Fn(&Run) -> bool) -> Result<Run> {
        let began = Instant::now();
        loop {
            // The ledger itself may be what is away.
            let found = match self.ledger.run(run).await {
                Ok(found) => found,
                Err(_) if began.elapsed() < PATIENCE => None,
                Err(error) => return Err(error.into()),
            };
            match found {
                Some(found) if is_there(&found) => return Ok(found),
                found if began.elapsed() > PATIENCE => bail!("The run is stuck: {found:?}"),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Waits until a run has ended.
    pub async fn ended(&self, run: &RunId) -> Result<Run> {
        self.until(run, |run| run.state.is_end()).await
    }
}
