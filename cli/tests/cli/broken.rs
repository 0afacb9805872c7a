//! Mistakes in the files of one sync: they stop that sync and no other.

use serde_json::Value;

use super::{MODEL, PROJECT, SYNC, edit, example, outflow, run, text};

/// An example with one sync more, whose file cannot be read, and a model that nothing uses and that cannot be read either.
fn project() -> tempfile::TempDir {
    let project = example();
    let yaml = "version: 1\nsources:\n  shop: { type: sqlite, path: shop.db }\ndestinations:\n  nowhere: { type: blackhole }\n";
    std::fs::write(project.path().join(PROJECT), yaml).expect("the file can be written");
    let sync = "model: customers\ndestination: nowhere\nobject: people\nidentity: [email]\nmode: upsert\nmapping: { email: email }\n";
    std::fs::write(project.path().join(SYNC), sync).expect("the file can be written");
    std::fs::write(project.path().join("syncs/broken.yml"), "model: [").expect("the file can be written");
    std::fs::write(project.path().join("models/unused.sql"), "SELECT 1").expect("the file can be written");
    project
}

#[test]
fn a_sync_runs_beside_one_that_cannot_be_read() {
    let project = project();
    let named = run(project.path(), &["run", "customers_to_hubspot"]);
    assert_eq!(named.status.code(), Some(0), "{}", text(&named));
    let all = run(project.path(), &["--output", "json", "run"]);
    assert_eq!(all.status.code(), Some(2), "{}", text(&all));
    let runs: Value = serde_json::from_slice(&all.stdout).expect("one JSON document");
    let of = |sync: &str| runs.as_array().and_then(|runs| runs.iter().find(|run| run["sync"] == sync)).cloned();
    assert_eq!(of("customers_to_hubspot").expect("it has run")["state"], "succeeded");
    let broken = of("broken").expect("it is named");
    assert!(broken["error"].as_str().is_some_and(|error| error.contains("syncs/broken.yml:1")), "{broken}");
    let shown = run(project.path(), &["show"]);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown));
}

#[test]
fn what_is_wrong_is_told_where_it_is_asked_for() {
    let project = project();
    let checked = run(project.path(), &["check"]);
    assert_eq!(checked.status.code(), Some(2));
    for place in ["syncs/broken.yml:1", "models/unused.sql:1"] {
        assert!(text(&checked).contains(place), "{place}: {}", text(&checked));
    }
    let alone = run(project.path(), &["run", "broken"]);
    assert!(alone.status.code() == Some(2) && text(&alone).contains("syncs/broken.yml:1"), "{}", text(&alone));
    let unknown = run(project.path(), &["run", "customers_to_hubspot", "borken"]);
    assert_eq!(unknown.status.code(), Some(2));
    let said = text(&unknown);
    assert!(said.contains("Did you mean \"broken\"?") && !said.contains("succeeded"), "{said}");
    edit(project.path(), MODEL, "---\n", "");
    let model = run(project.path(), &["run"]);
    assert_eq!(model.status.code(), Some(2));
    assert!(text(&model).contains("models/customers.sql:1:1"), "{}", text(&model));
}

#[test]
fn a_project_file_of_another_name_is_told() {
    let project = example();
    let (wrong, right) = (project.path().join("outflow.yaml"), project.path().join(PROJECT));
    std::fs::rename(right, wrong).expect("it can be renamed");
    let said = outflow(project.path(), &["check"]).output().expect("the program starts");
    assert_eq!(said.status.code(), Some(2));
    assert!(text(&said).contains("Call outflow.yaml outflow.yml"), "{}", text(&said));
}
