//! Chunks and what their records came to.

use std::collections::BTreeMap;

use async_trait::async_trait;
use outflow_model::id::{ChunkNo, RunId};
use outflow_model::limit::Micros;
use outflow_model::port::Result;
use outflow_model::port::ledger::{Chunk, Chunks, Problem};
use outflow_model::wire::ReportV1;
use sqlx::sqlite::SqliteConnection;

use super::{SqliteLedger, WRITE, doing};
use crate::ledger::records::{self, ChunkRow, join, pack, word};

const READ: &str = "SELECT number, change, operation, records, start, length, attempt, tries, not_before, requests, parked, \
                    ended, merged FROM chunks WHERE run = ?1";

async fn load(connection: &mut SqliteConnection, run: &RunId, number: ChunkNo) -> Result<Option<Chunk>> {
    let row: Option<ChunkRow> = sqlx::query_as(sqlx::AssertSqlSafe(format!("{READ} AND number = ?2")))
        .bind(run.as_str())
        .bind(number)
        .fetch_optional(connection)
        .await
        .map_err(doing("Cannot read a chunk"))?;
    row.map(records::chunk).transpose()
}

async fn store(connection: &mut SqliteConnection, run: &RunId, chunk: &Chunk) -> Result<()> {
    let Chunk { number, change, operation, rows, offset, length, attempt, tries, not_before, .. } = chunk;
    sqlx::query(
        "INSERT OR REPLACE INTO chunks (run, number, change, operation, records, start, length, attempt, tries, \
         not_before, requests, parked, ended, merged) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(run.as_str())
    .bind(number)
    .bind(word(change))
    .bind(word(operation))
    .bind(rows)
    .bind(*offset as i64)
    .bind(*length as i64)
    .bind(attempt)
    .bind(tries)
    .bind(not_before)
    .bind(chunk.requests as i64)
    .bind(chunk.parked.as_ref().map(pack).transpose()?)
    .bind(chunk.ended.as_ref().map(pack).transpose()?)
    .bind(pack(&chunk.merged)?)
    .execute(connection)
    .await
    .map_err(doing("Cannot write a chunk"))?;
    Ok(())
}

#[async_trait]
impl Chunks for SqliteLedger {
    async fn plan(&self, run: &RunId, chunks: &[Chunk]) -> Result<()> {
        let mut transaction = self.pool.begin_with(WRITE).await.map_err(doing("Cannot write the plan"))?;
        sqlx::query("DELETE FROM chunks WHERE run = ?")
            .bind(run.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(doing("Cannot write the plan"))?;
        for chunk in chunks {
            store(&mut transaction, run, chunk).await?;
        }
        transaction.commit().await.map_err(doing("Cannot write the plan"))
    }

    async fn chunks(&self, run: &RunId) -> Result<Vec<Chunk>> {
        let rows: Vec<ChunkRow> = sqlx::query_as(sqlx::AssertSqlSafe(format!("{READ} ORDER BY number")))
            .bind(run.as_str())
            .fetch_all(&self.pool)
            .await
            .map_err(doing("Cannot read the chunks"))?;
        rows.into_iter().map(records::chunk).collect()
    }

    async fn some_chunks(&self, run: &RunId, numbers: &[ChunkNo]) -> Result<Vec<Chunk>> {
        let mut connection = self.pool.acquire().await.map_err(doing("Cannot read the chunks"))?;
        let mut found = Vec::with_capacity(numbers.len());
        for number in numbers {
            found.extend(load(&mut connection, run, *number).await?);
        }
        Ok(found)
    }

    async fn published(&self, run: &RunId, chunks: &[ChunkNo]) -> Result<()> {
        let mut transaction = self.pool.begin_with(WRITE).await.map_err(doing("Cannot count an attempt"))?;
        for number in chunks {
            sqlx::query("UPDATE chunks SET attempt = attempt + 1 WHERE run = ? AND number = ?")
                .bind(run.as_str())
                .bind(number)
                .execute(&mut *transaction)
                .await
                .map_err(doing("Cannot count an attempt"))?;
        }
        transaction.commit().await.map_err(doing("Cannot count an attempt"))
    }

    async fn settle(&self, reports: &[ReportV1], now: Micros) -> Result<Vec<(RunId, Chunk)>> {
        let mut transaction = self.pool.begin_with(WRITE).await.map_err(doing("Cannot settle"))?;
        let mut touched: BTreeMap<(RunId, ChunkNo), Chunk> = BTreeMap::new();
        for report in reports {
            let key = (report.id.run.clone(), report.id.chunk);
            let mut chunk = match touched.remove(&key) {
                Some(chunk) => chunk,
                None => match load(&mut transaction, &key.0, key.1).await? {
                    Some(chunk) => chunk,
                    None => continue,
                },
            };
            join(&mut chunk, report, now);
            touched.insert(key, chunk);
        }
        for ((run, _), chunk) in &touched {
            store(&mut transaction, run, chunk).await?;
        }
        transaction.commit().await.map_err(doing("Cannot settle"))?;
        Ok(touched.into_iter().map(|((run, _), chunk)| (run, chunk)).collect())
    }

    async fn add_problems(&self, run: &RunId, problems: &[Problem]) -> Result<()> {
        let mut transaction = self.pool.begin_with(WRITE).await.map_err(doing("Cannot write the problems"))?;
        sqlx::query("DELETE FROM problems WHERE run = ?")
            .bind(run.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(doing("Cannot write the problems"))?;
        for (number, problem) in problems.iter().enumerate() {
            let text = records::problem_text(problem)?;
            sqlx::query("INSERT INTO problems (run, number, problem) VALUES (?, ?, ?)")
                .bind(run.as_str())
                .bind(number as i64)
                .bind(text)
                .execute(&mut *transaction)
                .await
                .map_err(doing("Cannot write the problems"))?;
        }
        transaction.commit().await.map_err(doing("Cannot write the problems"))
    }

    async fn problems(&self, run: &RunId, limit: u32) -> Result<Vec<Problem>> {
        let rows: Vec<(String,)> = sqlx::query_as("SELECT problem FROM problems WHERE run = ? ORDER BY number LIMIT ?")
            .bind(run.as_str())
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(doing("Cannot read the problems"))?;
        rows.into_iter().map(|(text,)| records::problem(&text)).collect()
    }

    async fn expire(&self, before: Micros) -> Result<Vec<String>> {
        // When a sync runs next is told from its newest run.
        let rows: Vec<(Option<String>,)> = sqlx::query_as(
            "DELETE FROM runs WHERE ended < ? AND id NOT IN (SELECT run FROM snapshots) \
             AND EXISTS (SELECT 1 FROM runs AS newer WHERE newer.sync = runs.sync AND newer.rowid > runs.rowid) \
             RETURNING json_extract(document, '$.plan')",
        )
        .bind(before)
        .fetch_all(&self.pool)
        .await
        .map_err(doing("Cannot expire old runs"))?;
        Ok(rows.into_iter().filter_map(|(plan,)| plan).collect())
    }
}
