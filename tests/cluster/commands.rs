//! Commands that write into a ledger that several share: what need not be waited for, and what needs the sync for itself.

use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use outflow_coordinator::lease_of;
use outflow_model::id::RunId;
use outflow_model::port::lease::Leases;
use outflow_model::port::ledger::Runs;
use outflow_model::run::RunState;
use outflow_simulators::{Answer, Call, Fault, Faults, HubSpot, Options, Simulator};
use outflow_testkit::services::signal;
use outflow_tests::{Cluster, Plan, Weather, block, until};

use super::{cluster, plan, started};

/// The runs that a command's document names.
pub(super) fn ids(document: &[u8]) -> Result<Vec<RunId>> {
    let runs: Vec<serde_json::Value> = serde_json::from_slice(document)?;
    let id = |run: &serde_json::Value| run["id"].as_str().and_then(RunId::parse);
    Ok(runs.iter().filter_map(id).collect())
}

/// Two syncs wait for a coordinator when the ledger falls silent, and the command is stopped.
pub(super) fn left_unheard() -> Result<()> {
    block(async {
        let cluster = Cluster::new(HubSpot::new(Options::default()), &plan(10, "")).await?;
        std::fs::copy(cluster.path().join("syncs/people.yml"), cluster.path().join("syncs/second.yml"))?;
        let command = cluster.begin(&["--output", "json", "run"])?;
        until("both are asked for", async || Ok(cluster.ledger.unended().await?.len() == 2)).await?;
        cluster.links.ledger.set(Weather { silent: true, ..Weather::default() });
        signal(command.id(), "TERM")?;
        let output = tokio::task::spawn_blocking(|| command.wait_with_output()).await??;
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
        ensure!(output.status.code() == Some(5), "{output:?}");
        for (at, sync) in ["people", "second"].into_iter().enumerate() {
            let error = told[at]["error"].as_str().unwrap_or_default();
            ensure!(told[at]["sync"] == sync && error.contains("outflow runs"), "{told}");
        }
        let asked = cluster.ledger.unended().await?;
        ensure!(ids(&output.stdout)?.iter().all(|id| asked.iter().any(|run| run.id == *id)), "{told}");
        Ok(())
    })
}

/// A sync's name stands for what it sends, and for the run that would begin when that has ended.
pub(super) fn cancelled_by_name() -> Result<()> {
    block(async {
        let cluster = started(12_000, "", Duration::from_millis(200)).await?;
        let sends = cluster.request().await?;
        cluster.under_way(&sends, 2).await?;
        let queued = cluster.request().await?;
        let asked = cluster.command(&["cancel", "people"])?;
        let said = String::from_utf8_lossy(&asked.stdout).into_owned();
        ensure!(asked.status.success() && said.contains(&format!("{queued} is cancelled.")), "{asked:?}");
        for run in [&sends, &queued] {
            let run = cluster.ledger.run(run).await?.context("a run")?;
            ensure!(run.state == RunState::Cancelled, "{run:?}");
        }
        ensure!(cluster.portal.written() < 12_000, "it went on sending");
        Ok(())
    })
}

/// What is queued ends with its withdrawal, and is told so.
pub(super) fn withdrawal_told() -> Result<()> {
    block(async {
        let cluster = Cluster::new(HubSpot::new(Options::default()), &plan(10, "")).await?;
        let id = cluster.request().await?;
        let asked = cluster.command(&["--output", "json", "cancel", "people", "--detach"])?;
        let told: serde_json::Value = serde_json::from_slice(&asked.stdout).with_context(|| format!("{asked:?}"))?;
        ensure!(asked.status.success() && told["id"] == id.as_str() && told["state"] == "cancelled", "{asked:?}");
        ensure!(String::from_utf8_lossy(&asked.stderr).contains(&format!("{id} is cancelled.")), "{asked:?}");
        Ok(())
    })
}

