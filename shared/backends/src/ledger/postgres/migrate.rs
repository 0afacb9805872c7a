//! The ledger's schema, brought up to date step by step, by one process at a time.
//!
//! Processes of the version before go on while a step is taken, and begin again after it, so a step adds; what nobody uses any
//! more is taken away by a later version, whose step says which version can still work with what is left.

use outflow_model::port::{PortError, Result, Trouble};
use sqlx::Executor;
use sqlx::postgres::PgPool;

use super::{doing, query, query_as};

/// Every step, in order; a step that has been released is never changed.
const STEPS: &[&str] = &[
    include_str!("../../../migrations/postgres/0001_ledger.sql"),
    include_str!("../../../migrations/postgres/0002_leases.sql"),
    include_str!("../../../migrations/postgres/0003_pauses.sql"),
    include_str!("../../../migrations/postgres/0004_least.sql"),
    include_str!("../../../migrations/postgres/0005_resends.sql"),
    include_str!("../../../migrations/postgres/0006_project.sql"),
    include_str!("../../../migrations/postgres/0007_order.sql"),
];
/// The advisory lock of whoever changes the schema: "outflow" in ASCII.
const LOCK: i64 = 0x6f_7574_666c_6f77;

pub(super) async fn migrate(pool: &PgPool) -> Result<()> {
    // What is up to date is only looked at: it may be read-only for a while, or the user not allowed to change its schema.
    if version(pool).await? == STEPS.len() as i64 {
        return Ok(());
    }
    let mut transaction = pool.begin().await.map_err(doing("Cannot begin to update the ledger"))?;
    query("SELECT pg_advisory_xact_lock($1)")
        .bind(LOCK)
        .execute(&mut *transaction)
        .await
        .map_err(doing("Cannot lock the ledger's schema"))?;
    transaction
        .execute("CREATE TABLE IF NOT EXISTS outflow_version (version bigint NOT NULL)")
        .await
        .map_err(doing("Cannot read the ledger's version"))?;
    let (version,): (i64,) = query_as("SELECT coalesce(max(version), 0) FROM outflow_version")
        .fetch_one(&mut *transaction)
        .await
        .map_err(doing("Cannot read the ledger's version"))?;
    let known = STEPS.len() as i64;
    if version > known {
        let (least,): (i64,) = query_as("SELECT max(least) FROM outflow_version")
            .fetch_one(&mut *transaction)
            .await
            .map_err(doing("Cannot read the ledger's version"))?;
        if known < least {
            let text = format!(
                "The ledger has version {version}, which needs an Outflow that knows version {least}; this one knows {known}: \
                 upgrade Outflow"
            );
            return Err(PortError::new(Trouble::Newer, text));
        }
    }
    for (number, step) in STEPS.iter().enumerate().skip(version as usize) {
        transaction.execute(*step).await.map_err(doing("Cannot update the ledger"))?;
        query("INSERT INTO outflow_version (version) VALUES ($1)")
            .bind(number as i64 + 1)
            .execute(&mut *transaction)
            .await
            .map_err(doing("Cannot update the ledger's version"))?;
    }
    transaction.commit().await.map_err(doing("Cannot update the ledger"))
}

/// The schema's version; 0 where there is none.
async fn version(pool: &PgPool) -> Result<i64> {
    let failed = || doing("Cannot read the ledger's version");
    let mut transaction = pool.begin().await.map_err(failed())?;
    let there = query_as("SELECT to_regclass('outflow_version') IS NOT NULL").fetch_one(&mut *transaction).await;
    let (there,): (bool,) = there.map_err(failed())?;
    if !there {
        return Ok(0);
    }
    let newest = query_as("SELECT coalesce(max(version), 0) FROM outflow_version").fetch_one(&mut *transaction).await;
    let (version,): (i64,) = newest.map_err(failed())?;
    transaction.commit().await.map_err(failed())?;
    Ok(version)
}
