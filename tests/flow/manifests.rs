//! Destinations that are a user's own manifest.

use std::fmt::Write;

use anyhow::{Result, ensure};
use outflow_model::run::RunState;
use outflow_simulators::Answer;
use outflow_tests::{Lab, Recorder, block};
use ring::hmac;

/// A project that sends `people.csv` by a manifest of its own.
async fn lab(manifest: &str, settings: &str) -> Result<Lab<Recorder>> {
    let lab = Lab::with(Recorder::default()).await?;
    lab.write(
        "outflow.yml",
        &format!(
            "version: 1\nsources:\n  files: {{ type: files, path: data }}\ndestinations:\n  own:\n    type: http\n    \
             manifest: own.toml\n    base_url: PORTAL\n    allow_private_addresses: true\n    settings: {{ {settings} }}\n"
        ),
    )?;
    lab.write("models/people.yml", "source: files\nkey: email\nfiles: people.csv\n")?;
    lab.write("syncs/people.yml", SYNC)?;
    lab.write("own.toml", manifest)?;
    lab.write("data/people.csv", "email,city,age\na@x.io,Graz,30\nb@x.io,\"St. \"\"P\"\"\",\n")?;
    Ok(lab)
}

const SYNC: &str = "model: people\ndestination: own\nobject: people\nmode: upsert\nmapping: { email: email, address.city: city, age: age }\n";

const HEAD: &str =
    "name = \"own\"\ntitle = \"Our own\"\n[objects.people]\nidentity = [\"email\"]\nmodes = [\"upsert\"]\n";

pub(crate) fn ndjson() -> Result<()> {
    block(async {
        let manifest = format!(
            "{HEAD}[auth]\nkind = \"hmac\"\nheader = \"x-signature\"\nsecret = \"key\"\n[config.key]\nlabel = \"Key\"\nsecret = true\n\
             [operations.upsert]\nmethod = \"PUT\"\npath = \"/in/{{object}}\"\nrecords = 10\nndjson = true\nbody = \"$records\"\n\
             headers = {{ Idempotency-Key = \"{{token}}\" }}\n"
        );
        let lab = lab(&manifest, "key: s3cret").await?;
        lab.portal.answer([Answer { reset: true, ..Answer::plain(200, String::new()) }]);
        let run = lab.run("people").await?.run;
        ensure!(run.tally.add.succeeded == 2, "{:?} {:?}", run.tally, run.reason);
        let seen = lab.portal.seen();
        let [lost, answered] = seen.as_slice() else { anyhow::bail!("{seen:?}") };
        ensure!(answered.line == "PUT /in/people" && answered.headers["content-type"] == "application/x-ndjson");
        ensure!(
            answered.body
                == "{\"email\":\"a@x.io\",\"address\":{\"city\":\"Graz\"},\"age\":\"30\"}\n{\"email\":\"b@x.io\",\"address\":{\"city\":\"St. \\\"P\\\"\"},\"age\":null}\n",
            "{}",
            answered.body
        );
        // The same delivery has the same key, however often it is sent.
        ensure!(!answered.headers["idempotency-key"].is_empty());
        ensure!(lost.headers["idempotency-key"] == answered.headers["idempotency-key"]);
        let (time, signature) = answered.headers["x-signature"].split_once(",v1=").unwrap_or_default();
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"s3cret");
        let signed = hmac::sign(&key, format!("{}.{}", time.trim_start_matches("t="), answered.body).as_bytes());
        let expected = signed.as_ref().iter().fold(String::new(), |mut out, byte| {
            _ = write!(out, "{byte:02x}");
            out
        });
        ensure!(signature == expected, "{signature} is not {expected}");
        Ok(())
    })
}