/// One sync of the project cannot be read: programs find it beside the others.
pub(super) fn with_a_mistake() -> Result<()> {
    block(async {
        let cluster = cluster(300, "").await?;
        std::fs::write(cluster.path().join("syncs/broken.yml"), "model: [")?;
        for (words, state) in [(&["run", "--detach"][..], "queued"), (&["run"], "succeeded")] {
            let asked = cluster.command(&[&["--output", "json"], words].concat())?;
            let told: serde_json::Value =
                serde_json::from_slice(&asked.stdout).with_context(|| format!("{asked:?}"))?;
            let of = |sync: &str| told.as_array().and_then(|all| all.iter().find(|one| one["sync"] == sync));
            ensure!(asked.status.code() == Some(2) && of("people").is_some_and(|run| run["state"] == state), "{told}");
            let error = of("broken").and_then(|broken| broken["error"].as_str()).unwrap_or_default();
            ensure!(error.contains("syncs/broken.yml:1"), "{told}");
        }
        let id = cluster.ledger.runs(Some("people"), 1).await?.pop().context("a run")?.id;
        let refused = cluster.command(&["--output", "json", "cancel", id.as_str()])?;
        let told: serde_json::Value = serde_json::from_slice(&refused.stdout)?;
        ensure!(!refused.status.success() && told["error"].is_string(), "{told}");
        Ok(())
    })
}

/// A portal that refuses some names until somebody has set it right.
struct Strict {
    inner: HubSpot,
    is_right: AtomicBool,
}

impl Simulator for Strict {
    fn answer(&self, call: &Call<'_>) -> Answer {
        let Call { method, path, query, headers, body } = *call;
        let mut text = String::from_utf8_lossy(body).into_owned();
        if self.is_right.load(Ordering::SeqCst) {
            text = text.replace("refuse me", "take me");
        }
        self.inner.answer(&Call { method, path, query, headers, body: text.as_bytes() })
    }
}

/// A cluster whose run has left one refused record and an acknowledged one; by now its destination would take both.
async fn with_a_refused_record() -> Result<Cluster<Strict>> {
    let portal = Strict { inner: HubSpot::new(Options::default()), is_right: AtomicBool::new(false) };
    let mut cluster = Cluster::new(portal, &plan(0, "")).await?;
    std::fs::write(cluster.path().join("data/people.csv"), "email,name\na@x.io,refuse me\nb@x.io,B\n")?;
    cluster.start_coordinator()?;
    cluster.start_worker()?;
    let run = cluster.command(&["run"])?;
    ensure!(run.status.code() == Some(3) && cluster.portal.inner.written() == 1, "{run:?}");
    cluster.portal.is_right.store(true, Ordering::SeqCst);
    Ok(cluster)
}

pub(super) fn retried() -> Result<()> {
    block(async {
        let cluster = with_a_refused_record().await?;
        let asked = cluster.portal.inner.requests();
        let run = cluster.command(&["run"])?;
        ensure!(run.status.success() && cluster.portal.inner.requests() == asked, "it was sent again unasked: {run:?}");
        let retry = cluster.command(&["retry", "people"])?;
        ensure!(retry.status.success(), "{retry:?}");
        ensure!(cluster.portal.inner.written() == 2, "{} records were written", cluster.portal.inner.written());
        Ok(())
    })
}

/// No coordinator is there: a command that waited for one would never return.
pub(super) fn retry_left() -> Result<()> {
    block(async {
        let mut cluster = with_a_refused_record().await?;
        cluster.coordinators.clear();
        let asked = cluster.command(&["--output", "json", "retry", "people", "--detach"])?;
        ensure!(asked.status.success(), "{asked:?}");
        let runs = ids(&asked.stdout)?;
        let id = runs.first().context("a run")?;
        let queued = cluster.ledger.run(id).await?.context("a run")?;
        ensure!(queued.state == RunState::Queued && queued.options.retry_rejected, "{queued:?}");
        cluster.start_coordinator()?;
        let run = cluster.ended(id).await?;
        ensure!(run.state == RunState::Succeeded && cluster.portal.inner.written() == 2, "{run:?}");
        Ok(())
    })
}

pub(super) fn approval_left() -> Result<()> {
    block(async {
        let mut cluster = cluster(300, "guard: { max_first_run_rows: 10 }\n").await?;
        ensure!(cluster.command(&["run"])?.status.code() == Some(4));
        let id = cluster.ledger.runs(Some("people"), 1).await?.pop().context("a run")?.id;
        cluster.coordinators.clear();
        let asked = cluster.command(&["approve", id.as_str(), "--detach"])?;
        ensure!(asked.status.success(), "{asked:?}");
        let approved = cluster.ledger.run(&id).await?.context("a run")?;
        ensure!(approved.state == RunState::Held && approved.approved, "{approved:?}");
        ensure!(cluster.portal.written() == 0, "nobody was there to deliver it");
        cluster.start_coordinator()?;
        let run = cluster.ended(&id).await?;
        ensure!(run.state == RunState::Succeeded && cluster.portal.written() == 300, "{run:?}");
        Ok(())
    })
}

