//! Sources over real databases: the form of every type, values that are faults, and what is refused with which words.

mod postgres;
mod sqlite;
mod table;

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use outflow_testkit::services::stop_all;

/// A test that shows as ignored unless `found`, or unless services are required.
fn trial(name: &str, found: bool, case: impl AsyncFnOnce() -> Result<()> + Send + 'static) -> Trial {
    let work = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime
            .map_err(anyhow::Error::from)
            .and_then(|runtime| runtime.block_on(case()))
            .map_err(|error| Failed::from(format!("{error:?}")))
    };
    Trial::test(name, work).with_ignored_flag(!found && std::env::var_os("REQUIRE_SERVICES").is_none())
}

fn main() -> ExitCode {
    let trials = [postgres::trials(), sqlite::trials()];
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect());
    stop_all();
    conclusion.exit_code()
}
