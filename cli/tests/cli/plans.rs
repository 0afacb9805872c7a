//! What `outflow plan` shows.

use super::{outflow, run, text, with_simulator};

#[test]
fn a_plan_shows_what_each_change_changes() {
    let (project, simulator) = with_simulator(0);
    assert!(run(project.path(), &["run"]).status.success());
    let folder = project.path().to_string_lossy().into_owned();
    assert!(run(project.path(), &["init", "--example", "--next-day", &folder]).status.success());
    let asked = simulator.get("/_simulator/stats")["records"].clone();
    let output = run(project.path(), &["--output", "json", "plan", "customers_to_hubspot"]);
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let samples = plan["samples"].as_array().expect("samples");
    let changes: Vec<_> = samples.iter().filter(|sample| sample["change"] == "change").collect();
    assert_eq!(changes.len(), 4, "{}", text(&output));
    let mut moved = 0;
    for change in changes {
        let fields = change["fields"].as_array().expect("fields");
        let differ = fields.iter().filter(|field| field["before"] != field["after"]).count();
        assert!(differ > 0 && differ < fields.len(), "{change}");
        moved += fields.iter().filter(|field| field["name"] == "city" && field["before"] != field["after"]).count();
    }
    assert_eq!(moved, 1, "one customer moved: {}", text(&output));
    let shown = text(&run(project.path(), &["plan", "customers_to_hubspot"]));
    assert!(shown.contains(" city: ") && shown.contains(" -> "), "{shown}");
    assert_eq!(simulator.get("/_simulator/stats")["records"], asked, "a plan wrote something");
    // A destination that does not answer takes nothing from the plan but the comparison.
    drop(simulator);
    let output = outflow(project.path(), &["plan", "customers_to_hubspot"]).output().expect("it runs");
    assert!(output.status.success() && !text(&output).contains(" -> "), "{}", text(&output));
}
