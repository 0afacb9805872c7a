//! Salesforce: collections, look-ups, descriptions, logins.

pub(crate) mod bulk;
pub(crate) mod published;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use anyhow::{Result, ensure};
use outflow_backends::SystemClock;
use outflow_coordinator::project::{Fields, check_catalog};
use outflow_model::port::clock::Clock;
use outflow_model::port::ledger::RunOptions;
use outflow_model::run::RunState;
use outflow_simulators::{Client, Fault, Faults, Org, OrgOptions};
use outflow_tests::{Lab, block};
use outflow_worker::{Asker, Catalog, Keyring, probe};

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

/// Rows that were written more than once.
fn once_each(lab: &Lab<Org>) -> usize {
    let mut written: BTreeMap<String, usize> = BTreeMap::new();
    lab.portal.writes().into_iter().for_each(|write| *written.entry(write.key).or_default() += 1);
    written.values().filter(|times| **times > 1).count()
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
        // A record id is what it is: those of 15 characters may differ in case alone.
        lab.write("syncs/only.yml", &text.replace("Ext__c", "Id").replace("mode: mirror", "mode: update"))?;
        rows(&lab, ["003A0000001aBcD", "003A0000001AbCd"].map(|id| (id.to_owned(), "B".to_owned())))?;
        let tally = lab.run("only").await?.run.tally;
        ensure!((tally.invalid, tally.add.planned) == (0, 2), "{tally:?}");
        Ok(())
    })
}

/// What `check` says of the sync's fields.
async fn checked(lab: &Lab<Org>) -> Result<Vec<String>> {
    let start = lab.start("people", RunOptions::default())?;
    let now = SystemClock::default().now() / 1_000_000;
    let (keys, limiter) = (lab.keys()?, lab.limiter().await?);
    let asker = Asker { keys: &keys, limiter: &limiter, now };
    let known = probe(&start.sync.account, asker, Some("Contact")).await?;
    let Catalog { writable, identifying, relations, .. } = &known;
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
        // The login counts, too: it asks the limiter like any request.
        ensure!((run.tally.add.succeeded, run.tally.add.deferred) == (400, 600), "{:?}", run.tally);
        ensure!(lab.portal.calls() == 2, "{} calls", lab.portal.calls());
        Ok(())
    })
}

pub(crate) fn together() -> Result<()> {
    block(async {
        let private = concat!(env!("CARGO_MANIFEST_DIR"), "/flow/salesforce/keys/jwt.pem");
        let public_key = include_bytes!("keys/jwt.der").to_vec();
        let client = Client { public_key, username: "u@x.io".to_owned(), ..app() };
        let jwt = format!("auth: jwt_bearer, username: u@x.io, private_key: \"${{file:{private}}}\"");
        let refresh = "auth: refresh_token, client_secret: s, refresh_token: refresh-0";
        for settings in [SECRET, jwt.as_str(), refresh] {
            let latency = Duration::from_millis(50);
            let options = OrgOptions { client: Some(client.clone()), latency, ..OrgOptions::default() };
            let lab = lab(options, settings, "mode: upsert\ndelivery: { chunk_rows: 200 }", NAME).await?;
            rows(&lab, people(2_000))?;
            let start = lab.start("people", RunOptions::default())?;
            let (now, limiter) = (SystemClock::default().now() / 1_000_000, lab.limiter().await?);
            let ask = |keys: Keyring| {
                let (account, limiter) = (start.sync.account.clone(), limiter.clone());
                tokio::spawn(async move {
                    let asker = Asker { keys: &keys, limiter: &limiter, now };
                    probe(&account, asker, Some("Contact")).await
                })
            };
            for asked in lab.many_keys(8)?.into_iter().map(ask).collect::<Vec<_>>() {
                asked.await??;
            }
            ensure!(lab.portal.logins() == 1, "{settings}: {} logins of 8 that start together", lab.portal.logins());
            // All of them find their session ended at once.
            lab.portal.expire();
            let processes = if lab.is_distributed() { 4 } else { 1 };
            let mut engines = Vec::new();
            for _ in 0..processes {
                engines.push(lab.engines(&start, None).await?);
            }
            let run = engines[0].execute(&start).await?.run;
            ensure!(run.tally.add.succeeded == 2_000, "{settings}: {:?} {:?}", run.tally, run.reason);
            ensure!(once_each(&lab) == 0);
            ensure!(lab.portal.logins() == 2, "{settings}: {} logins, 2 were needed", lab.portal.logins());
        }
        Ok(())
    })
}

pub(crate) fn logins() -> Result<()> {
    block(async {
        // A pair of keys for this test alone.
        let private = concat!(env!("CARGO_MANIFEST_DIR"), "/flow/salesforce/keys/jwt.pem");
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
