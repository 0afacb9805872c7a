//! What `errors`, `show` and `run --output json` say of runs that did not succeed.

use serde_json::Value;

use super::{MODEL, SYNC, edit, example, outflow, run, text, with_simulator};

/// An example whose destination is the black hole, so that nothing has to run beside it.
pub(super) fn project() -> tempfile::TempDir {
    let project = example();
    let path = project.path().join("outflow.yml");
    let yaml = "version: 1\nsources:\n  shop: { type: sqlite, path: shop.db }\ndestinations:\n  nowhere: { type: blackhole }\n";
    std::fs::write(path, yaml).expect("the file can be written");
    let sync = "model: customers\ndestination: nowhere\nobject: people\nidentity: [email]\nmode: mirror\nremove: delete\n\
                mapping:\n  email: email\n  city: city\n";
    std::fs::write(project.path().join(SYNC), sync).expect("the file can be written");
    project
}

fn json(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

#[test]
fn errors_of_a_failed_run_say_why_it_failed() {
    let project = project();
    edit(project.path(), MODEL, "FROM customers", "FROM custmers");
    assert_ne!(run(project.path(), &["run"]).status.code(), Some(0));
    let said = text(&run(project.path(), &["errors"]));
    assert!(said.contains("The run failed:") && said.contains("custmers") && !said.contains("succeeded"), "{said}");
    let told = json(&run(project.path(), &["--output", "json", "errors"]));
    assert_eq!((&told["state"], &told["failed"]), (&Value::from("failed"), &Value::from(0)), "{told}");
}

#[test]
fn errors_of_a_held_run_say_that_nothing_was_sent() {
    let project = project();
    assert_eq!(run(project.path(), &["run"]).status.code(), Some(0));
    edit(project.path(), MODEL, "c.city,", "c.city || 'x' AS city,");
    edit(project.path(), SYNC, "mapping:", "guard: { max_changes: 1 }\nmapping:");
    assert_eq!(run(project.path(), &["run"]).status.code(), Some(4));
    let said = text(&run(project.path(), &["errors", "customers_to_hubspot"]));
    assert!(said.contains("nothing was sent") && said.contains("outflow approve run_"), "{said}");
    let said = text(&run(project.path(), &["show"]));
    for part in
        ["held      since 20", "the guard allows 1", "To send: change 800.", "  change ", " city=", "  and 795 more"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    let told = json(&run(project.path(), &["--output", "json", "show"]));
    assert!(told["planned"].is_number() && told["samples"].as_array().is_some_and(|all| !all.is_empty()), "{told}");
}

#[test]
fn rows_that_left_before_a_sync_became_a_mirror_are_told_by_every_run() {
    let project = project();
    edit(project.path(), SYNC, "mode: mirror\nremove: delete", "mode: upsert");
    assert_eq!(run(project.path(), &["run"]).status.code(), Some(0));
    edit(project.path(), SYNC, "mode: upsert", "mode: mirror");
    edit(project.path(), MODEL, "GROUP BY", "WHERE c.id <> 3 GROUP BY");
    let planned = text(&run(project.path(), &["plan", "customers_to_hubspot"]));
    assert!(planned.contains("999 row(s) are sent again") && planned.contains("kept no keys"), "{planned}");
    let first = run(project.path(), &["run"]);
    let said = text(&first);
    assert_eq!(first.status.code(), Some(3), "{said}");
    assert!(said.contains("999 row(s) are sent again") && said.contains("1 missing (1 invalid)"), "{said}");
    let second = run(project.path(), &["run"]);
    let said = text(&second);
    assert_eq!(second.status.code(), Some(3), "{said}");
    assert!(said.contains("1 removed row(s) stay at the destination") && said.contains("999 unchanged"), "{said}");
    let said = text(&run(project.path(), &["errors"]));
    assert!(said.contains("1 record did not succeed") && said.contains("OF-5004"), "{said}");
    assert!(!said.contains("Every record"), "{said}");
    // Their keys are known now: a row that leaves is removed.
    edit(project.path(), MODEL, "WHERE c.id <> 3", "WHERE c.id > 4");
    let said = text(&run(project.path(), &["run"]));
    assert!(said.contains("remove  3"), "{said}");
}

#[test]
fn a_plan_that_the_guard_refuses_is_told_with_what_it_would_have_sent() {
    let project = project();
    assert_eq!(run(project.path(), &["run"]).status.code(), Some(0));
    edit(project.path(), MODEL, "c.city,", "c.city || 'x' AS city,");
    edit(project.path(), SYNC, "mapping:", "guard: { max_changes: 1, on_breach: fail }\nmapping:");
    let planned = text(&run(project.path(), &["plan", "customers_to_hubspot"]));
    assert!(planned.contains("The guard would fail the run"), "{planned}");
    let failed = run(project.path(), &["run"]);
    assert_eq!(failed.status.code(), Some(1));
    for said in [text(&failed), text(&run(project.path(), &["show"]))] {
        assert!(said.contains("1000 row(s) extracted") && said.contains("`guard:`"), "{said}");
        assert!(!said.contains("`outflow errors"), "{said}");
    }
    let said = text(&run(project.path(), &["errors"]));
    assert!(said.contains("800 records would have been sent") && said.contains("correct the model"), "{said}");
    edit(project.path(), SYNC, "on_breach: fail", "on_breach: warn");
    let planned = text(&run(project.path(), &["plan", "customers_to_hubspot"]));
    assert!(planned.contains("A run would warn, and send this plan all the same"), "{planned}");
    assert_eq!(run(project.path(), &["run"]).status.code(), Some(0));
}

#[test]
fn a_cancelled_plan_is_not_the_destinations_trouble() {
    let project = project();
    assert_eq!(run(project.path(), &["run"]).status.code(), Some(0));
    edit(project.path(), MODEL, "c.city,", "c.city || 'x' AS city,");
    edit(project.path(), SYNC, "mapping:", "guard: { max_changes: 1 }\nmapping:");
    assert_eq!(run(project.path(), &["run"]).status.code(), Some(4));
    let cancelled = run(project.path(), &["cancel", "customers_to_hubspot"]);
    assert_eq!(cancelled.status.code(), Some(0), "{}", text(&cancelled));
    let said = text(&run(project.path(), &["errors"]));
    assert!(said.contains("OF-1005 CANCELLED: Cancelled by a user") && said.contains("the next run finds"), "{said}");
    assert!(!said.contains("OF-1001") && !said.contains("status page"), "{said}");
}

#[test]
fn errors_group_invalid_rows_by_cause_and_count_all() {
    let project = project();
    edit(
        project.path(),
        MODEL,
        "SELECT c.email",
        "SELECT CASE WHEN c.id > 40 THEN 'same@x.io' ELSE c.email END AS email",
    );
    assert_eq!(run(project.path(), &["run"]).status.code(), Some(3));
    let said = text(&run(project.path(), &["errors", "--limit", "20"]));
    for part in [
        "20 of them are shown; --limit",
        "OF-5003: Another row has the same key",
        "(960 records)",
        "Make the model's key unique.",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.lines().count() < 30 && !said.contains("OF-2001"), "{said}");
    let none = text(&run(project.path(), &["errors", "--limit", "0"]));
    assert!(none.contains("did not succeed, 0 of them are shown"), "{none}");
    let told = json(&run(project.path(), &["--output", "json", "errors", "--limit", "3"]));
    let problem = &told["problems"][0];
    assert_eq!(told["problems"].as_array().map(Vec::len), Some(3), "{told}");
    assert_eq!((&problem["code"], &problem["destination_code"]), (&Value::from("OF-5003"), &Value::Null), "{told}");
    assert_eq!(told["failed"].as_u64(), Some(960), "{told}");
}

#[test]
fn withheld_rows_are_named_with_the_run_that_refused_them() {
    let (project, _simulator) = with_simulator(0);
    edit(project.path(), MODEL, "c.city,", "CASE WHEN c.id <= 30 THEN 'refuse me' ELSE c.city END AS city,");
    assert_eq!(run(project.path(), &["run"]).status.code(), Some(3));
    let refused = json(&run(project.path(), &["--output", "json", "show"]))["id"].clone();
    assert_eq!(run(project.path(), &["run"]).status.code(), Some(0));
    let said = text(&run(project.path(), &["errors", "--limit", "20"]));
    let refused = refused.as_str().expect("an ID");
    for part in ["30 rows are withheld", "20 of them are shown; --limit 30", "OF-2001", &format!("(since {refused})")] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let page = |skip: &str| {
        let told = json(&run(project.path(), &["--output", "json", "errors", "--limit", "20", "--skip", skip]));
        let rows = told["withheld_rows"].as_array().expect("rows").clone();
        assert_eq!((&told["withheld"], &told["failed"]), (&Value::from(30), &Value::from(0)), "{told}");
        assert!(rows.iter().all(|row| row["since"] == refused && row["code"] == "OF-2001"), "{told}");
        rows.iter().map(|row| row["key"].to_string()).collect::<std::collections::BTreeSet<_>>()
    };
    let (first, second) = (page("0"), page("20"));
    assert_eq!((first.len(), second.len(), first.intersection(&second).count()), (20, 10, 0));
}

#[test]
fn runs_are_named_by_id_by_its_beginning_by_sync_or_not_at_all() {
    let project = project();
    assert_eq!(run(project.path(), &["show"]).status.code(), Some(2), "there is no run yet");
    let first = json(&run(project.path(), &["--output", "json", "run"]))[0]["id"].clone();
    let second = json(&run(project.path(), &["--output", "json", "run"]))[0]["id"].clone();
    let (first, second) = (first.as_str().expect("an ID"), second.as_str().expect("an ID"));
    let shown =
        |name: &[&str]| json(&run(project.path(), &[&["--output", "json", "show"], name].concat()))["id"].clone();
    assert_eq!(shown(&[]), second);
    assert_eq!(shown(&["customers_to_hubspot"]), second);
    assert_eq!(shown(&[&first[..first.len() - 1]]), first);
    for wrong in [
        &["show", "run_"][..],
        &["errors", "custmers_to_hubspot"],
        &["runs", "b"],
        &["unknown", "b"],
        &["state", "show", "b"],
    ] {
        let output = run(project.path(), wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", text(&output));
    }
}

#[test]
fn several_syncs_are_one_json_document_though_one_fails() {
    let project = project();
    let model = std::fs::read_to_string(project.path().join(MODEL)).expect("the model");
    std::fs::write(project.path().join("models/broken.sql"), model.replace("FROM customers", "FROM custmers"))
        .expect("a file");
    let sync = std::fs::read_to_string(project.path().join(SYNC)).expect("the sync");
    std::fs::write(project.path().join("syncs/broken.yml"), sync.replace("model: customers", "model: broken"))
        .expect("a file");
    let output = run(project.path(), &["--output", "json", "run"]);
    let runs = json(&output);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert_eq!((&runs[0]["sync"], &runs[0]["state"]), (&Value::from("broken"), &Value::from("failed")), "{runs}");
    assert!(runs[0]["error"].as_str().is_some_and(|error| error.contains("custmers")), "{runs}");
    assert_eq!(runs[1]["state"], "succeeded", "{runs}");
}

#[test]
fn a_reference_that_nothing_stands_for_is_named_with_its_place_before_anything_is_read() {
    let project = example();
    let output = outflow(project.path(), &["run"]).env_remove("HUBSPOT_TOKEN").output().expect("it runs");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("outflow.yml:") && said.contains("settings.token") && said.contains("HUBSPOT_TOKEN"),
        "{said}"
    );
    let runs = json(&run(project.path(), &["--output", "json", "runs"]));
    assert_eq!(runs.as_array().map(Vec::len), Some(0), "{runs}");
}

#[test]
fn check_is_one_json_document_though_a_file_cannot_be_read() {
    let project = project();
    edit(project.path(), SYNC, "mode: mirror", "mode: miror");
    let told = json(&run(project.path(), &["--output", "json", "check", "--offline"]));
    assert!(told["problems"][0]["line"].as_u64().is_some_and(|line| line > 0), "{told}");
}

#[test]
fn a_log_filter_that_means_nothing_is_wrong_usage() {
    let project = project();
    assert_eq!(run(project.path(), &["--log", "bogus=1=2", "runs"]).status.code(), Some(2));
    assert_eq!(run(project.path(), &["init"]).status.code(), Some(2), "there is a project already");
}
