//! Stores that cannot be: each is told with its place in the project before anything else is asked for.

use super::{PROJECT, example, run, text};

#[test]
fn a_wrong_store_is_told_with_its_place_and_without_its_secrets() {
    for (url, told) in [
        ("ftp://host/x", "no store at \"ftp://\""),
        ("file://outflow", "whole path"),
        ("s3:///prefix", "Name the bucket"),
        ("s3://b?secret=hunter2", "no option \"secret\""),
        ("s3://b?secret_access_key=hunter2", "needs access_key_id"),
        ("az://c", "account"),
        ("az://c?account=a&account_key=hunter2", "Access Key"),
        ("gs://b?service_account=/none", "/none"),
    ] {
        let project = example();
        let path = project.path().join(PROJECT);
        let before = std::fs::read_to_string(&path).expect("the file is there");
        let lines = before.lines().count();
        let places =
            "ledger: postgres://127.0.0.1:1/x\n    queue: amqp://127.0.0.1:1\n    limiter: redis://127.0.0.1:1";
        let state = format!("\nstate:\n  shared:\n    {places}\n    store: \"{url}\"\n    unencrypted: true\n");
        std::fs::write(&path, before + &state).expect("the file can be written");
        let output = run(project.path(), &["coordinator"]);
        let text = text(&output);
        assert_eq!(output.status.code(), Some(2), "{url}: {text}");
        let place = format!("outflow.yml:{}", lines + 7);
        for part in [told, "state.shared.store", &place] {
            assert!(text.contains(part), "{url}: no {part} in {text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
}
