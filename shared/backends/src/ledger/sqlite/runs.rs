//! Runs and their end.

use async_trait::async_trait;
use outflow_model::id::RunId;
use outflow_model::port::Result;
use outflow_model::port::ledger::{Closing, Requested, Resend, Run, RunPatch, Runs};
use outflow_model::run::RunState;
use sqlx::sqlite::SqliteConnection;

use super::{SqliteLedger, WRITE, doing};
use crate::ledger::records::{self, RunRow, conflict};

/// Requests of a run under way are in its chunks: a count that every settling changed would be waited for by all of them.
const COLUMNS: &str = "SELECT document, state, requested, ended, CASE WHEN ended IS NULL \
                       THEN (SELECT coalesce(sum(chunks.requests), 0) FROM chunks WHERE run = runs.id) ELSE requests END \
                       FROM runs";

async fn load(connection: &mut SqliteConnection, id: &RunId) -> Result<Option<Run>> {
    let row: Option<RunRow> = sqlx::query_as(sqlx::AssertSqlSafe(format!("{COLUMNS} WHERE id = ?")))
        .bind(id.as_str())
        .fetch_optional(connection)
        .await
        .map_err(doing("Cannot read a run"))?;
    row.map(records::run).transpose()
}

/// Writes `run` over its row, which must be in state `from`.
async fn store(connection: &mut SqliteConnection, run: &Run, from: RunState) -> Result<()> {
    let written =
        sqlx::query("UPDATE runs SET state = ?, ended = ?, requests = ?, document = ? WHERE id = ? AND state = ?")
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

#[async_trait]
impl Runs for SqliteLedger {
    async fn request(&self, run: &Run) -> Result<Requested> {
        let mut transaction = self.pool.begin_with(WRITE).await.map_err(doing("Cannot queue a run"))?;
        let queued: Option<(String,)> = sqlx::query_as("SELECT id FROM runs WHERE sync = ? AND state = 'queued'")
            .bind(&run.sync)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(doing("Cannot look for a queued run"))?;
        if let Some(id) = queued.and_then(|(id,)| RunId::parse(&id)) {
            // One run stands for all that was asked for.
            let mut waiting = load(&mut transaction, &id).await?.ok_or_else(|| conflict(&id, RunState::Queued))?;
            waiting.options.full |= run.options.full;
            waiting.options.retry_rejected |= run.options.retry_rejected;
            store(&mut transaction, &waiting, RunState::Queued).await?;
            transaction.commit().await.map_err(doing("Cannot queue a run"))?;
            return Ok(Requested { run: id, fresh: false });
        }
        sqlx::query("INSERT INTO runs (id, sync, state, requested, document) VALUES (?, ?, 'queued', ?, ?)")
            .bind(run.id.as_str())
            .bind(&run.sync)
            .bind(run.requested)
            .bind(records::document(run)?)
            .execute(&mut *transaction)
            .await
            .map_err(doing("Cannot queue a run"))?;
        transaction.commit().await.map_err(doing("Cannot queue a run"))?;
        Ok(Requested { run: run.id.clone(), fresh: true })
    }

    async fn run(&self, id: &RunId) -> Result<Option<Run>> {
        let mut connection = self.pool.acquire().await.map_err(doing("Cannot read a run"))?;
        load(&mut connection, id).await
    }

    async fn runs(&self, sync: Option<&str>, limit: u32) -> Result<Vec<Run>> {
        let sql = format!("{COLUMNS} WHERE ?1 IS NULL OR sync = ?1 ORDER BY rowid DESC LIMIT ?2");
        let rows: Vec<RunRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(sync)
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(doing("Cannot read the runs"))?;
        rows.into_iter().map(records::run).collect()
    }

    async fn unended(&self) -> Result<Vec<Run>> {
        let sql = format!("{COLUMNS} WHERE ended IS NULL ORDER BY rowid");
        let rows: Vec<RunRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .fetch_all(&self.pool)
            .await
            .map_err(doing("Cannot read the runs"))?;
        rows.into_iter().map(records::run).collect()
    }

    async fn patch(&self, id: &RunId, from: RunState, patch: RunPatch) -> Result<()> {
        let mut transaction = self.pool.begin_with(WRITE).await.map_err(doing("Cannot write a run"))?;
        let run = load(&mut transaction, id).await?.ok_or_else(|| conflict(id, from))?;
        let run = records::patched(run, from, patch)?;
        store(&mut transaction, &run, from).await?;
        transaction.commit().await.map_err(doing("Cannot write a run"))
    }

    async fn close(&self, id: &RunId, from: RunState, closing: Closing) -> Result<()> {
        let mut transaction = self.pool.begin_with(WRITE).await.map_err(doing("Cannot close a run"))?;
        let run = load(&mut transaction, id).await?.ok_or_else(|| conflict(id, from))?;
        let (run, snapshot, resend) = records::closed(run, from, closing)?;
        store(&mut transaction, &run, from).await?;
        let mark = match resend {
            Resend::Stays => None,
            Resend::Due => Some("INSERT INTO resends (sync) VALUES (?) ON CONFLICT DO NOTHING"),
            Resend::Done => Some("DELETE FROM resends WHERE sync = ?"),
        };
        if let Some(mark) = mark {
            let marked = sqlx::query(mark).bind(&run.sync).execute(&mut *transaction).await;
            marked.map_err(doing("Cannot note whether a full resend is due"))?;
        }
        if let Some(key) = snapshot {
            sqlx::query(
                "INSERT INTO snapshots (sync, run, key) VALUES (?, ?, ?) \
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
        let row: Option<(String,)> = sqlx::query_as("SELECT key FROM snapshots WHERE sync = ?")
            .bind(sync)
            .fetch_optional(&self.pool)
            .await
            .map_err(doing("Cannot read the snapshot's place"))?;
        Ok(row.map(|(key,)| key))
    }

    async fn is_resend_due(&self, sync: &str) -> Result<bool> {
        let row: Option<(i64,)> = sqlx::query_as("SELECT 1 FROM resends WHERE sync = ?")
            .bind(sync)
            .fetch_optional(&self.pool)
            .await
            .map_err(doing("Cannot read whether a full resend is due"))?;
        Ok(row.is_some())
    }

    async fn point(&self, sync: &str, snapshot: Option<&str>) -> Result<()> {
        let statements = match snapshot {
            Some(_) => &["UPDATE snapshots SET key = ?2 WHERE sync = ?1"][..],
            None => &["DELETE FROM snapshots WHERE sync = ?1", "DELETE FROM resends WHERE sync = ?1"],
        };
        let mut transaction = self.pool.begin_with(WRITE).await.map_err(doing("Cannot point to another snapshot"))?;
        for statement in statements {
            let statement = sqlx::query(*statement).bind(sync);
            let statement = if let Some(key) = snapshot { statement.bind(key) } else { statement };
            statement.execute(&mut *transaction).await.map_err(doing("Cannot point to another snapshot"))?;
        }
        transaction.commit().await.map_err(doing("Cannot point to another snapshot"))
    }
}
