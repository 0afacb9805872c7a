//! Each link cut, silent, and slow.

use std::time::Duration;

use anyhow::Result;
use outflow_model::id::RunId;
use outflow_tests::{Links, Proxy, Weather};

use crate::cell::{BOTH, Cell, REPEATABLE, Site, Twice};
use crate::results::outage;

/// Three cells per link.
macro_rules! link {
    ($link:ident, $broken:literal, $silent:literal, $slow:literal, $kinds:expr, $twice:expr) => {
        [
            Cell {
                what: $broken,
                kinds: $kinds,
                twice: $twice,
                alone: false,
                work: |site, run| Box::pin(trouble(site, run, |links| &links.$link, BROKEN)),
            },
            Cell {
                what: $silent,
                kinds: $kinds,
                twice: $twice,
                alone: false,
                work: |site, run| Box::pin(trouble(site, run, |links| &links.$link, SILENT)),
            },
            Cell {
                what: $slow,
                kinds: $kinds,
                twice: Twice::Never,
                alone: false,
                work: |site, run| Box::pin(trouble(site, run, |links| &links.$link, SLOW)),
            },
        ]
    };
}

pub(crate) const BROKEN: Weather = Weather { broken: true, ..CLEAR };
pub(crate) const SILENT: Weather = Weather { silent: true, ..CLEAR };
pub(crate) const SLOW: Weather = Weather { latency: Duration::from_millis(300), ..CLEAR };
const CLEAR: Weather =
    Weather { latency: Duration::ZERO, bandwidth: 0, silent: false, broken: false, reset_after: 0, half_closed: false };

const ALL: [[Cell; 3]; 6] = [
    link!(ledger, "ledger_cut_off", "ledger_silent", "ledger_slow", REPEATABLE, Twice::Never),
    link!(
        coordinator_queue,
        "coordinators_queue_cut_off",
        "coordinators_queue_silent",
        "coordinators_queue_slow",
        BOTH,
        Twice::Never
    ),
    link!(
        coordinator_limiter,
        "coordinators_limiter_cut_off",
        "coordinators_limiter_silent",
        "coordinators_limiter_slow",
        REPEATABLE,
        Twice::Never
    ),
    link!(worker_queue, "workers_queue_cut_off", "workers_queue_silent", "workers_queue_slow", BOTH, Twice::Never),
    link!(
        worker_limiter,
        "workers_limiter_cut_off",
        "workers_limiter_silent",
        "workers_limiter_slow",
        BOTH,
        Twice::MayBe
    ),
    // An answer that is lost is asked for again.
    link!(destination, "destination_cut_off", "destination_silent", "destination_slow", REPEATABLE, Twice::MayBe),
];

pub(crate) const CELLS: &[Cell] = ALL.as_flattened();

async fn trouble(site: &mut Site, run: &RunId, link: fn(&Links) -> &Proxy, weather: Weather) -> Result<()> {
    site.under_way(run, 2).await?;
    site.for_a_while(link(&site.links), weather, outage()?).await;
    Ok(())
}
