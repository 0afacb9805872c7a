//! Salesforce: collections, look-ups, bulk jobs, logins.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use outflow_backends::SystemClock;
use outflow_coordinator::project::{Fields, check_catalog};
use outflow_model::outcome::Status;
use outflow_model::policy::ErrorClass;
use outflow_model::port::clock::Clock;
use outflow_model::port::ledger::{Chunks, RunOptions, RunPatch, Runs};
use outflow_model::run::RunState;
use outflow_simulators::{Client, Fault, Faults, JobFailure, Org, OrgOptions};
use outflow_tests::{Death, Lab, block};
use outflow_worker::{Catalog, probe};
use serde_json::Value;

const NAME: &str = "  LastName: name\n";

/// A project that reads `people.csv` (columns id and name) and writes contacts.
async fn lab(options: OrgOptions, settings: &str, sync: &str, mapping: &str) -> Result<Lab<Org>> {
    let lab = Lab::with(Org::new(options)).await?;
    lab.write(
        "outflow.yml",
        &format!(
            "version: 1\nsources:\n  files: {{ type: files, path: data }}\ndestinations:\n  crm:\n    type: salesforce\n    \
             base_url: PORTAL\n    allow_private_addresses: true\n    timeout_seconds: 30\n    concurrency: 2\n    \
             settings: {{ client_id: app, poll_seconds: \"0.01\", {settings} }}\n"
        ),
    )?;
    lab.write("models/people.yml", "source: files\nkey: id\nfiles: people.csv\n")?;
    lab.write(
        "syncs/people.yml",
        &format!(
            "model: people\ndestination: crm\nobject: Contact\nidentity: [Ext__c]\n{sync}\nmapping:\n  Ext__c: id\n{mapping}"
        ),
    )?;
    Ok(lab)
}

const SECRET: &str = "client_secret: s";

fn rows(lab: &Lab<Org>, rows: impl IntoIterator<Item = (String, String)>) -> Result<()> {
    let mut text = String::from("id,name\n");
    for (id, name) in rows {
        writeln!(text, "{id},\"{name}\"")?;
    }
    lab.write("data/people.csv", &text)
}

fn app() -> Client {
    Client { id: "app".to_owned(), secret: "s".to_owned(), refresh_token: "refresh-0".to_owned(), ..Client::default() }
}

fn org() -> OrgOptions {
    OrgOptions { client: Some(app()), ..OrgOptions::default() }
}

fn people(count: usize) -> impl Iterator<Item = (String, String)> {
    (0..count).map(|n| (format!("k{n}"), format!("Person {n}")))
}

pub(crate) fn collections() -> Result<()> {
    block(async {
        let lab = lab(org(), SECRET, "mode: upsert", NAME).await?;
        let name = |n: usize| match n {
            3 | 150 => format!("refuse me {n}"),
            7 => "race me".to_owned(),
            20..30 => format!("lock me {n}"),
            _ => format!("O'Brien, \"{n}\" 東京").replace('"', "\"\""),
        };
        rows(&lab, (0..250).map(|n| (format!("k{n}"), name(n))))?;
        let run = lab.run("people").await?.run;
        ensure!((run.tally.add.succeeded, run.tally.add.rejected) == (248, 2), "{:?}", run.tally);
        let records = lab.portal.records("Contact");
        ensure!(records.len() == 248);
        ensure!(records["k100"]["LastName"] == "O'Brien, \"100\" 東京", "{:?}", records["k100"]);
        // Two calls; one of 11 with the race and the locks, which is too many for the locks; four of at most 3.
        ensure!(lab.portal.calls() == 7, "{} calls", lab.portal.calls());
        for problem in lab.ledger().await?.problems(&run.id, 10).await? {
            ensure!(problem.refusal.code == "FIELD_CUSTOM_VALIDATION_EXCEPTION", "{}", problem.refusal.code);
            ensure!(problem.refusal.message.contains("refuse me"), "{}", problem.refusal.message);
        }
        let calls = lab.portal.calls();
        lab.run("people").await?;
        ensure!(lab.portal.calls() == calls, "an unchanged run asked something");
        Ok(())
    })
}

