//! From a queued run to a plan that is durable, guarded, and ready to be delivered.

use std::sync::Arc;
use std::time::Duration;

use outflow_model::cell::Kind;
use outflow_model::id::RunId;
use outflow_model::port::ledger::{Chunk, Run, RunOptions, RunPatch};
use outflow_model::port::store::LocalCopy;
use outflow_model::run::RunState;
use outflow_snapshot::{ENCODING, Header, SnapshotReader};
use tokio::sync::watch;
use tracing::{Instrument, Span, info, info_span, warn};

use super::dispatch::LOOK;
use super::extract::{Drafted, Inputs, draft};
use super::guard::breach;
use super::keys::names;
use super::request::{new_run, unplanned};
use super::{CANCELLED, Engine, EngineError, Finished, Plan, Signal, Start, fingerprint};
use crate::project::{OnBreach, OnMappingChange};

/// Names of what planning leaves in its folder.
const PLAN: &str = "plan";
const REBASED: &str = "rebased";
/// Before a source that refused for now is read again.
const READ_PAUSES: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(30)];

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
        if run.state == RunState::Queued {
            let patch = RunPatch {
                state: Some(RunState::Planning),
                started: Some(self.clock.now()),
                trace: outflow_trace::parent_of(&Span::current()),
                ..RunPatch::default()
            };
            self.ledger.patch(&run.id, RunState::Queued, patch).await?;
        }
        // A request may have joined it until then.
        let run = self.ledger.run(&run.id).await?.ok_or_else(|| EngineError::Lost(run.id.clone()))?;
        if leads_elsewhere(&run, start) {
            return self.give_way(&run, start).await;
        }
        self.show(|progress| progress.state = Some(RunState::Planning));
        match self.make_plan(&run, start).instrument(info_span!("plan")).await {
            Ok((run, warnings)) if run.state == RunState::Held || run.state.is_end() => Ok(Finished { run, warnings }),
            Ok((run, warnings)) => self.deliver(run, start, signal, warnings).await,
            Err(error) => {
                if error.is_away() && self.queue.outlives_processes() {
                    // Whoever goes on with the run plans again.
                    return Err(error);
                }
                let planning = self.ledger.run(&run.id).await?.is_some_and(|run| run.state == RunState::Planning);
                if planning && let Err(closing) = self.close_unplanned(&run, RunState::Failed, &error.to_string()).await
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

    /// The base snapshot of a sync, checked to be of the same key, account, type of destination and object.
    async fn base(&self, key: Option<&str>, header: &Header) -> Result<Option<(LocalCopy, Header)>, EngineError> {
        let Some(key) = key else { return Ok(None) };
        let copy = self.store.local(key).await?;
        let found = SnapshotReader::open(&copy.path)?.header().clone();
        let other = |what: &'static str, was: String, is: String| EngineError::OtherSnapshot {
            sync: header.sync.clone(),
            what,
            was,
            is,
        };
        let key_of = |header: &Header| {
            let column = |((name, kind), fold): (&(String, Kind), &bool)| {
                format!("{name} {}{}", kind.name(), if *fold { " in any case" } else { "" })
            };
            header.key.iter().zip(&header.fold).map(column).collect::<Vec<_>>().join(", ")
        };
        if found.account != header.account {
            return Err(other("destination account", found.account, header.account.clone()));
        }
        if !found.destination.is_empty() && found.destination != header.destination {
            return Err(other("destination type", found.destination, header.destination.clone()));
        }
        if found.object != header.object {
            return Err(other("object", found.object, header.object.clone()));
        }
        if (&found.key, &found.fold) != (&header.key, &header.fold) {
            return Err(other("key", key_of(&found), key_of(header)));
        }
        if found.encoding != header.encoding {
            return Err(other("encoding", found.encoding.to_string(), header.encoding.to_string()));
        }
        Ok(Some((copy, found)))
    }

    /// Drafts the plan; a source that refuses for now is read again as a whole, a few times.
    async fn draft(
        &self,
        start: &Start,
        options: RunOptions,
        header: &mut Header,
        base_key: Option<&str>,
        name: &str,
    ) -> Result<(Drafted, tempfile::TempDir), EngineError> {
        let mut pauses = READ_PAUSES.iter();
        loop {
            match (self.draft_once(start, options, header, base_key, name).await, pauses.next()) {
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
        name: &str,
    ) -> Result<(Drafted, tempfile::TempDir), EngineError> {
        let sync = &start.sync;
        let folder = self.own_folder(name)?;
        // Checked before anything is read, so that a wrong name is told with its place in the sync's file.
        let columns = start.source.columns(&sync.query, &sync.columns).await?;
        sync.mapper(&columns, &start.written).map_err(EngineError::Project)?;
        let extraction = start.source.extract(&sync.query, &sync.columns).await?;
        let mapper = sync.mapper(&extraction.columns, &start.written).map_err(EngineError::Project)?;
        header.key = names(sync, &extraction.columns);
        let base = self.base(base_key, header).await?;
        let only_new = sync.config.on_mapping_change == OnMappingChange::OnlyNew;
        let other_mapping = base.as_ref().is_some_and(|(_, found)| found.mapping != header.mapping);
        let rebased = (only_new && other_mapping).then(|| (folder.path().join(REBASED), header.clone()));
        let plan = folder.path().join(PLAN);
        let inputs = Inputs {
            sync: sync.clone(),
            mapper,
            options,
            base: base.as_ref().map(|(copy, _)| copy.path.clone()),
            rebased,
            folder: folder.path().to_owned(),
            plan,
        };
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
        drafted.await.map_err(|error| EngineError::Task(error.to_string()))?
    }

    /// Waits until a user wants the run stopped. While the ledger does not answer, nobody can say so.
    async fn cancelled(&self, id: &RunId) {
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
            key: Vec::new(),
            fold: sync.fold.clone(),
            mapping: outflow_snapshot::fingerprint(sync.mapping_text().as_bytes()),
            encoding: ENCODING,
        }
    }

    /// Makes the plan of a run in state *planning*, durable, and moves the run on.
    async fn make_plan(&self, run: &Run, start: &Start) -> Result<(Run, Vec<String>), EngineError> {
        let mut header = Self::header(start, run.id.as_str());
        let base_key = self.ledger.snapshot(&run.sync).await?;
        // Until a plan is kept, nothing refers to what was made of it.
        let (drafted, folder) = tokio::select! {
            drafted = self.draft(start, run.options, &mut header, base_key.as_deref(), run.id.as_str()) => drafted?,
            () = self.cancelled(&run.id) => {
                let finished = self.close_unplanned(run, RunState::Cancelled, CANCELLED).await?;
                return Ok((finished.run, finished.warnings));
            }
        };
        let Drafted { planned, tally, known } = drafted;
        let guard = &start.sync.config.guard;
        let breach = breach(guard, &tally, known, base_key.is_none());
        // Of this planning alone: a coordinator that has lost the run without noticing must not write over the plan that another
        // has made since.
        let planning = format!("{}-{:016x}", run.id, self.clock.entropy());
        let plan_key = format!("plans/{planning}.plan");
        if !planned.chunks.is_empty() {
            self.store.put(&plan_key, &folder.path().join(PLAN)).await?;
        }
        let rebased = folder.path().join(REBASED);
        let base_key = if rebased.exists() {
            let key = format!("snapshots/{}/{planning}-rebased.snapshot", run.sync);
            self.store.put(&key, &rebased).await?;
            Some(key)
        } else {
            base_key
        };
        drop(folder);
        self.ledger.plan(&run.id, &planned.chunks).await?;
        self.ledger.add_problems(&run.id, &planned.problems).await?;
        let total = tally.total().planned;
        let mut warnings = Vec::new();
        let state = match (&breach, guard.on_breach) {
            (Some(breach), OnBreach::Fail) => {
                self.store.delete(&plan_key).await?;
                let finished = self.close_unplanned(run, RunState::Failed, breach).await?;
                return Ok((finished.run, warnings));
            }
            (Some(_), OnBreach::Hold) => RunState::Held,
            (Some(breach), OnBreach::Warn) => {
                warnings.push(breach.clone());
                RunState::Delivering
            }
            (None, _) => RunState::Delivering,
        };
        info!(run = %run.id, planned = total, state = state.name(), "The plan is complete");
        let patch = RunPatch {
            state: Some(state),
            planned: Some(self.clock.now()),
            tally: Some(tally),
            settings: Some(fingerprint(start)),
            plan: (!planned.chunks.is_empty()).then_some(plan_key),
            base: base_key,
            header: serde_json::to_string(&header).ok(),
            reason: breach.filter(|_| state == RunState::Held),
            ..RunPatch::default()
        };
        self.ledger.patch(&run.id, RunState::Planning, patch).await?;
        self.show(|progress| progress.planned = total);
        let run = self.ledger.run(&run.id).await?.ok_or_else(|| EngineError::Lost(run.id.clone()))?;
        Ok((run, warnings))
    }

    /// Makes a plan to look at; nothing is kept and nothing is sent.
    pub async fn preview(&self, start: &Start) -> Result<Plan, EngineError> {
        let mut header = Self::header(start, "preview");
        let base_key = self.ledger.snapshot(&start.sync.name).await?;
        let (drafted, _folder) = self.draft(start, start.options, &mut header, base_key.as_deref(), "preview").await?;
        let Drafted { planned, tally, known } = drafted;
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
        let requests = planned.chunks.iter().map(requests_of).sum();
        let records = tally.total().planned;
        let share = f64::from(100 - limits.reserve_percent.min(99)) / 100.0;
        let seconds = limits.windows.iter().map(|window| {
            let units = if window.unit == outflow_model::limit::Unit::Records { records } else { requests };
            units as f64 / (window.limit as f64 * share) * window.per_ms as f64 / 1_000.0
        });
        Ok(Plan {
            seconds: seconds.fold(0.0, f64::max),
            requests,
            breach: breach(&start.sync.config.guard, &tally, known, base_key.is_none()),
            first: base_key.is_none(),
            tally,
            samples: planned.samples,
            problems: planned.problems,
        })
    }
}
