//! Sorting more records than memory holds: scattered over buckets by the top bits of their hash, sorted bucket by bucket.
//!
//! Cost per record does not grow with their number, and all buckets share one temporary file. What is slow in sorting this
//! much is the wait for memory, so records are gathered where it is near: before they go to their bucket, and again, once
//! their order is known, before they are handed out.

use std::path::{Path, PathBuf};

use crate::error::SnapshotError;
use crate::spill::{Block, Spill};

/// Buckets; enough that one of a hundred million records is a few megabytes.
const BUCKETS: usize = 1024;
const BUCKET_BITS: u32 = BUCKETS.trailing_zeros();
/// Bytes gathered before they go to their bucket: for all buckets together, less than a core's own cache holds.
const GATHERED: usize = 512;
/// Sorted records gathered before the first of them is handed out.
const AHEAD: usize = 64;
/// In place of a length that one byte cannot hold: four bytes of it follow.
const LONG: u8 = u8::MAX;

/// Takes records in any order.
pub struct Sorter {
    buckets: Vec<Bucket>,
    /// A bucket that holds more than this goes to the file.
    flush_at: usize,
    spill: Option<Spill>,
    folder: PathBuf,
    records: u64,
}

#[derive(Default)]
struct Bucket {
    gathered: Vec<u8>,
    memory: Vec<u8>,
    spilled: Vec<Block>,
}

impl Bucket {
    fn settle(&mut self) {
        self.memory.extend_from_slice(&self.gathered);
        self.gathered.clear();
    }
}

impl Sorter {
    /// A sorter that holds about `memory` bytes and spills the rest into an unnamed file in `folder`.
    pub fn new(folder: &Path, memory: usize) -> Self {
        let gathered = || Vec::with_capacity(2 * GATHERED);
        Self {
            buckets: (0..BUCKETS).map(|_| Bucket { gathered: gathered(), ..Bucket::default() }).collect(),
            flush_at: (memory / BUCKETS).max(1024),
            spill: None,
            folder: folder.to_owned(),
            records: 0,
        }
    }

    /// Adds a record, whose payload `write` appends.
    #[inline]
    pub fn push(&mut self, hash: u128, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), SnapshotError> {
        let number = (hash >> (128 - BUCKET_BITS)) as usize;
        let Some(bucket) = self.buckets.get_mut(number) else { return Ok(()) };
        append(&mut bucket.gathered, hash, write);
        self.records += 1;
        if bucket.gathered.len() < GATHERED { Ok(()) } else { self.settle(number) }
    }

    fn settle(&mut self, number: usize) -> Result<(), SnapshotError> {
        let Some(bucket) = self.buckets.get_mut(number) else { return Ok(()) };
        bucket.settle();
        if bucket.memory.len() < self.flush_at { Ok(()) } else { self.flush(number) }
    }

    fn flush(&mut self, number: usize) -> Result<(), SnapshotError> {
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => none.insert(Spill::create(&self.folder)?),
        };
        let Some(bucket) = self.buckets.get_mut(number) else { return Ok(()) };
        bucket.spilled.push(spill.write(&bucket.memory)?);
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
        let Self { buckets, spill, .. } = self;
        Sorted {
            buckets: buckets.into_iter(),
            spill,
            bytes: Vec::new(),
            order: Vec::new(),
            next: 0,
            ahead: Vec::new(),
            at: 0,
        }
    }
}

/// Records in order.
pub struct Sorted {
    buckets: std::vec::IntoIter<Bucket>,
    spill: Option<Spill>,
    /// The records of one bucket, as they were pushed.
    bytes: Vec<u8>,
    /// Of each of them [`place`]; sorted.
    order: Vec<u64>,
    next: usize,
    /// The next records, one after the other.
    ahead: Vec<u8>,
    at: usize,
}

