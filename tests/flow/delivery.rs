//! What delivery does when the destination does not simply say yes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use outflow_backends::MemoryQueue;
use outflow_coordinator::Engine;
use outflow_model::id::AttemptId;
use outflow_model::limit::Limits;
use outflow_model::outcome::Status;
use outflow_model::port::ledger::{RunOptions, RunPatch};
use outflow_model::port::limiter::{Request, Verdict};
use outflow_model::run::RunState;
use outflow_simulators::{Fault, Faults, Options};
use outflow_tests::{DeadlyQueue, HeldQueue, Lab, block, until};

const UPSERT: &str = "mode: upsert";
const NAME: &str = "  name: name\n";

/// A hundred people, of whom numbers 3, 50 and 99 are refused.
fn hundred() -> Vec<(String, String)> {
    let name = |n: u32| if [3, 50, 99].contains(&n) { format!("refuse me {n}") } else { format!("Person {n}") };
    (0..100).map(|n| (format!("p{n}@x.io"), name(n))).collect()
}

fn borrowed(rows: &[(String, String)]) -> Vec<(&str, &str)> {
    rows.iter().map(|(email, name)| (email.as_str(), name.as_str())).collect()
}

async fn bad_rows(options: Options, requests: u64) -> Result<()> {
    let lab = Lab::new(options).await?;
    lab.people(UPSERT, NAME)?;
    lab.rows(&borrowed(&hundred()))?;
    let run = lab.run("people").await?.run;
    ensure!(run.state == RunState::Partial, "{:?}", run.state);
    ensure!((run.tally.add.succeeded, run.tally.add.rejected) == (97, 3), "{:?}", run.tally);
    ensure!(lab.contacts("name").len() == 97);
    ensure!(lab.portal.requests().0 == requests, "{:?} requests", lab.portal.requests());
    let problems = lab.ledger().await?.problems(&run.id, 10).await?;
    ensure!(problems.len() == 3);
    for problem in problems {
        ensure!(problem.status == Some(Status::Rejected));
        ensure!(problem.refusal.message.contains("refuse me"), "{}", problem.refusal.message);
        ensure!(["p3@x.io", "p50@x.io", "p99@x.io"].contains(&problem.key.as_str()), "{}", problem.key);
    }
    Ok(())
}

pub(crate) fn per_record_errors() -> Result<()> {
    block(bad_rows(Options::default(), 1))
}

pub(crate) fn whole_batch_errors() -> Result<()> {
    // Halving a hundred down to three bad rows; the portal's own count of requests is the figure.
    block(bad_rows(Options { whole_batch_errors: true, ..Options::default() }, 33))
}

pub(crate) fn withheld() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people(UPSERT, NAME)?;
        lab.rows(&[("a@x.io", "refuse me"), ("b@x.io", "B")])?;
        let refused = lab.run("people").await?.run;
        let cause = lab.ledger().await?.problems(&refused.id, 9).await?.into_iter().next().context("it is named")?;
        let asked = lab.portal.requests().0;
        for changes in [0, 1] {
            lab.rows(&[("a@x.io", "refuse me"), ("b@x.io", "B"), ("c@x.io", "C")][..2 + changes])?;
            let run = lab.run("people").await?.run;
            ensure!((run.tally.withheld, run.tally.unchanged) == (1, 1), "{:?}", run.tally);
            ensure!(changes == 1 || lab.portal.requests().0 == asked, "an unchanged refused row was sent again");
            let named = lab.ledger().await?.problems(&run.id, 9).await?;
            let [named] = named.as_slice() else { anyhow::bail!("{named:?}") };
            ensure!(named.is_withheld() && named.since.as_ref() == Some(&refused.id), "{named:?}");
            ensure!((&named.key, &named.refusal) == (&cause.key, &cause.refusal), "{named:?}");
        }
        let retry = RunOptions { retry_rejected: true, ..RunOptions::default() };
        let run = lab.run_with("people", retry).await?.run;
        ensure!(run.tally.add.rejected == 1, "{:?}", run.tally);
        lab.rows(&[("a@x.io", "A"), ("b@x.io", "B"), ("c@x.io", "C")])?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.add.succeeded == 1, "{:?}", run.tally);
        ensure!(lab.contacts("name").len() == 3);
        Ok(())
    })
}

