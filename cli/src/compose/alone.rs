//! Changing what is remembered of a sync while nobody executes it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use outflow_backends::StateLock;
use outflow_coordinator::project::Project;
use outflow_coordinator::{Engine, lease_of};
use outflow_model::port::lease::Leases;
use outflow_model::text::with_causes;
use tracing::warn;

use super::{embedded, shared};

/// For so long, in microseconds, a change may take that somebody makes by hand.
const LEASE: i64 = 300_000_000;
/// A run's end is told a moment before its sync is free.
const MOMENT: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(100);

/// An engine that has a sync for itself.
pub(crate) struct Alone {
    pub(crate) engine: Engine,
    held: Held,
}

enum Held {
    Directory { _lock: StateLock },
    Lease { leases: Arc<dyn Leases>, name: String, holder: String },
}

/// Waits for the state directory, or takes the sync's lease.
pub(crate) async fn alone(project: &Project, sync: &str) -> Result<Alone> {
    let Some(places) = &project.config.state.shared else {
        let held = Held::Directory { _lock: embedded::lock(project).await? };
        return Ok(Alone { engine: embedded::engine(project).await?, held });
    };
    let engine = shared::engine(project, places).await?;
    let leases: Arc<dyn Leases> = shared::ledger(project, places).await?;
    let (name, holder) = (lease_of(sync), shared::process("user"));
    let began = Instant::now();
    let epoch = loop {
        if let Some(epoch) = leases.take(&name, &holder, LEASE).await? {
            break epoch;
        }
        if began.elapsed() > MOMENT {
            bail!("A coordinator executes {sync} right now; try again when its run has ended, or cancel it");
        }
        tokio::time::sleep(AGAIN).await;
    };
    let ledger = leases.under(&name, epoch);
    let engine = Engine { ledger, ..engine };
    Ok(Alone { engine, held: Held::Lease { leases, name, holder } })
}

impl Alone {
    /// Lets others have the sync again; what was done is done, though that cannot be told right now.
    pub(crate) async fn done(self) {
        if let Held::Lease { leases, name, holder } = self.held
            && let Err(error) = leases.release(&name, &holder).await
        {
            warn!(
                error = with_causes(&error),
                "The sync's lease could not be given back; coordinators wait five minutes for it"
            );
        }
    }
}
