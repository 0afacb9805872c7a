//! Several processes, and services that are away.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Result, ensure};
use outflow_coordinator::EngineError;
use outflow_model::port::Trouble;
use outflow_model::port::ledger::RunOptions;
use outflow_model::run::RunState;
use outflow_simulators::Options;
use outflow_tests::{Fate, Lab, block};

/// Two coordinators, each with its worker: over shared queues a report goes to whichever takes it, and either worker
/// delivers for both.
pub(crate) fn two_coordinators() -> Result<()> {
    block(async {
        let lab = Lab::new(Options { latency: Duration::from_millis(5), ..Options::default() }).await?;
        lab.people("mode: upsert\ndelivery: { chunk_rows: 100 }", "  name: name\n")?;
        for (name, letter) in [("people", 'p'), ("others", 'o')] {
            let lines: Vec<_> = (0..2_000).map(|n| format!("{letter}{n}@x.io,Person {n}")).collect();
            lab.write(&format!("data/{name}.csv"), &format!("email,name\n{}\n", lines.join("\n")))?;
        }
        lab.write("models/others.yml", "source: files\nkey: email\nfiles: others.csv\n")?;
        let sync = std::fs::read_to_string(lab.path().join("syncs/people.yml"))?;
        lab.write("syncs/others.yml", &sync.replace("model: people", "model: others"))?;

        let starts = [lab.start("people", RunOptions::default())?, lab.start("others", RunOptions::default())?];
        let engines = [lab.engines(&starts[0], None).await?, lab.engines(&starts[1], None).await?];
        let (people, others) = tokio::join!(engines[0].execute(&starts[0]), engines[1].execute(&starts[1]));
        for run in [people?.run, others?.run] {
            ensure!(run.state == RunState::Succeeded && run.tally.add.succeeded == 2_000, "{run:?}");
            ensure!(run.requests == 20, "{} requests of {}", run.requests, run.sync);
        }
        ensure!(lab.contacts("name").len() == 4_000);
        ensure!(lab.portal.requests() == (40, 0), "{:?}", lab.portal.requests());
        Ok(())
    })
}

/// What processes that died have left of large messages goes when their run has ended, and not before.
pub(crate) fn messages_swept() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: upsert\ndelivery: { chunk_rows: 100 }", "  name: name\n")?;
        let lines: Vec<_> = (0..500).map(|n| format!("p{n}@x.io,Person {n}")).collect();
        lab.write("data/people.csv", &format!("email,name\n{}\n", lines.join("\n")))?;
        let start = lab.start("people", RunOptions::default())?;
        let engines = lab.engines(&start, None).await?;
        let ended = engines.execute(&start).await?.run.id;
        let store = &engines.engine.store;
        ensure!(store.list("messages").await?.is_empty(), "{:?}", store.list("messages").await?);
        let unended = engines.engine.request(&start).await?;
        let now = UNIX_EPOCH + Duration::from_micros(engines.engine.clock.now() as u64);
        let old = now - Duration::from_hours(25);
        let mut kept = Vec::new();
        for (run, written, stays) in [
            (ended.as_str(), old, false),
            ("run_00000000000000000ff", old, false),
            ("message-1", old, false),
            (ended.as_str(), now, true),
            (unended.as_str(), old, true),
        ] {
            let key = format!("messages/{run}.{}{stays}", kept.len());
            store.write(&key, "a body".into()).await?;
            std::fs::File::open(store.local(&key).await?.path)?.set_modified(written)?;
            if stays {
                kept.push(key);
            }
        }
        engines.engine.expire(30).await?;
        let left: Vec<_> = store.list("messages").await?.into_iter().map(|stored| stored.key).collect();
        kept.sort();
        ensure!(left == kept, "{left:?} instead of {kept:?}");
        Ok(())
    })
}

/// A ledger that is away again and again is waited for, whether what was written then is written or not.
pub(crate) fn ledger_away() -> Result<()> {
    block(async {
        for (every, after) in [(5, true), (4, false)] {
            let lab = Lab::new(Options::default()).await?;
            lab.people("mode: upsert\ndelivery: { chunk_rows: 100 }", "  name: name\n")?;
            let lines: Vec<_> = (0..2_000).map(|n| format!("p{n}@x.io,Person {n}")).collect();
            lab.write("data/people.csv", &format!("email,name\n{}\n", lines.join("\n")))?;
            let start = lab.start("people", RunOptions::default())?;
            let engines = lab.engines(&start, Some(Fate::lost_answers(every, after))).await?;
            // Planning and closing are begun anew; delivering waits.
            let ended = async {
                loop {
                    match engines.execute(&start).await {
                        Ok(finished) => break Ok(finished.run),
                        Err(EngineError::Port(error)) if error.trouble == Trouble::Unavailable => {}
                        Err(error) => break Err(error),
                    }
                }
            };
            let run = tokio::time::timeout(Duration::from_mins(1), ended).await??;
            ensure!(run.state == RunState::Succeeded, "{run:?}");
            ensure!(lab.contacts("name").len() == 2_000);
        }
        Ok(())
    })
}
