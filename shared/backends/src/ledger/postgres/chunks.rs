//! Chunks and what their records came to, many at a time: one statement reads a group of chunks, one writes it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use outflow_model::id::{ChunkNo, RunId};
use outflow_model::limit::Micros;
use outflow_model::port::Result;
use outflow_model::port::ledger::{Chunk, Chunks, Problem};
use outflow_model::wire::ReportV1;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::{PostgresLedger, doing, query, query_as};
use crate::ledger::records::{self, ChunkRow, join, pack, word};

const COLUMNS: &str = "number, change, operation, records, start, length, attempt, tries, not_before, requests, parked, \
                       ended, merged";
/// Chunks written by one statement.
const GROUP: usize = 1_000;

/// Old runs forgotten by one statement.
const EXPIRED: i64 = 20;

/// What settling changes in a chunk, column by column.
#[derive(Default)]
struct Settled {
    runs: Vec<String>,
    numbers: Vec<i64>,
    tries: Vec<i64>,
    not_before: Vec<i64>,
    requests: Vec<i64>,
    parked: Vec<Option<Vec<u8>>>,
    ended: Vec<Option<Vec<u8>>>,
    merged: Vec<Vec<u8>>,
}

impl Settled {
    fn of(touched: &BTreeMap<(RunId, ChunkNo), Chunk>) -> Result<Self> {
        let mut all = Self::default();
        for ((run, number), chunk) in touched {
            all.runs.push(run.as_str().to_owned());
            all.numbers.push(i64::from(*number));
            all.tries.push(i64::from(chunk.tries));
            all.not_before.push(chunk.not_before);
            all.requests.push(chunk.requests as i64);
            all.parked.push(chunk.parked.as_ref().map(pack).transpose()?);
            all.ended.push(chunk.ended.as_ref().map(pack).transpose()?);
            all.merged.push(pack(&chunk.merged)?);
        }
        Ok(all)
    }

    async fn write(self, connection: &mut PgConnection) -> Result<()> {
        query(
            "UPDATE chunks SET tries = s.tries, not_before = s.not_before, requests = s.requests, parked = s.parked, \
             ended = s.ended, merged = s.merged \
             FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[], $7::bytea[], \
             $8::bytea[]) AS s (run, number, tries, not_before, requests, parked, ended, merged) \
             WHERE chunks.run = s.run AND chunks.number = s.number",
        )
        .bind(self.runs)
        .bind(self.numbers)
        .bind(self.tries)
        .bind(self.not_before)
        .bind(self.requests)
        .bind(self.parked)
        .bind(self.ended)
        .bind(self.merged)
        .execute(connection)
        .await
        .map_err(doing("Cannot settle"))?;
        Ok(())
    }
}

/// Reads the chunks that `reports` are about and holds them until the transaction ends, always in the same order: two that
/// settle at once wait for each other, never both.
async fn hold(connection: &mut PgConnection, reports: &[ReportV1]) -> Result<BTreeMap<(RunId, ChunkNo), Chunk>> {
    let runs: Vec<String> = reports.iter().map(|report| report.id.run.as_str().to_owned()).collect();
    let numbers: Vec<i64> = reports.iter().map(|report| i64::from(report.id.chunk)).collect();
    let mut touched = BTreeMap::new();
    let mut distinct: Vec<&RunId> = reports.iter().map(|report| &report.id.run).collect();
    distinct.sort_unstable();
    distinct.dedup();
    for run in distinct {
        let sql = format!(
            "SELECT {COLUMNS} FROM chunks WHERE run = $1 AND number IN \
             (SELECT number FROM unnest($2::text[], $3::bigint[]) AS wanted (run, number) WHERE wanted.run = $1) \
             ORDER BY number FOR UPDATE"
        );
        let rows: Vec<ChunkRow> = query_as(AssertSqlSafe(sql))
            .bind(run.as_str())
            .bind(&runs)
            .bind(&numbers)
            .fetch_all(&mut *connection)
            .await
            .map_err(doing("Cannot read the chunks"))?;
        for row in rows {
            let chunk = records::chunk(row)?;
            touched.insert((run.clone(), chunk.number), chunk);
        }
    }
    Ok(touched)
}

async fn insert(connection: &mut PgConnection, run: &RunId, chunks: &[Chunk]) -> Result<()> {
    let numbers = |of: fn(&Chunk) -> i64| chunks.iter().map(of).collect::<Vec<i64>>();
    let words = |of: fn(&Chunk) -> String| chunks.iter().map(of).collect::<Vec<String>>();
    let parked = chunks.iter().map(|chunk| chunk.parked.as_ref().map(pack).transpose()).collect::<Result<Vec<_>>>()?;
    let ended = chunks.iter().map(|chunk| chunk.ended.as_ref().map(pack).transpose()).collect::<Result<Vec<_>>>()?;
    let merged = chunks.iter().map(|chunk| pack(&chunk.merged)).collect::<Result<Vec<_>>>()?;
    let sql = format!(
        "INSERT INTO chunks (run, {COLUMNS}) SELECT $1, * FROM unnest($2::bigint[], $3::text[], $4::text[], $5::bigint[], \
         $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bytea[], $13::bytea[], \
         $14::bytea[])"
    );
    query(AssertSqlSafe(sql))
        .bind(run.as_str())
        .bind(numbers(|chunk| i64::from(chunk.number)))
        .bind(words(|chunk| word(chunk.change)))
        .bind(words(|chunk| word(chunk.operation)))
        .bind(numbers(|chunk| i64::from(chunk.rows)))
        .bind(numbers(|chunk| chunk.offset as i64))
        .bind(numbers(|chunk| chunk.length as i64))
        .bind(numbers(|chunk| i64::from(chunk.attempt)))
        .bind(numbers(|chunk| i64::from(chunk.tries)))
        .bind(numbers(|chunk| chunk.not_before))
        .bind(numbers(|chunk| chunk.requests as i64))
        .bind(parked)
        .bind(ended)
        .bind(merged)
        .execute(connection)
        .await
        .map_err(doing("Cannot write the plan"))?;
    Ok(())
}

