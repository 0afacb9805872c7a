//! Planning: extract, detect, map, partition. Nothing is sent before the plan is whole.

use std::path::{Path, PathBuf};

use arrow_array::{RecordBatch, UInt32Array};
use arrow_select::take::take_record_batch;
use outflow_model::cell::Kind;
use outflow_model::change::Change;
use outflow_model::mapping::{Mapper, SourceColumn};
use outflow_model::port::ledger::{Problem, RunOptions};
use outflow_model::table::MASKED;
use outflow_model::tally::Tally;
use outflow_snapshot::{
    Detected, Detector, Entry, Header, Removals, Rules, Sink, SnapshotError, SnapshotReader, SnapshotWriter,
    SpoolReader, SpoolWriter,
};
use outflow_sources::{Batch, Batches, Extraction};
use tracing::info_span;
use xxhash_rust::xxh3::xxh3_64;

use super::EngineError;
use super::keys::KeyForms;
use super::named::Named;
use super::partition::{NAMED, Partition, Planned, faulty, invalid};
use super::plan_file::PlanWriter;
use crate::project::{ResolvedSync, RetryRejected};

/// Memory that the diff may hold before it goes to disk.
const MEMORY: usize = 32 * 1024 * 1024;

/// What a plan is made from.
pub(super) struct Inputs {
    pub(super) sync: ResolvedSync,
    pub(super) mapper: Mapper,
    pub(super) options: RunOptions,
    pub(super) base: Option<PathBuf>,
    /// Where the base goes as it is under the new mapping, where rows are rebased.
    pub(super) rebased: Option<(PathBuf, Header)>,
    pub(super) folder: PathBuf,
    pub(super) plan: PathBuf,
}

/// A plan on disk.
pub(super) struct Drafted {
    pub(super) planned: Planned,
    pub(super) tally: Tally,
    /// Rows that the base knew.
    pub(super) known: u64,
    /// Unchanged rows that are sent, to learn their keys.
    pub(super) rekeyed: u64,
}

impl Drafted {
    /// Says that rows are sent again to learn their keys, where that is so.
    pub(super) fn rekeys(&self) -> Option<String> {
        let rows = self.rekeyed;
        (rows > 0).then(|| {
            format!(
                "{rows} row(s) are sent again though they did not change: the sync's mode kept no keys when they were sent, and a row \
                 can be removed only by its key"
            )
        })
    }
}

/// Collects what the merge finds.
struct Found<'a> {
    removals: Option<Removals>,
    rebased: Option<SnapshotWriter>,
    named: Named<'a>,
}

impl Sink for Found<'_> {
    fn removed(&mut self, entry: Entry) -> Result<(), SnapshotError> {
        self.removals.as_mut().map_or(Ok(()), |removals| removals.push(&entry))
    }

    fn rebased(&mut self, entry: &Entry) -> Result<(), SnapshotError> {
        self.rebased.as_mut().map_or(Ok(()), |rebased| rebased.push(entry))
    }

    fn duplicate(&mut self, ordinal: u64) {
        self.named.duplicate(ordinal);
    }

    fn withheld(&mut self, ordinal: u64, is_unknown: bool) {
        self.named.withheld(ordinal, is_unknown);
    }

    fn removal_withheld(&mut self, entry: &Entry) {
        self.named.removal(entry);
    }
}

