//! The distributed composition: coordinators and workers over services that they share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use outflow_backends::{
    CLAIM_CHECK, FileVault, KeyRing, Place, PostgresLedger, RabbitDeadLetters, RabbitQueue, RedisLimiter, RedisVault,
    SystemClock, checked, open_store, sealed,
};
use outflow_coordinator::project::{Project, SharedState};
use outflow_coordinator::{Coordinator, Engine, Progress, Projects};
use outflow_model::port::clock::Clock;
use outflow_model::port::ledger::Times;
use outflow_model::port::queue::Queue;
use outflow_model::port::store::Store;
use outflow_model::port::vault::Vault;
use outflow_model::port::{PortError, Trouble};
use outflow_model::secret::expand;
use outflow_worker::{Accounts, Keyring, Worker};
use tokio::sync::watch;
use tracing::warn;

use super::{project, secrets, start, workplace};
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
    pub(crate) store: Option<String>,
    pub(crate) keys: Option<String>,
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

/// The keys that messages are sealed with; none where nothing is said.
fn ring(told: Option<&str>) -> Result<Arc<KeyRing>> {
    Ok(Arc::new(match told {
        Some(told) => KeyRing::parse(told).context("The keys that seal messages cannot be used")?,
        None => KeyRing::default(),
    }))
}

fn ring_of(root: &Path, places: &SharedState) -> Result<Arc<KeyRing>> {
    let told = places.keys.as_ref().map(|keys| resolved(root, "keys", keys)).transpose()?;
    ring(told.as_deref())
}

/// What is done to messages on their way: they are sealed, and then go to the store where they are large, so that what lies
/// there is sealed too.
fn layered(queue: RabbitQueue, store: Option<Arc<dyn Store>>, keys: Arc<KeyRing>) -> Arc<dyn Queue> {
    sealed(checked(Arc::new(queue), store, CLAIM_CHECK), keys)
}

/// Where refresh tokens are kept: in Redis for all, where there is a key that seals them; else in this machine's `folder`.
fn vault_at(folder: &Path, limiter: &str, prefix: &str, keys: &Arc<KeyRing>) -> Result<Arc<dyn Vault>> {
    let own = FileVault::new(folder);
    Ok(if keys.is_empty() {
        Arc::new(own)
    } else {
        Arc::new(RedisVault::new(limiter, prefix, keys.clone(), Some(own))?)
    })
}

/// The vault of a process that knows the project, with `folder` for what is kept on this machine.
pub(super) fn vault(root: &Path, places: &SharedState, folder: &Path) -> Result<Arc<dyn Vault>> {
    let limiter = resolved(root, "limiter", &places.limiter)?;
    vault_at(folder, &limiter, &places.prefix, &ring_of(root, places)?)
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

fn broker(root: &Path, places: &SharedState, name: &str) -> Result<RabbitQueue> {
    Ok(RabbitQueue::new(&resolved(root, "queue", &places.queue)?, &places.prefix, name)?)
}

/// The messages that were given up, for people.
pub(crate) fn dead_letters(project: &Project) -> Result<RabbitDeadLetters> {
    let places = project.config.state.shared.as_ref();
    let places =
        places.context("Messages are given up where a queue is shared: there is no `state.shared` in outflow.yml")?;
    Ok(broker(&project.root, places, &process("user"))?.dead_letters())
}

/// The engine of one process, under `name`.
async fn engine_of(project: &Project, places: &SharedState, name: &str) -> Result<(Engine, Arc<PostgresLedger>)> {
    let root = &project.root;
    let folder = workplace::own(project, name)?;
    let store = store(project, places, &folder).await?;
    let ledger = ledger(root, places).await?;
    let queue = broker(root, places, name)?;
    let url = resolved(root, "limiter", &places.limiter)?;
    let limiter = RedisLimiter::new(&url, &places.prefix, Some(ledger.clone()))?;
    let (progress, _) = watch::channel(Progress::default());
    let engine = Engine {
        ledger: ledger.clone(),
        queue: layered(queue, Some(store.clone()), ring_of(root, places)?),
        store,
        limiter: Arc::new(limiter),
        clock: ledger.clock().await?,
        folder,
        silence: SILENCE,
        pauses_refused: true,
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
    let dead_letters = Arc::new(broker(root, places, &name)?.dead_letters());
    let root = root.to_owned();
    let read: Projects = Arc::new(move || project(&root).map_err(|error| error.to_string()));
    let project = read.clone();
    let starts = move |sync: &str, options| start(&read()?, sync, options).map_err(|error| format!("{error:#}"));
    Ok(Coordinator { name, engine, dead_letters, leases, project, starts: Arc::new(starts), lease: LEASE })
}

/// Where a worker finds messages that are too large for the broker.
fn large_messages(url: &str, root: &Path) -> Result<Arc<dyn Store>> {
    let place = Place::parse(url).map_err(anyhow::Error::msg)?;
    Ok(open_store(&place, &root.join(".outflow/tmp-copies"))?)
}

/// A worker; it needs no ledger, and no project where it is told its queue and its limiter. What it is not told
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
    let store = match (&given.store, &places) {
        (Some(url), _) => Some(large_messages(url, root).context("--store")?),
        // It can do without: messages that are there go to workers that have it.
        (None, Some(places)) => resolved(root, "store", &places.store)
            .and_then(|url| large_messages(&url, root))
            .inspect_err(|error| warn!(error = format!("{error:#}"), "The worker goes without the store"))
            .ok(),
        (None, None) => None,
    };
    let keys = match (&given.keys, &places) {
        (Some(keys), _) => ring(Some(keys))?,
        (None, Some(places)) => ring_of(root, places)?,
        (None, None) => ring(None)?,
    };
    let prefix = given.prefix.or_else(|| places.as_ref().map(|places| places.prefix.clone()));
    let prefix = prefix.unwrap_or_else(|| "outflow".to_owned());
    let name = process("worker");
    let queue = RabbitQueue::new(&queue, &prefix, &name)?;
    let vault = vault_at(&root.join(".outflow/tokens"), &limiter, &prefix, &keys)?;
    let limiter = RedisLimiter::new(&limiter, &prefix, None)?;
    let clock = limiter.clock();
    let accounts = Accounts::new(Keyring { secrets: secrets(root), vault });
    let queue = layered(queue, store, keys);
    Ok(Worker::new(name, accounts, queue, Arc::new(limiter), clock))
}
