//! The snapshot file: a header, blocks of entries sorted by key hash, a footer. Every part carries its checksum.
//!
//! ```text
//! magic "OFSNAP" · version u16 · block(header, MessagePack) · block(entries)* · block() · entries u64 · magic
//! block: length u32 · checksum u64 (xxh3 of the bytes) · bytes
//! ```
//! All numbers are little-endian.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use outflow_model::cell::Kind;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::entry::{Entry, whole};
use crate::error::SnapshotError;

const MAGIC: &[u8; 6] = b"OFSNAP";
const VERSION: u16 = 1;
/// Entries are gathered into blocks of about this size.
const BLOCK: usize = 64 * 1024;
/// No block is larger: one key may be long.
const BLOCK_CAP: u32 = 64 * 1024 * 1024;

/// The version of the canonical encoding that hashes are made with.
pub const ENCODING: u16 = 2;

/// What a snapshot is a snapshot of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The sync.
    pub sync: String,
    /// The run that made it.
    pub run: String,
    /// The destination account.
    pub account: String,
    /// What kind of destination that is.
    pub destination: String,
    /// The destination's object.
    pub object: String,
    /// The family of operations that were acknowledged.
    pub family: String,
    /// The key's columns.
    pub key: Vec<(String, Kind)>,
    /// For each of them: whether rows are the same though it differs in case or surrounding blanks.
    pub fold: Vec<bool>,
    /// Fingerprint of the mapping that rows were hashed under.
    pub mapping: String,
    /// Version of the canonical encoding.
    pub encoding: u16,
}

/// Writes a snapshot.
pub struct SnapshotWriter {
    out: BufWriter<File>,
    path: PathBuf,
    block: Vec<u8>,
    entries: u64,
    last: Option<u128>,
}

impl SnapshotWriter {
    /// Begins a snapshot at `path`.
    pub fn create(path: &Path, header: &Header) -> Result<Self, SnapshotError> {
        let file = File::create(path).map_err(SnapshotError::io("create", path))?;
        let mut writer = Self {
            out: BufWriter::with_capacity(256 * 1024, file),
            path: path.to_owned(),
            block: Vec::with_capacity(BLOCK + 1024),
            entries: 0,
            last: None,
        };
        writer.write(MAGIC)?;
        writer.write(&VERSION.to_le_bytes())?;
        let header = rmp_serde::to_vec_named(header).map_err(|_| SnapshotError::corrupt(path, "the header"))?;
        writer.write_block(&header)?;
        Ok(writer)
    }

    /// Adds an entry; entries come in ascending order of their key hash.
    pub fn push(&mut self, entry: &Entry) -> Result<(), SnapshotError> {
        self.push_with(entry.key_hash, |block| entry.encode(block))
    }

    /// Adds what `write` appends, the entry of this key.
    fn push_with(&mut self, key_hash: u128, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), SnapshotError> {
        if self.last.is_some_and(|last| last >= key_hash) {
            return Err(SnapshotError::corrupt(&self.path, "entries are not in order"));
        }
        self.last = Some(key_hash);
        write(&mut self.block);
        self.entries += 1;
        if self.block.len() >= BLOCK { self.flush() } else { Ok(()) }
    }

    /// Ends the file and makes it durable; returns how many entries it has.
    pub fn finish(mut self) -> Result<u64, SnapshotError> {
        if !self.block.is_empty() {
            self.flush()?;
        }
        self.write_block(&[])?;
        let entries = self.entries;
        self.write(&entries.to_le_bytes())?;
        self.write(MAGIC)?;
        let path = self.path;
        let file = self.out.into_inner().map_err(|error| SnapshotError::io("write", &path)(error.into_error()))?;
        file.sync_all().map_err(SnapshotError::io("sync", &path))?;
        Ok(entries)
    }

    fn flush(&mut self) -> Result<(), SnapshotError> {
        let block = std::mem::take(&mut self.block);
        self.write_block(&block)?;
        self.block = block;
        self.block.clear();
        Ok(())
    }

