//! Limiters.

mod memory;
mod redis;

use outflow_model::limit::Allowance;
use tracing::info;

pub use memory::MemoryLimiter;
pub use redis::RedisLimiter;

/// Tells the operator that another limit was learned.
fn tell_of(account: &str, told: Allowance) {
    let Allowance { limit, per_ms, .. } = told;
    info!(account, limit, per_ms, "The destination tells another limit, which holds unless a lower one is configured");
}
