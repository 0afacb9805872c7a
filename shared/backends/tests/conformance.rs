//! Every case of every port, on every backend.

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use outflow_backends::{FileVault, MemoryLimiter, MemoryQueue, ObjectStore, SqliteLedger, SystemClock};
use outflow_model::port::ledger::Ledger;
use outflow_model::port::limiter::Limiter;
use outflow_model::port::queue::Queue;
use outflow_model::port::store::Store;
use outflow_model::port::vault::Vault;
use outflow_testkit::{Case, LEDGER, LIMITER, QUEUE, STORE, VAULT};
use tempfile::TempDir;

async fn sqlite(folder: &TempDir) -> anyhow::Result<Arc<SqliteLedger>> {
    Ok(Arc::new(SqliteLedger::open(&folder.path().join("ledger.db")).await?))
}

async fn ledger(folder: &TempDir) -> anyhow::Result<Arc<dyn Ledger>> {
    Ok(sqlite(folder).await?)
}

async fn limiter(folder: &TempDir) -> anyhow::Result<Arc<dyn Limiter>> {
    Ok(Arc::new(MemoryLimiter::new(Arc::new(SystemClock::default()), sqlite(folder).await?)))
}

async fn queue(_folder: &TempDir) -> anyhow::Result<Arc<dyn Queue>> {
    Ok(Arc::new(MemoryQueue::default()))
}

async fn store(folder: &TempDir) -> anyhow::Result<Arc<dyn Store>> {
    Ok(Arc::new(ObjectStore::local(folder.path())?))
}

async fn vault(folder: &TempDir) -> anyhow::Result<Arc<dyn Vault>> {
    Ok(Arc::new(FileVault::new(&folder.path().join("tokens"))))
}

/// The cases of one port on one backend, each with a fresh one.
fn trials<P: ?Sized + Send + Sync + 'static>(
    backend: &str,
    cases: &'static [Case<P>],
    open: impl AsyncFn(&TempDir) -> anyhow::Result<Arc<P>> + Copy + Send + 'static,
) -> Vec<Trial> {
    let trial = |(name, case): &'static Case<P>| {
        Trial::test(format!("{backend}::{name}"), move || {
            let work = async {
                let folder = tempfile::tempdir()?;
                case(open(&folder).await?).await
            };
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime
                .map_err(anyhow::Error::from)
                .and_then(|runtime| runtime.block_on(work))
                .map_err(|e| Failed::from(format!("{e:?}")))
        })
    };
    cases.iter().map(trial).collect()
}

fn main() -> ExitCode {
    let trials = [
        trials("ledger::sqlite", LEDGER, ledger),
        trials("limiter::memory", LIMITER, limiter),
        trials("queue::memory", QUEUE, queue),
        trials("store::local", STORE, store),
        trials("vault::file", VAULT, vault),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect()).exit_code()
}
