//! The temporary file of a sort: blocks written one after the other, each read once.
//!
//! Beyond a size it is kept out of the page cache: what has been written goes to the disk and leaves room for what follows,
//! and blocks are called back shortly before they are read. A large sort would otherwise push everything else out of the
//! cache, and in a container the cache counts as memory.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::SnapshotError;

/// In tests all is smaller, so that they come here too.
const UNIT: u64 = if cfg!(test) { 1024 } else { 1024 * 1024 };
/// Bytes of the file that may stay in the cache.
const CACHED: u64 = 512 * UNIT;
/// Beyond that, so many bytes at a time leave it.
const WINDOW: u64 = 64 * UNIT;

/// An unnamed file that is gone with this value.
pub(crate) struct Spill {
    file: File,
    folder: PathBuf,
    end: u64,
}

/// Where in the file a block is.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    offset: u64,
    length: u32,
}

impl Spill {
    pub(crate) fn create(folder: &Path) -> Result<Self, SnapshotError> {
        let file = tempfile::tempfile_in(folder).map_err(SnapshotError::io("make a temporary file in", folder))?;
        Ok(Self { file, folder: folder.to_owned(), end: 0 })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<Block, SnapshotError> {
        self.file.write_all(bytes).map_err(SnapshotError::io("write a temporary file in", &self.folder))?;
        let block = Block { offset: self.end, length: bytes.len() as u32 };
        self.end += bytes.len() as u64;
        let window = self.end / WINDOW;
        if self.end > CACHED && window != block.offset / WINDOW {
            // The first time begins to write it out, the second time it is written and goes.
            self.advise(false, (window - 1) * WINDOW, WINDOW);
            self.advise(false, (window - 2) * WINDOW, WINDOW);
        }
        Ok(block)
    }

    /// Appends a block to `bytes`.
    pub(crate) fn read(&mut self, block: Block, bytes: &mut Vec<u8>) -> Result<(), SnapshotError> {
        let start = bytes.len();
        bytes.resize(start + block.length as usize, 0);
        let into = bytes.get_mut(start..).unwrap_or_default();
        let read = self.file.seek(SeekFrom::Start(block.offset)).and_then(|_| self.file.read_exact(into));
        read.map_err(SnapshotError::io("read a temporary file in", &self.folder))
    }

    /// Says that `block` will be read soon.
    pub(crate) fn expect(&self, block: Block) {
        if self.end > CACHED {
            self.advise(true, block.offset, u64::from(block.length));
        }
    }

    /// Tells the system whether a part of the file is needed. It may refuse to know: only speed depends on it.
    fn advise(&self, needed: bool, offset: u64, length: u64) {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{Advice, fadvise};
            let advice = if needed { Advice::WillNeed } else { Advice::DontNeed };
            let _ = fadvise(&self.file, offset, std::num::NonZeroU64::new(length), advice);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (needed, offset, length);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_finds_no_room_is_an_error() -> std::io::Result<()> {
        let file = File::options().write(true).open("/dev/full")?;
        let mut spill = Spill { file, folder: PathBuf::from("/dev"), end: 0 };
        assert!(spill.write(b"block").is_err());
        Ok(())
    }
}
