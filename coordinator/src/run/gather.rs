//! What a run came to, record by record: its totals, what the next snapshot learns, and who is named.

use outflow_model::change::Change;
use outflow_model::id::RunId;
use outflow_model::outcome::{Refusal, Status};
use outflow_model::policy::ErrorClass;
use outflow_model::port::ledger::{Chunk, Problem, Run};
use outflow_model::table::Table;
use outflow_model::tally::{Delivered, Tally};
use outflow_model::text::one_line;
use outflow_model::wire::{CHUNK_CAP, Next, unpack};
use outflow_snapshot::{Fold, Learned};

use super::finish::page;
use super::partition::{KEY, NAMED};
use super::plan_file::Index;
use super::{CANCELLED, Engine, EngineError};

/// What a run came to.
pub(super) struct Gathered {
    pub(super) tally: Tally,
    pub(super) problems: Vec<Problem>,
    /// Rows that were not sent, since an earlier run's outcome still holds.
    pub(super) withheld: Vec<Problem>,
    /// Rows of which the next snapshot learns.
    pub(super) learned: u64,
    /// Whether anything was published.
    pub(super) sent: bool,
    /// Whether some records have no outcome and keep what the base says of them.
    pub(super) open: bool,
    /// Why it cannot be said what was sent, where that is so.
    pub(super) lost: Option<String>,
    /// What a chunk of the run waited for; looked up when a record needs it.
    waited: Option<Option<ErrorClass>>,
}

impl Engine {
    /// Gathers what the ledger and the plan tell of a run, chunk by chunk.
    pub(super) async fn gather(&self, run: &Run, fold: &mut Fold) -> Result<Gathered, EngineError> {
        let mut problems: Vec<Problem> = self.ledger.problems(&run.id, 2 * NAMED as u32).await?;
        problems.retain(|problem| problem.chunk.is_none());
        let (withheld, problems) = problems.into_iter().partition(Problem::is_withheld);
        let mut tally = run.tally;
        for change in Change::ALL {
            let planned = tally.delivered(change).planned;
            *tally.delivered_mut(change) = Delivered { planned, ..Delivered::default() };
        }
        let mut gathered =
            Gathered { tally, problems, withheld, learned: 0, sent: false, open: false, lost: None, waited: None };
        let mut from = 0;
        loop {
            let chunks = page(self.ledger.as_ref(), &run.id, from).await?;
            let Some(last) = chunks.last() else { return Ok(gathered) };
            from = last.number + 1;
            for mut chunk in chunks {
                // Announced, and the answer was lost with its process: it will not be heard of again.
                let lost = chunk.merged.undecided();
                chunk.merged.give_up(&lost);
                self.gather_chunk(run, &chunk, fold, &mut gathered).await?;
            }
        }
    }

    /// What chunks of the run have waited for, if that is more than plain trouble.
    async fn waited_for(&self, run: &RunId) -> Result<Option<ErrorClass>, EngineError> {
        let mut from = 0;
        loop {
            let chunks = page(self.ledger.as_ref(), run, from).await?;
            let Some(last) = chunks.last() else { return Ok(None) };
            from = last.number + 1;
            if let Some(class) = chunks.iter().filter_map(waited_for).find(|class| says_why(*class)) {
                return Ok(Some(class));
            }
        }
    }

