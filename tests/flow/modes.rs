//! What modes, guard and mapping do to rows that come, change and go.

use anyhow::{Result, ensure};
use outflow_model::port::ledger::RunOptions;
use outflow_model::run::RunState;
use outflow_simulators::Options;
use outflow_tests::{Lab, block};

const MIRROR: &str = "mode: mirror\nremove: archive";
const NAME: &str = "  name: name\n";

pub(crate) fn mirror() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people(MIRROR, NAME)?;
        let five = [("a@x.io", "A"), ("b@x.io", "B"), ("c@x.io", "C"), ("d@x.io", "D"), ("e@x.io", "E")];
        lab.rows(&five)?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.add.succeeded == 5 && run.tally.remove.planned == 0, "{:?}", run.tally);
        lab.portal.forget_writes();
        lab.rows(&[("b@x.io", "B2"), ("c@x.io", "C"), ("d@x.io", "D"), ("e@x.io", "E"), ("f@x.io", "F")])?;
        let run = lab.run("people").await?.run;
        ensure!(run.state == RunState::Succeeded, "{:?}", run.tally);
        let mut writes: Vec<_> =
            lab.portal.writes().into_iter().map(|w| format!("{} {}", w.operation, w.key)).collect();
        writes.sort();
        ensure!(writes == ["archive a@x.io", "create f@x.io", "update b@x.io"], "{writes:?}");
        lab.portal.forget_writes();
        lab.run("people").await?;
        ensure!(lab.portal.writes().is_empty(), "a removed row was removed again");
        Ok(())
    })
}

pub(crate) fn empty() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people(MIRROR, NAME)?;
        lab.rows(&[("a@x.io", "A"), ("b@x.io", "B")])?;
        lab.run("people").await?;
        lab.rows(&[])?;
        let run = lab.run("people").await?.run;
        ensure!(run.state == RunState::Held, "{:?}", run.state);
        ensure!(lab.contacts("name").len() == 2);
        // The rows return before anyone approves: the held plan is cancelled, and removes nothing.
        lab.rows(&[("a@x.io", "A"), ("b@x.io", "B")])?;
        let start = lab.start("people", run.options)?;
        let engines = lab.engines(&start, None).await?;
        let cancelled = engines.engine.cancel(&run.id, &start).await?.run;
        ensure!(cancelled.state == RunState::Cancelled && cancelled.tally.remove.aborted == 2, "{:?}", cancelled.tally);
        let run = lab.run("people").await?.run;
        ensure!(run.tally.unchanged == 2 && run.requests == 0, "{:?}", run.tally);
        Ok(())
    })
}

pub(crate) fn invalid() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people(MIRROR, NAME)?;
        lab.rows(&[("a@x.io", "A"), ("b@x.io", "B")])?;
        lab.run("people").await?;
        lab.rows(&[("A@x.io", "A2"), ("a@x.io", "A"), ("", "nobody"), ("b@x.io", "B")])?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.invalid == 3 && run.tally.unchanged == 1, "{:?}", run.tally);
        ensure!(run.tally.missing == 0, "a duplicate's key counts as present: {:?}", run.tally);
        let mut codes: Vec<_> =
            lab.ledger().await?.problems(&run.id, 9).await?.into_iter().map(|p| p.refusal.code).collect();
        codes.sort();
        ensure!(codes == ["OF-5002", "OF-5003", "OF-5003"], "{codes:?}");
        Ok(())
    })
}

pub(crate) fn mapping() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people(MIRROR, NAME)?;
        lab.rows(&[("a@x.io", "A"), ("b@x.io", "B")])?;
        lab.run("people").await?;
        lab.people(MIRROR, "  name: { template: \"Dr. {{ name }}\" }\n")?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.change.succeeded == 2, "{:?}", run.tally);
        ensure!(lab.contacts("name")[0].1 == "Dr. A", "{:?}", lab.contacts("name"));
        Ok(())
    })
}

