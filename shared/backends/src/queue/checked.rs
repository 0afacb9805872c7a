//! Claim check: what is too large for a broker goes to the store, and the message says where it is.
//!
//! A reference is its magic, its version, the body's length (8 bytes, the highest first) and SHA-256, and the object's key. The
//! object is deleted once the message has been acknowledged: it is not delivered again then. What is left all the same, say
//! by a process that died in between, belongs to a run that ends.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use outflow_model::port::queue::Queue;
use outflow_model::port::store::Store;
use outflow_model::port::{PortError, Result, Trouble};
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use ring::rand::{SecureRandom, SystemRandom};
use tracing::{debug, warn};

use super::layered::{Kind, Layer, Layered, Passed};
use super::rabbitmq::LARGEST;

/// Messages with more bytes go by the store. Queues are slow with large ones, and hold them in memory.
pub const CLAIM_CHECK: usize = 1 << 20;

/// What references begin with. Its first byte begins no MessagePack value, and no zstd frame.
const MAGIC: [u8; 4] = [0xc1, b'O', b'F', b'R'];
const VERSION: u8 = 1;
/// No message has more bytes: a reference that says so is none of ours.
const MOST: u64 = 1 << 30;
/// Where the bodies of messages are in the store.
const FOLDER: &str = "messages/";
/// A store that is away is tried again after so long; doubles up to the last. Then the message is left to others.
const AGAIN: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(8)];

/// `queue`, with every body of more than `most` bytes in the store. Without a store, messages go as they are, as large as a
/// broker takes them, and those that are in the store are left to others.
pub fn checked(queue: Arc<dyn Queue>, store: Option<Arc<dyn Store>>, most: usize) -> Arc<dyn Queue> {
    Arc::new(Layered::new(queue, Checks { store, most }))
}

struct Checks {
    store: Option<Arc<dyn Store>>,
    most: usize,
}

/// Where a body is.
#[derive(Debug, PartialEq, Eq)]
struct Reference {
    key: String,
    length: u64,
    digest: [u8; SHA256_OUTPUT_LEN],
}

impl Reference {
    fn to(key: String, body: &[u8]) -> Self {
        let mut sum = [0; SHA256_OUTPUT_LEN];
        sum.copy_from_slice(digest(&SHA256, body).as_ref());
        Self { key, length: body.len() as u64, digest: sum }
    }

    fn encode(&self) -> Vec<u8> {
        [&MAGIC[..], &[VERSION], &self.length.to_be_bytes(), &self.digest, self.key.as_bytes()].concat()
    }

    /// Reads a reference: its version where that is not ours, nothing where it is damaged or points elsewhere. The store
    /// holds plans and snapshots beside messages, and what a message names is deleted.
    fn decode(body: &[u8]) -> Option<std::result::Result<Self, u8>> {
        let (version, rest) = body.strip_prefix(&MAGIC)?.split_first()?;
        if *version != VERSION {
            return Some(Err(*version));
        }
        let (length, rest) = rest.split_first_chunk()?;
        let (digest, key) = rest.split_first_chunk()?;
        let (length, key) = (u64::from_be_bytes(*length), std::str::from_utf8(key).ok()?);
        let name = key.strip_prefix(FOLDER)?;
        let is_name = !name.is_empty() && !name.starts_with('.') && name.chars().all(is_plain);
        (is_name && length <= MOST).then(|| Ok(Self { key: key.to_owned(), length, digest: *digest }))
    }
}

const fn is_plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-')
}

/// A key of its own for the body of the message `id`, which begins with its run: so that is known of whose run it is.
fn key(id: &str) -> Result<String> {
    let mut random = [0; 16];
    let failed = |_| PortError::new(Trouble::Unavailable, "The system gives no random bytes");
    SystemRandom::new().fill(&mut random).map_err(failed)?;
    let run = id.split('/').next().unwrap_or_default();
    let mut key = FOLDER.to_owned();
    key.extend(run.chars().map(|letter| if letter != '.' && is_plain(letter) { letter } else { '_' }).take(100));
    key.push('.');
    for byte in random {
        _ = write!(key, "{byte:02x}");
    }
    Ok(key)
}

