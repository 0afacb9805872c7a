//! Syncs beside each other: an urgent one beside a backfill of the same account, a fast destination beside one that stalls.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use outflow_simulators::{HubSpot, Options, Running, start_afar};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::cluster::{self, Process, Services};
use crate::measure::round;
use crate::table::{COLUMNS, seed};

const WORKERS: usize = 2;
/// Times alone, and as many beside another.
const PAIRS: u32 = 7;

/// A destination of a project, and a sync to it.
#[derive(Clone, Copy)]
struct Sync<'a> {
    name: &'a str,
    portal: &'a Running,
    destination: &'a str,
    rows: u64,
    more: &'a str,
}

async fn portal(limit: Option<usize>, latency: Duration) -> Result<(Arc<HubSpot>, Running)> {
    let limit = limit.map(|limit| (limit, Duration::from_secs(10)));
    let portal = Arc::new(HubSpot::new(Options { limit, latency, keep: false, ..Options::default() }));
    Ok((portal.clone(), start_afar(portal, 0, Duration::ZERO).await?))
}

async fn write_project(folder: &Path, services: &Services, syncs: &[Sync<'_>], limits: &str) -> Result<()> {
    for name in ["models", "syncs"] {
        std::fs::create_dir_all(folder.join(name))?;
    }
    std::fs::write(folder.join("token"), "t")?;
    let state = cluster::state(services, folder).await?.text;
    let mut destinations = std::collections::BTreeMap::new();
    for Sync { name, portal, destination, rows, more } in syncs {
        let text = format!(
            "  {destination}:\n    type: hubspot\n    base_url: {}\n    allow_private_addresses: true\n    settings: {{ token: \"${{file:token}}\" }}\n    \
             timeout_seconds: 30\n    {limits}\n",
            portal.url()
        );
        destinations.insert(*destination, text);
        let model =
            format!("---\nsource: pg\nkey: email\n---\nSELECT {COLUMNS} FROM outflow_bench WHERE id <= {rows}\n");
        std::fs::write(folder.join(format!("models/{name}.sql")), model)?;
        let sync = format!(
            "model: {name}\ndestination: {destination}\nobject: contacts\nmode: upsert\n{more}mapping:\n  email: email\n  user_id: id\n"
        );
        std::fs::write(folder.join(format!("syncs/{name}.yml")), sync)?;
    }
    let destinations: String = destinations.into_values().collect();
    let text = format!(
        "version: 1\nsources:\n  pg: {{ type: postgres, url: '{}' }}\ndestinations:\n{destinations}{state}",
        services.postgres
    );
    Ok(std::fs::write(folder.join("outflow.yml"), text)?)
}

/// A coordinator and workers of a project; they end with the answer.
async fn processes(outflow: &Path, project: &Path) -> Result<Vec<Process>> {
    let mut all = vec![cluster::coordinator(outflow, project)?];
    for _ in 0..WORKERS {
        all.push(cluster::worker(outflow, project)?);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok(all)
}

async fn run(outflow: &Path, project: &Path, sync: &'static str) -> Result<f64> {
    let (outflow, project) = (outflow.to_owned(), project.to_owned());
    Ok(tokio::task::spawn_blocking(move || cluster::run(&outflow, &project, sync)).await??.1)
}

fn detach(outflow: &Path, project: &Path, sync: &str) -> Result<()> {
    let mut command = std::process::Command::new(outflow);
    let output = command.arg("-C").arg(project).args(["run", "--detach", sync]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

async fn until(what: &str, is_so: impl Fn() -> bool) -> Result<()> {
    let began = Instant::now();
    while !is_so() {
        ensure!(began.elapsed() < Duration::from_mins(1), "{what} does not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// 500 urgent rows on an account whose limit a backfill of 100,000 uses up.
pub(crate) async fn urgent(services: &Services, outflow: &Path) -> Result<Value> {
    let outflow = outflow.canonicalize().with_context(|| format!("{} is not built", outflow.display()))?;
    seed(&mut PgConnection::connect(&services.postgres).await?, 100_000).await?;
    let (portal, running) = portal(Some(190), Duration::from_millis(50)).await?;
    let backfill = Sync { name: "backfill", portal: &running, destination: "crm", rows: 100_000, more: "" };
    let urgent = Sync { name: "hurry", rows: 500, more: "urgent: true\n", ..backfill };
    let project = tempfile::tempdir()?;
    write_project(project.path(), services, &[backfill, urgent], "concurrency: 8").await?;
    let _processes = processes(&outflow, project.path()).await?;
    detach(&outflow, project.path(), "backfill")?;
    // Beyond the first window: the account is busy.
    until("the backfill", || portal.requests().0 > 250).await?;
    let seconds = run(&outflow, project.path(), "hurry").await?;
    let needs = 5.0 / 19.0;
    Ok(json!({
        "bench": "urgent", "backfill_rows": 100_000, "urgent_rows": 500, "seconds": seconds, "its_own_allowance_needs": round(needs),
        "beyond": round(seconds - needs), "refused": portal.requests().1,
    }))
}

/// 200 chunks to a fast destination, alone and behind 200 to one that takes 5 s per request.
pub(crate) async fn isolation(services: &Services, outflow: &Path) -> Result<Value> {
    let outflow = outflow.canonicalize().with_context(|| format!("{} is not built", outflow.display()))?;
    seed(&mut PgConnection::connect(&services.postgres).await?, 20_000).await?;
    let (stalls, slow) = portal(None, Duration::from_secs(5)).await?;
    let (_, fast) = portal(None, Duration::from_millis(20)).await?;
    let delivery = "delivery: { chunk_rows: 100 }\n";
    let syncs = || {
        let stalling = Sync { name: "stalling", portal: &slow, destination: "stalls", rows: 20_000, more: delivery };
        [Sync { name: "quick", portal: &fast, destination: "fast", ..stalling }, stalling]
    };
    // Whoever follows a run looks every 100 ms, so one time tells little: means of several, taken in turns.
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for turn in 0..2 * PAIRS {
        let is_beside = turn % 2 == 1;
        let project = tempfile::tempdir()?;
        write_project(project.path(), services, &syncs(), "limits: {}").await?;
        let _processes = processes(&outflow, project.path()).await?;
        if is_beside {
            let before = stalls.requests().0;
            detach(&outflow, project.path(), "stalling")?;
            until("the one that stalls", || stalls.requests().0 > before).await?;
        }
        // What looks for work begins with its process: each pair asks at another moment between two looks.
        tokio::time::sleep(Duration::from_millis(21) * (turn / 2)).await;
        let seconds = run(&outflow, project.path(), "quick").await?;
        if is_beside { &mut beside } else { &mut alone }.push(seconds);
    }
    let mean = |all: &[f64]| round(all.iter().sum::<f64>() / all.len() as f64);
    Ok(json!({
        "bench": "isolation", "chunks": 200, "alone_seconds": mean(&alone), "beside_one_that_stalls_seconds": mean(&beside),
        "ratio": round(mean(&beside) / mean(&alone)), "each_alone": alone, "each_beside": beside,
    }))
}