pub(crate) fn only_new() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        let mirror = format!("{MIRROR}\non_mapping_change: only_new");
        lab.people(&mirror, NAME)?;
        lab.rows(&[("a@x.io", "A"), ("b@x.io", "B"), ("c@x.io", "refuse me"), ("d@x.io", "D")])?;
        lab.run("people").await?;
        lab.people(&mirror, "  name: { template: \"Dr. {{ name }}\" }\n")?;
        lab.rows(&[("a@x.io", "A"), ("b@x.io", "B"), ("c@x.io", "C"), ("e@x.io", "E")])?;
        let run = lab.run("people").await?.run;
        // Known rows stay as they are; a refused one, a new one and a removed one are sent.
        ensure!(run.tally.ignored == 2 && run.tally.add.succeeded == 2, "{:?}", run.tally);
        ensure!(run.tally.remove.succeeded == 1, "{:?}", run.tally);
        let named = |names: [&str; 4]| -> Vec<(String, String)> {
            let keys = ["a@x.io", "b@x.io", "c@x.io", "e@x.io"];
            keys.into_iter().zip(names).map(|(key, name)| (key.to_owned(), name.to_owned())).collect()
        };
        ensure!(lab.contacts("name") == named(["A", "B", "Dr. C", "Dr. E"]), "{:?}", lab.contacts("name"));
        let run = lab.run("people").await?.run;
        ensure!(run.tally.unchanged == 4 && run.requests == 0, "{:?}", run.tally);
        // From now on a change is sent in the new form; a mapping that changes alone sends nothing.
        lab.rows(&[("a@x.io", "A2"), ("b@x.io", "B"), ("c@x.io", "C"), ("e@x.io", "E")])?;
        lab.run("people").await?;
        ensure!(lab.contacts("name") == named(["Dr. A2", "B", "Dr. C", "Dr. E"]), "{:?}", lab.contacts("name"));
        lab.people(&mirror, NAME)?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.ignored == 4 && run.requests == 0, "{:?}", run.tally);
        ensure!(lab.run("people").await?.run.tally.unchanged == 4);
        Ok(())
    })
}

pub(crate) fn never_retried() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: upsert\nretry_rejected: never", NAME)?;
        lab.rows(&[("a@x.io", "refuse me"), ("b@x.io", "B")])?;
        lab.run("people").await?;
        lab.rows(&[("a@x.io", "A"), ("b@x.io", "B")])?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.withheld == 1 && run.requests == 0, "{:?}", run.tally);
        let retry = RunOptions { retry_rejected: true, ..RunOptions::default() };
        ensure!(lab.run_with("people", retry).await?.run.tally.add.succeeded == 1);
        Ok(())
    })
}

pub(crate) fn every_run() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: upsert\nretry_rejected: every_run", NAME)?;
        lab.rows(&[("a@x.io", "refuse me"), ("b@x.io", "B")])?;
        lab.run("people").await?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.add.rejected == 1 && run.requests == 1, "{:?}", run.tally);
        Ok(())
    })
}

pub(crate) fn other_key() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people(MIRROR, NAME)?;
        lab.rows(&[("a@x.io", "A")])?;
        lab.run("people").await?;
        lab.write("models/people.yml", "source: files\nkey: name\nfiles: people.csv\n")?;
        lab.write(
            "syncs/people.yml",
            "model: people\ndestination: crm\nobject: contacts\nmode: mirror\nidentity: [name]\nmapping: { name: name }\n",
        )?;
        let error = lab.run("people").await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains("another key (email text in any case, now name text in any case)"), "{error}");
        ensure!(error.contains("outflow state reset people"), "{error}");
        ensure!(lab.contacts("name").len() == 1);
        Ok(())
    })
}

/// What one vendor acknowledged is not taken for what another has, though the account kept its name.
pub(crate) fn other_destination() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: upsert\nidentity: [email]", NAME)?;
        lab.rows(&[("a@x.io", "A")])?;
        lab.run("people").await?;
        let project =
            "version: 1\nsources:\n  files: { type: files, path: data }\ndestinations:\n  crm: { type: blackhole }\n";
        lab.write("outflow.yml", project)?;
        let error = lab.run("people").await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains("another destination type (hubspot, now blackhole)"), "{error}");
        Ok(())
    })
}

