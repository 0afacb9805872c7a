//! What a worker may send while Redis does not answer: nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use outflow_backends::RedisLimiter;
use outflow_model::id::{AttemptId, RunId};
use outflow_model::limit::{Limits, Unit, Window};
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
    Request {
        account: "crm",
        limits,
        attempt,
        worker,
        records,
        cost,
        urgent,
        sync,
        weight,
        slot,
        lease,
        timeout,
        late: 0,
    }
}

/// A worker that delivers an attempt of an open run, and has sent its first request.
struct Worker {
    link: Proxy,
    prefix: String,
    limiter: RedisLimiter,
}

impl Worker {
    async fn new(limits: &Limits) -> Result<Self> {
        let port = port_of(&Redis::shared()?.url)?;
        let (link, entropy) = (Proxy::to(port).await?, outflow_backends::SystemClock::default());
        let prefix = format!("alone-{:x}", port::clock::Clock::entropy(&entropy));
        let (limiter, attempt) = (Self::limiter(&link, &prefix)?, attempt());
        limiter.open_gate("crm", &attempt.run, 8, 60 * SECOND).await?;
        limiter.grant("crm", std::slice::from_ref(&attempt)).await?;
        limiter.claim("crm", &attempt, "w", 30 * SECOND).await?;
        let worker = Self { link, prefix, limiter };
        ensure!(worker.permitted(&request(limits, &attempt, 0)).await?.is_go());
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

/// A worker that had a permit until just now has none while Redis is cut off, and has one again afterwards.
pub(crate) fn cut_off() -> Result<()> {
    block(async {
        let (limits, attempt) = (limits(20), attempt());
        let worker = Worker::new(&limits).await?;
        worker.link.set(CUT);
        for slot in 1..4 {
            let refused = worker.permitted(&request(&limits, &attempt, slot)).await;
            ensure!(is_away(&refused), "{refused:?}");
        }
        ensure!(worker.limiter.pause("crm", SECOND).await.is_err(), "a pause that Redis has not heard of is an error");
        worker.link.set(Weather::default());
        let permitted = worker.permitted(&request(&limits, &attempt, 4)).await?;
        ensure!(permitted.is_go(), "Redis answers again: {permitted:?}");
        Ok(())
    })
}

/// A booked request does not leave at its moment where Redis is gone by then: its run may have been stopped.
pub(crate) fn booked() -> Result<()> {
    block(async {
        let (slow, attempt) = (limits(1), attempt());
        let worker = Worker::new(&slow).await?;
        let Worker { link, prefix, limiter } = &worker;
        let direct = RedisLimiter::new(&Redis::shared()?.url, prefix, None)?;
        let two = Limits { in_flight: Some(2), ..Limits::default() };
        let booked = async {
            let probe = Request { attempt: None, slot: 9, ..request(&two, &attempt, 9) };
            while direct.permit(&probe).await?.is_go() {
                direct.end("crm", 9, Ended::Unsent).await?;
            }
            // Answers come in order: that to the booking is there, too.
            limiter.lanes().await?;
            link.set(CUT);
            Ok::<_, anyhow::Error>(())
        };
        let second = request(&slow, &attempt, 1);
        let (verdict, cut) = tokio::join!(worker.permitted(&second), booked);
        cut?;
        ensure!(is_away(&verdict), "{verdict:?}");
        Ok(())
    })
}
