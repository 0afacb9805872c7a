//! Cutting changes into chunks, as they come.

use std::collections::BTreeSet;
use std::ops::Range;

use arrow_array::RecordBatch;
use outflow_model::cell::Kind;
use outflow_model::change::{Change, Operation};
use outflow_model::column::Column;
use outflow_model::invalid::InvalidCode;
use outflow_model::mapping::{Mapper, SourceColumn};
use outflow_model::merge::Merged;
use outflow_model::outcome::{Refusal, Status};
use outflow_model::port::ledger::{Chunk, Problem, Sample};
use outflow_model::table::{Field, MASKED, NullPolicy, Table};
use outflow_model::text::one_line;
use outflow_model::wire::pack;
use outflow_snapshot::{Entry, decode_key, key_text};

use super::EngineError;
use super::columns::append;
use super::mapped::{Mapped, Pace};
use super::plan_file::{Index, PlanWriter};
use crate::project::ResolvedSync;

/// A chunk is full with so many bytes of values, whatever its rows: a worker holds several in memory, each four times over.
const CHUNK_BYTES: usize = 8 * 1024 * 1024;
/// The same for a chunk that is a job.
const JOB_BYTES: usize = 32 * 1024 * 1024;
/// Samples of a plan that are kept for showing.
const SAMPLES: usize = 5;
/// A key is named with so many characters at most.
pub(super) const KEY: usize = 500;
/// Problems that are named; all are counted.
pub(super) const NAMED: usize = 1_000;

/// Rows of one change on their way into a chunk.
struct Pending {
    change: Change,
    /// Removes that are not sent: another row has their record.
    is_skipped: bool,
    operation: Operation,
    columns: Vec<Column>,
    ids: Column,
    /// Whether there is one.
    has_ids: bool,
    index: Index,
}

/// What a chunk holds at most.
#[derive(Clone, Copy)]
struct Room {
    rows: usize,
    bytes: usize,
}

impl Pending {
    fn is_full(&self, room: Room) -> bool {
        self.index.len() >= room.rows || self.columns.iter().map(Column::bytes).sum::<usize>() >= room.bytes
    }
}

/// Writes chunks of a plan.
pub(super) struct Partition<'a> {
    mapper: &'a Mapper,
    /// Which columns the key is.
    key: Vec<SourceColumn>,
    /// The fields that a cleared record sets to null.
    cleared: Vec<String>,
    /// Keys are made of sensitive values.
    hides_keys: bool,
    kinds: Vec<Kind>,
    keeps_keys: bool,
    chunk_rows: usize,
    /// Records per chunk of operations that go by a bulk interface.
    bulk_rows: Vec<(Operation, usize)>,
    writer: PlanWriter,
    /// For each change: what is removed is mapped to its identity alone.
    pace: [Pace; Change::ALL.len()],
    pending: Vec<Pending>,
    pub(super) chunks: Vec<Chunk>,
    pub(super) samples: Vec<Sample>,
    pub(super) problems: Vec<Problem>,
    /// Rows that the mapping refused, by change.
    pub(super) refused: [u64; 3],
    /// Removes that are not sent.
    skipped: u64,
}

impl<'a> Partition<'a> {
    pub(super) fn new(sync: &ResolvedSync, mapper: &'a Mapper, columns: &[SourceColumn], writer: PlanWriter) -> Self {
        let is_cleared = |field: &&String| !sync.identity.contains(field);
        Self {
            mapper,
            key: columns.iter().take(sync.key.len()).cloned().collect(),
            cleared: sync.config.mapping.keys().filter(is_cleared).cloned().collect(),
            hides_keys: sync.hides_keys(),
            kinds: columns.iter().map(|column| column.kind).collect(),
            keeps_keys: sync.keeps_keys(),
            chunk_rows: (sync.config.delivery.chunk_rows as usize).max(1),
            bulk_rows: Vec::new(),
            writer,
            pace: Change::ALL.map(|_| Pace::new()),
            pending: Vec::new(),
            chunks: Vec::new(),
            samples: Vec::new(),
            problems: Vec::new(),
            refused: [0; 3],
            skipped: 0,
        }
    }

