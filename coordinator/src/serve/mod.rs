//! A coordinator among others: takes what there is to do, and executes each sync under a lease.

mod dead;
mod pauses;
mod scheduler;

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use metrics::{counter, gauge};
use outflow_model::limit::Micros;
use outflow_model::port::dead_letters::DeadLetters;
use outflow_model::port::lease::{Epoch, Leases};
use outflow_model::port::ledger::{Run, RunOptions};
use outflow_model::port::{self, PortError, Trouble};
use outflow_model::run::RunState;
use outflow_model::text::with_causes;
use outflow_trace::watch_services;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tracing::{error, info, warn};

use crate::project::Project;
use crate::run::{Engine, Progress, Signal, Start};

/// New work is looked for this often.
const LOOK: Duration = Duration::from_millis(150);
/// What could not go on is tried again after so long.
const AGAIN: Duration = Duration::from_secs(2);
/// A run of a sync that this coordinator does not know is left to others for so long: their project may be newer.
const OTHERS: Micros = 60_000_000;
/// A ledger that has not answered by then is taken for away, however long leases are.
const ANSWER: Duration = Duration::from_secs(5);

/// Makes a sync ready to run; an error says what is wrong with the project.
pub type Starts = Arc<dyn Fn(&str, RunOptions) -> Result<Start, String> + Send + Sync>;

/// Reads the project as it is now; an error says what is wrong with it.
pub type Projects = Arc<dyn Fn() -> Result<Project, String> + Send + Sync>;

/// A coordinator among others.
pub struct Coordinator {
    /// Its name, of this life of the process alone.
    pub name: String,
    /// Executes runs.
    pub engine: Engine,
    /// What the queue gave up.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// Who executes what.
    pub leases: Arc<dyn Leases>,
    /// The project.
    pub project: Projects,
    /// Its syncs, ready to run.
    pub starts: Starts,
    /// After so much silence it has lost what it executes.
    pub lease: Duration,
}

impl Coordinator {
    /// Whether ledger, limiter and queue can be used, the ledger for writing too; an error names the one that cannot, and why.
    pub async fn readiness(&self) -> Result<(), String> {
        let Engine { limiter, queue, .. } = &self.engine;
        let (ledger, limiter, queue) = tokio::join!(self.leases.check(), limiter.check(), queue.check());
        for (service, checked) in [("ledger", ledger), ("limiter", limiter), ("queue", queue)] {
            checked.map_err(|error| format!("{service}: {}", with_causes(&error)))?;
        }
        Ok(())
    }

    /// Executes whatever there is to do until told to stop; others go on with what is under way then.
    pub async fn serve(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let schedules = self.keep_schedules();
        let Engine { limiter, queue, .. } = &self.engine;
        tokio::select! {
            () = self.clone().execute_all(&mut stop) => {}
            () = schedules => {}
            () = self.settle_dead_letters() => {}
            () = self.keep_pauses() => {}
            never = watch_services(queue.as_ref(), limiter.as_ref()) => match never {},
        }
        // Another keeps the schedules at once.
        self.release(scheduler::NAME).await;
    }

