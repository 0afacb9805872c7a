//! The limiter that all processes share, in Redis. Only Redis's own clock counts.
//!
//! All keys of an account carry its name as their hash tag, so that a cluster keeps them together.

mod scripts;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outflow_model::id::{AttemptId, Lane, RunId};
use outflow_model::limit::{Cause, Limits, Micros, Unit, Window};
use outflow_model::port::Result;
use outflow_model::port::clock::Clock;
use outflow_model::port::ledger::Quotas;
use outflow_model::port::limiter::{Claimed, Ended, Limiter, Request, Revoked, Verdict};
use redis::{FromRedisValue, Script, ScriptInvocation};

use crate::clock::SharedClock;
use crate::redis_link::{Link, unavailable};

/// The claims of a run are remembered for so long after its gate was renewed, in milliseconds.
const REMEMBERED: u64 = 3_600_000;

/// Budgets, gates and claims in Redis.
pub struct RedisLimiter {
    connection: Link,
    /// Where the day's use outlives Redis; a coordinator has it, a worker has not.
    quotas: Option<Arc<dyn Quotas>>,
    prefix: String,
    scripts: Scripts,
}

struct Scripts {
    permit: Script,
    set: Script,
    claim: Script,
    revoke: Script,
    finish: Script,
    changed: Script,
    pause: Script,
    end: Script,
    daily: Script,
    announce: Script,
    lanes: Script,
    check: Script,
}

/// What the script answers.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// What becomes of the request.
    pub code: i64,
    /// Microseconds: until it may leave, or until it may ask again.
    pub wait: Micros,
    /// How late requests have left lately.
    pub late: Micros,
}

impl RedisLimiter {
    /// A limiter on the server at `url` (`redis://`, `redis-sentinel://` or `redis-cluster://`; with `rediss` over TLS), whose
    /// keys begin with `prefix`. It connects when it is first used, and again whenever the connection is lost.
    pub fn new(url: &str, prefix: &str, quotas: Option<Arc<dyn Quotas>>) -> Result<Self> {
        let connection = Link::to(url)?;
        let scripts = Scripts {
            permit: timed(include_str!("permit.lua")),
            set: Script::new(scripts::SET),
            claim: timed(scripts::CLAIM),
            revoke: timed(scripts::REVOKE),
            finish: Script::new(scripts::FINISH),
            changed: timed(scripts::CHANGED),
            pause: timed(scripts::PAUSE),
            end: Script::new(scripts::END),
            daily: timed(scripts::DAILY),
            announce: Script::new(scripts::ANNOUNCE),
            lanes: Script::new(scripts::LANES),
            check: timed(scripts::CHECK),
        };
        Ok(Self { connection, quotas, prefix: prefix.to_owned(), scripts })
    }

    /// The server's time, which everybody who shares it goes by.
    pub fn clock(&self) -> Arc<dyn Clock> {
        let connection = self.connection.clone();
        SharedClock::new(move || {
            let mut connection = connection.clone();
            async move {
                let (seconds, micros): (Micros, Micros) =
                    redis::cmd("TIME").query_async(&mut connection).await.map_err(unavailable)?;
                Ok(seconds * 1_000_000 + micros)
            }
        })
    }

    fn key(&self, account: &str, what: &str) -> String {
        format!("{}:{{{account}}}:{what}", self.prefix)
    }

    fn lanes_key(&self) -> String {
        format!("{}:lanes", self.prefix)
    }

    fn gate(&self, account: &str, run: &RunId) -> String {
        self.key(account, &format!("gate:{run}"))
    }

    fn claims(&self, account: &str, run: &RunId) -> String {
        self.key(account, &format!("claims:{run}"))
    }

