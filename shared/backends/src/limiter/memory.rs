//! The limiter within one process; what each account has used is kept in the ledger.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use outflow_model::id::{AttemptId, Lane, RunId};
use outflow_model::limit::{Answer, Cause, Kept, Limits, Micros, Usage};
use outflow_model::port::clock::Clock;
use outflow_model::port::ledger::Quotas;
use outflow_model::port::limiter::{Claimed, Ended, Limiter, Request, Revoked, Verdict};
use outflow_model::port::{PortError, Result, Trouble};
use tracing::warn;

use super::claims::Claims;

/// The day's use is written down whenever it has grown by so many requests, and counted so much too high after a crash.
const WRITE_EVERY: u64 = 64;
/// The use of windows of requests is written down whenever it has grown by so much, and counted so much too high after a crash.
const WRITE_AHEAD: Micros = 200_000;

/// Budgets, gates and claims in memory.
pub struct MemoryLimiter {
    clock: Arc<dyn Clock>,
    quotas: Arc<dyn Quotas>,
    state: std::sync::Mutex<State>,
    /// The use of windows that the ledger holds, by account.
    writing: tokio::sync::Mutex<HashMap<String, Kept>>,
}

#[derive(Default)]
struct State {
    accounts: HashMap<String, Account>,
    /// Until when a run may send, and how its lane is served.
    gates: HashMap<RunId, (Micros, Lane, u32)>,
    claims: Claims,
}

impl State {
    /// What forbids a request: its run's gate is closed, or the delivery does not have the attempt.
    fn forbids(&self, request: &Request<'_>, now: Micros) -> Option<Verdict> {
        let attempt = request.attempt?;
        if self.gates.get(&attempt.run).is_none_or(|(until, ..)| *until <= now) {
            return Some(Verdict::Closed);
        }
        (!self.claims.is_held(attempt, request.worker)).then_some(Verdict::Lost)
    }

    /// Until when an account is paused, where that is after `now`.
    fn pauses(&self, account: &str, now: Micros) -> Option<Verdict> {
        let until = self.accounts.get(account)?.usage.paused_until();
        (until > now).then_some(Verdict::Later { wait: until - now, cause: Cause::Paused })
    }
}

#[derive(Default)]
struct Account {
    usage: Usage,
    /// The day and the use that the ledger holds.
    written: (i64, u64),
    /// The ledger has been read.
    is_loaded: bool,
    /// What another process had used of the windows, until the first request says which they are.
    before: Option<Kept>,
}

impl MemoryLimiter {
    /// A limiter whose use is kept in `quotas`.
    pub fn new(clock: Arc<dyn Clock>, quotas: Arc<dyn Quotas>) -> Self {
        Self { clock, quotas, state: std::sync::Mutex::default(), writing: tokio::sync::Mutex::default() }
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads what was used of an account that this process has not seen yet.
    async fn load(&self, account: &str) -> Result<()> {
        if self.with(|state| state.accounts.get(account).is_some_and(|known| known.is_loaded)) {
            return Ok(());
        }
        let now = self.clock.now();
        let day = Usage::default().daily(now).0;
        let used = self.quotas.daily(account, day).await?;
        let kept = self.quotas.windows(account).await?;
        self.with(|state| {
            let known = state.accounts.entry(account.to_owned()).or_default();
            // Another request may have read it meanwhile.
            if std::mem::replace(&mut known.is_loaded, true) {
                return;
            }
            known.usage.learn_daily(now, used, None);
            known.written = (day, used);
            // What cannot be read is not known.
            known.before = kept.map(|kept| serde_json::from_str(&kept).unwrap_or_default());
        });
        Ok(())
    }

    /// Writes the day's use so far `ahead` of it, so that a crash never forgets a request.
    async fn write_day(&self, account: &str, ahead: u64) -> Result<()> {
        let now = self.clock.now();
        let due = || {
            self.with(|state| {
                let known = state.accounts.get_mut(account)?;
                let (day, used) = known.usage.daily(now);
                let stale = known.written.0 != day || used > known.written.1;
                stale.then_some((day, used + ahead))
            })
        };
        if due().is_none() {
            return Ok(());
        }
        let _one_after_the_other = self.writing.lock().await;
        let Some((day, used)) = due() else { return Ok(()) };
        self.quotas.set_daily(account, day, used).await?;
        self.with(|state| {
            if let Some(known) = state.accounts.get_mut(account) {
                known.written = known.written.max((day, used));
            }
        });
        Ok(())
    }

    /// Takes back what was written ahead of the day's use: a process that ends does not use it.
    async fn settle_day(&self, account: &str) {
        let now = self.clock.now();
        let _one_after_the_other = self.writing.lock().await;
        let ahead = self.with(|state| {
            let known = state.accounts.get_mut(account)?;
            let (day, used) = known.usage.daily(now);
            let ahead = known.written.1.checked_sub(used).filter(|ahead| *ahead > 0 && known.written.0 == day)?;
            known.written = (day, used);
            Some((day, ahead))
        });
        if let Some((day, ahead)) = ahead
            && let Err(error) = self.quotas.give_back(account, day, ahead).await
        {
            warn!(account, %error, "What was written ahead of the day's use stays written");
        }
    }

    /// Writes the use of the windows ahead of it: the next process goes on from there.
    async fn write_windows(&self, account: &str, limits: &Limits) -> Result<()> {
        // One after the other: what is written last is the newest.
        let mut written = self.writing.lock().await;
        let due = self.with(|state| {
            let known = state.accounts.get(account)?;
            let covered = written.get(account).is_some_and(|kept| known.usage.is_covered_by(kept, limits));
            (!covered).then(|| known.usage.keep(limits, WRITE_AHEAD))
        });
        let Some(kept) = due else { return Ok(()) };
        let text = serde_json::to_string(&kept)
            .map_err(|error| PortError::caused(Trouble::Corrupt, "Cannot write the use of rate limits", error))?;
        self.quotas.set_windows(account, &text).await?;
        written.insert(account.to_owned(), kept);
        Ok(())
    }
}

/// Budget that was booked for a request that has not left yet.
struct Booked<'a> {
    limiter: &'a MemoryLimiter,
    account: &'a str,
    slot: u64,
    kept: bool,
}

