//! SIGTERM while a source keeps a plan waiting, and terminals that are closed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::documents::document;
use super::errors::project;
use super::{MODEL, SYNC, outflow, run, text, with_simulator};

/// Nobody lives to see its row.
pub(super) const ENDLESS: &str = "---\nsource: shop\nkey: email\n---\nWITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                       SELECT 'a@x.io' AS email, max(i) AS city FROM n\n";

/// Waits until `is_so`, for a minute at most.
pub(super) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_mins(1), "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a plan has a folder for what it reads.
pub(super) fn until_it_plans(project: &Path) {
    let folder = project.join(".outflow/tmp");
    wait_for("it plans", || std::fs::read_dir(&folder).is_ok_and(|entries| entries.count() > 0));
}

pub(super) fn terminate(child: Child) -> (ExitStatus, Output) {
    end_by(&[Signal::TERM], child)
}

fn end_by(signals: &[Signal], mut child: Child) -> (ExitStatus, Output) {
    for signal in signals {
        kill_process(Pid::from_child(&child), *signal).expect("it runs");
    }
    wait_for("it ends", || child.try_wait().expect("it can be asked").is_some());
    let output = child.wait_with_output().expect("it has ended");
    (output.status, output)
}

#[test]
fn a_run_that_waits_for_its_source_ends_at_once_and_is_planned_again() {
    let project = project();
    let model = project.path().join(MODEL);
    let good = std::fs::read(&model).expect("a model");
    std::fs::write(&model, ENDLESS).expect("it can be written");
    let mut command = outflow(project.path(), &["run"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let runs = || {
        let runs = run(project.path(), &["--output", "json", "runs"]);
        serde_json::from_slice::<serde_json::Value>(&runs.stdout).unwrap_or_default()
    };
    wait_for("it plans", || runs()[0]["state"] == "planning");
    let first = runs()[0]["id"].clone();
    let (status, output) = terminate(child);
    let said = text(&output);
    assert_eq!(status.code(), Some(5), "{said}");
    assert!(said.contains("Stopping") && said.contains("nothing was sent"), "{said}");
    std::fs::write(&model, good).expect("it can be written");
    let next = run(project.path(), &["run"]);
    assert!(next.status.success(), "{}", text(&next));
    assert_eq!((&runs()[0]["id"], &runs()[0]["state"]), (&first, &"succeeded".into()), "{}", runs());
}

#[test]
fn a_plan_that_waits_for_its_source_ends_at_once() {
    let project = project();
    std::fs::write(project.path().join(MODEL), ENDLESS).expect("it can be written");
    let mut command = outflow(project.path(), &["plan", "customers_to_hubspot"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    until_it_plans(project.path());
    let (status, output) = terminate(child);
    let said = text(&output);
    assert_eq!(status.code(), Some(5), "{said}");
    assert!(said.contains("nothing was kept"), "{said}");
}

#[test]
fn a_sync_that_is_not_reached_is_named_beside_the_one_that_was_interrupted() {
    let (project, simulator) = with_simulator(1_000);
    std::fs::copy(project.path().join(SYNC), project.path().join("syncs/second.yml")).expect("a copy");
    let mut command = outflow(project.path(), &["--output", "json", "run"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    wait_for("it sends", || simulator.get("/_simulator/stats")["records"].as_u64() > Some(0));
    let (status, output) = terminate(child);
    let told = document(&["run"], &output);
    assert_eq!((status.code(), &told[0]["state"]), (Some(5), &"interrupted".into()), "{}", text(&output));
    let why = told[1]["error"].as_str().unwrap_or_default();
    assert!(told[1]["sync"] == "second" && why.contains("the command was stopped before"), "{told}");
}

/// What is under way when a terminal is closed, which shells and the system tell one after the other.
#[test]
fn a_closed_terminal_stops_a_run_as_sigterm_does() {
    let (project, simulator) = with_simulator(1_000);
    let outflow = outflow(project.path(), &["--output", "json", "run"]);
    // The tests may run under `nohup`, which a child inherits.
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP").arg(outflow.get_program()).args(outflow.get_args()).env("HUBSPOT_TOKEN", "t");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    wait_for("it sends", || simulator.get("/_simulator/stats")["records"].as_u64() > Some(0));
    let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
    kill_process(Pid::from_child(&child), Signal::HUP).expect("it runs");
    let mut said = String::new();
    while !said.contains("Stopping") {
        assert!(stderr.read_line(&mut said).expect("it can be read") > 0, "it ended without a word: {said}");
    }
    let (status, output) = end_by(&[Signal::HUP, Signal::HUP], child);
    let told = document(&["run"], &output);
    assert_eq!((status.code(), &told[0]["state"]), (Some(5), &"interrupted".into()), "{said}{}", text(&output));
    let next = run(project.path(), &["run"]);
    assert!(next.status.success(), "{}", text(&next));
}

#[test]
fn a_run_that_was_started_to_outlive_its_terminal_goes_on() {
    let (project, simulator) = with_simulator(1_000);
    let outflow = outflow(project.path(), &["run"]);
    let mut command = Command::new("nohup");
    command.arg(outflow.get_program()).args(outflow.get_args()).env("HUBSPOT_TOKEN", "t");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    wait_for("it sends", || simulator.get("/_simulator/stats")["records"].as_u64() > Some(0));
    let (status, output) = end_by(&[Signal::HUP], child);
    assert!(status.success(), "{}", text(&output));
}
