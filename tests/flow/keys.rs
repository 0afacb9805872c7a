//! Keys that hide, and records that several keys share: what must not be removed.

use std::fmt::Write;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use outflow_model::outcome::Status;
use outflow_model::port::ledger::Problem;
use outflow_model::run::RunState;
use outflow_simulators::{Answer, Options};
use outflow_tests::{Lab, Postgres, Recorder, Service, block};
use parquet::arrow::ArrowWriter;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};

/// A project that reads `source` as `model`, whose key is `id`, into a destination that accepts everything.
fn project(lab: &Lab, source: &str, model: (&str, &str), sync: &str) -> Result<()> {
    project_by(lab, source, model, sync, "id")
}

/// The same with `rule` for the field that addresses a record.
fn project_by(lab: &Lab, source: &str, model: (&str, &str), sync: &str, rule: &str) -> Result<()> {
    let sources = format!("version: 1\nsources:\n  s: {source}\ndestinations:\n  crm: {{ type: blackhole }}\n");
    lab.write("outflow.yml", &sources)?;
    lab.write(&format!("models/people.{}", model.0), model.1)?;
    let guard = "guard: { max_removes_percent: 100 }";
    let fixed = format!("model: people\ndestination: crm\nobject: contacts\nidentity: [id]\n{guard}\n");
    lab.write("syncs/people.yml", &format!("{fixed}{sync}\nmapping: {{ id: {rule}, name: name }}\n"))
}

/// Runs three rows, then a turn in which one is gone and another's key hides, then one where that key can be read again.
async fn turns(lab: &Lab, mut write: impl AsyncFnMut(u8) -> Result<()>) -> Result<()> {
    write(0).await?;
    let run = lab.run("people").await?.run;
    ensure!(run.state == RunState::Succeeded && run.tally.add.succeeded == 3, "{run:?}");
    write(1).await?;
    let run = lab.run("people").await?.run;
    let tally = run.tally;
    ensure!((tally.keyless, tally.invalid, tally.unchanged) == (1, 1, 1), "{tally:?}");
    ensure!((tally.missing, tally.missing_withheld, tally.missing_unsure) == (2, 2, 2), "{tally:?}");
    ensure!(tally.remove.planned == 0 && run.state == RunState::Partial, "{run:?}");
    write(2).await?;
    let tally = lab.run("people").await?.run.tally;
    ensure!((tally.remove.succeeded, tally.missing_unsure, tally.unchanged) == (1, 0, 2), "{tally:?}");
    Ok(())
}

const YML: (&str, &str) = ("yml", "source: s\nkey: id\nfiles: data.csv\n");

pub(crate) fn csv() -> Result<()> {
    block(async {
        // Null; a text among numbers, in a list's members; and what is not UTF-8 would be alike.
        let cases = [
            ("{ type: files, path: data }", "mode: mirror\nremove: delete", ""),
            ("{ type: files, path: data, types: { id: int } }", "mode: members", "many"),
        ];
        for (source, mode, hidden) in cases {
            let lab = Lab::new(Options::default()).await?;
            project(&lab, source, YML, mode)?;
            let rows = ["1,A\n2,B\n3,C\n".to_owned(), format!("1,A\n{hidden},B\n"), "1,A\n2,B\n".to_owned()];
            turns(&lab, async |turn| lab.write("data/data.csv", &format!("id,name\n{}", rows[usize::from(turn)])))
                .await
                .with_context(|| mode.to_owned())?;
        }
        Ok(())
    })
}

/// A key that the mapping cannot bring into the form in which it addresses a record.
pub(crate) fn refused() -> Result<()> {
    block(async {
        let cases = [
            ("{ column: id, normalize: email }", ["a@x.io", "b@x.io", "c@x.io"], "b @x.io"),
            ("{ column: id, normalize: email }", ["a@x.io", "b@x.io", "c@x.io"], "\" \""),
            ("{ column: id, type: int }", ["1", "2", "3"], "2x"),
            ("{ column: id, type: json }", ["1", "2", "3"], "[2]"),
            ("id", ["a", "b", "c"], "\" \""),
        ];
        for (rule, ids, hidden) in cases {
            let lab = Lab::new(Options::default()).await?;
            project_by(&lab, "{ type: files, path: data }", YML, "mode: mirror\nfold_case: true", rule)?;
            let file = |ids: &[&str]| ids.iter().fold("id,name\n".to_owned(), |file, id| file + id + ",-\n");
            let files = [file(&ids), file(&[ids[0], hidden]), file(&ids[..2])];
            turns(&lab, async |turn| {
                if turn == 2 {
                    let ledger = lab.ledger().await?;
                    let run = ledger.runs(None, 1).await?.pop().context("there is no run")?;
                    let problems = ledger.problems(&run.id, 9).await?;
                    ensure!(problems.iter().any(|problem| problem.refusal.code == "OF-5001"), "{problems:?}");
                }
                lab.write("data/data.csv", &files[usize::from(turn)])
            })
            .await
            .with_context(|| format!("{rule}: {hidden}"))?;
        }
        Ok(())
    })
}