pub(crate) fn mirror() -> Result<()> {
    block(async {
        let lab = lab(org(), SECRET, "mode: mirror\nguard: { max_removes_percent: 100 }", NAME).await?;
        rows(&lab, people(300))?;
        lab.run("people").await?;
        let calls = lab.portal.calls();
        rows(&lab, people(50))?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.remove.succeeded == 250, "{:?}", run.tally);
        ensure!(lab.portal.records("Contact").len() == 50);
        ensure!(lab.portal.calls() - calls == 2, "250 known ids took {} calls", lab.portal.calls() - calls);
        // An answer that was lost leaves no id: the removed record is looked up.
        rows(&lab, people(51))?;
        lab.write(
            "syncs/people.yml",
            &std::fs::read_to_string(lab.path().join("syncs/people.yml"))?
                .replace("mapping:", "delivery: { tries: 1 }\nmapping:"),
        )?;
        lab.portal.set_faults(Faults { rates: vec![(Fault::ResetAfter, 1_000)], ..Faults::default() });
        let run = lab.run("people").await?.run;
        ensure!(run.tally.total().deferred == 1, "{:?}", run.tally);
        lab.portal.set_faults(Faults::default());
        ensure!(lab.portal.records("Contact").len() == 51);
        rows(&lab, people(50))?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.remove.succeeded == 1, "{:?}", run.tally);
        ensure!(lab.portal.records("Contact").len() == 50);
        Ok(())
    })
}

pub(crate) fn update() -> Result<()> {
    block(async {
        let lab = lab(org(), SECRET, "mode: upsert", NAME).await?;
        rows(&lab, people(60))?;
        lab.run("people").await?;
        let text = std::fs::read_to_string(lab.path().join("syncs/people.yml"))?;
        lab.write("syncs/only.yml", &text.replace("mode: upsert", "mode: update"))?;
        rows(&lab, (30..90).map(|n| (format!("k{n}"), format!("New {n}"))))?;
        lab.portal.forget_writes();
        let run = lab.run("only").await?.run;
        ensure!((run.tally.add.succeeded, run.tally.add.skipped) == (30, 30), "{:?}", run.tally);
        ensure!(lab.portal.writes().iter().all(|write| write.operation == "update"));
        ensure!(lab.portal.records("Contact").len() == 60);
        ensure!(lab.portal.records("Contact")["k45"]["LastName"] == "New 45");
        Ok(())
    })
}

/// How many rows the large bulk flow has: 200,000 for the real thing.
#[expect(clippy::disallowed_methods, reason = "a test's own size")]
fn many() -> usize {
    std::env::var("BULK_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(101_000)
}

pub(crate) fn bulk() -> Result<()> {
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
        for problem in lab.ledger().await?.problems(&run.id, 1_000).await? {
            ensure!(problem.status == Some(Status::Rejected) && problem.refusal.class == ErrorClass::RejectRecord);
            let wanted = format!("LastName \"refuse me {}\" is not valid", problem.key.trim_start_matches('k'));
            ensure!(problem.refusal.message == wanted, "{}", problem.refusal.message);
        }
        // Ids came with the results: removing needs no look-up.
        let calls = lab.portal.calls();
        rows(&lab, (0..count).filter(|n| *n != 1).map(|n| (format!("k{n}"), name(n))))?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.remove.succeeded == 1 && run.tally.withheld == refused, "{:?}", run.tally);
        ensure!(lab.portal.calls() - calls == 1);
        Ok(())
    })
}

/// Rows that were written more than once.
fn once_each(lab: &Lab<Org>) -> usize {
    let mut written: BTreeMap<String, usize> = BTreeMap::new();
    lab.portal.writes().into_iter().for_each(|write| *written.entry(write.key).or_default() += 1);
    written.values().filter(|times| **times > 1).count()
}

