//! What is waited for, for how long, and what a request that was not answered well is taken for.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use outflow_coordinator::Finished;
use outflow_model::policy::ErrorClass;
use outflow_model::run::RunState;
use outflow_simulators::Answer;
use outflow_tests::{Lab, Recorder, block};

/// A destination that takes one record per request, in this mode.
fn manifest(mode: &str, extra: &str) -> String {
    format!(
        "name = \"own\"\ntitle = \"Our own\"\n[error]\ncode = \"/code\"\n{extra}\n[objects.people]\nidentity = [\"email\"]\n\
         modes = [\"{mode}\"]\n[operations.{mode}]\nmethod = \"POST\"\npath = \"/in\"\nrecords = 1\nrepeatable = {}\nbody = \"$record\"\n",
        mode == "upsert"
    )
}

/// A project that sends so many rows by a manifest, in chunks of one, and waits at most so many seconds.
async fn lab(manifest: &str, mode: &str, rows: usize, max_wait: u32) -> Result<Lab<Recorder>> {
    let settings = if manifest.contains("[auth]") { "client: c, secret: s, url: PORTAL/token" } else { "" };
    lab_with(settings, manifest, mode, rows, max_wait).await
}

/// The same with settings of the destination.
async fn lab_with(settings: &str, manifest: &str, mode: &str, rows: usize, max_wait: u32) -> Result<Lab<Recorder>> {
    let lab = Lab::with(Recorder::default()).await?;
    lab.write(
        "outflow.yml",
        &format!(
            "version: 1\nsources:\n  files: {{ type: files, path: data }}\ndestinations:\n  own:\n    type: http\n    \
         manifest: own.toml\n    base_url: PORTAL\n    allow_private_addresses: true\n    concurrency: 2\n    \
         settings: {{ {settings} }}\n"
        ),
    )?;
    lab.write("models/people.yml", "source: files\nkey: email\nfiles: people.csv\n")?;
    lab.write(
        "syncs/people.yml",
        &format!(
            "model: people\ndestination: own\nobject: people\nmode: {mode}\nmapping: {{ email: email }}\n\
             delivery: {{ max_wait_seconds: {max_wait}, tries: 2, chunk_rows: 1 }}\n"
        ),
    )?;
    lab.write("own.toml", manifest)?;
    let people: Vec<_> = (0..rows).map(|n| (format!("p{n}@x.io"), String::new())).collect();
    lab.rows(&people.iter().map(|(email, name)| (email.as_str(), name.as_str())).collect::<Vec<_>>())?;
    Ok(lab)
}

fn answer(status: u16, retry_after: Option<&str>) -> Answer {
    let headers = retry_after.map(|wait| ("retry-after", wait.to_owned())).into_iter().collect();
    Answer { headers, ..Answer::plain(status, "{\"code\":\"X\"}".to_owned()) }
}

/// The class that the run's records were deferred with.
async fn deferred(lab: &Lab<Recorder>, run: &Finished, rows: usize) -> Result<ErrorClass> {
    ensure!(run.run.state == RunState::Partial, "{:?} {:?}", run.run.state, run.run.reason);
    ensure!(run.run.tally.add.deferred == rows as u64, "{:?}", run.run.tally);
    let problems = lab.ledger().await?.problems(&run.run.id, 100).await?;
    let class = problems.first().map(|problem| problem.refusal.class);
    ensure!(
        problems.len() == rows && problems.iter().all(|problem| Some(problem.refusal.class) == class),
        "{problems:?}"
    );
    class.ok_or_else(|| anyhow::anyhow!("no problem"))
}

/// A destination that answers 429 for ever ends the run in about the time that its records may wait, however many there are.
pub(crate) fn for_ever() -> Result<()> {
    block(async {
        let lab = lab(&manifest("upsert", ""), "upsert", 24, 3).await?;
        lab.portal.answer((0..1_000).map(|_| answer(429, Some("1"))));
        let began = Instant::now();
        let run = lab.run("people").await?;
        let took = began.elapsed();
        ensure!(deferred(&lab, &run, 24).await? == ErrorClass::Throttled);
        ensure!(took >= Duration::from_secs(2) && took < Duration::from_secs(12), "{took:?}");
        ensure!(lab.portal.seen().len() <= 24, "{} requests", lab.portal.seen().len());
        Ok(())
    })
}

