//! One list of cases per port, which every backend must pass unchanged. The cases hold backends to the numbered
//! sentences of the port's trait. And the real services that backends need for that.

mod claims;
mod collector;
mod lease;
mod ledger;
mod limiter;
mod queue;
pub mod services;
mod store;
mod vault;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub use claims::CLAIMS;
pub use collector::{Export, collector};
pub use lease::LEASE;
pub use ledger::LEDGER;
pub use limiter::LIMITER;
pub use queue::QUEUE;
pub use store::STORE;
pub use vault::VAULT;

/// What a case comes to.
pub type Outcome = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// A case: its name and what it does with a fresh backend.
pub type Case<P> = (&'static str, fn(Arc<P>) -> Outcome);
