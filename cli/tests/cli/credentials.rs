//! Passwords in the URLs of services: no log has them, however much it tells, and no error.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::figures::shown;
use super::{PROJECT, SYNC, edit, example, outflow, run, said_until, text};

/// A destination whose login gives a new refresh token each time.
const ROTATES: &str = r#"name = "own"
title = "Our own"
[auth]
kind = "refresh_token"
token_url = "url"
client_id = "id"
client_secret = "token"
refresh_token = "token"
[config.url]
label = "Token endpoint"
default = "http://127.0.0.1:1/token"
[config.id]
label = "Client"
default = "x"
[config.token]
label = "Token"
secret = true
[probe]
path = "/me"
[objects.contacts]
identity = ["email"]
modes = ["upsert"]
[operations.upsert]
method = "POST"
path = "/people"
records = 1
body = "$record"
"#;

#[test]
fn a_kept_token_that_cannot_be_read_ends_a_run_at_once_and_is_told_with_the_remedy() {
    let project = example();
    std::fs::write(project.path().join("own.toml"), ROTATES).expect("the manifest is written");
    edit(project.path(), PROJECT, "type: hubspot", "type: http\n    manifest: own.toml");
    edit(project.path(), SYNC, "mode: mirror", "mode: upsert\ndelivery: { max_wait_seconds: 5 }");
    edit(project.path(), SYNC, "remove: archive\n", "");
    let tokens = project.path().join(".outflow/tokens");
    std::fs::create_dir_all(&tokens).expect("a folder");
    std::fs::write(tokens.join("crm.json"), "").expect("a file");
    for (command, code) in [("run", 1), ("errors", 0), ("check", 6)] {
        let output = run(project.path(), &[command]);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(code), "{command}: {said}");
        for part in ["tokens/crm.json is damaged (the file is empty)", "delete the file, and give a new refresh token"]
        {
            assert!(said.contains(part), "{command} should say {part:?}: {said}");
        }
        assert!(!said.contains("status page"), "{command}: {said}");
    }
}

#[test]
fn a_ledger_that_cannot_be_used_is_told_without_its_password() {
    for place in ["127.0.0.1:99999", "127.0.0.1:1"] {
        let project = example();
        let path = project.path().join(PROJECT);
        let before = std::fs::read_to_string(&path).expect("the file is there");
        let others = "queue: amqp://user:hunter2@127.0.0.1:1\n    limiter: redis://user:hunter2@127.0.0.1:1";
        let store = project.path().join("store");
        let state = format!(
            "\nstate:\n  shared:\n    ledger: postgres://user:hunter2@{place}/x\n    {others}\n    store: file://{}\n    unencrypted: true\n",
            store.display()
        );
        std::fs::write(&path, before + &state).expect("the file can be written");
        // An address that cannot be one ends it; a server that is away is waited for.
        let text = said_until(outflow(project.path(), &["--log", "trace", "coordinator"]), "waits for it");
        assert!(text.contains("ledger"), "{place}: {text}");
        assert!(!text.contains("hunter2"), "{place}: {text}");
    }
}

#[test]
fn a_queue_or_a_limiter_that_cannot_be_used_is_told_without_its_password() {
    let (queue, limiter) = ("amqp://user:hunter2@127.0.0.1:1/x", "redis://user:hunter2@127.0.0.1:1");
    for (queue, limiter) in [
        ("amqp://user:hunter2@127.0.0.1:99999/x", limiter),
        ("rabbit://user:hunter2@127.0.0.1:1/x", limiter),
        (queue, "redis://user:hunter2@127.0.0.1:99999"),
        (queue, "redis-sentinel://user:hunter2@127.0.0.1:1/0"),
        (queue, "redis-cluster://user:hunter2@127.0.0.1:99999999"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let output =
            run(folder.path(), &["--log", "trace", "worker", "--unencrypted", "--queue", queue, "--limiter", limiter]);
        let text = text(&output);
        assert!(output.status.code() == Some(2) && !text.contains("hunter2"), "{queue} {limiter}: {text}");
    }
}

#[test]
fn services_that_are_away_are_asked_for_without_telling_their_passwords() {
    let queue = "amqp://user:hunter2@127.0.0.1:1/x";
    for limiter in [
        "redis://user:hunter2@127.0.0.1:1",
        "redis-sentinel://user:hunter2@127.0.0.1:1/0#main",
        "redis-cluster://user:hunter2@127.0.0.1:1",
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let file = File::create(&log).expect("a file");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let monitor = free.to_string();
        let arguments = [
            "--log",
            "trace",
            "worker",
            "--unencrypted",
            "--queue",
            queue,
            "--limiter",
            limiter,
            "--monitor",
            &monitor,
        ];
        let mut worker = outflow(folder.path(), &arguments)
            .stdout(file.try_clone().expect("a file"))
            .stderr(file)
            .spawn()
            .expect("it runs");
        let has_asked = || {
            let figures = TcpStream::connect(&monitor).map(|_| shown(&monitor, "/metrics")).unwrap_or_default();
            ["redis", "rabbitmq"].iter().all(|service| figures.contains(&format!("{{service=\"{service}\"}}")))
        };
        let began = Instant::now();
        while !has_asked() && began.elapsed() < Duration::from_mins(1) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let asked = has_asked();
        worker.kill().expect("it runs still");
        worker.wait().expect("it ends");
        let told = std::fs::read_to_string(&log).expect("the file is there");
        assert!(asked && !told.contains("hunter2"), "{limiter}: {told}");
    }
}
