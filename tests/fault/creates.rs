//! Requests that cannot be repeated: whatever dies, none is sent twice.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use outflow_model::port::ledger::RunOptions;
use outflow_simulators::{Fault, Faults};
use outflow_tests::Fate;

use crate::place::Place;

/// The process dies at each of its first writing operations, before and after it is written; then it is started again,
/// or the run is cancelled first.
pub(crate) fn every_death<P: Place>() -> Result<()> {
    let mut cut = 0;
    for at in 0..16 {
        for (after, cancel) in [(false, false), (true, false), (true, true)] {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            let died = runtime.block_on(one::<P>(at, after, cancel));
            let place = format!("dying at operation {at}, after: {after}, cancel: {cancel}");
            cut += u32::from(died.context(place)?);
            runtime.shutdown_background();
        }
    }
    ensure!(cut > 20, "only {cut} lives were cut short");
    Ok(())
}

async fn one<P: Place>(at: i64, after: bool, cancel: bool) -> Result<bool> {
    let lab = P::creating().await?;
    let emails: Vec<String> = (0..10).map(|n| format!("p{n}@x.io")).collect();
    lab.rows(&emails.iter().map(|email| (email.as_str(), "P")).collect::<Vec<_>>())?;
    // A gateway's error after the write was carried out, and a plain refusal before.
    lab.portal.set_faults(Faults {
        script: [Fault::None, Fault::ResetAfter, Fault::ServerError].into(),
        ..Faults::default()
    });
    let start = lab.start("people", RunOptions::default())?;
    let death = Fate::at(at, after);
    let engines = Arc::new(lab.engines(&start, Some(death.clone())).await?);
    let died = tokio::select! {
        finished = engines.execute(&start) => {
            ensure!(finished?.run.tally.add.skipped == 0, "sent twice within one life");
            false
        }
        () = death.wait() => true,
    };
    drop(engines);
    lab.portal.calm();
    if cancel && died {
        let run = lab.newest("people").await;
        if let Ok(run) = run
            && !run.state.is_end()
        {
            let engines = lab.engines(&start, None).await?;
            engines.engine.cancel(&run.id, &start).await?;
        }
    }
    let mut unknown = 0;
    for _ in 0..2 {
        let run = lab.run("people").await?.run;
        // The portal answers a second create of one record with a conflict, which the mode skips.
        ensure!(run.tally.add.skipped == 0, "sent twice: {:?}", run.tally);
        unknown = run.tally.withheld;
    }
    let there = lab.portal.names().len() as u64;
    ensure!(there + unknown >= 10, "{there} records are there and {unknown} undecided, of 10");
    Ok(died)
}