/// Drafts the plan. Blocks; batches are awaited, for as long as `seen` answers that somebody wants it.
pub(super) fn draft(
    inputs: &Inputs,
    extraction: Extraction,
    seen: &dyn Fn(u64) -> bool,
) -> Result<Drafted, EngineError> {
    let Inputs { sync, mapper, options, base, rebased, folder, plan } = inputs;
    let Extraction { columns, schema, batches } = extraction;
    let kinds: Vec<Kind> = columns.iter().map(|column| column.kind).collect();
    let key: Vec<(usize, bool)> = sync.fold.iter().copied().enumerate().collect();
    let seed = xxh3_64(sync.mapping_text().as_bytes());
    let forms = KeyForms::new(sync, mapper, &columns);
    let detector = || forms.apply(Detector::new(&kinds, &key, seed, folder, MEMORY));

    let spool = folder.join("spool.arrow");
    let mut writer = SpoolWriter::create(&spool, &schema)?;
    let mut first_pass = detector();
    let mut faults = Faults { columns: &columns, key: key_columns(&columns, sync.key.len()), problems: Vec::new() };
    info_span!("extract").in_scope(|| read_source(batches, &mut writer, &mut first_pass, &mut faults, seen))?;
    let Faults { mut problems, .. } = faults;
    writer.finish()?;

    let mut partition = Partition::new(sync, mapper, &columns, PlanWriter::create(plan)?);

    let mut reader = base.as_deref().map(SnapshotReader::open).transpose()?;
    let rules = rules(sync, *options, rebased.is_some());
    let rebased = rebased.as_ref().map(|(path, header)| SnapshotWriter::create(path, header)).transpose()?;
    let removals = reader.as_ref().map(|base| Removals::new(base.header().clone(), folder, MEMORY));
    let named = Named::new(mapper, columns.get(..sync.key.len()).unwrap_or_default());
    let mut found = Found { removals, rebased, named };
    let detected = info_span!("detect").in_scope(|| first_pass.finish(reader.as_mut(), rules, &mut found))?;
    let Found { mut named, removals, rebased } = found;
    rebased.map(SnapshotWriter::finish).transpose()?;
    if let (Some(removals), Some(base), Some(operation)) = (removals, base, sync.operation(Change::Remove)) {
        removals.finish(base, |entry, other| partition.remove(entry, operation, other))?;
    }
    problems.extend(detected.named.iter().map(invalid));
    if detected.adds + detected.changes > 0 || !named.is_empty() {
        for (change, records) in [(Change::Add, detected.adds), (Change::Change, detected.changes)] {
            let Some(operation) = sync.operation(change) else { continue };
            if let Some(bulk) = sync.bulk(operation, records) {
                partition.go_by_bulk(operation, bulk.records);
            }
        }
        info_span!("partition")
            .in_scope(|| second_pass(sync, &spool, detector(), &detected, &mut named, &mut partition))?;
    }
    std::fs::remove_file(&spool).map_err(|source| SnapshotError::Io { action: "remove", path: spool, source })?;
    let mut planned = partition.finish()?;
    problems.append(&mut named.copies);
    problems.append(&mut planned.problems);
    problems.truncate(NAMED);
    if sync.hides_keys() {
        problems.iter_mut().for_each(|problem| MASKED.clone_into(&mut problem.key));
    }
    planned.problems = problems;
    planned.withheld = named.held_back;
    let tally = tally(&detected, &planned);
    tally.plan_closes().and_then(|()| holds(&planned, &tally)).map_err(EngineError::Accounting)?;
    Ok(Drafted { planned, tally, known: detected.known, rekeyed: detected.rekeyed })
}

/// How the sync's rows are compared.
fn rules(sync: &ResolvedSync, options: RunOptions, rebase: bool) -> Rules {
    Rules {
        full: options.full,
        retry_refused: options.retry_rejected || sync.config.retry_rejected == RetryRejected::EveryRun,
        hold_refused: sync.config.retry_rejected == RetryRejected::Never,
        on_unknown: sync.config.on_unknown,
        rebase,
        ignore_changes: sync.operation(Change::Change).is_none(),
        adds_known: sync.operation(Change::Add).is_some_and(|operation| sync.repeatable(operation)),
        removes: sync.operation(Change::Remove).is_some(),
    }
}

/// Whether the chunks hold the records that the diff has counted.
fn holds(planned: &Planned, tally: &Tally) -> Result<(), String> {
    for change in Change::ALL {
        let of_change = planned.chunks.iter().filter(|chunk| chunk.change == change);
        let (held, counted) =
            (of_change.map(|chunk| u64::from(chunk.rows)).sum::<u64>(), tally.delivered(change).planned);
        if held != counted {
            return Err(format!("{counted} records are planned to {}, but the plan holds {held}", change.name()));
        }
    }
    Ok(())
}

fn key_columns(columns: &[SourceColumn], count: usize) -> Vec<(usize, Kind)> {
    columns.iter().take(count).map(|column| column.kind).enumerate().collect()
}