    /// A call of a script that looks at an attempt's claim.
    fn about<'a>(&self, script: &'a Script, account: &str, attempt: &AttemptId) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        call.key(self.claims(account, &attempt.run)).key(self.key(account, "usage"));
        call.arg(attempt.chunk).arg(attempt.attempt).arg(REMEMBERED);
        call
    }

    /// Closes attempts of one run, or grants them, in one step.
    async fn set(&self, account: &str, attempts: &[AttemptId], holder: &str) -> Result<()> {
        let Some(AttemptId { run, .. }) = attempts.first() else { return Ok(()) };
        let mut call = self.scripts.set.prepare_invoke();
        call.key(self.claims(account, run)).arg(REMEMBERED).arg(holder);
        for AttemptId { chunk, attempt, .. } in attempts {
            call.arg(*chunk).arg(*attempt);
        }
        self.invoke(&call).await
    }

    async fn invoke<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T> {
        call.invoke_async(&mut self.connection.clone()).await.map_err(unavailable)
    }

    async fn query<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T> {
        command.query_async(&mut self.connection.clone()).await.map_err(unavailable)
    }

    /// Asks for a permit at `now`, or at this moment where that is 0; answers as the script does.
    #[doc(hidden)]
    pub async fn ask(&self, request: &Request<'_>, now: Micros) -> Result<Told> {
        let Request { account, limits, attempt, worker, urgent, sync, slot, lease, timeout, late, .. } = *request;
        let terms = limits.terms(&request.ask());
        let mut call = self.scripts.permit.prepare_invoke();
        for what in ["usage", "flight", "shares", "pause"] {
            call.key(self.key(account, what));
        }
        if let Some(attempt) = attempt {
            call.key(self.gate(account, &attempt.run)).key(self.claims(account, &attempt.run));
        }
        call.arg(now)
            .arg(slot)
            .arg(lease)
            .arg(timeout)
            .arg(worker)
            .arg(optional(limits.daily))
            .arg(limits.reserve_percent.min(99));
        call.arg(optional(limits.in_flight.map(u64::from))).arg(i32::from(urgent));
        call.arg(terms.ahead).arg(terms.horizon).arg(terms.share).arg(sync).arg(late);
        call.arg(attempt.map_or(0, |attempt| attempt.chunk)).arg(attempt.map_or(0, |attempt| attempt.attempt));
        for (name, term) in names(limits).zip(&terms.windows) {
            call.arg(name)
                .arg(term.units)
                .arg(term.within)
                .arg(term.apart)
                .arg(term.early)
                .arg(term.most.unwrap_or(-1));
        }
        let (code, wait, late) = self.invoke(&call).await?;
        Ok(Told { code, wait, late })
    }

    /// What has changed while a booked request waited for its moment.
    async fn changed(&self, request: &Request<'_>) -> Result<Option<Verdict>> {
        let account = request.account;
        let mut call = self.scripts.changed.prepare_invoke();
        call.key(self.key(account, "pause")).key(self.key(account, "usage")).arg(request.worker);
        if let Some(AttemptId { run, chunk, attempt }) = request.attempt {
            call.key(self.gate(account, run)).key(self.claims(account, run)).arg(*chunk).arg(*attempt);
        }
        let (code, wait): (i64, Micros) = self.invoke(&call).await?;
        Ok(match code {
            0 => None,
            1 => Some(Verdict::Closed),
            2 => Some(Verdict::Lost),
            _ => Some(Verdict::Later { wait, cause: Cause::Paused }),
        })
    }

    /// What becomes of a booked request whose moment has come.
    async fn booked(&self, request: &Request<'_>, go: Verdict) -> Result<Verdict> {
        match self.changed(request).await? {
            None => Ok(go),
            Some(verdict) => {
                self.end(request.account, request.slot, Ended::Unsent).await?;
                Ok(verdict)
            }
        }
    }

    /// Takes the day's use to the ledger, or back from there where Redis has forgotten it.
    async fn keep_daily(&self, account: &str) -> Result<()> {
        let Some(quotas) = &self.quotas else { return Ok(()) };
        let (day, used, lowered) = self.daily(account, -1, None, None).await?;
        let written = quotas.daily(account, day).await?;
        // What a destination has told to be less was written before.
        if written > used && lowered == 0 {
            self.daily(account, day, Some(written), None).await?;
        } else if used > written {
            quotas.set_daily(account, day, used).await?;
        }
        Ok(())
    }

    async fn daily(&self, account: &str, day: i64, used: Option<u64>, allowed: Option<u64>) -> Result<(i64, u64, i64)> {
        let mut call = self.scripts.daily.prepare_invoke();
        call.key(self.key(account, "usage")).arg(day).arg(optional(used)).arg(optional(allowed));
        self.invoke(&call).await
    }
}

/// Windows by what they count and how long they are: when a limit changes, requests go on where those before it ended.
fn names(limits: &Limits) -> impl Iterator<Item = String> {
    limits.windows.iter().enumerate().map(|(place, window)| {
        let unit = match window.unit {
            Unit::Requests => "requests",
            Unit::Records => "records",
            Unit::Cost => "cost",
        };
        let alike = |other: &&Window| (other.unit, other.per_ms) == (window.unit, window.per_ms);
        format!("{unit}/{}/{}", window.per_ms, limits.windows.iter().take(place).filter(alike).count())
    })
}

/// As the scripts are told it: -1 for nothing.
fn optional(number: Option<u64>) -> i64 {
    number.map_or(-1, |number| number as i64)
}

/// A script that goes by an account's time.
fn timed(script: &str) -> Script {
    Script::new(&format!("{}{script}", scripts::TICKS))
}

fn millis(micros: Micros) -> i64 {
    (micros / 1_000).max(1)
}

