//! Rules of the comparison and of the fold, one by one, and errors of files that must not pass for their end.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use outflow_model::cell::Kind;
use outflow_snapshot::{
    Detected, Detector, Entry, Fold, Learned, Reason, Rules, Sink, SnapshotError, SnapshotReader, SnapshotWriter,
    SpoolReader, SpoolWriter,
};

mod fixture;

use fixture::header;

struct Nothing;

impl Sink for Nothing {
    fn removed(&mut self, _entry: Entry) -> Result<(), SnapshotError> {
        Ok(())
    }

    fn duplicate(&mut self, _ordinal: u64) {}
}

fn batch(keys: &[&str]) -> RecordBatch {
    let values = Int64Array::from_iter_values(0..keys.len() as i64);
    let columns: [(&str, ArrayRef); 2] =
        [("key", Arc::new(StringArray::from(keys.to_vec()))), ("value", Arc::new(values))];
    RecordBatch::try_from_iter(columns).expect("two columns")
}

#[test]
fn row_whose_key_is_longer_than_a_snapshot_keeps_is_invalid() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut detector = detector(folder.path());
    let (long, longer) = ("k".repeat((1 << 20) - 5), "k".repeat((1 << 20) + 1));
    detector.push(&batch(&["a", &long, &longer, "b"]), &[]).expect("a batch");
    let found = detector.finish(None, Rules::default(), &mut Nothing).expect("a whole diff");
    assert_eq!((found.extracted, found.invalid, found.adds), (4, 1, 3));
    let named: Vec<_> = found.named.iter().map(|row| (row.key.as_str(), row.reason.clone())).collect();
    let shown = format!("{}… (1048577 characters)", "k".repeat(500));
    assert_eq!(named, [(shown.as_str(), Reason::LongKey)]);
}

fn detector(folder: &Path) -> Detector<'_> {
    Detector::new(&[Kind::Text, Kind::Int], &[(0, false)], 7, folder, 1 << 20)
}

/// What is found of one row whose entry `known` makes from the row's key hash and row hash.
fn compared(rules: Rules, known: impl FnOnce(u128, u128) -> Entry) -> Detected {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("base");
    let (mut detector, rows) = (detector(folder.path()), batch(&["a"]));
    let (keys, hashes) = detector.hash(&rows).expect("hashes");
    let entry = known(keys[0], hashes[0]);
    let mut writer = SnapshotWriter::create(&path, &header()).expect("a snapshot");
    writer.push(&entry).expect("an entry");
    writer.finish().expect("its end");
    detector.push(&rows, &[]).expect("a row");
    let mut base = SnapshotReader::open(&path).expect("a base");
    detector.finish(Some(&mut base), rules, &mut Nothing).expect("a diff")
}

#[test]
fn every_bit_of_a_rows_hash_counts() {
    for bit in [0, 63, 64, 127] {
        let found = compared(Rules::default(), |key_hash, hash| Entry {
            key_hash,
            acknowledged: Some(hash ^ (1 << bit)),
            ..Entry::default()
        });
        assert_eq!((found.changes, found.unchanged), (1, 0), "bit {bit}");
    }
    let same =
        compared(Rules::default(), |key_hash, hash| Entry { key_hash, acknowledged: Some(hash), ..Entry::default() });
    assert_eq!((same.changes, same.unchanged), (0, 1));
}

#[test]
fn a_refused_row_is_not_taken_as_acknowledged_under_another_mapping() {
    let rules = Rules { rebase: true, ..Rules::default() };
    let refused =
        compared(rules, |key_hash, _| Entry { key_hash, acknowledged: Some(1), refused: Some(2), ..Entry::default() });
    assert_eq!((refused.ignored, refused.changes), (0, 1));
    let known = compared(rules, |key_hash, _| Entry { key_hash, acknowledged: Some(1), ..Entry::default() });
    assert_eq!((known.ignored, known.changes), (1, 0));
}

#[test]
fn a_row_that_is_acknowledged_is_unknown_no_more() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let [base, next] = ["base", "next"].map(|name| folder.path().join(name));
    let mut writer = SnapshotWriter::create(&base, &header())?;
    let doubts = Entry { key_hash: 1, refused: Some(3), unknown: Some(4), doubtful: true, ..Entry::default() };
    writer.push(&doubts)?;
    writer.finish()?;
    let mut fold = Fold::new(folder.path(), 1 << 20);
    fold.learn(1, Learned::Acknowledged, 9, None, None)?;
    fold.write(Some(SnapshotReader::open(&base)?), &next, &header())?;
    let entry = SnapshotReader::open(&next)?.next()?;
    assert_eq!(entry, Some(Entry { key_hash: 1, acknowledged: Some(9), ..Entry::default() }));
    Ok(())
}

#[test]
fn a_spool_that_is_cut_is_an_error_and_no_end() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("spool");
    let rows = batch(&["a", "b", "c"]);
    let mut writer = SpoolWriter::create(&path, &rows.schema())?;
    (0..20).try_for_each(|_| writer.push(&rows))?;
    writer.finish()?;
    let whole = std::fs::read(&path)?;
    std::fs::write(&path, whole.get(..whole.len() / 2 + 3).unwrap_or_default())?;
    let mut reader = SpoolReader::open(&path)?;
    let cut = loop {
        match reader.next() {
            Ok(Some(_)) => {}
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(cut, "half a spool was taken for the whole");
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn a_spool_that_finds_no_room_at_its_end_is_an_error() -> Result<(), SnapshotError> {
    let rows = batch(&["a"]);
    let mut writer = SpoolWriter::create(Path::new("/dev/full"), &rows.schema())?;
    // It is small enough to be written at the end alone.
    writer.push(&rows)?;
    assert!(writer.finish().is_err());
    Ok(())
}
