//! The distributed composition: coordinators and workers over services that they share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use outflow_backends::{
    Allowed, Codec, FileVault, KeyRing, Place, PostgresLedger, RabbitDeadLetters, RabbitQueue, RedisLimiter,
    RedisVault, SystemClock, USUAL, is_own, open_store, resolve,
};
use outflow_coordinator::project::{Project, SharedState};
use outflow_coordinator::{Coordinator, Engine, Progress, Projects};
use outflow_model::port::clock::Clock;
use outflow_model::port::ledger::Times;
use outflow_model::port::limiter::Limiter;
use outflow_model::port::store::Store;
use outflow_model::port::vault::Vault;
use outflow_model::port::{PortError, Trouble};
use outflow_model::secret::{Reference, expand, references};
use outflow_worker::{Accounts, Keyring, Proxies, Secrets, Worker};
use tokio::sync::watch;
use tracing::warn;

use super::{project, secrets, start, workplace};
use crate::mistakes::{Mistakes, usage};

/// A chunk that was published and is neither in a queue nor in a worker's hands is published again after so long.
const SILENCE: Duration = Duration::from_secs(15);

/// A coordinator that is silent for so long has lost what it executes.
const LEASE: Duration = Duration::from_secs(12);

/// A ledger that is away is asked again after so long.
const AWAY: Duration = Duration::from_secs(1);

/// Plans are few, so a listing of them is a cheap question.
const PLANS: &str = "plans";

/// What a worker is told of what it shares with coordinators.
pub(crate) struct Messaging {
    pub(crate) queue: Option<String>,
    pub(crate) limiter: Option<String>,
    pub(crate) store: Option<String>,
    pub(crate) keys: Option<String>,
    pub(crate) unencrypted: bool,
    pub(crate) secrets: Option<String>,
    pub(crate) prefix: Option<String>,
}

/// The name of this life of a process that works as `role`.
pub(super) fn process(role: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{role}-{}-{}-{:x}", host.trim(), std::process::id(), SystemClock::default().entropy() as u32)
}

/// A setting with its references to secrets resolved.
fn resolved(project: &Project, name: &str, value: &str) -> Result<String> {
    let resolver = secrets(&project.root);
    expand(value, |reference| resolver(reference)).map_err(|reason| mistaken(project, name, reason))
}

/// A mistake in what `state.shared` says at `name`.
fn mistaken(project: &Project, name: &str, reason: String) -> anyhow::Error {
    Mistakes(vec![project.problem(&format!("state.shared.{name}"), reason)]).into()
}

/// Makes an error of a service a mistake of the project at `name`, where only another setting helps.
fn as_mistake(project: &Project, name: &str, error: PortError) -> anyhow::Error {
    match error.trouble {
        Trouble::Refused => mistaken(project, name, format!("{:#}.", anyhow::Error::new(error))),
        _ => error.into(),
    }
}

/// The places that a project shares; where it shares none, `why` they are needed.
fn shared<'p>(project: &'p Project, why: &str) -> Result<&'p SharedState> {
    let shared = project.config.state.shared.as_ref();
    shared.ok_or_else(|| Mistakes(vec![project.problem("state.shared", why)]).into())
}

/// How keys are made and where they go.
const HOW: &str = "Make one with `openssl rand -base64 32`, and give every coordinator and worker OUTFLOW_KEYS=ID:KEY";

fn ring(keys: &str) -> Result<Arc<KeyRing>> {
    let ring = KeyRing::parse(keys);
    Ok(Arc::new(ring.map_err(|error| usage(&format!("The keys that encrypt messages cannot be used: {error}")))?))
}

