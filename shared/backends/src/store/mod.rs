//! The store: in a directory, or in a bucket of an object store.

mod bucket;
mod client;
mod directory;
mod download;
mod place;
mod trouble;
mod upload;

use std::path::Path;
use std::sync::Arc;

use outflow_model::port::Result;
use outflow_model::port::store::Store;

pub use directory::DirectoryStore;
pub use place::Place;

use bucket::BucketStore;

/// Opens the store at `place`; local copies of what is far away are kept in `folder`. Nothing is asked of a bucket yet.
pub fn open_store(place: &Place, folder: &Path) -> Result<Arc<dyn Store>> {
    Ok(match place {
        Place::Directory(path) => Arc::new(DirectoryStore::open(path)?),
        Place::Bucket(bucket) => Arc::new(BucketStore::open(bucket, folder)?),
    })
}
