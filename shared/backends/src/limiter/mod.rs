//! Limiters.

mod claims;
mod memory;
mod redis;

pub use memory::MemoryLimiter;
pub use redis::RedisLimiter;
