//! Detecting changes: rows in, hashed and sorted; merged with the base snapshot; changes out.

use std::collections::BTreeMap;
use std::path::Path;

use arrow_array::{Array, ArrayRef, RecordBatch};
use outflow_model::cell::Kind;
use outflow_model::change::Change;
use outflow_model::text::one_line;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::canon::Hasher;
use crate::entry::{Entry, REFUSED_REMOVAL};
use crate::error::SnapshotError;
use crate::file::SnapshotReader;
use crate::key::{encode_key, key_text};
use crate::sorter::Sorter;

/// Invalid rows that are named; all are counted.
const NAMED: usize = 1_000;
/// Bytes of the longest key. A snapshot has no larger block than 64 MiB, and keeps the key of every row.
const LONGEST_KEY: usize = 1 << 20;
/// Letters of a key that an invalid row is named by.
const SHOWN_KEY: usize = 500;
/// Bytes of a row's number that are kept, with [`FAULTY`]: enough for half a million million rows.
const ORDINAL: usize = 5;
/// Bit of a row's number that marks a row with a value that the source could not give exactly.
const FAULTY: u64 = 1 << (ORDINAL * 8 - 1);

/// How rows are compared with the base.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Every row is a change, whatever was acknowledged.
    pub full: bool,
    /// Refused rows are sent again though they are unchanged.
    pub retry_refused: bool,
    /// Refused rows are not even sent again when they change.
    pub hold_refused: bool,
    /// What becomes of unknown rows.
    pub on_unknown: OnUnknown,
    /// Rows that the destination has are taken as acknowledged the way they are now, and not sent.
    pub rebase: bool,
    /// Changed rows are not sent.
    pub ignore_changes: bool,
    /// Where every row is sent and changed ones are not, known rows are sent as added ones.
    pub adds_known: bool,
    /// Removed rows are sent.
    pub removes: bool,
}

/// What becomes of rows that were sent without an answer to a destination that cannot be repeated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// They are withheld until a user decides.
    #[default]
    Hold,
    /// They are sent again.
    Resend,
    /// They are taken as having arrived.
    Skip,
}

impl OnUnknown {
    /// Decides an unknown entry, unless a user shall.
    fn decide(self, entry: &mut Entry) {
        match self {
            Self::Hold => {}
            Self::Resend => entry.unknown = None,
            Self::Skip => entry.acknowledged = entry.unknown.take().or(entry.acknowledged),
        }
    }
}

/// Why a row is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A key column is null.
    NullKey,
    /// The key cannot be brought into the form in which it addresses a record; why, in the words of [`Compared::refused`].
    RefusedKey(String),
    /// Another row has the same key.
    DuplicateKey,
    /// The key is longer than a snapshot keeps.
    LongKey,
}

/// A row that Outflow refuses before planning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRow {
    /// Its key, as text.
    pub key: String,
    /// Why.
    pub reason: Reason,
}

/// Takes what the merge finds beside its counts.
pub trait Sink {
    /// A row that the model no longer has and that is to be removed.
    fn removed(&mut self, entry: Entry) -> Result<(), SnapshotError>;
    /// The row pushed as number `ordinal` is a copy of a duplicate, without a faulty value of its own.
    fn duplicate(&mut self, ordinal: u64);
    /// The row pushed as number `ordinal` is withheld, since it was refused before or, where it `is_unknown`, had no answer.
    fn withheld(&mut self, _ordinal: u64, _is_unknown: bool) {}
    /// A row that the model no longer has is withheld for one of the same reasons.
    fn removal_withheld(&mut self, _entry: &Entry) {}
    /// An entry of the base as it is from now on; told of every one, in order, where rows are rebased.
    fn rebased(&mut self, _entry: &Entry) -> Result<(), SnapshotError> {
        Ok(())
    }
}

/// Which rows of the spool are to be sent, and as what.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    adds: Vec<u64>,
    changes: Vec<u64>,
}

impl Selection {
    fn set(bits: &mut Vec<u64>, ordinal: u64) {
        let word = (ordinal / 64) as usize;
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        if let Some(bits) = bits.get_mut(word) {
            *bits |= 1 << (ordinal % 64);
        }
    }

    fn has(bits: &[u64], ordinal: u64) -> bool {
        bits.get((ordinal / 64) as usize).is_some_and(|word| word >> (ordinal % 64) & 1 == 1)
    }

    /// What is to be sent for the row that was pushed as number `ordinal`, from 0.
    pub fn of(&self, ordinal: u64) -> Option<Change> {
        if Self::has(&self.adds, ordinal) {
            Some(Change::Add)
        } else if Self::has(&self.changes, ordinal) {
            Some(Change::Change)
        } else {
            None
        }
    }
}

