//! What becomes of one row whose entry is known, rule by rule; and of its entry, outcome by outcome.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use outflow_model::cell::Kind;
use outflow_snapshot::{
    Compared, Detected, Detector, Entry, Fold, Learned, OnUnknown, Reason, Rules, Sink, SnapshotError, SnapshotReader,
    SnapshotWriter,
};

mod fixture;

use fixture::header;

const KINDS: [Kind; 2] = [Kind::Text, Kind::Int];
/// No row has this hash.
const OTHER: Option<u128> = Some(1);
/// The hash that stands for a removal that was refused.
const REMOVAL: Option<u128> = Some(0);

/// What the merge tells beside its counts.
#[derive(Default)]
struct Noted {
    removed: usize,
    withheld: Vec<(u64, bool)>,
    removals_withheld: usize,
    rebased: Vec<Entry>,
}

impl Sink for Noted {
    fn removed(&mut self, _entry: Entry) -> Result<(), SnapshotError> {
        self.removed += 1;
        Ok(())
    }

    fn duplicate(&mut self, _ordinal: u64) {}

    fn withheld(&mut self, ordinal: u64, is_unknown: bool) {
        self.withheld.push((ordinal, is_unknown));
    }

    fn removal_withheld(&mut self, _entry: &Entry) {
        self.removals_withheld += 1;
    }

    fn rebased(&mut self, entry: &Entry) -> Result<(), SnapshotError> {
        self.rebased.push(entry.clone());
        Ok(())
    }
}

fn batch(keys: &[Option<&str>]) -> RecordBatch {
    let values = Int64Array::from_iter_values(std::iter::repeat_n(5, keys.len()));
    let columns: [(&str, ArrayRef); 2] =
        [("key", Arc::new(StringArray::from(keys.to_vec()))), ("value", Arc::new(values))];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).expect("two columns")
}

/// The diff of `rows` with a base of one entry, which `known` makes from the key hash and the row hash of the row "a".
fn diff(rules: Rules, rows: &[Option<&str>], known: impl FnOnce(u128, u128) -> Entry) -> (Detected, Noted) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("base");
    let mut detector = Detector::new(&KINDS, &[(0, false)], 7, folder.path(), 1 << 20);
    let known = {
        let (keys, hashes) = detector.hash(&batch(&[Some("a")])).expect("hashes");
        known(keys[0], hashes[0])
    };
    let mut writer = SnapshotWriter::create(&path, &header()).expect("a snapshot");
    writer.push(&known).expect("an entry");
    writer.finish().expect("its end");
    detector.push(&batch(rows), &[]).expect("rows");
    let (mut base, mut noted) = (SnapshotReader::open(&path).expect("a base"), Noted::default());
    let found = detector.finish(Some(&mut base), rules, &mut noted).expect("a diff");
    assert_eq!(found.known, 1, "the base has one entry");
    (found, noted)
}

/// The diff where the row is there.
fn there(rules: Rules, known: impl FnOnce(u128, u128) -> Entry) -> (Detected, Noted) {
    diff(rules, &[Some("a")], known)
}

/// The diff where the row is missing.
fn missing(rules: Rules, known: impl FnOnce(u128, u128) -> Entry) -> (Detected, Noted) {
    diff(Rules { removes: true, ..rules }, &[], known)
}

fn acknowledged(key_hash: u128) -> Entry {
    Entry { key_hash, acknowledged: OTHER, key: Some(vec![7]), ..Entry::default() }
}

#[test]
fn refused_row_is_withheld_until_it_changes_or_a_user_asks() {
    let same = |key_hash, hash| Entry { refused: Some(hash), ..acknowledged(key_hash) };
    let changed = |key_hash, hash: u128| Entry { refused: Some(hash ^ 2), ..acknowledged(key_hash) };
    let back = |key_hash, _| Entry { refused: REMOVAL, ..acknowledged(key_hash) };
    let (plain, hold) = (Rules::default(), Rules { hold_refused: true, ..Rules::default() });
    let asked = |rules| [Rules { retry_refused: true, ..rules }, Rules { full: true, ..rules }];
    for rules in [plain, hold] {
        let (found, noted) = there(rules, same);
        assert_eq!((found.withheld, found.changes, noted.withheld), (1, 0, vec![(0, false)]), "{rules:?}");
        for rules in asked(rules) {
            assert_eq!(there(rules, same).0.changes, 1, "{rules:?}");
            assert_eq!(there(rules, changed).0.changes, 1, "{rules:?}");
        }
        // Only its removal was refused, and now it is there again.
        assert_eq!(there(rules, back).0.changes, 1, "{rules:?}");
    }
    assert_eq!(there(plain, changed).0.changes, 1);
    assert_eq!(there(hold, changed).0.withheld, 1);
}

