//! What befalls a run before it has sent anything.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use outflow_model::port::ledger::Runs;
use outflow_model::run::RunState;
use outflow_simulators::{HubSpot, Options};
use outflow_tests::{Cluster, Plan, Process, Weather, block, program};
use sqlx::{Connection, PgConnection};

use super::plan;

/// The source takes longer than anybody waits here.
pub(super) fn cancelled() -> Result<()> {
    block(async {
        let slow =
            Plan { table: Some("(VALUES ('a@x.io', 'A')) AS people (email, name), pg_sleep(600)"), ..plan(0, "") };
        let mut cluster = Cluster::new(HubSpot::new(Options::default()), &slow).await?;
        cluster.start_coordinator()?;
        cluster.start_worker()?;
        let run = cluster.request().await?;
        cluster.reached(&run, RunState::Planning).await?;
        let asked = cluster.command(&["cancel", run.as_str(), "--detach"])?;
        ensure!(asked.status.success(), "{asked:?}");
        ensure!(cluster.ended(&run).await?.state == RunState::Cancelled);
        executes(&mut PgConnection::connect(&cluster.database).await?, 600, false).await?;
        cluster.write(&plan(10, ""))?;
        std::fs::remove_file(cluster.path().join("models/people.sql"))?;
        let next = cluster.ended(&cluster.request().await?).await?;
        ensure!(next.state == RunState::Succeeded && cluster.portal.written() == 10, "{next:?}");
        Ok(())
    })
}

/// Waits until PostgreSQL executes the model that sleeps so many seconds, or until it does not.
async fn executes(database: &mut PgConnection, seconds: u32, wanted: bool) -> Result<()> {
    let began = Instant::now();
    let sql =
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'COPY%pg_sleep(' || $1 || ')%'";
    loop {
        let asked = sqlx::query_scalar(sql).bind(seconds.to_string()).fetch_one(&mut *database);
        let found: i64 = asked.await?;
        if (found > 0) == wanted {
            return Ok(());
        }
        ensure!(began.elapsed() < Duration::from_mins(1), "{found} queries under way");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(super) fn stopped() -> Result<()> {
    block(async {
        let slow =
            Plan { table: Some("(VALUES ('a@x.io', 'A')) AS people (email, name), pg_sleep(601)"), ..plan(0, "") };
        let mut cluster = Cluster::new(HubSpot::new(Options::default()), &slow).await?;
        let mut command = Command::new(program()?);
        command.arg("-C").arg(cluster.path()).args(["--log", "info", "coordinator"]);
        let coordinator = Process::start(&mut command, cluster.path().join("stops.log"))?;
        let run = cluster.request().await?;
        let mut database = PgConnection::connect(&cluster.database).await?;
        executes(&mut database, 601, true).await?;
        coordinator.terminate(Duration::from_secs(10))?;
        executes(&mut database, 601, false).await?;
        cluster.write(&plan(10, ""))?;
        std::fs::remove_file(cluster.path().join("models/people.sql"))?;
        cluster.start_coordinator()?;
        cluster.start_worker()?;
        let ended = cluster.ended(&run).await?;
        ensure!(ended.state == RunState::Succeeded && ended.plannings == 0, "{ended:?}");
        Ok(())
    })
}

/// A coordinator that plans in place of a held run.
pub(super) fn stopped_beside_held() -> Result<()> {
    block(async {
        let guard = "guard: { max_first_run_rows: 1 }\n";
        let two =
            Plan { table: Some("(VALUES ('a@x.io', 'A'), ('b@x.io', 'B')) AS people (email, name)"), ..plan(0, guard) };
        let mut cluster = Cluster::new(HubSpot::new(Options::default()), &two).await?;
        cluster.start_coordinator()?;
        let held = cluster.request().await?;
        cluster.reached(&held, RunState::Held).await?;
        cluster.write(&Plan {
            table: Some("(VALUES ('a@x.io', 'A'), ('b@x.io', 'B')) AS people (email, name), pg_sleep(602)"),
            ..two
        })?;
        let queued = cluster.request().await?;
        executes(&mut PgConnection::connect(&cluster.database).await?, 602, true).await?;
        cluster.coordinators.pop().context("a coordinator")?.terminate(Duration::from_secs(10))?;
        let left = cluster.ledger.run(&queued).await?.context("a run")?;
        ensure!((left.state, left.plannings) == (RunState::Queued, 0), "{left:?}");
        Ok(())
    })
}

/// The ledger is away for longer than the lease, and the coordinator lives on.
pub(super) fn ledger_away() -> Result<()> {
    block(async {
        let slow =
            Plan { table: Some("(VALUES ('a@x.io', 'A')) AS people (email, name), pg_sleep(603)"), ..plan(0, "") };
        let mut cluster = Cluster::new(HubSpot::new(Options::default()), &slow).await?;
        cluster.start_coordinator()?;
        let run = cluster.request().await?;
        let mut database = PgConnection::connect(&cluster.database).await?;
        executes(&mut database, 603, true).await?;
        cluster.links.ledger.set(Weather { broken: true, ..Weather::default() });
        executes(&mut database, 603, false).await?;
        cluster.links.ledger.set(Weather::default());
        executes(&mut database, 603, true).await?;
        let planned = cluster.ledger.run(&run).await?.context("a run")?;
        ensure!((planned.state, planned.plannings) == (RunState::Planning, 1), "{planned:?}\n{}", cluster.logs());
        Ok(())
    })
}

/// What was asked for is done where it belongs by now.
pub(super) fn led_elsewhere() -> Result<()> {
    block(async {
        let mut cluster = Cluster::new(HubSpot::new(Options::default()), &plan(100, "")).await?;
        let first = cluster.request().await?;
        for (file, before, now) in [
            ("outflow.yml", "\n  crm:\n", "\n  other:\n"),
            ("syncs/people.yml", "destination: crm", "destination: other"),
        ] {
            let path = cluster.path().join(file);
            let text = std::fs::read_to_string(&path)?;
            ensure!(text.contains(before), "{text}");
            std::fs::write(&path, text.replace(before, now))?;
        }
        cluster.start_coordinator()?;
        cluster.start_worker()?;
        let given_up = cluster.ended(&first).await?;
        let why = given_up.reason.clone().unwrap_or_default();
        ensure!(given_up.state == RunState::Cancelled && why.contains("another destination"), "{given_up:?}");
        let next = cluster.ledger.runs(Some("people"), 1).await?.pop().context("a run")?;
        let next = cluster.ended(&next.id).await?;
        ensure!(next.state == RunState::Succeeded && next.destination == "other", "{next:?}");
        ensure!(next.id != first && cluster.portal.written() == 100, "{next:?}");
        Ok(())
    })
}
