//! Runs and their end.

use async_trait::async_trait;
use outflow_model::id::RunId;
use outflow_model::port::ledger::{Closing, Requested, Run, RunPatch, Runs};
use outflow_model::port::{PortError, Result, Trouble};
use outflow_model::run::RunState;
use sqlx::sqlite::SqliteConnection;

use super::{SqliteLedger, WRITE, corrupt, doing};

type Row = (String, String, i64, Option<i64>, i64);

const COLUMNS: &str = "SELECT document, state, requested, ended, requests FROM runs";

fn read((document, state, requested, ended, requests): Row) -> Result<Run> {
    let mut run: Run =
        serde_json::from_str(&document).map_err(|error| corrupt("A run in the ledger cannot be read", error))?;
    run.state = RunState::parse(&state)
        .ok_or_else(|| PortError::new(Trouble::Newer, format!("The ledger has a run in the unknown state {state}")))?;
    (run.requested, run.ended, run.requests) = (requested, ended, requests as u64);
    Ok(run)
}

fn document(run: &Run) -> Result<String> {
    serde_json::to_string(run).map_err(|error| corrupt("A run cannot be written", error))
}

async fn load(connection: &mut SqliteConnection, id: &RunId) -> Result<Option<Run>> {
    let row: Option<Row> = sqlx::query_as("SELECT document, state, requested, ended, requests FROM runs WHERE id = ?")
        .bind(id.as_str())
        .fetch_optional(connection)
        .await
        .map_err(doing("Cannot read a run"))?;
    row.map(read).transpose()
}

/// Writes `run` over its row, which must be in state `from`.
async fn store(connection: &mut SqliteConnection, run: &Run, from: RunState) -> Result<()> {
    let written = sqlx::query("UPDATE runs SET state = ?, ended = ?, document = ? WHERE id = ? AND state = ?")
        .bind(run.state.name())
        .bind(run.ended)
        .bind(document(run)?)
        .bind(run.id.as_str())
        .bind(from.name())
        .execute(connection)
        .await
        .map_err(doing("Cannot write a run"))?;
    if written.rows_affected() == 1 { Ok(()) } else { Err(conflict(&run.id, from)) }
}

fn conflict(id: &RunId, from: RunState) -> PortError {
    PortError::new(Trouble::Conflict, format!("{id} is not {}", from.name()))
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
            .bind(document(run)?)
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
        let sql = format!("{COLUMNS} WHERE ?1 IS NULL OR sync = ?1 ORDER BY requested DESC, id DESC LIMIT ?2");
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(sync)
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(doing("Cannot read the runs"))?;
        rows.into_iter().map(read).collect()
    }

    async fn patch(&self, id: &RunId, from: RunState, patch: RunPatch) -> Result<()> {
        let mut transaction = self.pool.begin_with(WRITE).await.map_err(doing("Cannot write a run"))?;
        let mut run = load(&mut transaction, id).await?.ok_or_else(|| conflict(id, from))?;
        let RunPatch { state, started, planned, tally, settings, plan, base, header, cancel, failed, reason } = patch;
        if let Some(state) = state {
            if run.state != from || !from.may_become(state) {
                return Err(conflict(id, from));
            }
            run.state = state;
        }
        run.started = started.or(run.started);
        run.planned = planned.or(run.planned);
        run.tally = tally.unwrap_or(run.tally);
        run.settings = settings.unwrap_or(run.settings);
        run.plan = plan.or(run.plan);
        run.base = base.or(run.base);
        run.header = header.or(run.header);
        run.cancel |= cancel;
        run.failed |= failed;
        run.reason = reason.or(run.reason);
        store(&mut transaction, &run, from).await?;
        transaction.commit().await.map_err(doing("Cannot write a run"))
    }

    async fn close(&self, id: &RunId, from: RunState, closing: Closing) -> Result<()> {
        let mut transaction = self.pool.begin_with(WRITE).await.map_err(doing("Cannot close a run"))?;
        let mut run = load(&mut transaction, id).await?.ok_or_else(|| conflict(id, from))?;
        let Closing { state, tally, snapshot, reason, ended } = closing;
        if run.state != from || !state.is_end() || !from.may_become(state) {
            return Err(conflict(id, from));
        }
        (run.state, run.tally, run.ended) = (state, tally, Some(ended));
        run.reason = reason.or(run.reason);
        store(&mut transaction, &run, from).await?;
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

    async fn point(&self, sync: &str, snapshot: Option<&str>) -> Result<()> {
        let query = match snapshot {
            Some(key) => sqlx::query("UPDATE snapshots SET key = ?2 WHERE sync = ?1").bind(sync).bind(key),
            None => sqlx::query("DELETE FROM snapshots WHERE sync = ?").bind(sync),
        };
        query.execute(&self.pool).await.map_err(doing("Cannot point to another snapshot"))?;
        Ok(())
    }
}
