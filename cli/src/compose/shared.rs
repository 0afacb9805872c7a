//! The distributed composition: coordinators and workers over services that they share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use outflow_backends::{FileVault, Place, PostgresLedger, RabbitQueue, RedisLimiter, SystemClock, open_store};
use outflow_coordinator::project::{Project, SharedState};
use outflow_coordinator::{Coordinator, Engine, Progress, Projects};
use outflow_model::port::clock::Clock;
use outflow_model::port::store::Store;
use outflow_model::port::{PortError, Trouble};
use outflow_model::secret::expand;
use outflow_worker::{Accounts, Keyring, Worker};
use tokio::sync::watch;
use tracing::warn;

use super::{folder, project, secrets, start};
use crate::mistakes::Mistakes;

/// A chunk that was published and is neither in a queue nor in a worker's hands is published again after so long.
const SILENCE: Duration = Duration::from_secs(15);

/// A coordinator that is silent for so long has lost what it executes.
const LEASE: Duration = Duration::from_secs(12);

/// Plans are few, so a listing of them is a cheap question.
const PLANS: &str = "plans";

/// What a worker is told of what it shares with coordinators.
pub(crate) struct Messaging {
    pub(crate) queue: Option<String>,
    pub(crate) limiter: Option<String>,
    pub(crate) prefix: Option<String>,
}

/// The name of this life of a process that works as `role`.
pub(super) fn process(role: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{role}-{}-{}-{:x}", host.trim(), std::process::id(), SystemClock::default().entropy() as u32)
}

/// A setting with its references to secrets resolved.
fn resolved(root: &Path, name: &str, value: &str) -> Result<String> {
    let resolver = secrets(root);
    expand(value, |reference| resolver(reference)).map_err(|reason| anyhow!("state.shared.{name}: {reason}"))
}

pub(super) async fn ledger(root: &Path, places: &SharedState) -> Result<Arc<PostgresLedger>> {
    Ok(Arc::new(PostgresLedger::open(&resolved(root, "ledger", &places.ledger)?).await?))
}

/// The shared store. What is wrong with its place, its credentials or its permissions is told as a mistake in the project, before
/// anything is done; one that is away is waited for where it is needed.
pub(super) async fn store(project: &Project, places: &SharedState, copies: &Path) -> Result<Arc<dyn Store>> {
    let mistake = |reason: String| Mistakes(vec![project.problem("state.shared.store", reason)]);
    let url = resolved(&project.root, "store", &places.store)?;
    let place = Place::parse(&url).map_err(mistake)?;
    let told = |error: PortError| match error.trouble {
        Trouble::Refused => anyhow!(mistake(format!("{error}."))),
        _ => anyhow!(error),
    };
    let store = open_store(&place, copies).map_err(told)?;
    match store.list(PLANS).await {
        Err(error) if error.trouble == Trouble::Unavailable => warn!(%error, "The store cannot be reached yet"),
        listed => drop(listed.map_err(told)?),
    }
    Ok(store)
}

/// The engine of one process, under `name`.
async fn engine_of(project: &Project, places: &SharedState, name: &str) -> Result<(Engine, Arc<PostgresLedger>)> {
    let root = &project.root;
    let folder = folder(project, &format!("tmp-{name}"))?;
    let store = store(project, places, &folder).await?;
    let ledger = ledger(root, places).await?;
    let queue = RabbitQueue::new(&resolved(root, "queue", &places.queue)?, &places.prefix, name)?;
    let url = resolved(root, "limiter", &places.limiter)?;
    let limiter = RedisLimiter::new(&url, &places.prefix, Some(ledger.clone()))?;
    let (progress, _) = watch::channel(Progress::default());
    let engine = Engine {
        ledger: ledger.clone(),
        store,
        queue: Arc::new(queue),
        limiter: Arc::new(limiter),
        clock: Arc::new(SystemClock::default()),
        folder,
        silence: SILENCE,
        news: Arc::default(),
        progress,
    };
    Ok((engine, ledger))
}

pub(super) async fn engine(project: &Project, places: &SharedState) -> Result<Engine> {
    Ok(engine_of(project, places, &process("user")).await?.0)
}

/// A coordinator of the project in `root`, which it reads anew for each run.
pub(crate) async fn coordinator(root: &Path) -> Result<Coordinator> {
    let read = project(root)?;
    let places = read.config.state.shared.as_ref().context(
        "A coordinator shares its state: name ledger, queue, limiter and store under `state.shared` in outflow.yml. On one \
         machine `outflow run` needs none of them",
    )?;
    let name = process("coordinator");
    let (engine, leases) = engine_of(&read, places, &name).await?;
    let root = root.to_owned();
    let read: Projects = Arc::new(move || project(&root).map_err(|error| error.to_string()));
    let project = read.clone();
    let starts = move |sync: &str, options| start(&read()?, sync, options).map_err(|error| format!("{error:#}"));
    Ok(Coordinator { name, engine, leases, project, starts: Arc::new(starts), lease: LEASE })
}

/// A worker; it needs no ledger and no store, and no project where it is told its queue and its limiter. What it is not told
/// is taken from the project in `root`.
pub(crate) fn worker(root: &Path, given: Messaging) -> Result<Worker> {
    let told = given.queue.is_some() && given.limiter.is_some();
    let places = match project(root) {
        Ok(read) => read.config.state.shared,
        Err(_) if told => None,
        Err(error) => return Err(error),
    };
    let or = |given: Option<String>, name, written: fn(&SharedState) -> &str| match (given, &places) {
        (Some(given), _) => Ok(given),
        (None, Some(places)) => resolved(root, name, written(places)),
        (None, None) => {
            bail!("Tell the worker its {name} with --{name}, or name it under `state.shared` in outflow.yml")
        }
    };
    let queue = or(given.queue, "queue", |places| &places.queue)?;
    let limiter = or(given.limiter, "limiter", |places| &places.limiter)?;
    let prefix = given.prefix.or_else(|| places.as_ref().map(|places| places.prefix.clone()));
    let prefix = prefix.unwrap_or_else(|| "outflow".to_owned());
    let name = process("worker");
    let queue = Arc::new(RabbitQueue::new(&queue, &prefix, &name)?);
    let limiter = Arc::new(RedisLimiter::new(&limiter, &prefix, None)?);
    let vault = Arc::new(FileVault::new(&PathBuf::from(root).join(".outflow/tokens")));
    let accounts = Accounts::new(Keyring { secrets: secrets(root), vault });
    Ok(Worker::new(name, accounts, queue, limiter, Arc::new(SystemClock::default())))
}