    fn write_block(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.write(&(bytes.len() as u32).to_le_bytes())?;
        self.write(&xxh3_64(bytes).to_le_bytes())?;
        self.write(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.out.write_all(bytes).map_err(SnapshotError::io("write", &self.path))
    }
}

/// Reads a snapshot, in the order of key hashes.
pub struct SnapshotReader {
    input: BufReader<File>,
    path: PathBuf,
    header: Header,
    block: Vec<u8>,
    at: usize,
    entries: u64,
    ended: bool,
}

impl SnapshotReader {
    /// Opens the snapshot at `path` and reads its header.
    pub fn open(path: &Path) -> Result<Self, SnapshotError> {
        let file = File::open(path).map_err(SnapshotError::io("open", path))?;
        let mut input = BufReader::with_capacity(256 * 1024, file);
        let mut start = [0; 8];
        read(&mut input, &mut start, path)?;
        let (magic, version) = start.split_at(6);
        if magic != MAGIC {
            return Err(SnapshotError::corrupt(path, "it is no snapshot"));
        }
        let found = version.first_chunk().map_or(0, |bytes| u16::from_le_bytes(*bytes));
        if found > VERSION {
            return Err(SnapshotError::Newer { path: path.to_owned(), found, known: VERSION });
        }
        let mut block = Vec::new();
        read_block(&mut input, &mut block, path)?;
        let header =
            rmp_serde::from_slice(&block).map_err(|_| SnapshotError::corrupt(path, "its header cannot be read"))?;
        block.clear();
        Ok(Self { input, path: path.to_owned(), header, block, at: 0, entries: 0, ended: false })
    }

    /// What it is a snapshot of.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The next entry. At the end the file's own count is checked.
    #[expect(clippy::should_implement_trait, reason = "errors end the reading, which Iterator leaves open")]
    pub fn next(&mut self) -> Result<Option<Entry>, SnapshotError> {
        let Some((_, mut bytes)) = self.peek()? else { return Ok(None) };
        let length = bytes.len();
        let entry = Entry::decode(&mut bytes);
        self.pass(length);
        entry.map(Some).ok_or_else(|| SnapshotError::corrupt(&self.path, "a record id is not UTF-8"))
    }

    /// The entry of `key_hash`, if that is the next one.
    pub(crate) fn next_if(&mut self, key_hash: u128) -> Result<Option<Entry>, SnapshotError> {
        let is_it = self.peek()?.is_some_and(|(next, _)| next == key_hash);
        if is_it { self.next() } else { Ok(None) }
    }

    /// Copies the entries before that of `key_hash`, or all that are left, as they are.
    pub(crate) fn copy_until(
        &mut self,
        key_hash: Option<u128>,
        writer: &mut SnapshotWriter,
    ) -> Result<(), SnapshotError> {
        while let Some((next, bytes)) = self.peek()?.filter(|(next, _)| key_hash.is_none_or(|end| *next < end)) {
            let length = bytes.len();
            writer.push_with(next, |block| block.extend_from_slice(bytes))?;
            self.pass(length);
        }
        Ok(())
    }

    /// The key hash and the bytes of the next entry; nothing at the end.
    fn peek(&mut self) -> Result<Option<(u128, &[u8])>, SnapshotError> {
        if self.at == self.block.len() {
            if self.ended {
                return Ok(None);
            }
            read_block(&mut self.input, &mut self.block, &self.path)?;
            self.at = 0;
            if self.block.is_empty() {
                self.check_end()?;
                return Ok(None);
            }
        }
        let rest = self.block.get(self.at..).unwrap_or_default();
        whole(rest).map(Some).ok_or_else(|| SnapshotError::corrupt(&self.path, "an entry is cut short"))
    }

    /// Moves past an entry of so many bytes.
    const fn pass(&mut self, length: usize) {
        self.at += length;
        self.entries += 1;
    }

    fn check_end(&mut self) -> Result<(), SnapshotError> {
        self.ended = true;
        let mut end = [0; 14];
        read(&mut self.input, &mut end, &self.path)?;
        let (count, magic) = end.split_at(8);
        let count = count.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        if magic != MAGIC || count != self.entries {
            return Err(SnapshotError::corrupt(&self.path, "its count of entries does not fit"));
        }
        Ok(())
    }
}

fn read(input: &mut impl Read, into: &mut [u8], path: &Path) -> Result<(), SnapshotError> {
    input.read_exact(into).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => SnapshotError::corrupt(path, "it is cut short"),
        _ => SnapshotError::io("read", path)(error),
    })
}