    /// Makes chunks of an operation as large as its bulk interface takes them.
    pub(super) fn go_by_bulk(&mut self, operation: Operation, rows: u32) {
        self.bulk_rows.push((operation, (rows as usize).max(1)));
    }

    fn room(&self, operation: Operation) -> Room {
        match self.bulk_rows.iter().find(|(bulk, _)| *bulk == operation) {
            Some((_, rows)) => Room { rows: *rows, bytes: JOB_BYTES },
            None => Room { rows: self.chunk_rows, bytes: CHUNK_BYTES },
        }
    }

    fn position(&self, change: Change, is_skipped: bool) -> Option<usize> {
        self.pending.iter().position(|pending| pending.change == change && pending.is_skipped == is_skipped)
    }

    fn pending(&mut self, change: Change, operation: Operation, is_skipped: bool) -> &mut Pending {
        let at = self.position(change, is_skipped).unwrap_or_else(|| {
            let kinds: Vec<Kind> = if change == Change::Remove {
                self.key.iter().map(|key| key.kind).collect()
            } else {
                self.kinds.clone()
            };
            let columns = kinds.into_iter().map(Column::new).collect();
            let (ids, index) = (Column::new(Kind::Text), Index::default());
            self.pending.push(Pending { change, is_skipped, operation, columns, ids, has_ids: false, index });
            self.pending.len() - 1
        });
        // The position was just found or made.
        &mut self.pending[at]
    }

    /// Adds rows of a batch, with their key and row hashes.
    pub(super) fn push(
        &mut self,
        batch: &RecordBatch,
        rows: &[u32],
        (keys, hashes): (&[u128], &[u128]),
        change: Change,
        operation: Operation,
    ) -> Result<(), EngineError> {
        let mut rest = rows;
        while !rest.is_empty() {
            let (room, keeps_keys) = (self.room(operation), self.keeps_keys);
            let key_columns: Vec<(usize, Kind)> = self.key.iter().map(|key| key.kind).enumerate().collect();
            let pending = self.pending(change, operation, false);
            let (now, later) = rest.split_at(rest.len().min(room.rows - pending.index.len()));
            for (array, column) in batch.columns().iter().zip(&mut pending.columns) {
                append(array, now, column);
            }
            let mut key = Vec::new();
            for row in now {
                let at = *row as usize;
                let (key_hash, row_hash) = (keys.get(at).copied().unwrap_or(0), hashes.get(at).copied().unwrap_or(0));
                if keeps_keys {
                    key.clear();
                    outflow_snapshot::encode_key(batch, &key_columns, at, &mut key);
                }
                pending.index.push(key_hash, row_hash, keeps_keys.then_some(key.as_slice()));
            }
            rest = later;
            if pending.is_full(room) {
                self.flush(change, false)?;
            }
        }
        Ok(())
    }

    /// Adds a row to remove; one whose record `other` has, too, is skipped.
    pub(super) fn remove(
        &mut self,
        entry: &Entry,
        operation: Operation,
        other: Option<&[u8]>,
    ) -> Result<(), EngineError> {
        let Some(key) = entry.key.as_deref() else {
            // Acknowledged while the sync's mode kept no keys: it cannot be addressed, and must not be guessed.
            self.refused[Change::Remove as usize] += 1;
            if self.problems.len() < NAMED {
                let message = "A removed row cannot be addressed: the sync's mode kept no keys when the row was sent";
                let refusal = Refusal::rejected(InvalidCode::UnknownKey.code(), message);
                self.problems.push(Problem {
                    change: None,
                    key: String::new(),
                    status: None,
                    chunk: None,
                    since: None,
                    refusal,
                });
            }
            return Ok(());
        };
        let (room, is_skipped) = (self.room(operation), other.is_some());
        if let Some(other) = other.filter(|_| self.problems.len() < NAMED) {
            self.problems.push(shared(&self.key, [key, other], self.hides_keys));
        }
        let pending = self.pending(Change::Remove, operation, is_skipped);
        decode_key(key, &mut pending.columns);
        pending
            .ids
            .push(entry.record_id.as_deref().map_or(outflow_model::cell::Cell::Null, outflow_model::cell::Cell::Text));
        pending.index.push(entry.key_hash, 0, Some(key));
        pending.has_ids |= entry.record_id.is_some();
        if pending.is_full(room) { self.flush(Change::Remove, is_skipped) } else { Ok(()) }
    }

