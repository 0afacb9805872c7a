//! What is lost or damaged never blocks a sync: its run ends, and the next one plans every row.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use outflow_coordinator::Decision;
use outflow_model::id::AttemptId;
use outflow_model::outcome::Status;
use outflow_model::port::ledger::{Run, RunOptions, RunPatch};
use outflow_model::run::RunState;
use outflow_model::wire::{Next, ReportV1};
use outflow_simulators::{Fault, Faults, Options};
use outflow_tests::{Fate, Lab, block};

use crate::delivery::interrupt;

const NAME: &str = "  name: name\n";
const GUARDED: &str = "mode: mirror\nguard: { max_changes: 0 }";
const ROWS: [(&str, &str); 4] = [("a@x.io", "A"), ("b@x.io", "B"), ("c@x.io", "C"), ("d@x.io", "D")];

/// What befalls a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Gone,
    Cut,
    Flipped,
}

const DAMAGES: [Damage; 3] = [Damage::Gone, Damage::Cut, Damage::Flipped];

impl Damage {
    fn befall(self, path: &Path) -> Result<()> {
        let mut bytes = fs::read(path)?;
        match self {
            Self::Gone => return Ok(fs::remove_file(path)?),
            Self::Cut => bytes.truncate(bytes.len() / 2),
            Self::Flipped => {
                let middle = bytes.len() / 2;
                *bytes.get_mut(middle).context("a byte")? ^= 0x10;
            }
        }
        Ok(fs::write(path, bytes)?)
    }
}

fn object(lab: &Lab, key: Option<&str>) -> Result<PathBuf> {
    Ok(lab.path().join(".outflow/store").join(key.context("a key")?))
}

async fn newest_base(lab: &Lab) -> Result<PathBuf> {
    object(lab, lab.ledger().await?.snapshot("people").await?.as_deref())
}

async fn is_due(lab: &Lab) -> Result<bool> {
    Ok(lab.ledger().await?.is_resend_due("people").await?)
}

/// The next run sends every row, and the one after it none.
async fn recovers(lab: &Lab, rows: u64) -> Result<()> {
    ensure!(is_due(lab).await?, "nothing tells the next run to plan every row");
    let run = lab.run("people").await?.run;
    ensure!((run.state, run.tally.total().succeeded) == (RunState::Succeeded, rows), "{run:?}");
    ensure!(!is_due(lab).await?, "it has planned every row");
    let run = lab.run("people").await?.run;
    ensure!((run.tally.unchanged, run.requests) == (rows, 0), "{:?}", run.tally);
    Ok(())
}

/// The plan of a run that has sent some of it is lost: the run ends with what the ledger has.
pub(crate) fn plan() -> Result<()> {
    block(async {
        for damage in DAMAGES {
            let lab = Lab::new(Options::default()).await?;
            let run = interrupt(&lab).await?;
            damage.befall(&object(&lab, run.plan.as_deref())?)?;
            let ended = lab.run("people").await?.run;
            ensure!(ended.id == run.id && ended.state == RunState::Failed, "{damage:?}: {ended:?}");
            ensure!(ended.tally.closes().is_ok() && ended.tally.add.succeeded >= 20, "{damage:?}: {:?}", ended.tally);
            ensure!(ended.reason.as_deref().is_some_and(|reason| reason.contains("plan")), "{:?}", ended.reason);
            // Where it is damaged in part, what was sent may be known all the same.
            if let Damage::Gone = damage {
                recovers(&lab, 200).await?;
            } else {
                lab.run("people").await?;
                ensure!(lab.contacts("name").len() == 200 && !is_due(&lab).await?, "{damage:?}");
            }
        }
        Ok(())
    })
}

/// It is cancelled, or its sync is forgotten, in place of being run again.
pub(crate) fn plan_then_cancel() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        let run = interrupt(&lab).await?;
        Damage::Gone.befall(&object(&lab, run.plan.as_deref())?)?;
        let start = lab.start("people", RunOptions::default())?;
        let engines = lab.engines(&start, None).await?;
        let ended = if lab.is_distributed() {
            outflow_coordinator::withdraw(engines.engine.ledger.as_ref(), &run.id, engines.engine.clock.as_ref())
                .await?;
            engines.execute(&start).await?.run
        } else {
            engines.engine.cancel(&run.id, &start).await?.run
        };
        ensure!(ended.state == RunState::Failed && is_due(&lab).await?, "{ended:?}");
        engines.engine.unknown("people", None, Some(Decision::Sent)).await?;
        engines.engine.forget("people").await?;
        ensure!(!is_due(&lab).await?, "forgetting what was acknowledged is a full resend by itself");
        let run = engines.execute(&start).await?.run;
        ensure!((run.state, run.tally.add.succeeded) == (RunState::Succeeded, 200), "{run:?}");
        Ok(())
    })
}