pub(crate) fn keyless() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        // Upsert sends no removes, so its snapshot keeps no keys.
        lab.people("mode: upsert", NAME)?;
        lab.rows(&[("a@x.io", "A"), ("b@x.io", "B"), ("c@x.io", "C"), ("d@x.io", "D")])?;
        lab.run("people").await?;
        lab.people(MIRROR, NAME)?;
        lab.rows(&[("b@x.io", "B"), ("c@x.io", "C"), ("d@x.io", "D")])?;
        lab.portal.forget_writes();
        let run = lab.run("people").await?.run;
        ensure!(run.tally.remove.planned == 0 && run.tally.missing_ignored == 1, "{:?}", run.tally);
        ensure!(run.tally.missing_invalid == 1 && run.state == RunState::Partial, "{run:?}");
        // The rows that are there are sent again, so that their keys are known.
        ensure!(run.tally.change.succeeded == 3, "{:?}", run.tally);
        let problems = lab.ledger().await?.problems(&run.id, 9).await?;
        ensure!(problems.len() == 1 && problems[0].refusal.code == "OF-5004", "{problems:?}");
        lab.rows(&[("c@x.io", "C"), ("d@x.io", "D")])?;
        let run = lab.run("people").await?.run;
        ensure!((run.tally.remove.planned, run.tally.change.planned) == (1, 0), "{:?}", run.tally);
        Ok(())
    })
}

pub(crate) fn own_manifest() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: upsert", NAME)?;
        lab.write(
            "outflow.yml",
            "version: 1\nsources:\n  files: { type: files, path: data }\ndestinations:\n  crm:\n    type: http\n    \
             manifest: crm.toml\n    base_url: PORTAL\n    allow_private_addresses: true\n    settings: { token: t }\n",
        )?;
        lab.write(
            "crm.toml",
            r#"
            name = "own"
            title = "Our own CRM"
            style = { text = true }
            auth = { kind = "bearer", token = "token" }
            [config.token]
            label = "Token"
            secret = true
            [objects.contacts]
            identity = ["email"]
            modes = ["upsert"]
            [operations.upsert]
            method = "POST"
            path = "/api/{object}/batch/upsert"
            records = 3
            body = { inputs = "$records" }
            record = { id = "$identity", idProperty = "email", objectWriteTraceId = "$index", properties = "$fields" }
            answer = { by = "index", errors = "/errors", error_key = "/context/objectWriteTraceId", error_message = "/message" }
            "#,
        )?;
        lab.rows(&[("a@x.io", "A"), ("b@x.io", "refuse me"), ("c@x.io", "C"), ("d@x.io", "D")])?;
        let run = lab.run("people").await?.run;
        ensure!((run.tally.add.succeeded, run.tally.add.rejected) == (3, 1), "{:?}", run.tally);
        ensure!(run.requests == 2, "{}", run.requests);
        Ok(())
    })
}

pub(crate) fn blackhole() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: mirror\nidentity: [email]", NAME)?;
        lab.write(
            "outflow.yml",
            "version: 1\nsources:\n  files: { type: files, path: data }\ndestinations:\n  crm: { type: blackhole }\n",
        )?;
        lab.rows(&[("a@x.io", "A"), ("b@x.io", "B"), ("c@x.io", "C"), ("d@x.io", "D")])?;
        let run = lab.run("people").await?.run;
        ensure!(run.state == RunState::Succeeded && run.tally.add.succeeded == 4, "{:?}", run.tally);
        lab.rows(&[("a@x.io", "A"), ("b@x.io", "B2"), ("c@x.io", "C")])?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.change.succeeded == 1 && run.tally.remove.succeeded == 1, "{:?}", run.tally);
        ensure!(run.requests == 0, "{} requests were sent", run.requests);
        Ok(())
    })
}

/// Every row is asked for, in modes that send no changes: where sending twice does no harm, and where a create would.
pub(crate) fn full() -> Result<()> {
    block(async {
        let all = RunOptions { full: true, ..RunOptions::default() };
        for mode in ["members", "delete", "append", "create"] {
            let lab = Lab::new(Options::default()).await?;
            lab.people(&format!("mode: {mode}\nidentity: [email]"), NAME)?;
            if mode != "create" {
                let hole = "version: 1\nsources:\n  files: { type: files, path: data }\ndestinations:\n  crm: { type: blackhole }\n";
                lab.write("outflow.yml", hole)?;
            }
            lab.rows(&[("a@x.io", "A"), ("b@x.io", "B"), ("c@x.io", "C"), ("d@x.io", "D")])?;
            lab.run("people").await?;
            let run = lab.run_with("people", all).await?.run;
            let added = if mode == "create" { 0 } else { 4 };
            ensure!((run.tally.add.planned, run.tally.ignored) == (added, 4 - added), "{mode}: {:?}", run.tally);
            ensure!(run.state == RunState::Succeeded && run.tally.change.planned == 0, "{mode}: {run:?}");
        }
        Ok(())
    })
}