impl Drop for Booked<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.limiter.with(|state| {
                if let Some(account) = state.accounts.get_mut(self.account) {
                    account.usage.cancel(self.slot);
                }
            });
        }
    }
}

#[async_trait]
impl Limiter for MemoryLimiter {
    async fn open_gate(&self, account: &str, run: &RunId, concurrency: u32, ttl: Micros) -> Result<()> {
        let until = self.clock.now() + ttl;
        self.with(|state| state.gates.insert(run.clone(), (until, Lane(account.to_owned()), concurrency)));
        Ok(())
    }

    async fn lanes(&self) -> Result<Vec<(Lane, u32)>> {
        let now = self.clock.now();
        let open = self.with(|state| {
            let open = state.gates.values().filter(|(until, ..)| *until > now);
            open.map(|(_, lane, concurrency)| (lane.clone(), *concurrency)).collect::<BTreeMap<_, _>>()
        });
        Ok(open.into_iter().collect())
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn close_gate(&self, account: &str, run: &RunId) -> Result<()> {
        self.with(|state| state.gates.remove(run));
        self.settle_day(account).await;
        Ok(())
    }

    async fn forget(&self, account: &str, run: &RunId) -> Result<()> {
        self.with(|state| {
            state.gates.remove(run);
            state.claims.forget(run);
        });
        self.settle_day(account).await;
        Ok(())
    }

    async fn close(&self, _account: &str, attempts: &[AttemptId]) -> Result<()> {
        self.with(|state| attempts.iter().for_each(|attempt| state.claims.close(attempt)));
        Ok(())
    }

    async fn grant(&self, _account: &str, attempts: &[AttemptId]) -> Result<()> {
        self.with(|state| attempts.iter().for_each(|attempt| state.claims.grant(attempt)));
        Ok(())
    }

    async fn announced(
        &self,
        _account: &str,
        attempt: &AttemptId,
        worker: &str,
        lease: Micros,
        requests: u32,
    ) -> Result<Claimed> {
        let now = self.clock.now();
        Ok(self.with(|state| state.claims.claim(attempt, worker, (now, now + lease), requests)))
    }

    async fn revoke(&self, _account: &str, attempt: &AttemptId, grace: Micros) -> Result<Revoked> {
        let now = self.clock.now();
        Ok(self.with(|state| state.claims.revoke(attempt, now - grace)))
    }

    async fn finish(&self, _account: &str, attempt: &AttemptId) -> Result<()> {
        self.with(|state| state.claims.finish(attempt));
        Ok(())
    }

    async fn permit(&self, request: &Request<'_>) -> Result<Verdict> {
        self.load(request.account).await?;
        let now = self.clock.now();
        let answer = self.with(|state| {
            if let Some(verdict) = state.forbids(request, now) {
                return Err(verdict);
            }
            if let Some(attempt) = request.attempt {
                state.claims.renew(attempt, now + request.lease);
            }
            let account = state.accounts.entry(request.account.to_owned()).or_default();
            if let Some(before) = account.before.take() {
                account.usage.go_on(before, request.limits, now);
            }
            Ok(account.usage.acquire(request.limits, now, &request.ask()))
        });
        let (at, late) = match answer {
            Err(verdict) => return Ok(verdict),
            Ok(Answer::Later { at, cause }) => return Ok(Verdict::Later { wait: at - now, cause }),
            Ok(Answer::Send { at, late }) => (at, late),
        };
        // Gives the booked budget back where this future ends before the request may leave.
        let mut booked = Booked { limiter: self, account: request.account, slot: request.slot, kept: false };
        if request.limits.daily.is_some() {
            // More follow in a run, and none may outside of one.
            self.write_day(request.account, if request.attempt.is_some() { WRITE_EVERY } else { 0 }).await?;
        }
        if !request.limits.windows.is_empty() {
            self.write_windows(request.account, request.limits).await?;
        }
        if at > now {
            tokio::time::sleep(Duration::from_micros((at - now) as u64)).await;
            // Meanwhile the run may have been stopped, or the account paused.
            let now = self.clock.now();
            let changed = self.with(|state| state.forbids(request, now).or_else(|| state.pauses(request.account, now)));
            if let Some(verdict) = changed {
                return Ok(verdict);
            }
        }
        booked.kept = true;
        Ok(Verdict::Go { after: at - now, within: request.limits.usable(late) })
    }

    async fn end(&self, account: &str, slot: u64, ended: Ended) -> Result<()> {
        self.with(|state| {
            if let Some(account) = state.accounts.get_mut(account) {
                match ended {
                    Ended::Sent => account.usage.release(slot),
                    Ended::Unsent => account.usage.cancel(slot),
                }
            }
        });
        Ok(())
    }

    async fn pause(&self, account: &str, wait: Micros) -> Result<()> {
        let until = self.clock.now() + wait;
        self.with(|state| state.accounts.entry(account.to_owned()).or_default().usage.pause(until));
        Ok(())
    }

    async fn learn_daily(&self, account: &str, used: u64, allowed: Option<u64>) -> Result<()> {
        self.load(account).await?;
        let now = self.clock.now();
        self.with(|state| {
            state.accounts.entry(account.to_owned()).or_default().usage.learn_daily(now, used, allowed);
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use outflow_model::limit::{Limits, Unit, Window};

    use super::*;
    use crate::SystemClock;

    /// Nothing was used, and nothing is kept.
    struct Unused;

    #[async_trait]
    impl Quotas for Unused {
        async fn daily(&self, _account: &str, _day: i64) -> Result<u64> {
            Ok(0)
        }

        async fn set_daily(&self, _account: &str, _day: i64, _used: u64) -> Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_was_booked_does_not_leave_once_its_run_is_stopped() -> Result<()> {
        let limiter = MemoryLimiter::new(Arc::new(SystemClock::default()), Arc::new(Unused));
        let windows = vec![Window { unit: Unit::Requests, limit: 1, per_ms: 500 }];
        let limits = Limits { windows, in_flight: Some(2), ..Limits::default() };
        let attempt = AttemptId { run: RunId::new(1, 1), chunk: 0, attempt: 1 };
        let ask = |slot, attempt| Request {
            account: "crm",
            limits: &limits,
            attempt,
            worker: "w",
            slot,
            lease: 60_000_000,
            timeout: 60_000_000,
            records: 1,
            cost: 1,
            urgent: false,
            sync: "s",
            weight: 1,
            late: 0,
        };
        limiter.open_gate("crm", &attempt.run, 1, 60_000_000).await?;
        limiter.grant("crm", std::slice::from_ref(&attempt)).await?;
        limiter.claim("crm", &attempt, "w", 60_000_000).await?;
        let [first, second, third] = [ask(1, Some(&attempt)), ask(2, Some(&attempt)), ask(3, None)];
        assert!(limiter.permit(&first).await?.is_go());
        let (booked, closed) = tokio::join!(limiter.permit(&second), limiter.close_gate("crm", &attempt.run));
        closed?;
        assert_eq!(booked?, Verdict::Closed);
        let next = limiter.permit(&third).await?;
        assert!(!matches!(next, Verdict::Later { cause: Cause::InFlight, .. }), "its place was not given back");
        Ok(())
    }
}
