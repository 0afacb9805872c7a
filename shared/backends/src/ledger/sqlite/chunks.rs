//! Chunks and what their records came to.

use std::collections::BTreeMap;

use async_trait::async_trait;
use outflow_model::change::{Change, Operation};
use outflow_model::id::{ChunkNo, RunId};
use outflow_model::limit::Micros;
use outflow_model::merge::Merged;
use outflow_model::port::ledger::{Chunk, Chunks, Problem};
use outflow_model::port::{PortError, Result, Trouble};
use outflow_model::wire::{Next, ParkedV1, ReportV1};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteConnection;

use super::{SqliteLedger, WRITE, corrupt, doing};

const READ: &str = "SELECT number, change, operation, records, start, length, attempt, tries, not_before, parked, merged \
                    FROM chunks WHERE run = ?1";

type Row = (i64, String, String, i64, i64, i64, i64, i64, i64, Option<Vec<u8>>, Vec<u8>);

fn word<T: Serialize>(value: T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn from_word<T: DeserializeOwned>(word: &str) -> Result<T> {
    serde_json::from_value(serde_json::Value::String(word.to_owned()))
        .map_err(|_| PortError::new(Trouble::Newer, format!("The ledger has the unknown word {word}")))
}

fn pack<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    rmp_serde::to_vec_named(value).map_err(|error| corrupt("A chunk cannot be written", error))
}

fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    rmp_serde::from_slice(bytes).map_err(|error| corrupt("A chunk in the ledger cannot be read", error))
}

fn read(row: Row) -> Result<Chunk> {
    let (number, change, operation, rows, offset, length, attempt, tries, not_before, parked, merged) = row;
    Ok(Chunk {
        number: number as ChunkNo,
        change: from_word::<Change>(&change)?,
        operation: from_word::<Operation>(&operation)?,
        rows: rows as u32,
        offset: offset as u64,
        length: length as u64,
        attempt: attempt as u32,
        tries: tries as u32,
        not_before,
        parked: parked.map(|bytes| unpack::<ParkedV1>(&bytes)).transpose()?,
        merged: unpack::<Merged>(&merged)?,
    })
}

async fn load(connection: &mut SqliteConnection, run: &RunId, number: ChunkNo) -> Result<Option<Chunk>> {
    let row: Option<Row> = sqlx::query_as(sqlx::AssertSqlSafe(format!("{READ} AND number = ?2")))
        .bind(run.as_str())
        .bind(number)
        .fetch_optional(connection)
        .await
        .map_err(doing("Cannot read a chunk"))?;
    row.map(read).transpose()
}

async fn store(connection: &mut SqliteConnection, run: &RunId, chunk: &Chunk) -> Result<()> {
    let Chunk { number, change, operation, rows, offset, length, attempt, tries, not_before, parked, merged } = chunk;
    sqlx::query(
        "INSERT OR REPLACE INTO chunks (run, number, change, operation, records, start, length, attempt, tries, \
         not_before, parked, merged) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
    .bind(parked.as_ref().map(pack).transpose()?)
    .bind(pack(merged)?)
    .execute(connection)
    .await
    .map_err(doing("Cannot write a chunk"))?;
    Ok(())
}

/// Joins `report` into `chunk`. What a late report of an older attempt asks for no longer counts.
fn join(chunk: &mut Chunk, report: &ReportV1, now: Micros) {
    chunk.merged.join(report);
    if report.id.attempt < chunk.attempt {
        return;
    }
    if let Some(checkpoint) = &report.checkpoint {
        chunk.parked = Some(checkpoint.clone());
    }
    match &report.next {
        Next::Again { after, counted, parked, .. } => {
            chunk.not_before = chunk.not_before.max(now + after);
            chunk.parked.clone_from(parked);
            chunk.tries += u32::from(*counted);
        }
        // A checkpoint stays: a later delivery goes on from it, unless its records are done.
        Next::Continue | Next::Poison | Next::Done | Next::Stop { .. } => {}
        Next::Lost => chunk.tries += 1,
    }
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
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(format!("{READ} ORDER BY number")))
            .bind(run.as_str())
            .fetch_all(&self.pool)
            .await
            .map_err(doing("Cannot read the chunks"))?;
        rows.into_iter().map(read).collect()
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
        let mut requests: BTreeMap<RunId, i64> = BTreeMap::new();
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
            *requests.entry(key.0.clone()).or_default() += i64::from(report.requests);
            touched.insert(key, chunk);
        }
        for ((run, _), chunk) in &touched {
            store(&mut transaction, run, chunk).await?;
        }
        for (run, requests) in requests.into_iter().filter(|(_, requests)| *requests > 0) {
            sqlx::query("UPDATE runs SET requests = requests + ? WHERE id = ?")
                .bind(requests)
                .bind(run.as_str())
                .execute(&mut *transaction)
                .await
                .map_err(doing("Cannot count requests"))?;
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
            let text = serde_json::to_string(problem).map_err(|error| corrupt("A problem cannot be written", error))?;
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
        let parse = |(text,): (String,)| {
            serde_json::from_str(&text).map_err(|error| corrupt("A problem in the ledger cannot be read", error))
        };
        rows.into_iter().map(parse).collect()
    }

    async fn expire(&self, before: Micros) -> Result<Vec<String>> {
        let rows: Vec<(Option<String>,)> = sqlx::query_as(
            "DELETE FROM runs WHERE ended < ? AND id NOT IN (SELECT run FROM snapshots) \
             RETURNING json_extract(document, '$.plan')",
        )
        .bind(before)
        .fetch_all(&self.pool)
        .await
        .map_err(doing("Cannot expire old runs"))?;
        Ok(rows.into_iter().filter_map(|(plan,)| plan).collect())
    }
}