/// The keys of a project's messages: those that it names, else those of the environment. Without any it must say so.
fn ring_of(project: &Project, places: &SharedState) -> Result<Arc<KeyRing>> {
    let mistake =
        |field: &str, reason: String| Mistakes(vec![project.problem(&format!("state.shared{field}"), reason)]);
    let own = resolve(Reference::Env("OUTFLOW_KEYS"), &project.root).ok();
    match (&places.keys, own) {
        (None, None) if places.unencrypted => Ok(Arc::default()),
        (None, None) => {
            let reason = format!("Messages are encrypted, and there are no keys. {HOW}; or say `unencrypted: true`.");
            bail!(mistake("", reason))
        }
        (keys, own) if places.unencrypted => {
            let named = if keys.is_some() || own.is_none() { "`keys`" } else { "OUTFLOW_KEYS" };
            bail!(mistake(
                ".unencrypted",
                format!("It says to work without keys, and {named} has some: keep one of the two.")
            ))
        }
        (Some(keys), _) => ring(&resolved(project, "keys", keys)?),
        (None, Some(own)) => ring(&own).context("OUTFLOW_KEYS"),
    }
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
pub(super) fn vault(project: &Project, places: &SharedState, folder: &Path) -> Result<Arc<dyn Vault>> {
    let limiter = resolved(project, "limiter", &places.limiter)?;
    vault_at(folder, &limiter, &places.prefix, &ring_of(project, places)?)
}

pub(super) async fn ledger(project: &Project, places: &SharedState) -> Result<Arc<PostgresLedger>> {
    let opened = PostgresLedger::open(&resolved(project, "ledger", &places.ledger)?).await;
    let ledger = opened.map_err(|error| as_mistake(project, "ledger", error))?;
    let owned = ledger.belong_to(places.project.as_deref()).await;
    owned.map_err(|error| as_mistake(project, if places.project.is_some() { "project" } else { "ledger" }, error))?;
    Ok(Arc::new(ledger))
}

/// The shared store. What is wrong with its place, its credentials or its permissions is told as a mistake in the project, before
/// anything is done; one that is away is waited for where it is needed.
pub(super) async fn store(project: &Project, places: &SharedState, copies: &Path) -> Result<Arc<dyn Store>> {
    let url = resolved(project, "store", &places.store)?;
    let place = Place::parse(&url).map_err(|reason| mistaken(project, "store", reason))?;
    let told = |error: PortError| match error.trouble {
        Trouble::Refused => mistaken(project, "store", format!("{error}.")),
        _ => error.into(),
    };
    let store = open_store(&place, copies).map_err(told)?;
    match store.list(PLANS).await {
        Err(error) if error.trouble == Trouble::Unavailable => warn!(%error, "The store cannot be reached yet"),
        listed => drop(listed.map_err(told)?),
    }
    Ok(store)
}

/// What permits requests to destinations.
pub(super) fn limiter(project: &Project, places: &SharedState) -> Result<Arc<dyn Limiter>> {
    Ok(Arc::new(redis(project, places, None)?))
}

fn redis(project: &Project, places: &SharedState, ledger: Option<Arc<PostgresLedger>>) -> Result<RedisLimiter> {
    let url = resolved(project, "limiter", &places.limiter)?;
    let limiter = match ledger {
        Some(ledger) => RedisLimiter::new(&url, &places.prefix, Some(ledger)),
        None => RedisLimiter::new(&url, &places.prefix, None),
    };
    limiter.map_err(|error| as_mistake(project, "limiter", error))
}

fn broker(project: &Project, places: &SharedState, name: &str) -> Result<RabbitQueue> {
    let queue = RabbitQueue::new(&resolved(project, "queue", &places.queue)?, &places.prefix, name);
    queue.map_err(|error| as_mistake(project, "queue", error))
}

/// The messages that were given up, for people.
pub(crate) fn dead_letters(project: &Project) -> Result<RabbitDeadLetters> {
    let places = shared(project, "There are no shared services. Messages are given up only where a queue is shared.")?;
    Ok(broker(project, places, &process("user"))?.dead_letters())
}

/// The engine of one process, under `name`, with `folder` for its temporary files.
async fn engine_of(
    project: &Project,
    places: &SharedState,
    name: &str,
    folder: PathBuf,
) -> Result<(Engine, Arc<PostgresLedger>)> {
    let keys = ring_of(project, places)?;
    let store = store(project, places, &folder).await?;
    // A mistake is shown before anything that is away is waited for.
    let queue = broker(project, places, name)?;
    redis(project, places, None)?;
    let ledger = ledger(project, places).await?;
    let limiter = redis(project, places, Some(ledger.clone()))?;
    let (progress, _) = watch::channel(Progress::default());
    let engine = Engine {
        ledger: ledger.clone(),
        queue: Codec::new(keys, Some(store.clone())).over(Arc::new(queue)),
        store,
        limiter: Arc::new(limiter),
        clock: ledger.clock().await?,
        folder,
        silence: SILENCE,
        pauses_refused: true,
        news: Arc::default(),
        plannings: Arc::default(),
        progress,
    };
    Ok((engine, ledger))
}

pub(super) async fn engine(project: &Project, places: &SharedState) -> Result<Engine> {
    let name = process("user");
    Ok(engine_of(project, places, &name, workplace::own(project, &name)?).await?.0)
}

/// Whether a service is away, read-only or recovering, which may pass.
pub(super) fn is_away(error: &anyhow::Error) -> bool {
    error.downcast_ref::<PortError>().is_some_and(|error| error.trouble == Trouble::Unavailable)
}

/// A coordinator of the project in `root`, which it reads again for each run. It waits for a ledger that is away; `waits` says why.
pub(crate) async fn coordinator(root: &Path, waits: &watch::Sender<String>) -> Result<Coordinator> {
    let read = project(root)?;
    let places = shared(
        &read,
        "A coordinator shares its state: name ledger, queue, limiter and store here. On one machine `outflow run` needs none of them.",
    )?;
    if places.project.is_none() {
        warn!("outflow.yml: {}", SharedState::UNNAMED);
    }
    let name = process("coordinator");
    // Once: it is locked until the process ends.
    let folder = workplace::own(&read, &name)?;
    let (engine, leases) = loop {
        match engine_of(&read, places, &name, folder.clone()).await {
            Err(error) if is_away(&error) => {
                let cause = format!("{error:#}");
                warn!(error = cause, "The ledger cannot be used yet; the coordinator waits for it");
                waits.send_replace(format!("ledger: {cause}"));
                tokio::time::sleep(AWAY).await;
            }
            made => break made?,
        }
    };
    let dead_letters = Arc::new(broker(&read, places, &name)?.dead_letters());
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

/// The keys of a worker; it goes without only where it, or its project, is told so.
fn keys_of(given: &Messaging, project: Option<&Project>) -> Result<Arc<KeyRing>> {
    let places = project.and_then(|project| Some((project, project.config.state.shared.as_ref()?)));
    match (&given.keys, places) {
        (Some(_), _) if given.unencrypted => {
            bail!(usage("The worker is told to work without keys, and has some: keep one of the two"))
        }
        (Some(keys), _) => ring(keys),
        (None, _) if given.unencrypted => Ok(Arc::default()),
        (None, Some((project, places))) => ring_of(project, places),
        (None, None) => bail!(usage(&format!(
            "A worker takes encrypted messages alone, and has no keys. {HOW}; or start it with `--unencrypted`"
        ))),
    }
}

/// What the worker may resolve for messages: what it is told, else what its project's destinations name.
fn may_read(root: &Path, told: Option<&str>, has_project: bool) -> Result<Secrets> {
    let (resolver, own) = (secrets(root), root.to_owned());
    let allowed = Allowed::parse(told.unwrap_or(USUAL)).map_err(|reason| usage(&format!("--secrets: {reason}")))?;
    let by_project = told.is_none() && has_project;
    Ok(Arc::new(move |reference: Reference<'_>| {
        let allowed = if by_project { is_named(&own, &reference) } else { allowed.allows(&reference) };
        if allowed {
            return resolver(reference);
        }
        let (kind, name) = match reference {
            Reference::Env(name) => ("env", name),
            Reference::File(path) => ("file", path),
        };
        Err(format!(
            "This worker may not read {kind}:{name}; if it should, allow it with `--secrets` or OUTFLOW_SECRETS."
        ))
    }))
}

/// Whether a destination of the project, as it is now, names the reference.
fn is_named(root: &Path, reference: &Reference<'_>) -> bool {
    if matches!(reference, Reference::Env(name) if is_own(name)) {
        return false;
    }
    let Ok(read) = project(root) else { return false };
    read.config
        .destinations
        .values()
        .any(|destination| destination.texts().any(|text| references(text).any(|known| known == *reference)))
}

/// A worker; it needs no ledger, and no project where it is told its queue and its limiter. What it is not told
/// is taken from the project in `root`.
pub(crate) fn worker(root: &Path, given: Messaging) -> Result<Worker> {
    let is_told = given.queue.is_some() && given.limiter.is_some();
    let read = match project(root) {
        Ok(read) => Some(read),
        Err(_) if is_told => None,
        Err(error) => return Err(error),
    };
    let keys = keys_of(&given, read.as_ref())?;
    let secrets = may_read(root, given.secrets.as_deref(), read.is_some())?;
    let places = read.as_ref().and_then(|read| read.config.state.shared.clone());
    let or = |given: Option<String>, name, written: fn(&SharedState) -> &str| match (given, &read, &places) {
        (Some(given), ..) => Ok(given),
        (None, Some(read), Some(places)) => resolved(read, name, written(places)),
        (None, ..) => bail!(usage(&format!(
            "Tell the worker its {name} with --{name}, or name it under `state.shared` in outflow.yml"
        ))),
    };
    let has_own = [given.queue.is_some(), given.limiter.is_some()];
    let placed = |name, has_own: bool, error: PortError| match &read {
        Some(read) if !has_own => as_mistake(read, name, error),
        _ => error.into(),
    };
    let queue = or(given.queue, "queue", |places| &places.queue)?;
    let limiter = or(given.limiter, "limiter", |places| &places.limiter)?;
    let store = match (&given.store, &read, &places) {
        (Some(url), ..) => Some(large_messages(url, root).context("--store")?),
        // It can do without: messages that are there go to workers that have it.
        (None, Some(read), Some(places)) => resolved(read, "store", &places.store)
            .and_then(|url| large_messages(&url, root))
            .inspect_err(|error| warn!(error = format!("{error:#}"), "The worker goes without the store"))
            .ok(),
        (None, ..) => None,
    };
    let prefix = given.prefix.or_else(|| places.as_ref().map(|places| places.prefix.clone()));
    let prefix = prefix.unwrap_or_else(|| "outflow".to_owned());
    let name = process("worker");
    let queue = RabbitQueue::new(&queue, &prefix, &name).map_err(|error| placed("queue", has_own[0], error))?;
    let redis = RedisLimiter::new(&limiter, &prefix, None).map_err(|error| placed("limiter", has_own[1], error))?;
    let vault = vault_at(&root.join(".outflow/tokens"), &limiter, &prefix, &keys)?;
    let limiter = redis;
    let clock = limiter.clock();
    let accounts = Accounts::new(Keyring { secrets, vault, proxies: Proxies::from_env() });
    let queue = Codec::new(keys, store).over(Arc::new(queue));
    Ok(Worker::new(name, accounts, queue, Arc::new(limiter), clock))
}