#[async_trait]
impl Chunks for PostgresLedger {
    async fn plan(&self, run: &RunId, chunks: &[Chunk]) -> Result<()> {
        let mut transaction = self.begin("Cannot write the plan").await?;
        query("DELETE FROM chunks WHERE run = $1")
            .bind(run.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(doing("Cannot write the plan"))?;
        for group in chunks.chunks(GROUP) {
            insert(&mut transaction, run, group).await?;
        }
        transaction.commit().await.map_err(doing("Cannot write the plan"))
    }

    async fn chunks(&self, run: &RunId) -> Result<Vec<Chunk>> {
        let sql = format!("SELECT {COLUMNS} FROM chunks WHERE run = $1 ORDER BY number");
        let statement = query_as(AssertSqlSafe(sql)).bind(run.as_str());
        let rows: Vec<ChunkRow> = self.rows("Cannot read the chunks", statement).await?;
        rows.into_iter().map(records::chunk).collect()
    }

    async fn some_chunks(&self, run: &RunId, numbers: &[ChunkNo]) -> Result<Vec<Chunk>> {
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        let numbers: Vec<i64> = numbers.iter().map(|number| i64::from(*number)).collect();
        let sql = format!("SELECT {COLUMNS} FROM chunks WHERE run = $1 AND number = ANY ($2) ORDER BY number");
        let statement = query_as(AssertSqlSafe(sql)).bind(run.as_str()).bind(numbers);
        let rows: Vec<ChunkRow> = self.rows("Cannot read the chunks", statement).await?;
        rows.into_iter().map(records::chunk).collect()
    }

    async fn published(&self, run: &RunId, chunks: &[ChunkNo]) -> Result<()> {
        let numbers: Vec<i64> = chunks.iter().map(|number| i64::from(*number)).collect();
        let mut transaction = self.begin("Cannot count an attempt").await?;
        // Held in the same order as settling holds them.
        query(
            "WITH held AS (SELECT number FROM chunks WHERE run = $1 AND number = ANY ($2) ORDER BY number FOR UPDATE) \
             UPDATE chunks SET attempt = attempt + 1 FROM held WHERE run = $1 AND chunks.number = held.number",
        )
        .bind(run.as_str())
        .bind(numbers)
        .execute(&mut *transaction)
        .await
        .map_err(doing("Cannot count an attempt"))?;
        transaction.commit().await.map_err(doing("Cannot count an attempt"))
    }

    async fn settle(&self, reports: &[ReportV1], now: Micros) -> Result<Vec<(RunId, Chunk)>> {
        if reports.is_empty() {
            return Ok(Vec::new());
        }
        let mut transaction = self.transaction("Cannot settle").await?;
        let mut touched = hold(&mut transaction, reports).await?;
        for report in reports {
            if let Some(chunk) = touched.get_mut(&(report.id.run.clone(), report.id.chunk)) {
                join(chunk, report, now);
            }
        }
        Settled::of(&touched)?.write(&mut transaction).await?;
        transaction.commit().await.map_err(doing("Cannot settle"))?;
        Ok(touched.into_iter().map(|((run, _), chunk)| (run, chunk)).collect())
    }

    async fn add_problems(&self, run: &RunId, problems: &[Problem]) -> Result<()> {
        let texts = problems.iter().map(records::problem_text).collect::<Result<Vec<_>>>()?;
        let mut transaction = self.begin("Cannot write the problems").await?;
        query("DELETE FROM problems WHERE run = $1")
            .bind(run.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(doing("Cannot write the problems"))?;
        query(
            "INSERT INTO problems (run, number, problem) \
             SELECT $1, number, problem FROM unnest($2::text[]) WITH ORDINALITY AS p (problem, number)",
        )
        .bind(run.as_str())
        .bind(texts)
        .execute(&mut *transaction)
        .await
        .map_err(doing("Cannot write the problems"))?;
        transaction.commit().await.map_err(doing("Cannot write the problems"))
    }

    async fn problems(&self, run: &RunId, limit: u32) -> Result<Vec<Problem>> {
        let statement = query_as("SELECT problem FROM problems WHERE run = $1 ORDER BY number LIMIT $2")
            .bind(run.as_str())
            .bind(i64::from(limit));
        let rows: Vec<(String,)> = self.rows("Cannot read the problems", statement).await?;
        rows.into_iter().map(|(text,)| records::problem(&text)).collect()
    }

    async fn expire(&self, before: Micros) -> Result<Vec<String>> {
        let mut plans = Vec::new();
        // When a sync runs next is told from its newest run.
        // A few at a time: their chunks go with them, and others wait for what a transaction has locked.
        loop {
            let statement = query_as(
                "DELETE FROM runs WHERE id IN (SELECT id FROM runs AS old WHERE ended < $1 \
                 AND id NOT IN (SELECT run FROM snapshots) AND EXISTS (SELECT 1 FROM runs AS newer \
                 WHERE newer.sync = old.sync AND newer.number > old.number) \
                 ORDER BY ended LIMIT $2) RETURNING document::json ->> 'plan'",
            )
            .bind(before)
            .bind(EXPIRED);
            let rows: Vec<(Option<String>,)> = self.rows("Cannot expire old runs", statement).await?;
            let last = (rows.len() as i64) < EXPIRED;
            plans.extend(rows.into_iter().filter_map(|(plan,)| plan));
            if last {
                return Ok(plans);
            }
        }
    }
}
