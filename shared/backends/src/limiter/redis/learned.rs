//! What destinations tell of their windows: known here, and shared with everybody through Redis.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use outflow_model::limit::{Learned, Limits, Unit};
use outflow_model::port::Result;

use super::{RedisLimiter, names};

/// What is known here, by account.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<String, Learned>>);

impl Known {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Learned>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of an account.
    pub(super) fn with<T>(&self, account: &str, work: impl FnOnce(&mut Learned) -> T) -> T {
        work(self.all().entry(account.to_owned()).or_default())
    }

    /// The limits that hold, and what was told of each window.
    pub(super) fn lower<'a>(&self, account: &str, limits: &'a Limits) -> (Cow<'a, Limits>, Vec<Option<u64>>) {
        let all = self.all();
        let Some(learned) = all.get(account) else { return (Cow::Borrowed(limits), vec![None; limits.windows.len()]) };
        (learned.lower(limits), limits.windows.iter().map(|window| learned.limit(window)).collect())
    }
}

impl RedisLimiter {
    /// Tells everybody what was learned of an account.
    pub(super) async fn share_learned(&self, account: &str, limits: &Limits) -> Result<()> {
        let usage = self.key(account, "usage");
        let (_, told) = self.learned.lower(account, limits);
        for (name, limit) in names(limits).zip(told) {
            if let Some(limit) = limit {
                let _: () = self.query(redis::cmd("HSET").arg(&usage).arg(field(&name)).arg(limit)).await?;
            }
        }
        self.query(redis::cmd("PEXPIRE").arg(&usage).arg(172_800_000)).await
    }

    /// Takes what somebody else has learned of an account.
    pub(super) async fn take_learned(&self, account: &str, limits: &Limits) -> Result<()> {
        let mut ask = redis::cmd("HMGET");
        ask.arg(self.key(account, "usage"));
        for name in names(limits) {
            ask.arg(field(&name));
        }
        let told: Vec<Option<u64>> = self.query(&ask).await?;
        self.learned.with(account, |learned| {
            for (window, limit) in limits.windows.iter().zip(told) {
                if let Some(limit) = limit.filter(|_| window.unit == Unit::Requests) {
                    learned.know(window.per_ms, limit);
                }
            }
        });
        Ok(())
    }
}

/// Where the script looks for what was told of a window.
fn field(name: &str) -> String {
    format!("told:{name}")
}
