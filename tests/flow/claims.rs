//! Who may send: nothing leaves that was not granted, and nothing twice that must not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use outflow_coordinator::Engine;
use outflow_model::change::Operation;
use outflow_model::id::AttemptId;
use outflow_model::port::ledger::{Chunk, RunOptions, RunPatch};
use outflow_model::port::limiter::Revoked;
use outflow_model::run::RunState;
use outflow_model::wire::{Next, ReportV1};
use outflow_simulators::Options;
use outflow_tests::{Fate, Lab, WatchedQueue, block};

const NAME: &str = "  name: name\n";
const MINUTE: i64 = 60_000_000;

async fn people(latency: u64, extra: &str, rows: usize) -> Result<Lab> {
    let lab = Lab::new(Options { latency: Duration::from_millis(latency), ..Options::default() }).await?;
    lab.people(extra, NAME)?;
    let emails: Vec<String> = (0..rows).map(|n| format!("p{n}@x.io")).collect();
    lab.rows(&emails.iter().map(|email| (email.as_str(), "P")).collect::<Vec<_>>())?;
    Ok(lab)
}

async fn chunks(lab: &Lab) -> Result<Vec<Chunk>> {
    let run = lab.newest("people").await?;
    Ok(lab.ledger().await?.chunks(&run.id).await?)
}

