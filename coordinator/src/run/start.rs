//! From a queued run to a plan that is durable, guarded, and ready to be delivered.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use outflow_model::change::Change;
use outflow_model::id::RunId;
use outflow_model::port::ledger::{Chunk, Closing, Resend, Run, RunOptions, RunPatch, Sample};
use outflow_model::reasons::cut_text;
use outflow_model::run::RunState;
use outflow_model::text::with_causes;
use outflow_snapshot::{ENCODING, Header, SnapshotError};
use tokio::sync::watch;
use tracing::{Instrument, Span, info, info_span, warn};

use super::base::{Base, base_lost};
use super::dispatch::LOOK;
use super::extract::{Drafted, Inputs, draft};
use super::guard::breach;
use super::keys::names;
use super::plannings::is_deadly;
use super::request::{new_run, unplanned};
use super::{CANCELLED, Engine, EngineError, Finished, Plan, Signal, Start, fingerprint};
use crate::project::{OnBreach, OnMappingChange};

/// Names of what planning leaves in its folder.
const PLAN: &str = "plan";
const REBASED: &str = "rebased";
/// Before a source that refused for now is read again.
const READ_PAUSES: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(30)];
/// So many runs are looked at for one that has sent something.
const RECENT: u32 = 100;
/// Bytes of a value that are shown of a held plan.
const SHOWN: usize = 200;

/// A plan, where it is, and what it was made against.
pub(super) struct Draft {
    pub(super) drafted: Drafted,
    pub(super) folder: tempfile::TempDir,
    /// The key of the base; nothing where nothing was acknowledged, or that is lost.
    base: Option<String>,
    header: Header,
    /// What an earlier run has sent is not known: every row is planned.
    due: bool,
}

impl Draft {
    /// Where the plan is.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join(PLAN)
    }

    /// Why the plan must not be delivered without a second look.
    fn breach(&self, start: &Start) -> Option<Breach> {
        let sync = &start.sync;
        let Drafted { planned, tally, known, .. } = &self.drafted;
        if self.due && planned.chunks.iter().any(|chunk| !sync.repeatable(chunk.operation)) {
            let reason = "What an earlier run has sent is not known, and this plan may send it twice";
            return Some(Breach { reason: reason.to_owned(), on_breach: OnBreach::Hold });
        }
        let reason = breach(&sync.config.guard, tally, *known, self.base.is_none())?;
        Some(Breach { reason, on_breach: sync.config.guard.on_breach })
    }
}

/// Why a plan must not be delivered, and what becomes of its run.
struct Breach {
    reason: String,
    on_breach: OnBreach,
}

/// True where a run was asked for when its sync had another destination.
pub(super) fn leads_elsewhere(run: &Run, start: &Start) -> bool {
    run.destination != start.sync.account.name
}

impl Engine {
    /// Plans a queued run, or one whose planning was cut short, and delivers it.
    pub(super) async fn plan_and_deliver(
        &self,
        run: Run,
        start: &Start,
        signal: watch::Receiver<Signal>,
    ) -> Result<Finished, EngineError> {
        if run.cancel {
            return self.close_unplanned(&run, RunState::Cancelled, CANCELLED).await;
        }
        if let Some(reason) = is_deadly(&run) {
            return self.close_unplanned(&run, RunState::Failed, &reason).await;
        }
        let begins = RunPatch {
            state: Some(RunState::Planning),
            started: Some(self.clock.now()),
            trace: outflow_trace::parent_of(&Span::current()),
            ..RunPatch::default()
        };
        let held = if run.state == RunState::Queued { self.undecided(&run.sync).await? } else { None };
        let is_begun = held.is_none() && run.state == RunState::Queued;
        let run = self.begin_planning(&run, if is_begun { begins.clone() } else { RunPatch::default() }).await?;
        if leads_elsewhere(&run, start) {
            return self.give_way(&run, start).await;
        }
        self.show(|progress| progress.state = Some(RunState::Planning));
        let planned = Box::pin(self.make_plan(&run, start, held.map(|held| (held, begins)), signal.clone()));
        match planned.instrument(info_span!("plan")).await {
            Ok((run, warnings)) if run.state != RunState::Delivering => Ok(Finished { run, warnings }),
            Ok((run, warnings)) => self.deliver(run, start, signal, warnings).await,
            Err(error) => {
                if error.is_away() && self.queue.outlives_processes() {
                    // Whoever goes on with the run plans again.
                    self.end_planning(&run.id).await;
                    return Err(error);
                }
                let state = self.ledger.run(&run.id).await?.map(|run| run.state);
                let state = state.filter(|state| matches!(state, RunState::Queued | RunState::Planning));
                let lost = matches!(error, EngineError::BaseLost(_));
                let resend = if lost { Resend::Due } else { Resend::Stays };
                let closing = unplanned(RunState::Failed, &with_causes(&error), self.clock.as_ref());
                if let Some(state) = state
                    && let Err(closing) = self.ledger.close(&run.id, state, Closing { resend, ..closing }).await
                {
                    warn!(run = %run.id, error = %closing, "The run could not be closed; the next start plans it again");
                }
                Err(error)
            }
        }
    }

