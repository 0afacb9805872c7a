//! What one coordinator of all does: asking for runs when their time has come, and forgetting what is old.

use std::time::{Duration, Instant};

use outflow_model::limit::Micros;
use outflow_model::port::ledger::RunOptions;
use tracing::{info, warn};

use super::Coordinator;
use crate::project::Schedule;
use crate::run::EngineError;

/// Schedules are looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// Another coordinator takes over after so much silence.
const LEASE: Micros = 10_000_000;
/// What is old is looked for this often.
const UPKEEP: Duration = Duration::from_hours(1);
/// The lease of whoever keeps the schedules.
const NAME: &str = "schedules";

impl Coordinator {
    /// Keeps the project's schedules and tidies up, where no other coordinator does.
    pub(super) async fn keep_schedules(&self) {
        let began = self.engine.clock.now();
        let mut tidied: Option<Instant> = None;
        loop {
            match self.leases.take(NAME, &self.name, LEASE).await {
                Ok(Some(_)) => {
                    self.ask_for_what_is_due(began).await;
                    if tidied.is_none_or(|tidied| tidied.elapsed() > UPKEEP) {
                        tidied = Some(Instant::now());
                        self.tidy().await;
                    }
                }
                Ok(None) => {}
                Err(error) => warn!(%error, "Who keeps the schedules cannot be told"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn ask_for_what_is_due(&self, began: Micros) {
        let project = match (self.project)() {
            Ok(project) => project,
            Err(reason) => return warn!(reason, "The project cannot be read; its schedules wait"),
        };
        for (sync, schedule) in
            project.syncs.iter().filter_map(|(name, sync)| Some((name, sync.config.schedule.as_ref()?)))
        {
            match self.is_due(sync, schedule, began).await {
                Ok(false) => {}
                Ok(true) => self.ask_for(sync).await,
                Err(error) => warn!(sync, %error, "Whether the sync is due cannot be told"),
            }
        }
    }

    /// Should it take longer than the lease, another one does the same, which harms nobody.
    async fn tidy(&self) {
        let Ok(project) = (self.project)() else { return };
        // A plan of today may be one that its run does not point to yet.
        let days = project.config.state.keep_days.max(1);
        if let Err(error) = self.engine.expire(days).await {
            warn!(%error, "Old runs could not be forgotten");
        }
    }

    /// However many of its times have passed, one run does for them.
    async fn is_due(&self, sync: &str, schedule: &Schedule, began: Micros) -> Result<bool, EngineError> {
        let now = self.engine.clock.now();
        let last = self.engine.ledger.runs(Some(sync), 1).await?.first().map(|run| run.requested);
        Ok(match last {
            None if schedule.begins_at_once() => true,
            last => schedule.next_after(sync, last.unwrap_or(began)).is_some_and(|next| next <= now),
        })
    }

    async fn ask_for(&self, sync: &str) {
        let asked = match (self.starts)(sync, RunOptions::default()) {
            Ok(start) => self.engine.request(&start).await.map_err(|error| error.to_string()),
            Err(reason) => Err(reason),
        };
        match asked {
            Ok(run) => info!(sync, %run, "The sync is due"),
            Err(reason) => warn!(sync, reason, "The sync is due, and cannot run"),
        }
    }
}
