//! Naming rows that are not sent: copies of a key, and rows that are withheld since an earlier run.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow_array::RecordBatch;
use outflow_model::cell::Kind;
use outflow_model::change::Change;
use outflow_model::column::Column;
use outflow_model::mapping::{Mapper, SourceColumn};
use outflow_model::outcome::{Refusal, Status};
use outflow_model::policy::ErrorClass;
use outflow_model::port::ledger::{Problem, Run};
use outflow_model::table::MASKED;
use outflow_model::text::one_line;
use outflow_snapshot::{Entry, decode_key};

use super::columns::append;
use super::partition::{KEY, NAMED, duplicate};
use super::{Engine, EngineError};

/// Earlier runs in which the cause is looked for why rows are withheld.
const EARLIER: u32 = 20;
/// The code of a row that is withheld for a reason which is not kept.
const NOT_KEPT: &str = "NOT_KEPT";

/// Rows that are named though they are not sent. All are counted elsewhere.
pub(super) struct Named<'a> {
    mapper: &'a Mapper,
    key: Vec<Kind>,
    duplicates: BTreeSet<u64>,
    /// Whether they had no answer.
    withheld: BTreeMap<u64, bool>,
    pub(super) copies: Vec<Problem>,
    pub(super) held_back: Vec<Problem>,
}

impl<'a> Named<'a> {
    pub(super) fn new(mapper: &'a Mapper, key: &[SourceColumn]) -> Self {
        Self {
            mapper,
            key: key.iter().map(|column| column.kind).collect(),
            duplicates: BTreeSet::new(),
            withheld: BTreeMap::new(),
            copies: Vec::new(),
            held_back: Vec::new(),
        }
    }

    pub(super) fn duplicate(&mut self, ordinal: u64) {
        if self.duplicates.len() < NAMED {
            self.duplicates.insert(ordinal);
        }
    }

    pub(super) fn withheld(&mut self, ordinal: u64, is_unknown: bool) {
        if self.withheld.len() < NAMED {
            self.withheld.insert(ordinal, is_unknown);
        }
    }

    /// Names a row whose removal is withheld.
    pub(super) fn removal(&mut self, entry: &Entry) {
        let Some(key) = entry.key.as_deref().filter(|_| self.held_back.len() < NAMED) else { return };
        let mut columns: Vec<Column> = self.key.iter().copied().map(Column::new).collect();
        decode_key(key, &mut columns);
        for key in self.identities(&columns, 1) {
            self.held_back.push(held_back(Some(Change::Remove), key, entry.unknown.is_some()));
        }
    }

    /// Whether rows of the spool are to be named.
    pub(super) fn is_empty(&self) -> bool {
        self.duplicates.is_empty() && self.withheld.is_empty()
    }

    /// Names the rows of a batch that begins with row number `start`.
    pub(super) fn name(&mut self, batch: &RecordBatch, start: u64) {
        let end = start + batch.num_rows() as u64;
        let key: Vec<(usize, Kind)> = self.key.iter().copied().enumerate().collect();
        let copies =
            self.duplicates.range(start..end).map(|ordinal| duplicate(batch, &key, (ordinal - start) as usize));
        self.copies.extend(copies);
        let withheld: Vec<(u32, bool)> =
            self.withheld.range(start..end).map(|(ordinal, unknown)| ((ordinal - start) as u32, *unknown)).collect();
        let rows: Vec<u32> = withheld.iter().map(|(row, _)| *row).collect();
        let columns: Vec<Column> = self
            .key
            .iter()
            .zip(batch.columns())
            .map(|(kind, array)| {
                let mut column = Column::new(*kind);
                append(array, &rows, &mut column);
                column
            })
            .collect();
        let keys = self.identities(&columns, rows.len());
        self.held_back.extend(keys.into_iter().zip(withheld).map(|(key, (_, unknown))| held_back(None, key, unknown)));
        self.held_back.truncate(NAMED);
    }

    /// What addresses the records of rows with these keys, as delivered records are named.
    fn identities(&self, columns: &[Column], rows: usize) -> Vec<String> {
        if rows == 0 {
            return Vec::new();
        }
        let (table, _) = self.mapper.apply_identity(columns, 0..rows);
        (0..rows).map(|row| one_line(&table.shown_identity(row), KEY).into_owned()).collect()
    }
}

fn held_back(change: Option<Change>, key: String, is_unknown: bool) -> Problem {
    let (status, class, what) = if is_unknown {
        (Status::Unknown, ErrorClass::Unknown, "The record had no answer in an earlier run")
    } else {
        (Status::Rejected, ErrorClass::RejectRecord, "The record was refused in an earlier run")
    };
    let refusal = Refusal { class, code: NOT_KEPT.to_owned(), message: format!("{what}, whose answer is not kept") };
    Problem { change, key, status: Some(status), chunk: None, since: None, refusal }
}

impl Engine {
    /// Adds to withheld rows why they are, and since which run, as far as earlier runs tell.
    pub(super) async fn recall(&self, run: &Run, withheld: &mut [Problem]) -> Result<(), EngineError> {
        let mut open: HashMap<(String, Option<Status>, bool), &mut Problem> = HashMap::new();
        for problem in withheld.iter_mut().filter(|problem| !problem.key.contains(MASKED)) {
            open.insert(place(problem), problem);
        }
        if open.is_empty() {
            return Ok(());
        }
        for earlier in self.ledger.runs(Some(&run.sync), EARLIER).await? {
            if earlier.id == run.id {
                continue;
            }
            for known in self.ledger.problems(&earlier.id, 2 * NAMED as u32).await? {
                if let Some(problem) = open.remove(&place(&known)) {
                    problem.change = known.change;
                    problem.since = known.since.or_else(|| Some(earlier.id.clone()));
                    problem.refusal = known.refusal;
                }
            }
            if open.is_empty() {
                break;
            }
        }
        Ok(())
    }
}

/// What a withheld row and its cause have in common.
fn place(problem: &Problem) -> (String, Option<Status>, bool) {
    (problem.key.clone(), problem.status, problem.change == Some(Change::Remove))
}
