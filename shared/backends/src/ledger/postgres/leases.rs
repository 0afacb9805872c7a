//! Leases, and writing under them.

use std::sync::Arc;

use async_trait::async_trait;
use outflow_model::limit::Micros;
use outflow_model::port::lease::{Epoch, Leases};
use outflow_model::port::ledger::Ledger;
use outflow_model::port::{PortError, Result, Trouble};
use sqlx::Transaction;
use sqlx::postgres::Postgres;

use super::{PostgresLedger, doing, query, query_as};

impl PostgresLedger {
    /// A transaction that commits only under the newest epoch of this ledger's lease: it keeps the lease from changing hands
    /// until then, and its holder may renew it meanwhile, since that changes no part of its key.
    pub(super) async fn begin(&self, context: &'static str) -> Result<Transaction<'static, Postgres>> {
        let mut transaction = self.transaction(context).await?;
        let Some((name, epoch)) = &self.fence else { return Ok(transaction) };
        let held = query("SELECT 1 FROM leases WHERE name = $1 AND epoch = $2 FOR KEY SHARE")
            .bind(name)
            .bind(epoch)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(doing(context))?;
        if held.is_none() {
            return Err(PortError::new(
                Trouble::Conflict,
                format!("{context}: another coordinator has taken {name} over"),
            ));
        }
        Ok(transaction)
    }
}

#[async_trait]
impl Leases for PostgresLedger {
    async fn take(&self, name: &str, holder: &str, time: Micros) -> Result<Option<Epoch>> {
        let mut transaction = self.transaction("Cannot take a lease").await?;
        let renewed: Option<(Epoch,)> = query_as(
            "UPDATE leases SET until = clock_timestamp() + $3 * interval '1 microsecond' WHERE name = $1 AND holder = $2 \
             RETURNING epoch",
        )
        .bind(name)
        .bind(holder)
        .bind(time)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(doing("Cannot renew a lease"))?;
        if let Some((epoch,)) = renewed {
            transaction.commit().await.map_err(doing("Cannot renew a lease"))?;
            return Ok(Some(epoch));
        }
        let row: Option<(Epoch,)> = query_as(
            "INSERT INTO leases (name, holder, epoch, until) \
             VALUES ($1, $2, 1, clock_timestamp() + $3 * interval '1 microsecond') \
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until, epoch = leases.epoch + 1 \
             WHERE leases.until < clock_timestamp() RETURNING epoch",
        )
        .bind(name)
        .bind(holder)
        .bind(time)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(doing("Cannot take a lease"))?;
        transaction.commit().await.map_err(doing("Cannot take a lease"))?;
        Ok(row.map(|(epoch,)| epoch))
    }

    async fn release(&self, name: &str, holder: &str) -> Result<()> {
        let statement = query("UPDATE leases SET until = clock_timestamp() WHERE name = $1 AND holder = $2")
            .bind(name)
            .bind(holder);
        self.execute("Cannot give a lease back", statement).await?;
        Ok(())
    }

    async fn check(&self) -> Result<()> {
        // It changes no row, and is refused as if it did.
        let statement = query("UPDATE leases SET until = until WHERE false");
        self.execute("The ledger cannot be written", statement).await.map(drop)
    }

    fn under(&self, name: &str, epoch: Epoch) -> Arc<dyn Ledger> {
        Arc::new(Self { pool: self.pool.clone(), fence: Some((name.to_owned(), epoch)) })
    }
}