#[test]
fn unknown_row_is_withheld_until_it_is_decided() {
    let on = |on_unknown| Rules { on_unknown, ..Rules::default() };
    let sent = |key_hash, hash| Entry { unknown: Some(hash), ..acknowledged(key_hash) };
    let changed = |key_hash, hash: u128| Entry { unknown: Some(hash ^ 2), ..acknowledged(key_hash) };
    for rules in [on(OnUnknown::Hold), Rules { full: true, ..Rules::default() }] {
        for (found, noted) in [there(rules, sent), there(rules, changed)] {
            assert_eq!((found.withheld, noted.withheld), (1, vec![(0, true)]), "{rules:?}");
        }
    }
    assert_eq!(there(on(OnUnknown::Resend), sent).0.changes, 1);
    assert_eq!(there(on(OnUnknown::Skip), sent).0.unchanged, 1);
    assert_eq!(there(on(OnUnknown::Skip), changed).0.changes, 1);
    let known = |key_hash, hash| Entry { acknowledged: Some(hash), ..acknowledged(key_hash) };
    assert_eq!(there(on(OnUnknown::Skip), known).0.unchanged, 1, "where nothing is unknown nothing is decided");
}

#[test]
fn removal_is_withheld_while_it_was_refused_or_its_row_is_unknown() {
    let refused = |key_hash, _| Entry { refused: REMOVAL, ..acknowledged(key_hash) };
    let unknown = |key_hash, _| Entry { unknown: Some(9), ..acknowledged(key_hash) };
    for (found, noted) in [missing(Rules::default(), refused), missing(Rules::default(), unknown)] {
        assert_eq!((found.missing_withheld, found.missing_unsure, noted.removals_withheld), (1, 0, 1));
        assert_eq!((found.removes, noted.removed), (0, 0));
    }
    for rules in [Rules { retry_refused: true, ..Rules::default() }, Rules { full: true, ..Rules::default() }] {
        assert_eq!(missing(rules, refused).0.removes, 1, "{rules:?}");
    }
    let on = |on_unknown| Rules { on_unknown, ..Rules::default() };
    let only_unknown = |key_hash, _| Entry { acknowledged: None, unknown: Some(9), ..acknowledged(key_hash) };
    assert_eq!(missing(on(OnUnknown::Resend), unknown).0.removes, 1);
    assert_eq!(missing(on(OnUnknown::Skip), only_unknown).0.removes, 1, "it is taken as having arrived");
    assert_eq!(missing(on(OnUnknown::Hold), only_unknown).0.missing_ignored, 1, "nothing of it is acknowledged");
}

#[test]
fn nothing_is_removed_while_a_row_without_a_key_may_be_it() {
    let rules = Rules { removes: true, ..Rules::default() };
    let (found, noted) = diff(rules, &[None, Some("b")], |key_hash, _| acknowledged(key_hash));
    assert_eq!((found.keyless, found.invalid, found.adds), (1, 1, 1));
    assert_eq!((found.missing, found.missing_withheld, found.missing_unsure, noted.removed), (1, 1, 1, 0));
}

#[test]
fn unchanged_row_is_sent_once_more_where_its_key_is_needed_and_unknown() {
    let keyless = |key_hash, hash| Entry { acknowledged: Some(hash), key: None, ..acknowledged(key_hash) };
    let keyed = |key_hash, hash| Entry { acknowledged: Some(hash), ..acknowledged(key_hash) };
    let rules = Rules { removes: true, ..Rules::default() };
    let counts = |found: &Detected| (found.changes, found.rekeyed, found.unchanged);
    assert_eq!(counts(&there(rules, keyless).0), (1, 1, 0));
    assert_eq!(counts(&there(rules, keyed).0), (0, 0, 1));
    assert_eq!(counts(&there(Rules::default(), keyless).0), (0, 0, 1));
    assert_eq!(counts(&there(Rules { ignore_changes: true, ..rules }, keyless).0), (0, 0, 1));
}

#[test]
fn rebasing_tells_of_every_entry_and_sends_known_rows_only_where_all_are_sent() {
    let rules = Rules { rebase: true, ..Rules::default() };
    let mut now = Entry::default();
    let (found, noted) = there(rules, |key_hash, hash| {
        now = Entry { acknowledged: Some(hash), ..acknowledged(key_hash) };
        acknowledged(key_hash)
    });
    assert_eq!((found.ignored, found.changes, noted.rebased), (1, 0, vec![now]));
    let (found, noted) = there(Rules { full: true, ..rules }, |key_hash, _| acknowledged(key_hash));
    assert_eq!((found.ignored, found.changes, noted.rebased.len()), (0, 1, 1));
    let mut stays = Entry::default();
    let (_, noted) = diff(rules, &[Some("b")], |key_hash, _| {
        stays = acknowledged(key_hash);
        stays.clone()
    });
    assert_eq!(noted.rebased, [stays]);
}

#[test]
fn mode_that_ignores_changes_sends_what_is_doubtful_and_all_where_asked() {
    let rules = Rules { ignore_changes: true, ..Rules::default() };
    let known = |key_hash, _| acknowledged(key_hash);
    let doubtful = |key_hash, _| Entry { doubtful: true, acknowledged: None, ..acknowledged(key_hash) };
    let counts = |found: &Detected| (found.adds, found.changes, found.ignored);
    assert_eq!(counts(&there(rules, known).0), (0, 0, 1));
    assert_eq!(counts(&there(rules, doubtful).0), (1, 0, 0), "it may never have arrived");
    assert_eq!(counts(&there(Rules { full: true, ..rules }, known).0), (0, 0, 1));
    assert_eq!(counts(&there(Rules { full: true, adds_known: true, ..rules }, known).0), (1, 0, 0));
}

