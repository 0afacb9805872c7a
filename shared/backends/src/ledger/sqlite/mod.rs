//! The ledger in one SQLite file. Every commit is synced to disk.

mod chunks;
mod migrate;
mod pauses;
mod quotas;
mod runs;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outflow_model::port::clock::Clock;
use outflow_model::port::ledger::Times;
use outflow_model::port::{PortError, Result, Trouble};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

use crate::SystemClock;

/// The ledger of one state directory.
pub struct SqliteLedger {
    pool: SqlitePool,
}

impl SqliteLedger {
    /// Opens the ledger at `path`, makes it where it is missing, and brings it up to date.
    pub async fn open(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(30))
            .disable_statement_logging();
        // What a full disk has rolled back the library takes for a transaction that goes on: such a connection is not used again.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
            .connect_with(options)
            .await;
        let pool = pool.map_err(|error| trouble(&format!("Cannot open the ledger {}", path.display()), error))?;
        migrate::migrate(&pool, path).await?;
        Ok(Self { pool })
    }

    /// Closes the ledger.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Whoever shares it is on the same machine.
#[async_trait]
impl Times for SqliteLedger {
    async fn clock(&self) -> Result<Arc<dyn Clock>> {
        Ok(Arc::new(SystemClock::default()))
    }
}

/// How transactions begin: with the write lock, since one that has read cannot take it while another process writes.
const WRITE: &str = "BEGIN IMMEDIATE";

fn trouble(context: &str, error: sqlx::Error) -> PortError {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    let code: u32 = code.and_then(|code| code.parse().ok()).unwrap_or(0);
    // The lowest byte is SQLite's primary code; the whole says more of it.
    let kind = match (code & 0xff, code) {
        (10 | 13, _) => Trouble::Full,
        (11 | 26, _) => Trouble::Corrupt,
        (_, 2067 | 1555) => Trouble::Conflict,
        _ => Trouble::Unavailable,
    };
    let hint = match kind {
        Trouble::Full => " (the disk with the state directory may be full)",
        Trouble::Corrupt => {
            " (`ledger.db` in the state directory is damaged: put a backup of the whole directory back; or move the directory away, and \
             the next run knows nothing of what was sent, and sends every row)"
        }
        _ => "",
    };
    PortError::caused(kind, format!("{context}{hint}"), error)
}

/// Makes the error of a statement that does `context`.
fn doing(context: &'static str) -> impl FnOnce(sqlx::Error) -> PortError {
    move |error| trouble(context, error)
}