/// What the diff found. Every extracted row is in one of the counts, every missing one too.
#[derive(Clone, Debug, Default)]
pub struct Detected {
    /// Rows pushed.
    pub extracted: u64,
    /// Rows equal to what was acknowledged.
    pub unchanged: u64,
    /// Changed rows that are not sent.
    pub ignored: u64,
    /// Rows refused or unknown before, and still so.
    pub withheld: u64,
    /// Rows without a key, rows with a faulty value, and every copy of a duplicate.
    pub invalid: u64,
    /// Entries of the base.
    pub known: u64,
    /// Added rows to send.
    pub adds: u64,
    /// Changed rows to send.
    pub changes: u64,
    /// Rows of the base that were not pushed.
    pub missing: u64,
    /// Of these: not sent.
    pub missing_ignored: u64,
    /// Of these: withheld.
    pub missing_withheld: u64,
    /// Of those withheld: only since a row without a readable key may be any of them.
    pub missing_unsure: u64,
    /// Of the invalid rows: those without a readable key.
    pub keyless: u64,
    /// Of these: to send.
    pub removes: u64,
    /// Unchanged rows that are sent since the base does not have their keys, which removing them needs.
    pub rekeyed: u64,
    /// The first of the invalid rows.
    pub named: Vec<InvalidRow>,
    /// Which pushed rows to send.
    pub selection: Selection,
}

/// The keys of a batch in the form in which rows are compared.
pub struct Compared {
    /// One column for each of the key's, in their order.
    pub keys: RecordBatch,
    /// Rows whose key has no such form, and why: it is not known which record they are.
    pub refused: BTreeMap<u32, String>,
}

/// Brings a batch's key columns into the form in which rows are compared.
pub type KeyForm<'a> = Box<dyn Fn(&RecordBatch) -> Result<Compared, SnapshotError> + 'a>;

/// Takes the rows of a model.
pub struct Detector<'a> {
    form: Option<KeyForm<'a>>,
    keys: Hasher,
    rows: Hasher,
    key_columns: Vec<(usize, Kind)>,
    sorter: Sorter,
    key_hashes: Vec<u128>,
    row_hashes: Vec<u128>,
    ordinal: u64,
    invalid: u64,
    named: Vec<InvalidRow>,
}

impl<'a> Detector<'a> {
    /// A detector of rows whose `columns` are hashed (kinds by place), keyed by `key` (places; `true` folds case).
    /// About `memory` bytes are held; the rest goes into temporary files in `folder`. `mapping` separates the hashes of
    /// one mapping from those of another.
    pub fn new(columns: &[Kind], key: &[(usize, bool)], mapping: u64, folder: &Path, memory: usize) -> Self {
        let kind = |at: usize| columns.get(at).copied().unwrap_or(Kind::Text);
        Self {
            form: None,
            keys: Hasher::new(key.iter().map(|(at, fold)| (*at, kind(*at), *fold)), 0),
            rows: Hasher::new(columns.iter().enumerate().map(|(at, kind)| (at, *kind, false)), mapping),
            key_columns: key.iter().map(|(at, _)| (*at, kind(*at))).collect(),
            sorter: Sorter::new(folder, memory),
            key_hashes: Vec::new(),
            row_hashes: Vec::new(),
            ordinal: 0,
            invalid: 0,
            named: Vec::new(),
        }
    }

    /// Compares keys in the form that `form` brings them into, as columns of `kinds` (`true` folds case).
    #[must_use]
    pub fn comparing(mut self, kinds: &[(Kind, bool)], form: KeyForm<'a>) -> Self {
        self.keys = Hasher::new(kinds.iter().enumerate().map(|(at, (kind, fold))| (at, *kind, *fold)), 0);
        self.form = Some(form);
        self
    }

    /// The key hash and the row hash of each row of `batch`.
    pub fn hash(&mut self, batch: &RecordBatch) -> Result<(&[u128], &[u128]), SnapshotError> {
        self.hash_both(batch)?;
        Ok((&self.key_hashes, &self.row_hashes))
    }

    /// Hashes keys and rows, and gives back the key columns as they are compared, and the rows whose key is refused.
    fn hash_both(&mut self, batch: &RecordBatch) -> Result<(Vec<ArrayRef>, BTreeMap<u32, String>), SnapshotError> {
        self.key_hashes.clear();
        self.row_hashes.clear();
        self.rows.hash(batch, &mut self.row_hashes)?;
        if let Some(form) = &self.form {
            let Compared { keys, refused } = form(batch)?;
            self.keys.hash(&keys, &mut self.key_hashes)?;
            return Ok((keys.columns().to_vec(), refused));
        }
        self.keys.hash(batch, &mut self.key_hashes)?;
        let keys = self.key_columns.iter().filter_map(|(at, _)| batch.columns().get(*at).cloned());
        Ok((keys.collect(), BTreeMap::new()))
    }

