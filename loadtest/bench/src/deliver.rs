//! Delivery alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use outflow_backends::{FileVault, MemoryLimiter, MemoryQueue, SqliteLedger, SystemClock};
use outflow_destinations::{Batch, Step, catalog};
use outflow_model::cell::{Cell, Kind};
use outflow_model::change::Operation;
use outflow_model::column::Column;
use outflow_model::id::{AttemptId, Lane, RunId};
use outflow_model::limit::Limits;
use outflow_model::outcome::Status;
use outflow_model::port::limiter::Limiter;
use outflow_model::port::queue::{Outgoing, Queue, Take};
use outflow_model::table::{Field, NullPolicy, Table};
use outflow_model::wire::{AccountV1, ChunkV1, ReportV1, VERSION, pack};
use outflow_worker::{Accounts, Keyring, Proxies, Worker, serve};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::measure::{Cost, figures, ratio, so_far};
use crate::simulator::Simulator;

const PORT: u16 = 18_096;
const AT_ONCE: usize = 8;
const CHUNK: u32 = 2_000;
/// A run's gate stays open for so long.
const GATE: i64 = 3_600_000_000;

/// Measures a worker, also with sensitive fields, and a bare client, interleaved.
pub(crate) async fn run(rows: u32, outflow: &Path, times: usize) -> Result<Value> {
    _ = rustls::crypto::ring::default_provider().install_default();
    let outflow = outflow.canonicalize().with_context(|| format!("{} is not built", outflow.display()))?;
    let _simulator = Simulator::start(&outflow, PORT, &[])?;
    let tables: Vec<Table> =
        (0..rows).step_by(CHUNK as usize).map(|from| table(from, CHUNK.min(rows - from), false)).collect();
    let sensitive: Vec<Table> =
        (0..rows).step_by(CHUNK as usize).map(|from| table(from, CHUNK.min(rows - from), true)).collect();
    let (mut bare, mut ours, mut discreet) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..times as u32 {
        bare.push(post(bodies(&tables)?).await?);
        ours.push(deliver(&tables, 2 * number).await?);
        discreet.push(deliver(&sensitive, 2 * number + 1).await?);
    }
    let rows = u64::from(rows);
    let (bare, ours, discreet) = (figures(rows, &bare), figures(rows, &ours), figures(rows, &discreet));
    Ok(json!({
        "bench": "deliver", "records": rows, "at_once": AT_ONCE,
        "seconds_ratio": ratio(&ours, &bare, "seconds"), "cpu_ratio": ratio(&ours, &bare, "cpu_seconds"),
        "sensitive_cpu_ratio": ratio(&discreet, &ours, "cpu_seconds"),
        "deliver": ours, "deliver_sensitive": discreet, "bare_client": bare,
    }))
}

/// Customers as the plan holds them, with fields of which no answer may make anything known or without.
fn table(from: u32, rows: u32, sensitive: bool) -> Table {
    let text = |make: &dyn Fn(u32) -> String| {
        let mut column = Column::with_capacity(Kind::Text, rows as usize);
        (from..from + rows).for_each(|n| column.push(Cell::Text(&make(n))));
        column
    };
    let mut ids = Column::with_capacity(Kind::Int, rows as usize);
    (from..from + rows).for_each(|n| ids.push(Cell::Int(i64::from(n))));
    let field = |path: &str, column| Field { path: path.to_owned(), null: NullPolicy::Send, sensitive, column };
    let fields = vec![
        field("email", text(&|n| format!("user{n}@example{}.com", n % 97))),
        field("user_id", ids),
        field("firstname", text(&|n| format!("First{}", n % 5_000))),
        field("lastname", text(&|n| format!("Last{}", n % 7_919))),
        field("ltv", text(&|n| format!("{}.{:02}", n % 71_428, n % 100))),
        field("churn_risk", text(&|n| format!("0.{:03}", n % 1_000))),
        field("updated", text(&|n| format!("2026-01-01T00:{:02}:{:02}Z", n / 60 % 60, n % 60))),
    ];
    Table { rows, fields, identity: 1, record_ids: None }
}

/// The very bodies that the worker sends.
fn bodies(tables: &[Table]) -> Result<Vec<(String, Bytes)>> {
    let manifest = catalog::manifest("hubspot").context("it is built in")?.map_err(anyhow::Error::msg)?;
    let settings = BTreeMap::from([("prefix".to_owned(), "/crm/v3/objects".to_owned())]);
    let destination = catalog::open(manifest).map_err(anyhow::Error::msg)?;
    let mut bodies = Vec::new();
    for table in tables {
        let rows: Vec<u32> = (0..table.rows).collect();
        for rows in rows.chunks(100) {
            let batch = Batch {
                operation: Operation::Upsert,
                object: "contacts",
                table,
                rows,
                settings: &settings,
                token: "",
                wants_ids: false,
                bulk: false,
            };
            match destination.start(&batch) {
                Ok(Step::Send { request, .. }) => bodies.push((request.path, request.body)),
                other => anyhow::bail!("{other:?}"),
            }
        }
    }
    Ok(bodies)
}

