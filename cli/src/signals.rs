//! Ctrl-C and SIGTERM.

use anyhow::anyhow;
use outflow_coordinator::Signal;
use tokio::sync::watch;
use tracing::warn;

use crate::exit::Exit;
use crate::ui::Ui;

/// The first Ctrl-C or SIGTERM interrupts; the second ends the process at once.
pub(crate) fn signals(ui: Ui) -> watch::Receiver<Signal> {
    let (sender, receiver) = watch::channel(Signal::Run);
    tokio::spawn(async move {
        interrupted().await;
        ui.note("Stopping: what is under way is settled first, and the next run goes on. Once more ends it at once.");
        _ = sender.send(Signal::Interrupt);
        interrupted().await;
        if ui.is_json() {
            ui.error(&anyhow!("Ended at once; the next run goes on"));
        }
        std::process::exit(Exit::Stopped as i32);
    });
    receiver
}

/// Waits for one of them.
pub(crate) async fn interrupted() {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            warn!(%error, "Signals cannot be watched");
            return std::future::pending().await;
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
