//! Coordinator and workers against the same program embedded; and how workers add up.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::cluster::{self, Services};
use crate::measure::round;
use crate::simulator::Simulator;
use crate::sync::write_project;
use crate::table::seed;

const PORT: u16 = 18_098;

/// The first run of a sync: embedded, then by a coordinator and two workers, in turns.
pub(crate) async fn throughput(rows: u64, services: &Services, outflow: &Path, times: usize) -> Result<Value> {
    let mut connection = PgConnection::connect(&services.postgres).await?;
    seed(&mut connection, rows).await?;
    let outflow = outflow.canonicalize().with_context(|| format!("{} is not built", outflow.display()))?;
    let _simulator = Simulator::start(&outflow, PORT, &[])?;
    let (mut embedded, mut distributed, mut cpu) = (Vec::new(), Vec::new(), Value::Null);
    for _ in 0..times {
        let alone = tempfile::tempdir()?;
        write_project(alone.path(), &services.postgres, PORT, "limits: {}", "")?;
        embedded.push(first(&outflow, alone.path(), rows)?);
        let shared = tempfile::tempdir()?;
        let state = cluster::state(services, shared.path()).await?;
        write_project(shared.path(), &services.postgres, PORT, "limits: {}", &state.text)?;
        let coordinator = cluster::coordinator(&outflow, shared.path())?;
        let workers = vec![cluster::worker(&outflow, shared.path())?, cluster::worker(&outflow, shared.path())?];
        // Connected, and idle: what follows is the run alone.
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        distributed.push(first(&outflow, shared.path(), rows)?);
        cpu = cluster::cpu(&coordinator, &workers);
    }
    let (embedded, distributed) = (median(embedded), median(distributed));
    Ok(json!({
        "bench": "throughput", "rows": rows, "runs": times, "embedded_seconds": embedded, "distributed_seconds": distributed,
        "distributed_to_embedded_rate": round(embedded / distributed), "cpu_seconds": cpu,
        "rows_per_second": (rows as f64 / distributed) as u64,
    }))
}

/// Requests that take 200 ms each, by one worker and by more.
pub(crate) async fn scale(rows: u64, services: &Services, outflow: &Path, most: usize) -> Result<Value> {
    let mut connection = PgConnection::connect(&services.postgres).await?;
    seed(&mut connection, rows).await?;
    let outflow = outflow.canonicalize().with_context(|| format!("{} is not built", outflow.display()))?;
    let _simulator = Simulator::start(&outflow, PORT, &["--latency-ms", "200"])?;
    let (mut figures, mut one) = (Vec::new(), 0.0);
    let mut count = 1;
    while count <= most {
        let project = tempfile::tempdir()?;
        let state = cluster::state(services, project.path()).await?;
        write_project(project.path(), &services.postgres, PORT, "limits: {}\n    concurrency: 4", &state.text)?;
        let sync = project.path().join("syncs/users.yml");
        // Chunks for every worker, several times over.
        std::fs::write(&sync, std::fs::read_to_string(&sync)? + "delivery: { chunk_rows: 200 }\n")?;
        let _coordinator = cluster::coordinator(&outflow, project.path())?;
        let _workers = (0..count).map(|_| cluster::worker(&outflow, project.path())).collect::<Result<Vec<_>>>()?;
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let (run, _) = cluster::run(&outflow, project.path(), "users")?;
        let time = |name: &str| run.get(name).and_then(Value::as_f64).unwrap_or_default() / 1e6;
        let seconds = round(time("ended") - time("planned"));
        if count == 1 {
            one = seconds;
        }
        figures.push(json!({ "workers": count, "seconds": seconds, "of_linear": round(one / seconds / count as f64) }));
        count *= 2;
    }
    Ok(json!({ "bench": "scale", "rows": rows, "concurrency": 4, "latency_ms": 200, "figures": figures }))
}

fn first(outflow: &Path, project: &Path, rows: u64) -> Result<f64> {
    let (run, seconds) = cluster::run(outflow, project, "users")?;
    let succeeded = run.pointer("/tally/add/succeeded").and_then(Value::as_u64);
    ensure!(succeeded == Some(rows), "{run}");
    Ok(seconds)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
