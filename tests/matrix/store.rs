//! The link to the store cut, silent, and slow, where messages are so large that they go by it.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use outflow_backends::{Place, open_store};
use outflow_model::id::RunId;
use outflow_model::run::RunState;
use outflow_testkit::services::{S3, Service};
use outflow_tests::{Dice, Plan, Weather};

use crate::cell::{Cell, REPEATABLE, Site, Twice};
use crate::links::{BROKEN, SILENT, SLOW};
use crate::results::outage;

/// So many rows, with notes of so many letters, have more than 1 MiB however they are packed.
pub(crate) const CHUNK: usize = 300;
const NOTE: usize = 6_000;

pub(crate) const CELLS: &[Cell] = &[
    Cell {
        what: "store_cut_off",
        kinds: REPEATABLE,
        twice: Twice::Never,
        alone: false,
        work: |site, run| Box::pin(trouble(site, run, BROKEN)),
    },
    Cell {
        what: "store_silent",
        kinds: REPEATABLE,
        twice: Twice::Never,
        alone: false,
        work: |site, run| Box::pin(trouble(site, run, SILENT)),
    },
    Cell {
        what: "store_slow",
        kinds: REPEATABLE,
        twice: Twice::Never,
        alone: false,
        work: |site, run| Box::pin(trouble(site, run, SLOW)),
    },
];

/// True for a cell of these.
pub(crate) fn is_over_it(cell: &Cell) -> bool {
    CELLS.iter().any(|own| own.what == cell.what)
}

/// Has the cluster keep all in a bucket, and gives each row a note that cannot be packed much smaller.
pub(crate) async fn prepare(site: &mut Site, plan: &Plan) -> Result<()> {
    site.keep_in_a_bucket().await?;
    site.write(plan)?;
    let mut dice = Dice::new(1);
    let mut text = String::from("email,name,note\n");
    for n in 0..plan.rows {
        let note: String = (0..NOTE).filter_map(|_| char::from_digit(dice.roll(36) as u32, 36)).collect();
        writeln!(text, "p{n}@x.io,Person {n},{note}")?;
    }
    Ok(std::fs::write(site.path().join("data/people.csv"), text)?)
}

/// First coordinators need the store, for what they publish, and then workers, for what they deliver.
async fn trouble(site: &mut Site, run: &RunId, weather: Weather) -> Result<()> {
    let link = site.links.store.as_ref().context("the store has no link")?;
    site.reached(run, RunState::Delivering).await?;
    site.for_a_while(link, weather, outage()? / 2).await;
    site.under_way(run, 2).await?;
    let server = S3::shared()?;
    let place = Place::parse(&server.url(&site.prefix, server.port)).map_err(anyhow::Error::msg)?;
    let messages = open_store(&place, &site.path().join("copies"))?.list("messages").await?;
    ensure!(!messages.is_empty(), "no message went by the store");
    site.for_a_while(link, weather, outage()? / 2).await;
    Ok(())
}