    /// Ends a run in state *planning* that was asked for when its sync had another destination; one that is for this one is queued.
    async fn give_way(&self, run: &Run, start: &Start) -> Result<Finished, EngineError> {
        if run.cancel {
            return self.close_unplanned(run, RunState::Cancelled, CANCELLED).await;
        }
        // Asked for before the run is given up: whatever dies in between, what was wanted is done.
        self.ledger.request(&Run { options: run.options, ..new_run(start, self.clock.as_ref()) }).await?;
        let reason = "The sync has another destination by now; a new run plans for it";
        self.close_unplanned(run, RunState::Cancelled, reason).await
    }

    /// Ends a run that has sent nothing.
    pub(super) async fn close_unplanned(
        &self,
        run: &Run,
        state: RunState,
        reason: &str,
    ) -> Result<Finished, EngineError> {
        let current = self.ledger.run(&run.id).await?.ok_or_else(|| EngineError::Lost(run.id.clone()))?;
        self.ledger.close(&run.id, current.state, unplanned(state, reason, self.clock.as_ref())).await?;
        self.finished(&run.id, Vec::new()).await
    }

    pub(super) async fn finished(&self, id: &RunId, warnings: Vec<String>) -> Result<Finished, EngineError> {
        let run = self.ledger.run(id).await?.ok_or_else(|| EngineError::Lost(id.clone()))?;
        self.show(|progress| progress.state = Some(run.state));
        Ok(Finished { run, warnings })
    }

    /// Drafts the plan of a sync. Where what was sent before is not known it holds every row that may be sent again.
    pub(super) async fn draft(&self, start: &Start, options: RunOptions, name: &str) -> Result<Draft, EngineError> {
        let sync = &start.sync;
        let mut base = self.ledger.snapshot(&sync.name).await?;
        let due =
            self.ledger.is_resend_due(&sync.name).await? || (base.is_none() && self.has_forgotten(&sync.name).await?);
        let options = RunOptions { full: options.full || (due && sync.is_repeatable()), ..options };
        let mut header = Self::header(start, name);
        let mut drafted = self.draft_over(start, options, &mut header, base.as_deref()).await;
        if due && matches!(drafted, Err(EngineError::BaseLost(_))) {
            base = None;
            drafted = self.draft_over(start, options, &mut header, None).await;
        }
        let (drafted, folder) = drafted?;
        Ok(Draft { drafted, folder, base, header, due })
    }

    /// Whether the ledger knows of nothing that was sent, but the store has what an earlier run has left of it: the ledger is new.
    async fn has_forgotten(&self, sync: &str) -> Result<bool, EngineError> {
        let has_sent = |run: &Run| run.requests > 0 || matches!(run.state, RunState::Succeeded | RunState::Partial);
        if self.ledger.runs(Some(sync), RECENT).await?.iter().any(has_sent) {
            return Ok(false);
        }
        Ok(!self.store.list(&format!("snapshots/{sync}")).await?.is_empty())
    }

