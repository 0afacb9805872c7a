//! What befalls a cluster. Its first coordinator and its first worker are spared, so that they can be watched.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use outflow_simulators::HubSpot;
use outflow_tests::{Cluster, Dice, Links, Proxy, Weather};
use serde_json::{Value, json};

use crate::measure::round;

/// A cluster with a portal.
pub(super) type Site = Cluster<HubSpot>;

const SLOW: Weather = Weather {
    latency: Duration::from_millis(300),
    bandwidth: 0,
    silent: false,
    broken: false,
    reset_after: 0,
    half_closed: false,
};
const SLOW_FOR: Duration = Duration::from_secs(10);
/// A worker that is asked to end has ended by then.
const LEAVES: Duration = Duration::from_secs(20);

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    WorkerKilled,
    WorkerReplaced,
    CoordinatorKilled,
    RabbitMqKilled,
    RedisKilled,
    RedisFlushed,
    PostgresCrashed,
    ConnectionsReset,
    LinkSlow,
}

const ALL: [Fault; 9] = [
    Fault::WorkerKilled,
    Fault::WorkerReplaced,
    Fault::CoordinatorKilled,
    Fault::RabbitMqKilled,
    Fault::RedisKilled,
    Fault::RedisFlushed,
    Fault::PostgresCrashed,
    Fault::ConnectionsReset,
    Fault::LinkSlow,
];

impl Fault {
    const fn name(self) -> &'static str {
        match self {
            Self::WorkerKilled => "worker_killed",
            Self::WorkerReplaced => "worker_replaced",
            Self::CoordinatorKilled => "coordinator_killed",
            Self::RabbitMqKilled => "rabbitmq_killed",
            Self::RedisKilled => "redis_killed",
            Self::RedisFlushed => "redis_flushed",
            Self::PostgresCrashed => "postgres_crashed",
            Self::ConnectionsReset => "connections_reset",
            Self::LinkSlow => "link_slow",
        }
    }
}

const fn links(links: &Links) -> [(&'static str, &Proxy); 6] {
    [
        ("ledger", &links.ledger),
        ("coordinators' queue", &links.coordinator_queue),
        ("coordinators' limiter", &links.coordinator_limiter),
        ("workers' queue", &links.worker_queue),
        ("workers' limiter", &links.worker_limiter),
        ("destination", &links.destination),
    ]
}

/// Faults that have struck, and those that are to come.
pub(super) struct Faults {
    began: Instant,
    /// Of each kind one, until all have come.
    left: Vec<Fault>,
    struck: Vec<(f64, Fault, String)>,
}

impl Faults {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), left: Vec::new(), struck: Vec::new() }
    }

    /// The next fault; what it stops runs again when this returns.
    pub(super) async fn strike(&mut self, dice: &mut Dice, site: &mut Site) -> Result<()> {
        if self.left.is_empty() {
            self.left = ALL.to_vec();
        }
        let fault = self.left.swap_remove(dice.roll(self.left.len() as u64) as usize);
        let (at, chance) = (round(self.began.elapsed().as_secs_f64()), dice.roll(1 << 16) as usize);
        let what = strike(fault, chance, site).await?;
        self.struck.push((at, fault, what));
        Ok(())
    }

    pub(super) fn counts(&self) -> Value {
        let mut counts: BTreeMap<&str, u64> = ALL.iter().map(|fault| (fault.name(), 0)).collect();
        for (_, fault, _) in &self.struck {
            *counts.entry(fault.name()).or_default() += 1;
        }
        json!(counts)
    }

    /// When which fault struck whom, in seconds.
    pub(super) fn history(&self) -> Value {
        self.struck.iter().map(|(at, fault, whom)| json!([at, fault.name(), whom])).collect()
    }
}

/// Has a fault befall a cluster; whom, where that is by chance.
async fn strike(fault: Fault, chance: usize, site: &mut Site) -> Result<String> {
    // Any but the first.
    let other = |count: usize| 1 + chance % (count - 1);
    let (rabbitmq, redis, postgres) = (site.rabbitmq.clone(), site.redis.clone(), site.postgres.clone());
    match fault {
        Fault::WorkerKilled => {
            let at = other(site.workers.len());
            site.workers.remove(at).kill();
            site.start_worker()?;
        }
        Fault::WorkerReplaced => {
            let at = other(site.workers.len());
            let leaving = site.workers.remove(at);
            site.start_worker()?;
            let took = tokio::task::spawn_blocking(move || leaving.terminate(LEAVES)).await??;
            return Ok(format!("left after {:.1} s", took.as_secs_f64()));
        }
        Fault::CoordinatorKilled => {
            let at = other(site.coordinators.len());
            site.coordinators.remove(at).kill();
            site.start_coordinator()?;
        }
        Fault::RabbitMqKilled => {
            rabbitmq.kill()?;
            tokio::task::spawn_blocking(move || rabbitmq.start_again()).await??;
        }
        Fault::RedisKilled => {
            redis.kill()?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            tokio::task::spawn_blocking(move || redis.start_again()).await??;
        }
        Fault::RedisFlushed => redis.command(&["FLUSHALL"])?,
        Fault::PostgresCrashed => {
            let again = move || {
                postgres.crash()?;
                std::thread::sleep(Duration::from_secs(1));
                postgres.start_again()
            };
            tokio::task::spawn_blocking(again).await??;
        }
        Fault::ConnectionsReset | Fault::LinkSlow => {
            let links = links(&site.links);
            let Some((name, link)) = links.get(chance % links.len()) else { return Ok(String::new()) };
            if fault == Fault::ConnectionsReset {
                link.reset();
            } else {
                site.for_a_while(link, SLOW, SLOW_FOR).await;
            }
            return Ok((*name).to_owned());
        }
    }
    ensure!(site.workers.len() > 1 && site.coordinators.len() > 1, "somebody is left");
    Ok(String::new())
}
