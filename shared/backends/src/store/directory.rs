//! The store in a directory, which several machines may share.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use outflow_model::port::store::{LocalCopy, Store, Stored};
use outflow_model::port::{PortError, Result, Trouble};

use super::bucket::{listed, short};
use super::trouble::{of_file, of_object};
use super::upload::blocking;

/// Objects in a directory.
pub struct DirectoryStore {
    inner: LocalFileSystem,
    root: PathBuf,
}

impl DirectoryStore {
    /// A store in the directory `root`, which is made where it is missing.
    pub fn open(root: &Path) -> Result<Self> {
        std::fs::create_dir_all(root).map_err(|error| of_file(root, error))?;
        let inner = LocalFileSystem::new_with_prefix(root)
            .map_err(|error| of_object(&format!("Cannot use {}", root.display()), &error))?;
        Ok(Self { inner, root: root.to_owned() })
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// A shared directory that hangs holds up nobody else.
    async fn size(&self, path: &Path) -> Result<u64> {
        let own = path.to_owned();
        blocking(path, move || Ok(std::fs::metadata(own)?.len())).await
    }
}

/// Moves a file, its contents durable before its name, and its name when this returns.
fn moved(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder_of(to))?;
    std::fs::File::open(from)?.sync_all()?;
    if std::fs::rename(from, to).is_ok() {
        return std::fs::File::open(folder_of(to))?.sync_all();
    }
    // Another file system.
    made(to, |beside| std::fs::copy(from, beside).map(drop))?;
    std::fs::remove_file(from)
}

/// Has a file made beside its place, and moves it there. Beside, its name is nobody else's, for two may put one key at once;
/// what a crash leaves of it shows in listings, and is removed with what is old.
fn made(to: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) -> std::io::Result<()> {
    let folder = folder_of(to);
    std::fs::create_dir_all(folder)?;
    let beside = tempfile::Builder::new().prefix(".").suffix(".part").tempfile_in(folder)?;
    make(beside.path())?;
    std::fs::File::open(beside.path())?.sync_all()?;
    beside.persist(to).map_err(|error| error.error)?;
    std::fs::File::open(folder)?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

#[async_trait]
impl Store for DirectoryStore {
    async fn put(&self, key: &str, path: &Path) -> Result<()> {
        let (from, to) = (path.to_owned(), self.path(key));
        blocking(&self.path(key), move || moved(&from, &to)).await
    }

    async fn write(&self, key: &str, bytes: Bytes) -> Result<()> {
        let to = self.path(key);
        blocking(&self.path(key), move || made(&to, |beside| std::fs::write(beside, &bytes))).await
    }

    async fn read(&self, key: &str, offset: u64, length: u64) -> Result<Bytes> {
        let path = self.path(key);
        let size = self.size(&path).await?;
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(short(&path.display().to_string(), size));
        }
        if length == 0 {
            return Ok(Bytes::new());
        }
        let range = offset..offset + length;
        let doing = format!("Cannot read {}", path.display());
        self.inner.get_range(&Key::from(key), range).await.map_err(|error| of_object(&doing, &error))
    }

    async fn local(&self, key: &str) -> Result<LocalCopy> {
        let path = self.path(key);
        self.size(&path).await?;
        Ok(LocalCopy { path, guard: None })
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Stored>> {
        let doing = format!("Cannot list {}", self.path(prefix).display());
        let found = self.inner.list(Some(&Key::from(prefix))).try_collect().await;
        found.map(listed).map_err(|error| of_object(&doing, &error))
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key);
        let gone = self.inner.delete(&Key::from(key)).await;
        let gone = gone.map_err(|error| of_object(&format!("Cannot delete {}", path.display()), &error));
        gone.or_else(|error: PortError| if error.trouble == Trouble::Missing { Ok(()) } else { Err(error) })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn file_of_another_file_system_arrives_whole_and_leaves_its_place() -> anyhow::Result<()> {
        let (here, there) = (tempfile::tempdir()?, tempfile::tempdir_in("/dev/shm")?);
        for (from, to) in [(here.path(), there.path()), (there.path(), here.path()), (here.path(), here.path())] {
            let (from, to) = (from.join("from"), to.join("below/to"));
            std::fs::write(&from, "whole")?;
            moved(&from, &to)?;
            assert_eq!(std::fs::read_to_string(&to)?, "whole");
            assert!(!from.exists());
        }
        Ok(())
    }
}
