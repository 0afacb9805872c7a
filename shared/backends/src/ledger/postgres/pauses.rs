//! Accounts that are paused.

use async_trait::async_trait;
use outflow_model::limit::Micros;
use outflow_model::port::Result;
use outflow_model::port::pauses::{Pause, Pauses};

use super::{PostgresLedger, query, query_as};

#[async_trait]
impl Pauses for PostgresLedger {
    async fn pause(&self, pause: &Pause) -> Result<()> {
        let statement = query(
            "INSERT INTO pauses (account, reason, by_user, since) VALUES ($1, $2, $3, $4) ON CONFLICT (account) DO UPDATE \
             SET reason = excluded.reason, by_user = excluded.by_user, since = excluded.since \
             WHERE excluded.by_user AND NOT pauses.by_user",
        )
        .bind(&pause.account)
        .bind(&pause.reason)
        .bind(pause.by_user)
        .bind(pause.since);
        self.execute("Cannot pause an account", statement).await?;
        Ok(())
    }

    async fn resume(&self, account: &str, whoever: bool) -> Result<bool> {
        let statement =
            query("DELETE FROM pauses WHERE account = $1 AND ($2 OR NOT by_user)").bind(account).bind(whoever);
        let lifted = self.execute("Cannot resume an account", statement).await?;
        Ok(lifted > 0)
    }

    async fn pauses(&self) -> Result<Vec<Pause>> {
        let statement = query_as("SELECT account, reason, by_user, since FROM pauses ORDER BY account");
        let rows: Vec<(String, String, bool, Micros)> =
            self.rows("Cannot read which accounts are paused", statement).await?;
        let pause = |(account, reason, by_user, since)| Pause { account, reason, by_user, since };
        Ok(rows.into_iter().map(pause).collect())
    }
}