/// Nobody is there to do what is asked for: the first that was asked for holds.
pub(super) fn cancelled_first() -> Result<()> {
    block(async {
        let mut cluster = cluster(300, "guard: { max_first_run_rows: 10 }\n").await?;
        ensure!(cluster.command(&["run"])?.status.code() == Some(4));
        let id = cluster.ledger.runs(Some("people"), 1).await?.pop().context("a run")?.id;
        cluster.coordinators.clear();
        let asked = cluster.command(&["--output", "json", "cancel", id.as_str(), "--detach"])?;
        let said: serde_json::Value = serde_json::from_slice(&asked.stdout).with_context(|| format!("{asked:?}"))?;
        ensure!(asked.status.success() && said["id"] == id.as_str() && said["cancel"] == true, "{asked:?}");
        let approval = cluster.command(&["approve", id.as_str(), "--detach"])?;
        let why = String::from_utf8_lossy(&approval.stderr).into_owned();
        ensure!(!approval.status.success() && why.contains("cancelled") && why.contains("held"), "{approval:?}");
        cluster.start_coordinator()?;
        let run = cluster.ended(&id).await?;
        ensure!(run.state == RunState::Cancelled && cluster.portal.written() == 0, "{run:?}");
        Ok(())
    })
}

pub(super) fn cancellation_left() -> Result<()> {
    block(async {
        // More than is ever published at a time: the rest cannot have been sent.
        let mut cluster = started(12_000, "", Duration::from_millis(200)).await?;
        let id = cluster.request().await?;
        cluster.under_way(&id, 2).await?;
        cluster.coordinators.clear();
        let asked = cluster.command(&["cancel", id.as_str(), "--detach"])?;
        ensure!(asked.status.success(), "{asked:?}");
        let cancelled = cluster.ledger.run(&id).await?.context("a run")?;
        ensure!(cancelled.state == RunState::Delivering && cancelled.cancel, "{cancelled:?}");
        cluster.start_coordinator()?;
        let run = cluster.ended(&id).await?;
        let total = run.tally.total();
        ensure!(run.state == RunState::Cancelled && total.aborted > 0, "{run:?}");
        ensure!(cluster.portal.written() == total.succeeded, "what was sent is accounted for");
        Ok(())
    })
}

/// Waits until no coordinator has the sync: it is given back a moment after its run has ended.
async fn given_back(cluster: &Cluster<HubSpot>) -> Result<()> {
    let lease = lease_of("people");
    until("the sync is given back", async || Ok(cluster.ledger.take(&lease, "test", 1).await?.is_some())).await
}

/// The keys that `outflow unknown` tells with these flags.
fn unknown(cluster: &Cluster<HubSpot>, flags: &[&str]) -> Result<Vec<String>> {
    let words: Vec<&str> = ["--output", "json", "unknown", "people"].iter().chain(flags).copied().collect();
    let told = cluster.command(&words)?;
    ensure!(told.status.success(), "{told:?}");
    let mut keys: Vec<String> = serde_json::from_slice(&told.stdout)?;
    keys.sort();
    Ok(keys)
}

/// Three records have arrived, and their answer was lost. One is taken as sent; one goes out again, and is there already;
/// the third waits.
pub(super) fn decided() -> Result<()> {
    block(async {
        let sync = "object: contacts\nmode: create\nmapping: { email: email }\n";
        let plan = Plan { sync: sync.to_owned(), ..plan(3, "") };
        let mut cluster = Cluster::new(HubSpot::new(Options::default()), &plan).await?;
        cluster.portal.set_faults(Faults { script: [Fault::ResetAfter].into(), ..Faults::default() });
        cluster.start_coordinator()?;
        cluster.start_worker()?;
        let first = cluster.command(&["run"])?;
        ensure!(first.status.code() == Some(3), "{first:?}");
        given_back(&cluster).await?;
        let steps: [(&[&str], &[&str]); 4] = [
            (&[], &["p0@x.io", "p1@x.io", "p2@x.io"]),
            (&["--sent", "--key", "p0@x.io"], &["p0@x.io"]),
            (&["--resend", "--key", "p1@x.io"], &["p1@x.io"]),
            (&[], &["p2@x.io"]),
        ];
        for (flags, keys) in steps {
            let told = unknown(&cluster, flags)?;
            ensure!(told == keys, "{flags:?}: {told:?}");
        }
        let run = cluster.ended(&cluster.request().await?).await?;
        let (tally, add) = (run.tally, run.tally.add);
        ensure!((tally.unchanged, tally.withheld, add.planned, add.skipped) == (1, 1, 1, 1), "{run:?}");
        ensure!(cluster.portal.requests().0 == 2 && cluster.portal.written() == 3, "{:?}", cluster.portal.requests());
        Ok(())
    })
}

