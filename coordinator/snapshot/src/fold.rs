//! Folding: base snapshot and outcomes make the next snapshot.

use std::path::Path;

use crate::entry::{Entry, REFUSED_REMOVAL, hash, prefixed};
use crate::error::SnapshotError;
use crate::file::{Header, SnapshotReader, SnapshotWriter};
use crate::sorter::Sorter;

/// What a run learned of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// The destination acknowledged the row.
    Acknowledged,
    /// The destination acknowledged that the row is gone.
    Removed,
    /// The destination refused the row.
    Refused,
    /// The destination refused to remove the row.
    RemovalRefused,
    /// It may have been sent, and no final answer came.
    Doubtful,
    /// It was sent without an answer to a destination that cannot be repeated.
    Unknown,
}

impl Learned {
    const ALL: [Self; 6] =
        [Self::Acknowledged, Self::Removed, Self::Refused, Self::RemovalRefused, Self::Doubtful, Self::Unknown];
}

/// Gathers what was learned, then writes the next snapshot.
pub struct Fold {
    sorter: Sorter,
}

impl Fold {
    /// A fold that holds about `memory` bytes and spills into `folder`.
    pub fn new(folder: &Path, memory: usize) -> Self {
        Self { sorter: Sorter::new(folder, memory) }
    }

    /// Adds what was learned of a row: its hash, and its key and the destination's record id where they are kept.
    pub fn learn(
        &mut self,
        key_hash: u128,
        learned: Learned,
        row_hash: u128,
        key: Option<&[u8]>,
        record_id: Option<&str>,
    ) -> Result<(), SnapshotError> {
        self.sorter.push(key_hash, |record| {
            record.push(learned as u8);
            record.extend_from_slice(&row_hash.to_le_bytes());
            for part in [key, record_id.map(str::as_bytes)] {
                record.push(u8::from(part.is_some()));
                let part = part.unwrap_or_default();
                record.extend_from_slice(&(part.len() as u32).to_le_bytes());
                record.extend_from_slice(part);
            }
        })
    }

    /// Writes the next snapshot to `path`; returns how many entries it has.
    pub fn write(self, mut base: Option<SnapshotReader>, path: &Path, header: &Header) -> Result<u64, SnapshotError> {
        let mut writer = SnapshotWriter::create(path, header)?;
        let mut news = self.sorter.sort();
        while let Some((key_hash, payload)) = news.next()? {
            let mut known = None;
            if let Some(base) = &mut base {
                base.copy_until(Some(key_hash), &mut writer)?;
                known = base.next_if(key_hash)?;
            }
            let entry = apply(key_hash, payload, known)
                .ok_or_else(|| SnapshotError::corrupt(path, "an outcome is cut short"))?;
            if let Some(entry) = entry {
                writer.push(&entry)?;
            }
        }
        if let Some(base) = &mut base {
            base.copy_until(None, &mut writer)?;
        }
        writer.finish()
    }
}

/// The entry after what was learned; nothing where the row is gone.
fn apply(key_hash: u128, mut payload: &[u8], known: Option<Entry>) -> Option<Option<Entry>> {
    let (learned, rest) = payload.split_first()?;
    let learned = Learned::ALL.into_iter().find(|known| *known as u8 == *learned)?;
    payload = rest;
    let row_hash = hash(&mut payload)?;
    let (key, record_id) = (part(&mut payload)?, part(&mut payload)?);
    let mut entry = known.unwrap_or_else(|| Entry { key_hash, ..Entry::default() });
    if let Some(key) = key {
        entry.key = Some(key.to_vec());
    }
    if let Some(id) = record_id {
        entry.record_id = Some(String::from_utf8(id.to_vec()).ok()?);
    }
    match learned {
        Learned::Acknowledged => {
            entry.acknowledged = Some(row_hash);
            entry.refused = None;
            entry.unknown = None;
            entry.doubtful = false;
        }
        Learned::Removed => return Some(None),
        Learned::Refused => entry.refused = Some(row_hash),
        Learned::RemovalRefused => entry.refused = Some(REFUSED_REMOVAL),
        Learned::Doubtful => {
            entry.acknowledged = None;
            entry.doubtful = true;
        }
        Learned::Unknown => entry.unknown = Some(row_hash),
    }
    Some(Some(entry))
}

/// A part that may be absent, which differs from an empty one.
fn part<'a>(payload: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (present, rest) = payload.split_first()?;
    *payload = rest;
    let bytes = prefixed(payload)?;
    Some((*present == 1).then_some(bytes))
}
