//! The use of daily quotas.

use async_trait::async_trait;
use outflow_model::port::Result;
use outflow_model::port::ledger::Quotas;

use super::{SqliteLedger, doing};

#[async_trait]
impl Quotas for SqliteLedger {
    async fn daily(&self, account: &str, day: i64) -> Result<u64> {
        let row: Option<(i64,)> = sqlx::query_as("SELECT used FROM quotas WHERE account = ? AND day = ?")
            .bind(account)
            .bind(day)
            .fetch_optional(&self.pool)
            .await
            .map_err(doing("Cannot read the day's use"))?;
        Ok(row.map_or(0, |(used,)| used as u64))
    }

    async fn set_daily(&self, account: &str, day: i64, used: u64) -> Result<()> {
        sqlx::query(
            "INSERT INTO quotas (account, day, used) VALUES (?, ?, ?) \
             ON CONFLICT (account, day) DO UPDATE SET used = max(used, excluded.used)",
        )
        .bind(account)
        .bind(day)
        .bind(used as i64)
        .execute(&self.pool)
        .await
        .map_err(doing("Cannot write the day's use"))?;
        Ok(())
    }

    async fn give_back(&self, account: &str, day: i64, unused: u64) -> Result<()> {
        sqlx::query("UPDATE quotas SET used = max(0, used - ?) WHERE account = ? AND day = ?")
            .bind(unused as i64)
            .bind(account)
            .bind(day)
            .execute(&self.pool)
            .await
            .map_err(doing("Cannot write the day's use"))?;
        Ok(())
    }

    async fn windows(&self, account: &str) -> Result<Option<String>> {
        let row: Option<(String,)> = sqlx::query_as("SELECT used FROM windows WHERE account = ?")
            .bind(account)
            .fetch_optional(&self.pool)
            .await
            .map_err(doing("Cannot read the use of rate limits"))?;
        Ok(row.map(|(used,)| used))
    }

    async fn set_windows(&self, account: &str, used: &str) -> Result<()> {
        sqlx::query(
            "INSERT INTO windows (account, used) VALUES (?, ?) \
             ON CONFLICT (account) DO UPDATE SET used = excluded.used",
        )
        .bind(account)
        .bind(used)
        .execute(&self.pool)
        .await
        .map_err(doing("Cannot write the use of rate limits"))?;
        Ok(())
    }
}
