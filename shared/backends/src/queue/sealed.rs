//! Messages that the broker cannot read: each is sealed as what it is, a chunk or a report, under its own id.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use outflow_model::port::queue::Queue;
use outflow_model::port::{PortError, Result, Trouble};

use super::layered::{Kind, Layer, Layered, Passed};
use crate::seal::{KeyRing, OpenError};

/// `queue`, with every message sealed by the first key of the ring.
///
/// With an empty ring messages stay as they are, and those that others have sealed are left to others. With keys, a message
/// that is not sealed is dropped: anybody may have put it there.
pub fn sealed(queue: Arc<dyn Queue>, keys: Arc<KeyRing>) -> Arc<dyn Queue> {
    Arc::new(Layered::new(queue, Seals(keys)))
}

struct Seals(Arc<KeyRing>);

/// What a message is sealed as.
fn context(kind: Kind, id: &str) -> Vec<u8> {
    let kind = match kind {
        Kind::Chunk => "outflow.chunk.v1",
        Kind::Report => "outflow.report.v1",
    };
    format!("{kind}\0{id}").into_bytes()
}

#[async_trait]
impl Layer for Seals {
    async fn out(&self, kind: Kind, id: &str, body: Bytes) -> Result<Bytes> {
        if self.0.is_empty() {
            return Ok(body);
        }
        let sealed = self.0.seal(&context(kind, id), &body);
        let failed = |error| PortError::caused(Trouble::Unavailable, format!("Cannot seal the message {id}"), error);
        Ok(sealed.map_err(failed)?.into())
    }

    async fn back(&self, kind: Kind, id: &str, body: Bytes) -> Passed {
        match self.0.open(&context(kind, id), &body) {
            Ok(opened) => Passed::Read { body: opened.into(), leaves: None },
            Err(error @ (OpenError::UnknownKey(_) | OpenError::Newer(_))) => Passed::ForOthers(error.to_string()),
            Err(error @ (OpenError::NotSealed | OpenError::Damaged(_))) => Passed::Unreadable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use outflow_model::id::Lane;
    use outflow_model::port::queue::{Outgoing, Take};

    use super::super::MemoryQueue;
    use super::*;

    const TEXT: &str = "ada@example.com, 12 St James's Square";
    const SHORT: Duration = Duration::from_millis(40);

    /// A ring with the keys of these ids, one letter each.
    fn ring(ids: &str) -> anyhow::Result<Arc<KeyRing>> {
        let key = |id: char| match id {
            'a' => "a:YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=",
            _ => "b:YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI=",
        };
        let keys: Vec<_> = ids.chars().map(key).collect();
        Ok(Arc::new(if keys.is_empty() { KeyRing::default() } else { KeyRing::parse(&keys.join(","))? }))
    }

    fn over(inner: &Arc<MemoryQueue>, keys: &str) -> anyhow::Result<Layered<Seals>> {
        Ok(Layered::new(inner.clone(), Seals(ring(keys)?)).with_aside([SHORT, SHORT * 4]))
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
        let carried = [inner.consume(&lane(), 1).next(Take::Any).await?, inner.reports().next().await?];
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
        let read = tokio::time::timeout(SHORT, reports.next()).await;
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
        let told =
            tokio::time::timeout(SHORT * 40, reports.next()).await?.err().map(|error| (error.trouble, error.context));
        let (trouble, reason) = told.unwrap_or((Trouble::Corrupt, String::new()));
        assert!(trouble == Trouble::Unavailable && reason.contains("the key \"b\""), "{trouble:?} {reason}");
        // Once there is one, nothing is lost.
        over(&inner, "ba")?.reports().next().await?.ack().await?;
        sent.await??;
        Ok(())
    }
}
