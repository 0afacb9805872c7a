//! Cases of the store.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Result, ensure};
use outflow_model::port::Trouble;
use outflow_model::port::store::Store;

use crate::Case;

/// Every case.
pub const STORE: &[Case<dyn Store>] = &[
    ("what_is_put_is_read", |store| Box::pin(reads(store))),
    ("what_is_written_is_read", |store| Box::pin(written(store))),
    ("putting_twice_leaves_one_whole", |store| Box::pin(twice(store))),
    ("what_is_missing_is_told_and_deleting_it_succeeds", |store| Box::pin(missing(store))),
    ("a_listing_holds_what_is_below_a_prefix", |store| Box::pin(lists(store))),
];

async fn put(store: &Arc<dyn Store>, key: &str, text: &str) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(text.as_bytes())?;
    let (_file, path) = file.keep()?;
    Ok(store.put(key, &path).await?)
}

async fn reads(store: Arc<dyn Store>) -> Result<()> {
    put(&store, "plans/run_1.plan", "0123456789").await?;
    ensure!(store.read("plans/run_1.plan", 2, 3).await? == "234");
    let copy = store.local("plans/run_1.plan").await?;
    ensure!(std::fs::read_to_string(&copy.path)? == "0123456789");
    Ok(())
}

async fn written(store: Arc<dyn Store>) -> Result<()> {
    for text in ["first, and longer", "", "second"] {
        store.write("messages/run_1.a", text.into()).await?;
        ensure!(std::fs::read_to_string(&store.local("messages/run_1.a").await?.path)? == text);
    }
    ensure!(store.read("messages/run_1.a", 0, 6).await? == "second");
    ensure!(store.list("messages").await?.len() == 1, "something was left beside it");
    Ok(())
}

async fn twice(store: Arc<dyn Store>) -> Result<()> {
    put(&store, "a", "first, and longer").await?;
    put(&store, "a", "second").await?;
    let copy = store.local("a").await?;
    ensure!(std::fs::read_to_string(&copy.path)? == "second");
    Ok(())
}

async fn missing(store: Arc<dyn Store>) -> Result<()> {
    let read = store.read("none", 0, 1).await.err().map(|error| error.trouble);
    ensure!(read == Some(Trouble::Missing), "{read:?}");
    let local = store.local("none").await.err().map(|error| error.trouble);
    ensure!(local == Some(Trouble::Missing), "{local:?}");
    store.delete("none").await?;
    put(&store, "some", "x").await?;
    store.delete("some").await?;
    ensure!(store.local("some").await.is_err());
    Ok(())
}

async fn lists(store: Arc<dyn Store>) -> Result<()> {
    for key in ["snapshots/a/1", "snapshots/a/2", "snapshots/b/1", "plans/1"] {
        put(&store, key, "12345").await?;
    }
    let found = store.list("snapshots/a").await?;
    let keys: Vec<_> = found.iter().map(|stored| (stored.key.as_str(), stored.bytes)).collect();
    ensure!(keys == [("snapshots/a/1", 5), ("snapshots/a/2", 5)], "{keys:?}");
    Ok(())
}
