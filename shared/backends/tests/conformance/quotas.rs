//! What a limiter leaves to the next process, or to itself where its server has forgotten everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use outflow_backends::{MemoryLimiter, RedisLimiter, SqliteLedger};
use outflow_model::id::{AttemptId, RunId};
use outflow_model::limit::{Ask, Cause, Limits, Micros, Unit, Window};
use outflow_model::port::clock::Clock;
use outflow_model::port::ledger::Quotas;
use outflow_model::port::limiter::{Limiter, Request, Verdict};
use outflow_testkit::services::{Redis, Service};

use super::vectors::{ANY, request};
use super::{fresh, sqlite, trial};

const DAY: Micros = 86_400_000_000;
/// Noon of a day in 2026.
const NOON: Micros = 1_767_268_800_000_000;
const TODAY: i64 = NOON / DAY;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("limiter::memory::the_next_process_knows_the_days_use".to_owned(), true, day),
        trial("limiter::memory::what_was_written_ahead_is_given_back".to_owned(), true, ahead),
        trial("limiter::memory::the_next_process_knows_the_use_of_windows".to_owned(), true, windows),
        trial("limiter::redis::the_days_use_outlives_the_server".to_owned(), Redis::is_found(), outlives),
    ]
}

/// A clock that is set.
struct Set(AtomicI64);

impl Clock for Set {
    fn now(&self) -> Micros {
        self.0.load(Ordering::SeqCst)
    }

    fn entropy(&self) -> u64 {
        4
    }
}

fn process(ledger: &Arc<SqliteLedger>) -> (MemoryLimiter, Arc<Set>) {
    let clock = Arc::new(Set(AtomicI64::new(NOON)));
    (MemoryLimiter::new(clock.clone(), ledger.clone()), clock)
}

fn allowed(daily: u64) -> Limits {
    Limits { daily: Some(daily), ..Limits::default() }
}

fn ask(limits: &Limits, slot: u64) -> Request<'_> {
    request("crm", limits, Ask { slot, ..ANY })
}

async fn is_used_up(limiter: &dyn Limiter, limits: &Limits) -> Result<bool> {
    Ok(matches!(limiter.permit(&ask(limits, 99)).await?, Verdict::Later { cause: Cause::Daily, .. }))
}

async fn day() -> Result<()> {
    let (folder, limits) = (tempfile::tempdir()?, allowed(3));
    let ledger = sqlite(&folder).await?;
    let (first, _) = process(&ledger);
    for slot in [1, 2] {
        ensure!(first.permit(&ask(&limits, slot)).await?.is_go());
        ensure!(ledger.daily("crm", TODAY).await? == slot, "what is in no run is written as it is");
    }
    let (second, clock) = process(&ledger);
    ensure!(second.permit(&ask(&limits, 3)).await?.is_go());
    ensure!(is_used_up(&second, &limits).await?);
    clock.0.store(NOON + DAY, Ordering::SeqCst);
    ensure!(second.permit(&ask(&limits, 4)).await?.is_go(), "another day is another quota");
    Ok(())
}

async fn ahead() -> Result<()> {
    let (folder, limits, run) = (tempfile::tempdir()?, allowed(1_000), RunId::new(1, 1));
    let ledger = sqlite(&folder).await?;
    for (account, day) in [("crm", TODAY - 1), ("erp", TODAY)] {
        ledger.set_daily(account, day, 50).await?;
    }
    let attempt = AttemptId { run: run.clone(), chunk: 0, attempt: 1 };
    let (limiter, clock) = process(&ledger);
    limiter.grant("crm", std::slice::from_ref(&attempt)).await?;
    limiter.claim("crm", &attempt, "", 2 * DAY).await?;
    limiter.open_gate("crm", &run, 1, 2 * DAY).await?;
    let in_run = |slot| Request { attempt: Some(&attempt), worker: "", ..ask(&limits, slot) };
    for slot in 1..=70 {
        ensure!(limiter.permit(&in_run(slot)).await?.is_go());
        ensure!(ledger.daily("crm", TODAY).await? >= slot, "a crash would forget the request {slot}");
    }
    limiter.close_gate("crm", &run).await?;
    ensure!(ledger.daily("crm", TODAY).await? == 70, "{} are written", ledger.daily("crm", TODAY).await?);
    // What is ahead when the day ends is that day's.
    limiter.open_gate("crm", &run, 1, 2 * DAY).await?;
    ensure!(limiter.permit(&in_run(71)).await?.is_go());
    clock.0.store(NOON + DAY, Ordering::SeqCst);
    ledger.set_daily("crm", TODAY + 1, 20).await?;
    limiter.close_gate("crm", &run).await?;
    ensure!(ledger.daily("crm", TODAY).await? >= 71 && ledger.daily("crm", TODAY + 1).await? == 20);
    for (account, day) in [("crm", TODAY - 1), ("erp", TODAY)] {
        ensure!(ledger.daily(account, day).await? == 50, "{account} on {day}");
    }
    Ok(())
}

async fn windows() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (unit, account) in [(Unit::Requests, "crm"), (Unit::Records, "erp")] {
        let ledger = sqlite(&folder).await?;
        let limits = Limits { windows: vec![Window { unit, limit: 3, per_ms: 60_000 }], ..Limits::default() };
        let ask = |slot| Request { account, records: 1, ..ask(&limits, slot) };
        let (first, mut sent) = (process(&ledger).0, 0);
        while first.permit(&ask(sent)).await?.is_go() {
            sent += 1;
        }
        ensure!((1..=3).contains(&sent), "{unit:?}: {sent} of 3 were sent");
        let next = process(&ledger).0.permit(&ask(9)).await?;
        ensure!(matches!(next, Verdict::Later { cause: Cause::Window, .. }), "{unit:?}: {next:?}");
    }
    Ok(())
}

/// Under another prefix a server knows nothing of what was.
async fn outlives() -> Result<()> {
    let (folder, limits, run) = (tempfile::tempdir()?, allowed(10), RunId::new(1, 1));
    let ledger = sqlite(&folder).await?;
    let open = || {
        RedisLimiter::new(&Redis::shared()?.url, &fresh("limiter"), Some(ledger.clone())).map_err(anyhow::Error::from)
    };
    let (one, other) = (open()?, open()?);
    one.learn_daily("crm", 9, None).await?;
    one.open_gate("crm", &run, 1, DAY).await?;
    other.open_gate("crm", &run, 1, DAY).await?;
    ensure!(other.permit(&ask(&limits, 1)).await?.is_go());
    ensure!(is_used_up(&other, &limits).await?, "the day's use was forgotten");
    // A destination whose day has begun again is believed, whatever was written before.
    other.learn_daily("crm", 1, None).await?;
    other.open_gate("crm", &run, 1, DAY).await?;
    for slot in 2..6 {
        ensure!(other.permit(&ask(&limits, slot)).await?.is_go(), "what was lowered is raised again");
    }
    Ok(())
}
