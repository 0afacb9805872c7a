//! Coordinators and workers as processes of their own, over real services, each link through a proxy.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use outflow_backends::PostgresLedger;
use outflow_model::id::RunId;
use outflow_model::port::ledger::Run;
use outflow_model::run::RunState;
use outflow_simulators::{Running, Simulator, start};
use outflow_testkit::services::{Postgres, RabbitMq, Redis, S3, Service};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use crate::client::Client;
use crate::process::{Process, program};
use crate::proxy::{Proxy, Weather};
use crate::secured::Secured;

/// Numbers the clusters of this process.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Every link of a cluster.
pub struct Links {
    /// From coordinators to the ledger.
    pub ledger: Proxy,
    /// From coordinators to the queue.
    pub coordinator_queue: Proxy,
    /// From coordinators to the limiter.
    pub coordinator_limiter: Proxy,
    /// From workers to the queue.
    pub worker_queue: Proxy,
    /// From workers to the limiter.
    pub worker_limiter: Proxy,
    /// From workers to the destination.
    pub destination: Proxy,
    /// From coordinators and workers to the store, where it is a bucket.
    pub store: Option<Proxy>,
}

/// How a cluster's project is.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rows to send; those of a file.
    pub rows: usize,
    /// A table of the ledger's database that is read in place of the file.
    pub table: Option<&'static str>,
    /// The sync's settings beside its mapping, indented by nothing.
    pub sync: String,
    /// The destination's settings, indented by four.
    pub destination: String,
}

