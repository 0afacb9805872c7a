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
        // Each value has its own type: late, absent, null, a text among numbers.
        let line = |at| format!("{{\"email\":\"p{at}@x.io\",\"spent\":5,\"orders\":null}}\n");
        let plain = (0..10_000).map(line).collect::<Vec<_>>().concat();
        lab.write(
            "data/people-2.ndjson",
            &format!("{plain}{{\"email\":\"z@x.io\",\"spent\":1.75,\"orders\":\"00789\",\"tags\":{{\"n\":null}}}}\n"),
        )?;
        lab.write("data/people-3.ndjson", "")?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.add.succeeded == 10_002, "{:?}", run.tally);
        let names = ["spent", "orders", "tags"];
        ensure!(values(&lab, "a@x.io", &names)? == ["12.50", "9007199254740993", "[\"x\",\"é\"]"]);
        ensure!(values(&lab, "z@x.io", &names)? == ["1.75", "00789", "{\"n\":null}"]);
        ensure!(values(&lab, "p7@x.io", &names)? == ["5", "", ""]);
        // A line that is not JSON ends the read with its place, and nothing is sent; so does a column that no line has.
        let asked = lab.portal.requests().0;
        lab.write("data/people-3.ndjson", "\n{\"email\":\"b@x.io\",\"spent\":secret}\n")?;
        let error = lab.run("people").await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains("people-3.ndjson: line 2") && !error.contains("secret"), "{error}");
        lab.write("data/people-3.ndjson", "{\"email\":\"b@x.io\",\"spent\":\"\\ud83d\"}\n")?;
        let run = lab.run("people").await?.run;
        ensure!((run.tally.invalid, run.tally.unchanged) == (1, 10_002), "{:?}", run.tally);
        lab.people("mode: upsert", "  spent: spnet\n")?;
        lab.write("models/people.yml", "source: files\nkey: email\nfiles: 'people*.ndjson'\n")?;
        let error = lab.run("people").await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains("no column \"spnet\". Did you mean \"spent\"?"), "{error}");
        ensure!(lab.portal.requests().0 == asked);
        Ok(())
    })
}

/// Files of one folder that differ, and what lies beside them.
pub(crate) fn folders() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: mirror", "  spent: spent\n  phone: phone\n")?;
        lab.write("models/people.yml", "source: files\nkey: email\nfiles: people\n")?;
        lab.write("data/people/1.csv", "email,phone,spent\na@x.io,1,5\n")?;
        lab.write("data/people/2.csv", "spent,email\n7.50,b@x.io\n")?;
        lab.write("data/people/3.csv", "email,phone,spent\n")?;
        lab.write("data/people/.ipynb_checkpoints/1-checkpoint.csv", "email,phone,spent\na@x.io,1,5\n")?;
        lab.write("data/people/._1.csv", "\0\u{5}")?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.add.succeeded == 2 && run.tally.invalid == 0, "{:?}", run.tally);
        ensure!(values(&lab, "b@x.io", &["spent", "phone"])? == ["7.50", ""]);
        // A file that is not read would be missing, so its rows would be removed.
        let folder = lab.path().join("data/people");
        std::fs::rename(folder.join("2.csv"), folder.join("2.csv.gz"))?;
        let error = lab.run("people").await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains("2.csv.gz") && error.contains("compressed"), "{error}");
        std::fs::remove_file(folder.join("2.csv.gz"))?;
        // An empty file is a day without rows; where all are empty, nothing names the columns.
        std::fs::write(folder.join("4.csv"), "")?;
        let run = lab.run("people").await?.run;
        ensure!(run.tally.remove.succeeded == 1 && run.tally.unchanged == 1, "{:?}", run.tally);
        for name in ["1.csv", "3.csv"] {
            std::fs::write(folder.join(name), "\n")?;
        }
        let error = lab.run("people").await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains("1.csv") && error.contains("it is empty"), "{error}");
        Ok(())
    })
}

/// Cells that do not fit their type, and names that no file has.
pub(crate) fn typed_csv() -> Result<()> {
    block(async {
        let lab = Lab::new(Options::default()).await?;
        lab.people("mode: upsert", "  age: age\n  active: active\n  price: price\n  extra: extra\n")?;
        let project = std::fs::read_to_string(lab.path().join("outflow.yml"))?;
        let types = |types: &str| {
            let source = format!("{{ type: files, path: data, types: {{ {types} }} }}");
            lab.write("outflow.yml", &project.replace("{ type: files, path: data }", &source))
        };
        types("age: int, active: bool, price: decimal, extra: json")?;
        let head = "email,age,active,price,extra,other\n";
        let rows = "a@x.io,30,true,12.50,\"{\"\"a\"\":1.10}\",s3cret\nb@x.io,n/a,yes,,,s3cret\nc@x.io,31,1,1e5,,\n\
                    d@x.io,,no,+5,\"1,\"\"email\"\":\"\"v@x.io\"\"\",\ne@x.io,,,+5,,\n";
        lab.write("data/people.csv", &format!("{head}{rows}"))?;
        let run = lab.run("people").await?.run;
        ensure!((run.tally.add.succeeded, run.tally.invalid) == (3, 2), "{:?}", run.tally);
        let names = ["age", "active", "price", "extra"];
        ensure!(values(&lab, "a@x.io", &names)? == ["30", "true", "12.50", "{\"a\":1.10}"]);
        ensure!(values(&lab, "c@x.io", &names)? == ["31", "true", "100000", ""]);
        ensure!(values(&lab, "e@x.io", &names)? == ["", "", "5", ""]);
        let problems = lab.ledger().await?.problems(&run.id, 9).await?;
        let said: Vec<&str> = problems.iter().map(|problem| problem.refusal.message.as_str()).collect();
        ensure!(said.iter().any(|said| said.contains("\"age\"") && said.contains("people.csv, line 3")), "{said:?}");
        ensure!(said.iter().any(|said| said.contains("\"extra\"") && said.contains("people.csv, line 5")), "{said:?}");
        ensure!(!format!("{said:?}").contains("s3cret") && !format!("{said:?}").contains("n/a"), "{said:?}");
        types("Age: int")?;
        let error = lab.run("people").await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains("\"Age\"") && error.contains("Did you mean \"age\"?"), "{error}");
        types("")?;
        lab.write("data/people.csv", &format!("{}{rows}", head.replace("other", "email")))?;
        let error = lab.run("people").await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains("two columns are called \"email\"") && !error.contains("s3cret"), "{error}");
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
        // A line with a cell too many is told with its place and without its values, and nothing is sent.
        lab.write("data/people.csv", &format!("{head}{a}s3cret,-,,,,,,,,\n"))?;
        let asked = lab.portal.requests().0;
        let error = lab.run("people").await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains("people.csv: line 3: it has 10 values") && !error.contains("s3cret"), "{error}");
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
        lab.write("models/people.yml", "source: files\nkey: name\nfiles: people.csv\n")?;
        lab.write("data/people.csv", "name\n1\n2\n")?;
        let project = std::fs::read_to_string(lab.path().join("outflow.yml"))?;
        let typed = project.replace("path: data }", "path: data, types: { name: int } }");
        lab.write("outflow.yml", &typed)?;
        lab.write("syncs/numbers.yml", "model: people\ndestination: crm\nobject: contacts\nmode: upsert\nidentity: [name]\nmapping: { name: name }\n")?;
        lab.run("numbers").await?;
        lab.write("outflow.yml", &project)?;
        let error = lab.run("numbers").await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains("another key (name int in any case, now name text in any case)"), "{error}");
        Ok(())
    })
}
