//! Messages over a queue in memory: who can read them, and where their bodies are.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outflow_model::id::Lane;
use outflow_model::port::Trouble;
use outflow_model::port::queue::{Outgoing, Queue, Take};
use outflow_model::port::store::Store;

use super::Codec;
use super::queue::EncodedQueue;
use super::reference::Reference;
use crate::DirectoryStore;
use crate::queue::{LARGEST, MemoryQueue};
use crate::seal::KeyRing;

const TEXT: &str = "ada@example.com, 12 St James's Square";
const SHORT: Duration = Duration::from_millis(40);
const ID: &str = "run_0000000000000000001/1#1";

/// A ring with the keys of these ids, one letter each.
fn ring(ids: &str) -> anyhow::Result<Arc<KeyRing>> {
    let key = |id: char| match id {
        'a' => "a:YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=",
        _ => "b:YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI=",
    };
    let keys: Vec<_> = ids.chars().map(key).collect();
    Ok(Arc::new(if keys.is_empty() { KeyRing::default() } else { KeyRing::parse(&keys.join(","))? }))
}

fn over(inner: &Arc<MemoryQueue>, keys: &str) -> anyhow::Result<EncodedQueue> {
    Ok(EncodedQueue::new(inner.clone(), Codec::new(ring(keys)?, None)).with_aside([SHORT, SHORT * 4]))
}

fn lane() -> Lane {
    Lane("crm".to_owned())
}

#[tokio::test]
async fn nothing_of_a_message_is_seen_within() -> anyhow::Result<()> {
    let inner = Arc::new(MemoryQueue::default());
    let queue = Arc::new(over(&inner, "a")?);
    queue.publish(&lane(), false, Outgoing::new("run_1/1#1", TEXT)).await?;
    let reporting = queue.clone();
    tokio::spawn(async move { reporting.report(Outgoing::new("run_1/1#1", TEXT)).await });
    let carried = [inner.consume(&lane(), 1).next(Take::Any).await?, inner.reports().next(Take::Any).await?];
    for delivery in &carried {
        // Not a word of it, as it is or in part.
        for part in TEXT.as_bytes().windows(4) {
            assert!(!delivery.body.windows(4).any(|window| window == part));
        }
    }
    assert_ne!(carried[0].body, carried[1].body);
    Ok(())
}

