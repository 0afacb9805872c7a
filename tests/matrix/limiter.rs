//! Redis in trouble.

use std::time::Duration;

use anyhow::{Result, ensure};
use outflow_model::id::RunId;
use outflow_model::port::ledger::{RunPatch, Runs};
use outflow_model::run::RunState;
use outflow_testkit::services::signal;

use crate::cell::{BOTH, Cell, REPEATABLE, Site, Twice};
use crate::results::outage;

pub(crate) const CELLS: &[Cell] = &[
    Cell {
        what: "redis_killed",
        kinds: BOTH,
        twice: Twice::MayBe,
        alone: true,
        work: |site, run| Box::pin(killed(site, run)),
    },
    Cell {
        what: "redis_frozen",
        kinds: BOTH,
        twice: Twice::MayBe,
        alone: true,
        work: |site, run| Box::pin(frozen(site, run)),
    },
    Cell {
        what: "redis_flushed",
        kinds: BOTH,
        twice: Twice::MayBe,
        alone: true,
        work: |site, run| Box::pin(told(site, run, &["FLUSHALL"])),
    },
    Cell {
        what: "redis_scripts_flushed",
        kinds: REPEATABLE,
        twice: Twice::Never,
        alone: true,
        work: |site, run| Box::pin(told(site, run, &["SCRIPT", "FLUSH"])),
    },
    Cell {
        what: "redis_flushed_right_after_a_cancel",
        kinds: BOTH,
        twice: Twice::MayBe,
        alone: true,
        work: |site, run| Box::pin(cancelled(site, run)),
    },
    Cell {
        what: "redis_out_of_memory",
        kinds: BOTH,
        twice: Twice::MayBe,
        alone: true,
        work: |site, run| Box::pin(full(site, run)),
    },
];

async fn killed(site: &mut Site, run: &RunId) -> Result<()> {
    site.under_way(run, 3).await?;
    site.redis.kill()?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    site.redis.start_again()
}

async fn frozen(site: &mut Site, run: &RunId) -> Result<()> {
    site.under_way(run, 3).await?;
    signal(site.redis.pid()?, "STOP")?;
    tokio::time::sleep(outage()?).await;
    signal(site.redis.pid()?, "CONT")
}

async fn told(site: &mut Site, run: &RunId, words: &'static [&str]) -> Result<()> {
    site.under_way(run, 3).await?;
    site.redis.command(words)
}

/// What is cancelled stays so, though nothing in Redis says so any more.
async fn cancelled(site: &mut Site, run: &RunId) -> Result<()> {
    site.under_way(run, 3).await?;
    site.ledger.patch(run, RunState::Delivering, RunPatch { cancel: true, ..RunPatch::default() }).await?;
    site.redis.command(&["FLUSHALL"])?;
    let ended = site.ended(run).await?;
    ensure!(ended.state == RunState::Cancelled, "{ended:?}");
    Ok(())
}

async fn full(site: &mut Site, run: &RunId) -> Result<()> {
    site.under_way(run, 3).await?;
    site.redis.command(&["CONFIG", "SET", "maxmemory", "1"])?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    site.redis.command(&["CONFIG", "SET", "maxmemory", "0"])
}
