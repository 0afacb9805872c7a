//! Coordinators that die in each phase of a run, and others that take over.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use outflow_model::id::RunId;
use outflow_model::port::ledger::{Chunks, Runs};
use outflow_model::run::RunState;
use outflow_testkit::services::signal;
use outflow_tests::Weather;

use crate::cell::{BOTH, Cell, EVERY, Site, Twice};
use crate::links::{BROKEN, SILENT};

/// An answer of the ledger takes twice as long.
const FAR: Duration = Duration::from_millis(50);

pub(crate) const CELLS: &[Cell] = &[
    Cell {
        what: "coordinator_killed_while_planning",
        kinds: BOTH,
        twice: Twice::Never,
        alone: false,
        work: |site, run| Box::pin(killed(site, run, RunState::Planning)),
    },
    Cell {
        what: "coordinator_killed_while_delivering",
        kinds: BOTH,
        twice: Twice::Never,
        alone: false,
        work: |site, run| Box::pin(killed(site, run, RunState::Delivering)),
    },
    Cell {
        what: "coordinator_killed_while_folding",
        kinds: BOTH,
        twice: Twice::Never,
        alone: false,
        work: |site, run| Box::pin(killed(site, run, RunState::Folding)),
    },
    Cell {
        what: "coordinator_killed_and_another_takes_over",
        kinds: BOTH,
        twice: Twice::Never,
        alone: false,
        work: |site, run| Box::pin(taken_over(site, run)),
    },
    Cell {
        what: "coordinator_killed_between_grant_and_publication",
        kinds: EVERY,
        twice: Twice::Never,
        alone: false,
        work: |site, run| Box::pin(granted(site, run)),
    },
    Cell {
        what: "coordinator_frozen_beyond_its_lease",
        kinds: BOTH,
        twice: Twice::Never,
        alone: false,
        work: |site, run| Box::pin(frozen(site, run)),
    },
];

/// They die in that phase, and leave the run in it: a ledger that is far away makes each phase last.
async fn killed(site: &mut Site, run: &RunId, state: RunState) -> Result<()> {
    site.links.ledger.set(Weather { latency: FAR, ..Weather::default() });
    site.reached(run, state).await?;
    // Nothing that is still on its way arrives after their end.
    site.links.ledger.set(Weather { broken: true, ..Weather::default() });
    site.coordinators.clear();
    let left = site.ledger.run(run).await?.context("the run is gone")?;
    ensure!(left.state == state, "it was left {:?}", left.state);
    site.links.ledger.set(Weather::default());
    site.start_coordinator()
}

async fn taken_over(site: &mut Site, run: &RunId) -> Result<()> {
    site.under_way(run, 2).await?;
    site.start_coordinator()?;
    site.coordinators.remove(0).kill();
    let (died, before) = (Instant::now(), site.under_way(run, 3).await);
    before.context("the run went on while nobody had it")?;
    ensure!(died.elapsed() < Duration::from_secs(20), "it was taken over after {:?}", died.elapsed());
    Ok(())
}

/// It wakes up when its run is another's: what it writes is refused.
async fn frozen(site: &mut Site, run: &RunId) -> Result<()> {
    site.under_way(run, 2).await?;
    let sleeper = site.coordinators.first().map(outflow_tests::Process::pid).unwrap_or_default();
    signal(sleeper, "STOP")?;
    site.start_coordinator()?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    signal(sleeper, "CONT")
}

/// It counts and grants chunks, and dies before the broker has heard of them.
async fn granted(site: &mut Site, run: &RunId) -> Result<()> {
    site.links.coordinator_queue.set(SILENT);
    let counted = async {
        while site.ledger.chunks(run).await?.iter().all(|chunk| chunk.attempt == 0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(Duration::from_mins(1), counted).await.context("nothing was counted")??;
    // The grants follow at once.
    tokio::time::sleep(Duration::from_millis(300)).await;
    site.links.coordinator_queue.set(BROKEN);
    site.coordinators.clear();
    let sent = site.portal.inner.writes().len();
    ensure!(sent == 0, "{sent} records were written before their messages had left");
    site.links.coordinator_queue.set(Weather::default());
    site.start_coordinator()
}
