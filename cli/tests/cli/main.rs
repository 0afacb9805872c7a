//! The program itself, as a user meets it: wrong input, exit codes, and `kill -9`.
#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

mod broken;
mod canary;
mod codes;
mod credentials;
mod decisions;
mod disk;
mod documents;
mod errors;
mod figures;
mod keys;
mod limits;
mod manifests;
mod plans;
mod private;
mod silence;
mod stops;
mod stores;
mod traces;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn outflow(project: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outflow"));
    command.arg("--project").arg(project).args(arguments).env("HUBSPOT_TOKEN", "t").env_remove("OUTFLOW_PROJECT");
    command
}

fn run(project: &Path, arguments: &[&str]) -> Output {
    outflow(project, arguments).output().expect("the program starts")
}

/// What a process says until it says `wanted`; it is ended then. One that ends by itself before has said all that it will.
fn said_until(mut command: Command, wanted: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let file = std::fs::File::create(&log).expect("a file");
    let mut process =
        command.stdout(file.try_clone().expect("a file")).stderr(file).spawn().expect("the program starts");
    let began = Instant::now();
    loop {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let ended = process.try_wait().expect("it can be asked").is_some();
        if ended || said.contains(wanted) || began.elapsed() > Duration::from_mins(1) {
            _ = process.kill();
            process.wait().expect("it ends");
            return std::fs::read_to_string(&log).unwrap_or_default();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn example() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let made = run(folder.path(), &["init", "--example"]);
    assert!(made.status.success(), "{}", text(&made));
    folder
}

fn edit(project: &Path, file: &str, from: &str, to: &str) {
    let path = project.join(file);
    let before = std::fs::read_to_string(&path).expect("the file is there");
    assert!(before.contains(from), "{file} has no {from:?}");
    std::fs::write(path, before.replace(from, to)).expect("the file can be written");
}

const PROJECT: &str = "outflow.yml";
const MODEL: &str = "models/customers.sql";
const SYNC: &str = "syncs/customers_to_hubspot.yml";

/// Wrong files: which, what is replaced by what, what the message must say.
const WRONG: &[(&str, &str, &str, &[&str])] = &[
    (PROJECT, "sources:", "source:", &["outflow.yml:3:1", "unknown field", "Did you mean \"sources\"?"]),
    (PROJECT, "version: 1", "version: 9", &["outflow.yml:1:1", "version", "upgrade"]),
    (PROJECT, "type: sqlite", "type: sqlit", &["outflow.yml:5", "sqlit"]),
    (PROJECT, "type: hubspot", "type: hubspt", &["destinations.crm.type", "Did you mean \"hubspot\"?"]),
    (PROJECT, "token: $", "tokn: $", &["destinations.crm.settings", "Private app access token"]),
    (PROJECT, "allow_private_addresses: true", "allow_private_addresses: maybe", &["outflow.yml:13", "true or false"]),
    (PROJECT, "  shop:", " shop:\n   - x", &["outflow.yml"]),
    (PROJECT, "type: hubspot", "type: hubspot\n    reserve: 40", &["outflow.yml"]),
    (PROJECT, "type: hubspot", "type: hubspot\n    reserve: 140%", &["140%", "no share from 0% to 99%"]),
    (PROJECT, "type: hubspot", "type: salesforce", &["destinations.crm.settings", "Consumer key"]),
    (
        PROJECT,
        "type: hubspot",
        "type: htpt\n    manifest: own.toml",
        &["destinations.crm.type", "no destination type \"htpt\"", "Did you mean \"http\"?"],
    ),
    (
        PROJECT,
        "type: hubspot",
        "type: hubspot\n    manifest: own.toml",
        &["destinations.crm.type", "`type: http` only"],
    ),
    (
        PROJECT,
        "    type: sqlite\n    path: shop.db",
        "    type: files\n    path: .\n    types:\n      age: integer",
        &["outflow.yml:8:7: sources.shop.types.age: \"integer\" is not known here: write one of `bool`"],
    ),
    (
        SYNC,
        "object: contacts",
        "object: contacts\nguard: { max_invalid: -1 }",
        &["customers_to_hubspot.yml:4", "Write a count of rows, from 0 on, or a share such as 5%."],
    ),
    (SYNC, "object: contacts", "object: contacts\nguard: { max_invalid: true }", &["Write a count of rows"]),
    (
        PROJECT,
        "${env:HUBSPOT_TOKEN}",
        "pat-na1-0000",
        &["destinations.crm.settings.token", "is a secret", "${env:NAME}"],
    ),
    (PROJECT, "${env:HUBSPOT_TOKEN}", "$HUBSPOT_TOKEN", &["is a secret", "Write \"${env:HUBSPOT_TOKEN}\""]),
    (PROJECT, "${env:HUBSPOT_TOKEN}", "\"\"", &["destinations.crm.settings.token", "is a secret"]),
    (
        PROJECT,
        "type: hubspot",
        "type: hubspot\n    proxy: http://u:hidden@proxy:3128",
        &["destinations.crm.proxy", "password"],
    ),
    (
        PROJECT,
        "http://127.0.0.1",
        "http://crm.example.com",
        &["destinations.crm.base_url", "unencrypted", "allow_plain_http"],
    ),
    (
        PROJECT,
        "http://127.0.0.1:18091",
        "http://127.0.0.1:18091/api?x=1",
        &["outflow.yml:", "destinations.crm.base_url: It has a query"],
    ),
    (PROJECT, "http://127.0.0.1:18091", "http://127.0.0.1:18091/#a", &["destinations.crm.base_url", "a fragment"]),
    (PROJECT, "http://127.0.0.1:18091", "http://u:hidden@127.0.0.1:18091", &["crm.base_url", "a user or a password"]),
    (PROJECT, "http://127.0.0.1:18091", "127.0.0.1:18091", &["destinations.crm.base_url", "must begin with https://"]),
    (MODEL, "source: shop", "source: shp", &["models/customers.sql:2:1", "Did you mean \"shop\"?"]),
    (MODEL, "key: email", "keys: email", &["models/customers.sql:3:1", "unknown field", "Did you mean \"key\"?"]),
    (MODEL, "key: email", "key: id", &["key is id", "key: [email]"]),
    (MODEL, "key: email", "key: []", &["models/customers.sql:3:1", "at least one column"]),
    (
        MODEL,
        "---\nsource: shop\nkey: email\n---\n",
        "",
        &["models/customers.sql:1:1", "Begin the file with a line `---`"],
    ),
    (SYNC, "model: customers", "model: custmers", &["customers_to_hubspot.yml:1:1", "Did you mean \"customers\"?"]),
    (SYNC, "destination: crm", "destination: crn", &["customers_to_hubspot.yml:2:1", "Did you mean \"crm\"?"]),
    (SYNC, "mode: mirror", "mode: miror", &["customers_to_hubspot.yml:4", "Did you mean \"mirror\"?"]),
    (
        SYNC,
        "mode: mirror",
        "mode: members",
        &["customers_to_hubspot.yml:4:1", "Use one of: upsert, update, create, mirror"],
    ),
    (SYNC, "remove: archive", "remove: delete", &["customers_to_hubspot.yml:5:1", "can only: archive, clear"]),
    (SYNC, "  email: email\n", "", &["mapping", "\"email\" addresses the record"]),
    (SYNC, "  email: email\n", "  email: { template: \"{{ email }}\" }\n", &["mapping.email", "as it is"]),
    (SYNC, "null: clear", "null: cler", &["customers_to_hubspot.yml:11", "Did you mean \"clear\"?"]),
    (SYNC, "null: clear", "nul: clear", &["customers_to_hubspot.yml:11", "unknown field `nul`"]),
    (SYNC, "object: contacts", "object: contacts\nguard: { max_remove: 1 }", &["unknown field", "max_removes"]),
    (SYNC, "object: contacts", "object: deals", &["identity"]),
    (SYNC, "object: contacts", "object: contacts\ndelivery: { bulk: always }", &["delivery.bulk", "no bulk interface"]),
    (
        SYNC,
        "object: contacts",
        "object: contacts\npriority: 0",
        &["customers_to_hubspot.yml:4:1: priority", "at least 1"],
    ),
    (
        SYNC,
        "object: contacts",
        "object: contacts\ndelivery: { chunk_rows: 0, tries: 0 }",
        &["delivery.chunk_rows: It must", "delivery.tries: It must"],
    ),
    (PROJECT, "type: hubspot", "type: hubspot\n    concurrency: 0", &["destinations.crm.concurrency", "at least 1"]),
    (PROJECT, "type: hubspot", "type: hubspot\n    timeout_seconds: 0", &["destinations.crm.timeout_seconds"]),
    (
        PROJECT,
        "type: hubspot",
        "type: hubspot\n    limits: { windows: [{ limit: 5, per_ms: 10000 }, { limit: 0, per_ms: 0 }] }",
        &[
            "outflow.yml:11:56: destinations.crm.limits.windows.1.limit: It must be at least 1.",
            "destinations.crm.limits.windows.1.per_ms: It must be at least 1.",
        ],
    ),
    (
        PROJECT,
        "type: hubspot",
        "type: hubspot\n    limits: { daily: 0 }",
        &["crm.limits.daily: It must be at least 1."],
    ),
    (
        SYNC,
        "object: contacts",
        "object: contacts\nschedule:\n  cron: \"0 0 31 2 *\"",
        &["customers_to_hubspot.yml:5:9: \"0 0 31 2 *\": no day is as its fields say together"],
    ),
    (
        SYNC,
        "object: contacts",
        "object: contacts\nschedule: { every: 5m, jitter: 1m }",
        &["customers_to_hubspot.yml:4", "`jitter` goes with `cron`"],
    ),
    (SYNC, "mode: mirror", "mode: upsert", &["remove", "has an effect in mode mirror only"]),
    (SYNC, "mode: mirror", "mode: mirror\nappend: on_change", &["append", "has an effect in mode append only"]),
    (SYNC, "object: contacts", "object: contacts\non_unknown: resent", &["customers_to_hubspot.yml:4", "resend"]),
    (
        SYNC,
        "object: contacts",
        "object: contacts\nretry_rejected: allways",
        &["customers_to_hubspot.yml:4", "every_run"],
    ),
];

#[test]
fn wrong_files_are_told_with_their_place_and_the_remedy() {
    for (file, from, to, says) in WRONG {
        let project = example();
        edit(project.path(), file, from, to);
        let output = run(project.path(), &["check", "--offline"]);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(2), "{from:?} to {to:?}: {said}");
        for part in *says {
            assert!(said.contains(part), "{from:?} to {to:?} should say {part:?}: {said}");
        }
        assert!(!said.contains("pat-na1") && !said.contains("hidden"), "{said}");
        assert!(!project.path().join(".outflow").exists(), "a check wrote state");
    }
}

/// What only a source can tell: what is replaced in the model or the sync, and what the message must say.
const BROKEN: &[(&str, &str, &str, &[&str])] = &[
    (MODEL, "FROM customers", "FROM custmers", &["no such table: custmers"]),
    (MODEL, "SELECT c.email", "SELEC c.email", &["syntax error"]),
    (MODEL, "c.city,", "", &["mapping.city.column", "no column \"city\""]),
    (SYNC, "lastname: last_name", "lastname: lst_name", &["\"lst_name\"", "Did you mean \"last_name\"?"]),
    (SYNC, "Hello {{ first_name }}", "Hello {{ frst_name }}", &["\"frst_name\"", "Did you mean \"first_name\"?"]),
    (SYNC, "Hello {{ first_name }}", "Hello {{ first_name", &["mapping.greeting"]),
    (PROJECT, "path: shop.db", "path: none.db", &["none.db"]),
    (PROJECT, "${env:HUBSPOT_TOKEN}", "${env:NOBODY_SETS_THIS}", &["NOBODY_SETS_THIS is not set"]),
    (PROJECT, "${env:HUBSPOT_TOKEN}", "${file:none.txt}", &["none.txt cannot be read"]),
    (PROJECT, "allow_private_addresses: true", "allow_private_addresses: false", &["private network"]),
];

#[test]
fn what_cannot_be_read_or_reached_fails_the_run_and_sends_nothing() {
    for (file, from, to, says) in BROKEN {
        let project = example();
        edit(project.path(), file, from, to);
        let output = run(project.path(), &["run"]);
        let said = text(&output);
        assert!(!output.status.success(), "{from:?} to {to:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
        for part in *says {
            assert!(said.contains(part), "{from:?} to {to:?} should say {part:?}: {said}");
        }
    }
}

#[test]
fn a_damaged_snapshot_and_a_newer_ledger_are_refused() {
    let (project, simulator) = with_simulator(0);
    assert!(run(project.path(), &["run"]).status.success());
    let snapshots = project.path().join(".outflow/store/snapshots/customers_to_hubspot");
    let snapshot = std::fs::read_dir(snapshots).expect("a folder").flatten().next().expect("a snapshot").path();
    let mut bytes = std::fs::read(&snapshot).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&snapshot, bytes).expect("it can be written");
    let output = run(project.path(), &["run"]);
    assert!(text(&output).contains("is damaged: a checksum does not fit"), "{}", text(&output));
    assert_eq!(output.status.code(), Some(6));
    assert_eq!(simulator.get("/_simulator/stats")["records"], 1_000, "something was sent after all");
    let ledger = project.path().join(".outflow/ledger.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let newer = async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(ledger);
        let mut connection = <sqlx::SqliteConnection as sqlx::Connection>::connect_with(&options).await?;
        sqlx::query("PRAGMA user_version = 99").execute(&mut connection).await
    };
    runtime.block_on(newer).expect("the ledger can be written");
    let output = run(project.path(), &["runs"]);
    assert!(text(&output).contains("has version 99, but this Outflow knows version "), "{}", text(&output));
}

/// A simulator of the test's own.
struct Simulator {
    child: Child,
    address: String,
}

impl Simulator {
    /// Asks it.
    fn get(&self, path: &str) -> serde_json::Value {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let body = answer.split_once("\r\n\r\n").expect("an answer has a body").1;
        serde_json::from_str(body).expect("the body is JSON")
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn with_simulator(latency_ms: u32) -> (tempfile::TempDir, Simulator) {
    with_simulator_of(latency_ms, 0)
}

fn with_simulator_of(latency_ms: u32, limit: u32) -> (tempfile::TempDir, Simulator) {
    let project = example();
    let (latency, limit) = (latency_ms.to_string(), limit.to_string());
    let arguments = ["simulate", "hubspot", "--port", "0", "--limit", &limit, "--latency-ms", &latency];
    let mut child = outflow(project.path(), &arguments).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("it says where it is");
    let url = line.trim().rsplit(' ').next().expect("a URL").to_owned();
    edit(project.path(), PROJECT, "http://127.0.0.1:18091", &url);
    let address = url.trim_start_matches("http://").to_owned();
    (project, Simulator { child, address })
}

#[test]
fn a_killed_run_goes_on_and_loses_nothing() {
    let (project, simulator) = with_simulator(20);
    edit(project.path(), SYNC, "remove: archive", "remove: archive\ndelivery: { chunk_rows: 10 }");
    let mut child = outflow(project.path(), &["run"]).stdout(Stdio::null()).spawn().expect("it starts");
    let began = Instant::now();
    while simulator.get("/_simulator/stats")["records"].as_u64() < Some(200) {
        assert!(began.elapsed() < Duration::from_mins(1), "nothing arrives");
    }
    // SIGKILL: no handler runs.
    child.kill().expect("it runs");
    child.wait().expect("it has ended");
    let before = simulator.get("/_simulator/stats")["records"].as_u64().expect("a number");
    assert!(before < 1_000, "the run was over before it was killed");
    let output = run(project.path(), &["--output", "json", "run"]);
    assert!(output.status.success(), "{}", text(&output));
    let runs: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&runs[0]["state"], &runs[0]["tally"]["add"]["succeeded"]), (&"succeeded".into(), &1_000.into()));
    assert_eq!(simulator.get("/_simulator/records/contacts").as_array().map(Vec::len), Some(1_000));
    let written = simulator.get("/_simulator/stats")["records"].as_u64().expect("a number");
    // Only what was in flight or unsettled at the kill may be written again.
    assert!(written < before + 1_000, "{written} writes for 1,000 records, {before} before the kill");
}

#[test]
fn schemas_and_completions_are_printed() {
    for file in ["project", "model", "sync", "manifest"] {
        let output = run(Path::new("."), &["schema", file]);
        let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert!(schema["properties"].is_object(), "{file}");
    }
    assert!(text(&run(Path::new("."), &["completions", "bash"])).contains("_outflow"));
}

#[test]
fn a_sync_whose_name_cannot_be_a_key_is_refused() {
    let folder = example();
    let named = folder.path().join("syncs/kunden_für_alle.yml");
    std::fs::rename(folder.path().join(SYNC), named).expect("the file is there");
    let output = run(folder.path(), &["check", "--offline"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("A sync cannot be called \"kunden_für_alle\""), "{}", text(&output));
}
