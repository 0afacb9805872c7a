//! The plan file: the very records that will be sent, chunk by chunk, with the hashes and keys that the next snapshot is
//! made of. Which chunk stands where is in the ledger.
//!
//! ```text
//! magic "OFPLAN" · version u16 · frame*
//! frame: payload length u32 · index length u32 · checksum u64 (xxh3 of the rest) · payload · index (MessagePack)
//! ```

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use outflow_model::port::ledger::{Chunk, Run};
use outflow_model::wire::WireError;
use outflow_snapshot::SnapshotError;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{Engine, EngineError};

const MAGIC: &[u8; 8] = b"OFPLAN\x01\x00";
const HEAD: usize = 16;

/// What the next snapshot needs of a chunk's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Index {
    /// Sixteen bytes per row.
    #[serde(with = "serde_bytes")]
    keys: Vec<u8>,
    /// Sixteen bytes per row.
    #[serde(with = "serde_bytes")]
    rows: Vec<u8>,
    /// The keys' values, where the snapshot keeps them: where each ends, and their bytes.
    ends: Vec<u32>,
    #[serde(with = "serde_bytes")]
    values: Vec<u8>,
}

impl Index {
    pub(super) fn push(&mut self, key_hash: u128, row_hash: u128, key: Option<&[u8]>) {
        self.keys.extend_from_slice(&key_hash.to_le_bytes());
        self.rows.extend_from_slice(&row_hash.to_le_bytes());
        if let Some(key) = key {
            self.values.extend_from_slice(key);
            self.ends.push(self.values.len() as u32);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len() / 16
    }

    /// Key hash, row hash and key of a row.
    pub(super) fn get(&self, row: usize) -> Option<(u128, u128, Option<&[u8]>)> {
        let hash =
            |bytes: &[u8]| -> Option<u128> { Some(u128::from_le_bytes(*bytes.get(row * 16..)?.first_chunk::<16>()?)) };
        let start = if row == 0 { 0 } else { self.ends.get(row - 1).map_or(0, |end| *end as usize) };
        let key = self.ends.get(row).and_then(|end| self.values.get(start..*end as usize));
        Some((hash(&self.keys)?, hash(&self.rows)?, key))
    }

    /// Adds the rows of `more`.
    pub(super) fn append(&mut self, more: &Self) {
        let start = self.values.len() as u32;
        self.keys.extend_from_slice(&more.keys);
        self.rows.extend_from_slice(&more.rows);
        self.values.extend_from_slice(&more.values);
        self.ends.extend(more.ends.iter().map(|end| start + end));
    }

    /// The index of the rows in `keep`.
    pub(super) fn take(&self, keep: &[u32]) -> Self {
        let mut out = Self::default();
        for (key_hash, row_hash, key) in keep.iter().filter_map(|row| self.get(*row as usize)) {
            out.push(key_hash, row_hash, key);
        }
        out
    }
}

/// Writes a plan.
pub(super) struct PlanWriter {
    out: BufWriter<File>,
    path: PathBuf,
    at: u64,
}

impl PlanWriter {
    pub(super) fn create(path: &Path) -> Result<Self, SnapshotError> {
        let file = File::create(path).map_err(|source| trouble("create", path, source))?;
        let mut writer = Self { out: BufWriter::with_capacity(256 * 1024, file), path: path.to_owned(), at: 0 };
        writer.write(MAGIC)?;
        Ok(writer)
    }

    /// Adds a chunk; returns where it begins and how long it is.
    pub(super) fn push(&mut self, payload: &[u8], index: &Index) -> Result<(u64, u64), SnapshotError> {
        let start = self.at;
        let index = rmp_serde::to_vec_named(index)
            .map_err(|_| SnapshotError::Corrupt { path: self.path.clone(), what: "a chunk's index" })?;
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        head.extend_from_slice(&(index.len() as u32).to_le_bytes());
        head.extend_from_slice(&(xxh3_64(payload) ^ xxh3_64(&index)).to_le_bytes());
        self.write(&head)?;
        self.write(payload)?;
        self.write(&index)?;
        Ok((start, self.at - start))
    }

    pub(super) fn finish(mut self) -> Result<(), SnapshotError> {
        self.out.flush().map_err(|source| trouble("write", &self.path, source))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|source| trouble("write", &self.path, source))
    }
}

fn trouble(action: &'static str, path: &Path, source: std::io::Error) -> SnapshotError {
    SnapshotError::Io { action, path: path.to_owned(), source }
}

/// A chunk as the plan holds it.
pub(super) struct Frame {
    pub(super) payload: Bytes,
    pub(super) index: Index,
}

impl Engine {
    /// Reads a chunk of a run's plan.
    pub(super) async fn frame(&self, run: &Run, chunk: &Chunk) -> Result<Frame, EngineError> {
        let plan = run.plan.as_deref().ok_or_else(|| EngineError::Damaged(format!("{} has no plan", run.id)))?;
        let bytes = self.store.read(plan, chunk.offset, chunk.length).await?;
        let (payload, index) = read_frame(&bytes)?;
        if index.len() != chunk.rows as usize {
            let (has, number) = (index.len(), chunk.number);
            return Err(EngineError::Damaged(format!(
                "chunk {number} of {plan} has {has} records, not {}",
                chunk.rows
            )));
        }
        Ok(Frame { payload: bytes.slice_ref(payload), index })
    }
}

/// A chunk's payload and index, from its frame.
fn read_frame(frame: &[u8]) -> Result<(&[u8], Index), WireError> {
    let damaged = || WireError::Payload(std::io::Error::new(std::io::ErrorKind::InvalidData, "the plan is damaged"));
    let (head, rest) = frame.split_first_chunk::<HEAD>().ok_or_else(damaged)?;
    let [p0, p1, p2, p3, i0, i1, i2, i3, checksum @ ..] = *head;
    let payload = u32::from_le_bytes([p0, p1, p2, p3]) as usize;
    let index = u32::from_le_bytes([i0, i1, i2, i3]) as usize;
    let (payload, rest) = rest.split_at_checked(payload).ok_or_else(damaged)?;
    let index = rest.get(..index).ok_or_else(damaged)?;
    if xxh3_64(payload) ^ xxh3_64(index) != u64::from_le_bytes(checksum) {
        return Err(damaged());
    }
    Ok((payload, rmp_serde::from_slice(index)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_reads_back_and_damage_is_noticed() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("plan");
        let mut index = Index::default();
        index.push(1, 2, Some(b"a"));
        index.push(3, 4, Some(b""));
        index.push(5, 6, Some(b"bc"));
        let mut writer = PlanWriter::create(&path)?;
        let (start, length) = writer.push(b"payload", &index)?;
        writer.finish()?;
        let bytes = std::fs::read(&path)?;
        let frame = &bytes[start as usize..(start + length) as usize];
        assert_eq!(read_frame(frame)?, (&b"payload"[..], index.clone()));
        assert_eq!(index.get(2), Some((5, 6, Some(&b"bc"[..]))));
        assert_eq!(index.take(&[1]).get(0), Some((3, 4, Some(&b""[..]))));
        for at in 8..frame.len() {
            let mut bad = frame.to_vec();
            bad[at] ^= 1;
            assert!(read_frame(&bad).is_err(), "byte {at}");
        }
        Ok(())
    }
}
