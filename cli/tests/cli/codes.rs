//! Exit codes tell the project's mistakes from trouble.

use std::fs::File;

use super::errors::project as nowhere;
use super::{MODEL, PROJECT, SYNC, edit, example, outflow, run, said_until, text};

/// What is replaced by what, and the code of `check` and of `run`.
const CODES: &[(&str, &str, &str, i32)] = &[
    (MODEL, "FROM customers", "FROM custmers", 2),
    (MODEL, "SELECT c.email", "SELEC c.email", 2),
    (MODEL, "SELECT c.email", "SELECT 1; SELECT c.email", 2),
    (PROJECT, "http://127.0.0.1:18091", "127.0.0.1:18091", 2),
    (PROJECT, "path: shop.db", "path: none.db", 2),
    (PROJECT, "path: shop.db", "path: outflow.yml", 6),
    (PROJECT, "type: sqlite\n    path: shop.db", "type: postgres\n    url: mysql://u@127.0.0.1:1/x", 2),
    (PROJECT, "type: sqlite\n    path: shop.db", "type: postgres\n    url: host=127.0.0.1 dbname=x", 2),
    (PROJECT, "type: sqlite\n    path: shop.db", "type: postgres\n    url: postgres://u@127.0.0.1:99999/x", 2),
    (PROJECT, "type: sqlite\n    path: shop.db", "type: postgres\n    url: postgres://u@127.0.0.1:1/x", 6),
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

/// An example whose model is a CSV file.
fn of_files() -> tempfile::TempDir {
    let project = nowhere();
    edit(
        project.path(),
        PROJECT,
        "{ type: sqlite, path: shop.db }",
        "{ type: files, path: data, types: { age: int } }",
    );
    std::fs::remove_file(project.path().join(MODEL)).expect("it is there");
    std::fs::create_dir(project.path().join("data")).expect("a folder");
    std::fs::write(
        project.path().join("data/people.csv"),
        "email,city,age\na@x.io,Wien,1\nb@x.io,Linz,x\nc@x.io,Graz,y\n",
    )
    .expect("a file");
    std::fs::write(project.path().join("models/customers.yml"), "source: shop\nkey: email\nfiles: people.csv\n")
        .expect("a file");
    project
}

#[test]
fn files_and_columns_that_do_not_exist_are_mistakes() {
    for (file, from, to, says) in [
        ("models/customers.yml", "people.csv", "peple.csv", "peple.csv: it does not exist"),
        (PROJECT, "path: data", "path: dat", "dat: it does not exist"),
        (PROJECT, "age: int", "agee: int", "Did you mean \"age\"?"),
    ] {
        let project = of_files();
        edit(project.path(), file, from, to);
        for command in ["check", "run"] {
            let output = run(project.path(), &[command]);
            assert!(output.status.code() == Some(2) && text(&output).contains(says), "{command}: {}", text(&output));
        }
    }
}

#[test]
fn values_that_do_not_fit_are_one_cause_however_many_lines_have_them() {
    let project = of_files();
    edit(project.path(), SYNC, "city: city", "city: city\n  age: age");
    assert_eq!(run(project.path(), &["run"]).status.code(), Some(3));
    let said = text(&run(project.path(), &["errors"]));
    assert_eq!(said.matches("OF-5005").count(), 1, "{said}");
    assert!(said.contains("(2 records)") && said.contains("b@x.io (people.csv, line 3)"), "{said}");
}

/// A project that shares its state with services that are not there, with this setting replaced.
fn shared(from: &str, to: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "version: 1\nsources: {{}}\ndestinations: {{}}\nstate:\n  shared:\n    ledger: postgres://127.0.0.1:1/x\n    queue: \
         amqp://127.0.0.1:1\n    limiter: redis://127.0.0.1:1\n    unencrypted: true\n    store: file://{}\n",
        folder.path().join("store").display()
    );
    std::fs::write(folder.path().join(PROJECT), text).expect("a file");
    edit(folder.path(), PROJECT, from, to);
    folder
}

#[test]
fn settings_of_shared_state_that_cannot_be_used_are_told_with_their_place() {
    for (from, to, command, says) in [
        (
            "postgres://127.0.0.1:1/x",
            "\"${env:NOBODY_SETS_THIS}\"",
            "coordinator",
            ":6:5: state.shared.ledger: The environment variable",
        ),
        ("postgres://127.0.0.1:1/x", "mysql://127.0.0.1:1/x", "runs", ":6:5: state.shared.ledger: "),
        (
            "redis://127.0.0.1:1",
            "127.0.0.1:1",
            "coordinator",
            ":8:5: state.shared.limiter: The URL of Redis cannot be used; it is like redis://",
        ),
        ("redis://127.0.0.1:1", "127.0.0.1:1", "worker", ":8:5: state.shared.limiter: The URL of Redis"),
        ("amqp://127.0.0.1:1", "127.0.0.1:1", "coordinator", ":7:5: state.shared.queue: The URL of RabbitMQ"),
    ] {
        let project = shared(from, to);
        let output = run(project.path(), &[command]);
        let said = text(&output);
        assert!(output.status.code() == Some(2) && said.contains(says), "{command} {to}: {said}");
    }
    let alone = nowhere();
    for command in [&["coordinator"][..], &["dead", "list"]] {
        let output = run(alone.path(), command);
        assert!(
            output.status.code() == Some(2) && text(&output).contains("state.shared"),
            "{command:?}: {}",
            text(&output)
        );
    }
}

#[test]
fn a_ledger_that_is_away_is_named_with_its_place_and_the_cause() {
    let output = run(shared("unencrypted", "unencrypted").path(), &["runs"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("127.0.0.1:1") && said.contains("Connection refused"), "{said}");
    assert!(!said.contains("pool timed out"), "{said}");
}

#[test]
fn a_process_says_what_it_waits_for_and_is_ready_only_then() {
    let project = shared("unencrypted", "unencrypted");
    let said = said_until(outflow(project.path(), &["worker"]), "is not ready yet");
    assert!(said.contains("is not ready yet: limiter: ") && !said.contains("is ready."), "{said}");
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