    /// Maps what is pending, and writes it as a chunk; as several, where the mapping makes far more of it.
    fn flush(&mut self, change: Change, is_skipped: bool) -> Result<(), EngineError> {
        let Some(at) = self.position(change, is_skipped) else { return Ok(()) };
        let pending = self.pending.swap_remove(at);
        let (rows, operation) = (pending.index.len(), pending.operation);
        let most = self.room(operation).bytes;
        let (mut gathered, mut next): (Option<Mapped>, _) = (None, 0);
        while next < rows {
            let piece = self.pace[change as usize].piece(self.mapper, &pending.columns, next..rows);
            next = piece.end;
            for part in self.map(&pending, piece).cut(most) {
                gathered = match gathered.take() {
                    Some(mut before) if before.bytes() + part.bytes() <= most => {
                        before.append(&part);
                        Some(before)
                    }
                    Some(before) => {
                        self.write(change, operation, is_skipped, &before)?;
                        Some(part)
                    }
                    None => Some(part),
                };
            }
        }
        gathered.map_or(Ok(()), |rest| self.write(change, operation, is_skipped, &rest))
    }

    /// Maps rows of what is pending; those that are refused are counted and named.
    fn map(&mut self, pending: &Pending, rows: Range<usize>) -> Mapped {
        let Pending { change, operation, columns, ids, .. } = pending;
        let start = rows.start as u32;
        let (mut table, invalid) = if *change == Change::Remove {
            self.mapper.apply_identity(columns, rows.clone())
        } else {
            self.mapper.apply(columns, rows.clone())
        };
        self.pace[*change as usize].learn(&table);
        if pending.has_ids {
            table.record_ids = Some(ids.slice(rows));
        }
        if *operation == Operation::Clear {
            self.clear(&mut table);
        }
        self.refused[*change as usize] += invalid.len() as u64;
        for refused in &invalid {
            if self.problems.len() < NAMED {
                let refusal = Refusal::rejected(InvalidCode::Value.code(), refused.message.clone());
                let key = shown(&self.key_of(columns, (start + refused.row) as usize));
                self.problems.push(Problem { change: None, key, status: None, chunk: None, since: None, refusal });
            }
        }
        let bad: BTreeSet<u32> = invalid.iter().map(|invalid| invalid.row).collect();
        let keep: Vec<u32> = (0..table.rows).filter(|row| !bad.contains(row)).collect();
        if !bad.is_empty() {
            table = table.take(&keep);
        }
        let keep: Vec<u32> = keep.into_iter().map(|row| start + row).collect();
        Mapped { table, index: pending.index.take(&keep) }
    }

    fn write(
        &mut self,
        change: Change,
        operation: Operation,
        is_skipped: bool,
        mapped: &Mapped,
    ) -> Result<(), EngineError> {
        let Mapped { table, index } = mapped;
        if is_skipped {
            self.skipped += u64::from(table.rows);
        } else {
            self.sample(change, table);
        }
        let payload = pack(table)?;
        let (offset, length) = self.writer.push(&payload, index)?;
        self.chunks.push(Chunk {
            number: self.chunks.len() as u32,
            change,
            operation,
            rows: table.rows,
            offset,
            length,
            attempt: 0,
            tries: 0,
            not_before: 0,
            requests: 0,
            parked: None,
            ended: None,
            merged: if is_skipped { Merged::skipped(table.rows) } else { Merged::new(table.rows) },
        });
        Ok(())
    }

    fn clear(&self, table: &mut Table) {
        for path in &self.cleared {
            let mut column = Column::new(Kind::Text);
            (0..table.rows).for_each(|_| column.push_null());
            table.fields.push(Field { path: path.clone(), null: NullPolicy::Clear, sensitive: false, column });
        }
    }

    fn key_of(&self, columns: &[Column], row: usize) -> String {
        let texts: Vec<String> = columns.iter().take(self.key.len()).map(|column| column.cell(row).to_text()).collect();
        outflow_model::table::join(&texts)
    }