#[test]
fn keys_that_differ_in_case_alone_are_one_where_they_fold() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = batch(&[Some("A"), Some("a "), Some("b")]);
    let own = |fold| Detector::new(&KINDS, &[(0, fold)], 7, folder.path(), 1 << 20);
    let formed = |fold| {
        let form = |batch: &RecordBatch| {
            Ok(Compared { keys: batch.project(&[0]).expect("the key"), refused: BTreeMap::new() })
        };
        own(false).comparing(&[(Kind::Text, fold)], Box::new(form))
    };
    for (mut detector, invalid) in [(own(true), 2), (own(false), 0), (formed(true), 2), (formed(false), 0)] {
        detector.push(&rows, &[]).expect("rows");
        let found = detector.finish(None, Rules::default(), &mut Noted::default()).expect("a diff");
        assert_eq!((found.invalid, found.adds), (invalid, 3 - invalid));
    }
}

#[test]
fn row_whose_key_has_no_form_is_invalid_and_stands_for_any() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = BTreeMap::from([(1, "it is not an address".to_owned())]);
    let form = move |batch: &RecordBatch| {
        Ok(Compared { keys: batch.project(&[0]).expect("the key"), refused: refused.clone() })
    };
    let detector = Detector::new(&KINDS, &[(0, false)], 7, folder.path(), 1 << 20);
    let mut detector = detector.comparing(&[(Kind::Text, false)], Box::new(form));
    detector.push(&batch(&[Some("a"), Some("b"), Some("c")]), &[]).expect("rows");
    let found = detector.finish(None, Rules::default(), &mut Noted::default()).expect("a diff");
    assert_eq!((found.adds, found.invalid, found.keyless), (2, 1, 1));
    let named: Vec<_> = found.named.iter().map(|row| (row.key.as_str(), row.reason.clone())).collect();
    assert_eq!(named, [("b", Reason::RefusedKey("it is not an address".to_owned()))]);
}

#[test]
fn another_mapping_makes_every_row_another_and_no_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let hashes = |mapping| {
        let mut detector = Detector::new(&KINDS, &[(0, false)], mapping, folder.path(), 1 << 20);
        let (keys, rows) = detector.hash(&batch(&[Some("a")])).expect("hashes");
        (keys.to_vec(), rows.to_vec())
    };
    let (one, other) = (hashes(1), hashes(2));
    assert_eq!(one.0, other.0);
    assert_ne!(one.1, other.1);
}

/// The entry after `learned` of the row 1, whose hash is 9 by now.
fn folded(known: &Entry, learned: Learned, key: Option<&[u8]>, id: Option<&str>) -> Option<Entry> {
    let folder = tempfile::tempdir().expect("a folder");
    let [base, next] = ["base", "next"].map(|name| folder.path().join(name));
    let mut writer = SnapshotWriter::create(&base, &header()).expect("a snapshot");
    writer.push(known).expect("an entry");
    writer.finish().expect("its end");
    let mut fold = Fold::new(folder.path(), 1 << 20);
    fold.learn(1, learned, 9, key, id).expect("an outcome");
    let base = SnapshotReader::open(&base).expect("a base");
    fold.write(Some(base), &next, &header()).expect("the next snapshot");
    SnapshotReader::open(&next).and_then(|mut next| next.next()).expect("a snapshot")
}

#[test]
fn only_an_acknowledgement_sets_the_acknowledged_hash() {
    let known = Entry { acknowledged: Some(5), ..Entry { key_hash: 1, ..Entry::default() } };
    for (learned, becomes) in [
        (Learned::Acknowledged, Some(Entry { acknowledged: Some(9), ..known.clone() })),
        (Learned::Removed, None),
        (Learned::Refused, Some(Entry { refused: Some(9), ..known.clone() })),
        (Learned::RemovalRefused, Some(Entry { refused: REMOVAL, ..known.clone() })),
        (Learned::Doubtful, Some(Entry { acknowledged: None, doubtful: true, ..known.clone() })),
        (Learned::Unknown, Some(Entry { unknown: Some(9), ..known.clone() })),
    ] {
        assert_eq!(folded(&known, learned, None, None), becomes, "{learned:?}");
    }
}

#[test]
fn newest_key_and_record_id_are_kept_and_none_is_forgotten() {
    let known = Entry {
        key_hash: 1,
        acknowledged: Some(9),
        key: Some(vec![1]),
        record_id: Some("a".to_owned()),
        ..Entry::default()
    };
    assert_eq!(folded(&known, Learned::Acknowledged, None, None), Some(known.clone()));
    let newer = Entry { key: Some(Vec::new()), record_id: Some("b".to_owned()), ..known.clone() };
    assert_eq!(folded(&known, Learned::Acknowledged, Some(&[]), Some("b")), Some(newer));
}
