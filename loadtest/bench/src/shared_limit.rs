//! One account's limit, shared by workers: a strict sliding window in the simulator says how much of it is used.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use outflow_simulators::{HubSpot, Options, start_afar};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::cluster::{self, Services};
use crate::measure::round;
use crate::sync::write_project;
use crate::table::seed;

/// Requests in any stretch of so long.
const LIMIT: usize = 190;
const WINDOW: Duration = Duration::from_secs(10);
const JITTER: Duration = Duration::from_millis(40);

/// What is done to the workers meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Treatment {
    /// Nothing.
    Calm,
    /// One of four is killed half-way.
    Kill,
    /// One after the other is asked to end, and another takes its place.
    Roll,
}

/// Four workers under one limit for so many seconds.
pub(crate) async fn run(
    seconds: u64,
    reserve: u64,
    treatment: Treatment,
    services: &Services,
    outflow: &Path,
) -> Result<Value> {
    let outflow = outflow.canonicalize().with_context(|| format!("{} is not built", outflow.display()))?;
    let allowed = LIMIT as u64 * (100 - reserve) / 100;
    let rows = allowed * 100 * seconds / WINDOW.as_secs();
    let mut connection = PgConnection::connect(&services.postgres).await?;
    seed(&mut connection, rows).await?;
    let options = Options { limit: Some((LIMIT, WINDOW)), latency: Duration::from_millis(50), ..Options::default() };
    let portal = std::sync::Arc::new(HubSpot::new(options));
    let running = start_afar(portal.clone(), 0, JITTER).await?;
    let project = tempfile::tempdir()?;
    let state = cluster::state(services, project.path()).await?;
    let reserved =
        if reserve > 0 { format!("reserve: {reserve}%\n    concurrency: 4") } else { "concurrency: 4".to_owned() };
    write_project(project.path(), &services.postgres, running.address.port(), &reserved, &state.text)?;
    let _coordinator = cluster::coordinator(&outflow, project.path())?;
    let mut workers = (0..4).map(|_| cluster::worker(&outflow, project.path())).collect::<Result<Vec<_>>>()?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (program, folder) = (outflow.clone(), project.path().to_owned());
    let work = tokio::task::spawn_blocking(move || cluster::run(&program, &folder, "users"));
    let mut leaving = Vec::new();
    match treatment {
        Treatment::Calm => {}
        Treatment::Kill => {
            tokio::time::sleep(Duration::from_secs(seconds / 2)).await;
            drop(workers.pop());
        }
        Treatment::Roll => {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(seconds * 1_000 / 25)).await;
                workers.push(cluster::worker(&outflow, project.path())?);
                let oldest = workers.remove(0);
                leaving.push(tokio::task::spawn_blocking(move || oldest.terminate()).await??.as_secs_f64());
            }
        }
    }
    let (run, _) = work.await??;
    let (requests, refused) = portal.requests();
    let accepted = portal.accepted_at();
    let writes = portal.writes();
    let distinct = writes.iter().map(|write| &write.key).collect::<std::collections::BTreeSet<_>>().len();
    Ok(json!({
        "bench": "shared_limit", "rows": rows, "workers": 4, "reserve_percent": reserve, "treatment": format!("{treatment:?}"),
        "succeeded": run.pointer("/tally/add/succeeded"), "requests": requests, "refused": refused,
        "refused_percent": round(refused as f64 * 100.0 / requests.max(1) as f64),
        "use_of_the_whole_limit_percent": round(use_of(&accepted) * 100.0),
        "sent_twice": writes.len() - distinct, "lost": rows - distinct as u64,
        "seconds_to_leave": { "count": leaving.len(), "most": leaving.iter().copied().fold(0.0, f64::max) },
    }))
}

/// Accepted requests over what the window allows, without the first window.
fn use_of(accepted: &[Instant]) -> f64 {
    let (Some(first), Some(last)) = (accepted.first(), accepted.last()) else { return 0.0 };
    let from = *first + WINDOW;
    let counted = accepted.iter().filter(|at| **at >= from).count();
    counted as f64 / (last.duration_since(from).as_secs_f64() / WINDOW.as_secs_f64() * LIMIT as f64)
}
