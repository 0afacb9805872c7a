//! Plans that must not be delivered as they are.

use anyhow::{Context, Result, bail, ensure};
use outflow_coordinator::Signal;
use outflow_model::port::ledger::{Run, RunOptions, RunPatch};
use outflow_model::run::RunState;
use outflow_simulators::Options;
use outflow_tests::{Fate, Lab, block};

const MIRROR: &str = "mode: mirror";
const NAME: &str = "  name: name\n";
const ROWS: [(&str, &str); 4] = [("a@x.io", "A"), ("b@x.io", "B"), ("c@x.io", "C"), ("d@x.io", "D")];

/// A lab that has sent the four rows.
async fn sent(settings: &str) -> Result<Lab> {
    let lab = Lab::new(Options::default()).await?;
    lab.people(settings, NAME)?;
    lab.rows(&ROWS)?;
    let run = lab.run("people").await?.run;
    ensure!(run.tally.add.succeeded == 4, "{run:?}");
    Ok(lab)
}

/// A lab whose plan to remove the four rows is held.
async fn held() -> Result<(Lab, Run)> {
    let lab = sent(MIRROR).await?;
    lab.rows(&[])?;
    let held = lab.run("people").await?.run;
    Ok((lab, held))
}

/// What was written says nothing of what was deleted.
pub(crate) fn family() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: upsert\nidentity: [email]", NAME)?;
        lab.write(
            "outflow.yml",
            "version: 1\nsources:\n  files: { type: files, path: data }\ndestinations:\n  crm: { type: blackhole }\n",
        )?;
        lab.rows(&ROWS)?;
        lab.run("people").await?;
        for mode in ["delete", "append", "members"] {
            let sync = format!(
                "model: people\ndestination: crm\nobject: contacts\nmode: {mode}\nidentity: [email]\nmapping:\n  email: email\n{NAME}"
            );
            lab.write("syncs/people.yml", &sync)?;
            let error = lab.run("people").await.err().context("another family")?.to_string();
            ensure!(error.contains("another family of operations (write, now "), "{error}");
            ensure!(error.contains("outflow state reset people"), "{error}");
        }
        Ok(())
    })
}

/// Under another mapping, with known rows left as they are: a held plan that is cancelled leaves the old mapping's knowledge.
pub(crate) fn untouched() -> Result<()> {
    block(async {
        let settings = "mode: mirror\non_mapping_change: only_new";
        let lab = sent(settings).await?;
        lab.people(settings, "  name: { template: \"Dr. {{ name }}\" }\n")?;
        lab.rows(&[("a@x.io", "A2"), ("b@x.io", "B")])?;
        let held = lab.run("people").await?.run;
        ensure!(held.state == RunState::Held, "{held:?}");
        let start = lab.start("people", RunOptions::default())?;
        let engines = lab.engines(&start, None).await?;
        engines.engine.cancel(&held.id, &start).await?;
        let kept = engines.engine.store.list("snapshots").await?;
        ensure!(kept.len() == 1, "the copy under the new mapping is not kept: {kept:?}");
        lab.people(settings, NAME)?;
        lab.rows(&[("a@x.io", "A2"), ("b@x.io", "B"), ("c@x.io", "C"), ("d@x.io", "D")])?;
        let run = lab.run("people").await?.run;
        ensure!((run.tally.change.succeeded, run.tally.unchanged) == (1, 3), "{:?}", run.tally);
        Ok(())
    })
}

/// The rows were gone for a while.
pub(crate) fn replaced() -> Result<()> {
    block(async {
        let lab = sent(MIRROR).await?;
        lab.rows(&[])?;
        let first = lab.run("people").await?.run;
        lab.rows(&[("a@x.io", "A")])?;
        let second = lab.run("people").await?.run;
        ensure!(
            second.state == RunState::Held && second.tally.remove.planned == 3,
            "the newer plan is held: {second:?}"
        );
        let old = lab.ledger().await?.run(&first.id).await?.context("it is kept")?;
        ensure!(old.state == RunState::Cancelled && old.tally.remove.aborted == 4, "{old:?}");
        lab.rows(&[("a@x.io", "A2"), ("b@x.io", "B"), ("c@x.io", "C"), ("d@x.io", "D")])?;
        let third = lab.run("people").await?.run;
        ensure!(third.state == RunState::Succeeded && third.tally.change.succeeded == 1, "{third:?}");
        ensure!(lab.contacts("name").len() == 4);
        Ok(())
    })
}

