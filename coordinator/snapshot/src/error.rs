//! What can go wrong with files of ours.

use std::io;
use std::path::{Path, PathBuf};

/// A snapshot, spool or run file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The operating system refused.
    #[error("Cannot {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is damaged.
    #[error("{} is damaged: {what}. Restore it from a backup, or forget the sync's snapshot with `outflow state reset`", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: &'static str,
    },
    /// The file was written by a newer Outflow.
    #[error("{} has format version {found}, but this Outflow reads version {known}; upgrade it", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// The version that is known here.
        known: u16,
    },
    /// Arrow refused a batch.
    #[error("Cannot {action} the spool")]
    Arrow {
        /// What was being done.
        action: &'static str,
        /// What it said.
        source: arrow_schema::ArrowError,
    },
    /// A batch has a column of another type than announced.
    #[error("Column {0} has another type than the source announced")]
    Type(usize),
}

impl SnapshotError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn corrupt(path: &Path, what: &'static str) -> Self {
        Self::Corrupt { path: path.to_owned(), what }
    }

    /// True where no room was left on the disk.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}