/// Posts bodies over as many connections, and reads the answers.
async fn post(bodies: Vec<(String, Bytes)>) -> Result<Cost> {
    let (began, (before, _)) = (Instant::now(), so_far()?);
    let bodies = Arc::new(bodies);
    let tasks: Vec<_> = (0..AT_ONCE).map(|first| tokio::spawn(post_share(bodies.clone(), first))).collect();
    for task in tasks {
        task.await??;
    }
    let (after, peak_rss_mb) = so_far()?;
    Ok(Cost { seconds: began.elapsed().as_secs_f64(), cpu_seconds: after - before, peak_rss_mb })
}

async fn post_share(bodies: Arc<Vec<(String, Bytes)>>, first: usize) -> Result<()> {
    let stream = TcpStream::connect(("127.0.0.1", PORT)).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    for (path, body) in bodies.iter().skip(first).step_by(AT_ONCE) {
        let request = Request::post(path).header("host", "127.0.0.1").header("content-type", "application/json");
        let answer = sender.send_request(request.body(Full::new(body.clone()))?).await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        answer.into_body().collect().await?;
    }
    Ok(())
}

/// Delivers the same records as chunks of a run.
async fn deliver(tables: &[Table], number: u32) -> Result<Cost> {
    let folder = tempfile::tempdir()?;
    let run = RunId::new(1, number);
    let clock = Arc::new(SystemClock::default());
    let ledger = Arc::new(SqliteLedger::open(&folder.path().join("ledger.db")).await?);
    let limiter: Arc<dyn Limiter> = Arc::new(MemoryLimiter::new(clock.clone(), ledger));
    let queue: Arc<dyn Queue> = Arc::new(MemoryQueue::default());
    limiter.open_gate("crm", &run, AT_ONCE as u32, GATE).await?;
    let attempts: Vec<_> = (0..tables.len()).map(|chunk| attempt(&run, chunk as u32)).collect();
    limiter.grant("crm", &attempts).await?;
    let lane = Lane("crm".to_owned());
    let messages: Vec<Bytes> = tables
        .iter()
        .enumerate()
        .map(|(at, table)| Ok(chunk(&run, at as u32, table)?.encode()?.into()))
        .collect::<Result<_>>()?;
    let secrets = Arc::new(|_: outflow_model::secret::Reference<'_>| Ok("t".to_owned()));
    let vault = Arc::new(FileVault::new(folder.path()));
    let accounts = Accounts::new(Keyring { secrets, vault, proxies: Proxies::default() });
    let worker = Arc::new(Worker::new("bench".to_owned(), accounts, queue.clone(), limiter, clock));
    let (began, (before, _)) = (Instant::now(), so_far()?);
    let serving = tokio::spawn(serve(worker, lane.clone(), AT_ONCE as u32));
    for message in messages {
        queue.publish(&lane, false, Outgoing::new("bench", message)).await?;
    }
    for _ in tables {
        let message = queue.reports().next(Take::Any).await?;
        let report = ReportV1::decode(&message.body)?;
        ensure!(report.statuses.iter().all(|status| *status == Status::Succeeded as u8), "{:?}", report.next);
        message.ack().await?;
    }
    let (after, peak_rss_mb) = so_far()?;
    serving.abort();
    Ok(Cost { seconds: began.elapsed().as_secs_f64(), cpu_seconds: after - before, peak_rss_mb })
}

fn attempt(run: &RunId, chunk: u32) -> AttemptId {
    AttemptId { run: run.clone(), chunk, attempt: 1 }
}

fn chunk(run: &RunId, number: u32, table: &Table) -> Result<ChunkV1> {
    Ok(ChunkV1 {
        version: VERSION,
        id: attempt(run, number),
        sync: "bench".to_owned(),
        weight: 1,
        urgent: false,
        account: AccountV1 {
            name: "crm".to_owned(),
            kind: "hubspot".to_owned(),
            manifest: None,
            base_url: Some(format!("http://127.0.0.1:{PORT}")),
            settings: BTreeMap::from([("token".to_owned(), "t".to_owned())]),
            allow_private_addresses: true,
            allow_plain_http: false,
            proxy: None,
            ca: None,
            timeout_ms: 60_000,
            limits: Limits::default(),
        },
        object: "contacts".to_owned(),
        operation: Operation::Upsert,
        repeatable: true,
        wants_ids: false,
        bulk: false,
        rows: table.rows,
        only: None,
        tries: 0,
        waited: 0,
        max_wait: 900_000_000,
        parked: None,
        traceparent: None,
        payload: pack(table)?,
    })
}
