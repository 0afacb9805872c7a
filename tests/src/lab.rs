//! A project in a folder of its own, with a simulator as its destination.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use outflow_backends::{Place, SystemClock, open_store, resolve};
use outflow_coordinator::project::{Project, resolve as resolve_sync};
use outflow_coordinator::{Engine, EngineError, Finished, Progress, Signal, Start};
use outflow_model::id::Lane;
use outflow_model::port::ledger::{Ledger, RunOptions};
use outflow_model::port::limiter::Limiter;
use outflow_model::port::queue::Queue;
use outflow_model::secret::Reference;
use outflow_simulators::{HubSpot, Options, Running, Simulator, start};
use outflow_worker::{Accounts, Keyring, Proxies, Worker, serve};
use tokio::sync::watch;

use crate::fate::{Fate, FatedLedger};
use crate::house::House;

/// Shorter than in earnest: deaths are many here.
const SILENCE: Duration = Duration::from_secs(3);
const LEASE: i64 = 2_000_000;

/// A project, its simulator, and what survives a crash of the engine.
pub struct Lab<S = HubSpot> {
    folder: tempfile::TempDir,
    house: House,
    store: OnceLock<String>,
    /// The destination, which knows what really arrived.
    pub portal: Arc<S>,
    running: Running,
}

/// The engine and its worker: one life of the process.
pub struct Engines {
    /// The engine.
    pub engine: Arc<Engine>,
    /// Interrupts it.
    pub signal: watch::Sender<Signal>,
    signals: watch::Receiver<Signal>,
    worker: tokio::task::JoinHandle<()>,
}

impl Drop for Engines {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

impl Lab {
    /// A lab whose portal behaves as `options` say.
    pub async fn new(options: Options) -> Result<Self> {
        Self::with(HubSpot::new(options)).await
    }

    /// Writes a project that reads `people.csv` (columns email, name, and others) and mirrors it into contacts.
    pub fn people(&self, extra: &str, mapping: &str) -> Result<()> {
        self.write(
            "outflow.yml",
            "version: 1\nsources:\n  files: { type: files, path: data }\ndestinations:\n  crm:\n    type: hubspot\n    \
             base_url: PORTAL\n    allow_private_addresses: true\n    timeout_seconds: 1\n    settings: { token: t }\n    \
             limits: {}\n",
        )?;
        self.write("models/people.yml", "source: files\nkey: email\nfiles: people.csv\n")?;
        self.write(
            "syncs/people.yml",
            &format!("model: people\ndestination: crm\nobject: contacts\n{extra}\nmapping:\n  email: email\n{mapping}"),
        )
    }

    /// Names and values of a contact's property, as the portal has them.
    pub fn contacts(&self, property: &str) -> Vec<(String, String)> {
        let records = self.portal.records("contacts", "email");
        records
            .into_iter()
            .map(|(email, record)| (email, record.properties.get(property).cloned().unwrap_or_default()))
            .collect()
    }

    /// The public requests of Salesforce beside the project, where they are there.
    pub fn salesforce_specs() -> Option<PathBuf> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/specs/salesforce");
        path.exists().then_some(path)
    }

    /// The sample data beside the project, where it is there.
    pub fn chinook() -> Option<PathBuf> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/chinook/chinook_postgres.sql");
        path.exists().then_some(path)
    }
}

impl<S: Simulator> Lab<S> {
    /// A lab with a destination.
    pub async fn with(destination: S) -> Result<Self> {
        let portal = Arc::new(destination);
        let running = start(portal.clone(), 0).await?;
        let folder = tempfile::tempdir()?;
        let house = House::open(folder.path()).await?;
        Ok(Self { folder, house, store: OnceLock::new(), portal, running })
    }

    /// Waits until nobody is connected to the destination any more: what a life that ended has sent has been answered.
    pub async fn quiet(&self) {
        self.running.quiet().await;
    }

