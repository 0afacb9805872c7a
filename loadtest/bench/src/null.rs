//! What the engine itself can do: from a written plan to settled chunks, with a destination that takes no time.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use outflow_backends::PostgresLedger;
use outflow_model::id::RunId;
use outflow_model::outcome::Status;
use outflow_model::port::ledger::{Run, RunPatch, Runs};
use outflow_model::run::RunState;
use outflow_model::wire::{ChunkV1, Next, ReportV1};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::bare_queue::{drain, round_trip};
use crate::cluster::{self, Process, Services};
use crate::measure::round;
use crate::procfs::{family_cpu, listener};
use crate::table::{COLUMNS, seed};

/// Messages whose bodies the bare client sends in turns.
const SAMPLE: usize = 64;
/// The ledger is asked how far the run is this often.
const LOOK: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_mins(15);

/// How much, by how many, how often.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Size {
    /// Rows of the table.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) rows: u64,
    /// Rows per chunk.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) chunk_rows: u64,
    /// Workers.
    #[arg(long, default_value_t = 2)]
    pub(crate) workers: usize,
    /// Repetitions, of which the median is printed.
    #[arg(long, default_value_t = 3)]
    pub(crate) times: usize,
}

/// Coordinator and workers, and a bare client that moves the same bytes, in turns.
pub(crate) async fn run(size: Size, services: &Services, outflow: &Path) -> Result<Value> {
    let outflow = outflow.canonicalize().with_context(|| format!("{} is not built", outflow.display()))?;
    seed(&mut PgConnection::connect(&services.postgres).await?, size.rows).await?;
    let chunks = size.rows.div_ceil(size.chunk_rows);
    let bodies = sample(size, services, &outflow).await?;
    let report = report_of(bodies.first().context("a chunk was published")?)?;
    let bytes = bodies.iter().map(Bytes::len).sum::<usize>() / bodies.len();
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for number in 0..size.times {
        let name = format!("bench{}_{number}", std::process::id());
        bare.push(round_trip(&services.rabbitmq, &name, &bodies, chunks as usize, &report, size.workers).await?);
        ours.push(once(size, services, &outflow).await?);
    }
    bare.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
    ours.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (bare, (settled, ours)) =
        bare.get(bare.len() / 2).zip(ours.get(ours.len() / 2)).context("at least one repetition")?;
    Ok(json!({
        "bench": "null", "rows": size.rows, "chunks": chunks, "chunk_rows": size.chunk_rows, "workers": size.workers,
        "runs": size.times, "bytes_per_chunk": bytes, "bytes_per_report": report.len(),
        "chunks_per_second": round(chunks as f64 / settled), "rows_per_second": (size.rows as f64 / settled) as u64,
        "of_bare": round(bare.seconds / settled),
        "median": ours,
        "bare_lapin": {
            "seconds": round(bare.seconds), "chunks_per_second": round(chunks as f64 / bare.seconds),
            "client_cpu_seconds": round(bare.cpu_seconds),
        },
    }))
}

/// A project of its own; `more` are settings of its sync.
async fn project(services: &Services, size: Size, more: &str) -> Result<(tempfile::TempDir, cluster::Shared)> {
    let folder = tempfile::tempdir()?;
    for name in ["models", "syncs"] {
        std::fs::create_dir_all(folder.path().join(name))?;
    }
    let shared = cluster::state(services, folder.path()).await?;
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text);
    write(
        "outflow.yml",
        format!(
            "version: 1\nsources:\n  pg: {{ type: postgres, url: '{}' }}\ndestinations:\n  nowhere: {{ type: blackhole }}\n{}",
            services.postgres, shared.text
        ),
    )?;
    write("models/users.sql", format!("---\nsource: pg\nkey: email\n---\nSELECT {COLUMNS} FROM outflow_bench\n"))?;
    write(
        "syncs/users.yml",
        format!(
            "model: users\ndestination: nowhere\nobject: users\nidentity: [email]\nmode: upsert\n{more}delivery: {{ chunk_rows: {} }}\n\
             mapping:\n  email: email\n  user_id: id\n  firstname: first_name\n  lastname: last_name\n  ltv: ltv\n  \
             churn_risk: churn_risk\n  updated: updated_at\n",
            size.chunk_rows
        ),
    )?;
    Ok((folder, shared))
}

