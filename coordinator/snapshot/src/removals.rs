//! Removed rows, held back until it is known whether another row has the same record at the destination.
//!
//! A destination may find one record under several identities, or merge two records: then several rows have one record id, and
//! removing it for one of them would take it from the others.

use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_128;

use crate::entry::{Entry, hash};
use crate::error::SnapshotError;
use crate::file::{Header, SnapshotReader, SnapshotWriter};
use crate::sorter::Sorter;

/// Marks the record id of a row that is removed.
const REMOVED: u8 = 1;
const STAYS: u8 = 0;

/// Takes removed entries in the order of their keys, and hands them on in that order.
pub struct Removals {
    header: Header,
    folder: PathBuf,
    memory: usize,
    writer: Option<SnapshotWriter>,
    /// Whether one of them has a record id.
    have_ids: bool,
}

impl Removals {
    /// Removals of a base that `header` is of; they wait in `folder`, and about `memory` bytes are held to compare them.
    pub fn new(header: Header, folder: &Path, memory: usize) -> Self {
        Self { header, folder: folder.to_owned(), memory, writer: None, have_ids: false }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("removed")
    }

    /// Adds an entry; entries come in ascending order of their key hash.
    pub fn push(&mut self, entry: &Entry) -> Result<(), SnapshotError> {
        self.have_ids |= entry.record_id.is_some();
        let path = self.path();
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(SnapshotWriter::create(&path, &self.header)?),
        };
        writer.push(entry)
    }

    /// Hands on each entry; with the key of a row that stays in the base at `base` and has the same record id, where there is one.
    pub fn finish<E: From<SnapshotError>>(
        mut self,
        base: &Path,
        mut each: impl FnMut(&Entry, Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        writer.finish()?;
        let path = self.path();
        let mut shared = self.shared(base, &path)?.sort();
        let mut next = owned(shared.next()?);
        let mut removed = SnapshotReader::open(&path)?;
        while let Some(entry) = removed.next()? {
            let mut other = None;
            while let Some((_, key)) = next.take_if(|(key_hash, _)| *key_hash == entry.key_hash) {
                other.get_or_insert(key);
                next = owned(shared.next()?);
            }
            each(&entry, other.as_deref())?;
        }
        std::fs::remove_file(&path).map_err(SnapshotError::io("remove", &path))?;
        Ok(())
    }

    /// The removed entries whose record another row has: the hash of its key, and that other row's key.
    fn shared(&self, base: &Path, path: &Path) -> Result<Sorter, SnapshotError> {
        let mut shared = Sorter::new(&self.folder, self.memory);
        if !self.have_ids {
            return Ok(shared);
        }
        let mut ids = Sorter::new(&self.folder, self.memory);
        // Of one id those that stay come first: equal hashes keep the order in which they are pushed.
        let (mut known, mut removed) = (SnapshotReader::open(base)?, SnapshotReader::open(path)?);
        let mut gone = removed.next()?;
        while let Some(entry) = known.next()? {
            if gone.take_if(|gone| gone.key_hash == entry.key_hash).is_some() {
                gone = removed.next()?;
            } else if entry.may_be_there() {
                push(&mut ids, &entry, STAYS, entry.key.as_deref().unwrap_or_default())?;
            }
        }
        let mut removed = SnapshotReader::open(path)?;
        while let Some(entry) = removed.next()? {
            push(&mut ids, &entry, REMOVED, &entry.key_hash.to_le_bytes())?;
        }
        let (mut ids, mut stays) = (ids.sort(), None);
        while let Some((id, payload)) = ids.next()? {
            match payload.split_first() {
                Some((&STAYS, key)) => stays = Some((id, key.to_vec())),
                Some((_, mut key_hash)) => {
                    let key = stays.as_ref().filter(|(other, _)| *other == id).map(|(_, key)| key);
                    if let Some((key_hash, key)) = hash(&mut key_hash).zip(key) {
                        shared.push(key_hash, |record| record.extend_from_slice(key))?;
                    }
                }
                None => {}
            }
        }
        Ok(shared)
    }
}

fn owned(record: Option<(u128, &[u8])>) -> Option<(u128, Vec<u8>)> {
    record.map(|(hash, payload)| (hash, payload.to_vec()))
}

fn push(ids: &mut Sorter, entry: &Entry, mark: u8, rest: &[u8]) -> Result<(), SnapshotError> {
    let Some(id) = &entry.record_id else { return Ok(()) };
    ids.push(xxh3_128(id.as_bytes()), |record| {
        record.push(mark);
        record.extend_from_slice(rest);
    })
}