    /// Whether the key columns hold so many bytes that one key may be too long.
    fn may_be_long(&self, batch: &RecordBatch) -> bool {
        let arrays = self.key_columns.iter().filter_map(|(at, _)| batch.columns().get(*at));
        arrays.map(Array::get_array_memory_size).sum::<usize>() > LONGEST_KEY
    }

    /// Takes the next rows. Those of `faulty`, ascending, have a value that the source could not give exactly: they are invalid,
    /// and their keys count as present. The caller names them.
    pub fn push(&mut self, batch: &RecordBatch, faulty: &[u32]) -> Result<(), SnapshotError> {
        let (mut nullable, mut refused) = self.hash_both(batch)?;
        nullable.retain(|array| array.null_count() > 0);
        let mut faulty = faulty.iter().map(|row| *row as usize).peekable();
        let may_be_long = self.may_be_long(batch);
        let mut bytes = Vec::new();
        for (row, (key, hash)) in self.key_hashes.iter().zip(&self.row_hashes).enumerate() {
            let is_faulty = faulty.next_if_eq(&row).is_some();
            let ordinal = self.ordinal | if is_faulty { FAULTY } else { 0 };
            self.ordinal += 1;
            let refusal = if refused.is_empty() { None } else { refused.remove(&(row as u32)) };
            let mut reason = refusal.map(Reason::RefusedKey);
            if reason.is_none() && nullable.iter().any(|array| array.is_null(row)) {
                reason = Some(Reason::NullKey);
            }
            if reason.is_some() || may_be_long {
                bytes.clear();
                encode_key(batch, &self.key_columns, row, &mut bytes);
            }
            let is_long = may_be_long && bytes.len() > LONGEST_KEY;
            if let Some(reason) = reason.or(is_long.then_some(Reason::LongKey)) {
                self.invalid += 1;
                if !is_faulty && self.named.len() < NAMED {
                    let key = key_text(&bytes, self.key_columns.iter().map(|(_, kind)| *kind));
                    self.named.push(InvalidRow { key: one_line(&key, SHOWN_KEY).into_owned(), reason });
                }
                continue;
            }
            self.sorter.push(*key, |record| {
                record.extend_from_slice(&hash.to_le_bytes());
                record.extend_from_slice(&ordinal.to_le_bytes());
                record.truncate(record.len() + ORDINAL - size_of_val(&ordinal));
            })?;
        }
        Ok(())
    }

    /// Merges the rows with the base.
    pub fn finish(
        self,
        base: Option<&mut SnapshotReader>,
        rules: Rules,
        sink: &mut impl Sink,
    ) -> Result<Detected, SnapshotError> {
        let mut found =
            Detected { extracted: self.ordinal, invalid: self.invalid, named: self.named, ..Detected::default() };
        // All that was refused until here has no key.
        found.keyless = self.invalid;
        let mut base = Base { reader: base, head: None };
        base.advance()?;
        let mut rows = self.sorter.sort();
        let mut current = next_row(&mut rows)?;
        while let Some(row) = current {
            let mut copies = 1;
            let mut next = next_row(&mut rows)?;
            while let Some(copy) = next.filter(|next| next.key == row.key) {
                copy.tell_duplicate(sink);
                copies += 1;
                next = next_row(&mut rows)?;
            }
            current = next;
            base.pass_until(row.key, rules, &mut found, sink)?;
            let mut known = base.take(row.key)?;
            found.known += u64::from(known.is_some());
            if copies > 1 {
                row.tell_duplicate(sink);
                found.invalid += copies;
            } else if row.is_faulty {
                found.invalid += 1;
            } else {
                let withheld = found.withheld;
                compare(row, known.as_mut(), rules, &mut found);
                if found.withheld > withheld {
                    sink.withheld(row.ordinal, known.as_ref().is_some_and(|entry| entry.unknown.is_some()));
                }
            }
            if let Some(entry) = known.filter(|_| rules.rebase) {
                sink.rebased(&entry)?;
            }
        }
        base.pass_rest(rules, &mut found, sink)?;
        Ok(found)
    }
}

#[derive(Clone, Copy)]
struct Row {
    key: u128,
    hash: u128,
    ordinal: u64,
    is_faulty: bool,
}

impl Row {
    /// Names a copy of a duplicate, unless its fault names it.
    fn tell_duplicate(self, sink: &mut impl Sink) {
        if !self.is_faulty {
            sink.duplicate(self.ordinal);
        }
    }
}

