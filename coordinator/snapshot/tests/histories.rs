//! The diff and the fold against a naive model, over random histories: what a `HashMap` would say is what they say.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use outflow_model::cell::Kind;
use outflow_model::change::Change;
use outflow_snapshot::{
    Detected, Detector, ENCODING, Entry, Fold, Header, Learned, Rules, Sink, SnapshotError, SnapshotReader, key_text,
};
use proptest::prelude::*;

const COLUMNS: [Kind; 2] = [Kind::Text, Kind::Int];

/// What becomes of a row that was sent.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Acknowledged,
    Refused,
    Doubtful,
}

/// One run: rows (key, value, faulty; a key may be missing or twice), and the fate of what is sent, by turns.
#[derive(Clone, Debug)]
struct Turn {
    rows: Vec<(Option<u8>, i64, bool)>,
    fates: Vec<Fate>,
    full: bool,
}

fn turn() -> impl Strategy<Value = Turn> {
    let key = prop_oneof![9 => (0_u8..12).prop_map(Some), 1 => Just(None)];
    let fate = prop_oneof![6 => Just(Fate::Acknowledged), 2 => Just(Fate::Refused), 2 => Just(Fate::Doubtful)];
    (
        proptest::collection::vec((key, 0_i64..3, proptest::bool::weighted(0.1)), 0..14),
        proptest::collection::vec(fate, 1..5),
        proptest::bool::weighted(0.1),
    )
        .prop_map(|(rows, fates, full)| Turn { rows, fates, full })
}

/// What the naive model knows of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Known {
    acknowledged: Option<i64>,
    refused: Option<Option<i64>>,
    doubtful: bool,
}

#[derive(Default)]
struct Found {
    removed: Vec<Entry>,
    duplicates: BTreeSet<u64>,
}

impl Sink for Found {
    fn removed(&mut self, entry: Entry) -> Result<(), SnapshotError> {
        self.removed.push(entry);
        Ok(())
    }

    fn duplicate(&mut self, ordinal: u64) {
        self.duplicates.insert(ordinal);
    }
}

fn batch(rows: &[(Option<u8>, i64, bool)]) -> RecordBatch {
    let keys: StringArray = rows.iter().map(|(key, ..)| key.map(|key| format!("k{key}"))).collect();
    let values = Int64Array::from_iter_values(rows.iter().map(|(_, value, _)| *value));
    let columns: [(&str, ArrayRef); 2] = [("key", Arc::new(keys)), ("value", Arc::new(values))];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).expect("two columns")
}

fn expect_changes(known: &BTreeMap<u8, Known>, turn: &Turn) -> (BTreeMap<u8, Change>, [u64; 5]) {
    let mut copies = BTreeMap::<u8, u64>::new();
    turn.rows.iter().filter_map(|(key, ..)| *key).for_each(|key| *copies.entry(key).or_default() += 1);
    let (mut changes, mut counts) = (BTreeMap::new(), [0; 5]);
    let [unchanged, withheld, invalid, missing_ignored, missing_withheld] = &mut counts;
    for (key, value, is_faulty) in &turn.rows {
        let Some(key) = key.filter(|key| copies[key] == 1 && !is_faulty) else {
            *invalid += 1;
            continue;
        };
        match known.get(&key) {
            Some(known) if known.acknowledged == Some(*value) && !known.doubtful && !turn.full => *unchanged += 1,
            Some(known) if known.refused == Some(Some(*value)) && !turn.full => *withheld += 1,
            Some(known) if known.acknowledged.is_some() || known.doubtful => {
                changes.insert(key, Change::Change);
            }
            _ => {
                changes.insert(key, Change::Add);
            }
        }
    }
    let has_keyless = turn.rows.iter().any(|(key, ..)| key.is_none());
    for (key, known) in known.iter().filter(|(key, _)| !copies.contains_key(*key)) {
        if known.acknowledged.is_none() && !known.doubtful {
            *missing_ignored += 1;
        } else if has_keyless || (known.refused == Some(None) && !turn.full) {
            *missing_withheld += 1;
        } else {
            changes.insert(*key, Change::Remove);
        }
    }
    (changes, counts)
}

