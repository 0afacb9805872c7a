//! One cell: a run under load that something befalls, and what the destination says of it afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use outflow_backends::RabbitQueue;
use outflow_model::id::{Lane, RunId};
use outflow_model::port::ledger::Run;
use outflow_model::port::queue::Queue;
use outflow_model::run::RunState;
use outflow_simulators::{HubSpot, Options};
use outflow_tests::{Cluster, Plan, Snare, block};
use serde_json::json;

use crate::results::Results;
use crate::store;

/// A cluster with a portal.
pub(crate) type Site = Cluster<Snare<HubSpot>>;

/// What befalls a run that was asked for; it returns when nothing more does.
pub(crate) type Work = for<'a> fn(&'a mut Site, &'a RunId) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// Whether requests may be sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Upserts.
    Repeatable,
    /// Creates.
    Unrepeatable,
    /// Appends, by a manifest of the user's own.
    Appended,
}

pub(crate) const BOTH: &[Kind] = &[Kind::Repeatable, Kind::Unrepeatable];
pub(crate) const EVERY: &[Kind] = &[Kind::Repeatable, Kind::Unrepeatable, Kind::Appended];
pub(crate) const REPEATABLE: &[Kind] = &[Kind::Repeatable];

/// Whether a repeatable record may arrive twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Twice {
    /// No: nothing died and no answer was lost.
    Never,
    /// Where what died, or was cut off, could not tell that it had sent.
    MayBe,
    /// As [`Twice::MayBe`]; and a frozen process may wake up and send, whatever the destination.
    Frozen,
}

/// A cell.
pub(crate) struct Cell {
    pub(crate) what: &'static str,
    pub(crate) kinds: &'static [Kind],
    pub(crate) twice: Twice,
    /// It stops a service that other cells use, too.
    pub(crate) alone: bool,
    pub(crate) work: Work,
}

/// What is built in to HubSpot's place, which knows no appends.
const MANIFEST: &str = include_str!("../../worker/destinations/src/hubspot/manifest.toml");

/// Cells that stop services wait for all others, and these for them.
static SERVICES: RwLock<()> = RwLock::new(());
/// Of a run that ended without some records, the next runs send them; so many may be needed.
const RUNS: usize = 6;

/// A broker that is killed.
pub(crate) const KILLED: &str = "rabbitmq_killed";
/// RabbitMQ 3.10 writes the name of a new queue down some time after it was made. A queue of which it was killed before that has
/// no leader until its next start, whoever asks for it. Queues are made once and live long.
const WRITTEN: Duration = Duration::from_secs(5);

/// Keeps the services as they are.
pub(crate) fn shared() -> RwLockReadGuard<'static, ()> {
    SERVICES.read().unwrap_or_else(PoisonError::into_inner)
}

impl Kind {
    const fn mode(self) -> &'static str {
        match self {
            Self::Repeatable => "upsert",
            Self::Unrepeatable => "create",
            Self::Appended => "append",
        }
    }
}

impl Cell {
    pub(crate) fn name(cell: &Self, kind: Kind) -> String {
        format!("{}::{}", cell.what, kind.mode())
    }
}

/// The project; where its messages are to be large, each row has a note.
fn plan(rows: usize, kind: Kind, is_large: bool) -> Plan {
    let mode = kind.mode();
    let destination = if kind == Kind::Appended { "http\n    manifest: events.toml" } else { "hubspot" };
    let (chunk, note) = if is_large { (store::CHUNK, "  lastname: note\n") } else { (100, "") };
    Plan {
        rows,
        table: None,
        sync: format!(
            "object: contacts\nmode: {mode}\ndelivery: {{ chunk_rows: {chunk}, tries: 20 }}\nmapping:\n  email: email\n  \
             firstname: name\n{note}"
        ),
        destination: format!(
            "    type: {destination}\n    settings: {{ token: \"${{file:token}}\" }}\n    timeout_seconds: 2\n    concurrency: 2\n    \
             limits: {{}}\n"
        ),
    }
}

/// Tries a cell once, unless that has been done.
pub(crate) fn try_once(cell: &Cell, kind: Kind, number: u64, results: &Results) -> Result<()> {
    let name = Cell::name(cell, kind);
    if results.has(&name, number)? {
        return Ok(());
    }
    let (_others, _alone);
    if cell.alone {
        _alone = SERVICES.write().unwrap_or_else(PoisonError::into_inner);
    } else {
        _others = shared();
    }
    block(async {
        let portal = Snare::new(HubSpot::new(Options { latency: Duration::from_millis(20), ..Options::default() }));
        let is_large = store::is_over_it(cell);
        let plan = plan(results.rows, kind, is_large);
        let mut site = Cluster::new(portal, &plan).await?;
        let appends =
            MANIFEST.replace("[operations.create]", "[operations.append]").replace("\"create\"", "\"append\"");
        std::fs::write(site.path().join("events.toml"), appends)?;
        if is_large {
            store::prepare(&mut site, &plan).await?;
        }
        let outcome = one(cell, kind, &name, number, &mut site, results).await;
        outcome.with_context(|| format!("{name}, repetition {number}\n{}", site.logs()))
    })
}

