//! What a worker may send while Redis does not answer: what was booked, then its own share of what is known to be open, for
//! as long as that is known, and nothing beyond.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use outflow_backends::RedisLimiter;
use outflow_model::id::{AttemptId, RunId};
use outflow_model::limit::{Cause, Limits, Unit, Window};
use outflow_model::port::limiter::{Ended, Limiter, Request, Verdict};
use outflow_model::port::{self, Trouble};
use outflow_testkit::services::Redis;
use outflow_tests::{Proxy, Service, Weather, block, port_of};

const SECOND: i64 = 1_000_000;
const CUT: Weather =
    Weather { latency: Duration::ZERO, bandwidth: 0, silent: false, broken: true, reset_after: 0, half_closed: false };

fn attempt() -> AttemptId {
    AttemptId { run: RunId::new(1, 1), chunk: 0, attempt: 1 }
}

fn limits(limit: u64) -> Limits {
    Limits { windows: vec![Window { unit: Unit::Requests, limit, per_ms: 1_000 }], ..Limits::default() }
}

fn request<'a>(limits: &'a Limits, attempt: &'a AttemptId, slot: u64) -> Request<'a> {
    let (records, cost, weight, lease) = (1, 1, 1, 30 * SECOND);
    let (worker, attempt, sync, timeout, urgent) = ("w", Some(attempt), "s", 60 * SECOND, false);
    Request { account: "crm", limits, attempt, worker, records, cost, urgent, sync, weight, slot, lease, timeout }
}

/// A worker among others, which delivers an attempt of an open run, and has sent its first request.
struct Worker {
    link: Proxy,
    prefix: String,
    limiter: RedisLimiter,
}

impl Worker {
    async fn among(workers: u32, limits: &Limits) -> Result<Self> {
        let port = port_of(&Redis::shared()?.url)?;
        let (link, entropy) = (Proxy::to(port).await?, outflow_backends::SystemClock::default());
        let prefix = format!("alone-{:x}", port::clock::Clock::entropy(&entropy));
        let (limiter, attempt) = (Self::limiter(&link, &prefix)?, attempt());
        for _ in 1..workers {
            Self::limiter(&link, &prefix)?.lanes().await?;
        }
        limiter.lanes().await?;
        limiter.open_gate("crm", &attempt.run, 8, 60 * SECOND).await?;
        limiter.claim("crm", &attempt, "w", 30 * SECOND).await?;
        let worker = Self { link, prefix, limiter };
        ensure!(worker.permitted(&request(limits, &attempt, 0)).await? == Verdict::Go);
        Ok(worker)
    }

    /// The verdict once nothing is in the way.
    async fn permitted(&self, request: &Request<'_>) -> port::Result<Verdict> {
        loop {
            match self.limiter.permit(request).await {
                Ok(Verdict::Later { wait, .. }) => tokio::time::sleep(Duration::from_micros(wait as u64)).await,
                told => return told,
            }
        }
    }

    fn limiter(link: &Proxy, prefix: &str) -> Result<RedisLimiter> {
        Ok(RedisLimiter::new(&format!("redis://127.0.0.1:{}", link.port), prefix, None)?)
    }
}

fn is_away(verdict: &port::Result<Verdict>) -> bool {
    verdict.as_ref().is_err_and(|error| error.trouble == Trouble::Unavailable)
}

/// Two workers and 20 requests a second: each has a quarter of them alone, as long as its claim lives.
pub(crate) fn share() -> Result<()> {
    block(async {
        let (limits, attempt) = (limits(20), attempt());
        let worker = Worker::among(2, &limits).await?;
        let Worker { link, limiter, .. } = &worker;
        let shortly = |slot| Request { lease: 3 * SECOND, ..request(&limits, &attempt, slot) };
        ensure!(worker.permitted(&shortly(0)).await? == Verdict::Go);
        let until = Instant::now() + Duration::from_secs(3);
        link.set(CUT);
        let mut sent = Vec::new();
        let refused = loop {
            let slot = 1 + sent.len() as u64;
            match worker.permitted(&shortly(slot)).await {
                Ok(Verdict::Go) => {
                    sent.push(Instant::now());
                    limiter.end("crm", slot, Ended::Sent).await?;
                }
                other => break other,
            }
            ensure!(Instant::now() < until + Duration::from_secs(10), "it never ends");
        };
        ensure!(is_away(&refused), "{refused:?}");
        // How many at most is told by the share's own tests.
        ensure!(sent.len() >= 2, "{} sent in 3 s", sent.len());
        ensure!(sent.iter().all(|moment| *moment < until), "one left after its claim had lapsed");
        link.set(Weather::default());
        let told = worker.permitted(&request(&limits, &attempt, 100)).await?;
        ensure!(told == Verdict::Go, "Redis tells again: {told:?}");
        limiter.close_gate("crm", &attempt.run).await?;
        ensure!(limiter.permit(&request(&limits, &attempt, 101)).await? == Verdict::Closed);
        Ok(())
    })
}