/// The newer plan cannot be made, or its guard refuses it.
pub(crate) fn kept() -> Result<()> {
    block(async {
        let (lab, held) = held().await?;
        let state = async |run: &Run| anyhow::Ok(lab.ledger().await?.run(&run.id).await?.map(|run| run.state));
        std::fs::remove_file(lab.path().join("data/people.csv"))?;
        ensure!(lab.run("people").await.is_err(), "there is nothing to read");
        ensure!(state(&held).await? == Some(RunState::Held), "the held plan waits on");
        let newest = lab.newest("people").await?;
        ensure!(newest.id != held.id && newest.state == RunState::Failed, "{newest:?}");
        lab.rows(&[])?;
        lab.people("mode: mirror\nguard: { on_breach: fail }", NAME)?;
        let failed = lab.run("people").await?.run;
        ensure!(failed.id != held.id && failed.state == RunState::Failed, "{failed:?}");
        ensure!(state(&held).await? == Some(RunState::Held), "the held plan waits on");
        let start = lab.start("people", RunOptions::default())?;
        let engines = lab.engines(&start, None).await?;
        let approved = engines.engine.approve(&held.id, &start, engines.signal.subscribe()).await?.run;
        ensure!(approved.id == held.id && approved.tally.remove.succeeded == 4, "{approved:?}");
        Ok(())
    })
}

pub(crate) fn samples() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        let name = "  name: { column: name, sensitive: true }\n";
        lab.people("mode: mirror\nguard: { max_first_run_rows: 1 }", name)?;
        lab.rows(&ROWS)?;
        let held = lab.run("people").await?.run;
        ensure!(held.state == RunState::Held && held.planned.is_some(), "{held:?}");
        ensure!(held.samples.len() == 4 && held.samples.iter().any(|sample| sample.key == "a@x.io"), "{held:?}");
        let values: Vec<_> = held.samples.iter().flat_map(|sample| &sample.fields).collect();
        ensure!(values.iter().all(|(field, value)| (field == "name") == (value == "***")), "{values:?}");
        Ok(())
    })
}

/// Approved by a person who does not know that the rows are back.
pub(crate) fn returned() -> Result<()> {
    block(async {
        let (lab, held) = held().await?;
        lab.rows(&ROWS)?;
        let start = lab.start("people", RunOptions::default())?;
        let engines = lab.engines(&start, None).await?;
        let approved = engines.engine.approve(&held.id, &start, engines.signal.subscribe()).await?.run;
        ensure!(approved.id != held.id && approved.state == RunState::Succeeded, "{approved:?}");
        ensure!(approved.tally.unchanged == 4 && lab.contacts("name").len() == 4, "{approved:?}");
        // Where they stay away the very plan is delivered, though more have gone since.
        lab.rows(&[("a@x.io", "A"), ("b@x.io", "B")])?;
        let held = lab.run("people").await?.run;
        lab.rows(&[("a@x.io", "A")])?;
        let approved = engines.engine.approve(&held.id, &start, engines.signal.subscribe()).await?.run;
        ensure!(approved.id == held.id && approved.tally.remove.succeeded == 2, "{approved:?}");
        Ok(())
    })
}

/// Left while the model is read again.
pub(crate) fn left() -> Result<()> {
    block(async {
        let (lab, held) = held().await?;
        let start = lab.start("people", RunOptions::default())?;
        let engines = lab.engines(&start, None).await?;
        for _ in 0..4 {
            engines.signal.send_replace(Signal::Interrupt);
            let left = engines.engine.approve(&held.id, &start, engines.signal.subscribe()).await?.run;
            ensure!(left.state == RunState::Held && left.plannings == 0, "{left:?}");
            ensure!(lab.contacts("name").len() == 4, "nothing is removed");
        }
        engines.signal.send_replace(Signal::Run);
        let run = engines.engine.approve(&held.id, &start, engines.signal.subscribe()).await?.run;
        ensure!(run.id == held.id && run.tally.remove.succeeded == 4, "{run:?}");
        Ok(())
    })
}

pub(crate) fn too_old() -> Result<()> {
    block(async {
        let (lab, held) = held().await?;
        let start = lab.start("people", RunOptions::default())?;
        let engines = lab.engines(&start, None).await?;
        let planned = held.planned.map(|planned| planned - 25 * 3_600_000_000);
        engines.engine.ledger.patch(&held.id, RunState::Held, RunPatch { planned, ..RunPatch::default() }).await?;
        let approved = engines.engine.approve(&held.id, &start, engines.signal.subscribe()).await?.run;
        ensure!(approved.state == RunState::Cancelled && approved.tally.remove.aborted == 4, "{approved:?}");
        ensure!(lab.contacts("name").len() == 4);
        Ok(())
    })
}

