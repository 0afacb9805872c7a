//! Workers that die, freeze, and are replaced.

use std::time::Duration;

use anyhow::{Result, ensure};
use outflow_model::id::RunId;
use outflow_testkit::services::signal;
use outflow_tests::Moment;

use crate::cell::{BOTH, Cell, Site, Twice};

pub(crate) const CELLS: &[Cell] = &[
    Cell {
        what: "worker_killed_before_the_api_applied",
        kinds: BOTH,
        twice: Twice::MayBe,
        alone: false,
        work: |site, run| Box::pin(killed(site, run, Moment::Before)),
    },
    Cell {
        what: "worker_killed_after_the_api_applied",
        kinds: BOTH,
        twice: Twice::MayBe,
        alone: false,
        work: |site, run| Box::pin(killed(site, run, Moment::Applied)),
    },
    Cell {
        what: "worker_killed_before_its_report",
        kinds: BOTH,
        twice: Twice::MayBe,
        alone: false,
        work: |site, run| Box::pin(killed(site, run, Moment::Answered)),
    },
    Cell {
        what: "worker_killed_after_a_report",
        kinds: BOTH,
        twice: Twice::MayBe,
        alone: false,
        work: |site, run| Box::pin(reported(site, run)),
    },
    Cell {
        what: "worker_frozen_beyond_its_claim",
        kinds: BOTH,
        twice: Twice::Frozen,
        alone: false,
        work: |site, run| Box::pin(frozen(site, run)),
    },
    Cell {
        what: "workers_replaced_one_by_one",
        kinds: BOTH,
        twice: Twice::Never,
        alone: false,
        work: |site, run| Box::pin(replaced(site, run)),
    },
];

/// Every worker is killed with one request; others take their place.
async fn killed(site: &mut Site, _run: &RunId, moment: Moment) -> Result<()> {
    let pids: Vec<u32> = site.workers.iter().map(outflow_tests::Process::pid).collect();
    let (struck, told) = tokio::sync::oneshot::channel();
    site.portal.set(7, "", moment, move || {
        if moment == Moment::Answered {
            // The answer leaves first; the report takes longer.
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(1));
                kill(&pids);
            });
        } else {
            kill(&pids);
        }
        _ = struck.send(());
    });
    told.await?;
    site.replace_workers()
}

pub(crate) fn kill(pids: &[u32]) {
    for pid in pids {
        _ = signal(*pid, "KILL");
    }
}

async fn reported(site: &mut Site, run: &RunId) -> Result<()> {
    site.under_way(run, 3).await?;
    site.replace_workers()
}

/// One worker sleeps so long that others take its chunks over, and then goes on as if nothing had happened.
async fn frozen(site: &mut Site, run: &RunId) -> Result<()> {
    site.under_way(run, 3).await?;
    let sleeper = site.workers.first().map(outflow_tests::Process::pid).unwrap_or_default();
    signal(sleeper, "STOP")?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    signal(sleeper, "CONT")
}

/// Rolling restarts: each worker ends what it has begun and hands the rest back.
async fn replaced(site: &mut Site, run: &RunId) -> Result<()> {
    site.under_way(run, 2).await?;
    for _ in 0..4 {
        site.start_worker()?;
        let leaving = site.workers.remove(0);
        let took = tokio::task::spawn_blocking(move || leaving.terminate(Duration::from_secs(15))).await??;
        ensure!(took < Duration::from_secs(10), "a worker took {took:?} to leave");
    }
    Ok(())
}