/// A time that is longer than what remains defers at once, on 503 too.
pub(crate) fn longer_than_allowed() -> Result<()> {
    block(async {
        for (status, class) in [(429, ErrorClass::Throttled), (503, ErrorClass::Backoff)] {
            let lab = lab(&manifest("upsert", ""), "upsert", 1, 30).await?;
            lab.portal.answer((0..9).map(|_| answer(status, Some("90000"))));
            let began = Instant::now();
            let run = lab.run("people").await?;
            ensure!(deferred(&lab, &run, 1).await? == class, "{status}");
            ensure!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
            ensure!(lab.portal.seen().len() == 1, "{} requests after {status}", lab.portal.seen().len());
        }
        Ok(())
    })
}

/// A time that the destination names is waited for, on 503 too.
pub(crate) fn as_asked() -> Result<()> {
    block(async {
        for status in [429, 503] {
            let lab = lab(&manifest("upsert", ""), "upsert", 1, 30).await?;
            lab.portal.answer([answer(status, Some("2"))]);
            let began = Instant::now();
            let run = lab.run("people").await?.run;
            ensure!(run.tally.add.succeeded == 1, "{:?}", run.tally);
            ensure!(began.elapsed() >= Duration::from_secs(2), "{:?} after {status}", began.elapsed());
            ensure!(lab.portal.seen().len() == 2, "{} requests after {status}", lab.portal.seen().len());
        }
        Ok(())
    })
}

/// A day's quota that is used up is not asked for again before it can be there.
pub(crate) fn quota() -> Result<()> {
    block(async {
        let spent = "[[classify]]\nstatus = [403]\npointer = \"/code\"\nequals = \"X\"\nclass = \"quota\"\n";
        // The day may end within a second from now.
        let lab = lab(&manifest("upsert", spent), "upsert", 1, 1).await?;
        lab.portal.answer((0..1_000).map(|_| answer(403, None)));
        let run = lab.run("people").await?;
        ensure!(deferred(&lab, &run, 1).await? == ErrorClass::Quota);
        ensure!(lab.portal.seen().len() <= 2, "{} requests", lab.portal.seen().len());
        Ok(())
    })
}

const LOGIN: &str = "[auth]\nkind = \"client_credentials\"\ntoken_url = \"url\"\nclient_id = \"client\"\nclient_secret = \"secret\"\n\
    [config.url]\nlabel = \"URL\"\n[config.client]\nlabel = \"Id\"\n[config.secret]\nlabel = \"Secret\"\nsecret = true\n";

/// A token endpoint that is down is waited for like a destination; one that refuses ends the run at once.
pub(crate) fn login() -> Result<()> {
    block(async {
        let lab = lab(&manifest("upsert", LOGIN), "upsert", 2, 3).await?;
        lab.portal.answer((0..1_000).map(|_| answer(503, None)));
        let began = Instant::now();
        let run = lab.run("people").await?;
        ensure!(deferred(&lab, &run, 2).await? == ErrorClass::Backoff);
        ensure!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
        ensure!(lab.portal.seen().iter().all(|seen| seen.line == "POST /token"), "{:?}", lab.portal.seen());
        let lab = self::lab(&manifest("upsert", LOGIN), "upsert", 2, 30).await?;
        lab.portal.answer((0..1_000).map(|_| answer(400, None)));
        let began = Instant::now();
        let run = lab.run("people").await?.run;
        ensure!(run.state == RunState::Failed && began.elapsed() < Duration::from_secs(10), "{:?}", run.state);
        Ok(())
    })
}

