//! Requests outside a run: they count, as every request does.

use super::{PROJECT, edit, run, text, with_simulator, with_simulator_of};

#[test]
fn requests_of_check_and_plan_count_within_the_limits_of_the_account() {
    let (project, simulator) = with_simulator(0);
    edit(project.path(), PROJECT, "    type: hubspot\n", "    type: hubspot\n    limits: { daily: 4 }\n");
    let first = run(project.path(), &["check"]);
    assert_eq!(first.status.code(), Some(0), "{}", text(&first));
    let asked = simulator.get("/_simulator/stats")["requests"].as_u64().expect("a number");
    assert_eq!(asked, 2, "the account, and the fields of contacts");
    assert_eq!(run(project.path(), &["check"]).status.code(), Some(0));
    let third = run(project.path(), &["check"]);
    assert!(
        third.status.code() == Some(6) && text(&third).contains("its limits allow a request in"),
        "{}",
        text(&third)
    );
    assert_eq!(simulator.get("/_simulator/stats")["requests"].as_u64(), Some(4), "the day has four");
    let plan = run(project.path(), &["plan", "customers_to_hubspot"]);
    assert_eq!(plan.status.code(), Some(0), "{}", text(&plan));
    assert_eq!(simulator.get("/_simulator/stats")["requests"].as_u64(), Some(4), "what fields have is not asked for");
}

#[test]
fn what_a_run_has_not_used_of_the_day_is_left_to_the_next() {
    let (project, simulator) = with_simulator(0);
    edit(project.path(), PROJECT, "    type: hubspot\n", "    type: hubspot\n    limits: { daily: 60 }\n");
    for _ in 0..3 {
        let full = run(project.path(), &["run", "--full"]);
        assert_eq!(full.status.code(), Some(0), "{}", text(&full));
    }
    let asked = simulator.get("/_simulator/stats")["requests"].as_u64().expect("a number");
    assert!((30..=60).contains(&asked), "{asked}");
}

#[test]
fn check_shows_the_limits_that_a_destination_states() {
    let (project, _simulator) = with_simulator_of(0, 190);
    let checked = run(project.path(), &["check"]);
    let said = text(&checked);
    assert!(said.contains("crm: the destination states a limit of 190 requests per 10000 ms"), "{said}");
}
