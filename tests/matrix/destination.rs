//! A destination in trouble, and a record that ends its worker.

use std::time::Duration;

use anyhow::Result;
use outflow_model::id::RunId;
use outflow_simulators::{Fault, Faults};

use crate::cell::{BOTH, Cell, Site, Twice};

pub(crate) const CELLS: &[Cell] = &[
    Cell {
        what: "destination_down",
        kinds: BOTH,
        twice: Twice::Never,
        alone: false,
        work: |site, run| Box::pin(faulty(site, run, vec![(Fault::ServerError, 1_000)])),
    },
    Cell {
        what: "destination_breaks_off_after_applying",
        kinds: BOTH,
        twice: Twice::MayBe,
        alone: false,
        work: |site, run| Box::pin(faulty(site, run, vec![(Fault::ResetAfter, 300)])),
    },
    Cell {
        what: "destination_answers_later_than_anyone_waits",
        kinds: BOTH,
        twice: Twice::MayBe,
        alone: false,
        work: |site, run| Box::pin(faulty(site, run, vec![(Fault::Stall(2_500), 300)])),
    },
    Cell {
        what: "destination_refuses_for_a_while",
        kinds: BOTH,
        twice: Twice::Never,
        alone: false,
        work: |site, run| Box::pin(faulty(site, run, vec![(Fault::TooMany(1), 500)])),
    },
];

/// For some seconds each request meets one of these faults, with its probability in 1/1000.
async fn faulty(site: &mut Site, run: &RunId, rates: Vec<(Fault, u32)>) -> Result<()> {
    site.under_way(run, 2).await?;
    site.portal.inner.set_faults(Faults { rates, seed: 7, ..Faults::default() });
    tokio::time::sleep(Duration::from_secs(4)).await;
    site.portal.inner.set_faults(Faults::default());
    Ok(())
}
