//! Jobs of the Bulk API: every row told apart, whatever fails, dies or loses its answer.

use std::fmt::Write;

use anyhow::{Result, ensure};
use outflow_model::outcome::Status;
use outflow_model::policy::ErrorClass;
use outflow_model::port::ledger::{RunOptions, RunPatch};
use outflow_model::run::RunState;
use outflow_simulators::{Fault, Faults, JobFailure, OrgOptions};
use outflow_tests::{Fate, block};

use super::{NAME, SECRET, lab, once_each, org, people, rows};

/// How many rows the large bulk flow has: 200,000 for the real thing.
#[expect(clippy::disallowed_methods, reason = "a test's own size")]
fn many() -> usize {
    std::env::var("BULK_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(101_000)
}

pub(crate) fn outcomes() -> Result<()> {
    block(async {
        // The second job fails on its way, the third before its first row.
        let job_failures = vec![JobFailure { job: 1, percent: 60 }, JobFailure { job: 2, percent: 0 }];
        let lab = lab(OrgOptions { job_failures, ..org() }, SECRET, "mode: mirror", NAME).await?;
        let bad = |n: usize| n % 100 == 7;
        let name = |n: usize| if bad(n) { format!("refuse me {n}") } else { format!("Person {n}") };
        let count = many();
        rows(&lab, (0..count).map(|n| (format!("k{n}"), name(n))))?;
        let run = lab.run("people").await?.run;
        let refused = (0..count).filter(|n| bad(*n)).count() as u64;
        ensure!(run.state == RunState::Partial, "{:?}", run.state);
        ensure!(run.tally.add.rejected == refused, "{refused} bad rows, {:?}", run.tally);
        ensure!(run.tally.add.succeeded == count as u64 - refused, "{:?}", run.tally);
        let records = lab.portal.records("Contact");
        ensure!(records.len() as u64 == run.tally.add.succeeded);
        for (key, record) in &records {
            ensure!(record["LastName"] == format!("Person {}", key.trim_start_matches('k')), "{key}: {record:?}");
        }
        ensure!(once_each(&lab) == 0, "{} rows were written twice", once_each(&lab));
        let mut kept = 0;
        for problem in lab.ledger().await?.problems(&run.id, 1_000).await? {
            ensure!(problem.status == Some(Status::Rejected) && problem.refusal.class == ErrorClass::RejectRecord);
            let wanted = format!("LastName \"refuse me {}\" is not valid", problem.key.trim_start_matches('k'));
            // Of a chunk's messages a bounded part is kept; class and code of each record always are.
            let not_kept = problem.refusal.message.starts_with("The message was not kept");
            ensure!(problem.refusal.message == wanted || not_kept, "{}", problem.refusal.message);
            kept += usize::from(!not_kept);
        }
        ensure!(kept >= 100, "{kept} messages were kept");
        // Ids came with the results: removing needs no look-up.
        let calls = lab.portal.calls();
        rows(&lab, (0..count).filter(|n| *n != 1).map(|n| (format!("k{n}"), name(n))))?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.remove.succeeded == 1 && run.tally.withheld == refused, "{:?}", run.tally);
        ensure!(lab.portal.calls() - calls == 1);
        Ok(())
    })
}

pub(crate) fn deaths() -> Result<()> {
    block(async {
        let mut resumed = 0;
        for at in 0.. {
            for after in [false, true] {
                let lab = lab(org(), SECRET, "mode: upsert\ndelivery: { bulk: always }", NAME).await?;
                rows(&lab, people(1_000))?;
                let start = lab.start("people", RunOptions::default())?;
                let death = Fate::at(at, after);
                let engines = lab.engines(&start, Some(death.clone())).await?;
                let survived = tokio::select! {
                    finished = engines.execute(&start) => { finished?; true }
                    () = death.wait() => false,
                };
                drop(engines);
                let uploaded = lab.portal.uploads().len();
                let run = lab.run("people").await?.run;
                ensure!(run.state == RunState::Succeeded, "death {at} {after}: {:?}", run.tally);
                ensure!(lab.portal.records("Contact").len() == 1_000, "death {at} {after}");
                ensure!(once_each(&lab) == 0, "death {at} {after}: rows were written twice");
                // Between upload and results the job's id is known: its rows are never uploaded again.
                let full = lab.portal.uploads().iter().filter(|rows| **rows > 0).count();
                ensure!(full == 1, "death {at} {after}: uploads {:?}", lab.portal.uploads());
                resumed += usize::from(!survived && uploaded > 0);
                if survived {
                    ensure!(resumed > 2, "only {resumed} deaths came after the upload");
                    return Ok(());
                }
            }
        }
        Ok(())
    })
}

pub(crate) fn lost_answers() -> Result<()> {
    block(async {
        // Whatever request of a job loses its answer, its rows are written once.
        for lost in 0..7 {
            for fault in [Fault::ResetBefore, Fault::ResetAfter, Fault::ServerError, Fault::Unauthorized] {
                let lab = lab(org(), SECRET, "mode: upsert\ndelivery: { bulk: always }", NAME).await?;
                rows(&lab, people(1_000))?;
                let mut script = vec![Fault::None; lost];
                script.push(fault);
                lab.portal.set_faults(Faults { script: script.into(), ..Faults::default() });
                let run = lab.run("people").await?.run;
                ensure!(run.state == RunState::Succeeded, "{fault:?} at {lost}: {:?}", run.tally);
                ensure!(lab.portal.records("Contact").len() == 1_000);
                ensure!(once_each(&lab) == 0, "{fault:?} at {lost}: rows were written twice");
            }
        }
        Ok(())
    })
}