pub(crate) fn deferred() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: upsert\ndelivery: { tries: 1 }", NAME)?;
        lab.rows(&[("a@x.io", "A")])?;
        lab.portal.set_faults(Faults { rates: vec![(Fault::ServerError, 1_000)], ..Faults::default() });
        let run = lab.run("people").await?.run;
        ensure!(run.state == RunState::Partial && run.tally.add.deferred == 1, "{:?}", run.tally);
        lab.portal.set_faults(Faults::default());
        let run = lab.run("people").await?.run;
        ensure!(run.tally.total().succeeded == 1, "{:?}", run.tally);
        ensure!(lab.contacts("name") == [("a@x.io".to_owned(), "A".to_owned())]);
        Ok(())
    })
}

pub(crate) fn paused() -> Result<()> {
    block(async {
        let lab = Lab::new(Options { limit: Some((1_000, Duration::from_secs(1))), ..Options::default() }).await?;
        lab.people("mode: upsert\ndelivery: { chunk_rows: 1 }", NAME)?;
        let rows: Vec<_> = (0..20).map(|n| (format!("p{n}@x.io"), "P".to_owned())).collect();
        lab.rows(&borrowed(&rows))?;
        lab.portal.set_faults(Faults { script: [Fault::TooMany(2)].into(), ..Faults::default() });
        let began = Instant::now();
        let run = lab.run("people").await?.run;
        ensure!(run.state == RunState::Succeeded, "{:?}", run.tally);
        // What was on its way when the 429 came may arrive; all else waits for the two seconds.
        let early =
            lab.portal.accepted_at().iter().filter(|at| at.duration_since(began) < Duration::from_secs(2)).count();
        ensure!(early <= 7, "{early} requests were sent during the pause");
        ensure!(lab.portal.requests().1 == 1, "more than the scripted 429");
        Ok(())
    })
}

/// How long the portal's window is: in one of that length a request may be a tenth of a second on its way.
const WINDOW: Duration = Duration::from_secs(5);

/// So many requests under these limits, to a portal that allows `strict` in its window and tells so, of which others have just
/// used some: none is refused. When others used them, and when each of ours arrived.
async fn never_refused(limits: &str, rows: usize, strict: usize, others: usize) -> Result<(Instant, Vec<Instant>)> {
    let lab = Lab::new(Options { limit: Some((strict, WINDOW)), ..Options::default() }).await?;
    lab.people("mode: upsert\ndelivery: { chunk_rows: 1 }", NAME)?;
    let outflow = std::fs::read_to_string(lab.path().join("outflow.yml"))?;
    lab.write("outflow.yml", &outflow.replace("limits: {}", limits))?;
    let people: Vec<_> = (0..rows).map(|n| (format!("p{n}@x.io"), "P".to_owned())).collect();
    lab.rows(&borrowed(&people))?;
    lab.portal.used_by_others(others);
    let used = Instant::now();
    let run = lab.run("people").await?.run;
    ensure!(run.tally.add.succeeded == rows as u64, "{:?}", run.tally);
    ensure!(lab.portal.requests() == (rows as u64, 0), "{:?} requests and 429s", lab.portal.requests());
    Ok((used, lab.portal.accepted_at()))
}

pub(crate) fn limited() -> Result<()> {
    block(async {
        never_refused("limits: { windows: [{ limit: 90, per_ms: 5000 }] }", 100, 90, 0).await?;
        Ok(())
    })
}

pub(crate) fn reserved() -> Result<()> {
    block(async {
        let limits = "limits: { windows: [{ limit: 100, per_ms: 5000 }] }\n    reserve: 40%";
        let (_, sent) = never_refused(limits, 100, 100, 0).await?;
        let over = sent.windows(61).filter(|span| span[60].duration_since(span[0]) < WINDOW).count();
        ensure!(over == 0, "{over} stretches of the window's length saw more than 60 of 100 requests");
        Ok(())
    })
}

pub(crate) fn throttled() -> Result<()> {
    block(async {
        never_refused("limits: { windows: [{ limit: 190, per_ms: 5000 }] }\n    reserve: 10%", 100, 90, 0).await?;
        Ok(())
    })
}

pub(crate) fn others() -> Result<()> {
    block(async {
        // With the 60 of others, our own 60 would be too many.
        let limits = "limits: { windows: [{ limit: 100, per_ms: 5000 }] }\n    reserve: 40%";
        let (used, sent) = never_refused(limits, 60, 100, 60).await?;
        let meanwhile = sent.iter().filter(|at| at.duration_since(used) < WINDOW).count();
        ensure!(meanwhile <= 20, "{meanwhile} requests of ours went into the reserve");
        Ok(())
    })
}

