//! Runs and their end.

use async_trait::async_trait;
use outflow_model::id::RunId;
use outflow_model::port::Result;
use outflow_model::port::ledger::{Closing, Requested, Resend, Run, RunPatch, Runs};
use outflow_model::run::RunState;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::{PostgresLedger, doing, query, query_as};
use crate::ledger::records::{self, RunRow, conflict};

/// Requests of a run under way are in its chunks: a count that every settling changed would be waited for by all of them.
const COLUMNS: &str = "SELECT document, state, requested, ended, CASE WHEN ended IS NULL \
                       THEN (SELECT coalesce(sum(chunks.requests), 0) FROM chunks WHERE run = runs.id)::bigint \
                       ELSE requests END FROM runs";

/// Reads a run that this transaction will change.
async fn load(connection: &mut PgConnection, id: &RunId, from: RunState) -> Result<Run> {
    let row: Option<RunRow> = query_as(AssertSqlSafe(format!("{COLUMNS} WHERE id = $1 FOR UPDATE OF runs")))
        .bind(id.as_str())
        .fetch_optional(connection)
        .await
        .map_err(doing("Cannot read a run"))?;
    row.map(records::run).transpose()?.ok_or_else(|| conflict(id, from))
}

/// Writes `run` over its row, which must be in state `from`.
async fn store(connection: &mut PgConnection, run: &Run, from: RunState) -> Result<()> {
    let written =
        query("UPDATE runs SET state = $1, ended = $2, requests = $3, document = $4 WHERE id = $5 AND state = $6")
            .bind(run.state.name())
            .bind(run.ended)
            .bind(run.requests as i64)
            .bind(records::document(run)?)
            .bind(run.id.as_str())
            .bind(from.name())
            .execute(connection)
            .await
            .map_err(doing("Cannot write a run"))?;
    if written.rows_affected() == 1 { Ok(()) } else { Err(conflict(&run.id, from)) }
}

impl PostgresLedger {
    /// Queues `run` where none of its sync is queued.
    async fn insert(&self, run: &Run) -> Result<bool> {
        let statement = query(
            "INSERT INTO runs (id, sync, state, requested, document) VALUES ($1, $2, 'queued', $3, $4) \
             ON CONFLICT (sync) WHERE state = 'queued' DO NOTHING",
        )
        .bind(run.id.as_str())
        .bind(&run.sync)
        .bind(run.requested)
        .bind(records::document(run)?);
        let inserted = self.execute("Cannot queue a run", statement).await?;
        Ok(inserted == 1)
    }

    /// Lets the queued run of the same sync stand for `run` too; nothing where none is queued any more.
    async fn merge(&self, run: &Run) -> Result<Option<RunId>> {
        let mut transaction = self.transaction("Cannot queue a run").await?;
        let sql = format!("{COLUMNS} WHERE sync = $1 AND state = 'queued' FOR UPDATE OF runs");
        let row: Option<RunRow> = query_as(AssertSqlSafe(sql))
            .bind(&run.sync)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(doing("Cannot look for a queued run"))?;
        let Some(mut queued) = row.map(records::run).transpose()? else { return Ok(None) };
        queued.options.full |= run.options.full;
        queued.options.retry_rejected |= run.options.retry_rejected;
        store(&mut transaction, &queued, RunState::Queued).await?;
        transaction.commit().await.map_err(doing("Cannot queue a run"))?;
        Ok(Some(queued.id))
    }
}

#[async_trait]
impl Runs for PostgresLedger {
    async fn request(&self, run: &Run) -> Result<Requested> {
        // The queued run may begin between the two, and then another may be queued.
        loop {
            if self.insert(run).await? {
                return Ok(Requested { run: run.id.clone(), fresh: true });
            }
            if let Some(queued) = self.merge(run).await? {
                return Ok(Requested { run: queued, fresh: false });
            }
        }
    }

    async fn run(&self, id: &RunId) -> Result<Option<Run>> {
        let statement = query_as(AssertSqlSafe(format!("{COLUMNS} WHERE id = $1"))).bind(id.as_str());
        let row: Option<RunRow> = self.row("Cannot read a run", statement).await?;
        row.map(records::run).transpose()
    }

