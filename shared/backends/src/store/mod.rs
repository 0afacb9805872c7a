//! The store, through `object_store`: a local directory for now.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use outflow_model::port::store::{LocalCopy, Store, Stored};
use outflow_model::port::{PortError, Result, Trouble};

/// Objects in a directory.
pub struct ObjectStore {
    inner: LocalFileSystem,
    root: PathBuf,
}

impl ObjectStore {
    /// A store in the directory `root`, which is made where it is missing.
    pub fn local(root: &Path) -> Result<Self> {
        std::fs::create_dir_all(root).map_err(|error| io(root, error))?;
        let inner =
            LocalFileSystem::new_with_prefix(root).map_err(|error| trouble(&root.display().to_string(), error))?;
        Ok(Self { inner, root: root.to_owned() })
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// Has an object made beside its place, syncs it, and moves it there.
    async fn place(&self, key: &str, make: impl FnOnce(&Path) -> std::io::Result<()> + Send + 'static) -> Result<()> {
        let to = self.path(key);
        let placed = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
            let folder = to.parent().unwrap_or(&to).to_owned();
            std::fs::create_dir_all(&folder)?;
            let beside = folder.join(format!(".{}.part", to.file_name().unwrap_or_default().to_string_lossy()));
            make(&beside)?;
            std::fs::File::open(&beside)?.sync_all()?;
            std::fs::rename(&beside, &to)?;
            std::fs::File::open(&folder)?.sync_all()
        });
        placed
            .await
            .map_err(std::io::Error::other)
            .and_then(|result| result)
            .map_err(|error| io(&self.path(key), error))
    }
}

fn io(path: &Path, error: std::io::Error) -> PortError {
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull => Trouble::Full,
        std::io::ErrorKind::NotFound => Trouble::Missing,
        _ => Trouble::Unavailable,
    };
    PortError::caused(kind, format!("Cannot use {}", path.display()), error)
}

fn trouble(key: &str, error: object_store::Error) -> PortError {
    let kind = match &error {
        object_store::Error::NotFound { .. } => Trouble::Missing,
        _ => Trouble::Unavailable,
    };
    PortError::caused(kind, format!("Cannot use the object {key}"), error)
}

#[async_trait]
impl Store for ObjectStore {
    /// Written beside its place, synced, and moved there, directory entry included.
    async fn put(&self, key: &str, path: &Path) -> Result<()> {
        let from = path.to_owned();
        self.place(key, move |beside| match std::fs::rename(&from, beside) {
            Ok(()) => Ok(()),
            Err(_) => std::fs::copy(&from, beside).map(drop),
        })
        .await
    }

    async fn write(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.place(key, move |beside| std::fs::write(beside, &bytes)).await
    }

    async fn read(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        let range = offset..offset + length;
        self.inner.get_range(&Key::from(key), range).await.map_err(|error| trouble(key, error))
    }

    async fn local(&self, key: &str) -> Result<LocalCopy> {
        let path = self.path(key);
        std::fs::metadata(&path).map_err(|error| io(&path, error))?;
        Ok(LocalCopy { path, guard: None })
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Stored>> {
        let mut found: Vec<Stored> = self
            .inner
            .list(Some(&Key::from(prefix)))
            .map_ok(|object| Stored {
                key: object.location.to_string(),
                bytes: object.size,
                modified: object.last_modified.timestamp_micros(),
            })
            .try_collect()
            .await
            .map_err(|error| trouble(prefix, error))?;
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        match self.inner.delete(&Key::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(trouble(key, error)),
        }
    }
}
