//! The store in a bucket, or in a part of one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path as Key;
use object_store::prefix::PrefixStore;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use outflow_model::port::store::{LocalCopy, Store, Stored};
use outflow_model::port::{PortError, Result, Trouble};

use super::client::client;
use super::place::Bucket;
use super::trouble::of_object;

/// Objects in a bucket.
pub(super) struct BucketStore {
    pub(super) objects: PrefixStore<Arc<dyn ObjectStore>>,
    pub(super) folder: PathBuf,
    name: String,
}

impl BucketStore {
    /// A store in `bucket`; local copies are kept in `folder`.
    pub(super) fn open(bucket: &Bucket, folder: &Path) -> Result<Self> {
        let opened = client(bucket).map_err(|error| {
            // No request was made: what is wrong is what was set.
            PortError { trouble: Trouble::Refused, ..of_object(&format!("Cannot use {bucket}"), &error) }
        })?;
        let objects = PrefixStore::new(opened, bucket.prefix.clone());
        Ok(Self { objects, folder: folder.to_owned(), name: bucket.to_string() })
    }

    /// What a request's error means.
    pub(super) fn failed(&self, doing: &str, key: &str) -> impl Fn(object_store::Error) -> PortError + use<> {
        let doing = format!("Cannot {doing} {}/{key}", self.name);
        move |error| of_object(&doing, &error)
    }

    /// What an object is called to a reader.
    pub(super) fn name(&self, key: &str) -> String {
        format!("{}/{key}", self.name)
    }
}

/// An object that ends before it should.
pub(super) fn short(name: &str, size: u64) -> PortError {
    PortError::new(Trouble::Corrupt, format!("{name} ends early, after {size} bytes"))
}

/// A listing, in the order of its keys.
pub(super) fn listed(found: Vec<ObjectMeta>) -> Vec<Stored> {
    let stored = |object: ObjectMeta| Stored {
        key: object.location.to_string(),
        bytes: object.size,
        modified: object.last_modified.timestamp_micros(),
    };
    let mut listing: Vec<Stored> = found.into_iter().map(stored).collect();
    listing.sort_by(|a, b| a.key.cmp(&b.key));
    listing
}

#[async_trait]
impl Store for BucketStore {
    async fn put(&self, key: &str, path: &Path) -> Result<()> {
        self.upload(key, path).await
    }

    async fn write(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.upload_bytes(key, bytes).await
    }

    async fn read(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        if length == 0 {
            // A range of nothing cannot be asked for.
            self.objects.head(&Key::from(key)).await.map_err(self.failed("read", key))?;
            return Ok(Bytes::new());
        }
        let range = offset..offset.saturating_add(length);
        let found = self.objects.get_range(&Key::from(key), range).await;
        match found {
            Ok(bytes) if bytes.len() as u64 == length => Ok(bytes),
            Ok(bytes) => Err(short(&self.name(key), offset + bytes.len() as u64)),
            Err(error) => {
                let error = self.failed("read", key)(error);
                // Beyond the end there is no range, which each vendor says in other words.
                match self.objects.head(&Key::from(key)).await {
                    Ok(object) if error.trouble != Trouble::Unavailable && object.size < offset + length => {
                        Err(short(&self.name(key), object.size))
                    }
                    _ => Err(error),
                }
            }
        }
    }

    async fn local(&self, key: &str) -> Result<LocalCopy> {
        self.download(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Stored>> {
        let found = self.objects.list(Some(&Key::from(prefix))).try_collect().await;
        found.map(listed).map_err(self.failed("list", prefix))
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let gone = self.objects.delete(&Key::from(key)).await.map_err(self.failed("delete", key));
        gone.or_else(|error| if error.trouble == Trouble::Missing { Ok(()) } else { Err(error) })
    }
}