#[tokio::test]
async fn a_message_that_is_moved_changed_or_plain_is_dropped_and_the_next_one_comes() -> anyhow::Result<()> {
    let inner = Arc::new(MemoryQueue::default());
    let queue = over(&inner, "a")?;
    queue.publish(&lane(), false, Outgoing::new("run_1/1#1", TEXT)).await?;
    let stolen = inner.consume(&lane(), 1).next(Take::Any).await?.body.clone();
    let waiting = inner.consume(&lane(), 1);
    waiting.next(Take::Any).await?.ack().await?;
    let mut changed = stolen.to_vec();
    changed[20] ^= 1;
    for (id, body) in [("run_1/1#2", stolen.clone()), ("run_1/1#1", changed.into()), ("run_1/1#1", TEXT.into())] {
        inner.publish(&lane(), false, Outgoing::new(id, body)).await?;
    }
    inner.publish(&lane(), false, Outgoing::new("run_1/1#1", stolen)).await?;
    let delivery = queue.consume(&lane(), 1).next(Take::Any).await?;
    assert_eq!((delivery.id.as_str(), &delivery.body[..]), ("run_1/1#1", TEXT.as_bytes()));
    assert_eq!(inner.waiting(&lane()).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_chunk_is_no_report() -> anyhow::Result<()> {
    let inner = Arc::new(MemoryQueue::default());
    let queue = over(&inner, "a")?;
    queue.publish(&lane(), false, Outgoing::new("run_1/1#1", TEXT)).await?;
    let body = inner.consume(&lane(), 1).next(Take::Any).await?.body.clone();
    let sent = tokio::spawn(async move { inner.report(Outgoing::new("run_1/1#1", body)).await });
    let reports = queue.reports();
    let read = tokio::time::timeout(SHORT, reports.next(Take::Any)).await;
    assert!(read.is_err(), "it was read as a report");
    // Dropped: its sender is not kept waiting.
    sent.await??;
    Ok(())
}

#[tokio::test]
async fn who_lacks_the_key_leaves_messages_to_others_and_none_is_lost() -> anyhow::Result<()> {
    let inner = Arc::new(MemoryQueue::default());
    let (sender, old, none) = (over(&inner, "ba")?, over(&inner, "a")?, over(&inner, "")?);
    let (old, none) = (old.consume(&lane(), 4), none.consume(&lane(), 4));
    for number in 0..20 {
        sender.publish(&lane(), false, Outgoing::new(format!("run_1/{number}#1"), TEXT)).await?;
    }
    for lacking in [&old, &none] {
        assert!(tokio::time::timeout(SHORT * 6, lacking.next(Take::Any)).await.is_err());
    }
    assert_eq!(inner.waiting(&lane()).await?, 20);
    let knows = sender.consume(&lane(), 4);
    let mut most = 0;
    for _ in 0..20 {
        let delivery = knows.next(Take::Any).await?;
        most = most.max(delivery.redelivered);
        delivery.ack().await?;
    }
    // It pauses between looks, for longer and longer: 40, 80, 160 ms.
    assert!((1..=8).contains(&most), "handed back {most} times");
    Ok(())
}

#[tokio::test]
async fn a_reader_goes_on_when_what_it_lacks_the_key_for_is_gone() -> anyhow::Result<()> {
    let inner = Arc::new(MemoryQueue::default());
    let (b, a) = (over(&inner, "ba")?, over(&inner, "a")?);
    b.publish(&lane(), false, Outgoing::new("run_1/1#1", TEXT)).await?;
    let consumer = a.consume(&lane(), 1);
    assert!(tokio::time::timeout(SHORT / 2, consumer.next(Take::Any)).await.is_err());
    b.consume(&lane(), 1).next(Take::Any).await?.ack().await?;
    a.publish(&lane(), false, Outgoing::new("run_1/2#1", TEXT)).await?;
    let delivery = tokio::time::timeout(SHORT * 20, consumer.next(Take::Any)).await??;
    assert_eq!(delivery.id, "run_1/2#1");
    Ok(())
}

#[tokio::test]
async fn reports_that_no_coordinator_can_open_are_trouble_that_is_waited_for() -> anyhow::Result<()> {
    let inner = Arc::new(MemoryQueue::default());
    let (worker, coordinator) = (over(&inner, "ba")?, over(&inner, "a")?);
    let sent = tokio::spawn(async move { worker.report(Outgoing::new("run_1/1#1", TEXT)).await });
    let reports = coordinator.reports();
    let told = tokio::time::timeout(SHORT * 40, reports.next(Take::Any))
        .await?
        .err()
        .map(|error| (error.trouble, error.context));
    let (trouble, reason) = told.unwrap_or((Trouble::Corrupt, String::new()));
    assert!(trouble == Trouble::Unavailable && reason.contains("the key \"b\""), "{trouble:?} {reason}");
    // Once there is one, nothing is lost.
    over(&inner, "ba")?.reports().next(Take::Any).await?.ack().await?;
    sent.await??;
    Ok(())
}

struct Place {
    folder: tempfile::TempDir,
    inner: Arc<MemoryQueue>,
    store: Arc<dyn Store>,
}

impl Place {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let store = Arc::new(DirectoryStore::open(folder.path())?);
        Ok(Self { folder, inner: Arc::default(), store })
    }

    fn over(&self, store: bool) -> EncodedQueue {
        let codec = Codec::new(Arc::default(), store.then(|| self.store.clone())).with_inline(100);
        EncodedQueue::new(self.inner.clone(), codec).with_aside([SHORT, SHORT])
    }

    async fn objects(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.store.list("messages").await?.into_iter().map(|stored| stored.key).collect())
    }

    /// What the queue within carries next.
    async fn carried(&self) -> anyhow::Result<Bytes> {
        Ok(self.inner.consume(&lane(), 1).next(Take::Any).await?.body.clone())
    }
}

#[tokio::test]
async fn a_large_message_goes_by_the_store_until_it_is_acknowledged() -> anyhow::Result<()> {
    let place = Place::new()?;
    let queue = place.over(true);
    let consumer = queue.consume(&lane(), 4);
    for (size, stored) in [(100, 0), (101, 1), (3_000_000, 1)] {
        let body = vec![b'x'; size];
        queue.publish(&lane(), false, Outgoing::new(ID, body.clone())).await?;
        let (carried, objects) = (place.carried().await?, place.objects().await?);
        assert!(carried.len() <= 200 && objects.len() == stored, "{} bytes, {objects:?}", carried.len());
        assert!(objects.iter().all(|key| key.starts_with("messages/run_0000000000000000001.")), "{objects:?}");
        // Handed back, and taken again.
        assert_eq!(consumer.next(Take::Any).await?.body, body);
        let again = consumer.next(Take::Any).await?;
        assert_eq!(again.body, body);
        assert_eq!(place.objects().await?.len(), stored);
        again.ack().await?;
        assert_eq!(place.objects().await?.len(), 0);
    }
    Ok(())
}

