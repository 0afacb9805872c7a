//! Few arenas: glibc gives nearly every thread one of its own, and what was freed in one is used by no other, so that a process
//! that lives long holds more and more.

use std::os::unix::process::CommandExt;
use std::process;

use crate::args::Command;

/// What glibc reads at its start; other libraries do not.
const SETTING: (&str, &str) = ("MALLOC_ARENA_MAX", "2");

/// Starts a process that is to live long anew with few arenas. Where a user has set their number, or where it cannot be done, it goes
/// on as it is.
pub(crate) fn keep_few(command: &Command) {
    let (name, number) = SETTING;
    let lives_long = matches!(command, Command::Coordinator(_) | Command::Worker(_));
    if !lives_long || std::env::var_os(name).is_some() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        // In place: it keeps its id, and returns only where it fails.
        let _ = process::Command::new(program).args(std::env::args_os().skip(1)).env(name, number).exec();
    }
}