#[async_trait]
impl Limiter for RedisLimiter {
    async fn open_gate(&self, account: &str, run: &RunId, concurrency: u32, ttl: Micros) -> Result<()> {
        self.keep_daily(account).await?;
        let mut call = self.scripts.announce.prepare_invoke();
        let _: () = self.invoke(call.key(self.lanes_key()).arg(account).arg(concurrency).arg(ttl)).await?;
        let _: () = self.query(redis::cmd("PEXPIRE").arg(self.claims(account, run)).arg(REMEMBERED)).await?;
        let mut command = redis::cmd("SET");
        self.query(command.arg(self.gate(account, run)).arg("open").arg("PX").arg(millis(ttl))).await
    }

    async fn close_gate(&self, account: &str, run: &RunId) -> Result<()> {
        let _: () = self.query(redis::cmd("DEL").arg(self.gate(account, run))).await?;
        self.query(redis::cmd("PEXPIRE").arg(self.claims(account, run)).arg(REMEMBERED)).await
    }

    async fn forget(&self, account: &str, run: &RunId) -> Result<()> {
        let mut command = redis::cmd("DEL");
        self.query(command.arg(self.gate(account, run)).arg(self.claims(account, run))).await
    }

    async fn close(&self, account: &str, attempts: &[AttemptId]) -> Result<()> {
        self.set(account, attempts, "").await
    }

    async fn grant(&self, account: &str, attempts: &[AttemptId]) -> Result<()> {
        self.set(account, attempts, "+").await
    }

    async fn check(&self) -> Result<()> {
        let mut call = self.scripts.check.prepare_invoke();
        self.invoke(call.key(self.key("", "check"))).await
    }

    async fn lanes(&self) -> Result<Vec<(Lane, u32)>> {
        let mut call = self.scripts.lanes.prepare_invoke();
        let known: Vec<(String, u32)> = self.invoke(call.key(self.lanes_key())).await?;
        Ok(known.into_iter().map(|(lane, concurrency)| (Lane(lane), concurrency)).collect())
    }

    async fn announced(
        &self,
        account: &str,
        attempt: &AttemptId,
        worker: &str,
        lease: Micros,
        requests: u32,
    ) -> Result<Claimed> {
        let mut call = self.about(&self.scripts.claim, account, attempt);
        call.arg(worker).arg(lease).arg(requests);
        Ok(match self.invoke::<(i64, u32)>(&call).await? {
            (1, _) => Claimed::Mine,
            (2, announced) => Claimed::Inherited { announced },
            (0, _) => Claimed::Held,
            (-1, _) => Claimed::Done,
            _ => Claimed::Ungranted,
        })
    }

    async fn revoke(&self, account: &str, attempt: &AttemptId, grace: Micros) -> Result<Revoked> {
        let mut call = self.about(&self.scripts.revoke, account, attempt);
        Ok(match self.invoke::<(i64, u32)>(call.arg(grace)).await? {
            (1, _) => Revoked::Taken,
            (2, announced) => Revoked::Lapsed { announced },
            (0, _) => Revoked::Held,
            (-1, _) => Revoked::Finished,
            _ => Revoked::Forgotten,
        })
    }

    async fn finish(&self, account: &str, attempt: &AttemptId) -> Result<()> {
        self.invoke(&self.about(&self.scripts.finish, account, attempt)).await
    }

    async fn permit(&self, request: &Request<'_>) -> Result<Verdict> {
        let Told { code, wait, late } = self.ask(request, 0).await?;
        let go = Verdict::Go { after: wait, within: request.limits.usable(late) };
        let cause = match code {
            0 if wait > 0 => {
                tokio::time::sleep(Duration::from_micros(wait as u64)).await;
                return self.booked(request, go).await;
            }
            0 => return Ok(go),
            1 => return Ok(Verdict::Closed),
            2 => return Ok(Verdict::Lost),
            3 => Cause::Window,
            4 => Cause::InFlight,
            5 => Cause::Paused,
            6 => Cause::Daily,
            _ => Cause::Share,
        };
        Ok(Verdict::Later { wait, cause })
    }

    async fn end(&self, account: &str, slot: u64, ended: Ended) -> Result<()> {
        let mut call = self.scripts.end.prepare_invoke();
        call.key(self.key(account, "flight")).key(self.key(account, "usage"));
        call.arg(slot).arg(i32::from(ended == Ended::Unsent));
        self.invoke(&call).await
    }

    async fn pause(&self, account: &str, wait: Micros) -> Result<()> {
        let mut call = self.scripts.pause.prepare_invoke();
        self.invoke(call.key(self.key(account, "pause")).key(self.key(account, "usage")).arg(wait)).await
    }

    async fn learn_daily(&self, account: &str, used: u64, allowed: Option<u64>) -> Result<()> {
        self.daily(account, -1, Some(used), allowed).await?;
        Ok(())
    }
}
