//! Extraction alone: batches out of PostgreSQL, thrown away.

use anyhow::{Result, ensure};
use outflow_sources::{PostgresConfig, Query, SourceConfig};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};

use crate::measure::{Cost, figures, ratio, so_far};
use crate::table::{COLUMNS, bare_copy, seed};

/// Measures the source port against a bare binary COPY, interleaved.
pub(crate) async fn run(rows: u64, postgres: &str, times: usize) -> Result<Value> {
    let mut connection = PgConnection::connect(postgres).await?;
    seed(&mut connection, rows).await?;
    let config = SourceConfig::Postgres(PostgresConfig { url: postgres.to_owned(), statement_timeout_seconds: 3_600 });
    let source = outflow_sources::open("bench", &config, std::path::Path::new("."));
    let query = Query::Sql(format!("SELECT {COLUMNS} FROM outflow_bench").into());
    let columns: Vec<String> = COLUMNS.split(", ").map(str::to_owned).collect();
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..times {
        bare.push(bare_copy(&mut connection).await?);
        let (began, (before, _)) = (std::time::Instant::now(), so_far()?);
        let mut batches = source.extract(&query, &columns).await?.batches;
        let mut read = 0;
        while let Some(batch) = batches.recv().await {
            read += batch?.num_rows() as u64;
        }
        ensure!(read == rows, "{read} of {rows} rows");
        let (after, peak_rss_mb) = so_far()?;
        ours.push(Cost { seconds: began.elapsed().as_secs_f64(), cpu_seconds: after - before, peak_rss_mb });
    }
    connection.execute("DROP TABLE outflow_bench").await?;
    let (bare, ours) = (figures(rows, &bare), figures(rows, &ours));
    Ok(json!({
        "bench": "extract", "rows": rows, "columns": columns.len(),
        "seconds_ratio": ratio(&ours, &bare, "seconds"), "cpu_ratio": ratio(&ours, &bare, "cpu_seconds"),
        "extract": ours, "bare_copy": bare,
    }))
}