pub(super) fn forgotten() -> Result<()> {
    block(async {
        let mut cluster = Cluster::new(HubSpot::new(Options::default()), &plan(100, "")).await?;
        cluster.start_coordinator()?;
        // Without a worker it stays where it is.
        let run = cluster.request().await?;
        cluster.reached(&run, RunState::Delivering).await?;
        for words in [["state", "reset", "people"], ["unknown", "people", "--sent"]] {
            let refused = cluster.command(&words)?;
            let told = String::from_utf8_lossy(&refused.stderr);
            ensure!(refused.status.code() == Some(6) && told.contains("executes people right now"), "{refused:?}");
        }
        cluster.start_worker()?;
        let run = cluster.ended(&run).await?;
        ensure!(run.state == RunState::Succeeded && cluster.portal.written() == 100, "{run:?}");
        given_back(&cluster).await?;
        let reset = cluster.command(&["state", "reset", "people"])?;
        ensure!(reset.status.success(), "{reset:?}");
        let shown = cluster.command(&["state", "show", "people"])?;
        ensure!(String::from_utf8_lossy(&shown.stdout).contains("nothing is acknowledged yet"), "{shown:?}");
        let again = cluster.ended(&cluster.request().await?).await?;
        ensure!(again.tally.add.succeeded == 100 && cluster.portal.written() == 200, "{again:?}");
        Ok(())
    })
}

/// Files of one project beside services of another.
pub(super) fn of_another_project() -> Result<()> {
    block(async {
        let cluster = Cluster::new(HubSpot::new(Options::default()), &plan(10, "")).await?;
        cluster.ledger.belong_to(Some("alpha")).await?;
        let file = cluster.path().join("outflow.yml");
        let unnamed = std::fs::read_to_string(&file)?;
        for (text, place) in [(format!("{unnamed}    project: beta\n"), "project"), (unnamed, "ledger")] {
            std::fs::write(&file, text)?;
            let run = cluster.command(&["run"])?;
            let check = cluster.command(&["check"])?;
            let refusal = String::from_utf8_lossy(&run.stderr).trim_start_matches("error: ").trim().to_owned();
            ensure!(run.status.code() == Some(2) && refusal.contains("belongs to the project \"alpha\""), "{run:?}");
            ensure!(refusal.contains(&format!("state.shared.{place}: ")), "{refusal}");
            let told = String::from_utf8_lossy(&check.stdout);
            ensure!(check.status.code() == Some(2) && told.contains(&refusal), "{check:?}");
        }
        Ok(())
    })
}

/// A coordinator plans, and no worker is there; then one comes.
pub(super) fn without_a_worker() -> Result<()> {
    block(async {
        let mut cluster = Cluster::new(HubSpot::new(Options::default()), &plan(300, "")).await?;
        cluster.start_coordinator()?;
        let mut command = cluster.begin(&["--output", "json", "run"])?;
        let stderr = BufReader::new(command.stderr.take().context("a pipe")?);
        let said = tokio::task::spawn_blocking(move || {
            let mut lines = stderr.lines();
            let line = lines.find(|line| line.as_ref().map_or(true, |line| line.contains("is still")));
            (line, lines)
        });
        let (line, _lines) = said.await?;
        let line = line.context("it ended without a word")??;
        for part in ["delivering", "0 of 300 records are settled", "3 chunk(s) wait for a worker"] {
            ensure!(line.contains(part), "{line}");
        }
        cluster.start_worker()?;
        let output = tokio::task::spawn_blocking(|| command.wait_with_output()).await??;
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
        ensure!(output.status.success() && told[0]["state"] == "succeeded", "{told}");
        Ok(())
    })
}
