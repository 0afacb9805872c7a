//! What `outflow approve` and `cancel` are about, and what they say of it.

use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;

use super::documents::{ask, held};
use super::stops::wait_for;
use super::{SYNC, Simulator, edit, outflow, run, text, with_simulator};

const NAME: &str = "customers_to_hubspot";

/// The runs of a project by state, the newest first.
fn states(project: &Path) -> Vec<String> {
    let (runs, _) = ask(project, &["runs"]);
    let state = |run: &Value| run["state"].as_str().unwrap_or_default().to_owned();
    runs.as_array().map(|runs| runs.iter().map(state).collect()).unwrap_or_default()
}

/// A sync of which one run is sending, and one is queued to follow it; their IDs.
fn sending() -> (tempfile::TempDir, Simulator, Child, [String; 2]) {
    let (project, simulator) = with_simulator(300);
    edit(project.path(), SYNC, "remove: archive", "remove: archive\ndelivery: { chunk_rows: 10 }");
    let mut command = outflow(project.path(), &["run"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    wait_for("it sends", || simulator.get("/_simulator/stats")["records"].as_u64() > Some(0));
    let (queued, code) = ask(project.path(), &["run", "--no-wait"]);
    assert_eq!((code, &queued[0]["state"]), (Some(0), &"queued".into()), "{queued}");
    let (runs, _) = ask(project.path(), &["runs"]);
    let ids = [1, 0].map(|at| runs[at]["id"].as_str().unwrap_or_default().to_owned());
    (project, simulator, child, ids)
}

#[test]
fn a_syncs_name_cancels_the_run_that_sends_and_the_one_behind_it() {
    let (project, simulator, child, [sends, queued]) = sending();
    let cancelled = run(project.path(), &["cancel", NAME]);
    let said = text(&cancelled);
    assert_eq!(cancelled.status.code(), Some(0), "{said}");
    assert!(said.contains(&format!("{queued} is cancelled.")), "{said}");
    assert!(said.contains(&sends), "{said}");
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(5), "{}", text(&ended));
    assert_eq!(states(project.path()), ["cancelled", "cancelled"]);
    let sent = simulator.get("/_simulator/stats")["records"].as_u64();
    assert!(sent < Some(1_000), "it went on sending: {sent:?}");
    let (none, code) = ask(project.path(), &["cancel", NAME]);
    assert!(code == Some(2) && none["error"].as_str().is_some_and(|said| said.contains("no run to cancel")), "{none}");
}

#[test]
fn a_queued_run_that_is_cancelled_is_told_as_it_is_and_the_other_goes_on() {
    let (project, _simulator, child, [sends, queued]) = sending();
    let (told, code) = ask(project.path(), &["cancel", &queued]);
    assert_eq!((code, &told["id"], &told["state"]), (Some(0), &queued.into(), &"cancelled".into()), "{told}");
    let (told, _) = ask(project.path(), &["cancel", &sends]);
    assert_eq!((&told["id"], &told["cancel"]), (&sends.into(), &true.into()), "{told}");
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(5), "{}", text(&ended));
}

#[test]
fn a_syncs_name_approves_its_held_run_whatever_is_queued_behind_it() {
    let (project, simulator) = with_simulator(0);
    edit(project.path(), SYNC, "mode: mirror", "mode: mirror\nguard: { max_first_run_rows: 1 }");
    let (runs, code) = ask(project.path(), &["run"]);
    assert_eq!((code, &runs[0]["state"]), (Some(4), &"held".into()), "{runs}");
    let lock = held(project.path());
    let (queued, _) = ask(project.path(), &["run", "--no-wait"]);
    drop(lock);
    let (approved, code) = ask(project.path(), &["approve", NAME]);
    assert_eq!((code, &approved["id"]), (Some(0), &runs[0]["id"]), "{approved}");
    assert_eq!(simulator.get("/_simulator/stats")["records"], 1_000);
    let (refused, code) = ask(project.path(), &["approve", NAME]);
    let (why, queued) = (refused["error"].as_str().unwrap_or_default(), queued[0]["id"].as_str().unwrap_or_default());
    assert!(code == Some(2) && why.contains(&format!("no held run; {queued} is queued")), "{refused}");
}
