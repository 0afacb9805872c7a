//! A cluster under changing rows and random faults for a long time: nothing is lost, books close, and nothing grows.

mod books;
mod faults;
mod samples;
mod table;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use outflow_model::id::RunId;
use outflow_model::run::RunState;
use outflow_simulators::{HubSpot, Options};
use outflow_testkit::services::stop_all;
use outflow_tests::{Client, Cluster, Dice, Plan, Process};
use serde_json::{Value, json};
use tokio::sync::watch;

use self::books::Books;
use self::faults::{Faults, Site};
use self::table::{Difference, NAME, Table};

const COORDINATORS: usize = 2;
const WORKERS: usize = 3;
/// Of a fault that ends another follows after so many seconds.
const PAUSE: [u64; 2] = [20, 40];
/// Between runs: long enough that any coordinator may find the next one first.
const BREATH: Duration = Duration::from_millis(700);
/// Runs of the quiet end, of which the last finds nothing to do.
const QUIET: usize = 10;
/// What is away is back by then.
const AWAY: Duration = Duration::from_mins(2);

/// How long, how much, and which chance.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Size {
    /// For how long faults come; the quiet end follows.
    #[arg(long, default_value_t = 30)]
    pub(crate) minutes: u64,
    /// What chance begins with.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Rows of the table, about.
    #[arg(long, default_value_t = 5_000)]
    pub(crate) rows: u64,
}

/// The figures, and whether everything is as it must be.
pub(crate) async fn run(size: Size, outflow: &Path) -> Result<(Value, bool)> {
    let outflow = outflow.canonicalize().with_context(|| format!("{} is not built", outflow.display()))?;
    let soaked = tokio::select! {
        soaked = soak(size, outflow) => soaked,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("Interrupted")),
    };
    stop_all();
    soaked
}

fn plan() -> Plan {
    Plan {
        rows: 0,
        table: Some(NAME),
        sync: "object: contacts\nmode: mirror\nremove: archive\nguard: { max_removes_percent: 100 }\ndelivery: { chunk_rows: 50, tries: 20 }\n\
               mapping:\n  email: email\n  firstname: name\n"
            .to_owned(),
        destination: "    type: hubspot\n    settings: { token: \"${file:token}\" }\n    timeout_seconds: 2\n    concurrency: 2\n    limits: {}\n"
            .to_owned(),
    }
}

async fn soak(size: Size, outflow: PathBuf) -> Result<(Value, bool)> {
    let portal = HubSpot::new(Options { latency: Duration::from_millis(50), ..Options::default() });
    let mut site: Site = Cluster::new(portal, &plan()).await?;
    site.redis.pid().context("Services of the user's own are not killed: unset OUTFLOW_TEST_*_URL")?;
    site.program = Some(outflow);
    for _ in 0..COORDINATORS {
        site.start_coordinator()?;
    }
    for _ in 0..WORKERS {
        site.start_worker()?;
    }
    let outcome = through(size, &mut site).await;
    outcome.with_context(|| site.logs())
}

async fn through(size: Size, site: &mut Site) -> Result<(Value, bool)> {
    let mut dice = Dice::new(size.seed);
    let table = Table::make(&site.database, size.rows, dice.clone()).await?;
    let (stop, stopped) = watch::channel(false);
    let steady = [("coordinator", site.coordinators.first()), ("worker", site.workers.first())];
    let steady = steady.map(|(name, process)| (name, process.map_or(0, Process::pid)));
    let services = (site.postgres.clone(), site.rabbitmq.clone(), site.redis.clone());
    let changing = tokio::spawn(table.change(stopped.clone()));
    let samples = tokio::spawn(samples::take(steady, services, stopped.clone()));
    let mut running = tokio::spawn(run_on(site.client(), stopped));
    let until = Instant::now() + Duration::from_secs(size.minutes * 60);
    let mut faults = Faults::new();
    tokio::select! {
        troubled = trouble(&mut faults, &mut dice, site, until) => troubled?,
        ended = &mut running => bail!("Runs do not go on: {:?}", ended?.err()),
    }
    stop.send_replace(true);
    let (changes, samples) = (changing.await??, samples.await?);
    running.await??;
    let quiet = calm(&site.client()).await?;
    let books = Books::of(&site.ledger).await?;
    let there = site.portal.records("contacts", "email");
    let difference = table::compare(&site.database, &there).await?;
    let judged = samples.judge();
    let is_same = difference == Difference::default();
    let passed = books.close() && is_same && judged.is_flat();
    let figures = json!({
        "bench": "soak", "minutes": size.minutes, "seed": size.seed, "coordinators": COORDINATORS, "workers": WORKERS,
        "passed": passed, "faults": faults.counts(), "fault_history": faults.history(),
        "rows": there.len(), "changes": changes, "lost": difference.lost, "wrong": difference.wrong,
        "not_removed": difference.surplus, "runs": books.json(), "quiet_runs": quiet,
        "requests": site.portal.requests().0, "records_written": site.portal.written(), "processes": judged.json(),
    });
    Ok((figures, passed))
}

/// One fault after the other until then.
async fn trouble(faults: &mut Faults, dice: &mut Dice, site: &mut Site, until: Instant) -> Result<()> {
    loop {
        let pause = Duration::from_secs(PAUSE[0] + dice.roll(PAUSE[1] - PAUSE[0] + 1));
        tokio::time::sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
        if Instant::now() >= until {
            return Ok(());
        }
        faults.strike(dice, site).await?;
    }
}

/// Asks for a run, as soon as the ledger answers.
async fn request(client: &Client) -> Result<RunId> {
    let began = Instant::now();
    loop {
        match client.request().await {
            Ok(run) => return Ok(run),
            Err(error) if began.elapsed() > AWAY => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}

/// Runs, one after the other, until told to stop.
async fn run_on(client: Client, stopped: watch::Receiver<bool>) -> Result<()> {
    while !*stopped.borrow() {
        let run = request(&client).await?;
        client.ended(&run).await?;
        tokio::time::sleep(BREATH).await;
    }
    Ok(())
}

/// Runs until one finds nothing more to do; how many that took.
async fn calm(client: &Client) -> Result<usize> {
    for count in 1..=QUIET {
        let run = client.ended(&request(client).await?).await?;
        if run.state == RunState::Succeeded && run.tally.total().planned == 0 {
            return Ok(count);
        }
    }
    bail!("After {QUIET} quiet runs there is still something to do")
}
