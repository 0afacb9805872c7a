//! Passwords in the URLs of services: no log has them, however much it tells, and no error.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::figures::shown;
use super::{PROJECT, example, outflow, run, said_until, text};

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
