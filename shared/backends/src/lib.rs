//! The backends of the engine's ports: the only place that knows which queue, store, limiter or database is in use.

mod clock;
mod ledger;
mod limiter;
mod lock;
mod message;
mod private;
mod queue;
mod redis_link;
mod seal;
mod secrets;
mod store;
mod vault;

pub use clock::SystemClock;
pub use ledger::{PostgresLedger, SqliteLedger};
pub use limiter::{MemoryLimiter, RedisLimiter};
pub use lock::StateLock;
pub use message::{Codec, OFFLOAD};
pub use private::private_folder;
pub use queue::{MemoryQueue, RabbitDeadLetters, RabbitQueue};
pub use seal::{KeyRing, KeyRingError, OpenError, SealError};
pub use secrets::{Allowed, USUAL, is_own, resolve};
pub use store::{DirectoryStore, Place, open_store};
pub use vault::{FileVault, RedisVault};

/// Counts an operation that a service did not do for us.
fn count_trouble(service: &'static str) {
    metrics::counter!("outflow_service_errors_total", "service" => service).increment(1);
}