/// The very messages that a coordinator publishes; no worker takes them.
async fn sample(size: Size, services: &Services, outflow: &Path) -> Result<Vec<Bytes>> {
    let (folder, shared) = project(services, size, "").await?;
    let _coordinator = cluster::coordinator(outflow, folder.path())?;
    request(outflow, folder.path(), &["run", "--detach", "users"], 0)?;
    let most = SAMPLE.min(size.rows.div_ceil(size.chunk_rows) as usize);
    drain(&services.rabbitmq, &format!("{}.work.nowhere.normal", shared.prefix), most).await
}

/// What a worker says of such a message.
fn report_of(body: &Bytes) -> Result<Bytes> {
    let chunk = ChunkV1::decode(body)?;
    let mut report = ReportV1::empty(chunk.id, chunk.rows, Next::Done);
    report.statuses.fill(Status::Succeeded as u8);
    Ok(report.encode()?.into())
}

/// Has the command line do something; what it says.
fn request(outflow: &Path, project: &Path, words: &[&str], code: i32) -> Result<Value> {
    let mut command = std::process::Command::new(outflow);
    let output = command.args(["--output", "json", "-C"]).arg(project).args(words).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(code), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_str(&text)?)
}

/// One run: its plan is written and held, everybody is connected and idle, and the clock runs from its approval. Seconds
/// until the last chunk was settled, and all figures.
async fn once(size: Size, services: &Services, outflow: &Path) -> Result<(f64, Value)> {
    let (folder, shared) = project(services, size, "guard: { max_first_run_rows: 0 }\n").await?;
    let coordinator = cluster::coordinator(outflow, folder.path())?;
    let workers: Vec<Process> =
        (0..size.workers).map(|_| cluster::worker(outflow, folder.path())).collect::<Result<_>>()?;
    let held = request(outflow, folder.path(), &["run", "users"], 4)?;
    let id = held.pointer("/0/id").and_then(Value::as_str).and_then(RunId::parse).context("a run's id")?;
    let ledger = PostgresLedger::open(&shared.ledger).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let processes = Processes::find(services, &coordinator, &workers)?;
    let (before, began) = (processes.cpu(), Instant::now());
    ledger.patch(&id, RunState::Held, RunPatch { approved: true, ..RunPatch::default() }).await?;
    let settled = until(&ledger, &id, |run| run.state == RunState::Folding || run.state.is_end(), began).await?.1;
    let after = processes.cpu();
    let (run, closed) = until(&ledger, &id, |run| run.state.is_end(), began).await?;
    ensure!(run.state == RunState::Succeeded && run.tally.add.succeeded == size.rows, "{run:?}");
    ensure!(run.requests == 0, "{} requests were sent", run.requests);
    let cpu: serde_json::Map<String, Value> = processes
        .0
        .iter()
        .zip(before.iter().zip(&after))
        .map(|((name, _), (b, a))| (name.clone(), json!(round(a - b))))
        .collect();
    Ok((settled, json!({ "seconds": round(settled), "closed_after_seconds": round(closed), "cpu_seconds": cpu })))
}

/// Waits until a run is so far; how long after `began` that was.
async fn until(
    ledger: &PostgresLedger,
    id: &RunId,
    is_there: impl Fn(&Run) -> bool,
    began: Instant,
) -> Result<(Run, f64)> {
    loop {
        let run = ledger.run(id).await?.context("the run is in the ledger")?;
        if is_there(&run) {
            return Ok((run, began.elapsed().as_secs_f64()));
        }
        ensure!(began.elapsed() < PATIENCE, "The run is stuck: {run:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Who takes part, by name; services only where they are on this machine.
struct Processes(Vec<(String, u32)>);

impl Processes {
    fn find(services: &Services, coordinator: &Process, workers: &[Process]) -> Result<Self> {
        let mut all = vec![("coordinator".to_owned(), coordinator.pid())];
        all.extend(workers.iter().enumerate().map(|(at, worker)| (format!("worker_{}", at + 1), worker.pid())));
        for (name, url) in
            [("rabbitmq", &services.rabbitmq), ("postgres", &services.postgres), ("redis", &services.redis)]
        {
            let port = outflow_tests::port_of(url)?;
            all.extend(listener(port).map(|pid| (name.to_owned(), pid)));
        }
        Ok(Self(all))
    }

    fn cpu(&self) -> Vec<f64> {
        self.0.iter().map(|(_, pid)| family_cpu(*pid)).collect()
    }
}
