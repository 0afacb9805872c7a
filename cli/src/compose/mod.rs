//! Putting the program together: the project's files, its state, and what works on it.

mod alone;
mod embedded;
mod references;
mod shared;
mod workplace;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use outflow_backends::{DirectoryStore, FileVault, SqliteLedger, SystemClock, private_folder, resolve};
use outflow_coordinator::project::{Project, ResolvedSync, check_secrets, resolve as resolve_sync};
use outflow_coordinator::{Engine, Start};
use outflow_model::port::clock::Clock;
use outflow_model::port::ledger::{Ledger, RunOptions};
use outflow_model::port::limiter::Limiter;
use outflow_model::port::store::Store;
use outflow_model::secret::Reference;
use outflow_worker::{Keyring, Proxies, Secrets};
use tracing::warn;

pub(crate) use alone::alone;
pub(crate) use embedded::{Embedded, embed, lock, try_lock};
pub(crate) use references::{check_account, check_settings, open_source};
pub(crate) use shared::{Messaging, coordinator, dead_letters, worker};

use crate::mistakes::Mistakes;

/// Who only wants to know the time waits no longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads the project.
pub(crate) fn project(root: &Path) -> Result<Project> {
    Project::load(root).map_err(|problems| Mistakes(problems).into())
}

/// The project's state directory, made where it is missing.
pub(crate) fn state_dir(project: &Project) -> Result<PathBuf> {
    let folder = project.root.join(&project.config.state.dir);
    private_folder(&folder)?;
    Ok(folder)
}

/// Opens the ledger.
pub(crate) async fn ledger(project: &Project) -> Result<Arc<dyn Ledger>> {
    Ok(match &project.config.state.shared {
        Some(places) => shared::ledger(project, places).await?,
        None => Arc::new(SqliteLedger::open(&state_dir(project)?.join("ledger.db")).await?),
    })
}

/// The time, in seconds, that everybody who shares the project's ledger goes by; this machine's while the ledger is away. An error
/// where the project may not use its ledger.
pub(crate) async fn now(project: &Project) -> Result<i64> {
    let machine = || SystemClock::default().now() / 1_000_000;
    if project.config.state.shared.is_none() {
        return Ok(machine());
    }
    let asked = async { Ok(ledger(project).await?.clock().await?.now() / 1_000_000) };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Err(error)) if !shared::is_away(&error) => Err(error),
        Ok(Ok(now)) => Ok(now),
        Ok(Err(_)) | Err(_) => {
            warn!("The ledger cannot be asked what time it is; requests are signed by this machine's clock");
            Ok(machine())
        }
    }
}

/// Opens the store.
pub(crate) async fn store(project: &Project) -> Result<Arc<dyn Store>> {
    Ok(match &project.config.state.shared {
        Some(places) => shared::store(project, places, &state_dir(project)?.join("tmp-copies")).await?,
        None => Arc::new(DirectoryStore::open(&state_dir(project)?.join("store"))?),
    })
}

/// What permits requests to destinations.
pub(crate) async fn limiter(project: &Project) -> Result<Arc<dyn Limiter>> {
    Ok(match &project.config.state.shared {
        Some(places) => shared::limiter(project, places)?,
        None => embedded::limiter(&ledger(project).await?).await?,
    })
}

/// The engine without a worker: it plans and looks, and delivers where others work for it.
pub(crate) async fn engine(project: &Project) -> Result<Engine> {
    match &project.config.state.shared {
        Some(places) => shared::engine(project, places).await,
        None => embedded::engine(project).await,
    }
}

/// How references to secrets are resolved beside the file at `root`.
pub(crate) fn secrets(root: &Path) -> Secrets {
    let root = root.to_owned();
    Arc::new(move |reference: Reference<'_>| resolve(reference, &root))
}

/// Where credentials come from in a project.
pub(crate) fn keys(project: &Project) -> Result<Keyring> {
    let folder = project.root.join(&project.config.state.dir).join("tokens");
    let vault = match &project.config.state.shared {
        Some(places) => shared::vault(project, places, &folder)?,
        None => Arc::new(FileVault::new(&folder)),
    };
    Ok(Keyring { secrets: secrets(&project.root), vault, proxies: Proxies::from_env() })
}

/// A sync with its names resolved and its rules checked; connects to nothing and resolves no secret.
pub(crate) fn resolved(project: &Project, name: &str) -> Result<ResolvedSync> {
    Ok(resolve_sync(project, name).map_err(Mistakes)?)
}

/// A sync made ready: its names resolved, its source opened.
pub(crate) fn start(project: &Project, name: &str, options: RunOptions) -> Result<Start> {
    let sync = resolved(project, name)?;
    let literal = check_secrets(project, &sync.account.name);
    if !literal.is_empty() && project.config.state.shared.is_some() {
        // They would go with every message.
        bail!(Mistakes(literal));
    }
    literal.iter().for_each(|problem| warn!("{problem}"));
    let written = project.syncs.get(name).cloned().context("The sync has just been resolved")?;
    let model = project.models.get(&sync.config.model).context("The sync has just been resolved")?;
    let source = open_source(project, &model.config.source)?;
    Ok(Start { sync, written, source, options })
}
