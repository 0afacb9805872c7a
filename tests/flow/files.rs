//! Flows from files.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use outflow_simulators::Options;
use outflow_tests::{Lab, block};
use parquet::arrow::ArrowWriter;

pub(crate) fn ndjson() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: upsert", "  spent: spent\n  orders: orders\n  tags: tags\n")?;
        lab.write("models/people.yml", "source: files\nkey: email\nfiles: 'people*.ndjson'\n")?;
        let first =
            "{\"email\":\"a@x.io\",\"spent\":12.50,\"orders\":9007199254740993,\"tags\":[\"x\",\"é\"],\"other\":1}\n";
        lab.write("data/people-1.ndjson", first)?;
        lab.write("data/people-2.ndjson", "{\"email\":\"b@x.io\",\"spent\":0.1,\"orders\":null,\"tags\":null}\n")?;
        let run = lab.run("people").await;
        let said = run.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
        // The second file's columns hold nothing to infer a type from: that is told, and nothing is guessed.
        ensure!(said.contains("people-2.ndjson") && said.contains("\"orders\""), "{said}");
        lab.write("data/people-2.ndjson", "{\"email\":\"b@x.io\",\"spent\":0.1,\"orders\":1,\"tags\":[]}\n")?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.add.succeeded == 2, "{:?}", run.tally);
        let arrived = lab.portal.records("contacts", "email");
        let a = &arrived.get("a@x.io").context("it arrived")?.properties;
        let got = ["spent", "orders", "tags"].map(|name| a.get(name).map_or("", String::as_str));
        ensure!(got == ["12.50", "9007199254740993", "[\"x\",\"é\"]"], "{got:?}");
        Ok(())
    })
}

/// What a contact's properties are.
fn values(lab: &Lab, email: &str, names: &[&str]) -> Result<Vec<String>> {
    let arrived = lab.portal.records("contacts", "email");
    let record = arrived.get(email).context("it arrived")?;
    Ok(names.iter().map(|name| record.properties.get(*name).cloned().unwrap_or_default()).collect())
}

const NAMES: [&str; 6] = ["big", "exact", "score", "good", "born", "seen"];
const TYPED: &str = "  big: big\n  exact: exact\n  score: score\n  good: good\n  born: born\n  seen: seen\n";

pub(crate) fn parquet() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: upsert", TYPED)?;
        lab.write("models/people.yml", "source: files\nkey: email\nfiles: people\n")?;
        let exact =
            Decimal128Array::from(vec![Some(12_345_678_901_234_567_890_i128), None]).with_precision_and_scale(38, 2)?;
        let seen = TimestampMicrosecondArray::from(vec![Some(1_767_225_600_123_456), None]).with_timezone("UTC");
        let columns: [(&str, ArrayRef); 8] = [
            ("email", Arc::new(StringArray::from(vec!["a@x.io", "ü@x.io"]))),
            ("unused", Arc::new(StringArray::from(vec!["-", "-"]))),
            ("big", Arc::new(Int64Array::from(vec![Some(i64::MAX), None]))),
            ("exact", Arc::new(exact)),
            ("score", Arc::new(Float64Array::from(vec![Some(0.1), None]))),
            ("good", Arc::new(BooleanArray::from(vec![Some(true), None]))),
            ("born", Arc::new(Date32Array::from(vec![Some(-1), None]))),
            ("seen", Arc::new(seen)),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true)))?;
        std::fs::create_dir_all(lab.path().join("data/people"))?;
        let file = std::fs::File::create(lab.path().join("data/people/part-1.parquet"))?;
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None)?;
        writer.write(&batch)?;
        writer.close()?;
        ensure!(lab.run("people").await?.run.tally.add.succeeded == 2);
        let got = values(&lab, "a@x.io", &NAMES)?;
        let wanted = [
            "9223372036854775807",
            "123456789012345678.90",
            "0.1",
            "true",
            "1969-12-31",
            "2026-01-01T00:00:00.123456Z",
        ];
        ensure!(got == wanted, "{got:?}");
        ensure!(values(&lab, "ü@x.io", &NAMES)?.iter().all(String::is_empty));
        // A file that is cut short is no fewer rows.
        let whole = std::fs::read(lab.path().join("data/people/part-1.parquet"))?;
        std::fs::write(
            lab.path().join("data/people/part-2.parquet"),
            whole.get(..whole.len() / 2).unwrap_or_default(),
        )?;
        let error = lab.run("people").await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains("part-2.parquet"), "{error}");
        Ok(())
    })
}

pub(crate) fn csv() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: upsert", TYPED)?;
        let head = "email,unused,big,exact,score,good,born,seen\n";
        let a = "a@x.io,-,9223372036854775807,\"1,5\",0.1,true,1969-12-31,2026-01-01T00:00:00Z\n";
        lab.write("data/people.csv", &format!("{head}{a}b@x.io,-,,,,,,\n"))?;
        ensure!(lab.run("people").await?.run.tally.add.succeeded == 2);
        let got = values(&lab, "a@x.io", &NAMES)?;
        ensure!(got[..5] == ["9223372036854775807", "1,5", "0.1", "true", "1969-12-31"], "{got:?}");
        ensure!(got[5].starts_with("2026-01-01T00:00:00"), "{got:?}");
        ensure!(values(&lab, "b@x.io", &NAMES)?.iter().all(String::is_empty));
        // A line with a cell too many is told with its place, and nothing is sent.
        lab.write("data/people.csv", &format!("{head}{a}b@x.io,-,,,,,,,,\n"))?;
        let asked = lab.portal.requests().0;
        let error = lab.run("people").await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains("people.csv") && error.contains("line 3"), "{error}");
        ensure!(lab.portal.requests().0 == asked);
        Ok(())
    })
}

pub(crate) fn retyped() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: upsert", "  name: name\n")?;
        lab.write("models/people.yml", "source: files\nkey: email\nfiles: people.ndjson\n")?;
        let write = |a: &str, b: &str| {
            let line = |email: &str, name: &str| format!("{{\"email\":\"{email}\",\"name\":{name}}}\n");
            lab.write("data/people.ndjson", &format!("{}{}", line("a@x.io", a), line("b@x.io", b)))
        };
        write("1", "2")?;
        lab.run("people").await?;
        // Numbers became text: a value that is written alike may be sent again, and none is missed.
        write("\"1\"", "\"two\"")?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.change.succeeded >= 1 && run.tally.total().planned <= 2, "{:?}", run.tally);
        let names: Vec<String> = lab.contacts("name").into_iter().map(|(_, name)| name).collect();
        ensure!(names == ["1", "two"], "{names:?}");
        // A key of another type is another key.
        lab.write("models/people.yml", "source: files\nkey: name\nfiles: people.ndjson\n")?;
        lab.write("syncs/numbers.yml", "model: people\ndestination: crm\nobject: contacts\nmode: upsert\nidentity: [name]\nmapping: { name: name }\n")?;
        write("1", "2")?;
        lab.run("numbers").await?;
        write("\"x\"", "\"y\"")?;
        let error = lab.run("numbers").await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains("another key (name int in any case, now name text in any case)"), "{error}");
        Ok(())
    })
}