#[tokio::test]
async fn a_large_report_goes_by_the_store_too() -> anyhow::Result<()> {
    let place = Place::new()?;
    let queue = Arc::new(place.over(true));
    let reporting = queue.clone();
    let sent = tokio::spawn(async move { reporting.report(Outgoing::new(ID, vec![1; 500])).await });
    let report = queue.reports().next(Take::Any).await?;
    assert!(report.body == vec![1; 500] && place.objects().await?.len() == 1);
    report.ack().await?;
    sent.await??;
    assert!(place.objects().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_report_waits_for_the_store_and_a_chunk_does_not() -> anyhow::Result<()> {
    let place = Place::new()?;
    let queue = Arc::new(place.over(true));
    // A file in the folder's place.
    let folder = place.folder.path().join("messages");
    std::fs::write(&folder, "")?;
    assert!(queue.publish(&lane(), false, Outgoing::new(ID, vec![1; 500])).await.is_err());
    let reporting = queue.clone();
    let sent = tokio::spawn(async move { reporting.report(Outgoing::new(ID, vec![1; 500])).await });
    let reports = queue.reports();
    assert!(tokio::time::timeout(SHORT, reports.next(Take::Any)).await.is_err());
    std::fs::remove_file(&folder)?;
    tokio::time::timeout(Duration::from_secs(5), reports.next(Take::Any)).await??.ack().await?;
    sent.await??;
    Ok(())
}

#[tokio::test]
async fn two_messages_of_one_id_have_two_objects() -> anyhow::Result<()> {
    let place = Place::new()?;
    let queue = place.over(true);
    for byte in [1, 2] {
        queue.publish(&lane(), false, Outgoing::new(ID, vec![byte; 500])).await?;
    }
    let consumer = queue.consume(&lane(), 4);
    for byte in [1, 2] {
        let delivery = consumer.next(Take::Any).await?;
        assert_eq!(delivery.body, vec![byte; 500]);
        delivery.ack().await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_missing_or_changed_in_the_store_is_dropped_and_the_next_one_comes() -> anyhow::Result<()> {
    let place = Place::new()?;
    let queue = place.over(true);
    for _ in 0..3 {
        queue.publish(&lane(), false, Outgoing::new(ID, vec![7; 500])).await?;
    }
    let objects = place.objects().await?;
    place.store.delete(&objects[0]).await?;
    place.store.write(&objects[1], vec![8; 500].into()).await?;
    let consumer = queue.consume(&lane(), 4);
    let delivery = consumer.next(Take::Any).await?;
    assert_eq!(delivery.body, vec![7; 500]);
    delivery.ack().await?;
    // What is missing is left to others once: they may see another store.
    while place.inner.waiting(&lane()).await? > 0 {
        assert!(tokio::time::timeout(SHORT, consumer.next(Take::Any)).await.is_err());
    }
    Ok(())
}

#[tokio::test]
async fn a_reference_to_anything_else_is_dropped_and_touches_nothing() -> anyhow::Result<()> {
    let place = Place::new()?;
    place.store.write("plans/run_1.plan", "a plan".into()).await?;
    std::fs::write(place.folder.path().join("outside"), "x")?;
    for key in ["plans/run_1.plan", "messages/../plans/run_1.plan", "messages/../outside", "messages/", "", "/etc/x"] {
        let reference = Reference::to(key.to_owned(), b"a plan").encode();
        place.inner.publish(&lane(), false, Outgoing::new(ID, reference)).await?;
    }
    let cut = Reference::to("messages/a".to_owned(), b"x").encode()[..20].to_vec();
    place.inner.publish(&lane(), false, Outgoing::new(ID, cut)).await?;
    let consumer = place.over(true).consume(&lane(), 4);
    assert!(tokio::time::timeout(SHORT * 5, consumer.next(Take::Any)).await.is_err());
    assert_eq!(place.inner.waiting(&lane()).await?, 0);
    assert!(place.store.local("plans/run_1.plan").await.is_ok());
    Ok(())
}

#[tokio::test]
async fn without_a_store_what_is_there_is_left_to_others_and_what_is_too_large_refused() -> anyhow::Result<()> {
    let place = Place::new()?;
    let (with, without) = (place.over(true), place.over(false));
    with.publish(&lane(), false, Outgoing::new(ID, vec![7; 500])).await?;
    let lacking = without.consume(&lane(), 4);
    assert!(tokio::time::timeout(SHORT * 3, lacking.next(Take::Any)).await.is_err());
    drop(lacking);
    assert_eq!(with.consume(&lane(), 4).next(Take::Any).await?.body, vec![7; 500]);
    without.publish(&lane(), false, Outgoing::new(ID, vec![7; LARGEST])).await?;
    let refused = without.report(Outgoing::new(ID, vec![7; LARGEST + 1])).await.err();
    assert!(refused.is_some_and(|error| error.to_string().contains("`--store`")));
    Ok(())
}

/// A change here is a change of contract: it needs a new version and a reader for the old one.
#[test]
fn the_bytes_of_a_reference_are_the_golden_ones() -> anyhow::Result<()> {
    let reference = Reference::to("messages/run_1.00ff".to_owned(), b"a body");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/reference_v1.bin");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, reference.encode())?;
    }
    assert!(std::fs::read(&path)? == reference.encode(), "differs from {}", path.display());
    assert!(matches!(Reference::decode(&reference.encode()), Some(Ok(decoded)) if decoded == reference));
    Ok(())
}