    /// Drafts the plan over a base; a source that refuses for now is read again as a whole, a few times.
    async fn draft_over(
        &self,
        start: &Start,
        options: RunOptions,
        header: &mut Header,
        base_key: Option<&str>,
    ) -> Result<(Drafted, tempfile::TempDir), EngineError> {
        let mut pauses = READ_PAUSES.iter();
        loop {
            match (self.draft_once(start, options, header, base_key).await, pauses.next()) {
                (Err(EngineError::Source(error)), Some(pause)) if error.is_transient() => {
                    tracing::warn!(%error, retry_in_s = pause.as_secs(), "Source refuses for now, reading again");
                    tokio::time::sleep(*pause).await;
                }
                (drafted, _) => return drafted,
            }
        }
    }

    async fn draft_once(
        &self,
        start: &Start,
        options: RunOptions,
        header: &mut Header,
        base_key: Option<&str>,
    ) -> Result<(Drafted, tempfile::TempDir), EngineError> {
        let sync = &start.sync;
        let folder = self.own_folder(&header.run)?;
        // Checked before anything is read, so that a wrong name is told with its place in the sync's file.
        let columns = start.source.columns(&sync.query, &sync.columns).await?;
        sync.mapper(&columns, &start.written).map_err(EngineError::Project)?;
        let extraction = start.source.extract(&sync.query, &sync.columns).await?;
        let mapper = sync.mapper(&extraction.columns, &start.written).map_err(EngineError::Project)?;
        header.key = names(sync, &extraction.columns);
        let base = self.base(base_key, header).await?;
        let only_new = sync.config.on_mapping_change == OnMappingChange::OnlyNew;
        let other_mapping = base.as_ref().is_some_and(|base| base.header.mapping != header.mapping);
        let rebased = (only_new && other_mapping).then(|| (folder.path().join(REBASED), header.clone()));
        let plan = folder.path().join(PLAN);
        let inputs = Inputs {
            sync: sync.clone(),
            mapper,
            options,
            base: base.as_ref().map(|Base { copy, .. }| copy.path.clone()),
            rebased,
            folder: folder.path().to_owned(),
            plan,
        };
        let base_path = inputs.base.clone();
        let (progress, span) = (self.progress.clone(), Span::current());
        // Gone with whoever waits for the plan.
        let wanted = Arc::new(extraction.batches.wanted());
        let still_wanted = Arc::downgrade(&wanted);
        let drafted = tokio::task::spawn_blocking(move || {
            let seen = |rows| {
                progress.send_modify(|progress| progress.extracted = rows);
                still_wanted.strong_count() > 0
            };
            let drafted = span.in_scope(|| draft(&inputs, extraction, &seen));
            drop(base);
            // The folder stays as long as something may be written there.
            drafted.map(|drafted| (drafted, folder))
        });
        let drafted = drafted.await.map_err(|error| EngineError::Task(error.to_string()))?;
        drafted.map_err(|error| match &error {
            EngineError::Snapshot(SnapshotError::Corrupt { path, .. } | SnapshotError::Io { path, .. })
                if Some(path) == base_path.as_ref() =>
            {
                base_lost(error)
            }
            _ => error,
        })
    }