fn next_row(rows: &mut crate::sorter::Sorted) -> Result<Option<Row>, SnapshotError> {
    Ok(rows.next()?.and_then(|(key, payload)| {
        let (hash, ordinal) = payload.split_first_chunk::<16>()?;
        let mut whole = [0; 8];
        whole.get_mut(..ORDINAL)?.copy_from_slice(ordinal.get(..ORDINAL)?);
        let ordinal = u64::from_le_bytes(whole);
        let is_faulty = ordinal & FAULTY != 0;
        Some(Row { key, hash: u128::from_le_bytes(*hash), ordinal: ordinal & !FAULTY, is_faulty })
    }))
}

fn compare(row: Row, mut known: Option<&mut Entry>, rules: Rules, found: &mut Detected) {
    if let Some(entry) = &mut known {
        rules.on_unknown.decide(entry);
    }
    let change = match known {
        None => Change::Add,
        Some(entry) if entry.unknown.is_some() => {
            found.withheld += 1;
            return;
        }
        Some(entry) if rules.rebase && entry.acknowledged.is_some() && !entry.is_refused() && !rules.full => {
            entry.acknowledged = Some(row.hash);
            found.ignored += 1;
            return;
        }
        Some(entry) if entry.acknowledged == Some(row.hash) && !entry.doubtful && !rules.full => {
            if !rules.removes || rules.ignore_changes || entry.key.is_some() {
                found.unchanged += 1;
                return;
            }
            // Sent while the sync's mode kept no keys: the next snapshot learns it.
            found.rekeyed += 1;
            Change::Change
        }
        Some(entry) if rules.hold_refused && entry.is_refused() && !rules.retry_refused && !rules.full => {
            found.withheld += 1;
            return;
        }
        Some(entry) if entry.refused == Some(row.hash) && !rules.retry_refused && !rules.full => {
            found.withheld += 1;
            return;
        }
        // A mode that ignores changes has not sent a doubtful row for good yet.
        Some(entry) if entry.may_be_there() && !(rules.ignore_changes && entry.doubtful) => Change::Change,
        Some(_) => Change::Add,
    };
    match change {
        Change::Add => {
            found.adds += 1;
            Selection::set(&mut found.selection.adds, row.ordinal);
        }
        _ if rules.ignore_changes && rules.full && rules.adds_known => {
            found.adds += 1;
            Selection::set(&mut found.selection.adds, row.ordinal);
        }
        _ if rules.ignore_changes => found.ignored += 1,
        _ => {
            found.changes += 1;
            Selection::set(&mut found.selection.changes, row.ordinal);
        }
    }
}

/// The base, one entry ahead.
struct Base<'a> {
    reader: Option<&'a mut SnapshotReader>,
    head: Option<Entry>,
}

impl Base<'_> {
    fn advance(&mut self) -> Result<Option<Entry>, SnapshotError> {
        let next = match &mut self.reader {
            Some(reader) => reader.next()?,
            None => None,
        };
        Ok(std::mem::replace(&mut self.head, next))
    }

    /// The entry of `key`, if that is the next one.
    fn take(&mut self, key: u128) -> Result<Option<Entry>, SnapshotError> {
        if self.head.as_ref().is_some_and(|head| head.key_hash == key) { self.advance() } else { Ok(None) }
    }

    /// Passes the entries before `key`: the model no longer has them.
    fn pass_until(
        &mut self,
        key: u128,
        rules: Rules,
        found: &mut Detected,
        sink: &mut impl Sink,
    ) -> Result<(), SnapshotError> {
        while self.head.as_ref().is_some_and(|head| head.key_hash < key) {
            self.pass_one(rules, found, sink)?;
        }
        Ok(())
    }

    fn pass_rest(&mut self, rules: Rules, found: &mut Detected, sink: &mut impl Sink) -> Result<(), SnapshotError> {
        while self.head.is_some() {
            self.pass_one(rules, found, sink)?;
        }
        Ok(())
    }

    fn pass_one(&mut self, rules: Rules, found: &mut Detected, sink: &mut impl Sink) -> Result<(), SnapshotError> {
        let Some(mut entry) = self.advance()? else { return Ok(()) };
        rules.on_unknown.decide(&mut entry);
        if rules.rebase {
            sink.rebased(&entry)?;
        }
        found.known += 1;
        found.missing += 1;
        let refused = entry.refused == Some(REFUSED_REMOVAL) && !rules.retry_refused && !rules.full;
        if !rules.removes || !entry.may_be_there() {
            found.missing_ignored += 1;
        } else if entry.unknown.is_some() || refused {
            found.missing_withheld += 1;
            sink.removal_withheld(&entry);
        } else if found.keyless > 0 {
            found.missing_withheld += 1;
            found.missing_unsure += 1;
        } else {
            found.removes += 1;
            sink.removed(entry)?;
        }
        Ok(())
    }
}
