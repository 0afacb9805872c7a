//! What others on the machine, and those who read a repository, do not see.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{SYNC, edit, example, outflow, run, text};

/// Every file and folder below, with its rights.
fn rights(folder: &Path, found: &mut Vec<(String, u32)>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let mode = path.metadata().expect("it is there").permissions().mode() & 0o777;
        found.push((path.display().to_string(), mode));
        if path.is_dir() {
            rights(&path, found);
        }
    }
}

#[test]
fn the_state_directory_is_its_owners_alone_whatever_it_was() {
    let project = example();
    let state = project.path().join(".outflow");
    std::fs::create_dir(&state).expect("a folder");
    std::fs::write(state.join("ledger.db"), "").expect("a file");
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o777)).expect("rights");
    std::fs::set_permissions(state.join("ledger.db"), std::fs::Permissions::from_mode(0o666)).expect("rights");
    // Nothing listens where the example sends: what a run makes is there all the same.
    edit(project.path(), SYNC, "object: contacts", "object: contacts\ndelivery: { tries: 1 }");
    _ = run(project.path(), &["run"]);
    let mode = state.metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
    let mut found = Vec::new();
    rights(&state, &mut found);
    assert!(found.iter().any(|(path, _)| path.ends_with("ledger.db")), "{found:?}");
    assert!(found.iter().all(|(_, mode)| [0o600, 0o700].contains(mode)), "{found:?}");
    assert_eq!(std::fs::read_to_string(state.join(".gitignore")).expect("it is there"), "*\n");
}

#[test]
fn a_new_project_keeps_its_state_out_of_git() {
    for arguments in [&["init"][..], &["init", "--example"]] {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(".gitignore"), "target").expect("a file");
        assert!(run(folder.path(), arguments).status.success());
        let ignored = std::fs::read_to_string(folder.path().join(".gitignore")).expect("it is there");
        assert_eq!(ignored, "target\n.outflow/\n.env\n");
        let file = folder.path().join("outflow.yml").metadata().expect("it is there").permissions().mode();
        assert_ne!(file & 0o044, 0, "a project's files are for the team");
    }
}

#[test]
fn help_shows_no_value_of_the_environment() {
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in [&["worker", "--help"][..], &["coordinator", "--help"], &["--help"], &["run", "--help"]] {
        let mut command = outflow(folder.path(), arguments);
        for name in ["QUEUE", "LIMITER", "STORE", "KEYS", "PREFIX", "SECRETS", "PROJECT", "LOG", "MONITOR", "MEMORY"] {
            command.env(format!("OUTFLOW_{name}"), "hunter2");
        }
        let help = text(&command.output().expect("the program starts"));
        assert!(help.contains("OUTFLOW_") && !help.contains("hunter2"), "{help}");
    }
}
