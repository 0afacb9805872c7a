//! `--output json`: one document on standard output, whatever the command and however it ends.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Deserializer, Value};

use super::errors::project as example;
use super::{SYNC, edit, outflow, run, text};

/// The one document that a command prints.
pub(super) fn document(words: &[&str], output: &Output) -> Value {
    let documents: Result<Vec<Value>, _> = Deserializer::from_slice(&output.stdout).into_iter().collect();
    let mut documents = documents.unwrap_or_default();
    assert_eq!(documents.len(), 1, "{words:?} prints not one document: {}", text(output));
    documents.remove(0)
}

pub(super) fn ask(project: &Path, words: &[&str]) -> (Value, Option<i32>) {
    let output = run(project, &[&["--output", "json"], words].concat());
    (document(words, &output), output.status.code())
}

/// Holds the state directory as another process would.
pub(super) fn held(project: &Path) -> std::fs::File {
    let lock = std::fs::File::create(project.join(".outflow/lock")).expect("a lock");
    lock.lock().expect("it is free");
    lock
}

/// A second sync, to a destination of its own.
fn second(project: &Path) {
    edit(project, "outflow.yml", "nowhere: {", "elsewhere: { type: blackhole }\n  nowhere: {");
    let sync = std::fs::read_to_string(project.join(SYNC)).expect("a sync");
    std::fs::write(project.join("syncs/second.yml"), sync.replace("nowhere", "elsewhere")).expect("it can be written");
}

/// What is asked, and the code that answers. Each goes on where the one before has left the project.
const ASKED: &[(&[&str], i32)] = &[
    (&["init", "--example"], 2),
    (&["init", "other"], 0),
    (&["init", "--example", "--next-day"], 0),
    (&["check"], 0),
    (&["check", "--offline"], 0),
    (&["check", "nosuch"], 2),
    (&["plan", "customers_to_hubspot"], 0),
    (&["plan", "nosuch"], 2),
    (&["state", "show", "customers_to_hubspot"], 0),
    (&["show"], 2),
    (&["errors"], 2),
    (&["runs"], 0),
    (&["run"], 0),
    (&["run", "nosuch"], 2),
    (&["run", "customers_to_hubspot", "--detach"], 0),
    (&["retry", "customers_to_hubspot"], 0),
    (&["runs"], 0),
    (&["runs", "nosuch"], 2),
    (&["show"], 0),
    (&["errors"], 0),
    (&["state", "show", "customers_to_hubspot"], 0),
    (&["state", "reset", "customers_to_hubspot"], 0),
    (&["state", "reset", "nosuch"], 2),
    (&["unknown", "customers_to_hubspot"], 0),
    (&["unknown", "customers_to_hubspot", "--resend"], 0),
    (&["unknown", "nosuch"], 2),
    (&["dead", "list"], 2),
    (&["dead", "discard"], 2),
    (&["approve", "run_1a22c7dfa38d88ae3a2"], 2),
    (&["cancel", "nonsense"], 2),
    (&["pause", "nowhere", "--reason", "the \u{1b}[31mmoon"], 0),
    (&["run"], 6),
    (&["resume", "nowhere"], 0),
    (&["resume", "nowhere"], 0),
    (&["resume", "nosuch"], 2),
    (&["worker"], 2),
    (&["coordinator"], 2),
    (&["schema", "sync"], 0),
    (&["completions", "bash"], 0),
    (&["rnu"], 2),
    (&["run", "--fast"], 2),
];

#[test]
fn every_command_prints_one_document() {
    let project = example();
    for (words, code) in ASKED {
        let output = run(project.path(), &[&["--output", "json"], *words].concat());
        document(words, &output);
        assert_eq!(output.status.code(), Some(*code), "{words:?}: {}", text(&output));
    }
    let simulate = ["--output", "json", "simulate", "hubspot", "--port", "0"];
    let mut process = outflow(project.path(), &simulate).stdout(Stdio::piped()).spawn().expect("it starts");
    let told = Deserializer::from_reader(process.stdout.take().expect("a pipe")).into_iter::<Value>().next();
    process.kill().expect("it runs");
    process.wait().expect("it ends");
    assert!(told.expect("a document").expect("JSON")["url"].as_str().is_some_and(|url| url.starts_with("http://")));
}

#[test]
fn a_document_names_every_sync_whatever_becomes_of_it() {
    let project = example();
    second(project.path());
    std::fs::write(project.path().join("syncs/broken.yml"), "model: [").expect("it can be written");
    ask(project.path(), &["pause", "nowhere"]);
    let (told, code) = ask(project.path(), &["run"]);
    let of =
        |told: &Value, sync: &str| told.as_array().and_then(|all| all.iter().find(|one| one["sync"] == sync)).cloned();
    let error =
        |sync: &str| of(&told, sync).and_then(|one| Some(one["error"].as_str()?.to_owned())).unwrap_or_default();
    assert_eq!((code, of(&told, "second").expect("it is named")["state"].clone()), (Some(6), "succeeded".into()));
    assert!(error("broken").contains("syncs/broken.yml:1"), "{told}");
    assert!(error("customers_to_hubspot").contains("outflow resume nowhere"), "{told}");
    // Where another process runs, each is queued.
    let lock = held(project.path());
    let (told, code) = ask(project.path(), &["run", "--no-wait"]);
    let queued = of(&told, "second").expect("it is named");
    assert_eq!((code, &queued["state"]), (Some(2), &"queued".into()));
    assert!(of(&told, "broken").is_some(), "{told}");
    let id = queued["id"].as_str().expect("an id").to_owned();
    let (cancelled, code) = ask(project.path(), &["cancel", &id]);
    assert_eq!((code, &cancelled["id"]), (Some(0), &id.as_str().into()));
    drop(lock);
}

#[test]
fn a_decision_prints_the_run_that_it_is_about() {
    let project = example();
    edit(project.path(), SYNC, "mode: mirror", "mode: mirror\nguard: { max_first_run_rows: 1 }");
    for (decision, state) in [("cancel", "cancelled"), ("approve", "succeeded")] {
        let (runs, code) = ask(project.path(), &["run"]);
        assert_eq!((code, &runs[0]["state"]), (Some(4), &"held".into()), "{runs}");
        let id = runs[0]["id"].as_str().expect("an id");
        let (decided, code) = ask(project.path(), &[decision, id]);
        assert_eq!((code, &decided["id"], &decided["state"]), (Some(0), &id.into(), &state.into()));
        let (again, code) = ask(project.path(), &[decision, id]);
        assert!(code != Some(0) && again["error"].is_string(), "{again}");
    }
}

#[test]
fn a_plan_that_is_interrupted_prints_a_document() {
    let project = example();
    std::fs::write(project.path().join(super::MODEL), super::stops::ENDLESS).expect("it can be written");
    let mut command: Command = outflow(project.path(), &["--output", "json", "plan", "customers_to_hubspot"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    super::stops::until_it_plans(project.path());
    let (status, output) = super::stops::terminate(child);
    assert_eq!(status.code(), Some(5), "{}", text(&output));
    assert!(document(&["plan"], &output)["error"].is_string());
}