pub(crate) fn ndjson() -> Result<()> {
    block(async {
        let id = |id: &str| format!("\"id\":{id},");
        for hidden in [String::new(), id("null"), id("\"\\ud83d\""), format!("{}{}", id("2"), id("3"))] {
            let lab = Lab::new(Options::default()).await?;
            let model = ("yml", "source: s\nkey: id\nfiles: data.ndjson\n");
            project(&lab, "{ type: files, path: data }", model, "mode: mirror")?;
            let turn = |ids: &[String]| {
                let mut text = String::new();
                for (id, name) in ids.iter().zip(["A", "B", "C"]) {
                    _ = writeln!(text, "{{{id}\"name\":\"{name}\"}}");
                }
                text
            };
            let all = [turn(&[id("1"), id("2"), id("3")]), turn(&[id("1"), hidden.clone()]), turn(&[id("1"), id("2")])];
            turns(&lab, async |turn| lab.write("data/data.ndjson", &all[usize::from(turn)])).await.context(hidden)?;
        }
        Ok(())
    })
}

pub(crate) fn parquet() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        let model = ("yml", "source: s\nkey: id\nfiles: data.parquet\n");
        project(&lab, "{ type: files, path: data }", model, "mode: mirror")?;
        std::fs::create_dir_all(lab.path().join("data"))?;
        // A time of nanoseconds is no time of microseconds.
        let ids = [vec![1_000, 2_000, 3_000], vec![1_000, 2_001], vec![1_000, 2_000]];
        turns(&lab, async |turn| {
            let ids = ids[usize::from(turn)].clone();
            let names: StringArray = ["A", "B", "C"].into_iter().take(ids.len()).map(Some).collect();
            let columns: [(&str, ArrayRef); 2] =
                [("id", Arc::new(TimestampNanosecondArray::from(ids))), ("name", Arc::new(names))];
            write_parquet(&lab, &RecordBatch::try_from_iter(columns)?)
        })
        .await
    })
}

pub(crate) fn sqlite() -> Result<()> {
    block(async {
        // A text among numbers; an empty text among texts.
        sqlite_key("INT", "'many'").await?;
        sqlite_key("TEXT", "''").await
    })
}

async fn sqlite_key(kind: &str, hidden: &str) -> Result<()> {
    let lab = Lab::new(Options::default()).await?;
    let options = SqliteConnectOptions::new().filename(lab.path().join("shop.db")).create_if_missing(true);
    let mut shop = SqliteConnection::connect_with(&options).await?;
    let model = ("sql", "---\nsource: s\nkey: id\n---\nSELECT id, name FROM p");
    project(&lab, "{ type: sqlite, path: shop.db }", model, "mode: mirror")?;
    let turned = [
        format!("CREATE TABLE p (id {kind}, name TEXT); INSERT INTO p VALUES (1, 'A'), (2, 'B'), (3, 'C')"),
        format!("DELETE FROM p WHERE id = 3; UPDATE p SET id = {hidden} WHERE id = 2"),
        format!("UPDATE p SET id = 2 WHERE id = {hidden}"),
    ];
    turns(&lab, async |turn| {
        shop.execute(AssertSqlSafe(turned[usize::from(turn)].clone())).await?;
        Ok(())
    })
    .await
    .with_context(|| format!("{kind} {hidden}"))
}

pub(crate) fn postgres() -> Result<()> {
    block(async {
        let server = Postgres::shared()?;
        let mut warehouse = PgConnection::connect(&server.url).await?;
        let lab = Lab::new(Options::default()).await?;
        let model = ("sql", "---\nsource: s\nkey: id\n---\nSELECT id, name FROM hidden_keys");
        project(&lab, &format!("{{ type: postgres, url: '{}' }}", server.url), model, "mode: mirror")?;
        turns(&lab, async |turn| {
            warehouse
                .execute(
                    [
                        "DROP TABLE IF EXISTS hidden_keys; CREATE TABLE hidden_keys (id date, name text); \
                         INSERT INTO hidden_keys VALUES ('2000-01-01', 'A'), ('2000-01-02', 'B'), ('2000-01-03', 'C')",
                        "DELETE FROM hidden_keys WHERE name = 'C'; UPDATE hidden_keys SET id = 'infinity' WHERE name = 'B'",
                        "UPDATE hidden_keys SET id = '2000-01-02' WHERE name = 'B'",
                    ][usize::from(turn)],
                )
                .await?;
            Ok(())
        })
        .await
    })
}