pub(crate) fn unauthorized() -> Result<()> {
    block(async {
        let lab = Lab::new(Options { token: Some("other".to_owned()), ..Options::default() }).await?;
        lab.people(UPSERT, NAME)?;
        lab.rows(&[("a@x.io", "A"), ("b@x.io", "B")])?;
        let run = lab.run("people").await?.run;
        ensure!(run.state == RunState::Failed && run.tally.add.aborted == 2, "{:?} {:?}", run.state, run.tally);
        ensure!(run.reason.as_deref().is_some_and(|reason| reason.contains("OF-3001")), "{:?}", run.reason);
        // What was refused to whoever asked is not there, and is named with what stopped it.
        let problems = lab.ledger().await?.problems(&run.id, 10).await?;
        let named = |problem: &outflow_model::port::ledger::Problem| problem.refusal.class.code() == "OF-3001";
        ensure!(problems.len() == 2 && problems.iter().all(named), "{problems:?}");
        ensure!(lab.ledger().await?.snapshot("people").await?.is_none(), "nothing is doubtful");
        let outflow = std::fs::read_to_string(lab.path().join("outflow.yml"))?;
        lab.write("outflow.yml", &outflow.replace("token: t", "token: other"))?;
        let run = lab.run("people").await?.run;
        ensure!(run.state == RunState::Succeeded && run.tally.add.succeeded == 2, "{:?}", run.tally);
        Ok(())
    })
}

pub(crate) fn unknown() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: create", NAME)?;
        lab.rows(&[("a@x.io", "A")])?;
        lab.portal.set_faults(Faults { script: [Fault::ResetAfter].into(), ..Faults::default() });
        let run = lab.run("people").await?.run;
        ensure!(run.tally.add.unknown == 1, "{:?}", run.tally);
        let asked = lab.portal.requests().0;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.withheld == 1, "{:?}", run.tally);
        ensure!(lab.portal.requests().0 == asked, "an undecided record was sent again");
        let start = lab.start("people", RunOptions::default())?;
        let engines = lab.engines(&start, None).await?;
        let keys = engines.engine.unknown("people", None, Some(outflow_coordinator::Decision::Sent)).await?;
        ensure!(keys == ["a@x.io"], "{keys:?}");
        let run = lab.run("people").await?.run;
        ensure!(run.tally.unchanged == 1 && lab.portal.requests().0 == asked, "{:?}", run.tally);
        Ok(())
    })
}

/// A request of nobody's: it asks whether the run's gate is open.
fn asked<'a>(attempt: &'a AttemptId, account: &'a str, limits: &'a Limits) -> Request<'a> {
    Request {
        account,
        limits,
        attempt: Some(attempt),
        worker: "nobody",
        slot: 0,
        lease: 0,
        timeout: 0,
        records: 0,
        cost: 0,
        urgent: false,
        sync: "people",
        weight: 1,
        late: 0,
    }
}

/// The broker takes announcements late, and by then the run is cancelled: what was permitted before does not leave.
pub(crate) fn stale() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: create", NAME)?;
        lab.rows(&[("a@x.io", "A"), ("b@x.io", "B")])?;
        let (start, queue) = (lab.start("people", RunOptions::default())?, Arc::new(HeldQueue::new()));
        let engines = lab.engines_over(&start, None, queue.clone()).await?;
        let (Engine { ledger, limiter, .. }, account) = (engines.engine.as_ref(), &start.sync.account);
        let cancel = async {
            queue.come.subscribe().wait_for(|come| *come > 0).await?;
            let run = lab.newest("people").await?;
            ledger.patch(&run.id, run.state, RunPatch { cancel: true, ..RunPatch::default() }).await?;
            let attempt = AttemptId { run: run.id, chunk: 0, attempt: 1 };
            let asked = asked(&attempt, &account.name, &account.limits);
            until("the gate closes", async || Ok(limiter.permit(&asked).await? == Verdict::Closed)).await?;
            // By then the permit is an old one.
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            queue.release();
            Ok::<_, anyhow::Error>(())
        };
        let (ended, cancelled) = tokio::join!(engines.execute(&start), cancel);
        cancelled?;
        let run = ended?.run;
        ensure!(lab.portal.requests().0 == 0, "it left though the run was cancelled");
        ensure!(run.state == RunState::Cancelled && run.tally.add.aborted == 2, "{:?}", run.tally);
        Ok(())
    })
}

