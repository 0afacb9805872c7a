//! The use of daily quotas.

use async_trait::async_trait;
use outflow_model::port::Result;
use outflow_model::port::ledger::Quotas;

use super::{PostgresLedger, query, query_as};

#[async_trait]
impl Quotas for PostgresLedger {
    async fn daily(&self, account: &str, day: i64) -> Result<u64> {
        let statement = query_as("SELECT used FROM quotas WHERE account = $1 AND day = $2").bind(account).bind(day);
        let row: Option<(i64,)> = self.row("Cannot read the day's use", statement).await?;
        Ok(row.map_or(0, |(used,)| used as u64))
    }

    async fn set_daily(&self, account: &str, day: i64, used: u64) -> Result<()> {
        let statement = query(
            "INSERT INTO quotas AS known (account, day, used) VALUES ($1, $2, $3) \
             ON CONFLICT (account, day) DO UPDATE SET used = greatest(known.used, excluded.used)",
        )
        .bind(account)
        .bind(day)
        .bind(used as i64);
        self.execute("Cannot write the day's use", statement).await?;
        Ok(())
    }
}