fn write_parquet(lab: &Lab, batch: &RecordBatch) -> Result<()> {
    let file = std::fs::File::create(lab.path().join("data/data.parquet"))?;
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None)?;
    writer.write(batch)?;
    writer.close()?;
    Ok(())
}

/// A number among the keys is written in another way the next time.
pub(crate) fn spelled() -> Result<()> {
    block(async {
        for rule in ["id", "{ column: id, type: decimal }"] {
            let lab = Lab::new(Options::default()).await?;
            let model = ("yml", "source: s\nkey: id\nfiles: data.ndjson\n");
            project_by(&lab, "{ type: files, path: data }", model, "mode: mirror", rule)?;
            let file = |ids: [&str; 3], name: &str| {
                ids.iter().fold(String::new(), |file, id| format!("{file}{{\"id\":{id},\"name\":\"{name}\"}}\n"))
            };
            lab.write("data/data.ndjson", &file(["1", "20", "3.5"], "A"))?;
            ensure!(lab.run("people").await?.run.tally.add.succeeded == 3, "{rule}");
            lab.write("data/data.ndjson", &file(["1.0", "2e1", "3.50"], "A"))?;
            let tally = lab.run("people").await?.run.tally;
            ensure!((tally.unchanged, tally.add.planned, tally.missing) == (3, 0, 0), "{rule}: {tally:?}");
            lab.write("data/data.ndjson", &file(["1.00", "20.0", "3.5"], "B"))?;
            let tally = lab.run("people").await?.run.tally;
            ensure!((tally.change.succeeded, tally.add.planned, tally.missing) == (3, 0, 0), "{rule}: {tally:?}");
            lab.write("data/data.ndjson", &file(["1", "1.0", "3.5"], "B"))?;
            let tally = lab.run("people").await?.run.tally;
            ensure!((tally.invalid, tally.unchanged, tally.remove.succeeded) == (2, 1, 1), "{rule}: {tally:?}");
        }
        Ok(())
    })
}

/// Whole numbers among the keys are written as floats for a day, as pandas does once one is missing.
pub(crate) fn retyped() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        let model = ("yml", "source: s\nkey: id\nfiles: data.parquet\n");
        let source = "{ type: files, path: data }";
        project_by(&lab, source, model, "mode: mirror", "{ column: id, type: int }")?;
        let write = |ids: ArrayRef| {
            let names: ArrayRef = Arc::new(StringArray::from(vec!["A"; ids.len()]));
            write_parquet(&lab, &RecordBatch::try_from_iter([("id", ids), ("name", names)])?)
        };
        lab.write("data/x", "")?;
        write(Arc::new(Int64Array::from(vec![1, 20, 3])))?;
        ensure!(lab.run("people").await?.run.tally.add.succeeded == 3);
        write(Arc::new(Float64Array::from(vec![Some(1.0), Some(20.0), None])))?;
        let run = lab.run("people").await?.run;
        let tally = run.tally;
        // A row without a readable key may be any: nothing is removed.
        ensure!((tally.add.planned, tally.remove.planned, tally.invalid) == (0, 0, 1), "{tally:?} {:?}", run.reason);
        write(Arc::new(Float64Array::from(vec![20.0])))?;
        let run = lab.run("people").await?.run;
        ensure!((run.tally.add.planned, run.tally.remove.succeeded) == (0, 2), "{:?} {:?}", run.tally, run.reason);
        Ok(())
    })
}

/// One file of a folder lacks the key.
pub(crate) fn absent() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        let model = ("yml", "source: s\nkey: id\nfiles: '*.csv'\n");
        project(&lab, "{ type: files, path: data }", model, "mode: mirror")?;
        lab.write("data/1.csv", "id,name\n1,A\n")?;
        lab.write("data/2.csv", "name\n")?;
        ensure!(lab.run("people").await?.run.tally.add.succeeded == 1, "a file without rows lacks nothing");
        lab.write("data/2.csv", "name\nB\n")?;
        let error = lab.run("people").await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains("2.csv") && error.contains("1.csv") && error.contains("\"id\""), "{error}");
        Ok(())
    })
}

