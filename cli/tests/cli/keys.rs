//! Keys that encrypt: without them nothing starts unless it is told to; what is wrong with them is told, and they are not.

use super::{outflow, said_until, text};

#[test]
fn a_key_that_cannot_be_used_is_told_and_not_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let services = ["worker", "--queue", "amqp://127.0.0.1:1", "--limiter", "redis://127.0.0.1:1"];
    for (keys, wanted) in [
        ("c2VjcmV0c2VjcmV0", "Key 1 has no id"),
        ("2026a:c2VjcmV0c2VjcmV0", "The key \"2026a\" has 12 bytes, and needs 32"),
        ("c2VjcmV0c2VjcmV0:2026a", "The id of key 1"),
        ("", "Key 1 has no id"),
    ] {
        let told = outflow(folder.path(), &services).env("OUTFLOW_KEYS", keys).output().expect("the program starts");
        let told_text = text(&told);
        assert!(told.status.code() == Some(2) && told_text.contains(wanted), "{keys}: {told_text}");
        assert!(!told_text.contains("c2Vjc"), "{told_text}");
    }
    let help =
        text(&outflow(folder.path(), &["worker", "--help"]).env("OUTFLOW_KEYS", "a:c2Vjc").output().expect("help"));
    assert!(help.contains("OUTFLOW_KEYS") && !help.contains("c2Vjc"), "{help}");
}

#[test]
fn keys_of_a_project_that_are_not_set_are_never_taken_for_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let project = "version: 1\nsources: {}\ndestinations: {}\nstate:\n  shared:\n    ledger: postgres://127.0.0.1:1/x\n    queue: \
                   amqp://127.0.0.1:1\n    limiter: redis://127.0.0.1:1\n    store: STORE\n    keys: \"${env:OUTFLOW_KEYS}\"\n";
    let store = format!("file://{}", folder.path().join("store").display());
    std::fs::write(folder.path().join("outflow.yml"), project.replace("STORE", &store)).expect("a file");
    let mut command = outflow(folder.path(), &["worker"]);
    let told = text(&command.env_remove("OUTFLOW_KEYS").output().expect("the program starts"));
    assert!(told.contains("state.shared.keys: The environment variable OUTFLOW_KEYS is not set."), "{told}");
}

/// A project that shares its state, with these lines under `state.shared`.
fn shared(lines: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("store");
    let text = format!(
        "version: 1\nsources: {{}}\ndestinations: {{}}\nstate:\n  shared:\n    ledger: postgres://127.0.0.1:1/x\n    \
         queue: amqp://127.0.0.1:1\n    limiter: redis://127.0.0.1:1\n    store: file://{}\n{lines}",
        store.display()
    );
    std::fs::write(folder.path().join("outflow.yml"), text).expect("a file");
    folder
}

#[test]
fn a_project_that_shares_a_ledger_without_a_name_is_warned() {
    for (lines, warns) in [("    unencrypted: true\n", true), ("    unencrypted: true\n    project: people\n", false)] {
        let told = text(&outflow(shared(lines).path(), &["check", "--offline"]).output().expect("the program starts"));
        assert_eq!(told.contains("the project has no name under `state.shared`"), warns, "{told}");
    }
}

#[test]
fn without_keys_nothing_starts_unless_it_is_told_to() {
    let good = "2026a:dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=";
    let project = shared("");
    for process in ["coordinator", "worker"] {
        let mut command = outflow(project.path(), &[process]);
        let refused = command.env_remove("OUTFLOW_KEYS").output().expect("the program starts");
        let told = text(&refused);
        assert_eq!(refused.status.code(), Some(2), "{told}");
        assert!(told.contains("there are no keys") && told.contains("`unencrypted: true`"), "{told}");
        // A half-done set-up is told, too.
        let told = text(&command.env("OUTFLOW_KEYS", "2026a").output().expect("the program starts"));
        assert!(told.contains("Key 1 has no id"), "{told}");
    }
    // With the environment's keys it goes as far as the ledger, which is not there.
    let mut command = outflow(project.path(), &["coordinator"]);
    command.env("OUTFLOW_KEYS", good);
    let told = said_until(command, "waits for it");
    assert!(told.contains("The ledger cannot be used yet") && !told.contains("keys"), "{told}");
    for (lines, keys) in [("    unencrypted: true\n", Some(good)), ("    unencrypted: true\n    keys: \"a:b\"\n", None)]
    {
        let project = shared(lines);
        let mut command = outflow(project.path(), &["coordinator"]);
        command.env_remove("OUTFLOW_KEYS").envs(keys.map(|keys| ("OUTFLOW_KEYS", keys)));
        let told = text(&command.output().expect("the program starts"));
        assert!(told.contains("state.shared.unencrypted") && told.contains("keep one of the two"), "{told}");
    }
    let alone = tempfile::tempdir().expect("a folder");
    let services = ["worker", "--queue", "amqp://127.0.0.1:1", "--limiter", "redis://127.0.0.1:1"];
    let refused = outflow(alone.path(), &services).env_remove("OUTFLOW_KEYS").output().expect("the program starts");
    assert!(refused.status.code() == Some(2) && text(&refused).contains("`--unencrypted`"), "{}", text(&refused));
}