/// Names rows with faulty values, as they come.
struct Faults<'a> {
    columns: &'a [SourceColumn],
    key: Vec<(usize, Kind)>,
    problems: Vec<Problem>,
}

impl Faults<'_> {
    /// Names the first faulty value of each row.
    fn name(&mut self, batch: &Batch, rows: &[u32]) {
        for row in rows.iter().take(NAMED.saturating_sub(self.problems.len())) {
            let of_row = batch.faults.iter().filter(|fault| fault.row == *row);
            let Some(fault) = of_row.min_by_key(|fault| fault.column) else { continue };
            let column = self.columns.get(usize::from(fault.column)).map_or("", |column| &column.name);
            self.problems.push(faulty(&batch.records, &self.key, *row as usize, column, &fault.reason));
        }
    }
}

/// Spools and hashes every row; a source that breaks off is an error, never fewer rows.
fn read_source(
    mut batches: Batches,
    spool: &mut SpoolWriter,
    detector: &mut Detector<'_>,
    faults: &mut Faults<'_>,
    seen: &dyn Fn(u64) -> bool,
) -> Result<(), EngineError> {
    let mut rows = 0;
    while let Some(batch) = batches.blocking_recv() {
        let batch = batch?;
        let faulty = batch.faulty_rows();
        faults.name(&batch, &faulty);
        spool.push(&batch.records)?;
        detector.push(&batch.records, &faulty)?;
        rows += batch.num_rows() as u64;
        if !seen(rows) {
            return Err(EngineError::Task("nobody wants its plan any more".to_owned()));
        }
    }
    Ok(())
}

/// Reads the spool again and hands on just the rows that are to be sent.
fn second_pass(
    sync: &ResolvedSync,
    spool: &Path,
    mut hasher: Detector<'_>,
    detected: &Detected,
    named: &mut Named<'_>,
    partition: &mut Partition<'_>,
) -> Result<(), EngineError> {
    let mut reader = SpoolReader::open(spool)?;
    let mut start = 0;
    while let Some(batch) = reader.next()? {
        named.name(&batch, start);
        let mut chosen = Vec::new();
        // Places in what is chosen, not in the batch.
        let mut rows: [Vec<u32>; 2] = [Vec::new(), Vec::new()];
        for row in 0..batch.num_rows() as u32 {
            let Some(change) = detected.selection.of(start + u64::from(row)) else { continue };
            rows[usize::from(change != Change::Add)].push(chosen.len() as u32);
            chosen.push(row);
        }
        start += batch.num_rows() as u64;
        if chosen.is_empty() {
            continue;
        }
        // Few of many: the others are not hashed again.
        let batch = if chosen.len() == batch.num_rows() { batch } else { only(&batch, chosen)? };
        let hashes = hasher.hash(&batch)?;
        for (change, rows) in [Change::Add, Change::Change].into_iter().zip(&rows) {
            if let Some(operation) = sync.operation(change) {
                partition.push(&batch, rows, hashes, change, operation)?;
            }
        }
    }
    Ok(())
}

/// The rows of a batch at these places.
fn only(batch: &RecordBatch, rows: Vec<u32>) -> Result<RecordBatch, EngineError> {
    take_record_batch(batch, &UInt32Array::from(rows))
        .map_err(|source| SnapshotError::Arrow { action: "take rows of", source }.into())
}

fn tally(found: &Detected, planned: &Planned) -> Tally {
    let [adds, changes, removes] = planned.refused;
    let mut tally = Tally {
        extracted: found.extracted,
        unchanged: found.unchanged,
        ignored: found.ignored,
        withheld: found.withheld,
        invalid: found.invalid + adds + changes,
        missing: found.missing,
        missing_ignored: found.missing_ignored + removes,
        missing_invalid: removes,
        missing_withheld: found.missing_withheld,
        missing_unsure: found.missing_unsure,
        keyless: found.keyless,
        ..Tally::default()
    };
    tally.add.planned = found.adds - adds;
    tally.change.planned = found.changes - changes;
    tally.remove.planned = found.removes - removes;
    tally.remove.skipped = planned.skipped;
    tally
}
