//! Memory that is given back: glibc gives nearly every thread an arena of its own, in which what was freed stays for that thread, and keeps
//! ever larger pieces as large ones come and go. A process that lives long would hold more and more.

use std::os::unix::process::CommandExt;
use std::process;

use crate::args::Command;

/// What glibc reads at its start; other libraries do not. Pieces of 128 KiB and more go back at once, as they do until glibc
/// learns otherwise.
const SETTINGS: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "2"), ("MALLOC_TRIM_THRESHOLD_", "131072"), ("MALLOC_MMAP_THRESHOLD_", "131072")];

/// Starts a process that is to live long anew with these settings, but for those that a user has made. Where it cannot be done, it
/// goes on as it is.
pub(crate) fn give_back(command: &Command) {
    let missing: Vec<_> = SETTINGS.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()).collect();
    if missing.is_empty() || !matches!(command, Command::Coordinator(_) | Command::Worker(_)) {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        // In place: it keeps its id, and returns only where it fails.
        let _ = process::Command::new(program).args(std::env::args_os().skip(1)).envs(missing).exec();
    }
}
