//! Running cases; one whose service is missing shows as ignored, or fails with `REQUIRE_SERVICES=1`.

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use outflow_testkit::services::{Postgres, Service, stop_all};

/// What a case needs beside the project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// A PostgreSQL server.
    Postgres,
    /// A PostgreSQL server and the Chinook sample data.
    Chinook,
    /// The public requests of Salesforce.
    SalesforceSpecs,
}

/// A case: its name, what it needs, and what it does.
pub type Case = (&'static str, Need, fn() -> Result<()>);

/// Runs a case's work on a runtime of its own.
pub fn block<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work)
}

/// Runs the cases.
pub fn run(cases: &[Case]) -> ExitCode {
    _ = rustls::crypto::ring::default_provider().install_default();
    let mut arguments = Arguments::from_args();
    // Each case has a runtime of its own; few at a time keep their timing honest.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let required = std::env::var_os("REQUIRE_SERVICES").is_some();
    let trials = cases
        .iter()
        .map(|(name, need, case)| {
            let missing = match need {
                Need::Nothing => false,
                Need::Postgres => !Postgres::is_found(),
                Need::SalesforceSpecs => super::Lab::salesforce_specs().is_none(),
                Need::Chinook => !Postgres::is_found() || super::Lab::chinook().is_none(),
            };
            // Sample data is never required.
            let ignored = missing && !(required && *need == Need::Postgres);
            let case = *case;
            Trial::test(*name, move || case().map_err(|error| Failed::from(format!("{error:?}"))))
                .with_ignored_flag(ignored)
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    stop_all();
    conclusion.exit_code()
}
