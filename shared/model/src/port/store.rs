//! Large immutable objects: plans, snapshots, exports.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;

use super::Result;
use crate::limit::Micros;

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was written.
    pub modified: Micros,
}

/// A local copy of an object, removed when dropped where it is a copy.
pub struct LocalCopy {
    /// Where it is.
    pub path: PathBuf,
    /// Keeps a temporary copy alive.
    pub guard: Option<Box<dyn Send + Sync>>,
}

/// Objects by key. Keys are relative paths of letters, digits, `.`, `_`, `-` and `/`.
///
/// 1. `put` and `write` return when the object is durable and whole: a reader sees all of it or nothing.
/// 2. An object is never changed; putting one key twice leaves one of the two whole.
/// 3. `delete` of what is not there succeeds.
/// 4. Reading what is not there is [`super::Trouble::Missing`].
/// 5. What is read is as long as it was asked for, and a copy as long as its object; one that ends before is
///    [`super::Trouble::Corrupt`].
#[async_trait]
pub trait Store: Send + Sync {
    /// Stores the file at `path` under `key`. The file is the store's from then on: once it is stored it is gone.
    async fn put(&self, key: &str, path: &Path) -> Result<()>;
    /// Stores `bytes` under `key`.
    async fn write(&self, key: &str, bytes: Bytes) -> Result<()>;
    /// Reads `length` bytes from `offset`.
    async fn read(&self, key: &str, offset: u64, length: u64) -> Result<Bytes>;
    /// Makes the object readable as a local file.
    async fn local(&self, key: &str) -> Result<LocalCopy>;
    /// Objects whose key begins with `prefix`, a whole path segment.
    async fn list(&self, prefix: &str) -> Result<Vec<Stored>>;
    /// Removes an object.
    async fn delete(&self, key: &str) -> Result<()>;
}