    /// Waits until a user wants the run stopped. While the ledger does not answer, nobody can say so.
    pub(super) async fn cancelled(&self, id: &RunId) {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Ok(Some(run)) = self.ledger.run(id).await
                && run.cancel
            {
                return;
            }
        }
    }

    pub(super) fn header(start: &Start, run: &str) -> Header {
        let sync = &start.sync;
        Header {
            sync: sync.name.clone(),
            run: run.to_owned(),
            account: sync.account.name.clone(),
            destination: sync.account.kind.clone(),
            object: sync.config.object.clone(),
            family: sync.config.mode.family().to_owned(),
            key: Vec::new(),
            fold: sync.fold.clone(),
            mapping: outflow_snapshot::fingerprint(sync.mapping_text().as_bytes()),
            encoding: ENCODING,
        }
    }

    /// Drafts the plan of a run, and answers with the run as it is then; without a draft where it was stopped meanwhile. One that is
    /// interrupted stays as it is.
    async fn draft_run(
        &self,
        run: &Run,
        start: &Start,
        is_queued: bool,
        signal: watch::Receiver<Signal>,
    ) -> Result<(Run, Option<Draft>), EngineError> {
        let mut run = run.clone();
        loop {
            // Until a plan is kept, nothing refers to what was made of it.
            let draft = tokio::select! {
                drafted = self.draft(start, run.options, run.id.as_str()) => drafted?,
                () = self.cancelled(&run.id) => {
                    return Ok((self.close_unplanned(&run, RunState::Cancelled, CANCELLED).await?.run, None));
                }
                () = interrupted(signal.clone()) => {
                    self.end_planning(&run.id).await;
                    return Ok((run, None));
                }
            };
            if !is_queued {
                return Ok((run, Some(draft)));
            }
            // A request may have joined it, or somebody may have withdrawn it.
            let now = self.ledger.run(&run.id).await?.ok_or_else(|| EngineError::Lost(run.id.clone()))?;
            if now.state != RunState::Queued {
                return Ok((now, None));
            }
            if now.options == run.options {
                return Ok((run, Some(draft)));
            }
            run = now;
        }
    }

    /// Makes the plan of a run in state *planning*, durable, and moves the run on. A held run that it `replaces` ends only when the
    /// plan is there: until then the run is queued, and then it begins as is said beside.
    async fn make_plan(
        &self,
        run: &Run,
        start: &Start,
        replaces: Option<(Run, RunPatch)>,
        signal: watch::Receiver<Signal>,
    ) -> Result<(Run, Vec<String>), EngineError> {
        let (run, draft) = self.draft_run(run, start, replaces.is_some(), signal).await?;
        let Some(mut draft) = draft else { return Ok((run, Vec::new())) };
        let run = &run;
        let breach = draft.breach(start);
        if let Some(Breach { reason, on_breach: OnBreach::Fail }) = &breach {
            return self.refuse_plan(run, &draft.drafted, reason).await;
        }
        let state = match &breach {
            Some(Breach { on_breach: OnBreach::Hold, .. }) => RunState::Held,
            _ => RunState::Delivering,
        };
        let (plan, base) = self.keep(run, &draft).await?;
        let Drafted { planned, tally, .. } = &mut draft.drafted;
        if let Some((held, begins)) = replaces {
            if !Box::pin(self.ends_held(&held, start)).await? {
                // Decided about meanwhile: that comes first, and this run plans after it.
                self.end_planning(&run.id).await;
                return Ok((run.clone(), Vec::new()));
            }
            self.ledger.patch(&run.id, RunState::Queued, begins).await?;
        }
        self.ledger.plan(&run.id, &planned.chunks).await?;
        self.recall(run, &mut planned.withheld).await?;
        planned.problems.append(&mut planned.withheld);
        self.ledger.add_problems(&run.id, &planned.problems).await?;
        let total = tally.total().pending();
        info!(run = %run.id, planned = total, state = state.name(), "The plan is complete");
        let mut warnings: Vec<String> = draft.drafted.rekeys().into_iter().collect();
        let reason = match breach {
            Some(breach) if state == RunState::Held => Some(breach.reason),
            breach => {
                warnings.extend(breach.map(|breach| breach.reason));
                None
            }
        };
        let Drafted { planned, tally, .. } = &mut draft.drafted;
        let samples = std::mem::take(&mut planned.samples);
        let patch = RunPatch {
            state: Some(state),
            planned: Some(self.clock.now()),
            tally: Some(*tally),
            settings: Some(fingerprint(start)),
            plan,
            base,
            header: serde_json::to_string(&draft.header).ok(),
            non_repeatable: Some(start.sync.non_repeatable()),
            reason,
            // It has ended in order, whatever befell it before.
            plannings: 0_i32.saturating_sub_unsigned(run.plannings),
            samples: (state == RunState::Held).then(|| samples.into_iter().map(shown).collect()),
            ..RunPatch::default()
        };
        self.ledger.patch(&run.id, RunState::Planning, patch).await?;
        self.plannings.remove(&run.id);
        self.show(|progress| progress.planned = total);
        let run = self.ledger.run(&run.id).await?.ok_or_else(|| EngineError::Lost(run.id.clone()))?;
        Ok((run, warnings))
    }

    /// Ends a run whose plan the guard refuses: nothing of it is sent, and the ledger knows what it would have been.
    async fn refuse_plan(&self, run: &Run, drafted: &Drafted, reason: &str) -> Result<(Run, Vec<String>), EngineError> {
        let mut tally = drafted.tally;
        for change in Change::ALL {
            let delivered = tally.delivered_mut(change);
            delivered.aborted = delivered.pending();
        }
        self.ledger.add_problems(&run.id, &drafted.planned.problems).await?;
        let reason = format!(
            "{reason}. Nothing was sent, since the sync says `on_breach: fail`. Look at `outflow plan {}`, then correct the model, or \
             raise what `guard:` allows",
            run.sync
        );
        let current = self.ledger.run(&run.id).await?.ok_or_else(|| EngineError::Lost(run.id.clone()))?;
        let closing = unplanned(RunState::Failed, &reason, self.clock.as_ref());
        self.ledger.close(&run.id, current.state, Closing { tally, ..closing }).await?;
        let Finished { run, warnings } = self.finished(&run.id, Vec::new()).await?;
        Ok((run, warnings))
    }

    /// Keeps a draft in the store: the keys of its plan and of the base that it stands on.
    async fn keep(&self, run: &Run, draft: &Draft) -> Result<(Option<String>, Option<String>), EngineError> {
        // Of this planning alone: a coordinator that has lost the run without noticing must not write over the plan that another
        // has made since.
        let planning = format!("{}-{:016x}", run.id, self.clock.entropy());
        let plan = (!draft.drafted.planned.chunks.is_empty()).then(|| format!("plans/{planning}.plan"));
        if let Some(key) = &plan {
            self.store.put(key, &draft.path()).await?;
        }
        let rebased = draft.folder.path().join(REBASED);
        if !rebased.exists() {
            return Ok((plan, draft.base.clone()));
        }
        let key = format!("snapshots/{}/{planning}-rebased.snapshot", run.sync);
        self.store.put(&key, &rebased).await?;
        Ok((plan, Some(key)))
    }

    /// Makes a plan to look at; nothing is kept and nothing is sent.
    pub async fn preview(&self, start: &Start) -> Result<Plan, EngineError> {
        let draft = self.draft(start, start.options, "preview").await?;
        let (breach, first, rekeys) = (draft.breach(start), draft.base.is_none(), draft.drafted.rekeys());
        let on_breach = breach.as_ref().map(|breach| breach.on_breach);
        let breach = breach.map(|breach| breach.reason);
        let Drafted { planned, tally, .. } = draft.drafted;
        let limits = &start.sync.account.limits;
        let most = limits.most_records().unwrap_or(u64::MAX);
        let requests_of = |chunk: &Chunk| {
            let rows = u64::from(chunk.rows);
            let calls = |records: u64| rows.div_ceil(records.max(1));
            match (start.sync.bulk(chunk.operation, rows), start.sync.manifest.operation(chunk.operation)) {
                (Some(bulk), _) => calls(bulk.records.into()) * u64::from(bulk.requests),
                (None, spec) => calls(spec.map_or(1, |spec| spec.records.into()).min(most)),
            }
        };
        let requests = planned.chunks.iter().filter(|chunk| !chunk.merged.is_final()).map(requests_of).sum();
        let records = tally.total().pending();
        Ok(Plan {
            seconds: limits.least(requests, records) as f64 / 1_000_000.0,
            a_day: limits.daily.map(|quota| limits.of_day(quota)).filter(|quota| *quota < requests),
            requests,
            breach,
            on_breach,
            first,
            rekeys,
            tally,
            samples: planned.samples,
            problems: planned.problems,
        })
    }
}

/// Waits until a user interrupts what goes on; for ever where no one can any more.
pub(super) async fn interrupted(mut signal: watch::Receiver<Signal>) {
    if signal.wait_for(|signal| *signal == Signal::Interrupt).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A sample as the ledger keeps it.
fn shown(sample: Sample) -> Sample {
    let fields = sample.fields.into_iter().map(|(field, value)| (field, cut_text(&value, SHOWN))).collect();
    Sample { key: cut_text(&sample.key, SHOWN), fields, ..sample }
}
