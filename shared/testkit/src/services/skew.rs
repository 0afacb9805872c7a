//! A machine whose clock is wrong, for processes that start on it: libfaketime.

use std::path::PathBuf;

/// The setting that tells a process how far its machine's clock is off, such as `-2d`.
const OFF: &str = "FAKETIME";
/// Its ticks are right: time goes on as fast as elsewhere.
const TICKS: [&str; 2] = ["DONT_FAKE_MONOTONIC", "FAKETIME_DONT_FAKE_MONOTONIC"];

/// What the environment of a process is beside its own, on a machine whose clock is `off`; nothing where the library is not
/// installed (Debian's `faketime`).
pub fn skewed(off: &str) -> Option<Vec<(&'static str, String)>> {
    let library = library()?.display().to_string();
    let ticks = TICKS.map(|setting| (setting, "1".to_owned()));
    Some([("LD_PRELOAD", library), (OFF, off.to_owned())].into_iter().chain(ticks).collect())
}

fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|file| file.exists())
}