async fn one(cell: &Cell, kind: Kind, name: &str, number: u64, site: &mut Site, results: &Results) -> Result<()> {
    site.start_coordinator()?;
    site.start_worker()?;
    site.start_worker()?;
    if cell.what == KILLED {
        // Whoever looks at a queue makes it.
        let queue = RabbitQueue::new(&site.rabbitmq.url, &site.prefix, "matrix")?;
        let _reports = queue.reports();
        queue.waiting(&Lane("crm".to_owned())).await?;
        tokio::time::sleep(WRITTEN).await;
    }
    let began = Instant::now();
    let id = site.request().await?;
    (cell.work)(site, &id).await?;
    let mut runs = vec![site.ended(&id).await?];
    while runs.last().is_some_and(is_short) && runs.len() < RUNS {
        let id = site.request().await?;
        runs.push(site.ended(&id).await?);
    }
    let seconds = began.elapsed().as_secs_f64();
    let count = Count::of(site, kind, results.rows, &runs, &undecided(site)?);
    let Count { lost, duplicated, unknown, wrong } = count;
    ensure!(lost == 0 && wrong == 0, "{count:?}: {runs:?}");
    let twice = match (cell.twice, kind) {
        (Twice::Frozen, _) | (Twice::MayBe, Kind::Repeatable) => true,
        (Twice::MayBe | Twice::Never, _) => false,
    };
    ensure!(twice || duplicated == 0, "{count:?}: {runs:?}");
    results.add(&json!({
        "cell": name, "number": number, "rows": results.rows, "outage": results.outage, "runs": runs.len(),
        "seconds": seconds, "lost": lost, "duplicated": duplicated, "unknown": unknown, "wrong": wrong,
    }))
}

/// The keys of the rows that are unknown, as a user sees them.
fn undecided(site: &Site) -> Result<BTreeSet<String>> {
    let output = site.command(&["--output", "json", "unknown", "people"])?;
    serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))
}

/// True where another run finds more to do.
fn is_short(run: &Run) -> bool {
    let total = run.tally.total();
    run.state != RunState::Succeeded && total.deferred + total.aborted > 0 || run.state == RunState::Failed
}

/// What the portal says.
#[derive(Debug)]
struct Count {
    /// Rows that are not there, and that are not said to be unknown.
    lost: u64,
    /// Writes beyond the first of a row.
    duplicated: u64,
    /// Rows of which the ledger says that it cannot know.
    unknown: u64,
    /// Books that do not close, and values that are not the row's.
    wrong: u64,
}

impl Count {
    fn of(site: &Site, kind: Kind, rows: usize, runs: &[Run], undecided: &BTreeSet<String>) -> Self {
        let portal = &site.portal.inner;
        let there = portal.records("contacts", "email");
        let unknown: u64 = runs.iter().map(|run| run.tally.total().unknown).sum();
        let (mut lost, mut wrong) = (0, 0);
        for n in 0..rows {
            let key = format!("p{n}@x.io");
            match there.get(&key) {
                Some(record) => {
                    wrong += u64::from(record.properties.get("firstname") != Some(&format!("Person {n}")));
                }
                None => lost += u64::from(!undecided.contains(&key)),
            }
        }
        let mut writes: BTreeMap<String, u64> = BTreeMap::new();
        for write in portal.writes() {
            *writes.entry(write.key).or_default() += 1;
        }
        let skipped: u64 = runs.iter().map(|run| run.tally.total().skipped).sum();
        let succeeded: u64 = runs.iter().map(|run| run.tally.total().succeeded).sum();
        wrong += runs.iter().filter(|run| run.tally.closes().is_err()).count() as u64;
        // Each row was acknowledged once, or is known not to be known.
        wrong += (succeeded + skipped + unknown).abs_diff(rows as u64) + unknown.abs_diff(undecided.len() as u64);
        let again = writes.values().map(|count| count - 1).sum::<u64>();
        Self {
            lost,
            // The portal refuses a second create of one record, and the sync skips it.
            duplicated: again + if kind == Kind::Repeatable { 0 } else { skipped },
            unknown,
            wrong,
        }
    }
}
