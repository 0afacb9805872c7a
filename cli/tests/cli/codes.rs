//! Exit codes tell the project's mistakes from trouble.

use std::fs::File;

use super::errors::project as nowhere;
use super::{MODEL, PROJECT, edit, example, outflow, run, text};

/// What is replaced by what, and the code of `check` and of `run`.
const CODES: &[(&str, &str, &str, i32)] = &[
    (MODEL, "FROM customers", "FROM custmers", 2),
    (MODEL, "SELECT c.email", "SELEC c.email", 2),
    (MODEL, "SELECT c.email", "SELECT 1; SELECT c.email", 2),
    (PROJECT, "http://127.0.0.1:18091", "127.0.0.1:18091", 2),
    (PROJECT, "path: shop.db", "path: none.db", 6),
];

#[test]
fn a_mistake_of_the_project_is_code_2_and_trouble_is_6() {
    for (file, from, to, code) in CODES {
        let project = example();
        edit(project.path(), file, from, to);
        for command in ["check", "run"] {
            let output = run(project.path(), &[command]);
            assert_eq!(output.status.code(), Some(*code), "{command}: {from:?} to {to:?}: {}", text(&output));
        }
    }
}

#[test]
fn a_secret_that_cannot_be_one_is_told_with_its_place() {
    let project = example();
    for (secret, says) in [("", "is empty"), ("a\nb", "a line break")] {
        for command in ["check", "run"] {
            let output = outflow(project.path(), &[command]).env("HUBSPOT_TOKEN", secret).output().expect("it starts");
            let said = text(&output);
            assert_eq!(output.status.code(), Some(2), "{command}: {said}");
            assert!(
                said.contains("outflow.yml:") && said.contains("destinations.crm") && said.contains(says),
                "{said}"
            );
        }
    }
}

#[test]
fn results_that_cannot_be_written_are_trouble() {
    let project = nowhere();
    for arguments in [&["run"][..], &["--output", "json", "runs"]] {
        let full = File::options().write(true).open("/dev/full").expect("Linux has it");
        let output = outflow(project.path(), arguments).stdout(full).output().expect("it starts");
        assert_eq!(output.status.code(), Some(6), "{}", text(&output));
        assert_eq!(text(&output).matches("The results cannot be written").count(), 1, "{}", text(&output));
    }
}

#[test]
fn a_damaged_ledger_names_the_way_out() {
    let project = nowhere();
    assert!(run(project.path(), &["run"]).status.success());
    let ledger = project.path().join(".outflow/ledger.db");
    // The log beside it would mend it.
    _ = std::fs::remove_file(ledger.with_extension("db-wal"));
    std::fs::write(ledger, "no database".repeat(1_000)).expect("it can be written");
    let output = run(project.path(), &["run"]);
    assert_eq!(output.status.code(), Some(6), "{}", text(&output));
    assert!(text(&output).contains("put a backup of the whole directory back"), "{}", text(&output));
}