/// A booked request leaves at its moment, though Redis is gone by then.
pub(crate) fn booked() -> Result<()> {
    block(async {
        let (slow, attempt) = (limits(1), attempt());
        let worker = Worker::among(1, &slow).await?;
        let Worker { link, prefix, limiter } = &worker;
        let direct = RedisLimiter::new(&Redis::shared()?.url, prefix, None)?;
        let two = Limits { in_flight: Some(2), ..Limits::default() };
        let booked = async {
            let probe = Request { attempt: None, slot: 9, ..request(&two, &attempt, 9) };
            while direct.permit(&probe).await? == Verdict::Go {
                direct.end("crm", 9, Ended::Unsent).await?;
            }
            // Answers come in order: that to the booking is there, too.
            limiter.lanes().await?;
            link.set(CUT);
            Ok::<_, anyhow::Error>(Instant::now())
        };
        let second = request(&slow, &attempt, 1);
        let (verdict, cut) = tokio::join!(worker.permitted(&second), booked);
        let (verdict, waited) = (verdict?, cut?.elapsed());
        ensure!(verdict == Verdict::Go && waited > Duration::from_millis(100), "{verdict:?} after {waited:?}");
        let third = limiter.permit(&request(&slow, &attempt, 2)).await;
        ensure!(is_away(&third), "one request of each worker might be more than such a window takes: {third:?}");
        Ok(())
    })
}

/// Nothing leaves for a run that was stopped, for an attempt of which Redis has said nothing, for another's claim, for a
/// paused account, nor where all workers together keep count.
pub(crate) fn closed() -> Result<()> {
    block(async {
        let (any, attempt) = (Limits::default(), attempt());
        let Worker { link, limiter, .. } = Worker::among(1, &any).await?;
        let stopped = AttemptId { run: RunId::new(1, 2), ..attempt.clone() };
        limiter.open_gate("crm", &stopped.run, 8, 60 * SECOND).await?;
        limiter.claim("crm", &stopped, "w", 30 * SECOND).await?;
        ensure!(limiter.permit(&request(&any, &stopped, 2)).await? == Verdict::Go);
        limiter.close_gate("crm", &stopped.run).await?;
        ensure!(limiter.permit(&request(&any, &stopped, 3)).await? == Verdict::Closed);
        limiter.claim("crm", &attempt, "w", 30 * SECOND).await?;
        ensure!(limiter.permit(&request(&any, &attempt, 4)).await? == Verdict::Go);
        link.set(CUT);
        let unknown = AttemptId { chunk: 9, ..attempt.clone() };
        for nothing in [&stopped, &unknown] {
            ensure!(is_away(&limiter.permit(&request(&any, nothing, 5)).await), "{nothing}");
        }
        let other = Request { worker: "another", ..request(&any, &attempt, 6) };
        ensure!(is_away(&limiter.permit(&other).await), "a claim is one delivery's");
        for counted in [Limits { in_flight: Some(8), ..limits(20) }, Limits { daily: Some(1_000), ..limits(20) }] {
            ensure!(is_away(&limiter.permit(&request(&counted, &attempt, 7)).await), "{counted:?}");
        }
        ensure!(limiter.pause("crm", 60 * SECOND).await.is_err());
        let paused = limiter.permit(&request(&any, &attempt, 8)).await;
        ensure!(matches!(paused, Ok(Verdict::Later { cause: Cause::Paused, .. })), "{paused:?}");
        Ok(())
    })
}
