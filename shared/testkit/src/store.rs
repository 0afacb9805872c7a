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
    ("two_who_put_one_key_at_once_leave_one_whole", |store| Box::pin(at_once(store))),
    ("a_large_object_is_kept_whole", |store| Box::pin(large(store))),
    ("an_empty_object_is_kept", |store| Box::pin(empty(store))),
    ("a_read_beyond_the_end_is_an_error", |store| Box::pin(beyond(store))),
    ("a_listing_holds_what_is_below_a_prefix", |store| Box::pin(lists(store))),
];

async fn put(store: &Arc<dyn Store>, key: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(bytes.as_ref())?;
    let (_file, path) = file.keep()?;
    store.put(key, &path).await?;
    ensure!(!path.exists(), "the file is still there");
    Ok(())
}

/// Bytes of which no two places are alike.
fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let word = |n: u64| (n ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    (0..=length as u64 / 8).flat_map(word).take(length).collect()
}

async fn reads(store: Arc<dyn Store>) -> Result<()> {
    put(&store, "plans/run_1.plan", "0123456789").await?;
    ensure!(store.read("plans/run_1.plan", 2, 3).await? == "234");
    let copy = store.local("plans/run_1.plan").await?;
    ensure!(std::fs::read_to_string(&copy.path)? == "0123456789");
    let path = copy.path.clone();
    let is_copy = copy.guard.is_some();
    drop(copy);
    ensure!(path.exists() != is_copy, "a copy outlives its guard, or the object does not");
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

async fn at_once(store: Arc<dyn Store>) -> Result<()> {
    let (one, other) = (pattern(3_000_000, 1), pattern(2_000_000, 2));
    let (first, second) = tokio::join!(put(&store, "plans/a", &one), put(&store, "plans/a", &other));
    first?;
    second?;
    let kept = std::fs::read(&store.local("plans/a").await?.path)?;
    ensure!(kept == one || kept == other, "what is kept is neither: {} bytes", kept.len());
    let listed = store.list("plans").await?;
    ensure!(listed.len() == 1, "{listed:?}");
    Ok(())
}

async fn large(store: Arc<dyn Store>) -> Result<()> {
    // More than a few parts, and no whole number of them.
    let bytes = pattern(50_000_001, 3);
    put(&store, "snapshots/a/1", &bytes).await?;
    let listed = store.list("snapshots").await?;
    ensure!(listed.iter().all(|stored| stored.bytes == bytes.len() as u64) && listed.len() == 1, "{listed:?}");
    let copy = store.local("snapshots/a/1").await?;
    ensure!(std::fs::read(&copy.path)? == bytes);
    let part = store.read("snapshots/a/1", 8_388_600, 20_000_000).await?;
    ensure!(part == bytes[8_388_600..28_388_600]);
    ensure!(store.read("snapshots/a/1", 50_000_000, 1).await? == bytes[50_000_000..]);
    Ok(())
}

async fn empty(store: Arc<dyn Store>) -> Result<()> {
    put(&store, "a", "").await?;
    ensure!(std::fs::read(&store.local("a").await?.path)?.is_empty());
    ensure!(store.read("a", 0, 0).await?.is_empty());
    Ok(())
}

async fn beyond(store: Arc<dyn Store>) -> Result<()> {
    put(&store, "a", "0123456789").await?;
    for (offset, length) in [(5, 6), (10, 1), (20, 5), (0, 11)] {
        let read = store.read("a", offset, length).await.err().map(|error| error.trouble);
        ensure!(read == Some(Trouble::Corrupt), "{offset} {length}: {read:?}");
    }
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
