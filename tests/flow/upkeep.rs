//! What is forgotten as it grows old, and what never is.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use outflow_coordinator::{Decision, Engine};
use outflow_model::port::ledger::RunOptions;
use outflow_model::run::RunState;
use outflow_simulators::{Fault, Faults, Options};
use outflow_tests::{Lab, StuckStore, block};

const NAME: &str = "  name: name\n";
/// In hours.
const MONTH: u64 = 31 * 24;

/// Has an object be so many hours old.
async fn age(engine: &Engine, key: &str, hours: u64) -> Result<()> {
    let now = UNIX_EPOCH + Duration::from_micros(engine.clock.now() as u64);
    let path = engine.store.local(key).await?.path;
    Ok(std::fs::File::open(path)?.set_modified(now - Duration::from_hours(hours))?)
}

async fn keys(engine: &Engine) -> Result<Vec<String>> {
    Ok(engine.store.list("").await?.into_iter().map(|stored| stored.key).collect())
}

/// What processes that died have left goes when it is old, and a run that ended goes with its plan. The snapshot that
/// the next run stands on stays, and so does the run that made it.
pub(crate) fn swept() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: mirror", NAME)?;
        lab.rows(&[("a@x.io", "A"), ("b@x.io", "B"), ("c@x.io", "C")])?;
        let first = lab.run("people").await?.run;
        lab.rows(&[("a@x.io", "A"), ("b@x.io", "B2"), ("c@x.io", "C")])?;
        let second = lab.run("people").await?.run;
        let start = lab.start("people", RunOptions::default())?;
        let engines = lab.engines(&start, None).await?;
        let engine = &engines.engine;

        // Keys, hours, and how many of the two sweeps they outlive. The plan of a forgotten run goes at any age.
        let mut laid = vec![(first.plan.context("a plan")?, 0, 1)];
        for (hours, outlives) in [(MONTH, 0), (25, 1), (0, 2)] {
            let left = [
                format!("plans/{}-{hours:016x}.plan", second.id),
                format!("snapshots/people/{}-{hours:016x}.snapshot", first.id),
                format!("snapshots/people/{}-{hours:016x}-rebased.snapshot", second.id),
                format!("snapshots/people/decided-{hours:016x}.snapshot"),
                format!("snapshots/people/.{hours}.part"),
                format!("snapshots/nobody/{}-{hours:016x}.snapshot", second.id),
            ];
            laid.extend(left.map(|key| (key, hours, outlives)));
        }
        for (key, ..) in &laid {
            engine.store.write(key, "left".into()).await?;
        }
        laid.push((engine.ledger.snapshot("people").await?.context("a snapshot")?, MONTH, 2));
        for (key, hours, _) in &laid {
            age(engine, key, *hours).await?;
        }

        let runs = [second.id, first.id];
        for (sweeps, days, known) in [(1, 30, 2), (2, 0, 1)] {
            engine.expire(days).await?;
            let stay = laid.iter().filter(|(_, _, outlives)| *outlives >= sweeps);
            let mut kept: Vec<_> = stay.map(|(key, ..)| key.clone()).collect();
            kept.sort();
            let left = keys(engine).await?;
            ensure!(left == kept, "for {days} days {left:?} were kept instead of {kept:?}");
            let left: Vec<_> = engine.ledger.runs(Some("people"), 9).await?.into_iter().map(|run| run.id).collect();
            ensure!(left == runs[..known], "for {days} days {left:?} were kept of {runs:?}");
        }
        let run = engines.execute(&start).await?.run;
        ensure!(run.tally.unchanged == 3 && run.requests == 0, "what was acknowledged is forgotten: {:?}", run.tally);
        Ok(())
    })
}

/// The store blinks when all is decided.
pub(crate) fn undeleted() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: create", NAME)?;
        lab.rows(&[("a@x.io", "A")])?;
        lab.portal.set_faults(Faults { script: [Fault::ResetAfter].into(), ..Faults::default() });
        lab.run("people").await?;
        let start = lab.start("people", RunOptions::default())?;
        let engines = lab.engines(&start, None).await?;
        let store = Arc::new(StuckStore(engines.engine.store.clone()));
        let engine = Engine { store, ..engines.engine.as_ref().clone() };
        let decided = engine.unknown("people", None, Some(Decision::Sent)).await?;
        ensure!(decided == ["a@x.io"], "{decided:?}");
        let run = engine.execute(&start, engines.signal.subscribe()).await?.run;
        ensure!((run.state, run.tally.unchanged) == (RunState::Succeeded, 1), "{run:?}");
        Ok(())
    })
}

/// A run that waits goes on with its plan, and with a base that nothing else points to, however old they are.
pub(crate) fn held() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        let only_new = "mode: mirror\non_mapping_change: only_new";
        lab.people(only_new, NAME)?;
        lab.rows(&[("a@x.io", "A"), ("b@x.io", "B"), ("c@x.io", "C"), ("d@x.io", "D")])?;
        lab.run("people").await?;
        // Under another mapping the base is made anew; the sync points to the old one until the run has ended.
        lab.people(only_new, "  name: { template: \"Dr. {{ name }}\" }\n")?;
        lab.rows(&[("a@x.io", "A"), ("b@x.io", "B")])?;
        let start = lab.start("people", RunOptions::default())?;
        let engines = lab.engines(&start, None).await?;
        let engine = &engines.engine;
        let run = engines.execute(&start).await?.run;
        ensure!(run.state == RunState::Held, "{run:?}");

        let pointed = engine.ledger.snapshot("people").await?;
        let mut needed: Vec<_> = [run.plan, run.base, pointed].into_iter().flatten().collect();
        needed.sort();
        // An earlier planning of the very run was cut short.
        let cut_short = format!("plans/{}-0.plan", run.id);
        engine.store.write(&cut_short, "left".into()).await?;
        for key in needed.iter().chain([&cut_short]) {
            age(engine, key, MONTH).await?;
        }
        engine.expire(0).await?;
        let left = keys(engine).await?;
        ensure!(needed.len() == 3 && left == needed, "{left:?} instead of {needed:?}");

        let approved = engine.approve(&run.id, &start, engines.signal.subscribe()).await?.run;
        ensure!(approved.state == RunState::Succeeded && approved.tally.remove.succeeded == 2, "{approved:?}");
        let next = engines.execute(&start).await?.run;
        ensure!(next.tally.unchanged == 2 && next.requests == 0, "{:?}", next.tally);
        Ok(())
    })
}
