//! One random history: rows come, change and go; the destination fails in every way; the process dies anywhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use outflow_coordinator::Signal;
use outflow_model::port::ledger::{RunOptions, RunPatch};
use outflow_model::run::RunState;
use outflow_simulators::{Fault, Faults};
use outflow_tests::{Dice, Fate, Lab};

use crate::place::Place;

/// Rows by key: a value, or one that the destination refuses.
type Rows = BTreeMap<String, String>;

fn change(rows: &mut Rows, dice: &mut Dice) {
    for _ in 0..dice.roll(30) {
        let key = format!("k{}@x.io", dice.roll(40));
        match dice.roll(10) {
            0..2 => _ = rows.remove(&key),
            2 => _ = rows.insert(key, format!("refuse me {}", dice.roll(2))),
            // Few values: they go and come back.
            _ => _ = rows.insert(key, format!("v{}", dice.roll(3))),
        }
    }
}

fn faults(dice: &mut Dice, seed: u64) -> (Faults, bool) {
    let kinds = [Fault::ServerError, Fault::ResetBefore, Fault::ResetAfter, Fault::Stall(1_500), Fault::TooMany(0)];
    let mut rates = Vec::new();
    for kind in kinds {
        if dice.chance(40) {
            let most = if matches!(kind, Fault::Stall(_)) { 60 } else { 250 };
            rates.push((kind, dice.roll(most) as u32));
        }
    }
    let loses = rates.iter().any(|(kind, rate)| *rate > 0 && matches!(kind, Fault::ResetAfter | Fault::Stall(_)));
    (Faults { rates, seed, ..Faults::default() }, loses)
}

/// What a history tried.
#[derive(Default)]
pub(crate) struct Tried {
    /// Lives that ended half-way.
    pub(crate) deaths: u64,
    /// Turns in which no record may have been written twice.
    pub(crate) exact: u64,
}

/// Runs the history of `seed` on a destination.
pub(crate) async fn run<P: Place>(seed: u64) -> Result<Tried> {
    let mut dice = Dice::new(seed);
    let lab = P::lab(&mut dice).await?;
    let (mut rows, mut tried) = (Rows::new(), Tried::default());
    for turn in 0..3 + dice.roll(4) {
        change(&mut rows, &mut dice);
        write(&lab, &rows)?;
        let (faults, loses) = faults(&mut dice, seed ^ turn);
        lab.portal.set_faults(faults);
        // What the life before has sent is its own.
        lab.quiet().await;
        lab.portal.take_writes();
        let died = life(&lab, &mut dice).await.with_context(|| format!("turn {turn}"))?;
        tried.deaths += u64::from(died);
        if !died && !loses && !timed_out(&lab).await? {
            once_each(&lab).with_context(|| format!("turn {turn}, {} deaths before", tried.deaths))?;
            tried.exact += 1;
        }
    }
    lab.portal.calm();
    // The first run may only finish what an earlier life left, troubles and all; the second is the clean one.
    for clean in [false, true] {
        let left = lab.newest("people").await.ok().map(|run| run.state);
        let finished = lab.run("people").await?.run;
        ensure!(finished.state.is_end(), "a run stayed {:?}", finished.state);
        let deferred = finished.tally.total().deferred;
        ensure!(
            deferred == 0 || (!clean && left.is_some_and(|state| !state.is_end())),
            "{left:?} before, {:?}",
            finished.tally
        );
    }
    equal(&lab, &rows)?;
    Ok(tried)
}

fn write<P: Place>(lab: &Lab<P>, rows: &Rows) -> Result<()> {
    lab.rows(&rows.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect::<Vec<_>>())
}

/// One life of the process; true where it died.
async fn life<P: Place>(lab: &Lab<P>, dice: &mut Dice) -> Result<bool> {
    let start = lab.start("people", RunOptions::default())?;
    let death = dice.chance(50).then(|| Fate::at(dice.roll(24) as i64, dice.chance(50)));
    let engines = Arc::new(lab.engines(&start, death.clone()).await?);
    let trouble = (dice.roll(10), dice.roll(25));
    let before = lab.portal.written();
    let disturb = async {
        // After so many records have arrived, a user cancels or interrupts.
        lab.portal.wait_for(before + trouble.1).await;
        match trouble.0 {
            0 => {
                let (ledger, cancel) = (lab.ledger().await?, RunPatch { cancel: true, ..RunPatch::default() });
                // It may not be there yet, or have moved on meanwhile; then there is nothing to cancel.
                if let Some(run) = ledger.runs(Some("people"), 1).await?.pop() {
                    _ = ledger.patch(&run.id, run.state, cancel).await;
                }
            }
            1 => _ = engines.signal.send(Signal::Interrupt),
            _ => {}
        }
        std::future::pending::<Result<()>>().await
    };
    let dies = async {
        match &death {
            Some(death) => death.wait().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        finished = engines.execute(&start) => {
            let run = finished?.run;
            // An interrupt that comes while the run is planned leaves it to be planned again.
            let is_left = run.state == RunState::Interrupted || (trouble.0 == 1 && run.state == RunState::Planning);
            let stopped = run.state.is_end() || is_left;
            ensure!(stopped, "a run stayed {:?}", run.state);
            if run.state.is_end() {
                run.tally.closes().map_err(anyhow::Error::msg)?;
            }
            Ok(false)
        }
        () = dies => Ok(true),
        disturbed = disturb => disturbed.map(|()| false),
    }
}

/// True where an answer came too late by itself, as it may on a machine that is busy: nobody can know then what was done.
async fn timed_out<P: Place>(lab: &Lab<P>) -> Result<bool> {
    let ledger = lab.ledger().await?;
    for run in ledger.runs(Some("people"), 2).await? {
        for chunk in ledger.chunks(&run.id).await? {
            let late = |row| chunk.merged.refusal(row).is_some_and(|refusal| refusal.message.contains("timed out"));
            if (0..chunk.rows).any(late) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// No record was written twice in a run that neither died nor lost an answer.
fn once_each<P: Place>(lab: &Lab<P>) -> Result<()> {
    let mut seen = BTreeMap::new();
    lab.portal.take_writes().into_iter().for_each(|key| *seen.entry(key).or_insert(0) += 1);
    let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    ensure!(twice.is_empty(), "written more than once: {twice:?}");
    Ok(())
}

/// The destination equals the model, but for rows that it refuses: of these it has what it last accepted, or nothing.
fn equal<P: Place>(lab: &Lab<P>, rows: &Rows) -> Result<()> {
    let there = lab.portal.names();
    for (key, value) in rows.iter().filter(|(_, value)| !value.starts_with("refuse me")) {
        ensure!(there.get(key) == Some(value), "{key} should be {value}, is {:?}", there.get(key));
    }
    for key in there.keys() {
        ensure!(rows.contains_key(key), "{key} should have been removed");
    }
    Ok(())
}
