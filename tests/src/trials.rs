//! Running cases; one whose service is missing shows as ignored, or fails with `REQUIRE_SERVICES=1`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Failed, Trial};
use outflow_testkit::services::{Postgres, RabbitMq, Redis, S3, Service, skewed, stop_all};

use crate::house::Mode;

/// What a case needs beside the project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// A PostgreSQL server.
    Postgres,
    /// A broker that may be told things, which a user's own is not.
    Broker,
    /// A PostgreSQL server and the Chinook sample data.
    Chinook,
    /// A Redis server.
    Redis,
    /// Machines whose clocks are wrong.
    Skew,
    /// The public requests of Salesforce.
    SalesforceSpecs,
    /// The services that many machines share.
    Shared,
    /// An S3 server, beside the services that many machines share.
    S3,
}

/// A case: its name, what it needs, and what it does.
pub type Case = (&'static str, Need, fn() -> Result<()>);

/// Runs a case's work on a runtime of its own.
pub fn block<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work)
}

/// Looks again and again until `is_so`; an error after a minute.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let looks = async {
        while !is_so().await? {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    tokio::time::timeout(Duration::from_mins(1), looks).await.with_context(|| format!("It never came about: {what}"))?
}

/// Runs the cases, over the backends of each mode.
pub fn run(cases: &[Case], modes: &[Mode]) -> ExitCode {
    _ = rustls::crypto::ring::default_provider().install_default();
    let mut arguments = Arguments::from_args();
    // Each case has a runtime of its own; few at a time keep their timing honest.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let cells = modes.iter().flat_map(|mode| cases.iter().map(|case| (*case, *mode)));
    // One machine has its directory.
    let needs_shared = |need| matches!(need, Need::Shared | Need::S3);
    let cells = cells.filter(|((_, need, _), mode)| !needs_shared(*need) || *mode == Mode::Distributed);
    let trials = cells.map(|(case, mode)| trial(case, mode)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    stop_all();
    conclusion.exit_code()
}

fn trial((name, need, case): Case, mode: Mode) -> Trial {
    let found = match need {
        Need::Postgres => Postgres::is_found(),
        Need::Redis => Redis::is_found(),
        Need::S3 => S3::is_found(),
        Need::Skew => skewed("").is_some(),
        Need::Nothing | Need::Broker | Need::Chinook | Need::SalesforceSpecs | Need::Shared => true,
    };
    let services = mode.is_found() && found;
    // Neither sample data is required, nor that a user has no services.
    let given = match need {
        Need::Nothing | Need::Postgres | Need::Redis | Need::Skew | Need::Shared | Need::S3 => true,
        Need::Broker => !RabbitMq::is_the_users(),
        Need::SalesforceSpecs => super::Lab::salesforce_specs().is_some(),
        Need::Chinook => Postgres::is_found() && super::Lab::chinook().is_some(),
    };
    let required = std::env::var_os("REQUIRE_SERVICES").is_some();
    let name = if mode == Mode::Distributed { format!("distributed::{name}") } else { name.to_owned() };
    let work = move || {
        mode.set();
        case().map_err(|error| Failed::from(format!("{error:?}")))
    };
    Trial::test(name, work).with_ignored_flag(!given || (!services && !required))
}