/// Of a plan that was held nothing was sent: nothing is to be sent again.
pub(crate) fn held_plan() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: mirror\nguard: { max_first_run_rows: 1 }", NAME)?;
        lab.rows(&ROWS)?;
        let held = lab.run("people").await?.run;
        ensure!(held.state == RunState::Held, "{held:?}");
        Damage::Flipped.befall(&object(&lab, held.plan.as_deref())?)?;
        let start = lab.start("people", RunOptions::default())?;
        let engines = lab.engines(&start, None).await?;
        let ended = engines.engine.approve(&held.id, &start, engines.signal.subscribe()).await?.run;
        ensure!(ended.state == RunState::Failed && ended.tally.add.aborted == 4, "{ended:?}");
        ensure!(!is_due(&lab).await? && ended.requests == 0, "{ended:?}");
        Ok(())
    })
}

/// The base is lost between two runs, or is found damaged in its middle.
pub(crate) fn base() -> Result<()> {
    block(async {
        for damage in DAMAGES {
            let lab = Lab::new(Options::default()).await?;
            lab.people("mode: mirror", NAME)?;
            lab.rows(&ROWS)?;
            lab.run("people").await?;
            damage.befall(&newest_base(&lab).await?)?;
            let start = lab.start("people", RunOptions::default())?;
            let engines = lab.engines(&start, None).await?;
            let error = engines.execute(&start).await.err().context("the base is damaged")?.to_string();
            ensure!(error.contains("The next run plans every row"), "{damage:?}: {error}");
            ensure!(lab.newest("people").await?.state == RunState::Failed);
            ensure!(engines.engine.unknown("people", None, Some(Decision::Sent)).await?.is_empty());
            recovers(&lab, 4).await?;
        }
        Ok(())
    })
}

/// The base is lost while the run that stands on it is delivered.
pub(crate) fn base_while_folding() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: mirror", NAME)?;
        lab.rows(&ROWS)?;
        lab.run("people").await?;
        lab.rows(&[("a@x.io", "A2"), ("b@x.io", "B"), ("c@x.io", "C"), ("d@x.io", "D")])?;
        let start = lab.start("people", RunOptions::default())?;
        // Somewhere after its plan and before its end.
        let fate = Fate::at(7, true);
        let engines = lab.engines(&start, Some(fate.clone())).await?;
        tokio::select! {
            run = engines.execute(&start) => anyhow::bail!("it ended before: {run:?}"),
            () = fate.wait() => {}
        }
        drop(engines);
        lab.quiet().await;
        Damage::Cut.befall(&newest_base(&lab).await?)?;
        let ended = lab.run("people").await?.run;
        ensure!(ended.state == RunState::Failed && ended.tally.closes().is_ok(), "{ended:?}");
        ensure!(ended.tally.change.succeeded == 1, "{:?}", ended.tally);
        recovers(&lab, 4).await
    })
}

/// What may not be sent twice waits for a person, since what was sent is not known.
pub(crate) fn creates() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: create\ndelivery: { chunk_rows: 1 }", NAME)?;
        lab.rows(&ROWS)?;
        lab.portal.set_faults(Faults { script: [Fault::ResetAfter].into(), ..Faults::default() });
        lab.run("people").await?;
        Damage::Gone.befall(&newest_base(&lab).await?)?;
        ensure!(lab.run("people").await.is_err());
        let held: Run = lab.run("people").await?.run;
        ensure!(held.state == RunState::Held && held.tally.add.planned == 4, "{held:?}");
        ensure!(held.reason.as_deref().is_some_and(|reason| reason.contains("twice")), "{:?}", held.reason);
        let again = lab.run("people").await?.run;
        ensure!(again.state == RunState::Held && again.id != held.id, "a newer plan is held in its place: {again:?}");
        ensure!(lab.portal.written() == 4, "{} creates", lab.portal.written());
        Ok(())
    })
}