pub(crate) fn unknown_decided() -> Result<()> {
    block(async {
        for (rule, unchanged, skipped) in [("skip", 1, 0), ("resend", 0, 1)] {
            let lab = Lab::new(Options::default()).await?;
            lab.people(&format!("mode: create\non_unknown: {rule}"), NAME)?;
            lab.rows(&[("a@x.io", "A")])?;
            lab.portal.set_faults(Faults { script: [Fault::ResetAfter].into(), ..Faults::default() });
            lab.run("people").await?;
            // It did arrive: taken as such it is not sent, and sent again it is there already.
            let run = lab.run("people").await?.run;
            ensure!((run.tally.unchanged, run.tally.add.skipped) == (unchanged, skipped), "{rule}: {:?}", run.tally);
            ensure!(lab.portal.writes().len() == 1);
        }
        Ok(())
    })
}

pub(crate) fn poison() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people(UPSERT, NAME)?;
        let rows: Vec<_> = (0..100).map(|n| (format!("p{n}@x.io"), "P".to_owned())).collect();
        lab.rows(&borrowed(&rows))?;
        let start = lab.start("people", RunOptions::default())?;
        let queue = DeadlyQueue { record: "p42@x.io".to_owned(), inner: MemoryQueue::default() };
        let engines = lab.engines_over(&start, None, Arc::new(queue)).await?;
        let run = engines.execute(&start).await?.run;
        ensure!((run.tally.add.succeeded, run.tally.add.deferred) == (99, 1), "{:?}", run.tally);
        ensure!(lab.portal.written() == 99, "{} writes", lab.portal.written());
        let problems = lab.ledger().await?.problems(&run.id, 9).await?;
        ensure!(problems.len() == 1 && problems[0].key == "p42@x.io", "{problems:?}");
        ensure!(problems[0].refusal.code == "POISON", "{problems:?}");
        Ok(())
    })
}

/// Begins a run of two hundred chunks, and interrupts it when some have arrived.
pub(crate) async fn interrupt(lab: &Lab) -> Result<outflow_model::port::ledger::Run> {
    lab.people("mode: upsert\ndelivery: { chunk_rows: 1 }", NAME)?;
    let rows: Vec<_> = (0..200).map(|n| (format!("p{n}@x.io"), "P".to_owned())).collect();
    lab.rows(&borrowed(&rows))?;
    let start = lab.start("people", RunOptions::default())?;
    let engines = lab.engines(&start, None).await?;
    let stop = async {
        lab.portal.wait_for(20).await;
        engines.signal.send(outflow_coordinator::Signal::Interrupt)
    };
    let (finished, _) = tokio::join!(engines.execute(&start), stop);
    let run = finished?.run;
    ensure!(run.state == RunState::Interrupted, "{:?}", run.state);
    ensure!(lab.portal.written() < 200, "the run was not interrupted");
    Ok(run)
}

pub(crate) fn interrupted() -> Result<()> {
    block(async {
        let lab = Lab::new(Options { latency: Duration::from_millis(20), ..Options::default() }).await?;
        let first = interrupt(&lab).await?;
        let second = lab.run("people").await?.run;
        ensure!(second.id == first.id && second.state == RunState::Succeeded, "{:?}", second.state);
        ensure!(second.tally.add.succeeded == 200);
        ensure!(lab.portal.written() == 200, "{} records were written, 200 are due", lab.portal.written());
        Ok(())
    })
}

pub(crate) fn other_object() -> Result<()> {
    block(async {
        let lab = Lab::new(Options { latency: Duration::from_millis(20), ..Options::default() }).await?;
        let first = interrupt(&lab).await?;
        let sync = std::fs::read_to_string(lab.path().join("syncs/people.yml"))?;
        lab.write("syncs/people.yml", &sync.replace("object: contacts", "object: companies\nidentity: [email]"))?;
        // What was delivered is folded under the object that it went to, so the new run is told of the difference.
        let error = lab.run("people").await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains("another object (contacts, now companies)"), "{error}");
        let folded = lab.ledger().await?.run(&first.id).await?;
        ensure!(folded.is_some_and(|run| run.state == RunState::Cancelled && run.tally.add.succeeded >= 20));
        ensure!(lab.portal.records("companies", "email").is_empty());
        Ok(())
    })
}
