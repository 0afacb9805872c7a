//! References to bodies in the store: magic, version, the body's length (8 bytes, the highest first) and SHA-256, the object's key.
//!
//! The object is deleted once the message has been acknowledged. What stays, say after a crash in between, goes with its run.

use std::fmt::Write;

use outflow_model::port::{PortError, Result, Trouble};
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use ring::rand::{SecureRandom, SystemRandom};

use super::Unread;

/// What references begin with. Its first byte begins no MessagePack value, and no zstd frame.
const MAGIC: [u8; 4] = [0xc1, b'O', b'F', b'R'];
const VERSION: u8 = 1;
/// Bytes of the largest body that a reference may name.
const LARGEST_BODY: u64 = 1 << 30;
/// Where the bodies of messages are in the store.
const FOLDER: &str = "messages/";

/// Where a body is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) key: String,
    pub(super) length: u64,
    digest: [u8; SHA256_OUTPUT_LEN],
}

impl Reference {
    /// A reference to the body of the message `id` under a key of its own, which begins with the message's run.
    pub(super) fn new(id: &str, body: &[u8]) -> Result<Self> {
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
        Ok(Self::to(key, body))
    }

    pub(super) fn to(key: String, body: &[u8]) -> Self {
        Self { key, length: body.len() as u64, digest: sum(body) }
    }

    /// True if `body` is the one that was put into the store.
    pub(super) fn names(&self, body: &[u8]) -> bool {
        self.length == body.len() as u64 && self.digest == sum(body)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        [&MAGIC[..], &[VERSION], &self.length.to_be_bytes(), &self.digest, self.key.as_bytes()].concat()
    }

    /// Reads the reference in a message that has one. One that points elsewhere is damaged: the store holds plans and snapshots
    /// beside messages, and what a message names is deleted.
    pub(super) fn decode(message: &[u8]) -> Option<std::result::Result<Self, Unread>> {
        let rest = message.strip_prefix(&MAGIC)?;
        Some(match rest.split_first() {
            Some((&VERSION, rest)) => parse(rest).ok_or_else(damaged),
            Some((version, _)) => Err(Unread::ForOthers(format!(
                "It is in the store by version {version}, and this Outflow reads version {VERSION}"
            ))),
            None => Err(damaged()),
        })
    }
}

fn parse(rest: &[u8]) -> Option<Reference> {
    let (length, rest) = rest.split_first_chunk()?;
    let (digest, key) = rest.split_first_chunk()?;
    let (length, key) = (u64::from_be_bytes(*length), std::str::from_utf8(key).ok()?);
    let name = key.strip_prefix(FOLDER)?;
    let is_name = !name.is_empty() && !name.starts_with('.') && name.chars().all(is_plain);
    (is_name && length <= LARGEST_BODY).then(|| Reference { key: key.to_owned(), length, digest: *digest })
}

fn damaged() -> Unread {
    Unread::Damaged("Its reference to the store is damaged".to_owned())
}

fn sum(body: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut sum = [0; SHA256_OUTPUT_LEN];
    sum.copy_from_slice(digest(&SHA256, body).as_ref());
    sum
}

const fn is_plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-')
}
