//! The backends of the engine's ports: the only place that knows which queue, store, limiter or database is in use.

mod clock;
mod ledger;
mod limiter;
mod lock;
mod queue;
mod secrets;
mod store;
mod vault;

pub use clock::SystemClock;
pub use ledger::{PostgresLedger, SqliteLedger};
pub use limiter::{MemoryLimiter, RedisLimiter};
pub use lock::StateLock;
pub use queue::{MemoryQueue, RabbitQueue};
pub use secrets::resolve;
pub use store::{DirectoryStore, Place, open_store};
pub use vault::FileVault;
