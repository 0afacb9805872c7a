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

/// A process and all that descend from it.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let (parents, mut family) = (parents(), vec![pid]);
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        at += 1;
    }
    family
}

/// CPU seconds of a process and all that descend from it, those that have ended among them.
pub(crate) fn family_cpu(pid: u32) -> f64 {
    family(pid).into_iter().map(|pid| seconds(&stat(pid), &[11, 12, 13, 14])).sum()
}

/// Memory of a process that is in RAM, in KiB; nothing once it has ended.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
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

/// Open files of a process, and the TCP connections among them.
pub(crate) fn open(pid: u32) -> (u64, u64) {
    let (files, sockets) = (files(pid), sockets(ESTABLISHED, |_| true));
    let connections = files.iter().filter(|file| sockets.contains(file.to_string_lossy().as_ref())).count();
    (files.len() as u64, connections as u64)
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
