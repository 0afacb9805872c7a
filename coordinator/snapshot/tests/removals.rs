//! Removals against a naive model: each removed row is handed on in order, with a row that stays and has the same record id.

use std::collections::BTreeSet;

use outflow_snapshot::{Entry, Removals, SnapshotError, SnapshotWriter};
use proptest::prelude::*;

mod fixture;

use fixture::header;

/// What became of each removed row: whether a row that stays has its record, and whether that row's key was told.
fn shared(rows: &[(Option<u8>, bool, bool)], memory: usize) -> Result<Vec<(u128, bool)>, SnapshotError> {
    let folder = tempfile::tempdir().map_err(|source| SnapshotError::Io {
        action: "make a folder in",
        path: std::env::temp_dir(),
        source,
    })?;
    let base = folder.path().join("base");
    let mut writer = SnapshotWriter::create(&base, &header())?;
    let mut removals = Removals::new(header(), folder.path(), memory);
    for (at, (id, is_there, is_removed)) in rows.iter().enumerate() {
        let entry = Entry {
            key_hash: at as u128,
            acknowledged: is_there.then_some(1),
            key: Some(vec![at as u8]),
            record_id: id.map(|id| format!("id {id}")),
            ..Entry::default()
        };
        writer.push(&entry)?;
        if *is_removed {
            removals.push(&entry)?;
        }
    }
    writer.finish()?;
    let mut handed_on = Vec::new();
    removals.finish(&base, |entry, other| {
        if let Some(other) = other {
            let (id, is_there, is_removed) = rows[usize::from(other[0])];
            assert!(is_there && !is_removed && id == rows[entry.key_hash as usize].0, "the wrong row is named");
        }
        handed_on.push((entry.key_hash, other.is_some()));
        Ok::<_, SnapshotError>(())
    })?;
    Ok(handed_on)
}

proptest! {
    #[test]
    fn no_record_of_a_row_that_stays_is_removed(
        rows in proptest::collection::vec((proptest::option::of(0_u8..6), any::<bool>(), any::<bool>()), 0..40),
    ) {
        let stays = rows.iter().filter(|(_, is_there, is_removed)| *is_there && !is_removed);
        let stay: BTreeSet<_> = stays.map(|(id, ..)| *id).collect();
        let removed = rows.iter().enumerate().filter(|(_, (.., is_removed))| *is_removed);
        let expected: Vec<_> =
            removed.map(|(at, (id, ..))| (at as u128, id.is_some() && stay.contains(id))).collect();
        for memory in [0, 1 << 20] {
            let got = shared(&rows, memory).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(&got, &expected);
        }
    }
}
