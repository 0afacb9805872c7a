//! Ctrl-C, SIGTERM, and SIGHUP, which a terminal sends when it is closed.

use std::sync::OnceLock;

use anyhow::anyhow;
use outflow_coordinator::Signal;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::sync::watch;
use tracing::warn;

use crate::exit::Exit;
use crate::ui::Ui;

/// The first signal interrupts; another Ctrl-C or SIGTERM ends the process at once.
pub(crate) fn signals(ui: Ui) -> watch::Receiver<Signal> {
    let (sender, receiver) = watch::channel(Signal::Run);
    tokio::spawn(async move {
        interrupted().await;
        ui.note("Stopping: what is under way is settled first, and the next run goes on. Once more ends it at once.");
        _ = sender.send(Signal::Interrupt);
        insisted().await;
        if ui.is_json() {
            ui.error(&anyhow!("Ended at once; the next run goes on"));
        }
        std::process::exit(Exit::Stopped as i32);
    });
    receiver
}

/// Waits for one of them.
pub(crate) async fn interrupted() {
    interruption().await;
}

/// Waits for one of them, be it that it comes from now on or when this is awaited.
pub(crate) fn interruption() -> impl Future<Output = ()> {
    let (ctrl_c, terminate) = (watched(SignalKind::interrupt()), watched(SignalKind::terminate()));
    // A process started by `nohup` goes on without its terminal.
    let hang_up = (!is_hang_up_ignored()).then(|| watched(SignalKind::hangup())).flatten();
    async {
        tokio::select! {
            () = heard(ctrl_c) => {}
            () = heard(terminate) => {}
            () = heard(hang_up) => {}
        }
    }
}

/// Waits for a signal that ends the process at once after one that interrupts it. A closed terminal sends several SIGHUP: they do
/// not count.
pub(crate) async fn insisted() {
    let (ctrl_c, terminate) = (watched(SignalKind::interrupt()), watched(SignalKind::terminate()));
    tokio::select! {
        () = heard(ctrl_c) => {}
        () = heard(terminate) => {}
    }
}

fn watched(kind: SignalKind) -> Option<Signals> {
    signal(kind).inspect_err(|error| warn!(%error, "Signals cannot be watched")).ok()
}

async fn heard(signals: Option<Signals>) {
    match signals {
        Some(mut signals) => _ = signals.recv().await,
        None => std::future::pending().await,
    }
}

/// Whether the process was started with SIGHUP ignored. Asked once: it is not ignored any more where it is watched.
fn is_hang_up_ignored() -> bool {
    static IGNORED: OnceLock<bool> = OnceLock::new();
    *IGNORED.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & 1 != 0)
    })
}
