//! A coordinator and workers in processes of their own, over services that run already.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::measure::round;
use crate::procfs;

/// The services, by their URLs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Services {
    /// PostgreSQL, as a user that may make databases.
    #[arg(long, env = "OUTFLOW_TEST_POSTGRES_URL")]
    pub(crate) postgres: String,
    /// RabbitMQ.
    #[arg(long, env = "OUTFLOW_TEST_RABBITMQ_URL")]
    pub(crate) rabbitmq: String,
    /// Redis.
    #[arg(long, env = "OUTFLOW_TEST_REDIS_URL")]
    pub(crate) redis: String,
}

/// Ends with its owner.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

impl Process {
    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// CPU seconds so far.
    pub(crate) fn cpu(&self) -> f64 {
        procfs::cpu(self.pid())
    }

    /// Asks it to end; how long that took.
    pub(crate) fn terminate(mut self) -> Result<Duration> {
        let began = Instant::now();
        Command::new("kill").arg(self.0.id().to_string()).status()?;
        while self.0.try_wait()?.is_none() {
            ensure!(began.elapsed() < Duration::from_secs(30), "A worker does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(began.elapsed())
    }
}

/// What the processes of a project share.
pub(crate) struct Shared {
    /// The `state` of its `outflow.yml`.
    pub(crate) text: String,
    /// The ledger's URL.
    pub(crate) ledger: String,
    /// What its queues and keys begin with.
    pub(crate) prefix: String,
}

/// The shared state of a project whose ledger is a new database.
pub(crate) async fn state(services: &Services, project: &Path) -> Result<Shared> {
    // The project's folder has a name of its own.
    let folder = project.file_name().unwrap_or_default().to_string_lossy().replace(['.', '-'], "_");
    let name = format!("bench{}{folder}", std::process::id()).to_lowercase();
    let mut connection = PgConnection::connect(&services.postgres).await?;
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await?;
    let (server, _) = services.postgres.rsplit_once('/').context("a database in the URL")?;
    let ledger = format!("{server}/{name}");
    let text = format!(
        "state:\n  shared:\n    ledger: {ledger}\n    queue: {}\n    limiter: {}\n    store: file://{}\n    prefix: {name}\n    unencrypted: true\n",
        services.rabbitmq,
        services.redis,
        project.join("store").display(),
    );
    Ok(Shared { text, ledger, prefix: name })
}

fn start(outflow: &Path, project: &Path, role: &str) -> Result<Process> {
    let mut command = Command::new(outflow);
    // The prefix is the project's.
    command.arg("-C").arg(project).arg(role).env_remove("OUTFLOW_PREFIX").stdin(Stdio::null());
    let log = std::fs::OpenOptions::new().create(true).append(true).open(project.join(format!("{role}.log")))?;
    Ok(Process(command.stdout(log.try_clone()?).stderr(log).spawn()?))
}

/// Starts a coordinator of a project.
pub(crate) fn coordinator(outflow: &Path, project: &Path) -> Result<Process> {
    start(outflow, project, "coordinator")
}

/// Starts a worker.
pub(crate) fn worker(outflow: &Path, project: &Path) -> Result<Process> {
    start(outflow, project, "worker")
}

/// Runs a sync to its end; its figures, and how long that took.
pub(crate) fn run(outflow: &Path, project: &Path, sync: &str) -> Result<(Value, f64)> {
    let began = Instant::now();
    let mut command = Command::new(outflow);
    let output = command.args(["--output", "json", "-C"]).arg(project).args(["run", sync]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let runs: Value = serde_json::from_str(&text)?;
    Ok((runs.get(0).cloned().unwrap_or_default(), round(began.elapsed().as_secs_f64())))
}

/// CPU seconds of each process.
pub(crate) fn cpu(coordinator: &Process, workers: &[Process]) -> Value {
    json!({
        "coordinator": round(coordinator.cpu()),
        "workers": workers.iter().map(|worker| round(worker.cpu())).collect::<Vec<_>>(),
    })
}