/// Coordinators, workers and what they work on.
pub struct Cluster<S> {
    folder: tempfile::TempDir,
    /// The destination, which knows what really arrived.
    pub portal: Arc<S>,
    _running: Running,
    /// The services.
    pub postgres: Arc<Postgres>,
    /// The queue.
    pub rabbitmq: Arc<RabbitMq>,
    /// The limiter.
    pub redis: Arc<Redis>,
    /// The links.
    pub links: Links,
    /// What the cluster's queues and keys begin with.
    pub prefix: String,
    /// The ledger, without a proxy.
    pub ledger: Arc<PostgresLedger>,
    /// Where the ledger is, without a proxy.
    pub database: String,
    /// Coordinators that run.
    pub coordinators: Vec<Process>,
    /// Workers that run.
    pub workers: Vec<Process>,
    /// The program, where it is not the one that was built beside the tests.
    pub program: Option<PathBuf>,
    /// After so many seconds of silence a worker's claims lapse.
    pub lease: u32,
    /// How much the logs of processes tell that are started from now on.
    pub log_level: &'static str,
    /// What the environment of processes that are started from now on has beside this one's.
    pub environment: Vec<(&'static str, String)>,
    secured: Option<Secured>,
    encrypted: bool,
    started: u32,
}

/// The keys of clusters that encrypt their messages.
const KEYS: &str = "test:dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=";

/// The port in a service's URL.
pub fn port_of(url: &str) -> Result<u16> {
    let after = url.rsplit_once('@').map_or(url, |(_, after)| after).trim_start_matches("redis://");
    let port = after.split(['/', '?']).next().and_then(|host| host.rsplit_once(':')).context("a port")?.1;
    Ok(port.parse()?)
}

impl<S: Simulator> Cluster<S> {
    /// A cluster without any process yet.
    pub async fn new(portal: S, plan: &Plan) -> Result<Self> {
        let portal = Arc::new(portal);
        let running = start(portal.clone(), 0).await?;
        let (postgres, rabbitmq, redis) = (Postgres::shared()?, RabbitMq::shared()?, Redis::shared()?);
        let prefix = format!("cluster_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&postgres.url).await?;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {prefix}"))).execute(&mut connection).await?;
        let options: PgConnectOptions = postgres.url.parse()?;
        let database = options.database(&prefix).to_url_lossy().to_string();
        let links = Links {
            ledger: Proxy::to(port_of(&database)?).await?,
            coordinator_queue: Proxy::to(port_of(&rabbitmq.url)?).await?,
            coordinator_limiter: Proxy::to(port_of(&redis.url)?).await?,
            worker_queue: Proxy::to(port_of(&rabbitmq.url)?).await?,
            worker_limiter: Proxy::to(port_of(&redis.url)?).await?,
            destination: Proxy::to(running.address.port()).await?,
            store: None,
        };
        let ledger = Arc::new(PostgresLedger::open(&database).await?);
        let cluster = Self {
            folder: tempfile::tempdir()?,
            portal,
            _running: running,
            postgres,
            rabbitmq,
            redis,
            links,
            prefix,
            ledger,
            database,
            coordinators: Vec::new(),
            workers: Vec::new(),
            program: None,
            lease: 3,
            log_level: "info",
            environment: Vec::new(),
            secured: None,
            encrypted: false,
            started: 0,
        };
        cluster.write(plan)?;
        Ok(cluster)
    }

    /// The project's folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A service's URL over a link.
    fn through(&self, url: &str, link: &Proxy) -> Result<String> {
        let url = url.replacen(&format!(":{}", port_of(url)?), &format!(":{}", link.port), 1);
        self.secured.as_ref().map_or(Ok(url.clone()), |secured| secured.url(&url))
    }

    /// From now on processes reach every service over TLS; the project is to be written again.
    pub async fn secure(&mut self) -> Result<()> {
        let Links { ledger, coordinator_queue, coordinator_limiter, worker_queue, worker_limiter, .. } = &self.links;
        let links = [ledger, coordinator_queue, coordinator_limiter, worker_queue, worker_limiter];
        let secured = Secured::new(self.path(), &links.map(|link| link.port)).await?;
        self.environment.push(("SSL_CERT_FILE", secured.authority.display().to_string()));
        self.secured = Some(secured);
        Ok(())
    }

    /// From now on processes keep plans, snapshots and large messages in a bucket; the project is to be written again.
    pub async fn keep_in_a_bucket(&mut self) -> Result<()> {
        self.links.store = Some(Proxy::to(S3::shared()?.port).await?);
        Ok(())
    }

    /// From now on processes encrypt their messages; the project is to be written again.
    pub const fn encrypt(&mut self) {
        self.encrypted = true;
    }

    /// The store's URL, over its link where it has one.
    fn store(&self) -> Result<String> {
        match &self.links.store {
            Some(link) => Ok(S3::shared()?.url(&self.prefix, link.port)),
            None => Ok(format!("file://{}", self.path().join("store").display())),
        }
    }

    /// Writes the project.
    pub fn write(&self, plan: &Plan) -> Result<()> {
        for folder in ["models", "syncs", "data"] {
            std::fs::create_dir_all(self.path().join(folder))?;
        }
        let text = format!(
            "version: 1\nsources:\n  files: {{ type: files, path: data }}\n  tables: {{ type: postgres, url: '{}' }}\ndestinations:\n  crm:\n    base_url: \
             http://127.0.0.1:{}\n    allow_private_addresses: true\n{}state:\n  shared:\n    ledger: {}\n    queue: {}\n    \
             limiter: {}\n    store: {}\n    prefix: {}\n{}",
            self.database,
            self.links.destination.port,
            plan.destination,
            self.through(&self.database, &self.links.ledger)?,
            self.through(&self.rabbitmq.url, &self.links.coordinator_queue)?,
            self.through(&self.redis.url, &self.links.coordinator_limiter)?,
            self.store()?,
            self.prefix,
            // Tests that read and write messages themselves can do so; those with keys say so.
            if self.encrypted { format!("    keys: \"{KEYS}\"\n") } else { "    unencrypted: true\n".to_owned() },
        );
        std::fs::write(self.path().join("outflow.yml"), text)?;
        let (name, model) = match plan.table {
            Some(table) => ("sql", format!("---\nsource: tables\nkey: email\n---\nSELECT email, name FROM {table}\n")),
            None => ("yml", "source: files\nkey: email\nfiles: people.csv\n".to_owned()),
        };
        std::fs::write(self.path().join("models/people").with_extension(name), model)?;
        std::fs::write(
            self.path().join("syncs/people.yml"),
            format!("model: people\ndestination: crm\n{}", plan.sync),
        )?;
        // The secrets of destinations, for `${file:token}` and `${file:secret}`.
        std::fs::write(self.path().join("token"), "t\n")?;
        std::fs::write(self.path().join("secret"), "s\n")?;
        let lines: Vec<_> = (0..plan.rows).map(|n| format!("p{n}@x.io,Person {n}")).collect();
        Ok(std::fs::write(self.path().join("data/people.csv"), format!("email,name\n{}\n", lines.join("\n")))?)
    }

    fn program(&self) -> Result<PathBuf> {
        self.program.clone().map_or_else(program, Ok)
    }

    /// The program, about to be started in the project.
    fn in_the_project(&self) -> Result<Command> {
        let mut command = Command::new(self.program()?);
        command.arg("-C").arg(self.path()).envs(self.environment.iter().map(|(name, value)| (*name, value)));
        Ok(command)
    }

    fn process(&mut self, words: &[&str], settings: &[(&str, String)]) -> Result<Process> {
        self.started += 1;
        let log = self.path().join(format!("{}-{}.log", words[0], self.started));
        let mut command = self.in_the_project()?;
        command.args(["--log", self.log_level]).args(words);
        command.envs(settings.iter().map(|(name, value)| (*name, value)));
        Process::start(&mut command, log)
    }

    /// Has the command line do something, to its end.
    pub fn command(&self, words: &[&str]) -> Result<Output> {
        Ok(self.in_the_project()?.args(words).output()?)
    }

    /// Has the command line begin something; what it says goes to its pipes.
    pub fn begin(&self, words: &[&str]) -> Result<Child> {
        Ok(self.in_the_project()?.args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    /// As [`Self::command`], where a person watches: what a terminal shows meanwhile.
    pub fn terminal(&self, words: &str) -> Result<String> {
        let line = format!("{} -C {} {words}", self.program()?.display(), self.path().display());
        let output = Command::new("script").args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts a coordinator.
    pub fn start_coordinator(&mut self) -> Result<()> {
        let process = self.process(&["coordinator", "--lease", "3", "--silence", "3"], &[])?;
        self.coordinators.push(process);
        Ok(())
    }

    /// Starts a worker.
    pub fn start_worker(&mut self) -> Result<()> {
        let settings = [
            ("OUTFLOW_QUEUE", self.through(&self.rabbitmq.url, &self.links.worker_queue)?),
            ("OUTFLOW_LIMITER", self.through(&self.redis.url, &self.links.worker_limiter)?),
        ];
        let process = self.process(&["worker", "--lease", &self.lease.to_string(), "--grace", "10"], &settings)?;
        self.workers.push(process);
        Ok(())
    }

    /// Ends every worker at once, and starts as many.
    pub fn replace_workers(&mut self) -> Result<()> {
        let count = self.workers.len();
        self.workers.clear();
        (0..count).try_for_each(|_| self.start_worker())
    }

    /// Ends every coordinator at once, and starts as many.
    pub fn replace_coordinators(&mut self) -> Result<()> {
        let count = self.coordinators.len();
        self.coordinators.clear();
        (0..count).try_for_each(|_| self.start_coordinator())
    }

    /// Whoever wants runs of it.
    pub fn client(&self) -> Client {
        Client { ledger: self.ledger.clone() }
    }

    /// Asks for a run.
    pub async fn request(&self) -> Result<RunId> {
        self.client().request().await
    }

    /// Waits until a run is as it should be.
    pub async fn until(&self, run: &RunId, is_there: impl Fn(&Run) -> bool) -> Result<Run> {
        self.client().until(run, is_there).await
    }

    /// Waits until a run has ended.
    pub async fn ended(&self, run: &RunId) -> Result<Run> {
        self.client().ended(run).await
    }

    /// Waits until so many requests of a run under delivery are accounted for.
    pub async fn under_way(&self, run: &RunId, requests: u64) -> Result<()> {
        let run = self.until(run, |run| run.state.is_end() || run.requests >= requests).await?;
        ensure!(!run.state.is_end(), "the run ended before anything could befall it");
        Ok(())
    }

    /// Waits until a run is in a state.
    pub async fn reached(&self, run: &RunId, state: RunState) -> Result<()> {
        let run = self.until(run, |run| run.state == state || run.state.is_end()).await?;
        ensure!(run.state == state, "the run was never seen {}", state.name());
        Ok(())
    }

    /// What one link does to what goes over it, for a while.
    pub async fn for_a_while(&self, link: &Proxy, weather: Weather, time: Duration) {
        link.set(weather);
        tokio::time::sleep(time).await;
        link.set(Weather::default());
    }

    /// The ends of all logs, for whoever looks into a failure.
    pub fn logs(&self) -> String {
        let logs = std::fs::read_dir(self.path()).into_iter().flatten().flatten().map(|entry| entry.path());
        let logs = logs.filter(|path| path.extension().is_some_and(|ending| ending == "log"));
        let tail = |path: std::path::PathBuf| {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(40);
            format!("== {}\n{}\n", path.display(), lines.get(from..).unwrap_or_default().join("\n"))
        };
        logs.map(tail).collect()
    }
}
