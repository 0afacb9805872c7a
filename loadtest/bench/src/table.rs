//! The table that benches read, and the barest way to read it.

use anyhow::{Result, ensure};
use futures::StreamExt;
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use crate::measure::{Cost, so_far};

/// Its columns.
pub(crate) const COLUMNS: &str = "id, email, first_name, last_name, ltv, churn_risk, updated_at";

/// Makes it.
pub(crate) async fn seed(connection: &mut PgConnection, rows: u64) -> Result<()> {
    connection.execute("DROP TABLE IF EXISTS outflow_bench").await?;
    let sql = format!(
        "CREATE TABLE outflow_bench (id bigint PRIMARY KEY, email text NOT NULL, first_name text, last_name text, \
         ltv numeric(12,2), churn_risk float8, updated_at timestamptz); \
         INSERT INTO outflow_bench SELECT g, 'user' || g || '@example' || (g % 97) || '.com', 'First' || (g % 5000), \
         'Last' || (g % 7919), round((g % 500000) / 7.0, 2), (g % 1000) / 1000.0, \
         '2026-01-01'::timestamptz + (g || ' seconds')::interval FROM generate_series(1, {rows}) g"
    );
    connection.execute(AssertSqlSafe(sql)).await?;
    connection.execute("VACUUM ANALYZE outflow_bench").await?;
    Ok(())
}

/// The rows as the server sends them, thrown away.
pub(crate) async fn bare_copy(connection: &mut PgConnection) -> Result<Cost> {
    let (began, (before, _)) = (std::time::Instant::now(), so_far()?);
    let sql = format!("COPY (SELECT {COLUMNS} FROM outflow_bench) TO STDOUT (FORMAT binary)");
    let mut copy = connection.copy_out_raw(&sql).await?;
    let mut bytes = 0;
    while let Some(part) = copy.next().await {
        bytes += part?.len();
    }
    ensure!(bytes > 0);
    let (after, peak_rss_mb) = so_far()?;
    Ok(Cost { seconds: began.elapsed().as_secs_f64(), cpu_seconds: after - before, peak_rss_mb })
}
