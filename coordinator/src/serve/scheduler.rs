//! Asking for runs when their time has come, and forgetting old ones, by one coordinator of all.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use outflow_model::limit::Micros;
use outflow_model::port::lease::Epoch;
use outflow_model::port::ledger::{Run, RunOptions};
use outflow_model::port::{self, PortError};
use outflow_model::run::RunState;
use outflow_model::text::with_causes;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::Coordinator;
use crate::project::Schedule;

/// Schedules are looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// Another coordinator takes over after so much silence.
const LEASE: Micros = 10_000_000;
/// What could not be done is tried again after so long.
const AGAIN: Duration = Duration::from_mins(1);
/// Old runs are looked for this often.
const EXPIRE: Duration = Duration::from_hours(1);
/// The lease of whoever keeps the schedules.
pub(super) const NAME: &str = "schedules";

impl Coordinator {
    /// Keeps the project's schedules and tidies up, where no other coordinator does.
    pub(super) async fn keep_schedules(&self) {
        let (forget, told) = mpsc::channel(1);
        tokio::join!(self.look_at_schedules(forget), self.forget_old(told));
    }

    /// Forgets what has been so many days old whenever that is asked for: however long it takes, no schedule waits for it.
    async fn forget_old(&self, mut told: mpsc::Receiver<u32>) {
        while let Some(days) = told.recv().await {
            if let Err(error) = self.engine.expire(days).await {
                warn!(error = with_causes(&error), "Old runs could not be forgotten");
            }
        }
    }