fn read_block(input: &mut impl Read, block: &mut Vec<u8>, path: &Path) -> Result<(), SnapshotError> {
    let (mut length, mut checksum) = ([0; 4], [0; 8]);
    read(input, &mut length, path)?;
    read(input, &mut checksum, path)?;
    let length = u32::from_le_bytes(length);
    if length > BLOCK_CAP {
        return Err(SnapshotError::corrupt(path, "a block is too long"));
    }
    block.clear();
    block.resize(length as usize, 0);
    read(input, block, path)?;
    if xxh3_64(block) != u64::from_le_bytes(checksum) {
        return Err(SnapshotError::corrupt(path, "a checksum does not fit"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            sync: "customers".to_owned(),
            run: "run_1".to_owned(),
            account: "crm".to_owned(),
            destination: "hubspot".to_owned(),
            object: "contacts".to_owned(),
            family: "write".to_owned(),
            key: vec![("email".to_owned(), Kind::Text)],
            fold: vec![true],
            mapping: "m1".to_owned(),
            encoding: ENCODING,
        }
    }

    fn entries() -> Vec<Entry> {
        vec![
            Entry { key_hash: 1, acknowledged: Some(10), ..Entry::default() },
            Entry { key_hash: 2, refused: Some(20), doubtful: true, key: Some(vec![1, 2]), ..Entry::default() },
            Entry {
                key_hash: 3,
                acknowledged: Some(7),
                refused: Some(0),
                unknown: Some(9),
                doubtful: false,
                key: Some(Vec::new()),
                record_id: Some("512".to_owned()),
            },
        ]
    }

    fn write(path: &Path) -> Result<(), SnapshotError> {
        let mut writer = SnapshotWriter::create(path, &header())?;
        entries().iter().try_for_each(|entry| writer.push(entry))?;
        writer.finish().map(|_| ())
    }

    fn read_all(path: &Path) -> Result<Vec<Entry>, SnapshotError> {
        let (mut reader, mut out) = (SnapshotReader::open(path)?, Vec::new());
        while let Some(entry) = reader.next()? {
            out.push(entry);
        }
        Ok(out)
    }

    #[test]
    fn what_is_written_is_read_and_its_bytes_are_the_golden_ones() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("snapshot");
        write(&path)?;
        assert_eq!(read_all(&path)?, entries());
        assert_eq!(*SnapshotReader::open(&path)?.header(), header());
        crate::golden::check("snapshot.bin", &std::fs::read(&path)?)
    }

    #[test]
    fn no_damaged_or_cut_byte_goes_unnoticed() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("snapshot");
        write(&path)?;
        let good = std::fs::read(&path)?;
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            std::fs::write(&path, &bad)?;
            assert!(read_all(&path).is_err(), "byte {at} was changed unnoticed");
            std::fs::write(&path, &good[..at])?;
            assert!(read_all(&path).is_err(), "a file of {at} bytes was taken for whole");
        }
        Ok(())
    }

    #[test]
    fn damaged_length_is_seen_before_room_is_made_for_it() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("snapshot");
        write(&path)?;
        let mut bad = std::fs::read(&path)?;
        bad[8..12].copy_from_slice(&(BLOCK_CAP + 1).to_le_bytes());
        std::fs::write(&path, &bad)?;
        let reason = read_all(&path).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(reason.contains("a block is too long"), "{reason}");
        Ok(())
    }

    #[test]
    fn entries_out_of_order_are_refused() -> Result<(), SnapshotError> {
        let path = std::env::temp_dir().join(format!("outflow-order-{}", std::process::id()));
        let mut writer = SnapshotWriter::create(&path, &header())?;
        writer.push(&Entry { key_hash: 2, ..Entry::default() })?;
        assert!(writer.push(&Entry { key_hash: 2, ..Entry::default() }).is_err());
        std::fs::remove_file(&path).map_err(SnapshotError::io("remove", &path))
    }
}
