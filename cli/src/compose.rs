//! The embedded composition: every port on this machine, in this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use outflow_backends::{
    FileVault, MemoryLimiter, MemoryQueue, ObjectStore, SqliteLedger, StateLock, SystemClock, resolve,
};
use outflow_coordinator::project::{Project, resolve as resolve_sync};
use outflow_coordinator::{Engine, Progress, Start};
use outflow_model::id::Lane;
use outflow_model::port::ledger::RunOptions;
use outflow_model::port::limiter::Limiter;
use outflow_model::port::queue::Queue;
use outflow_model::secret::{Reference, expand};
use outflow_worker::{Accounts, Keyring, Secrets, Worker, serve};
use tokio::sync::{Notify, watch};

use crate::mistakes::Mistakes;

/// The engine with a worker beside it.
pub(crate) struct Embedded {
    pub(crate) engine: Arc<Engine>,
    pub(crate) progress: watch::Receiver<Progress>,
    worker: Arc<Worker>,
}

/// Reads the project.
pub(crate) fn project(root: &Path) -> Result<Project> {
    Project::load(root).map_err(|problems| Mistakes(problems).into())
}

/// The project's state directory, made where it is missing.
pub(crate) fn state_dir(project: &Project) -> Result<PathBuf> {
    let folder = project.root.join(&project.config.state.dir);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("Cannot make the state directory {}", folder.display()))?;
    Ok(folder)
}

/// Opens the ledger.
pub(crate) async fn ledger(project: &Project) -> Result<Arc<SqliteLedger>> {
    Ok(Arc::new(SqliteLedger::open(&state_dir(project)?.join("ledger.db")).await?))
}

/// How references to secrets are resolved in a project.
pub(crate) fn secrets(project: &Project) -> Secrets {
    let root = project.root.clone();
    Arc::new(move |reference: Reference<'_>| resolve(reference, &root))
}

/// Where credentials come from in a project.
pub(crate) fn keys(project: &Project) -> Keyring {
    let folder = project.root.join(&project.config.state.dir).join("tokens");
    Keyring { secrets: secrets(project), vault: Arc::new(FileVault::new(&folder)) }
}

/// A sync made ready: its names resolved, its source opened.
pub(crate) fn start(project: &Project, name: &str, options: RunOptions) -> Result<Start> {
    let mut sync = resolve_sync(project, name).map_err(Mistakes)?;
    let written = project.syncs.get(name).cloned().context("The sync has just been resolved")?;
    let resolver = secrets(project);
    let mut source = sync.source.clone();
    for secret in source.secrets_mut() {
        *secret = expand(secret, |reference| resolver(reference)).map_err(anyhow::Error::msg)?;
    }
    let source = outflow_sources::open(&source, &project.root);
    sync.config.priority = sync.config.priority.max(1);
    Ok(Start { sync, written, source, options })
}

/// A chunk that was published and is neither in a queue nor in a worker's hands is published again after so long.
const SILENCE: Duration = Duration::from_secs(15);

/// Puts the engine together. The caller holds the state directory's lock.
pub(crate) async fn embed(project: &Project) -> Result<Embedded> {
    let state = state_dir(project)?;
    let clock = Arc::new(SystemClock::default());
    let ledger = ledger(project).await?;
    let queue: Arc<dyn Queue> = Arc::new(MemoryQueue::default());
    let limiter: Arc<dyn Limiter> = Arc::new(MemoryLimiter::new(clock.clone(), ledger.clone()));
    let folder = state.join("tmp");
    // What an earlier process left half-done; nothing refers to it.
    _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).with_context(|| format!("Cannot make {}", folder.display()))?;
    let (sender, progress) = watch::channel(Progress::default());
    let accounts = Accounts::new(keys(project));
    let name = format!("embedded-{}", std::process::id());
    let worker = Arc::new(Worker::new(name, accounts, queue.clone(), limiter.clone(), clock.clone()));
    let store = Arc::new(ObjectStore::local(&state.join("store"))?);
    let engine = Arc::new(Engine {
        ledger,
        store,
        queue,
        limiter,
        clock,
        folder,
        silence: SILENCE,
        news: Notify::new(),
        progress: sender,
    });
    Ok(Embedded { engine, progress, worker })
}

impl Embedded {
    /// Serves a sync's lane until the handle is aborted.
    pub(crate) fn serve(&self, start: &Start) -> tokio::task::JoinHandle<()> {
        let lane = Lane(start.sync.account.name.clone());
        tokio::spawn(serve(self.worker.clone(), lane, start.sync.concurrency as usize))
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
