//! Who executes what, of several processes that could.

use std::sync::Arc;

use async_trait::async_trait;

use super::Result;
use super::ledger::Ledger;
use crate::limit::Micros;

/// How often a lease has changed hands.
pub type Epoch = i64;

/// Leases by name, and the ledger as their holders may write it.
///
/// 1. A lease has one holder until it lapses, on the ledger's own clock, or is released; its holder renews it by taking it
///    again.
/// 2. Its epoch grows whenever another holder takes it, and only then.
/// 3. What is written through a ledger `under` a lease is written only while that epoch is the newest: whoever lost the
///    lease without noticing gets [`super::Trouble::Conflict`]. Settling is for everybody.
/// 4. A check fails as taking a lease would, and changes nothing: where leases can be read and not written, it is an error.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Takes or renews a lease for so many microseconds; nothing where another holds it.
    async fn take(&self, name: &str, holder: &str, time: Micros) -> Result<Option<Epoch>>;
    /// Gives a lease back.
    async fn release(&self, name: &str, holder: &str) -> Result<()>;
    /// Whether leases can be taken and renewed right now.
    async fn check(&self) -> Result<()>;
    /// The ledger under a lease.
    fn under(&self, name: &str, epoch: Epoch) -> Arc<dyn Ledger>;
}