pub(crate) fn bulk_deaths() -> Result<()> {
    block(async {
        let mut resumed = 0;
        for at in 0.. {
            for after in [false, true] {
                let lab = lab(org(), SECRET, "mode: upsert\ndelivery: { bulk: always }", NAME).await?;
                rows(&lab, people(1_000))?;
                let start = lab.start("people", RunOptions::default())?;
                let death = Death::at(at, after);
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

pub(crate) fn bulk_lost_answers() -> Result<()> {
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

pub(crate) fn bulk_interrupted() -> Result<()> {
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

pub(crate) fn bulk_fails() -> Result<()> {
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

pub(crate) fn folded() -> Result<()> {
    block(async {
        let lab = lab(org(), SECRET, "mode: mirror\nguard: { max_removes_percent: 100 }", NAME).await?;
        rows(&lab, [("K1".to_owned(), "A".to_owned())])?;
        lab.run("people").await?;
        // With another rule for case its key is another one: that is told, and nothing is removed.
        let text = std::fs::read_to_string(lab.path().join("syncs/people.yml"))?;
        lab.write("syncs/people.yml", &format!("fold_case: false\n{text}"))?;
        let error = lab.run("people").await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains("another key (id text in any case, now id text)"), "{error}");
        ensure!(lab.portal.writes().len() == 1);
        Ok(())
    })
}

pub(crate) fn bulk_values() -> Result<()> {
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
        // A field that does not exist stops the run, as it would stop every row.
        let text = std::fs::read_to_string(lab.path().join("syncs/people.yml"))?;
        lab.write("syncs/people.yml", &text.replace("  Note: note", "  Nothing__c: note"))?;
        let run = lab.run("people").await?.run;
        ensure!(run.state == RunState::Failed, "{:?}", run.state);
        ensure!(run.reason.as_deref().is_some_and(|reason| reason.contains("Nothing__c")), "{:?}", run.reason);
        Ok(())
    })
}

/// What `check` says of the sync's fields.
async fn checked(lab: &Lab<Org>) -> Result<Vec<String>> {
    let start = lab.start("people", RunOptions::default())?;
    let now = SystemClock::default().now() / 1_000_000;
    let known = probe(&start.sync.account, &lab.keys(), Some("Contact"), now).await?;
    let Catalog { writable, identifying, relations } = &known;
    let problems = check_catalog(&start.sync, &start.written, Fields { writable, identifying, relations });
    Ok(problems.iter().map(ToString::to_string).collect())
}

pub(crate) fn described() -> Result<()> {
    block(async {
        let options = || OrgOptions { fields: Some(vec!["LastName".to_owned()]), ..org() };
        let good = "  LastName: name\n  Account.Number__c: name\n";
        let lab = lab(options(), SECRET, "mode: upsert", good).await?;
        ensure!(checked(&lab).await?.is_empty(), "{:?}", checked(&lab).await?);
        let text = std::fs::read_to_string(lab.path().join("syncs/people.yml"))?;
        for (from, to, wanted) in [
            ("LastName:", "LastNam:", "no writable field \"LastNam\". Did you mean \"LastName\"?"),
            ("LastName:", "CreatedDate:", "no writable field \"CreatedDate\""),
            ("Account.Number__c:", "Owner.Number__c:", "no writable field \"Owner.Number__c\""),
            (
                "[Ext__c]\nmode: upsert\nmapping:\n  Ext__c: id\n  LastName: name",
                "[LastName]\nmode: upsert\nmapping:\n  LastName: id",
                "does not address a record. Use one of: Ext__c, Id",
            ),
        ] {
            ensure!(text.contains(from), "{text}");
            lab.write("syncs/people.yml", &text.replace(from, to))?;
            let said = checked(&lab).await?;
            ensure!(said.len() == 1 && said[0].contains(wanted) && said[0].contains("syncs/people.yml:"), "{said:?}");
        }
        Ok(())
    })
}

pub(crate) fn quota() -> Result<()> {
    block(async {
        let lab = lab(OrgOptions { daily: Some(3), ..org() }, SECRET, "mode: upsert", NAME).await?;
        rows(&lab, people(1_000))?;
        let run = lab.run("people").await?.run;
        ensure!((run.tally.add.succeeded, run.tally.add.deferred) == (600, 400), "{:?}", run.tally);
        // The org's own word on its allowance stops the next call before it is refused.
        ensure!(lab.portal.calls() == 3);
        Ok(())
    })
}

pub(crate) fn logins() -> Result<()> {
    block(async {
        // A pair of keys for this test alone.
        let private = concat!(env!("CARGO_MANIFEST_DIR"), "/flow/keys/jwt.pem");
        let public_key = include_bytes!("keys/jwt.der").to_vec();
        let client = Client { public_key, username: "u@x.io".to_owned(), ..app() };
        let jwt = format!("auth: jwt_bearer, username: u@x.io, private_key: \"${{file:{private}}}\"");
        let refresh = "auth: refresh_token, client_secret: s, refresh_token: refresh-0";
        for settings in [SECRET, jwt.as_str(), refresh] {
            let options = OrgOptions { client: Some(client.clone()), ..OrgOptions::default() };
            let lab = lab(options, settings, "mode: upsert", NAME).await?;
            rows(&lab, people(1_000))?;
            // Sessions that end on the way are renewed, and the same request is sent again.
            let script = [Fault::None, Fault::Unauthorized, Fault::None, Fault::Unauthorized];
            lab.portal.set_faults(Faults { script: script.into(), ..Faults::default() });
            let run = lab.run("people").await?.run;
            ensure!(run.tally.add.succeeded == 1_000, "{settings}: {:?} {:?}", run.tally, run.reason);
            ensure!(once_each(&lab) == 0);
            // Another process, after every session has ended: a refresh token that was used up is not used again.
            lab.portal.expire();
            rows(&lab, people(1_001))?;
            let run = lab.run("people").await?.run;
            ensure!(run.tally.add.succeeded == 1, "{settings}: {:?} {:?}", run.tally, run.reason);
        }
        for (settings, wanted) in [
            ("client_secret: wrong", "invalid_client"),
            ("auth: refresh_token, client_secret: s, refresh_token: old", "expired access/refresh token"),
            ("auth: jwt_bearer, username: u@x.io, private_key: nonsense", "it is no PEM private key"),
            (jwt.replace("u@x.io", "v@x.io").as_str(), "user hasn't approved this consumer"),
        ] {
            let options = OrgOptions { client: Some(client.clone()), ..OrgOptions::default() };
            let lab = lab(options, settings, "mode: upsert", NAME).await?;
            rows(&lab, people(10))?;
            let run = lab.run("people").await?.run;
            ensure!(run.state == RunState::Failed && run.tally.add.aborted == 10, "{:?}", run.tally);
            ensure!(run.reason.as_deref().is_some_and(|reason| reason.contains(wanted)), "{:?}", run.reason);
        }
        Ok(())
    })
}

pub(crate) fn cancelled_job() -> Result<()> {
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

/// A published request: method, path with `*` for what varies, and the names in its body, form or query.
type Published = (String, Vec<String>, Vec<String>);

fn published(folder: &Path) -> Result<Vec<Published>> {
    let mut all = Vec::new();
    for part in ["auth", "bulk_v2", "composite", "rest"] {
        for file in std::fs::read_dir(folder.join(part))? {
            let request: Value = serde_json::from_slice(&std::fs::read(file?.path())?)?;
            let text = |name: &str| request[name].as_str().unwrap_or_default();
            let url = text("url").rsplit_once("}}/services").map_or("", |(_, path)| path);
            let path = format!("services{}", url.split('?').next().unwrap_or_default());
            let parts = path.trim_end_matches('/').split('/').map(|part| {
                if part.contains("{{") || part.starts_with('<') { "*".to_owned() } else { part.to_owned() }
            });
            let list = |list: &str| -> Vec<String> {
                let list = request[list].as_array().cloned().unwrap_or_default();
                list.iter().filter_map(|item| item["key"].as_str().map(str::to_owned)).collect()
            };
            let mut names: Vec<String> = [list("data"), list("queryParams")].concat();
            if let Ok(Value::Object(body)) = serde_json::from_str(text("rawModeData")) {
                names.extend(body.keys().cloned());
            }
            all.push((text("method").to_owned(), parts.collect(), names));
        }
    }
    Ok(all)
}

pub(crate) fn requests() -> Result<()> {
    block(async {
        let specs = Lab::salesforce_specs().context("the specs are there")?;
        let published = published(&specs.join("postman-cc0"))?;
        let lab = lab(org(), SECRET, "mode: mirror\nguard: { max_removes_percent: 100 }", NAME).await?;
        rows(&lab, people(2_100))?;
        lab.run("people").await?;
        rows(&lab, people(2_000))?;
        lab.run("people").await?;
        let text = std::fs::read_to_string(lab.path().join("syncs/people.yml"))?;
        lab.write("syncs/only.yml", &text.replace("mode: mirror", "mode: update"))?;
        rows(&lab, people(10))?;
        lab.run("only").await?;
        let seen = lab.portal.seen();
        ensure!(seen.len() >= 9, "{seen:?}");
        // Newer than the collection: upsert by external id, and the paths that take no object.
        let newer = |method: &str, parts: &[&str]| match (method, parts) {
            ("PATCH", ["services", "data", _, "composite", "sobjects", rest @ ..]) => matches!(rest.len(), 0 | 2),
            ("DELETE", ["services", "data", _, "composite", "sobjects"]) => true,
            _ => false,
        };
        // Optional members that the collection's examples leave out.
        let optional =
            ["contentType", "lineEnding", "columnDelimiter", "externalIdFieldName", "client_id", "client_secret"];
        for (method, path, names) in &seen {
            let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
            let fits = |(known, pattern, _): &&Published| {
                known == method
                    && pattern.len() == parts.len()
                    && pattern.iter().zip(&parts).all(|(pattern, part)| pattern == "*" || pattern == part)
            };
            let found: Vec<_> = published.iter().filter(fits).collect();
            ensure!(!found.is_empty() || newer(method, &parts), "{method} {path} is not published");
            let known: Vec<&String> = found.iter().flat_map(|(_, _, names)| names).collect();
            for name in names.iter().filter(|name| !found.is_empty() && !optional.contains(&name.as_str())) {
                ensure!(known.contains(&name), "{method} {path} does not publish `{name}`: {known:?}");
            }
        }
        // What the simulator refuses with, and what the destination knows, are codes of the published list.
        let codes = std::fs::read_to_string(specs.join("status-codes.txt"))?;
        for code in [
            "UNABLE_TO_LOCK_ROW",
            "DUPLICATE_VALUE",
            "FIELD_CUSTOM_VALIDATION_EXCEPTION",
            "ENTITY_IS_DELETED",
            "INVALID_CROSS_REFERENCE_KEY",
            "STORAGE_LIMIT_EXCEEDED",
            "LIMIT_EXCEEDED",
            "INVALID_SESSION_ID",
            "REQUEST_LIMIT_EXCEEDED",
            "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
            "INVALID_FIELD_FOR_INSERT_UPDATE",
            "SERVER_UNAVAILABLE",
            "UNKNOWN_EXCEPTION",
        ] {
            ensure!(codes.split_whitespace().any(|known| known.trim_matches(',') == code), "{code} is not published");
        }
        Ok(())
    })
}