    async fn execute_all(self: Arc<Self>, stop: &mut watch::Receiver<bool>) {
        let mut under_way = JoinSet::new();
        let mut syncs: HashMap<Id, String> = HashMap::new();
        let mut later: HashMap<String, Instant> = HashMap::new();
        let mut paused = BTreeSet::new();
        loop {
            let found = tokio::select! {
                found = self.work(&mut paused) => found,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match found {
                Ok(runs) => {
                    later.retain(|_, until| *until > Instant::now());
                    for run in runs {
                        let taken = syncs.values().any(|sync| *sync == run.sync) || later.contains_key(&run.sync);
                        if !taken {
                            let sync = run.sync.clone();
                            let task = under_way.spawn(self.clone().execute(run));
                            syncs.insert(task.id(), sync);
                        }
                    }
                }
                Err(error) => warn!(error = with_causes(&error), "The ledger cannot be asked for work"),
            }
            gauge!("outflow_runs_under_way").set(syncs.len() as f64);
            let look = tokio::time::sleep(LOOK);
            tokio::select! {
                Some(ended) = under_way.join_next_with_id() => {
                    let (id, moved) = ended.unwrap_or_else(|error| {
                        error!(%error, "An execution broke off");
                        (error.id(), false)
                    });
                    if let (Some(sync), false) = (syncs.remove(&id), moved) {
                        later.insert(sync, Instant::now() + AGAIN);
                    }
                }
                () = look => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        under_way.shutdown().await;
        join_all(syncs.values().map(|sync| self.leave(sync))).await;
    }

    /// Leaves a sync in order: another goes on at once, and a planning that was under way did not end its process.
    async fn leave(&self, sync: &str) {
        if !matches!(tokio::time::timeout(ANSWER, self.engine.forgive_plannings(sync)).await, Ok(Ok(()))) {
            warn!(sync, "A planning that ends in order counts as one that did not: the ledger does not answer");
        }
        self.release(&lease_of(sync)).await;
    }

    /// Takes back what was counted of plannings that did not end this process, however long the ledger is away.
    async fn forgive(&self, sync: &str) {
        while let Err(error) = self.in_time(self.engine.forgive_plannings(sync)).await {
            warn!(
                sync,
                error = with_causes(&error),
                "A planning that did not end this process counts until the ledger answers"
            );
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// The runs that can go on, as far as the ledger tells.
    async fn work(&self, paused: &mut BTreeSet<String>) -> port::Result<Vec<Run>> {
        let ledger = &self.engine.ledger;
        let now: BTreeSet<String> = ledger.pauses().await?.into_iter().map(|pause| pause.account).collect();
        for account in paused.union(&now) {
            gauge!("outflow_account_paused", "lane" => account.clone()).set(f64::from(now.contains(account)));
        }
        *paused = now;
        let mut runs = ledger.unended().await?;
        for state in RunState::ALL.into_iter().filter(|state| !state.is_end()) {
            let count = runs.iter().filter(|run| run.state == state).count();
            gauge!("outflow_runs", "state" => state.name()).set(count as f64);
        }
        // What is under way is settled, however long nothing more is sent.
        runs.retain(|run| is_ready(run) && !(run.state == RunState::Queued && paused.contains(&run.destination)));
        Ok(runs)
    }

    /// Executes a sync where no other coordinator does; true where its run has ended.
    async fn execute(self: Arc<Self>, run: Run) -> bool {
        let sync = run.sync.clone();
        let epoch = match self.take(&sync).await {
            Ok(Some(epoch)) => epoch,
            Ok(None) => return false,
            Err(error) => {
                warn!(
                    sync,
                    error = with_causes(&error),
                    "Whether another coordinator executes the sync cannot be told"
                );
                return false;
            }
        };
        let ended = tokio::select! {
            ended = self.go_on(run, epoch) => Some(ended),
            never = self.keep(&sync, epoch) => match never {
                Ok(never) => match never {},
                Err(Lost) => None,
            },
        };
        if ended.is_none() {
            counter!("outflow_leases_lost_total").increment(1);
            warn!(sync, "Another coordinator may have taken the sync over; this one leaves it");
        }
        self.forgive(&sync).await;
        if ended.is_some() {
            self.release(&lease_of(&sync)).await;
        }
        ended.unwrap_or(false)
    }

    async fn go_on(&self, run: Run, epoch: Epoch) -> bool {
        let (progress, _) = watch::channel(Progress::default());
        let ledger = self.leases.under(&lease_of(&run.sync), epoch);
        let engine = Engine { ledger, progress, ..self.engine.clone() };
        let start = match (self.starts)(&run.sync, run.options) {
            Ok(start) => start,
            Err(reason) => {
                if !run.cancel && self.is_for_others(&run) {
                    warn!(sync = run.sync, run = %run.id, reason, "This coordinator does not know the sync; its run is left to others for a while");
                    return false;
                }
                warn!(sync = run.sync, run = %run.id, reason, "The sync cannot run");
                return engine.refuse(&run, &reason).await.unwrap_or_else(|error| {
                    warn!(run = %run.id, error = with_causes(&error), "The run could not be ended");
                    false
                });
            }
        };
        // Nobody interrupts it: another coordinator goes on where this one stops.
        let (_run, signal) = watch::channel(Signal::Run);
        match engine.go_on(&start, signal).await {
            Ok(Some(finished)) => {
                let run = finished.run;
                info!(sync = run.sync, run = %run.id, state = run.state.name(), "An execution has ended");
                run.state.is_end()
            }
            Ok(None) => false,
            Err(error) => {
                warn!(sync = run.sync, run = %run.id, error = with_causes(&error), "An execution could not go on");
                false
            }
        }
    }

    /// Whether another coordinator may know a sync that this one does not: the project is changed on one machine after the other.
    fn is_for_others(&self, run: &Run) -> bool {
        let known = (self.project)().is_ok_and(|project| project.names().contains(&run.sync));
        !known && self.engine.clock.now() - run.requested < OTHERS
    }

    async fn take(&self, sync: &str) -> port::Result<Option<Epoch>> {
        self.in_time(self.leases.take(&lease_of(sync), &self.name, self.lease.as_micros() as Micros)).await
    }

    /// What is done about a lease is done while it lasts, or not at all.
    async fn in_time<T>(&self, work: impl Future<Output = port::Result<T>>) -> port::Result<T> {
        tokio::time::timeout((self.lease / 2).min(ANSWER), work)
            .await
            .unwrap_or_else(|_| Err(PortError::new(Trouble::Unavailable, "The ledger does not answer")))
    }

    /// Renews the lease as long as that can be done.
    async fn keep(&self, sync: &str, epoch: Epoch) -> Result<Infallible, Lost> {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.lease / 4).await;
            match self.take(sync).await {
                Ok(Some(held)) if held == epoch => renewed = Instant::now(),
                Ok(_) => return Err(Lost),
                Err(error) if renewed.elapsed() < self.lease => {
                    warn!(sync, error = with_causes(&error), "A lease could not be renewed");
                }
                // It may be another's by now. What is written under the old epoch is refused in any case.
                Err(_) => return Err(Lost),
            }
        }
    }

    async fn release(&self, lease: &str) {
        if let Err(error) = self.in_time(self.leases.release(lease, &self.name)).await {
            warn!(lease, error = with_causes(&error), "A lease could not be given back; it lapses by itself");
        }
    }
}

/// The lease went to another coordinator.
struct Lost;

/// The lease under which a sync is executed.
pub fn lease_of(sync: &str) -> String {
    format!("sync/{sync}")
}

/// A held plan waits for a person.
fn is_ready(run: &Run) -> bool {
    run.state != RunState::Held || run.approved || run.cancel
}
