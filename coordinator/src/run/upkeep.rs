//! Looking at snapshots, and forgetting what is old.

use std::path::Path;

use outflow_model::cell::{DAY, Kind};
use outflow_model::limit::Micros;
use outflow_model::port::ledger::Run;
use outflow_model::text::with_causes;
use outflow_snapshot::{Entry, SnapshotError, SnapshotReader, SnapshotWriter, key_text};
use serde::Serialize;
use tracing::warn;

use super::{Engine, EngineError};

/// What a snapshot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SnapshotCounts {
    /// The run that made it.
    pub run: String,
    /// Rows.
    pub rows: u64,
    /// Acknowledged by the destination.
    pub acknowledged: u64,
    /// Refused by the destination.
    pub refused: u64,
    /// Sent without a final answer.
    pub doubtful: u64,
    /// Sent without an answer to a destination that cannot be repeated.
    pub unknown: u64,
}

/// Counts the entries of the snapshot at `path`.
pub fn count_snapshot(path: &Path) -> Result<SnapshotCounts, SnapshotError> {
    let mut reader = SnapshotReader::open(path)?;
    let mut counts = SnapshotCounts { run: reader.header().run.clone(), ..SnapshotCounts::default() };
    while let Some(entry) = reader.next()? {
        counts.rows += 1;
        counts.acknowledged += u64::from(entry.acknowledged.is_some());
        counts.refused += u64::from(entry.refused.is_some());
        counts.doubtful += u64::from(entry.doubtful);
        counts.unknown += u64::from(entry.unknown.is_some());
    }
    Ok(counts)
}

/// What a user decides of records that were sent without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// They arrived: take them as acknowledged.
    Sent,
    /// They did not: plan them again.
    Resend,
}

impl Engine {
    /// The keys of a sync's unknown records, or of the one with this key; where there is a decision, it is written.
    pub async fn unknown(
        &self,
        sync: &str,
        key: Option<&str>,
        decision: Option<Decision>,
    ) -> Result<Vec<String>, EngineError> {
        if let (Some(_), Some(run)) = (decision, self.active(sync).await?) {
            // Its plan stands on the snapshot that a decision would replace.
            return Err(EngineError::State { run: run.id, state: run.state, wanted: "ended" });
        }
        match self.decide_unknown(sync, key, decision).await {
            // A run has found that before: the next one plans every row, and nothing is undecided any more.
            Err(error) if error.is_damage() && self.ledger.is_resend_due(sync).await? => Ok(Vec::new()),
            decided => decided,
        }
    }

    async fn decide_unknown(
        &self,
        sync: &str,
        key: Option<&str>,
        decision: Option<Decision>,
    ) -> Result<Vec<String>, EngineError> {
        let Some(snapshot) = self.ledger.snapshot(sync).await? else { return Ok(Vec::new()) };
        let copy = self.store.local(&snapshot).await?;
        let mut reader = SnapshotReader::open(&copy.path)?;
        let path = self.folder.join("decided.snapshot");
        let mut writer = SnapshotWriter::create(&path, reader.header())?;
        let mut keys = Vec::new();
        let kinds: Vec<Kind> = reader.header().key.iter().map(|(_, kind)| *kind).collect();
        while let Some(mut entry) = reader.next()? {
            let name = key_text(entry.key.as_deref().unwrap_or_default(), kinds.iter().copied());
            if entry.unknown.is_some() && key.is_none_or(|key| key == name) {
                keys.push(name);
                decide(&mut entry, decision);
            }
            writer.push(&entry)?;
        }
        writer.finish()?;
        if decision.is_some() && !keys.is_empty() {
            let decided = format!("snapshots/{sync}/decided-{:016x}.snapshot", self.clock.now());
            self.store.put(&decided, &path).await?;
            self.ledger.point(sync, Some(&decided)).await?;
            self.discard(&snapshot).await;
        }
        keys.sort_unstable();
        Ok(keys)
    }

    /// Forgets what was acknowledged of a sync.
    pub async fn forget(&self, sync: &str) -> Result<(), EngineError> {
        if let Some(run) = self.active(sync).await? {
            // It would write what it knows when it ends.
            return Err(EngineError::State { run: run.id, state: run.state, wanted: "ended" });
        }
        self.ledger.point(sync, None).await?;
        // A snapshot that only another ledger knew would say that something was sent.
        for stored in self.store.list(&format!("snapshots/{sync}")).await? {
            self.discard(&stored.key).await;
        }
        Ok(())
    }

    /// Forgets runs that ended more than `days` ago, their plans, snapshots that no sync points to, and what is left of the
    /// messages of runs that have ended.
    pub async fn expire(&self, days: u32) -> Result<(), EngineError> {
        let before = self.clock.now().saturating_sub(Micros::from(days).saturating_mul(DAY));
        for plan in self.ledger.expire(before).await? {
            self.discard(&plan).await;
        }
        // What is being made is pointed to only when it is whole.
        let before = before.min(self.clock.now() - DAY);
        // A planning that was cut short leaves a plan that no run points to.
        let unended = self.ledger.unended().await?;
        for stored in self.store.list("plans").await? {
            let needed = unended.iter().any(|run| run.plan.as_ref() == Some(&stored.key));
            if stored.modified < before && !needed {
                self.discard(&stored.key).await;
            }
        }
        self.sweep_messages(&unended).await?;
        for stored in self.store.list("snapshots").await? {
            let sync = stored.key.split('/').nth(1).unwrap_or_default();
            // A run under way stands on its base, which nothing else may point to; when it ends the sync may.
            let base = self.active(sync).await?.and_then(|run| run.base);
            let kept = self.ledger.snapshot(sync).await?;
            let needed = [kept, base].into_iter().flatten().any(|key| key == stored.key);
            if stored.modified < before && !needed {
                self.discard(&stored.key).await;
            }
        }
        Ok(())
    }

    /// Whoever acknowledges a large message deletes its body, unless it dies in between.
    async fn sweep_messages(&self, unended: &[Run]) -> Result<(), EngineError> {
        for stored in self.store.list("messages").await? {
            let needed = unended.iter().any(|run| is_message_of(&stored.key, run));
            if stored.modified < self.clock.now() - DAY && !needed {
                self.discard(&stored.key).await;
            }
        }
        Ok(())
    }

    /// Deletes what nobody needs. What cannot be deleted keeps nothing else there, and is found again.
    pub(super) async fn discard(&self, key: &str) {
        if let Err(error) = self.store.delete(key).await {
            warn!(
                key,
                error = with_causes(&error),
                "What nobody needs any more could not be deleted; it is tried again"
            );
        }
    }
}

/// Whether the object `key` is the body of a message of this run.
fn is_message_of(key: &str, run: &Run) -> bool {
    let name = key.strip_prefix("messages/").and_then(|name| name.strip_prefix(run.id.as_str()));
    name.is_some_and(|rest| rest.starts_with('.'))
}

fn decide(entry: &mut Entry, decision: Option<Decision>) {
    match decision {
        Some(Decision::Sent) => entry.acknowledged = entry.unknown.take(),
        Some(Decision::Resend) => entry.unknown = None,
        None => {}
    }
}
