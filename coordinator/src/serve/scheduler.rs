//! Asking for runs when their time has come, and forgetting old ones, by one coordinator of all.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use outflow_model::limit::Micros;
use outflow_model::port::ledger::RunOptions;
use outflow_model::run::RunState;
use tracing::{info, warn};

use super::Coordinator;
use crate::project::Schedule;
use crate::run::EngineError;

/// Schedules are looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// Another coordinator takes over after so much silence.
const LEASE: Micros = 10_000_000;
/// What could not be done is tried again after so long.
const AGAIN: Duration = Duration::from_mins(1);
/// Old runs are looked for this often.
const EXPIRE: Duration = Duration::from_hours(1);
/// The lease of whoever keeps the schedules.
const NAME: &str = "schedules";

impl Coordinator {
    /// Keeps the project's schedules and tidies up, where no other coordinator does.
    pub(super) async fn keep_schedules(&self) {
        let began = self.engine.clock.now();
        let mut later = HashMap::new();
        loop {
            match self.leases.take(NAME, &self.name, LEASE).await {
                Ok(Some(_)) => self.keep_once(began, &mut later).await,
                Ok(None) => {}
                Err(error) => warn!(%error, "Who keeps the schedules cannot be told"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks for what is due, and forgets what is old; what is in `later` waits for its moment.
    async fn keep_once(&self, began: Micros, later: &mut HashMap<Matter, Instant>) {
        later.retain(|_, until| *until > Instant::now());
        if later.contains_key(&Matter::Project) {
            return;
        }
        let project = match (self.project)() {
            Ok(project) => project,
            Err(reason) => {
                warn!(reason, "The project cannot be read; its schedules wait");
                later.insert(Matter::Project, Instant::now() + AGAIN);
                return;
            }
        };
        if let Entry::Vacant(expiry) = later.entry(Matter::Expiry) {
            if let Err(error) = self.engine.expire(project.config.state.keep_days).await {
                warn!(%error, "Old runs could not be forgotten");
            }
            expiry.insert(Instant::now() + EXPIRE);
        }
        for (sync, schedule) in
            project.syncs.iter().filter_map(|(name, sync)| Some((name, sync.config.schedule.as_ref()?)))
        {
            let matter = Matter::Sync(sync.clone());
            if later.contains_key(&matter) {
                continue;
            }
            if let Err(reason) = self.ask_when_due(sync, schedule, began).await {
                warn!(sync, reason, "Whether the sync is due cannot be told, or it cannot run");
                later.insert(matter, Instant::now() + AGAIN);
            }
        }
    }

    async fn ask_when_due(&self, sync: &str, schedule: &Schedule, began: Micros) -> Result<(), String> {
        if self.is_due(sync, schedule, began).await.map_err(|error| error.to_string())? {
            let start = (self.starts)(sync, RunOptions::default())?;
            let run = self.engine.request(&start).await.map_err(|error| error.to_string())?;
            info!(sync, %run, "The sync is due");
        }
        Ok(())
    }

    /// However many of its times have passed, one run does for them.
    async fn is_due(&self, sync: &str, schedule: &Schedule, began: Micros) -> Result<bool, EngineError> {
        let now = self.engine.clock.now();
        let last = self.engine.ledger.runs(Some(sync), 1).await?.into_iter().next();
        if last.as_ref().is_some_and(|run| run.state == RunState::Queued) {
            return Ok(false);
        }
        Ok(match last.map(|run| run.requested) {
            None if schedule.begins_at_once() => true,
            last => schedule.next_after(sync, last.unwrap_or(began)).is_some_and(|next| next <= now),
        })
    }
}

/// What can wait.
#[derive(PartialEq, Eq, Hash)]
enum Matter {
    Project,
    Expiry,
    Sync(String),
}
