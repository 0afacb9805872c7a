//! The ledger's schema, brought up to date step by step.

use std::path::Path;

use outflow_model::port::{PortError, Result, Trouble};
use sqlx::sqlite::SqlitePool;
use sqlx::{AssertSqlSafe, Executor};

use super::{WRITE, doing};

/// Every step, in order; a step that has been released is never changed.
const STEPS: &[&str] = &[
    include_str!("../../../migrations/sqlite/0001_ledger.sql"),
    include_str!("../../../migrations/sqlite/0002_ended_deliveries.sql"),
    include_str!("../../../migrations/sqlite/0003_pauses.sql"),
    include_str!("../../../migrations/sqlite/0004_windows.sql"),
    include_str!("../../../migrations/sqlite/0005_resends.sql"),
    include_str!("../../../migrations/sqlite/0006_order.sql"),
];

pub(super) async fn migrate(pool: &SqlitePool, path: &Path) -> Result<()> {
    let mut transaction = pool.begin_with(WRITE).await.map_err(doing("Cannot begin to update the ledger"))?;
    let (version,): (i64,) = sqlx::query_as("PRAGMA user_version")
        .fetch_one(&mut *transaction)
        .await
        .map_err(doing("Cannot read the ledger's version"))?;
    let known = STEPS.len() as i64;
    if version > known {
        let text = format!(
            "The ledger {} has version {version}, but this Outflow knows version {known}; upgrade Outflow",
            path.display()
        );
        return Err(PortError::new(Trouble::Newer, text));
    }
    for (number, step) in STEPS.iter().enumerate().skip(version as usize) {
        transaction.execute(*step).await.map_err(doing("Cannot update the ledger"))?;
        let pragma = format!("PRAGMA user_version = {}", number + 1);
        transaction.execute(AssertSqlSafe(pragma)).await.map_err(doing("Cannot update the ledger's version"))?;
    }
    transaction.commit().await.map_err(doing("Cannot update the ledger"))
}
