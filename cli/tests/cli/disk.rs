//! A machine without room.

use std::path::Path;
use std::process::{Command, Output};

use super::{run, text, with_simulator};

/// Runs the program where no file may grow beyond `kilobytes`, as on a disk that is full.
fn cramped(project: &Path, kilobytes: u32) -> Output {
    // The limit's signal is ignored, so that writing fails as it does on a full disk.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", kilobytes * 2);
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_outflow"), "--project"]).arg(project).arg("run");
    command.env("HUBSPOT_TOKEN", "t").output().expect("it starts")
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    let mut failed = 0;
    // Each size lets the run come further: the ledger, the spool, the plan, the snapshot.
    for kilobytes in [4, 16, 32, 64, 96, 128, 192, 256] {
        let (project, simulator) = with_simulator(0);
        let output = cramped(project.path(), kilobytes);
        if !output.status.success() {
            failed += 1;
            let said = text(&output);
            assert_eq!(output.status.code(), Some(6), "{kilobytes} kB: {said}");
            assert!(!said.contains("panicked"), "{said}");
            assert!(said.contains("too large") || said.contains("may be full"), "{kilobytes} kB: {said}");
        }
        let output = run(project.path(), &["run"]);
        assert!(output.status.success(), "{kilobytes} kB, then room: {}", text(&output));
        assert_eq!(simulator.get("/_simulator/records/contacts").as_array().map(Vec::len), Some(1_000));
        let again = run(project.path(), &["--output", "json", "run"]);
        let runs: serde_json::Value = serde_json::from_slice(&again.stdout).expect("JSON");
        assert_eq!(runs[0]["tally"]["unchanged"], 1_000, "{}", text(&again));
    }
    assert!(failed >= 4, "only {failed} sizes were too small");
}
