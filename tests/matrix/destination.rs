//! A destination in trouble, and a record that ends its worker.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use outflow_model::id::RunId;
use outflow_model::port::ledger::{Chunks, Runs};
use outflow_simulators::{Fault, Faults};
use outflow_tests::Process;

use crate::cell::{BOTH, Cell, EVERY, REPEATABLE, Site, Twice};
use crate::results::outage;
use crate::workers::kill;

pub(crate) const CELLS: &[Cell] = &[
    Cell {
        what: "destination_down",
        kinds: BOTH,
        twice: Twice::Never,
        alone: false,
        work: |site, run| Box::pin(faulty(site, run, vec![(Fault::ServerError, 1_000)])),
    },
    Cell {
        what: "destination_breaks_off_after_applying",
        kinds: BOTH,
        twice: Twice::MayBe,
        alone: false,
        work: |site, run| Box::pin(faulty(site, run, vec![(Fault::ResetAfter, 300)])),
    },
    Cell {
        what: "destination_answers_later_than_anyone_waits",
        kinds: BOTH,
        twice: Twice::MayBe,
        alone: false,
        work: |site, run| Box::pin(faulty(site, run, vec![(Fault::Stall(2_500), 300)])),
    },
    Cell {
        what: "destination_refuses_for_a_while",
        kinds: BOTH,
        twice: Twice::Never,
        alone: false,
        work: |site, run| Box::pin(faulty(site, run, vec![(Fault::TooMany(1), 500)])),
    },
    Cell {
        what: "destination_behind_a_gateway_that_answers_503_after_it",
        kinds: EVERY,
        twice: Twice::MayBe,
        alone: false,
        work: |site, run| Box::pin(hidden(site, run)),
    },
    Cell {
        what: "destination_slower_than_silence",
        kinds: EVERY,
        twice: Twice::Never,
        alone: false,
        work: |site, run| Box::pin(slow(site, run)),
    },
    Cell {
        what: "destination_paused_and_resumed",
        kinds: EVERY,
        twice: Twice::Never,
        alone: false,
        work: |site, run| Box::pin(paused(site, run)),
    },
    Cell {
        what: "a_record_that_ends_each_worker",
        kinds: REPEATABLE,
        twice: Twice::MayBe,
        alone: false,
        work: |site, run| Box::pin(deadly(site, run)),
    },
];

/// Each worker that sends one certain record ends with that; another takes its place.
async fn deadly(site: &mut Site, run: &RunId) -> Result<()> {
    // So long a chunk waits whose worker has died, ten times before it is cut smaller.
    site.lease = 1;
    site.replace_workers()?;
    let pids = Arc::new(Mutex::new(Vec::new()));
    let (struck, mut told) = tokio::sync::mpsc::unbounded_channel();
    let victims = pids.clone();
    site.portal.curse("p42@x.io", move || {
        kill(&victims.lock().unwrap_or_else(PoisonError::into_inner));
        _ = struck.send(());
    });
    let began = Instant::now();
    while !site.ledger.run(run).await?.is_some_and(|run| run.state.is_end()) {
        ensure!(began.elapsed() < Duration::from_mins(5), "the record goes on ending workers");
        *pids.lock().unwrap_or_else(PoisonError::into_inner) = site.workers.iter().map(Process::pid).collect();
        if tokio::time::timeout(Duration::from_millis(100), told.recv()).await.is_ok() {
            site.replace_workers()?;
        }
    }
    site.portal.lift();
    let total = site.ledger.run(run).await?.map(|run| run.tally.total()).unwrap_or_default();
    ensure!(total.deferred == 1 && total.succeeded + 1 == total.planned, "it stands alone: {total:?}");
    Ok(())
}

/// For some seconds each request meets one of these faults, with its probability in 1/1000.
async fn faulty(site: &mut Site, run: &RunId, rates: Vec<(Fault, u32)>) -> Result<()> {
    site.under_way(run, 2).await?;
    site.portal.inner.set_faults(Faults { rates, seed: 7, ..Faults::default() });
    tokio::time::sleep(outage()?).await;
    site.portal.inner.set_faults(Faults::default());
    Ok(())
}

/// From now on each request takes so many milliseconds longer.
pub(crate) fn slow_down(site: &Site, millis: u32) {
    site.portal.inner.set_faults(Faults { rates: vec![(Fault::Stall(millis), 1_000)], seed: 7, ..Faults::default() });
}

/// What is carried out is answered by a gateway that did not hear of it.
async fn hidden(site: &mut Site, run: &RunId) -> Result<()> {
    site.under_way(run, 2).await?;
    site.portal.hide_behind_a_gateway(true);
    tokio::time::sleep(outage()?).await;
    site.portal.hide_behind_a_gateway(false);
    Ok(())
}

/// Chunks wait for longer than a coordinator waits for one that is lost.
async fn slow(site: &mut Site, run: &RunId) -> Result<()> {
    slow_down(site, 1_000);
    site.under_way(run, 1).await?;
    tokio::time::sleep(outage()? * 2).await;
    let again: Vec<_> = site.ledger.chunks(run).await?.into_iter().filter(|chunk| chunk.attempt > 1).collect();
    site.portal.inner.set_faults(Faults::default());
    ensure!(again.is_empty(), "what waited was published twice: {again:?}");
    Ok(())
}

async fn paused(site: &mut Site, run: &RunId) -> Result<()> {
    slow_down(site, 500);
    for requests in [2, 8] {
        site.under_way(run, requests).await?;
        let output = site.command(&["pause", "crm"])?;
        ensure!(output.status.success(), "{output:?}");
        // What is under way ends.
        tokio::time::sleep(Duration::from_millis(700)).await;
        let before = site.portal.inner.writes().len();
        tokio::time::sleep(outage()?).await;
        let during = site.portal.inner.writes().len() - before;
        ensure!(during == 0, "{during} records were written during a pause that is in force");
        let output = site.command(&["resume", "crm"])?;
        ensure!(output.status.success(), "{output:?}");
    }
    site.portal.inner.set_faults(Faults::default());
    Ok(())
}
