//! What may befall coordinators, workers and the services between them, one cell each, judged by the destination's own
//! record of what arrived.
//!
//! `MATRIX_REPEAT` (1) says how often each cell is tried, `MATRIX_ROWS` (3000) how many rows a run has, `MATRIX_OUTAGE` (4) how many
//! seconds what is away, cut off or silent is so. Where
//! `MATRIX_RESULTS` names a file, each repetition appends one JSON line to it, and those that are there are not tried again.

mod broker;
mod bulk;
mod cell;
mod coordinators;
mod destination;
mod ledger;
mod limiter;
mod links;
mod results;
mod store;
mod workers;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use outflow_testkit::services::{Postgres, RabbitMq, Redis, S3, Service, stop_all};

use crate::cell::Cell;
use crate::results::Results;

fn main() -> ExitCode {
    _ = rustls::crypto::ring::default_provider().install_default();
    let mut arguments = Arguments::from_args();
    // Most of a cell's time is waiting.
    arguments.test_threads = arguments.test_threads.or(Some(4));
    let found = Postgres::is_found() && RabbitMq::is_found() && Redis::is_found();
    let required = std::env::var_os("REQUIRE_SERVICES").is_some();
    let ignored = !found && !required;
    let bucketless = !S3::is_found() && !required;
    // What is the user's is not stopped.
    let lent = Postgres::is_the_users() || RabbitMq::is_the_users() || Redis::is_the_users();
    let cells = [
        // Its last one takes longest.
        destination::CELLS,
        workers::CELLS,
        coordinators::CELLS,
        broker::CELLS,
        limiter::CELLS,
        ledger::CELLS,
        store::CELLS,
        links::CELLS,
    ];
    let cells = cells.into_iter().flatten().flat_map(|cell| cell.kinds.iter().map(move |kind| (cell, *kind)));
    let trials = cells.map(|(cell, kind)| {
        let work = move || {
            let results = Results::open()?;
            (0..results.repeat).try_for_each(|number| cell::try_once(cell, kind, number, &results))
        };
        let work = move || work().map_err(|error: anyhow::Error| Failed::from(format!("{error:?}")));
        let left_out = ignored || (cell.alone && lent) || (store::is_over_it(cell) && bucketless);
        Trial::test(Cell::name(cell, kind), work).with_ignored_flag(left_out)
    });
    let steps = bulk::STEPS.iter().map(|step| {
        let work = move || {
            let results = Results::open()?;
            (0..results.repeat).try_for_each(|number| bulk::try_once(step, number, &results))
        };
        let work = move || work().map_err(|error: anyhow::Error| Failed::from(format!("{error:?}")));
        Trial::test(step.what, work).with_ignored_flag(ignored)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.chain(steps).collect());
    stop_all();
    conclusion.exit_code()
}