impl Sorted {
    /// The next record: its hash and its payload.
    #[expect(clippy::should_implement_trait, reason = "it lends from its buffer, which Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<(u128, &[u8])>, SnapshotError> {
        if self.at == self.ahead.len() {
            while self.next == self.order.len() {
                let Some(bucket) = self.buckets.next() else { return Ok(None) };
                self.load(bucket)?;
            }
            self.gather();
        }
        let Some(Record { hash, payload, length }) = record(&self.ahead, self.at) else { return Ok(None) };
        self.at += length;
        Ok(Some((hash, payload)))
    }

    fn gather(&mut self) {
        self.ahead.clear();
        self.at = 0;
        for place in self.order.iter().skip(self.next).take(AHEAD) {
            let at = *place as u32 as usize;
            let length = record(&self.bytes, at).map_or(0, |record| record.length);
            self.ahead.extend_from_slice(self.bytes.get(at..at + length).unwrap_or_default());
            self.next += 1;
        }
    }

    fn load(&mut self, mut bucket: Bucket) -> Result<(), SnapshotError> {
        bucket.settle();
        self.bytes.clear();
        if let Some(spill) = &mut self.spill {
            bucket.spilled.into_iter().try_for_each(|block| spill.read(block, &mut self.bytes))?;
            let next = self.buckets.as_slice().first().into_iter();
            next.flat_map(|next| &next.spilled).for_each(|block| spill.expect(*block));
        }
        self.bytes.extend_from_slice(&bucket.memory);
        self.order.clear();
        self.next = 0;
        let mut at = 0;
        while let Some(record) = record(&self.bytes, at) {
            self.order.push(place(record.hash, at));
            at += record.length;
        }
        self.order.sort_unstable();
        // Places tell records apart by some bits of their hash only.
        let whole = |place: u64| record(&self.bytes, place as u32 as usize).map_or(0, |record| record.hash);
        for alike in self.order.chunk_by_mut(|a, b| a >> 32 == b >> 32).filter(|alike| alike.len() > 1) {
            alike.sort_by_key(|place| whole(*place));
        }
        Ok(())
    }
}

/// The 32 bits of a hash after those that chose its bucket, then where its record begins.
const fn place(hash: u128, at: usize) -> u64 {
    let bits = (hash << BUCKET_BITS >> 96) as u64;
    bits << 32 | at as u64
}

struct Record<'a> {
    hash: u128,
    payload: &'a [u8],
    /// Of the whole record, in bytes.
    length: usize,
}

#[inline]
fn append(bytes: &mut Vec<u8>, hash: u128, write: impl FnOnce(&mut Vec<u8>)) {
    bytes.extend_from_slice(&hash.to_le_bytes());
    let at = bytes.len();
    bytes.push(LONG);
    write(bytes);
    let length = bytes.len() - at - 1;
    if length >= usize::from(LONG) {
        let length = (length as u32).to_le_bytes();
        bytes.splice(at + 1..=at, length);
    } else if let Some(byte) = bytes.get_mut(at) {
        *byte = length as u8;
    }
}

fn record(bytes: &[u8], at: usize) -> Option<Record<'_>> {
    let (hash, rest) = bytes.get(at..)?.split_first_chunk::<16>()?;
    let (length, rest) = rest.split_first()?;
    let (head, payload) = if *length == LONG {
        let (length, rest) = rest.split_first_chunk::<4>()?;
        (21, rest.get(..u32::from_le_bytes(*length) as usize)?)
    } else {
        (17, rest.get(..usize::from(*length))?)
    };
    Some(Record { hash: u128::from_le_bytes(*hash), payload, length: head + payload.len() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sorted(records: &[(u128, Vec<u8>)], memory: usize) -> Result<Vec<(u128, Vec<u8>)>, SnapshotError> {
        let mut sorter = Sorter::new(&std::env::temp_dir(), memory);
        for (hash, payload) in records {
            sorter.push(*hash, |record| record.extend_from_slice(payload))?;
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
            width in prop_oneof![0_usize..40, 250_usize..300],
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