    async fn look_at_schedules(&self, forget: mpsc::Sender<u32>) {
        let began = self.engine.clock.now();
        let mut later = HashMap::new();
        loop {
            match self.take_schedules().await {
                Ok(Some(epoch)) => self.keep_once(began, epoch, &mut later, &forget).await,
                Ok(None) => {}
                Err(error) => warn!(error = with_causes(&error), "Who keeps the schedules cannot be told"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn take_schedules(&self) -> port::Result<Option<Epoch>> {
        self.in_time(self.leases.take(NAME, &self.name, LEASE)).await
    }

    /// Asks for what is due, and has forgotten what is old; what is in `later` waits for its moment.
    async fn keep_once(
        &self,
        began: Micros,
        epoch: Epoch,
        later: &mut HashMap<Matter, Instant>,
        forget: &mpsc::Sender<u32>,
    ) {
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
        if !project.mistakes().is_empty() && later.insert(Matter::Mistakes, Instant::now() + AGAIN).is_none() {
            let mistakes: Vec<String> = project.mistakes().iter().map(ToString::to_string).collect();
            warn!(
                mistakes = mistakes.join("; "),
                "Files of the project cannot be read; the schedules of their syncs wait"
            );
        }
        if let Entry::Vacant(expiry) = later.entry(Matter::Expiry) {
            // What is still under way, or asked for, does for this too.
            _ = forget.try_send(project.config.state.keep_days);
            expiry.insert(Instant::now() + EXPIRE);
        }
        for (sync, schedule) in
            project.syncs.iter().filter_map(|(name, sync)| Some((name, sync.config.schedule.as_ref()?)))
        {
            let matter = Matter::Sync(sync.clone());
            if later.contains_key(&matter) {
                continue;
            }
            if let Err(reason) = self.ask_when_due(sync, schedule, began, epoch).await {
                warn!(sync, reason, "Whether the sync is due cannot be told, or it cannot run");
                later.insert(matter, Instant::now() + AGAIN);
            }
        }
    }

    async fn ask_when_due(&self, sync: &str, schedule: &Schedule, began: Micros, epoch: Epoch) -> Result<(), String> {
        let told = |error: PortError| error.to_string();
        let last = self.in_time(self.engine.ledger.runs(Some(sync), 1)).await.map_err(told)?;
        if !is_due(sync, schedule, last.first(), began, self.engine.clock.now()) {
            return Ok(());
        }
        let start = (self.starts)(sync, RunOptions::default())?;
        // What came before may have outlasted the lease, and another have asked meanwhile.
        if self.take_schedules().await.map_err(told)? != Some(epoch) {
            return Ok(());
        }
        let asking = async { Ok(self.engine.request(&start).await) };
        let run = self.in_time(asking).await.map_err(told)?.map_err(|error| error.to_string())?;
        info!(sync, %run, "The sync is due");
        Ok(())
    }
}

/// Clocks differ by less, if they are right.
const AHEAD: Micros = 300_000_000;

/// Whether a sync is due whose newest run is `last`, and whose schedule is kept since `began`. However many of its times have
/// passed, one run does for them; one that is queued does for all that come before it begins.
fn is_due(sync: &str, schedule: &Schedule, last: Option<&Run>, began: Micros, now: Micros) -> bool {
    // Of a run that was asked for while a clock was ahead it is not known when that was.
    match last.filter(|run| run.state == RunState::Queued || run.requested <= now + AHEAD) {
        Some(run) if run.state == RunState::Queued => false,
        None if schedule.begins_at_once() => true,
        last => schedule.next_after(sync, last.map_or(began, |run| run.requested)).is_some_and(|next| next <= now),
    }
}

/// What can wait.
#[derive(PartialEq, Eq, Hash)]
enum Matter {
    /// Files of the project that cannot be read.
    Mistakes,
    Project,
    Expiry,
    Sync(String),
}

#[cfg(test)]
mod tests {
    use outflow_model::id::RunId;

    use super::*;

    const HOUR: Micros = 3_600_000_000;
    const EVERY_HOUR: &str = r#"{ "every": "1h" }"#;
    const AT_SIX: &str = r#"{ "cron": "0 6 * * *" }"#;

    /// A run that was asked for at that hour.
    fn run(hour: Micros, state: RunState) -> Run {
        Run { state, ..Run::queued(RunId::new(1, 1), "people", "crm", RunOptions::default(), hour * HOUR) }
    }

    /// Whether the sync is due at that hour, where its schedule is kept since hour 7.
    fn is_due_at(hour: Micros, schedule: &str, last: Option<&Run>) -> bool {
        is_due("people", &serde_json::from_str(schedule).unwrap(), last, 7 * HOUR, hour * HOUR)
    }

    #[test]
    fn times_that_were_missed_come_to_one_run() {
        for (schedule, next) in [(EVERY_HOUR, 101), (AT_SIX, 102)] {
            assert!(is_due_at(100, schedule, Some(&run(10, RunState::Succeeded))), "{schedule}");
            let caught_up = run(100, RunState::Succeeded);
            assert!(!is_due_at(100, schedule, Some(&caught_up)), "{schedule}");
            assert!(!is_due_at(next - 1, schedule, Some(&caught_up)), "{schedule}");
            assert!(is_due_at(next, schedule, Some(&caught_up)), "{schedule}");
        }
    }

    #[test]
    fn a_clock_that_was_ahead_stops_no_schedule() {
        let early = run(90_000, RunState::Succeeded);
        assert!(is_due_at(8, EVERY_HOUR, Some(&early)) && !is_due_at(29, AT_SIX, Some(&early)));
        assert!(is_due_at(30, AT_SIX, Some(&early)));
        let soon = Run { requested: 8 * HOUR + AHEAD, ..run(8, RunState::Succeeded) };
        assert!(!is_due_at(8, EVERY_HOUR, Some(&soon)), "another coordinator's clock may differ");
    }

    #[test]
    fn a_run_under_way_is_followed_by_one_at_most() {
        let under_way = run(8, RunState::Delivering);
        assert!(!is_due_at(8, EVERY_HOUR, Some(&under_way)) && is_due_at(9, EVERY_HOUR, Some(&under_way)));
        assert!(!is_due_at(100, EVERY_HOUR, Some(&run(9, RunState::Queued))), "it is the newest from then on");
    }

    #[test]
    fn a_sync_that_never_ran_begins_at_once_or_at_its_next_time() {
        assert!(is_due_at(7, EVERY_HOUR, None));
        assert!(!is_due_at(7, AT_SIX, None), "six o'clock had passed when its schedule began to be kept");
        assert!(!is_due_at(29, AT_SIX, None) && is_due_at(30, AT_SIX, None));
    }
}