/// Runs one turn on the real diff and the real fold, checks it, and moves the naive model on.
fn run(
    folder: &Path,
    number: usize,
    turn: &Turn,
    known: &mut BTreeMap<u8, Known>,
) -> Result<(), Box<dyn std::error::Error>> {
    let path = |number: usize| folder.join(format!("snapshot-{number}"));
    let open = || (number > 0).then(|| SnapshotReader::open(&path(number - 1))).transpose();
    let mut detector = Detector::new(&COLUMNS, &[(0, false)], 1, folder, 0);
    let batches: Vec<_> = turn.rows.chunks(5).map(batch).collect();
    for (batch, rows) in batches.iter().zip(turn.rows.chunks(5)) {
        let faulty: Vec<u32> = (0..).zip(rows).filter(|(_, row)| row.2).map(|(place, _)| place).collect();
        detector.push(batch, &faulty)?;
    }
    let rules = Rules { full: turn.full, removes: true, ..Rules::default() };
    let mut sink = Found::default();
    let found: Detected = detector.finish(open()?.as_mut(), rules, &mut sink)?;

    let (expected, counts) = expect_changes(known, turn);
    let got = [found.unchanged, found.withheld, found.invalid, found.missing_ignored, found.missing_withheld];
    assert_eq!(got, counts, "unchanged, withheld, invalid, missing ignored, missing withheld");
    let copies = |key: Option<u8>| key.is_some() && turn.rows.iter().filter(|row| row.0 == key).count() > 1;
    let duplicates =
        (0..).zip(&turn.rows).filter(|(_, row)| copies(row.0) && !row.2).map(|(ordinal, _)| ordinal).collect();
    assert_eq!(sink.duplicates, duplicates, "copies without a fault are named as duplicates");
    assert_eq!(found.extracted, turn.rows.len() as u64);
    assert_eq!(found.missing, found.missing_ignored + found.missing_withheld + found.removes);

    let mut fold = Fold::new(folder, 0);
    let mut hasher = Detector::new(&COLUMNS, &[(0, false)], 1, folder, 0);
    let mut fates = turn.fates.iter().cycle();
    let mut seen = BTreeMap::new();
    let mut ordinal = 0;
    for batch in &batches {
        let (keys, hashes) = hasher.hash(batch)?;
        for (row, (key_hash, row_hash)) in keys.iter().zip(hashes).enumerate() {
            let (key, value, _) = turn.rows[ordinal as usize];
            if let (Some(change), Some(key)) = (found.selection.of(ordinal), key) {
                seen.insert(key, change);
                let mut bytes = Vec::new();
                outflow_snapshot::encode_key(batch, &[(0, Kind::Text)], row, &mut bytes);
                let entry = known.entry(key).or_default();
                let learned = match fates.next().expect("a cycle") {
                    Fate::Acknowledged => {
                        *entry = Known { acknowledged: Some(value), ..Known::default() };
                        Learned::Acknowledged
                    }
                    Fate::Refused => {
                        entry.refused = Some(Some(value));
                        Learned::Refused
                    }
                    Fate::Doubtful => {
                        entry.acknowledged = None;
                        entry.doubtful = true;
                        Learned::Doubtful
                    }
                };
                fold.learn(*key_hash, learned, *row_hash, Some(&bytes), None)?;
            }
            ordinal += 1;
        }
    }
    for entry in &sink.removed {
        let key: u8 = key_text(entry.key.as_deref().unwrap_or_default(), []).trim_start_matches('k').parse()?;
        seen.insert(key, Change::Remove);
        let learned = match fates.next().expect("a cycle") {
            Fate::Acknowledged => {
                known.remove(&key);
                Learned::Removed
            }
            Fate::Refused => {
                known.entry(key).or_default().refused = Some(None);
                Learned::RemovalRefused
            }
            Fate::Doubtful => {
                let entry = known.entry(key).or_default();
                entry.acknowledged = None;
                entry.doubtful = true;
                Learned::Doubtful
            }
        };
        fold.learn(entry.key_hash, learned, 0, None, None)?;
    }
    assert_eq!(seen, expected);
    let header = Header {
        sync: "s".to_owned(),
        run: number.to_string(),
        account: "a".to_owned(),
        destination: "d".to_owned(),
        object: "o".to_owned(),
        family: "write".to_owned(),
        key: vec![("key".to_owned(), Kind::Text)],
        fold: vec![false],
        mapping: "m".to_owned(),
        encoding: ENCODING,
    };
    let entries = fold.write(open()?, &path(number), &header)?;
    assert_eq!(entries, known.len() as u64);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_diff_says_what_a_hash_map_would(turns in proptest::collection::vec(turn(), 1..8)) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut known = BTreeMap::new();
        for (number, turn) in turns.iter().enumerate() {
            run(folder.path(), number, turn, &mut known).map_err(|error| TestCaseError::fail(error.to_string()))?;
        }
    }
}