/// A ledger that is new beside a store that is not: what was sent is not known, until a plan is approved or nothing is sent twice.
pub(crate) fn ledger() -> Result<()> {
    block(async {
        for (mode, may_repeat) in [("create", false), ("upsert", true)] {
            let lab = Lab::new(Options::default()).await?;
            lab.people(&format!("mode: {mode}"), NAME)?;
            lab.rows(&ROWS)?;
            lab.run("people").await?;
            lab.lose_ledger().await?;
            for again in 0..2 {
                let run = lab.run("people").await?.run;
                let expected = if may_repeat { RunState::Succeeded } else { RunState::Held };
                ensure!(run.state == expected, "{mode}, {again}: {run:?}");
            }
            let written = if may_repeat { 8 } else { 4 };
            ensure!(lab.portal.written() == written, "{mode}: {} were written", lab.portal.written());
            if may_repeat {
                continue;
            }
            // What is forgotten on purpose is sent again, by a ledger that has sent it and by one that has not.
            let held = lab.newest("people").await?;
            let start = lab.start("people", RunOptions::default())?;
            let engines = lab.engines(&start, None).await?;
            engines.engine.approve(&held.id, &start, engines.signal.subscribe()).await?;
            for is_new in [false, true] {
                if is_new {
                    lab.lose_ledger().await?;
                }
                let engines = lab.engines(&start, None).await?;
                engines.engine.forget("people").await?;
                drop(engines);
                let run = lab.run("people").await?.run;
                ensure!(run.state != RunState::Held && run.tally.add.planned == 4, "{is_new}: {run:?}");
            }
        }
        Ok(())
    })
}

/// A member that the lost run may have taken from its list is in the model again.
pub(crate) fn members() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: members\nidentity: [email]\nguard: { max_removes: 0 }", NAME)?;
        lab.write(
            "outflow.yml",
            "version: 1\nsources:\n  files: { type: files, path: data }\ndestinations:\n  crm: { type: blackhole }\n",
        )?;
        lab.rows(&ROWS)?;
        lab.run("people").await?;
        lab.rows(&[("a@x.io", "A"), ("b@x.io", "B"), ("c@x.io", "C")])?;
        let held = lab.run("people").await?.run;
        let start = lab.start("people", RunOptions::default())?;
        // As if it had been delivered by a process that died.
        lab.ledger().await?.published(&held.id, &[0]).await?;
        let delivering = RunPatch { state: Some(RunState::Delivering), ..RunPatch::default() };
        lab.ledger().await?.patch(&held.id, RunState::Held, delivering).await?;
        Damage::Gone.befall(&object(&lab, held.plan.as_deref())?)?;
        let ended = lab.engines(&start, None).await?.execute(&start).await?.run;
        ensure!(ended.state == RunState::Failed && is_due(&lab).await?, "{ended:?}");
        lab.rows(&ROWS)?;
        let run = lab.run("people").await?.run;
        ensure!((run.tally.add.succeeded, run.tally.ignored) == (4, 0), "{:?}", run.tally);
        ensure!(!is_due(&lab).await?, "every row was sent");
        Ok(())
    })
}

/// A lab that has sent the four rows, and of which nobody knows what it has sent since: a full resend is due.
async fn bereft() -> Result<Lab> {
    let lab = Lab::new(Options::default()).await?;
    lab.people(GUARDED, NAME)?;
    lab.rows(&ROWS)?;
    lab.run("people").await?;
    lab.rows(&[("a@x.io", "A2"), ("b@x.io", "B"), ("c@x.io", "C"), ("d@x.io", "D")])?;
    let held = lab.run("people").await?.run;
    // As if it had been delivered by a process that died.
    lab.ledger().await?.published(&held.id, &[0]).await?;
    let delivering = RunPatch { state: Some(RunState::Delivering), ..RunPatch::default() };
    lab.ledger().await?.patch(&held.id, RunState::Held, delivering).await?;
    Damage::Gone.befall(&object(&lab, held.plan.as_deref())?)?;
    let ended = lab.run("people").await?.run;
    ensure!(ended.state == RunState::Failed && is_due(&lab).await?, "{ended:?}");
    Ok(lab)
}

/// A row that only a held plan had, and that leaves the model again: Outflow never sent it, and does not remove it.
pub(crate) fn never_sent() -> Result<()> {
    block(async {
        let lab = bereft().await?;
        let [a, b, c, d] = ROWS;
        lab.rows(&[a, b, c, d, ("e@x.io", "E")])?;
        let held = lab.run("people").await?.run;
        ensure!((held.state, held.tally.add.planned) == (RunState::Held, 1), "{held:?}");
        let base = newest_base(&lab).await?;
        let start = lab.start("people", RunOptions::default())?;
        lab.engines(&start, None).await?.engine.cancel(&held.id, &start).await?;
        ensure!(newest_base(&lab).await? == base && base.exists() && is_due(&lab).await?, "nothing was sent");
        lab.people("mode: mirror", NAME)?;
        lab.rows(&ROWS)?;
        let run = lab.run("people").await?.run;
        ensure!((run.tally.remove.planned, run.tally.change.succeeded) == (0, 4), "{:?}", run.tally);
        ensure!(!is_due(&lab).await?, "every row was sent");
        Ok(())
    })
}