pub(crate) fn one_by_one() -> Result<()> {
    block(async {
        let manifest = format!(
            "{HEAD}[auth]\nkind = \"basic\"\nusername = \"user\"\npassword = \"password\"\n[config.user]\nlabel = \"User\"\n\
             [config.password]\nlabel = \"Password\"\nsecret = true\n[error]\nmessage = \"/why\"\n\
             [operations.upsert]\nmethod = \"POST\"\npath = \"/people/{{identity}}\"\nrecords = 1\nbody = \"$record\"\n"
        );
        let lab = lab(&manifest, "user: u, password: p").await?;
        lab.portal.answer([Answer::plain(422, "{\"why\":\"too young\"}".to_owned())]);
        let run = lab.run("people").await?.run;
        ensure!((run.tally.add.succeeded, run.tally.add.rejected) == (1, 1), "{:?}", run.tally);
        let seen = lab.portal.seen();
        let mut lines: Vec<_> = seen.iter().map(|seen| seen.line.as_str()).collect();
        lines.sort_unstable();
        ensure!(lines == ["POST /people/a%40x.io", "POST /people/b%40x.io"], "{lines:?}");
        ensure!(seen.iter().all(|seen| seen.headers["authorization"] == "Basic dTpw"));
        let problems = lab.ledger().await?.problems(&run.id, 9).await?;
        ensure!(problems.len() == 1 && problems[0].refusal.message == "too young", "{problems:?}");
        Ok(())
    })
}

pub(crate) fn by_position() -> Result<()> {
    block(async {
        let manifest = format!(
            "{HEAD}[operations.upsert]\nmethod = \"POST\"\npath = \"/people\"\nrecords = 10\nbody = {{ all = \"$records\" }}\n\
             answer = {{ by = \"position\", results = \"/results\", error_message = \"/error\" }}\n"
        );
        let lab = lab(&manifest, "").await?;
        // An answer that leaves a record out is no success of any.
        lab.portal.answer([
            Answer::plain(200, "{\"results\":[{}]}".to_owned()),
            Answer::plain(200, "{\"results\":[{\"error\":\"no\"},{}]}".to_owned()),
        ]);
        let run = lab.run("people").await?.run;
        ensure!(run.state == RunState::Partial, "{:?}", run.state);
        ensure!((run.tally.add.succeeded, run.tally.add.rejected) == (1, 1), "{:?}", run.tally);
        ensure!(run.requests == 2, "{} requests", run.requests);
        Ok(())
    })
}

/// An append webhook that takes a request and then tells where its answer is: the request is not sent again.
pub(crate) fn elsewhere() -> Result<()> {
    block(async {
        let manifest = HEAD.replace("upsert", "append")
            + "[operations.append]\nmethod = \"POST\"\npath = \"/in\"\nrecords = 10\nbody = \"$records\"\n";
        let lab = lab(&manifest, "").await?;
        lab.write("syncs/people.yml", &SYNC.replace("upsert", "append"))?;
        let told = Answer { headers: vec![("location", "/answers/1".to_owned())], ..Answer::plain(303, String::new()) };
        lab.portal.answer([told]);
        let run = lab.run("people").await?.run;
        ensure!(run.tally.add.unknown == 2, "{:?} {:?}", run.tally, run.reason);
        ensure!(lab.portal.seen().len() == 1, "{:?}", lab.portal.seen());
        Ok(())
    })
}

/// A refusal that repeats what it was sent: what is sensitive of it is kept by nobody.
pub(crate) fn discreet() -> Result<()> {
    block(async {
        let manifest = format!(
            "{HEAD}[error]\nmessage = \"/why\"\n[operations.upsert]\nmethod = \"POST\"\npath = \"/in\"\nrecords = 10\nbody = \"$records\"\n"
        );
        let lab = lab(&manifest, "").await?;
        lab.write(
            "syncs/people.yml",
            &SYNC.replace("address.city: city", "address.city: { column: city, sensitive: true }"),
        )?;
        lab.portal.answer([Answer::plain(403, "{\"why\":\"nobody may write to Graz\"}".to_owned())]);
        let run = lab.run("people").await?.run;
        let reason = run.reason.unwrap_or_default();
        ensure!(run.state == RunState::Failed && reason.ends_with("nobody may write to ***"), "{reason}");
        Ok(())
    })
}

/// What an append of two records to a destination that answers so comes to: succeeded, rejected, unknown, and requests.
async fn appended(more: &str, answers: &[(u16, &str)]) -> Result<[u64; 4]> {
    let manifest = HEAD.replace("upsert", "append")
        + &format!("[operations.append]\nmethod = \"POST\"\npath = \"/in\"\nrecords = 10\nbody = \"$records\"\n{more}");
    let lab = lab(&manifest, "").await?;
    lab.write("syncs/people.yml", &SYNC.replace("upsert", "append"))?;
    lab.portal.answer(answers.iter().map(|(status, body)| Answer::plain(*status, (*body).to_owned())));
    let run = lab.run("people").await?.run;
    Ok([run.tally.add.succeeded, run.tally.add.rejected, run.tally.add.unknown, lab.portal.seen().len() as u64])
}

