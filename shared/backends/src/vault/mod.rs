//! Vaults.

mod file;
mod redis;

pub use self::redis::RedisVault;
pub use file::FileVault;
