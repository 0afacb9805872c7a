//! The use of daily quotas.

use async_trait::async_trait;
use outflow_model::port::Result;
use outflow_model::port::ledger::Quotas;

use super::{PostgresLedger, doing, query, query_as};

#[async_trait]
impl Quotas for PostgresLedger {
    async fn daily(&self, account: &str, day: i64) -> Result<u64> {
        let row: Option<(i64,)> = query_as("SELECT used FROM quotas WHERE account = $1 AND day = $2")
            .bind(account)
            .bind(day)
            .fetch_optional(&self.pool)
            .await
            .map_err(doing("Cannot read the day's use"))?;
        Ok(row.map_or(0, |(used,)| used as u64))
    }

    async fn set_daily(&self, account: &str, day: i64, used: u64) -> Result<()> {
        query(
            "INSERT INTO quotas AS known (account, day, used) VALUES ($1, $2, $3) \
             ON CONFLICT (account, day) DO UPDATE SET used = greatest(known.used, excluded.used)",
        )
        .bind(account)
        .bind(day)
        .bind(used as i64)
        .execute(&self.pool)
        .await
        .map_err(doing("Cannot write the day's use"))?;
        Ok(())
    }
}
