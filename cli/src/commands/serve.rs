//! `outflow coordinator` and `outflow worker`.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use outflow_coordinator::Coordinator;
use outflow_worker::serve_all;
use tokio::sync::watch;

use crate::args::{CoordinatorFlags, WorkerFlags};
use crate::compose::{self, Messaging};
use crate::exit::Exit;
use crate::figures::Figures;
use crate::monitor::{self, Ready};
use crate::signals::{insisted, interrupted};
use crate::ui::Ui;

/// Whether a process is ready by now is looked at this often.
const AGAIN: Duration = Duration::from_millis(500);

/// Says that a process is ready once it is, and until then what it waits for.
async fn announce(ui: Ui, name: String, ready: Ready) {
    let mut shown = String::new();
    while let Err(cause) = ready().await {
        if cause != shown {
            ui.note(format!("{name} is not ready yet: {cause}"));
            shown = cause;
        }
        tokio::time::sleep(AGAIN).await;
    }
    ui.note(format!("{name} is ready."));
}

/// Executes what there is to do until the first signal.
pub(super) async fn coordinator(ui: &Ui, root: &Path, flags: &CoordinatorFlags) -> Result<Exit> {
    let figures = Figures::start("outflow-coordinator")?;
    let (cause, waits) = watch::channel("The coordinator starts".to_owned());
    let made: Arc<OnceLock<Arc<Coordinator>>> = Arc::default();
    let asked = made.clone();
    let ready: Ready = Arc::new(move || {
        let (coordinator, waits) = (asked.get().cloned(), waits.borrow().clone());
        Box::pin(async move {
            match coordinator {
                Some(coordinator) => coordinator.readiness().await,
                None => Err(waits),
            }
        })
    });
    if let Some(address) = flags.monitor {
        monitor::start(address, &figures, ready.clone()).await?;
    }
    let asked_ready = ready.clone();
    monitor::watch(ready);
    let mut coordinator = tokio::select! {
        coordinator = compose::coordinator(root, &cause) => coordinator?,
        () = interrupted() => return Ok(Exit::Succeeded),
    };
    coordinator.lease = Duration::from_secs(u64::from(flags.lease.max(1)));
    coordinator.engine.silence = Duration::from_secs(u64::from(flags.silence.max(1)));
    let coordinator = made.get_or_init(|| Arc::new(coordinator)).clone();
    let announcing = tokio::spawn(announce(ui.clone(), coordinator.name.clone(), asked_ready));
    let (stop, stopped) = watch::channel(false);
    let mut serving = tokio::spawn(coordinator.serve(stopped));
    tokio::select! {
        // It serves until it is told to stop: this is a defect, and another process does better.
        ended = &mut serving => return ended.map(|()| Exit::Trouble).context("The coordinator broke off"),
        () = interrupted() => announcing.abort(),
    }
    ui.note("The coordinator stops; what is under way goes on, and another coordinator goes on with it.");
    stop.send_replace(true);
    serving.await?;
    monitor::gone();
    figures.stop();
    Ok(Exit::Succeeded)
}

/// Serves every lane until the first signal; then ends what is under way, and hands the rest back.
pub(super) async fn worker(ui: &Ui, root: &Path, flags: &WorkerFlags) -> Result<Exit> {
    let WorkerFlags { queue, limiter, store, keys, unencrypted, secrets, prefix, lease, memory, grace, monitor } =
        flags;
    let given = Messaging {
        queue: queue.clone(),
        limiter: limiter.clone(),
        store: store.clone(),
        keys: keys.clone(),
        unencrypted: *unencrypted,
        secrets: secrets.clone(),
        prefix: prefix.clone(),
    };
    let figures = Figures::start("outflow-worker")?;
    let worker =
        compose::worker(root, given)?.with_lease(i64::from((*lease).max(1)) * 1_000_000).with_memory(memory << 20);
    let worker = Arc::new(worker);
    let asked = worker.clone();
    let ready: Ready = Arc::new(move || {
        let worker = asked.clone();
        Box::pin(async move { worker.readiness().await })
    });
    if let Some(address) = monitor {
        monitor::start(*address, &figures, ready.clone()).await?;
    }
    monitor::watch(ready.clone());
    let announcing = tokio::spawn(announce(ui.clone(), worker.name().to_owned(), ready));
    let mut serving = tokio::spawn(serve_all(worker.clone()));
    tokio::select! {
        ended = &mut serving => return ended.map(|()| Exit::Trouble).context("The worker broke off"),
        () = interrupted() => announcing.abort(),
    }
    ui.note("The worker stops when the requests under way have been answered.");
    worker.drain();
    let exit = tokio::select! {
        served = serving => served.map(|()| Exit::Succeeded)?,
        () = insisted() => Exit::Stopped,
        () = tokio::time::sleep(Duration::from_secs(*grace)) => {
            ui.note("Some requests have no answer yet; other workers go on with their chunks.");
            Exit::Stopped
        }
    };
    monitor::gone();
    figures.stop();
    Ok(exit)
}
