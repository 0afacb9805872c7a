//! What the operating system says of processes that run: CPU, memory, open files and connections.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// Ticks per second in `/proc`.
const TICKS: f64 = 100.0;
/// A connection over which both ends may send, in the words of `/proc/net/tcp`.
const ESTABLISHED: &str = "01";
/// A socket that accepts connections.
const LISTENING: &str = "0A";

/// The fields of a process's `stat` after its name, which may hold anything and ends with the last parenthesis.
fn stat(pid: u32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit(')').next().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

fn seconds(stat: &[String], places: &[usize]) -> f64 {
    let ticks = |place: &usize| stat.get(*place).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    places.iter().map(ticks).sum::<f64>() / TICKS
}

/// CPU seconds of a process so far.
pub(crate) fn cpu(pid: u32) -> f64 {
    seconds(&stat(pid), &[11, 12])
}

/// Every process, by its number and its parent's.
fn parents() -> Vec<(u32, u32)> {
    let folders = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = folders.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid).get(1)?.parse().ok()?))).collect()
}

/// CPU seconds of a process and all that descend from it, those that have ended among them.
pub(crate) fn family_cpu(pid: u32) -> f64 {
    family(&parents(), pid).into_iter().map(|pid| seconds(&stat(pid), &[11, 12, 13, 14])).sum()
}

/// A process and all that descend from it.
fn family(parents: &[(u32, u32)], pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        at += 1;
    }
    family
}

/// A line of a process's `status`, in KiB; nothing once it has ended.
fn memory(pid: u32, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
}

/// Where the open files of a process lead.
fn files(pid: u32) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect()
}

/// The inodes of TCP sockets in `state`, where `wanted` says so of the local port.
fn sockets(state: &str, wanted: impl Fn(u16) -> bool) -> BTreeSet<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let port = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
            (fields.get(3) == Some(&state) && wanted(port))
                .then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
        })
        .collect()
}

/// What processes hold.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    /// Memory in RAM, in KiB.
    pub(crate) resident: u64,
    /// Open files, connections among them.
    pub(crate) files: u64,
    /// TCP connections.
    pub(crate) connections: u64,
}

/// The machine at one moment.
pub(crate) struct Machine {
    parents: Vec<(u32, u32)>,
    established: BTreeSet<String>,
}

impl Machine {
    pub(crate) fn now() -> Self {
        Self { parents: parents(), established: sockets(ESTABLISHED, |_| true) }
    }

    /// What a process and all that descend from it hold; nothing where it has ended. Memory that children share with their
    /// first process is counted once.
    pub(crate) fn held(&self, pid: u32) -> Option<Held> {
        let mut held = Held { resident: memory(pid, "VmRSS")?, ..Held::default() };
        for member in family(&self.parents, pid) {
            if member != pid {
                held.resident += memory(member, "RssAnon").unwrap_or_default();
            }
            let files = files(member);
            let is_connection = |file: &&PathBuf| self.established.contains(file.to_string_lossy().as_ref());
            held.connections += files.iter().filter(is_connection).count() as u64;
            held.files += files.len() as u64;
        }
        Some(held)
    }
}

/// The process of this machine that listens on a port.
pub(crate) fn listener(port: u16) -> Option<u32> {
    let sockets = sockets(LISTENING, |local| local == port);
    let has = |pid: &u32| files(*pid).iter().any(|file| sockets.contains(file.to_string_lossy().as_ref()));
    let mut found: Vec<u32> = parents().into_iter().map(|(pid, _)| pid).filter(has).collect();
    // Its children may have inherited the socket.
    found.sort_unstable();
    found.first().copied()
}
