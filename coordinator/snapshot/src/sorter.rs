//! Sorting more records than memory holds: scattered over buckets by the top bits of their hash, sorted bucket by bucket.
//!
//! Cost per record does not grow with their number, and all buckets share one temporary file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::SnapshotError;

/// Buckets; enough that one of a hundred million records is a few megabytes.
const BUCKETS: usize = 1024;
const BUCKET_BITS: u32 = BUCKETS.trailing_zeros();
/// Bytes of a record before its payload: the hash, and the payload's length.
const HEAD: usize = 20;

/// Takes records in any order.
pub struct Sorter {
    buckets: Vec<Bucket>,
    /// A bucket that holds more than this goes to the file.
    flush_at: usize,
    file: Option<File>,
    folder: PathBuf,
    end: u64,
    records: u64,
}

#[derive(Default)]
struct Bucket {
    memory: Vec<u8>,
    /// Blocks in the file: offset and length.
    blocks: Vec<(u64, u32)>,
}

impl Sorter {
    /// A sorter that holds about `memory` bytes and spills the rest into an unnamed file in `folder`.
    pub fn new(folder: &Path, memory: usize) -> Self {
        let buckets = (0..BUCKETS).map(|_| Bucket::default()).collect();
        Self {
            buckets,
            flush_at: (memory / BUCKETS).max(1024),
            file: None,
            folder: folder.to_owned(),
            end: 0,
            records: 0,
        }
    }

    /// Adds a record.
    pub fn push(&mut self, hash: u128, payload: &[u8]) -> Result<(), SnapshotError> {
        let number = (hash >> (128 - BUCKET_BITS)) as usize;
        let Some(bucket) = self.buckets.get_mut(number) else { return Ok(()) };
        bucket.memory.extend_from_slice(&hash.to_le_bytes());
        bucket.memory.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        bucket.memory.extend_from_slice(payload);
        self.records += 1;
        if bucket.memory.len() >= self.flush_at {
            self.flush(number)?;
        }
        Ok(())
    }

    fn flush(&mut self, number: usize) -> Result<(), SnapshotError> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let opened = tempfile::tempfile_in(&self.folder);
                none.insert(opened.map_err(SnapshotError::io("make a temporary file in", &self.folder))?)
            }
        };
        let Some(bucket) = self.buckets.get_mut(number) else { return Ok(()) };
        file.write_all(&bucket.memory).map_err(SnapshotError::io("write a temporary file in", &self.folder))?;
        bucket.blocks.push((self.end, bucket.memory.len() as u32));
        self.end += bucket.memory.len() as u64;
        bucket.memory.clear();
        Ok(())
    }

    /// How many records it has taken.
    pub const fn len(&self) -> u64 {
        self.records
    }

    /// True where it has taken none.
    pub const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The records by hash, ascending; equal hashes in the order in which they were pushed.
    pub fn sort(self) -> Sorted {
        let Self { buckets, file, folder, .. } = self;
        Sorted { buckets: buckets.into_iter(), file, folder, bytes: Vec::new(), order: Vec::new(), next: 0 }
    }
}

/// Records in order.
pub struct Sorted {
    buckets: std::vec::IntoIter<Bucket>,
    file: Option<File>,
    folder: PathBuf,
    bytes: Vec<u8>,
    /// The upper half of each record's hash, and where the record begins.
    order: Vec<(u64, u32)>,
    next: usize,
}

impl Sorted {
    /// The next record: its hash and its payload.
    #[expect(clippy::should_implement_trait, reason = "it lends from its buffer, which Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<(u128, &[u8])>, SnapshotError> {
        while self.next == self.order.len() {
            let Some(bucket) = self.buckets.next() else { return Ok(None) };
            self.load(bucket)?;
        }
        let at = self.order.get(self.next).map_or(0, |(_, at)| *at as usize);
        self.next += 1;
        Ok(record(&self.bytes, at))
    }

    fn load(&mut self, bucket: Bucket) -> Result<(), SnapshotError> {
        self.bytes.clear();
        if let Some(file) = &mut self.file {
            for (offset, length) in &bucket.blocks {
                let start = self.bytes.len();
                self.bytes.resize(start + *length as usize, 0);
                let into = self.bytes.get_mut(start..).unwrap_or_default();
                let read = file.seek(SeekFrom::Start(*offset)).and_then(|_| file.read_exact(into));
                read.map_err(SnapshotError::io("read a temporary file in", &self.folder))?;
            }
        }
        self.bytes.extend_from_slice(&bucket.memory);
        self.order.clear();
        self.next = 0;
        let mut at = 0;
        while let Some((hash, payload)) = record(&self.bytes, at) {
            self.order.push(((hash >> 64) as u64, at as u32));
            at += HEAD + payload.len();
        }
        let bytes = &self.bytes;
        let lower = |at: u32| record(bytes, at as usize).map_or(0, |(hash, _)| hash as u64);
        self.order.sort_unstable_by(|a, b| {
            a.0.cmp(&b.0).then_with(|| lower(a.1).cmp(&lower(b.1))).then_with(|| a.1.cmp(&b.1))
        });
        Ok(())
    }
}

fn record(bytes: &[u8], at: usize) -> Option<(u128, &[u8])> {
    let (head, rest) = bytes.get(at..)?.split_first_chunk::<HEAD>()?;
    let (hash, length) = head.split_first_chunk::<16>()?;
    let length = u32::from_le_bytes(*length.first_chunk::<4>()?);
    Some((u128::from_le_bytes(*hash), rest.get(..length as usize)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sorted(records: &[(u128, Vec<u8>)], memory: usize) -> Result<Vec<(u128, Vec<u8>)>, SnapshotError> {
        let mut sorter = Sorter::new(&std::env::temp_dir(), memory);
        for (hash, payload) in records {
            sorter.push(*hash, payload)?;
        }
        let (mut sorted, mut out) = (sorter.sort(), Vec::new());
        while let Some((hash, payload)) = sorted.next()? {
            out.push((hash, payload.to_vec()));
        }
        Ok(out)
    }

    proptest! {
        #[test]
        fn sorts_as_memory_would(
            hashes in proptest::collection::vec(prop_oneof![any::<u128>(), 0_u128..3], 0..400),
            width in 0_usize..40,
        ) {
            let records: Vec<_> = hashes.iter().enumerate().map(|(at, hash)| (*hash, vec![at as u8; width])).collect();
            let mut expected = records.clone();
            expected.sort_by_key(|(hash, _)| *hash);
            prop_assert_eq!(sorted(&records, 1 << 20).map_err(|e| TestCaseError::fail(e.to_string()))?, expected);
        }
    }

    #[test]
    fn what_does_not_fit_goes_through_the_file() -> Result<(), SnapshotError> {
        let records: Vec<_> = (0..20_000_u128).map(|n| ((n % 4) << 126 | n, vec![7; 100])).collect();
        let mut expected = records.clone();
        expected.sort_by_key(|(hash, _)| *hash);
        assert!(sorted(&records, 0)? == expected);
        Ok(())
    }
}
