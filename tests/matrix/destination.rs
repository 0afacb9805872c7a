//! A destination in trouble, and a record that ends its worker.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use outflow_model::id::RunId;
use outflow_model::port::ledger::Runs;
use outflow_simulators::{Fault, Faults};
use outflow_tests::Process;

use crate::cell::{BOTH, Cell, REPEATABLE, Site, Twice};
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