pub(crate) fn interrupted() -> Result<()> {
    block(async {
        let lab =
            lab(OrgOptions { looks: 8, ..org() }, SECRET, "mode: upsert\ndelivery: { bulk: always }", NAME).await?;
        rows(&lab, people(1_000))?;
        let start = lab.start("people", RunOptions::default())?;
        let engines = lab.engines(&start, None).await?;
        let stop = async {
            lab.portal.wait_for_uploads(1).await;
            engines.signal.send(outflow_coordinator::Signal::Interrupt)
        };
        let (finished, _) = tokio::join!(engines.execute(&start), stop);
        ensure!(finished?.run.state == RunState::Interrupted);
        drop(engines);
        let run = lab.run("people").await?.run;
        ensure!(run.state == RunState::Succeeded, "{:?}", run.tally);
        ensure!(lab.portal.uploads() == [1_000], "{:?}", lab.portal.uploads());
        ensure!(once_each(&lab) == 0);
        Ok(())
    })
}

pub(crate) fn fails() -> Result<()> {
    block(async {
        // Every job fails before its first row: the run ends, and the next one finds the rows.
        let job_failures = (0..200).map(|job| JobFailure { job, percent: 0 }).collect();
        let sync = "mode: upsert\ndelivery: { bulk: always, tries: 2 }";
        let lab = lab(OrgOptions { job_failures, ..org() }, SECRET, sync, NAME).await?;
        rows(&lab, people(1_000))?;
        let run = lab.run("people").await?.run;
        ensure!(run.state == RunState::Partial && run.tally.add.deferred == 1_000, "{:?}", run.tally);
        for problem in lab.ledger().await?.problems(&run.id, 3).await? {
            ensure!(problem.refusal.message.contains("use a smaller upload file"), "{problem:?}");
        }
        lab.portal.spare_jobs();
        let run = lab.run("people").await?.run;
        ensure!(run.state == RunState::Succeeded && lab.portal.records("Contact").len() == 1_000, "{:?}", run.tally);
        Ok(())
    })
}

pub(crate) fn values() -> Result<()> {
    block(async {
        let options = OrgOptions { fields: Some(["LastName", "Note", "Kept"].map(str::to_owned).into()), ..org() };
        let mapping = "  LastName: name\n  Note: note\n  Kept: { column: kept, null: skip }\n";
        let lab = lab(options, SECRET, "mode: upsert\ndelivery: { bulk: always }", mapping).await?;
        let line = |name: &str, note: &str, kept: &str| -> String {
            (0..300).fold(String::from("id,name,note,kept\n"), |mut text, n| {
                _ = writeln!(text, "k{n},{name},{note},{kept}");
                text
            })
        };
        lab.write("data/people.csv", &line("\"a, \"\"b\"\"\nc\"", "x", "y"))?;
        lab.run("people").await?;
        ensure!(lab.portal.uploads().len() == 1);
        let record = lab.portal.records("Contact")["k7"].clone();
        ensure!(record["LastName"] == "a, \"b\"\nc" && record["Note"] == "x" && record["Kept"] == "y", "{record:?}");
        lab.write("data/people.csv", &line("d", "", ""))?;
        lab.run("people").await?;
        let record = lab.portal.records("Contact")["k7"].clone();
        ensure!(record["LastName"] == "d" && !record.contains_key("Note") && record["Kept"] == "y", "{record:?}");
        // What a job would take for null is refused alone.
        lab.write("data/people.csv", &line("e", "z", "y").replace("k7,e,z", "k7,e,#N/A"))?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.change.rejected == 1 && run.tally.change.succeeded == 299, "{:?}", run.tally);
        let problems = lab.ledger().await?.problems(&run.id, 10).await?;
        ensure!(problems[0].refusal.code == "UNSENDABLE_VALUE" && problems[0].key == "k7", "{problems:?}");
        let records = lab.portal.records("Contact");
        ensure!(records["k7"]["LastName"] == "d", "{:?}", records["k7"]);
        ensure!(records["k8"]["Note"] == "z", "{:?}", records["k8"]);
        // A field that does not exist stops the run, as it would stop every row.
        let text = std::fs::read_to_string(lab.path().join("syncs/people.yml"))?;
        lab.write("syncs/people.yml", &text.replace("  Note: note", "  Nothing__c: note"))?;
        let run = lab.run("people").await?.run;
        ensure!(run.state == RunState::Failed, "{:?}", run.state);
        ensure!(run.reason.as_deref().is_some_and(|reason| reason.contains("Nothing__c")), "{:?}", run.reason);
        Ok(())
    })
}

pub(crate) fn cancelled() -> Result<()> {
    block(async {
        // A job that never ends does not hold a cancelled run.
        let options = OrgOptions { looks: u32::MAX, ..org() };
        let lab = lab(options, SECRET, "mode: upsert\ndelivery: { bulk: always }", NAME).await?;
        rows(&lab, people(1_000))?;
        let start = lab.start("people", RunOptions::default())?;
        let engines = lab.engines(&start, None).await?;
        let ledger = lab.ledger().await?;
        let cancel = async {
            lab.portal.wait_for_uploads(1).await;
            let run = lab.newest("people").await?;
            ledger.patch(&run.id, run.state, RunPatch { cancel: true, ..RunPatch::default() }).await?;
            anyhow::Ok(())
        };
        let (finished, cancelled) = tokio::join!(engines.execute(&start), cancel);
        cancelled?;
        let run = finished?.run;
        ensure!(run.state == RunState::Cancelled && run.tally.add.aborted == 1_000, "{:?}", run.tally);
        Ok(())
    })
}
