//! Redis in trouble.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use outflow_backends::RabbitQueue;
use outflow_model::id::{Lane, RunId};
use outflow_model::port::ledger::{RunPatch, Runs};
use outflow_model::port::queue::{Outgoing, Queue, Take};
use outflow_model::run::RunState;
use outflow_simulators::Faults;
use outflow_testkit::services::signal;

use crate::cell::{BOTH, Cell, EVERY, REPEATABLE, Site, Twice};
use crate::destination::slow_down;
use crate::results::outage;

pub(crate) const CELLS: &[Cell] = &[
    Cell {
        what: "redis_killed",
        kinds: BOTH,
        twice: Twice::MayBe,
        alone: true,
        work: |site, run| Box::pin(killed(site, run)),
    },
    Cell {
        what: "redis_frozen",
        kinds: BOTH,
        twice: Twice::MayBe,
        alone: true,
        work: |site, run| Box::pin(frozen(site, run)),
    },
    Cell {
        what: "redis_flushed",
        kinds: BOTH,
        twice: Twice::MayBe,
        alone: true,
        work: |site, run| Box::pin(told(site, run, &["FLUSHALL"])),
    },
    Cell {
        what: "redis_flushed_while_copies_wait",
        kinds: EVERY,
        twice: Twice::MayBe,
        alone: true,
        work: |site, run| Box::pin(copied(site, run)),
    },
    Cell {
        what: "redis_keys_evicted_one_by_one",
        kinds: EVERY,
        twice: Twice::MayBe,
        alone: false,
        work: |site, run| Box::pin(evicted(site, run)),
    },
    Cell {
        what: "redis_scripts_flushed",
        kinds: REPEATABLE,
        twice: Twice::Never,
        alone: true,
        work: |site, run| Box::pin(told(site, run, &["SCRIPT", "FLUSH"])),
    },
    Cell {
        what: "redis_flushed_right_after_a_cancel",
        kinds: BOTH,
        twice: Twice::MayBe,
        alone: true,
        work: |site, run| Box::pin(cancelled(site, run)),
    },
    Cell {
        what: "redis_out_of_memory",
        kinds: BOTH,
        twice: Twice::MayBe,
        alone: true,
        work: |site, run| Box::pin(full(site, run)),
    },
];

async fn killed(site: &mut Site, run: &RunId) -> Result<()> {
    site.under_way(run, 3).await?;
    site.redis.kill()?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    site.redis.start_again()
}

async fn frozen(site: &mut Site, run: &RunId) -> Result<()> {
    site.under_way(run, 3).await?;
    signal(site.redis.pid()?, "STOP")?;
    tokio::time::sleep(outage()?).await;
    signal(site.redis.pid()?, "CONT")
}

async fn told(site: &mut Site, run: &RunId, words: &'static [&str]) -> Result<()> {
    site.under_way(run, 3).await?;
    site.redis.command(words)
}

/// What is cancelled stays so, though nothing in Redis says so any more.
async fn cancelled(site: &mut Site, run: &RunId) -> Result<()> {
    site.under_way(run, 3).await?;
    site.ledger.patch(run, RunState::Delivering, RunPatch { cancel: true, ..RunPatch::default() }).await?;
    site.redis.command(&["FLUSHALL"])?;
    let ended = site.ended(run).await?;
    ensure!(ended.state == RunState::Cancelled, "{ended:?}");
    Ok(())
}

async fn full(site: &mut Site, run: &RunId) -> Result<()> {
    site.under_way(run, 3).await?;
    site.redis.command(&["CONFIG", "SET", "maxmemory", "1"])?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    site.redis.command(&["CONFIG", "SET", "maxmemory", "0"])
}

/// Messages wait twice, at a destination so slow that they do so for long; then Redis comes back empty.
async fn copied(site: &mut Site, run: &RunId) -> Result<()> {
    slow_down(site, 1_000);
    site.under_way(run, 1).await?;
    let (queue, lane) = (RabbitQueue::new(&site.rabbitmq.url, &site.prefix, "matrix")?, Lane("crm".to_owned()));
    let consumer = queue.consume(&lane, 8);
    let mut copies = 0;
    while let Ok(message) = tokio::time::timeout(Duration::from_secs(1), consumer.next(Take::Any)).await {
        let message = message?;
        queue.publish(&lane, false, Outgoing::new(message.id.clone(), message.body.clone())).await?;
        copies += 1;
        if copies == 8 {
            break;
        }
    }
    drop(consumer);
    ensure!(copies > 0, "nothing waited");
    tokio::time::sleep(outage()?).await;
    site.redis.command(&["FLUSHALL"])?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    site.portal.inner.set_faults(Faults::default());
    Ok(())
}

/// Keys of this installation go, as those of a server do that is short of memory.
async fn evicted(site: &mut Site, run: &RunId) -> Result<()> {
    const EVICT: &str = "\"local all = redis.call('KEYS', ARGV[1]) \
                         if #all > 0 then redis.call('DEL', all[1 + tonumber(ARGV[2]) % #all]) end return #all\"";
    slow_down(site, 300);
    site.under_way(run, 2).await?;
    let (keys, until) = (format!("{}:*", site.prefix), Instant::now() + outage()?);
    let mut number = 0;
    while Instant::now() < until {
        number += 1;
        site.redis.command(&["EVAL", EVICT, "0", &keys, &number.to_string()])?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    site.portal.inner.set_faults(Faults::default());
    Ok(())
}