impl Checks {
    async fn fetch(&self, reference: &Reference) -> Passed {
        let Reference { key, length, .. } = reference;
        let Some(store) = &self.store else {
            return Passed::ForOthers(
                "It is in the store, which this process has not; it needs it in `--store`, OUTFLOW_STORE or \
                 `state.shared.store`"
                    .to_owned(),
            );
        };
        let mut pause = AGAIN[0];
        let read = loop {
            match store.read(key, 0, *length).await {
                Err(error) if error.trouble != Trouble::Missing && pause <= AGAIN[1] => {
                    warn!(key, %error, "A message waits for the store");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                read => break read,
            }
        };
        match read {
            Ok(body) if Reference::to(key.clone(), &body) == *reference => {
                Passed::Read { body, leaves: Some(key.clone()) }
            }
            Ok(_) => Passed::Unreadable(format!("The object {key} is not the one that the message names")),
            Err(error) if error.trouble == Trouble::Missing => Passed::Gone(format!(
                "The store has no {key}: the message was dealt with, or its run has ended, or this process sees another store"
            )),
            Err(error) if error.trouble == Trouble::Corrupt => Passed::Unreadable(error.to_string()),
            Err(error) => Passed::ForOthers(error.to_string()),
        }
    }
}

#[async_trait]
impl Layer for Checks {
    async fn out(&self, kind: Kind, id: &str, body: Bytes) -> Result<Bytes> {
        match &self.store {
            _ if body.len() <= self.most => Ok(body),
            Some(store) => {
                let reference = Reference::to(key(id)?, &body);
                let mut pause = AGAIN[0];
                // What a report tells is known to its sender alone: the store is waited for, however long.
                while let Err(error) = store.write(&reference.key, body.clone()).await {
                    if kind == Kind::Chunk {
                        return Err(error);
                    }
                    warn!(message = id, %error, "A report waits for the store");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(AGAIN[1]);
                }
                Ok(reference.encode().into())
            }
            None if body.len() > LARGEST => Err(PortError::new(
                Trouble::Corrupt,
                format!(
                    "{id} has {} MiB, and a queue takes {}: it needs the store that the coordinators have, in `--store` or \
                     OUTFLOW_STORE",
                    body.len() >> 20,
                    LARGEST >> 20
                ),
            )),
            None => Ok(body),
        }
    }

    async fn back(&self, _kind: Kind, _id: &str, body: Bytes) -> Passed {
        if !body.starts_with(&MAGIC) {
            return Passed::Read { body, leaves: None };
        }
        match Reference::decode(&body) {
            Some(Ok(reference)) => self.fetch(&reference).await,
            Some(Err(version)) => Passed::ForOthers(format!(
                "It is in the store by version {version}, and this Outflow reads version {VERSION}"
            )),
            None => Passed::Unreadable("Its reference to the store is damaged".to_owned()),
        }
    }

    async fn clear(&self, leaves: &str) {
        if let Some(store) = &self.store
            && let Err(error) = store.delete(leaves).await
        {
            debug!(key = leaves, %error, "A message's body stays in the store until its run has ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use outflow_model::id::Lane;
    use outflow_model::port::queue::{Outgoing, Take};

    use super::super::MemoryQueue;
    use super::*;
    use crate::DirectoryStore;

    const SHORT: Duration = Duration::from_millis(40);
    const ID: &str = "run_0000000000000000001/1#1";

    fn lane() -> Lane {
        Lane("crm".to_owned())
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

        fn over(&self, store: bool) -> Layered<Checks> {
            let checks = Checks { store: store.then(|| self.store.clone()), most: 100 };
            Layered::new(self.inner.clone(), checks).with_aside([SHORT, SHORT])
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
        let report = queue.reports().next().await?;
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
        assert!(tokio::time::timeout(SHORT, reports.next()).await.is_err());
        std::fs::remove_file(&folder)?;
        tokio::time::timeout(Duration::from_secs(5), reports.next()).await??.ack().await?;
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
        for key in
            ["plans/run_1.plan", "messages/../plans/run_1.plan", "messages/../outside", "messages/", "", "/etc/x"]
        {
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
        assert_eq!(Reference::decode(&reference.encode()), Some(Ok(reference)));
        Ok(())
    }
}