    fn sample(&mut self, change: Change, table: &Table) {
        let known = self.samples.iter().filter(|sample| sample.change == change).count();
        for row in 0..(table.rows as usize).min(SAMPLES.saturating_sub(known)) {
            let value =
                |field: &Field| if field.sensitive { MASKED.to_owned() } else { field.column.cell(row).to_text() };
            let fields = table.fields.iter().map(|field| (field.path.clone(), value(field))).collect();
            let (key, address) = (table.shown_identity(row), table.identity_text(row));
            self.samples.push(Sample { change, key, address, fields });
        }
    }

    /// Writes what is still pending and ends the plan.
    pub(super) fn finish(mut self) -> Result<Planned, EngineError> {
        for change in Change::ALL {
            self.flush(change, false)?;
        }
        self.flush(Change::Remove, true)?;
        self.writer.finish()?;
        let Self { chunks, samples, problems, refused, skipped, .. } = self;
        Ok(Planned { chunks, samples, problems, withheld: Vec::new(), refused, skipped })
    }
}

/// What a partition came to.
pub(super) struct Planned {
    pub(super) chunks: Vec<Chunk>,
    pub(super) samples: Vec<Sample>,
    pub(super) problems: Vec<Problem>,
    /// Rows that are not sent since an earlier run's outcome still holds.
    pub(super) withheld: Vec<Problem>,
    pub(super) refused: [u64; 3],
    pub(super) skipped: u64,
}

/// A key as it is shown; a key may have up to 1 MiB.
fn shown(key: &str) -> String {
    one_line(key, KEY).into_owned()
}

/// An invalid row's problem.
pub(super) fn invalid(row: &outflow_snapshot::InvalidRow) -> Problem {
    let (code, message) = match &row.reason {
        outflow_snapshot::Reason::NullKey => (InvalidCode::NullKey.code(), "A key column is null"),
        outflow_snapshot::Reason::RefusedKey(reason) => (InvalidCode::Value.code(), reason.as_str()),
        outflow_snapshot::Reason::DuplicateKey => {
            (InvalidCode::DuplicateKey.code(), "Another row has the same key; no copy is sent")
        }
        outflow_snapshot::Reason::LongKey => {
            (InvalidCode::Value.code(), "The key has more than 1 MiB; give the model a shorter one")
        }
    };
    Problem {
        change: None,
        key: row.key.clone(),
        status: None,
        chunk: None,
        since: None,
        refusal: Refusal::rejected(code, message),
    }
}

/// The problem of a removed row whose record another row has.
fn shared(columns: &[SourceColumn], [key, other]: [&[u8]; 2], hides_keys: bool) -> Problem {
    let text = |key| shown(&key_text(key, columns.iter().map(|column| column.kind)));
    let other = if hides_keys { MASKED.to_owned() } else { text(other) };
    let message = format!("The destination gave the same record id for \"{other}\", whose record it stays");
    let refusal = Refusal::rejected(InvalidCode::SharedRecord.code(), message);
    Problem {
        change: Some(Change::Remove),
        key: text(key),
        status: Some(Status::Skipped),
        chunk: None,
        since: None,
        refusal,
    }
}

/// The problem of a row with a faulty value.
pub(super) fn faulty(batch: &RecordBatch, key: &[(usize, Kind)], row: usize, column: &str, reason: &str) -> Problem {
    let mut bytes = Vec::new();
    outflow_snapshot::encode_key(batch, key, row, &mut bytes);
    let refusal = Refusal::rejected(InvalidCode::SourceValue.code(), format!("Column \"{column}\": {reason}"));
    Problem {
        change: None,
        key: shown(&key_text(&bytes, key.iter().map(|(_, kind)| *kind))),
        status: None,
        chunk: None,
        since: None,
        refusal,
    }
}

/// A duplicate's problem.
pub(super) fn duplicate(batch: &RecordBatch, key: &[(usize, Kind)], row: usize) -> Problem {
    let mut bytes = Vec::new();
    outflow_snapshot::encode_key(batch, key, row, &mut bytes);
    invalid(&outflow_snapshot::InvalidRow {
        key: shown(&key_text(&bytes, key.iter().map(|(_, kind)| *kind))),
        reason: outflow_snapshot::Reason::DuplicateKey,
    })
}
