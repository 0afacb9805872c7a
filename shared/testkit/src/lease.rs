//! Cases of leases.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use outflow_model::id::RunId;
use outflow_model::port::Trouble;
use outflow_model::port::lease::Leases;
use outflow_model::port::ledger::{Closing, Resend, Run, RunOptions, RunPatch};
use outflow_model::run::RunState;
use outflow_model::tally::Tally;

use crate::Case;

/// Every case.
pub const LEASE: &[Case<dyn Leases>] = &[
    ("a_lease_has_one_holder_until_it_is_released", |leases| Box::pin(released(leases))),
    ("a_lease_that_lapses_changes_hands_with_a_new_epoch", |leases| Box::pin(lapsed(leases))),
    ("of_many_that_ask_at_once_one_holds_the_lease", |leases| Box::pin(at_once(leases))),
    ("who_lost_the_lease_writes_nothing", |leases| Box::pin(fenced(leases))),
];

const SECOND: i64 = 1_000_000;

async fn released(leases: Arc<dyn Leases>) -> Result<()> {
    let epoch = leases.take("a", "one", 60 * SECOND).await?.context("a free lease")?;
    ensure!(leases.take("a", "one", 60 * SECOND).await? == Some(epoch), "renewing keeps the epoch");
    ensure!(leases.take("a", "two", 60 * SECOND).await?.is_none());
    ensure!(leases.take("b", "two", 60 * SECOND).await?.is_some(), "another name is another lease");
    leases.release("a", "two").await?;
    ensure!(leases.take("a", "two", 60 * SECOND).await?.is_none(), "who does not hold it cannot give it back");
    leases.release("a", "one").await?;
    leases.check().await?;
    ensure!(leases.take("a", "two", 60 * SECOND).await? == Some(epoch + 1), "a check takes nothing");
    Ok(())
}

async fn lapsed(leases: Arc<dyn Leases>) -> Result<()> {
    let epoch = leases.take("a", "one", 1).await?.context("a free lease")?;
    let taken = async {
        loop {
            if let Some(taken) = leases.take("a", "two", 60 * SECOND).await? {
                return Ok::<_, anyhow::Error>(taken);
            }
        }
    };
    ensure!(tokio::time::timeout(Duration::from_secs(5), taken).await?? == epoch + 1);
    ensure!(leases.take("a", "one", SECOND).await?.is_none());
    Ok(())
}

async fn at_once(leases: Arc<dyn Leases>) -> Result<()> {
    let ask = |holder: u32| {
        let leases = leases.clone();
        tokio::spawn(async move { leases.take("a", &holder.to_string(), 60 * SECOND).await })
    };
    let asked: Vec<_> = (0..16).map(ask).collect();
    let mut holders = 0;
    for asked in asked {
        holders += u32::from(asked.await??.is_some());
    }
    ensure!(holders == 1, "{holders} hold it");
    Ok(())
}

async fn fenced(leases: Arc<dyn Leases>) -> Result<()> {
    let stale = leases.take("a", "one", 1).await?.context("a free lease")?;
    let stale = leases.under("a", stale);
    let run = Run::queued(RunId::new(1, 1), "sync", "crm", RunOptions::default(), 1);
    stale.request(&run).await?;
    let planning = RunPatch { state: Some(RunState::Planning), ..RunPatch::default() };
    stale
        .patch(&run.id, RunState::Queued, planning)
        .await
        .context("a lease that lapsed and nobody took is still held")?;
    let taken = async {
        loop {
            if let Some(epoch) = leases.take("a", "two", 60 * SECOND).await? {
                return Ok::<_, anyhow::Error>(epoch);
            }
        }
    };
    let epoch = tokio::time::timeout(Duration::from_secs(5), taken).await??;
    let closing = || Closing {
        state: RunState::Failed,
        tally: Tally::default(),
        snapshot: Some("elsewhere".to_owned()),
        resend: Resend::Stays,
        reason: None,
        ended: 2,
    };
    let cancel = || RunPatch { cancel: true, ..RunPatch::default() };
    for refused in [
        stale.patch(&run.id, RunState::Planning, cancel()).await,
        stale.plan(&run.id, &[]).await,
        stale.published(&run.id, &[0]).await,
        stale.add_problems(&run.id, &[]).await,
        stale.point("sync", Some("elsewhere")).await,
        stale.close(&run.id, RunState::Planning, closing()).await,
    ] {
        ensure!(refused.is_err_and(|error| error.trouble == Trouble::Conflict));
    }
    let newest = leases.under("a", epoch);
    newest.patch(&run.id, RunState::Planning, cancel()).await?;
    ensure!(newest.run(&run.id).await?.context("the run")?.cancel);
    ensure!(newest.snapshot("sync").await?.is_none());
    Ok(())
}
