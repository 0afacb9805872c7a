//! Each source's nasty values, as Outflow delivers them, beside what an independent reader makes of the same data.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use outflow_tests::{Lab, Postgres, Recorder, Service, block};
use serde_json::value::RawValue;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

const KINDS: [&str; 5] = ["csv", "ndjson", "parquet", "postgres", "sqlite"];

const MANIFEST: &str = "name = \"own\"\ntitle = \"Recorder\"\n[objects.rows]\nidentity = [\"id\"]\nmodes = [\"upsert\"]\n\
    [operations.upsert]\nmethod = \"PUT\"\npath = \"/rows\"\nrecords = 200\nbody = \"$records\"\n";

/// A Python that has the readers which `tests/run.sh` installs.
#[expect(clippy::disallowed_methods, reason = "tests take the program's place from the environment")]
fn python() -> Option<PathBuf> {
    if let Ok(program) = std::env::var("OUTFLOW_TEST_READERS") {
        return Some(program.into());
    }
    let cache = std::env::var("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|_| std::env::var("HOME").map(|home| Path::new(&home).join(".cache"))).ok()?;
    let program = cache.join("outflow-ci/emulators/readers/bin/python");
    program.exists().then_some(program)
}

/// What the values are made from.
#[expect(clippy::disallowed_methods, reason = "a user chooses another seed in the environment")]
fn seed() -> String {
    std::env::var("DIFF_SEED").unwrap_or_else(|_| "1".to_owned())
}

/// Runs the independent half, and answers what it printed.
fn reference(arguments: &[&str]) -> Result<String> {
    let program = python().context("the readers are not installed; tests/run.sh installs them")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("diff/reference.py");
    let output = Command::new(program).arg(script).args(arguments).env("PYTHONUTF8", "1").output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

/// A project that sends every column of the source `kind` to a recorder.
fn project(lab: &Lab<Recorder>, kind: &str, url: &str, columns: &[String]) -> Result<()> {
    let types: Vec<String> =
        columns.iter().filter(|name| *name != "plain").map(|name| format!("{name}: {name}")).collect();
    let source = match kind {
        "csv" => format!("{{ type: files, path: data, types: {{ {} }} }}", types.join(", ")),
        "ndjson" | "parquet" => "{ type: files, path: data }".to_owned(),
        "sqlite" => "{ type: sqlite, path: data/data.db }".to_owned(),
        _ => format!("{{ type: postgres, url: '{url}' }}"),
    };
    lab.write(
        "outflow.yml",
        &format!(
            "version: 1\nsources:\n  s: {source}\ndestinations:\n  own:\n    type: http\n    manifest: own.toml\n    \
             base_url: PORTAL\n    allow_private_addresses: true\n"
        ),
    )?;
    lab.write("own.toml", MANIFEST)?;
    match kind {
        "csv" => lab.write("models/rows.yml", "source: s\nkey: id\nfiles: data.csv\n")?,
        "ndjson" => lab.write("models/rows.yml", "source: s\nkey: id\nfiles: data.ndjson\n")?,
        "parquet" => lab.write("models/rows.yml", "source: s\nkey: id\nfiles: '*.parquet'\n")?,
        "sqlite" => lab.write("models/rows.sql", "---\nsource: s\nkey: id\n---\nSELECT * FROM t\n")?,
        _ => lab.write("models/rows.sql", "---\nsource: s\nkey: id\n---\nSELECT * FROM diff\n")?,
    }
    // Fields have names of their own: those of the columns may have dots and blanks.
    let mut sync = "model: rows\ndestination: own\nobject: rows\nmode: upsert\nmapping:\n  id: id\n".to_owned();
    for (place, column) in columns.iter().enumerate() {
        writeln!(sync, "  f{place}: {{ column: \"{column}\" }}")?;
    }
    lab.write("syncs/rows.yml", &sync)
}

/// The records that arrived, one JSON text per line: their key, and each column's JSON text.
fn arrived(recorder: &Recorder, columns: &[String]) -> Result<String> {
    let mut out = String::new();
    for seen in recorder.seen() {
        let records: Vec<BTreeMap<String, Box<RawValue>>> =
            serde_json::from_str(&seen.body).with_context(|| format!("{} has no JSON body", seen.line))?;
        for record in records {
            let id: String = serde_json::from_str(record.get("id").context("a record has an id")?.get())?;
            let fields: BTreeMap<&String, &str> = columns
                .iter()
                .enumerate()
                .filter_map(|(place, column)| Some((column, record.get(&format!("f{place}"))?.get())))
                .collect();
            writeln!(out, "{}", serde_json::json!({ "id": id, "fields": fields }))?;
        }
    }
    Ok(out)
}

fn differs(kind: &'static str) -> Result<()> {
    block(async {
        let lab = Lab::with(Recorder::default()).await?;
        let folder = lab.path().join("data");
        std::fs::create_dir_all(&folder)?;
        let path = folder.to_str().context("the folder has a name")?.to_owned();
        let server: Option<Arc<Postgres>> = if kind == "postgres" { Some(Postgres::shared()?) } else { None };
        let url = match &server {
            Some(server) => database(server).await?,
            None => String::new(),
        };
        let seed = seed();
        reference(&["make", kind, &path, &seed, &url])?;
        let expected: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("expected.json"))?)?;
        let columns: Vec<String> = serde_json::from_value(expected["columns"].clone())?;
        project(&lab, kind, &url, &columns)?;
        let run = lab.run("rows").await?.run;
        let problems = lab.ledger().await?.problems(&run.id, 10_000).await?;
        let invalid: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
        std::fs::write(folder.join("invalid.json"), serde_json::to_string(&invalid)?)?;
        std::fs::write(folder.join("got.ndjson"), arrived(&lab.portal, &columns)?)?;
        let said = reference(&["compare", &path])?;
        #[expect(clippy::print_stderr, reason = "how much was compared is the test's figure")]
        {
            eprintln!("{kind}, seed {seed}: {}", said.trim());
        }
        Ok(())
    })
}

/// An empty database of the test's own.
async fn database(server: &Postgres) -> Result<String> {
    let mut admin = PgConnection::connect(&server.url).await?;
    let name = format!("diff_{}", std::process::id());
    admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await?;
    let (server, _) = server.url.rsplit_once('/').context("the URL names a database")?;
    Ok(format!("{server}/{name}"))
}

fn main() -> ExitCode {
    _ = rustls::crypto::ring::default_provider().install_default();
    let is_required = std::env::var_os("REQUIRE_SERVICES").is_some();
    let arguments = Arguments::from_args();
    let trials = KINDS.map(|kind| {
        let is_found = python().is_some() && (kind != "postgres" || Postgres::is_found());
        let work = move || differs(kind).map_err(|error| Failed::from(format!("{error:?}")));
        Trial::test(format!("values_of_{kind}_arrive_as_other_readers_read_them"), work)
            .with_ignored_flag(!is_found && !is_required)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.into());
    outflow_testkit::services::stop_all();
    conclusion.exit_code()
}
