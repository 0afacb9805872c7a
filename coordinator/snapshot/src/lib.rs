//! The diff: what changed between the rows of a model and what a destination last acknowledged, in bounded memory.
//!
//! Rows are hashed while they are spooled, scattered over buckets by key hash, and merged bucket by bucket with the base
//! snapshot, which is sorted by key hash. A second pass over the spool yields the rows that differ.

mod canon;
mod detect;
mod entry;
mod error;
mod file;
mod fold;
#[cfg(test)]
mod golden;
mod json;
mod key;
mod removals;
mod sorter;
mod spill;
mod spool;

pub use canon::{Hasher, fingerprint};
pub use detect::{Compared, Detected, Detector, InvalidRow, KeyForm, OnUnknown, Reason, Rules, Selection, Sink};
pub use entry::Entry;
pub use error::SnapshotError;
pub use file::{ENCODING, Header, SnapshotReader, SnapshotWriter};
pub use fold::{Fold, Learned};
pub use key::{cell, decode_key, encode_key, key_text};
pub use removals::Removals;
pub use sorter::{Sorted, Sorter};
pub use spool::{SpoolReader, SpoolWriter};