/// The limiter forgets everything, again and again, while each message is there twice.
pub(crate) fn forgotten() -> Result<()> {
    block(async {
        let lab = people(30, "mode: create\ndelivery: { chunk_rows: 5 }", 100).await?;
        let start = lab.start("people", RunOptions::default())?;
        let queue = Arc::new(WatchedQueue::new(lab.queue()?, lab.ledger().await?).twice());
        let engines = lab.engines_over(&start, None, queue.clone()).await?;
        let (Engine { limiter, .. }, account) = (engines.engine.as_ref(), &start.sync.account.name);
        let forgets = async {
            for written in [10, 40, 70] {
                while lab.contacts("email").len() < written {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let run = lab.newest("people").await?.id;
                limiter.forget(account, &run).await?;
                // The coordinator opens it again too, a quarter of a minute later at most.
                limiter.open_gate(account, &run, start.sync.concurrency, MINUTE).await?;
            }
            Ok::<_, anyhow::Error>(())
        };
        let (finished, forgot) = tokio::join!(engines.execute(&start), forgets);
        forgot?;
        let total = finished?.run.tally.total();
        // The portal answers a second create of one record with a conflict, which the mode skips.
        ensure!(total.skipped == 0, "sent twice: {total:?}");
        ensure!(total.succeeded + total.unknown == 100 && lab.contacts("email").len() == 100, "{total:?}");
        ensure!(chunks(&lab).await?.iter().any(|chunk| chunk.attempt > 1), "nothing was forgotten in time");
        ensure!(queue.uncounted() == 0, "{} messages left before they were counted", queue.uncounted());
        Ok(())
    })
}

/// Whatever dies after the count finds that nothing was sent.
pub(crate) fn counted() -> Result<()> {
    block(async {
        let mut seen = 0;
        let lab = people(0, "mode: create\ndelivery: { chunk_rows: 5 }", 20).await?;
        for at in 0..8 {
            let start = lab.start("people", RunOptions::default())?;
            // The first that a life writes which goes on with a delivery is the count.
            let delivers = lab.newest("people").await.is_ok_and(|run| run.state == RunState::Delivering);
            let fate = Fate::at(if delivers { 0 } else { at }, true);
            let engines = lab.engines(&start, Some(fate.clone())).await?;
            tokio::select! {
                finished = engines.execute(&start) => drop(finished?),
                () = fate.wait() => {}
            }
            let counted: Vec<Chunk> = chunks(&lab).await?.into_iter().filter(|chunk| chunk.attempt > 0).collect();
            if counted.is_empty() {
                continue;
            }
            seen += 1;
            for Chunk { number, attempt, .. } in counted {
                let id = AttemptId { run: lab.newest("people").await?.id, chunk: number, attempt };
                let revoked = engines.engine.limiter.revoke(&start.sync.account.name, &id, 0).await?;
                ensure!(revoked != Revoked::Forgotten, "{id} was counted before the one before it was closed");
            }
            break;
        }
        ensure!(seen == 1, "no life ended after a count");
        let total = lab.run("people").await?.run.tally.total();
        ensure!((total.succeeded, total.unknown, total.skipped) == (20, 0, 0), "{total:?}");
        Ok(())
    })
}

/// A worker whose report is refused keeps the message.
pub(crate) fn reported() -> Result<()> {
    block(async {
        let lab = people(0, "mode: upsert\ndelivery: { chunk_rows: 5 }", 20).await?;
        let start = lab.start("people", RunOptions::default())?;
        let queue = Arc::new(WatchedQueue::new(lab.queue()?, lab.ledger().await?).refusing(2));
        let engines = lab.engines_over(&start, None, queue).await?;
        let run = engines.execute(&start).await?.run;
        ensure!(run.state == RunState::Succeeded, "{run:?}");
        let again: Vec<_> = chunks(&lab).await?.into_iter().filter(|chunk| chunk.attempt > 1).collect();
        ensure!(again.is_empty(), "their messages were acknowledged without a report: {again:?}");
        Ok(())
    })
}

/// The limiter forgets each grant before its message leaves, for a while.
pub(crate) fn ungranted() -> Result<()> {
    block(async {
        let lab = people(0, "mode: upsert", 1).await?;
        let start = lab.start("people", RunOptions::default())?;
        let queue = Arc::new(WatchedQueue::new(lab.queue()?, lab.ledger().await?));
        let engines = lab.engines_over(&start, None, queue.clone()).await?;
        queue.forget_grants(engines.engine.limiter.clone(), 3);
        let began = Instant::now();
        let run = engines.execute(&start).await?.run;
        ensure!(run.state == RunState::Succeeded && lab.portal.written() == 1, "{run:?}");
        ensure!(chunks(&lab).await?.iter().all(|chunk| chunk.attempt == 4), "{:?}", chunks(&lab).await?);
        ensure!(began.elapsed() >= Duration::from_secs(3), "nothing slowed it down: {:?}", began.elapsed());
        Ok(())
    })
}

/// A worker announced a request that may not be repeated, and is gone, as is the announcement; then the sync is gone, too.
/// On one machine an announcement is settled when it is made.
pub(crate) fn orphaned() -> Result<()> {
    block(async {
        let lab = people(0, "mode: create\nguard: { max_first_run_rows: 1 }", 2).await?;
        let held = lab.run("people").await?.run;
        ensure!(held.non_repeatable == [Operation::Create], "{held:?}");
        let ledger = lab.ledger().await?;
        ledger.published(&held.id, &[0]).await?;
        let delivering = RunPatch { state: Some(RunState::Delivering), ..RunPatch::default() };
        ledger.patch(&held.id, RunState::Held, delivering).await?;
        let id = AttemptId { run: held.id.clone(), chunk: 0, attempt: 1 };
        ledger.settle(&[ReportV1 { announced: 1, ..ReportV1::empty(id, 2, Next::Lost) }], 0).await?;
        let start = lab.start("people", RunOptions::default())?;
        let engines = lab.engines(&start, None).await?;
        let ended = engines.engine.cancel_orphan(&held.id).await?.run;
        ensure!(ended.state == RunState::Cancelled && ended.tally.add.unknown == 2, "{ended:?}");
        Ok(())
    })
}

/// A slow destination, whose chunks wait for several times the time of silence, and a pause meanwhile.
pub(crate) fn waiting() -> Result<()> {
    block(async {
        let lab = people(1_700, "mode: create\ndelivery: { chunk_rows: 5 }", 40).await?;
        lab.write(
            "outflow.yml",
            "version: 1\nsources:\n  files: { type: files, path: data }\ndestinations:\n  crm:\n    type: hubspot\n    \
             base_url: PORTAL\n    allow_private_addresses: true\n    timeout_seconds: 9\n    concurrency: 1\n    settings: { token: t }\n    \
             limits: {}\n",
        )?;
        let run = lab.run("people").await?.run;
        let total = run.tally.total();
        ensure!((total.succeeded, total.skipped) == (40, 0), "{total:?}");
        let again: Vec<_> = chunks(&lab).await?.into_iter().filter(|chunk| chunk.attempt > 1).collect();
        ensure!(again.is_empty(), "what waited was published twice: {again:?}");
        ensure!(lab.portal.requests().0 == 8, "{:?} requests", lab.portal.requests());
        Ok(())
    })
}