/// Appends that get no clear answer are sent once, unless the manifest says that such an answer is of nothing done.
pub(crate) fn once() -> Result<()> {
    block(async {
        for status in [408, 423, 425, 500, 503] {
            let came = appended("", &[(status, "")]).await?;
            ensure!(came == [0, 0, 2, 1], "{status}: {came:?}");
        }
        let declared = "[[classify]]\nstatus = [503]\nclass = \"backoff\"\nexecuted = false\n";
        let came = appended(declared, &[(503, "")]).await?;
        ensure!(came == [2, 0, 0, 2], "{came:?}");
        // Nobody knows which of several were taken before the one that was refused.
        let came = appended("", &[(422, "")]).await?;
        ensure!(came == [0, 0, 2, 1], "{came:?}");
        let came = appended("answer = { atomic = true }\n", &[(422, ""), (422, "")]).await?;
        ensure!(came == [1, 1, 0, 3], "{came:?}");
        Ok(())
    })
}

/// A mirror whose records somebody else has taken away: what is gone needs no removal, and holds up no other.
pub(crate) fn gone() -> Result<()> {
    block(async {
        let manifest = HEAD.replace("[\"upsert\"]", "[\"mirror\"]\nremovals = [\"delete\"]")
            + "[operations.upsert]\nmethod = \"POST\"\npath = \"/people\"\nrecords = 10\nbody = \"$records\"\n\
               [operations.delete]\nmethod = \"DELETE\"\npath = \"/people/{identity}\"\nrecords = 1\n";
        let lab = lab(&manifest, "").await?;
        lab.write("syncs/people.yml", &SYNC.replace("upsert", "mirror\nguard: { max_removes_percent: 100 }"))?;
        let row = |name: &str| format!("{name}@x.io,Graz,1\n");
        let rows: String = ["a", "b", "c", "d"].map(row).concat();
        lab.write("data/people.csv", &format!("email,city,age\n{rows}"))?;
        lab.run("people").await?;
        lab.write("data/people.csv", &format!("email,city,age\n{}", row("d")))?;
        lab.portal.answer([404, 410, 204].map(|status| Answer::plain(status, String::new())));
        let run = lab.run("people").await?.run;
        ensure!(
            run.state == RunState::Succeeded && run.tally.remove.succeeded == 3,
            "{:?} {:?}",
            run.tally,
            run.reason
        );
        let seen = lab.portal.seen();
        let deletes: Vec<_> = seen.iter().filter(|seen| seen.line.starts_with("DELETE")).collect();
        ensure!(deletes.len() == 3, "{seen:?}");
        let bare = |name: &str| deletes.iter().all(|seen| !seen.headers.contains_key(name));
        ensure!(deletes.iter().all(|seen| seen.body.is_empty()) && bare("content-type"), "{deletes:?}");
        Ok(())
    })
}

/// One record whose answer is never understood: the others arrive all the same.
pub(crate) fn never_understood() -> Result<()> {
    block(async {
        let manifest = format!(
            "{HEAD}[operations.upsert]\nmethod = \"POST\"\npath = \"/people\"\nrecords = 10\nbody = \"$records\"\n\
             answer = {{ by = \"identity\", results = \"/done\", key = \"/key\" }}\n"
        );
        let lab = lab(&manifest, "").await?;
        lab.write("syncs/people.yml", &format!("{SYNC}delivery: {{ tries: 1 }}\n"))?;
        let answer = |body: &str| Answer::plain(200, body.to_owned());
        let left_out = r#"{"done":[{"key":"a@x.io"}]}"#;
        lab.portal.answer([left_out, left_out, left_out, r#"{"done":[]}"#].map(answer));
        let run = lab.run("people").await?.run;
        ensure!((run.tally.add.succeeded, run.tally.add.deferred) == (1, 1), "{:?} {:?}", run.tally, lab.portal.seen());
        Ok(())
    })
}