/// Two rows lead to one record; one of them leaves.
pub(crate) fn shared_record() -> Result<()> {
    block(async {
        let lab = Lab::with(Recorder::default()).await?;
        lab.write(
            "outflow.yml",
            "version: 1\nsources:\n  files: { type: files, path: data }\ndestinations:\n  crm:\n    type: hubspot\n    \
             base_url: PORTAL\n    allow_private_addresses: true\n    settings: { token: t }\n    limits: {}\n",
        )?;
        lab.write("models/people.yml", "source: files\nkey: email\nfiles: people.csv\n")?;
        lab.write(
            "syncs/people.yml",
            "model: people\ndestination: crm\nobject: contacts\nmode: mirror\nremove: archive\n\
             guard: { max_removes_percent: 100 }\nmapping: { email: email, name: name }\n",
        )?;
        let people = ["ada@x.io", "ada.old@x.io", "bob@x.io", "cy@x.io"];
        lab.rows(&people.map(|email| (email, "-")))?;
        let result = |(trace, id): (usize, &str)| serde_json::json!({ "id": id, "objectWriteTraceId": trace.to_string(), "properties": {} });
        let results: Vec<_> = ["1", "1", "2", "3"].into_iter().enumerate().map(result).collect();
        let body = serde_json::json!({ "status": "COMPLETE", "results": results });
        lab.portal.answer([Answer::plain(200, body.to_string())]);
        let run = lab.run("people").await?.run;
        ensure!(run.tally.add.succeeded == 4, "{run:?}");

        lab.rows(&[("ada@x.io", "-"), ("bob@x.io", "-")])?;
        lab.portal.answer([Answer::plain(204, String::new())]);
        let before = lab.portal.seen().len();
        let run = lab.run("people").await?.run;
        let remove = run.tally.remove;
        ensure!(run.state == RunState::Succeeded, "{run:?}");
        ensure!((remove.planned, remove.succeeded, remove.skipped) == (2, 1, 1), "{:?}", run.tally);
        let sent: Vec<_> = lab.portal.seen().into_iter().skip(before).map(|seen| seen.body).collect();
        ensure!(sent == ["{\"inputs\":[{\"id\":\"3\"}]}"], "the record of ada@x.io stays: {sent:?}");
        let problems = lab.ledger().await?.problems(&run.id, 9).await?;
        let [problem] = problems.as_slice() else { anyhow::bail!("{problems:?}") };
        ensure!(problem.status == Some(Status::Skipped) && problem.refusal.code == "OF-5006", "{problem:?}");
        ensure!(problem.key == "ada.old@x.io" && problem.refusal.message.contains("\"ada@x.io\""), "{problem:?}");

        let tally = lab.run("people").await?.run.tally;
        ensure!((tally.unchanged, tally.missing) == (2, 0), "it is forgotten: {tally:?}");
        Ok(())
    })
}

/// Two keys whose values would be one text if they were put together with a blank between.
pub(crate) fn composite() -> Result<()> {
    block(async {
        let lab = Lab::with(Recorder::default()).await?;
        lab.write(
            "outflow.yml",
            "version: 1\nsources:\n  files: { type: files, path: data }\ndestinations:\n  own:\n    type: http\n    \
             manifest: own.toml\n    base_url: PORTAL\n    allow_private_addresses: true\n",
        )?;
        lab.write(
            "own.toml",
            "name = \"own\"\ntitle = \"Our own\"\n[objects.people]\nidentity = [\"a\", \"b\"]\nmodes = [\"upsert\"]\n[error]\ncode = \
             \"/code\"\n[operations.upsert]\nmethod = \"POST\"\npath = \"/in\"\nrecords = 1\nbody = \"$record\"\n",
        )?;
        lab.write("models/people.yml", "source: files\nkey: [a, b]\nfiles: people.csv\n")?;
        lab.write(
            "syncs/people.yml",
            "model: people\ndestination: own\nobject: people\nmode: upsert\nmapping: { a: a, b: b, name: name }\n",
        )?;
        lab.write("data/people.csv", "a,b,name\na b,c,1\na,b c,2\n")?;
        let shown = ["\"a b\" c", "a \"b c\""];
        let refused = |code: &str| Answer::plain(422, format!("{{\"code\":\"{code}\"}}"));
        lab.portal.answer([refused("BAD"), refused("BAD")]);
        let keys = |problems: &[Problem]| {
            let mut keys: Vec<String> = problems.iter().map(|problem| problem.key.clone()).collect();
            keys.sort();
            keys
        };
        for turn in ["are refused", "are withheld"] {
            let run = lab.run("people").await?.run;
            let problems = lab.ledger().await?.problems(&run.id, 9).await?;
            ensure!(keys(&problems) == shown, "{turn}: {problems:?}");
            ensure!(problems.iter().all(|problem| problem.refusal.code == "BAD"), "{turn}: {problems:?}");
        }
        ensure!(lab.portal.seen().len() == 2, "what was refused is not sent again");
        Ok(())
    })
}