    /// The project's folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of the project.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        Ok(std::fs::write(path, text.replace("PORTAL", &self.running.url()))?)
    }

    /// Writes the model's rows.
    pub fn rows(&self, rows: &[(&str, &str)]) -> Result<()> {
        let mut text = String::from("email,name\n");
        for (email, name) in rows {
            writeln!(text, "{email},{name}")?;
        }
        self.write("data/people.csv", &text)
    }

    /// A sync made ready.
    pub fn start(&self, name: &str, options: RunOptions) -> Result<Start> {
        let problems = |problems: Vec<outflow_coordinator::project::Problem>| {
            anyhow!(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        };
        let project = Project::load(self.path()).map_err(problems)?;
        let sync = resolve_sync(&project, name).map_err(problems)?;
        let written = project.syncs.get(name).cloned().context("the sync was resolved")?;
        let source = outflow_sources::open(&sync.source_name, &sync.source, self.path());
        Ok(Start { sync, written, source, options })
    }

    /// The ledger.
    pub async fn ledger(&self) -> Result<Arc<dyn Ledger>> {
        self.house.ledger().await
    }

    /// Takes all that the ledger knows, as if it were a new one.
    pub async fn lose_ledger(&self) -> Result<()> {
        self.house.lose_ledger().await
    }

    /// Where the project's credentials come from, in a process of its own.
    pub fn keys(&self) -> Result<Keyring> {
        let root: PathBuf = self.path().to_owned();
        let vault = self.house.vault()?;
        let secrets = Arc::new(move |reference: Reference<'_>| resolve(reference, &root));
        Ok(Keyring { secrets, vault, proxies: Proxies::default() })
    }

    /// The limiter, in a process of its own.
    pub async fn limiter(&self) -> Result<Arc<dyn Limiter>> {
        self.house.limiter(self.ledger().await?)
    }

    /// Whether its processes are many.
    pub const fn is_distributed(&self) -> bool {
        self.house.is_distributed()
    }

    /// Credentials as so many processes have them; on one machine there is one process.
    pub fn many_keys(&self, processes: usize) -> Result<Vec<Keyring>> {
        if self.house.is_distributed() {
            return (0..processes).map(|_| self.keys()).collect();
        }
        Ok(vec![self.keys()?; processes])
    }

    /// Has the lives to come keep plans and snapshots at a URL, in place of a directory of the lab's own.
    pub fn keep_in(&self, url: String) -> Result<()> {
        self.store.set(url).map_err(|_| anyhow!("the lab keeps them elsewhere already"))
    }

    /// Begins a life of the process; under a fate, where there is one.
    pub async fn engines(&self, start: &Start, fate: Option<Arc<Fate>>) -> Result<Engines> {
        self.engines_over(start, fate, self.house.queue(&worker_name())?).await
    }

    /// The queue, in a process of its own; on one machine it is empty.
    pub fn queue(&self) -> Result<Arc<dyn Queue>> {
        self.house.queue(&worker_name())
    }

    /// Begins a life of the process over a queue.
    pub async fn engines_over(&self, start: &Start, fate: Option<Arc<Fate>>, queue: Arc<dyn Queue>) -> Result<Engines> {
        let state = self.path().join(".outflow");
        let clock = Arc::new(SystemClock::default());
        let inner: Arc<dyn Ledger> = self.ledger().await?;
        let ledger: Arc<dyn Ledger> = match fate {
            Some(fate) => Arc::new(FatedLedger { inner, fate }),
            None => inner,
        };
        let limiter = self.house.limiter(self.ledger().await?)?;
        let accounts = Accounts::new(self.keys()?);
        let worker = Arc::new(
            Worker::new(worker_name(), accounts, queue.clone(), limiter.clone(), clock.clone()).with_lease(LEASE),
        );
        let lane = Lane(start.sync.account.name.clone());
        let worker = tokio::spawn(serve(worker, lane, start.sync.concurrency));
        let (progress, _) = watch::channel(Progress::default());
        let folder = state.join("tmp");
        let store = self.store.get_or_init(|| format!("file://{}", state.join("store").display()));
        let store = open_store(&Place::parse(store).map_err(anyhow::Error::msg)?, &folder)?;
        std::fs::create_dir_all(&folder)?;
        let engine = Arc::new(Engine {
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
        });
        let (signal, signals) = watch::channel(Signal::Run);
        Ok(Engines { engine, signal, signals, worker })
    }

    /// Runs a sync in a life of its own.
    pub async fn run(&self, name: &str) -> Result<Finished> {
        self.run_with(name, RunOptions::default()).await
    }

    /// Runs a sync with options.
    pub async fn run_with(&self, name: &str, options: RunOptions) -> Result<Finished> {
        let start = self.start(name, options)?;
        let engines = self.engines(&start, None).await?;
        Ok(engines.execute(&start).await?)
    }

    /// The newest run of a sync.
    pub async fn newest(&self, name: &str) -> Result<outflow_model::port::ledger::Run> {
        self.ledger().await?.runs(Some(name), 1).await?.pop().context("there is no run")
    }
}

/// Each life of a process has a name of its own.
fn worker_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("worker-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Engines {
    /// Executes a sync.
    pub async fn execute(&self, start: &Start) -> Result<Finished, EngineError> {
        self.engine.execute(start, self.signals.clone()).await
    }
}
