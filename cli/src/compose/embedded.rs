//! The embedded composition: every port on this machine, in this process.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use outflow_backends::{DirectoryStore, MemoryLimiter, MemoryQueue, StateLock};
use outflow_coordinator::project::Project;
use outflow_coordinator::{Engine, Progress, Start};
use outflow_model::id::Lane;
use outflow_model::port::ledger::Ledger;
use outflow_model::port::limiter::Limiter;
use outflow_model::port::queue::Queue;
use outflow_worker::{Accounts, Worker, serve};
use tokio::sync::watch;

use super::{keys, ledger, state_dir, workplace};

/// A chunk that was published and is neither in a queue nor in a worker's hands is published again after so long.
const SILENCE: Duration = Duration::from_secs(15);

/// Chunks under delivery take no more bytes than this: planning and folding need room beside.
const MEMORY: u64 = 160 * 1024 * 1024;

/// The engine with a worker beside it.
pub(crate) struct Embedded {
    pub(crate) engine: Arc<Engine>,
    pub(crate) progress: watch::Receiver<Progress>,
    worker: Arc<Worker>,
}

/// Puts engine and worker together. The caller holds the state directory's lock.
pub(crate) async fn embed(project: &Project) -> Result<Embedded> {
    let engine = Arc::new(engine(project).await?);
    let accounts = Accounts::new(keys(project)?);
    let name = format!("embedded-{}", std::process::id());
    let Engine { queue, limiter, clock, progress, .. } = engine.as_ref();
    let worker = Worker::new(name, accounts, queue.clone(), limiter.clone(), clock.clone()).with_memory(MEMORY);
    let worker = Arc::new(worker);
    Ok(Embedded { progress: progress.subscribe(), engine, worker })
}

pub(super) async fn engine(project: &Project) -> Result<Engine> {
    let ledger = ledger(project).await?;
    let clock = ledger.clock().await?;
    let queue: Arc<dyn Queue> = Arc::new(MemoryQueue::default());
    let limiter = limiter(&ledger).await?;
    let folder = workplace::only(project)?;
    let store = Arc::new(DirectoryStore::open(&state_dir(project)?.join("store"))?);
    let (progress, _) = watch::channel(Progress::default());
    Ok(Engine {
        ledger,
        store,
        queue,
        limiter,
        clock,
        folder,
        silence: SILENCE,
        pauses_refused: false,
        news: Arc::default(),
        plannings: Arc::default(),
        progress,
    })
}

/// The limiter of this process; what others have used is in the ledger.
pub(super) async fn limiter(ledger: &Arc<dyn Ledger>) -> Result<Arc<dyn Limiter>> {
    Ok(Arc::new(MemoryLimiter::new(ledger.clock().await?, ledger.clone())))
}

impl Embedded {
    /// Serves a sync's lane until the handle is aborted.
    pub(crate) fn serve(&self, start: &Start) -> tokio::task::JoinHandle<()> {
        let lane = Lane(start.sync.account.name.clone());
        tokio::spawn(serve(self.worker.clone(), lane, start.sync.concurrency))
    }
}

/// Waits for the state directory's lock.
pub(crate) async fn lock(project: &Project) -> Result<StateLock> {
    let folder = state_dir(project)?;
    Ok(tokio::task::spawn_blocking(move || StateLock::take(&folder)).await??)
}

/// Takes the state directory's lock where it is free.
pub(crate) fn try_lock(project: &Project) -> Result<Option<StateLock>> {
    Ok(StateLock::try_take(&state_dir(project)?)?)
}
