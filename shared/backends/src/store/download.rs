//! An object becomes a local file, range by range. All of them are of one object: one that is put anew meanwhile is a conflict.

use std::io::Write;
use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt};
use outflow_model::port::Result;
use outflow_model::port::store::LocalCopy;

use super::bucket::{BucketStore, short};
use super::upload::{AT_ONCE, PART, blocking};

impl BucketStore {
    /// A copy of an object, which lasts as long as its guard.
    pub(super) async fn download(&self, key: &str) -> Result<LocalCopy> {
        let object = self.objects.head(&Key::from(key)).await.map_err(self.failed("read", key))?;
        let folder = self.folder.clone();
        let made = blocking(&self.folder, move || {
            std::fs::create_dir_all(&folder)?;
            tempfile::Builder::new().prefix("copy-").tempfile_in(folder)
        });
        let mut copy = made.await?;
        let ends = (0..object.size).step_by(PART as usize).map(|start| start..object.size.min(start + PART));
        let parts = futures::stream::iter(ends).map(|range| self.part(key, range, object.e_tag.clone()));
        let mut parts = std::pin::pin!(parts.buffered(AT_ONCE));
        while let Some(part) = parts.try_next().await? {
            copy = blocking(&self.folder, move || copy.write_all(&part).map(|()| copy)).await?;
        }
        let guard = copy.into_temp_path();
        Ok(LocalCopy { path: guard.to_path_buf(), guard: Some(Box::new(guard)) })
    }

    async fn part(&self, key: &str, range: Range<u64>, e_tag: Option<String>) -> Result<Bytes> {
        let (start, length) = (range.start, range.end - range.start);
        let options = GetOptions { range: Some(range.into()), if_match: e_tag, ..GetOptions::default() };
        let found = self.objects.get_opts(&Key::from(key), options).await.map_err(self.failed("read", key))?;
        let bytes = found.bytes().await.map_err(self.failed("read", key))?;
        if bytes.len() as u64 == length { Ok(bytes) } else { Err(short(&self.name(key), start + bytes.len() as u64)) }
    }
}
