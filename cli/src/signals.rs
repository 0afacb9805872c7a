//! Ctrl-C and SIGTERM.

use anyhow::anyhow;
use outflow_coordinator::Signal;
use tokio::signal::unix::{SignalKind, signal};
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
    interruption().await;
}

/// Waits for one of them, be it that it comes from now on or when this is awaited.
pub(crate) fn interruption() -> impl Future<Output = ()> {
    let watched = signal(SignalKind::interrupt()).and_then(|ctrl_c| Ok((ctrl_c, signal(SignalKind::terminate())?)));
    async {
        let (mut ctrl_c, mut terminate) = match watched {
            Ok(watched) => watched,
            Err(error) => {
                warn!(%error, "Signals cannot be watched");
                return std::future::pending().await;
            }
        };
        tokio::select! {
            _ = ctrl_c.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}