    async fn runs(&self, sync: Option<&str>, limit: u32) -> Result<Vec<Run>> {
        let sql = format!("{COLUMNS} WHERE $1::text IS NULL OR sync = $1 ORDER BY number DESC LIMIT $2");
        let statement = query_as(AssertSqlSafe(sql)).bind(sync).bind(i64::from(limit));
        let rows: Vec<RunRow> = self.rows("Cannot read the runs", statement).await?;
        rows.into_iter().map(records::run).collect()
    }

    async fn unended(&self) -> Result<Vec<Run>> {
        let statement = query_as(AssertSqlSafe(format!("{COLUMNS} WHERE ended IS NULL ORDER BY number")));
        let rows: Vec<RunRow> = self.rows("Cannot read the runs", statement).await?;
        rows.into_iter().map(records::run).collect()
    }

    async fn patch(&self, id: &RunId, from: RunState, patch: RunPatch) -> Result<()> {
        let mut transaction = self.begin("Cannot write a run").await?;
        let run = records::patched(load(&mut transaction, id, from).await?, from, patch)?;
        store(&mut transaction, &run, from).await?;
        transaction.commit().await.map_err(doing("Cannot write a run"))
    }

    async fn close(&self, id: &RunId, from: RunState, closing: Closing) -> Result<()> {
        let mut transaction = self.begin("Cannot close a run").await?;
        let (run, snapshot, resend) = records::closed(load(&mut transaction, id, from).await?, from, closing)?;
        store(&mut transaction, &run, from).await?;
        let mark = match resend {
            Resend::Stays => None,
            Resend::Due => Some("INSERT INTO resends (sync) VALUES ($1) ON CONFLICT DO NOTHING"),
            Resend::Done => Some("DELETE FROM resends WHERE sync = $1"),
        };
        if let Some(mark) = mark {
            let marked = query(mark).bind(&run.sync).execute(&mut *transaction).await;
            marked.map_err(doing("Cannot note whether a full resend is due"))?;
        }
        if let Some(key) = snapshot {
            query(
                "INSERT INTO snapshots (sync, run, key) VALUES ($1, $2, $3) \
                 ON CONFLICT (sync) DO UPDATE SET run = excluded.run, key = excluded.key",
            )
            .bind(&run.sync)
            .bind(id.as_str())
            .bind(key)
            .execute(&mut *transaction)
            .await
            .map_err(doing("Cannot point to the new snapshot"))?;
        }
        transaction.commit().await.map_err(doing("Cannot close a run"))
    }

    async fn snapshot(&self, sync: &str) -> Result<Option<String>> {
        let statement = query_as("SELECT key FROM snapshots WHERE sync = $1").bind(sync);
        let row: Option<(String,)> = self.row("Cannot read the snapshot's place", statement).await?;
        Ok(row.map(|(key,)| key))
    }

    async fn is_resend_due(&self, sync: &str) -> Result<bool> {
        let statement = query_as("SELECT 1::bigint FROM resends WHERE sync = $1").bind(sync);
        let row: Option<(i64,)> = self.row("Cannot read whether a full resend is due", statement).await?;
        Ok(row.is_some())
    }

    async fn point(&self, sync: &str, snapshot: Option<&str>) -> Result<()> {
        let statements = match snapshot {
            Some(_) => &["UPDATE snapshots SET key = $2 WHERE sync = $1"][..],
            None => &["DELETE FROM snapshots WHERE sync = $1", "DELETE FROM resends WHERE sync = $1"],
        };
        let mut transaction = self.begin("Cannot point to another snapshot").await?;
        for statement in statements {
            let statement = query(*statement).bind(sync);
            let statement = if let Some(key) = snapshot { statement.bind(key) } else { statement };
            statement.execute(&mut *transaction).await.map_err(doing("Cannot point to another snapshot"))?;
        }
        transaction.commit().await.map_err(doing("Cannot point to another snapshot"))
    }
}
