//! The accounting law over random histories, judged by the destination's own record of what arrived; and what may leave while
//! the limiter is away.

mod alone;
mod creates;
mod history;
mod place;

use anyhow::{Result, ensure};
use outflow_simulators::{HubSpot, Org};
use outflow_tests::{Case, Mode, Need};

use crate::place::Place;

const CASES: &[Case] = &[
    ("what_cannot_be_repeated_is_never_sent_twice", Need::Nothing, creates::every_death::<HubSpot>),
    ("what_cannot_be_repeated_is_never_sent_twice_to_an_org", Need::Nothing, creates::every_death::<Org>),
    ("nothing_is_permitted_while_redis_does_not_answer", Need::Redis, alone::cut_off),
    ("what_redis_had_booked_does_not_leave_without_it", Need::Redis, alone::booked),
    ("the_law_holds_over_random_histories", Need::Nothing, portals),
    ("the_law_holds_over_random_histories_of_an_org", Need::Nothing, orgs),
];

fn main() -> std::process::ExitCode {
    outflow_tests::run(CASES, &[Mode::Embedded])
}

/// How many histories, and from which seed: `HISTORIES` and `HISTORY_SEED`.
#[expect(clippy::disallowed_methods, reason = "tests take their size from the environment")]
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn portals() -> Result<()> {
    histories::<HubSpot>(setting("HISTORIES", 24))
}

fn orgs() -> Result<()> {
    // Jobs are waited for: half as many take as long.
    histories::<Org>(setting("HISTORIES", 24).div_ceil(2))
}

fn histories<P: Place>(count: u64) -> Result<()> {
    let first = setting("HISTORY_SEED", 1);
    let mut tried = history::Tried::default();
    for seed in first..first + count {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let outcome = runtime.block_on(history::run::<P>(seed));
        let one = outcome
            .map_err(|error| error.context(format!("history {seed}; again with HISTORIES=1 HISTORY_SEED={seed}")))?;
        tried.deaths += one.deaths;
        tried.exact += one.exact;
        runtime.shutdown_background();
    }
    ensure!(count < 10 || tried.deaths > 0, "no history died; the deaths are not tried");
    ensure!(count < 10 || tried.exact > count / 4, "only {} turns were held to one write each", tried.exact);
    Ok(())
}