/// A plan that is held in place of one that was held stands on the same base.
pub(crate) fn held_twice() -> Result<()> {
    block(async {
        let lab = bereft().await?;
        let [first, second] = [lab.run("people").await?.run, lab.run("people").await?.run];
        ensure!(first.id != second.id && second.state == RunState::Held, "{second:?}");
        let start = lab.start("people", RunOptions::default())?;
        let engines = lab.engines(&start, None).await?;
        let approved = engines.engine.approve(&second.id, &start, engines.signal.subscribe()).await?.run;
        ensure!(approved.id == second.id && approved.state == RunState::Succeeded, "{approved:?}");
        ensure!(approved.tally.change.succeeded == 4 && !is_due(&lab).await?, "{approved:?}");
        let run = engines.execute(&start).await?.run;
        ensure!((run.tally.unchanged, run.requests) == (4, 0), "{:?}", run.tally);
        Ok(())
    })
}

/// A full resend that is cancelled half-way stays due.
pub(crate) fn half_way() -> Result<()> {
    block(async {
        let lab = bereft().await?;
        lab.people(&format!("{GUARDED}\ndelivery: {{ chunk_rows: 1 }}"), NAME)?;
        let held = lab.run("people").await?.run;
        // As if it had been cancelled when the first chunk had arrived.
        let ledger = lab.ledger().await?;
        ledger.published(&held.id, &[0]).await?;
        let first = AttemptId { run: held.id.clone(), chunk: 0, attempt: 1 };
        let report = ReportV1::empty(first, 1, Next::Done);
        ledger.settle(&[ReportV1 { statuses: vec![Status::Succeeded as u8], ..report }], 0).await?;
        let cancelled = RunPatch { state: Some(RunState::Delivering), cancel: true, ..RunPatch::default() };
        ledger.patch(&held.id, RunState::Held, cancelled).await?;
        let ended = lab.run("people").await?.run;
        ensure!(ended.id == held.id && ended.state == RunState::Cancelled, "{ended:?}");
        ensure!((ended.tally.change.succeeded, ended.tally.change.aborted) == (1, 3), "{:?}", ended.tally);
        lab.people("mode: mirror", NAME)?;
        recovers(&lab, 4).await
    })
}

/// Where a held plan is approved whose base is lost, nothing tells which rows are in the model again.
pub(crate) fn approved() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: mirror", NAME)?;
        lab.rows(&ROWS)?;
        lab.run("people").await?;
        lab.rows(&[])?;
        let held = lab.run("people").await?.run;
        ensure!(held.state == RunState::Held, "{held:?}");
        Damage::Gone.befall(&newest_base(&lab).await?)?;
        let start = lab.start("people", RunOptions::default())?;
        let engines = lab.engines(&start, None).await?;
        let ended = engines.engine.approve(&held.id, &start, engines.signal.subscribe()).await?.run;
        ensure!(ended.state == RunState::Failed && ended.tally.remove.aborted == 4, "{ended:?}");
        ensure!(ended.reason.as_deref().is_some_and(|reason| reason.ends_with("plans every row")), "{ended:?}");
        lab.rows(&ROWS)?;
        recovers(&lab, 4).await
    })
}

/// Until the ledger points to the new snapshot the old one is the only one.
pub(crate) fn old_snapshot() -> Result<()> {
    block(async {
        for after in [false, true] {
            let lab = Lab::new(Options::default()).await?;
            lab.people("mode: mirror", NAME)?;
            for at in 0.. {
                lab.rows(&[("a@x.io", &format!("A{at}{after}"))])?;
                let start = lab.start("people", RunOptions::default())?;
                let fate = Fate::at(at, after);
                let engines = lab.engines(&start, Some(fate.clone())).await?;
                let ended = tokio::select! {
                    run = engines.execute(&start) => { run?; true }
                    () = fate.wait() => false,
                };
                if let Some(key) = lab.ledger().await?.snapshot("people").await? {
                    ensure!(object(&lab, Some(&key))?.exists(), "it died at {at}, and the snapshot is gone");
                }
                if ended {
                    break;
                }
                drop(engines);
                lab.quiet().await;
                lab.run("people").await?;
            }
        }
        Ok(())
    })
}
