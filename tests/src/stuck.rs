//! A store that deletes nothing.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use outflow_model::port::store::{LocalCopy, Store, Stored};
use outflow_model::port::{PortError, Result, Trouble};

/// A store that is away whenever something is to be deleted.
pub struct StuckStore(pub Arc<dyn Store>);

#[async_trait]
impl Store for StuckStore {
    async fn put(&self, key: &str, path: &Path) -> Result<()> {
        self.0.put(key, path).await
    }

    async fn write(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.0.write(key, bytes).await
    }

    async fn read(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        self.0.read(key, offset, length).await
    }

    async fn local(&self, key: &str) -> Result<LocalCopy> {
        self.0.local(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Stored>> {
        self.0.list(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        Err(PortError::new(Trouble::Unavailable, format!("Cannot delete {key}")))
    }
}
