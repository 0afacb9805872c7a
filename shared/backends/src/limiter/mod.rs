//! Limiters.

mod memory;
mod redis;

use outflow_model::limit::{Allowance, Micros};
use outflow_model::port::Result;
use outflow_model::port::limiter::Limiter;
use tracing::{debug, info};

pub use memory::MemoryLimiter;
pub use redis::RedisLimiter;

/// Tells the operator that another limit was learned.
fn tell_of(account: &str, told: Allowance) {
    let Allowance { limit, per_ms, .. } = told;
    info!(account, limit, per_ms, "The destination tells another limit, which holds unless a lower one is configured");
}

/// Pauses an account until its reserve is free again.
async fn keep_reserve(limiter: &dyn Limiter, account: &str, wait: Micros) -> Result<()> {
    if wait == 0 {
        return Ok(());
    }
    debug!(account, wait, "The account pauses: less is left than its reserve");
    limiter.pause(account, wait).await
}