    async fn gather_chunk(
        &self,
        run: &Run,
        chunk: &Chunk,
        fold: &mut Fold,
        gathered: &mut Gathered,
    ) -> Result<(), EngineError> {
        gathered.sent |= chunk.attempt > 0;
        let aborted = run.cancel || run.failed;
        // What planning skips is final without an attempt; a run that was stopped leaves that to the next.
        let is_skipped = chunk.attempt == 0 && chunk.merged.is_final() && !aborted;
        let teaches = chunk.attempt > 0 || is_skipped;
        let names = gathered.problems.len() < NAMED && chunk_has_problems(chunk);
        let (mut index, mut table) = (None, None);
        if teaches || names {
            match self.frame(run, chunk).await {
                Ok(frame) => {
                    // What cannot be unpacked costs the names of its problems, not the run's end.
                    table = if names { unpack(&frame.payload, CHUNK_CAP).ok() } else { None };
                    index = Some(frame.index);
                }
                Err(error) if error.is_damage() => {
                    if teaches {
                        gathered.lost.get_or_insert(format!("The run's plan cannot be read any more: {error}"));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let unheard = |row: u32| chunk.merged.status(row) == Status::Remaining && chunk.merged.refusal(row).is_none();
        if names && !aborted && gathered.waited.is_none() && (0..chunk.rows).any(unheard) {
            gathered.waited = Some(self.waited_for(&run.id).await?);
        }
        for row in 0..chunk.rows {
            let status = chunk.merged.status(row);
            count(&mut gathered.tally, chunk.change, status, aborted);
            let learned = match &index {
                Some(index) if teaches => learn(run, chunk, row, index, fold)?,
                _ => false,
            };
            gathered.learned += u64::from(learned);
            gathered.open |= status == Status::Remaining && !learned;
            if gathered.problems.len() < NAMED && !matches!(status, Status::Succeeded | Status::Skipped) {
                gathered.problems.push(problem(run, chunk, row, table.as_ref(), gathered.waited.flatten()));
            }
        }
        Ok(())
    }
}

/// Teaches the next snapshot what became of a record; whether there was anything to learn.
fn learn(run: &Run, chunk: &Chunk, row: u32, index: &Index, fold: &mut Fold) -> Result<bool, EngineError> {
    let Some((key_hash, row_hash, key)) = index.get(row as usize) else { return Ok(false) };
    let Some(what) = learned_of(run, chunk, row) else { return Ok(false) };
    fold.learn(key_hash, what, row_hash, key, chunk.merged.record_id(row))?;
    Ok(true)
}

fn chunk_has_problems(chunk: &Chunk) -> bool {
    (0..chunk.rows).any(|row| !matches!(chunk.merged.status(row), Status::Succeeded | Status::Skipped))
}

fn count(tally: &mut Tally, change: Change, status: Status, aborted: bool) {
    let delivered = tally.delivered_mut(change);
    match status {
        Status::Succeeded => delivered.succeeded += 1,
        Status::Skipped => delivered.skipped += 1,
        Status::Rejected => delivered.rejected += 1,
        Status::Unknown => delivered.unknown += 1,
        Status::Remaining if aborted => delivered.aborted += 1,
        Status::Remaining => delivered.deferred += 1,
    }
}

/// What the snapshot learns of a record; nothing where its row keeps its old entry.
fn learned_of(run: &Run, chunk: &Chunk, row: u32) -> Option<Learned> {
    let removal = chunk.change == Change::Remove;
    match chunk.merged.status(row) {
        Status::Succeeded if removal => Some(Learned::Removed),
        Status::Succeeded => Some(Learned::Acknowledged),
        Status::Skipped if removal => Some(Learned::Removed),
        Status::Skipped => None,
        Status::Rejected if removal => Some(Learned::RemovalRefused),
        Status::Rejected => Some(Learned::Refused),
        Status::Unknown => Some(Learned::Unknown),
        Status::Remaining if run.repeats(chunk.operation) && may_be_there(chunk, row) => Some(Learned::Doubtful),
        Status::Remaining => None,
    }
}

/// Whether a record without an outcome may have reached the destination.
fn may_be_there(chunk: &Chunk, row: u32) -> bool {
    match &chunk.ended {
        // Its only delivery has told how it ended: it sent nothing, ...
        Some((1, _)) if chunk.attempt == 1 && chunk.requests == 0 => false,
        // ... or the destination refused to do anything for whoever asked.
        Some((1, Next::Stop { refusal })) if chunk.attempt == 1 && is_refusal_of_all(refusal) => {
            chunk.merged.refusal(row).is_some_and(|refusal| !is_refusal_of_all(refusal))
        }
        _ => chunk.attempt > 0,
    }
}

const fn is_refusal_of_all(refusal: &Refusal) -> bool {
    matches!(refusal.class, ErrorClass::RefreshAuth | ErrorClass::FatalConfig)
}

/// What a chunk waited for. One that only came back from a closed gate has waited for nothing of its own.
fn waited_for(chunk: &Chunk) -> Option<ErrorClass> {
    match &chunk.ended {
        Some((_, Next::Again { class, .. })) if chunk.merged.waited() > 0 => Some(*class),
        _ => None,
    }
}

/// Whether a class names a cause of its own; plain trouble does not.
fn says_why(class: ErrorClass) -> bool {
    class != ErrorClass::Backoff
}

/// Names a record that did not succeed. `waited` is what other chunks of the run waited for.
fn problem(run: &Run, chunk: &Chunk, row: u32, table: Option<&Table>, waited: Option<ErrorClass>) -> Problem {
    let status = chunk.merged.status(row);
    let aborted = status == Status::Remaining && (run.cancel || run.failed);
    let refusal = chunk.merged.refusal(row).cloned().unwrap_or_else(|| match &run.cause {
        Some(cause) if aborted => cause.clone(),
        _ if aborted && run.cancel => {
            let message = run.reason.clone().unwrap_or_else(|| CANCELLED.to_owned());
            Refusal { class: ErrorClass::Cancelled, code: "CANCELLED".to_owned(), message }
        }
        _ if aborted => {
            let why = run.reason.clone().unwrap_or_else(|| "The run was stopped".to_owned());
            Refusal::transient("ABORTED", why)
        }
        _ => Refusal {
            // A chunk that came back from a closed gate says less than one that heard the destination.
            class: waited_for(chunk)
                .filter(|class| says_why(*class))
                .or(waited)
                .or(waited_for(chunk))
                .unwrap_or(ErrorClass::Backoff),
            code: "NOT_SENT".to_owned(),
            message: "The run ended before this record had an outcome".to_owned(),
        },
    });
    let key = table.map_or_else(
        || format!("record {row} of chunk {}", chunk.number),
        |table| one_line(&table.shown_identity(row as usize), KEY).into_owned(),
    );
    Problem { change: Some(chunk.change), key, status: Some(status), chunk: Some(chunk.number), since: None, refusal }
}

#[cfg(test)]
mod tests {
    use outflow_model::change::Operation;
    use outflow_model::id::AttemptId;
    use outflow_model::merge::Merged;
    use outflow_model::port::ledger::RunOptions;
    use outflow_model::wire::ReportV1;

    use super::*;

    fn queued() -> Run {
        Run::queued(RunId::new(0, 0), "people", "crm", RunOptions::default(), 0)
    }

    /// A chunk of two records whose first delivery sent so many requests, and the destination's word that ended it.
    fn stopped(requests: u64, class: ErrorClass) -> Chunk {
        let refusal = Refusal { class, code: "401".to_owned(), message: String::new() };
        Chunk {
            number: 0,
            change: Change::Change,
            operation: Operation::Upsert,
            rows: 2,
            offset: 0,
            length: 1,
            attempt: 1,
            tries: 0,
            not_before: 0,
            requests,
            parked: None,
            ended: Some((1, Next::Stop { refusal })),
            merged: Merged::new(2),
        }
    }

    #[test]
    fn what_refused_credentials_kept_back_is_not_doubtful() {
        assert!(!may_be_there(&stopped(1, ErrorClass::RefreshAuth), 0));
        assert!(!may_be_there(&stopped(0, ErrorClass::Backoff), 0), "nothing was sent at all");
        assert!(may_be_there(&stopped(1, ErrorClass::Backoff), 0));
        let again = Chunk { attempt: 2, ..stopped(1, ErrorClass::RefreshAuth) };
        assert!(may_be_there(&again, 0), "an earlier delivery may have sent it");
        assert!(!may_be_there(&Chunk { attempt: 0, ended: None, ..again }, 0));
    }

    #[test]
    fn what_had_no_answer_before_the_credentials_were_refused_stays_doubtful() {
        let mut chunk = stopped(2, ErrorClass::RefreshAuth);
        let id = AttemptId { run: RunId::new(0, 0), chunk: 0, attempt: 1 };
        let mut report = ReportV1::empty(id, 2, Next::Continue);
        report.reasons.set(1, 1, &Refusal::transient("NO_ANSWER", ""));
        chunk.merged.join(&report);
        assert_eq!([0, 1].map(|row| may_be_there(&chunk, row)), [false, true]);
    }

    #[test]
    fn a_skipped_row_keeps_its_entry() {
        let mut chunk = stopped(1, ErrorClass::Backoff);
        let id = AttemptId { run: RunId::new(0, 0), chunk: 0, attempt: 1 };
        let skipped = vec![Status::Skipped as u8, Status::Succeeded as u8];
        chunk.merged.join(&ReportV1 { statuses: skipped, ..ReportV1::empty(id, 2, Next::Done) });
        assert_eq!([0, 1].map(|row| learned_of(&queued(), &chunk, row)), [None, Some(Learned::Acknowledged)]);
    }

    #[test]
    fn record_without_an_outcome_is_doubtful_unless_its_operation_is_not_repeatable() {
        let run = Run { non_repeatable: vec![Operation::Upsert], ..queued() };
        let of = |operation| learned_of(&run, &Chunk { attempt: 2, operation, ..stopped(1, ErrorClass::Backoff) }, 0);
        assert_eq!([Operation::Update, Operation::Upsert].map(of), [Some(Learned::Doubtful), None]);
    }

    #[test]
    fn an_aborted_record_carries_what_stopped_its_run() {
        let cause = Refusal { class: ErrorClass::RefreshAuth, code: "401".to_owned(), message: "Bad token".to_owned() };
        let failed = Run { failed: true, cause: Some(cause.clone()), ..queued() };
        let chunk = Chunk { attempt: 0, ended: None, ..stopped(0, ErrorClass::Backoff) };
        assert_eq!(problem(&failed, &chunk, 0, None, None).refusal, cause);
        let cancelled = Run { cancel: true, reason: Some("Cancelled by a user".to_owned()), ..queued() };
        let told = problem(&cancelled, &chunk, 0, None, None).refusal;
        assert_eq!((told.class, told.message.as_str()), (ErrorClass::Cancelled, "Cancelled by a user"));
        assert_eq!(problem(&queued(), &chunk, 0, None, None).refusal.code, "NOT_SENT");
    }
}
