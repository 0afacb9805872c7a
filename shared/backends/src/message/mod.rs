//! The form in which messages travel: encrypted as what they are under their own id, and in the store where they are large.

mod queue;
mod reference;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outflow_model::port::queue::Queue;
use outflow_model::port::store::Store;
use outflow_model::port::{PortError, Result, Trouble};
use tracing::{debug, warn};

use self::queue::EncodedQueue;
use self::reference::Reference;
use crate::queue::LARGEST;
use crate::seal::{KeyRing, OpenError};

/// Bytes of an encrypted message that a broker carries itself. Queues are slow with large ones, and hold them in memory.
pub const OFFLOAD: usize = 1 << 20;
/// First and longest pause before a store that is away is tried again.
const STORE_RETRY: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(8)];

/// Encodes messages: serialised ones are encrypted with the first key of the ring, then go to the store if they are large.
///
/// With an empty ring messages stay readable, and a message that another process encrypted is for others. With keys, a message
/// that is not encrypted cannot be read: anybody may have put it there. Without a store every message goes inline, up to what a
/// broker takes, and one that is in the store is for others.
pub struct Codec {
    keys: Arc<KeyRing>,
    store: Option<Arc<dyn Store>>,
    inline: usize,
}

/// What a message is encrypted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Chunk,
    Report,
}

/// A message that was read.
struct Decoded {
    body: Bytes,
    /// The object in the store that is of no use once the message has been acknowledged.
    stored: Option<String>,
}

/// Why a message was not read.
enum Unread {
    /// No process can read it.
    Damaged(String),
    /// Its body has gone from the store: the message was dealt with, or this process sees another store.
    Gone(String),
    /// A process that is set up differently can read it.
    ForOthers(String),
}

impl Codec {
    /// A codec with these keys and this store.
    pub const fn new(keys: Arc<KeyRing>, store: Option<Arc<dyn Store>>) -> Self {
        Self { keys, store, inline: OFFLOAD }
    }

    /// Offloads every encrypted message of more than so many bytes.
    #[must_use]
    pub fn with_inline(self, inline: usize) -> Self {
        Self { inline, ..self }
    }

    /// Applies the codec to every message that enters or leaves `queue`.
    pub fn over(self, queue: Arc<dyn Queue>) -> Arc<dyn Queue> {
        Arc::new(EncodedQueue::new(queue, self))
    }

    async fn encode(&self, kind: Kind, id: &str, body: &[u8]) -> Result<Bytes> {
        let failed = |error| PortError::caused(Trouble::Unavailable, format!("Cannot encrypt the message {id}"), error);
        let body = Bytes::from(self.keys.seal(&context(kind, id), body).map_err(failed)?);
        match &self.store {
            _ if body.len() <= self.inline => Ok(body),
            Some(store) => offload(store.as_ref(), kind, id, body).await,
            None if body.len() <= LARGEST => Ok(body),
            None => Err(PortError::new(
                Trouble::Corrupt,
                format!(
                    "{id} has {} MiB, and a queue takes {}: it needs the store that the coordinators have, in `--store` or \
                     OUTFLOW_STORE",
                    body.len() >> 20,
                    LARGEST >> 20
                ),
            )),
        }
    }

    async fn decode(&self, kind: Kind, id: &str, body: Bytes) -> std::result::Result<Decoded, Unread> {
        let (sealed, stored) = match Reference::decode(&body) {
            None => (body, None),
            Some(Ok(reference)) => (self.fetch(&reference).await?, Some(reference.key)),
            Some(Err(unread)) => return Err(unread),
        };
        match self.keys.open(&context(kind, id), &sealed) {
            Ok(body) => Ok(Decoded { body: body.into(), stored }),
            Err(error @ (OpenError::UnknownKey(_) | OpenError::Newer(_))) => Err(Unread::ForOthers(error.to_string())),
            Err(error @ (OpenError::NotSealed | OpenError::Damaged(_))) => Err(Unread::Damaged(error.to_string())),
        }
    }

    async fn fetch(&self, reference: &Reference) -> std::result::Result<Bytes, Unread> {
        let Reference { key, length, .. } = reference;
        let Some(store) = &self.store else {
            return Err(Unread::ForOthers(
                "It is in the store, which this process has not; it needs it in `--store`, OUTFLOW_STORE or \
                 `state.shared.store`"
                    .to_owned(),
            ));
        };
        let mut pause = STORE_RETRY[0];
        let read = loop {
            match store.read(key, 0, *length).await {
                Err(error) if error.trouble != Trouble::Missing && pause <= STORE_RETRY[1] => {
                    warn!(key, %error, "A message waits for the store");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                read => break read,
            }
        };
        match read {
            Ok(body) if reference.names(&body) => Ok(body),
            Ok(_) => Err(Unread::Damaged(format!("The object {key} is not the one that the message names"))),
            Err(error) if error.trouble == Trouble::Missing => Err(Unread::Gone(format!(
                "The store has no {key}: the message was dealt with, or its run has ended, or this process sees another store"
            ))),
            Err(error) if error.trouble == Trouble::Corrupt => Err(Unread::Damaged(error.to_string())),
            Err(error) => Err(Unread::ForOthers(error.to_string())),
        }
    }

    /// Deletes the body of a message that was acknowledged: the message is not delivered again.
    async fn forget(&self, key: &str) {
        if let Some(store) = &self.store
            && let Err(error) = store.delete(key).await
        {
            debug!(key, %error, "A message's body stays in the store until its run has ended");
        }
    }
}

/// Puts a body into the store, and returns the reference to it. What a report says is known to its sender alone: it waits for the
/// store, however long that is away.
async fn offload(store: &dyn Store, kind: Kind, id: &str, body: Bytes) -> Result<Bytes> {
    let reference = Reference::new(id, &body)?;
    let mut pause = STORE_RETRY[0];
    while let Err(error) = store.write(&reference.key, body.clone()).await {
        if kind == Kind::Chunk {
            return Err(error);
        }
        warn!(message = id, %error, "A report waits for the store");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(STORE_RETRY[1]);
    }
    Ok(reference.encode().into())
}

fn context(kind: Kind, id: &str) -> Vec<u8> {
    let kind = match kind {
        Kind::Chunk => "outflow.chunk.v1",
        Kind::Report => "outflow.report.v1",
    };
    format!("{kind}\0{id}").into_bytes()
}