pub(crate) fn tolerated() -> Result<()> {
    block(async {
        for (guard, state) in [
            ("guard: { max_invalid: 1 }", RunState::Succeeded),
            ("guard: { max_invalid: 25% }", RunState::Succeeded),
            ("guard: { max_invalid: 24% }", RunState::Partial),
            ("guard: { max_invalid: 0 }", RunState::Partial),
        ] {
            let lab = Lab::new(Options::default()).await?;
            lab.people(&format!("mode: upsert\n{guard}"), NAME)?;
            lab.rows(&[("a@x.io", "A"), ("", "nobody"), ("c@x.io", "C"), ("d@x.io", "D")])?;
            let run = lab.run("people").await?.run;
            ensure!(run.state == state && run.tally.invalid == 1, "{guard}: {run:?}");
            ensure!(lab.ledger().await?.problems(&run.id, 9).await?.len() == 1, "it is named all the same");
        }
        Ok(())
    })
}

/// Each process that plans the run ends: the next one says so, and whoever comes after it plans a new one.
pub(crate) fn deadly_planning() -> Result<()> {
    block(async {
        let lab = sent(MIRROR).await?;
        let start = lab.start("people", RunOptions::default())?;
        let ledger = lab.ledger().await?;
        let engines = lab.engines(&start, None).await?;
        let id = engines.engine.request(&start).await?;
        let planning = RunPatch { state: Some(RunState::Planning), plannings: 3, ..RunPatch::default() };
        ledger.patch(&id, RunState::Queued, planning).await?;
        let ended = engines.execute(&start).await?.run;
        ensure!(ended.id == id && ended.state == RunState::Failed, "{ended:?}");
        ensure!(ended.reason.as_deref().is_some_and(|reason| reason.contains("3 times")), "{ended:?}");
        let next = engines.execute(&start).await?.run;
        ensure!(next.state == RunState::Succeeded && next.plannings == 0, "{next:?}");
        Ok(())
    })
}

/// The model that an approved plan is compared with cannot be read any more.
pub(crate) fn unreadable() -> Result<()> {
    block(async {
        let (lab, held) = held().await?;
        std::fs::remove_file(lab.path().join("data/people.csv"))?;
        let start = lab.start("people", RunOptions::default())?;
        let engines = lab.engines(&start, None).await?;
        let ended = engines.engine.approve(&held.id, &start, engines.signal.subscribe()).await?.run;
        ensure!(ended.id == held.id && ended.state == RunState::Failed, "{ended:?}");
        ensure!(ended.reason.as_deref().is_some_and(|reason| reason.contains("people.csv")), "{ended:?}");
        ensure!(ended.tally.remove.aborted == 4 && lab.contacts("name").len() == 4, "{ended:?}");
        lab.rows(&ROWS)?;
        let run = lab.run("people").await?.run;
        ensure!((run.state, run.tally.unchanged) == (RunState::Succeeded, 4), "{run:?}");
        Ok(())
    })
}

/// Each process ends that reads the model again for an approved plan.
pub(crate) fn deadly_approval() -> Result<()> {
    block(async {
        let (lab, held) = held().await?;
        let start = lab.start("people", RunOptions::default())?;
        for died in 1..=3 {
            let fate = Fate::at(0, true);
            let engines = lab.engines(&start, Some(fate.clone())).await?;
            tokio::select! {
                ended = engines.engine.approve(&held.id, &start, engines.signal.subscribe()) => bail!("{ended:?}"),
                () = fate.wait() => {}
            }
            let run = lab.ledger().await?.run(&held.id).await?.context("it is kept")?;
            ensure!((run.state, run.plannings) == (RunState::Held, died), "{run:?}");
        }
        let engines = lab.engines(&start, None).await?;
        let ended = engines.engine.approve(&held.id, &start, engines.signal.subscribe()).await?.run;
        ensure!(ended.state == RunState::Failed && ended.tally.remove.aborted == 4, "{ended:?}");
        ensure!(ended.reason.as_deref().is_some_and(|reason| reason.contains("3 times")), "{ended:?}");
        Ok(())
    })
}

/// A row that cannot be mapped takes no other row's place in the snapshot.
pub(crate) fn beside_invalid() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people(MIRROR, "  name: { column: name, type: int }\n")?;
        lab.rows(&[("a@x.io", "none"), ("b@x.io", "1"), ("c@x.io", "2"), ("d@x.io", "3")])?;
        let run = lab.run("people").await?.run;
        ensure!((run.tally.invalid, run.tally.add.succeeded) == (1, 3), "{:?}", run.tally);
        let run = lab.run("people").await?.run;
        ensure!((run.tally.invalid, run.tally.unchanged, run.requests) == (1, 3, 0), "{:?}", run.tally);
        Ok(())
    })
}