/// A token endpoint that names a time is left alone until then, by every chunk.
pub(crate) fn login_as_asked() -> Result<()> {
    block(async {
        for status in [429, 503] {
            let lab = lab(&manifest("upsert", LOGIN), "upsert", 3, 60).await?;
            let granted = Answer::plain(200, "{\"access_token\":\"t\"}".to_owned());
            lab.portal.answer([answer(status, Some("5")), granted]);
            let began = Instant::now();
            let run = lab.run("people").await?.run;
            ensure!(run.tally.add.succeeded == 3, "{:?}", run.tally);
            ensure!(began.elapsed() >= Duration::from_secs(5), "{:?} after {status}", began.elapsed());
            let logins = lab.portal.seen().iter().filter(|seen| seen.line == "POST /token").count();
            ensure!(logins == 2, "{logins} logins after {status}");
        }
        // Longer than the records may wait.
        let lab = lab(&manifest("upsert", LOGIN), "upsert", 1, 30).await?;
        lab.portal.answer((0..9).map(|_| answer(503, Some("90000"))));
        let began = Instant::now();
        let run = lab.run("people").await?;
        ensure!(deferred(&lab, &run, 1).await? == ErrorClass::Backoff);
        ensure!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        ensure!(lab.portal.seen().len() == 1, "{:?}", lab.portal.seen());
        Ok(())
    })
}

/// What can never be sent where it is addressed to is a mistake, and is not waited for.
pub(crate) fn impossible() -> Result<()> {
    block(async {
        for url in ["http://192.0.2.1/token", "not a url"] {
            let settings = format!("client: c, secret: s, url: \"{url}\"");
            let lab = lab_with(&settings, &manifest("upsert", LOGIN), "upsert", 2, 600).await?;
            let run = lab.run("people").await?.run;
            ensure!(run.state == RunState::Failed, "{url}: {:?}", run.state);
            ensure!(run.reason.as_deref().is_some_and(|reason| reason.contains("`url`")), "{url}: {:?}", run.reason);
            ensure!(lab.portal.seen().is_empty(), "{url}: {:?}", lab.portal.seen());
        }
        // Where a login sends requests, another of them would only be refused again.
        let lab = lab(&manifest("upsert", LOGIN), "upsert", 2, 600).await?;
        let granted = "{\"access_token\":\"t\",\"instance_url\":\"http://192.0.2.1\"}";
        lab.portal.answer((0..9).map(|_| Answer::plain(200, granted.to_owned())));
        let run = lab.run("people").await?.run;
        let reason = run.reason.unwrap_or_default();
        ensure!(run.state == RunState::Failed && reason.contains("unencrypted"), "{:?}: {reason}", run.state);
        Ok(())
    })
}

/// A gateway answers so, too, to what was executed: a create is not sent again.
pub(crate) fn gateway() -> Result<()> {
    block(async {
        for status in [302, 408, 423, 425, 500, 502, 503, 504] {
            let lab = lab(&manifest("append", ""), "append", 1, 30).await?;
            lab.portal.answer([answer(status, None)]);
            let run = lab.run("people").await?.run;
            ensure!(run.tally.add.unknown == 1, "{status}: {:?}", run.tally);
            ensure!(lab.portal.seen().len() == 1, "{} requests after {status}", lab.portal.seen().len());
        }
        Ok(())
    })
}

/// What one process has sent counts in the windows of the next.
pub(crate) fn next_process() -> Result<()> {
    block(async {
        let limits = "[limits]\nwindows = [{ limit = 1, per_ms = 3000 }]\n";
        let lab = lab(&manifest("upsert", limits), "upsert", 1, 30).await?;
        let mut sent = Vec::new();
        for life in 0..3 {
            lab.rows(&[(&format!("q{life}@x.io"), "")])?;
            let run = lab.run("people").await?.run;
            ensure!(run.tally.add.succeeded == 1, "{:?}", run.tally);
            sent.push(Instant::now());
        }
        let gaps: Vec<Duration> = sent.windows(2).map(|pair| pair[1].duration_since(pair[0])).collect();
        ensure!(gaps.iter().all(|gap| *gap > Duration::from_millis(2_500)), "{gaps:?}");
        Ok(())
    })
}
