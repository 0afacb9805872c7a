//! The structure of the house: what may import what, how large files may be, what may be named where.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Which of our crates each of our crates may import.
const IMPORTS: &[(&str, &[&str])] = &[
    ("outflow-model", &[]),
    ("outflow-backends", &["outflow-model"]),
    ("outflow-snapshot", &["outflow-model"]),
    ("outflow-sources", &["outflow-model"]),
    ("outflow-destinations", &["outflow-model"]),
    ("outflow-testkit", &["outflow-model"]),
    ("outflow-trace", &["outflow-model"]),
    ("outflow-worker", &["outflow-model", "outflow-destinations", "outflow-trace"]),
    (
        "outflow-coordinator",
        &["outflow-model", "outflow-destinations", "outflow-snapshot", "outflow-sources", "outflow-trace"],
    ),
    ("outflow-simulators", &["outflow-model", "outflow-destinations"]),
];

/// Crates that only these of ours may name.
const ONLY: &[(&str, &[&str])] = &[
    // A benchmark's bare baseline.
    ("lapin", &["outflow-backends", "outflow-loadtest"]),
    ("redis", &["outflow-backends"]),
    ("governor", &["outflow-worker"]),
    ("object_store", &["outflow-backends"]),
    // Backends need its features, which `object_store` leaves to others.
    ("reqwest", &["outflow-worker", "outflow-backends"]),
    ("sqlx", &["outflow-backends", "outflow-sources", "outflow", "outflow-tests", "outflow-loadtest"]),
    ("datafusion", &[]),
    (
        "tokio",
        &[
            "outflow-backends",
            "outflow-coordinator",
            "outflow-sources",
            "outflow-worker",
            "outflow-simulators",
            "outflow-testkit",
            "outflow-trace",
            "outflow-loadtest",
            "outflow",
            "outflow-tests",
        ],
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file below the project's folders with this ending.
fn files(ending: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, ending, found);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["shared", "coordinator", "worker", "cli", "loadtest", "tests"] {
        walk(&root().join(folder), ending, &mut found);
    }
    found
}

/// A crate's name and the names that its manifest depends on, for building and for testing.
fn crates() -> BTreeMap<String, (Vec<String>, Vec<String>)> {
    let mut crates = BTreeMap::new();
    for path in files("Cargo.toml") {
        let manifest: toml::Table = std::fs::read_to_string(path).expect("a file").parse().expect("a manifest");
        let name = manifest["package"]["name"].as_str().expect("a name").to_owned();
        let names = |section: &str| -> Vec<String> {
            manifest
                .get(section)
                .and_then(toml::Value::as_table)
                .into_iter()
                .flat_map(|table| table.keys().cloned())
                .collect()
        };
        crates.insert(name, (names("dependencies"), names("dev-dependencies")));
    }
    crates
}

#[test]
fn crates_import_only_what_they_may() {
    let crates = crates();
    for (name, allowed) in IMPORTS {
        let (dependencies, _) = &crates[*name];
        for dependency in dependencies.iter().filter(|dependency| dependency.starts_with("outflow")) {
            assert!(allowed.contains(&dependency.as_str()), "{name} may not import {dependency}");
        }
    }
}

#[test]
fn heavy_crates_stay_where_they_belong() {
    for (name, (dependencies, _)) in crates() {
        for (dependency, allowed) in ONLY {
            let named = dependencies.iter().any(|known| known == dependency);
            assert!(!named || allowed.contains(&name.as_str()), "{name} may not name {dependency}");
        }
    }
}

#[test]
fn backends_speak_http_through_their_clients_alone() {
    for path in files(".rs").into_iter().filter(|path| path.to_string_lossy().contains("shared/backends")) {
        let text = std::fs::read_to_string(&path).expect("a file");
        assert!(!text.contains("reqwest::"), "{} names reqwest", path.display());
    }
}

#[test]
fn files_stay_small() {
    for path in files(".rs") {
        let lines = std::fs::read_to_string(&path).expect("a file").lines().count();
        let is_test = path.components().any(|part| part.as_os_str() == "tests");
        let most = if is_test { 800 } else { 500 };
        assert!(lines <= most, "{} has {lines} lines, {most} are allowed", path.display());
    }
}

#[test]
fn a_destination_is_named_in_its_folder_and_in_one_line_of_the_catalog() {
    let folder = root().join("worker/destinations/src");
    for entry in std::fs::read_dir(&folder).expect("a folder").flatten().filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "manifest" {
            continue;
        }
        let elsewhere = files(".rs").into_iter().filter(|path| {
            let text = path.to_string_lossy().into_owned();
            let allowed =
                ["worker/destinations", "loadtest/", "tests/", "cli/src/args.rs", "cli/src/commands/setup.rs"];
            !allowed.iter().any(|place| text.contains(place))
        });
        for path in elsewhere {
            let text = std::fs::read_to_string(&path).expect("a file");
            let code: String = text
                .split("#[cfg(test)]")
                .next()
                .unwrap_or_default()
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect();
            assert!(!code.to_lowercase().contains(&format!("\"{name}\"")), "{} names {name}", path.display());
        }
    }
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    for path in files("Cargo.toml") {
        let text = std::fs::read_to_string(&path).expect("a file");
        assert!(text.contains("[lints]\nworkspace = true"), "{}", path.display());
    }
}
