//! Runs whose plans and snapshots are in a bucket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use outflow_backends::{Place, open_store};
use outflow_coordinator::{EngineError, Signal};
use outflow_model::port::Trouble;
use outflow_model::port::ledger::RunOptions;
use outflow_model::port::store::Store;
use outflow_model::run::RunState;
use outflow_simulators::Options;
use outflow_testkit::services::{S3, Service};
use outflow_tests::{Lab, Proxy, Weather, block};

/// A lab over a bucket that is reached by a port, and the bucket as others see it.
async fn lab(latency: u64, port: Option<u16>) -> Result<(Lab, Arc<dyn Store>)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let server = S3::shared()?;
    let lab = Lab::new(Options { latency: Duration::from_millis(latency), ..Options::default() }).await?;
    let prefix = format!("lab-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    lab.keep_in(server.url(&prefix, port.unwrap_or(server.port)))?;
    lab.people("mode: mirror\ndelivery: { chunk_rows: 10 }", "  name: name\n")?;
    let place = Place::parse(&server.url(&prefix, server.port)).map_err(anyhow::Error::msg)?;
    let store = open_store(&place, lab.path())?;
    Ok((lab, store))
}

/// Rows of which the first so many have another name.
fn people(lab: &Lab, rows: usize, changed: usize) -> Result<()> {
    let name = |n| if n < changed { "Another" } else { "Person" };
    let lines: Vec<_> = (0..rows).map(|n| format!("p{n}@x.io,{} {n}", name(n))).collect();
    lab.write("data/people.csv", &format!("email,name\n{}\n", lines.join("\n")))
}

async fn keys(store: &Arc<dyn Store>) -> Result<Vec<String>> {
    Ok(store.list("").await?.into_iter().map(|stored| stored.key).collect())
}

pub(crate) fn lives() -> Result<()> {
    block(async {
        let (lab, store) = lab(20, None).await?;
        people(&lab, 2_000, 0)?;
        let start = lab.start("people", RunOptions::default())?;
        let life = lab.engines(&start, None).await?;
        let first = {
            let (engine, execution) = (life.signal.clone(), life.execute(&start));
            let stop = async {
                lab.portal.wait_for(20).await;
                engine.send_replace(Signal::Interrupt);
            };
            tokio::join!(execution, stop).0?.run
        };
        drop(life);
        ensure!(first.state == RunState::Interrupted && lab.portal.written() < 2_000, "{:?}", first.state);
        let kept = keys(&store).await?;
        ensure!(kept.len() == 1 && kept[0].starts_with("plans/"), "{kept:?}");

        let again = lab.run("people").await?.run;
        ensure!(again.id == first.id && again.tally.add.succeeded == 2_000, "{again:?}");
        ensure!(lab.portal.written() == 2_000, "{} records were written, 2,000 are due", lab.portal.written());
        let kept = keys(&store).await?;
        ensure!(kept.len() == 1 && kept[0].starts_with(&format!("snapshots/people/{}-", first.id)), "{kept:?}");

        people(&lab, 1_990, 30)?;
        let second = lab.run("people").await?.run;
        ensure!(second.tally.change.succeeded == 30 && second.tally.remove.succeeded == 10, "{:?}", second.tally);
        ensure!(lab.contacts("name").len() == 1_990);
        let kept = keys(&store).await?;
        ensure!(kept.len() == 1 && kept[0].starts_with(&format!("snapshots/people/{}-", second.id)), "{kept:?}");
        ensure!(!lab.path().join(".outflow/store").exists(), "something went into a directory");
        let left = std::fs::read_dir(lab.path().join(".outflow/tmp"))?.count();
        ensure!(left == 0, "{left} files are left of what was copied");
        Ok(())
    })
}

pub(crate) fn away() -> Result<()> {
    block(async {
        let link = Proxy::to(S3::shared()?.port).await?;
        let (lab, _) = lab(20, Some(link.port)).await?;
        people(&lab, 2_000, 0)?;
        let start = lab.start("people", RunOptions::default())?;
        let life = lab.engines(&start, None).await?;
        let weather = async {
            lab.portal.wait_for(20).await;
            link.set(Weather { broken: true, ..Weather::default() });
            tokio::time::sleep(Duration::from_secs(6)).await;
            let (written, run) = (lab.portal.written(), lab.newest("people").await?.id);
            let chunks = life.engine.ledger.chunks(&run).await?;
            let published: u32 = chunks.iter().filter(|chunk| chunk.attempt > 0).map(|chunk| chunk.rows).sum();
            let most = chunks.iter().map(|chunk| chunk.attempt).max();
            link.set(Weather::default());
            Ok::<_, anyhow::Error>((written, published, most))
        };
        let (ended, seen) = tokio::join!(life.execute(&start), weather);
        let (run, (written, published, most)) = (ended?.run, seen?);
        ensure!(written == u64::from(published), "{written} of {published} published records were written meanwhile");
        ensure!(most == Some(1), "a chunk was counted {most:?} times, and never left");
        ensure!(written < 2_000, "the bucket was not needed while it was away");
        ensure!(run.state == RunState::Succeeded && run.tally.add.succeeded == 2_000, "{run:?}");
        ensure!(lab.portal.written() == 2_000, "{} records were written, 2,000 are due", lab.portal.written());
        Ok(())
    })
}

pub(crate) fn away_at_first() -> Result<()> {
    block(async {
        let link = Proxy::to(S3::shared()?.port).await?;
        let (lab, _) = lab(0, Some(link.port)).await?;
        people(&lab, 200, 0)?;
        link.set(Weather { broken: true, ..Weather::default() });
        let start = lab.start("people", RunOptions::default())?;
        let life = lab.engines(&start, None).await?;
        let error = life.execute(&start).await.err();
        let away = matches!(&error, Some(EngineError::Port(error)) if error.trouble == Trouble::Unavailable);
        ensure!(away, "{error:?}");
        let run = lab.newest("people").await?;
        ensure!(run.state == RunState::Planning, "{run:?}");
        link.set(Weather::default());
        let again = life.execute(&start).await?.run;
        ensure!(again.id == run.id && again.state == RunState::Succeeded, "{again:?}");
        Ok(())
    })
}
