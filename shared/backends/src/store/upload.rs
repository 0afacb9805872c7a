//! A file becomes an object, part by part. Nobody sees a part: the object is there when all of them are.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path as Key;
use object_store::{MultipartUpload, ObjectStoreExt, PutResult};
use outflow_model::port::{PortError, Result, Trouble};
use tokio::task::JoinSet;

use super::bucket::{BucketStore, short};
use super::trouble::of_file;

/// Bytes of a part, of which so many are in memory at once.
pub(super) const PART: u64 = 8 * 1024 * 1024;
pub(super) const AT_ONCE: usize = 4;
/// The vendors allow 10,000 parts, all but the last of one size.
const PARTS: u64 = 9_000;

impl BucketStore {
    /// Stores the file at `path` and removes it.
    pub(super) async fn upload(&self, key: &str, path: &Path) -> Result<()> {
        let own = path.to_owned();
        let opened = blocking(path, move || {
            let file = File::open(own)?;
            let size = file.metadata()?.len();
            Ok((Arc::new(file), size))
        });
        let (file, size) = opened.await?;
        let source = Source { file, path };
        if size <= PART {
            self.upload_bytes(key, source.read(0, size).await?).await?;
        } else {
            let put = self.upload_parts(key, &source, size).await?;
            self.is_whole(key, &put, size).await?;
        }
        let own = path.to_owned();
        blocking(path, move || std::fs::remove_file(own)).await
    }

    /// Stores `bytes` in one request.
    pub(super) async fn upload_bytes(&self, key: &str, bytes: Bytes) -> Result<()> {
        let size = bytes.len() as u64;
        let put = self.objects.put(&Key::from(key), bytes.into()).await.map_err(self.refused(key))?;
        self.is_whole(key, &put, size).await
    }

    async fn is_whole(&self, key: &str, put: &PutResult, size: u64) -> Result<()> {
        let stored = self.objects.head(&Key::from(key)).await.map_err(self.failed("write", key))?;
        // One with another tag is whole as well: somebody has put the key since.
        let is_ours = put.e_tag.is_none() || put.e_tag == stored.e_tag;
        if is_ours && stored.size != size {
            return Err(short(&self.name(key), stored.size));
        }
        Ok(())
    }

    async fn upload_parts(&self, key: &str, source: &Source<'_>, size: u64) -> Result<PutResult> {
        let mut upload = self.objects.put_multipart(&Key::from(key)).await.map_err(self.refused(key))?;
        let put = self.put_parts(key, upload.as_mut(), source, size).await;
        if put.is_err() {
            // Its parts cost money; where this fails too, a rule of the bucket removes them.
            _ = upload.abort().await;
        }
        put
    }

    async fn put_parts(
        &self,
        key: &str,
        upload: &mut dyn MultipartUpload,
        source: &Source<'_>,
        size: u64,
    ) -> Result<PutResult> {
        let length = PART.max(size.div_ceil(PARTS));
        let mut under_way = JoinSet::new();
        let mut offset = 0;
        while offset < size || !under_way.is_empty() {
            if offset < size && under_way.len() < AT_ONCE {
                let part = source.read(offset, length.min(size - offset)).await?;
                offset += part.len() as u64;
                under_way.spawn(upload.put_part(part.into()));
            } else if let Some(ended) = under_way.join_next().await {
                ended.map_err(object_store::Error::from).and_then(|put| put).map_err(self.refused(key))?;
            }
        }
        upload.complete().await.map_err(self.refused(key))
    }

    /// What an error of writing means. What is missing then is not the object but an upload that somebody has ended.
    fn refused(&self, key: &str) -> impl Fn(object_store::Error) -> PortError + use<> {
        let failed = self.failed("write", key);
        move |error| match failed(error) {
            PortError { trouble: Trouble::Missing | Trouble::Conflict, context, source } => {
                PortError { trouble: Trouble::Unavailable, context, source }
            }
            error => error,
        }
    }
}

/// The file that is stored.
struct Source<'a> {
    file: Arc<File>,
    path: &'a Path,
}

impl Source<'_> {
    /// Bytes of it; a file that has become shorter is an error.
    async fn read(&self, offset: u64, length: u64) -> Result<Bytes> {
        let file = self.file.clone();
        let read = move || {
            let mut part = vec![0; length as usize];
            file.read_exact_at(&mut part, offset)?;
            Ok(Bytes::from(part))
        };
        blocking(self.path, read).await
    }
}

/// Work on the file at `path` that keeps its thread.
pub(super) async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other).and_then(|done| done);
    done.map_err(|error| of_file(path, error))
}
