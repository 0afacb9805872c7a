//! The ledger that several processes share, in PostgreSQL.
//!
//! It works behind a pooler that changes the server's session with each transaction: no statement is prepared for later,
//! none is outside of a transaction, no lock and no setting outlives its transaction.

mod chunks;
mod leases;
mod migrate;
mod pauses;
mod quotas;
mod runs;
mod single;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outflow_model::database_url::{mistake, verifies_certificate};
use outflow_model::limit::Micros;
use outflow_model::port::clock::Clock;
use outflow_model::port::lease::Epoch;
use outflow_model::port::ledger::Times;
use outflow_model::port::{PortError, Result, Trouble};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgRow, PgSslMode, Postgres};
use sqlx::query::{Query, QueryAs};
use sqlx::{ConnectOptions, FromRow, SqlSafeStr, Transaction};

use crate::clock::SharedClock;

/// Connections of one process: settling, and what a user asks for meanwhile.
const CONNECTIONS: u32 = 8;
/// How transactions begin. A process that freezes in one, or whose machine is gone, holds up nobody for longer: its session
/// ends, and with that what it has locked.
const BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '10s'; SET LOCAL lock_timeout = '5s'";
/// How long a statement waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(10);
/// Why there is no connection is asked for so long.
const CAUSE: Duration = Duration::from_secs(3);

/// The ledger of one database. A clone shares its connections.
#[derive(Clone)]
pub struct PostgresLedger {
    pool: PgPool,
    /// The lease that it is written under.
    fence: Option<(String, Epoch)>,
}

impl PostgresLedger {
    /// Opens the ledger at `url` and brings it up to date.
    pub async fn open(url: &str) -> Result<Self> {
        // The URL holds credentials: errors do not repeat it.
        if let Some(mistake) = mistake(url) {
            return Err(PortError::new(Trouble::Refused, format!("The ledger cannot be used: {mistake}")));
        }
        let options: PgConnectOptions = url
            .parse()
            .map_err(|error| PortError::caused(Trouble::Refused, "The URL of the ledger cannot be used", error))?;
        let socket = options.get_socket().map(|socket| socket.display().to_string());
        let verifies = verifies_certificate(url, socket.as_deref().unwrap_or_else(|| options.get_host()));
        let options = if verifies { options.ssl_mode(PgSslMode::VerifyFull) } else { options };
        // Poolers refuse settings of a session that they do not know; numbers travel in binary.
        let options = options
            .extra_float_digits(None)
            .statement_cache_capacity(0)
            .application_name("outflow")
            .disable_statement_logging();
        let place = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE);
        let pool = match pool.connect_with(options.clone()).await {
            Err(sqlx::Error::PoolTimedOut) => Err(no_connection(&options).await),
            pool => pool,
        };
        let pool = pool.map_err(doing(&format!("Cannot reach the ledger at {place}")))?;
        migrate::migrate(&pool).await?;
        Ok(Self { pool, fence: None })
    }

    /// Gives the ledger to the project `name`, if it has none; an error if it belongs to another. A project without a name may use
    /// a ledger that belongs to none.
    pub async fn belong_to(&self, name: Option<&str>) -> Result<()> {
        const CONTEXT: &str = "Cannot ask which project the ledger belongs to";
        let owner = || self.row::<(String,)>(CONTEXT, query_as("SELECT name FROM project"));
        let mut owned = owner().await?;
        if let (None, Some(name)) = (&owned, name) {
            let statement = query("INSERT INTO project (name) VALUES ($1) ON CONFLICT DO NOTHING").bind(name);
            self.execute("Cannot give the ledger to its project", statement).await?;
            owned = owner().await?;
        }
        let Some((owner,)) = owned.filter(|(owner,)| Some(owner.as_str()) != name) else { return Ok(()) };
        let text = format!(
            "The ledger belongs to the project \"{owner}\", and this project is {}. Give each project a database and a `prefix` of its \
             own; if this is the same project, write `project: {owner}` under `state.shared`",
            name.map_or_else(|| "not named".to_owned(), |name| format!("\"{name}\""))
        );
        Err(PortError::new(Trouble::Refused, text))
    }

    async fn now(&self) -> Result<Micros> {
        let now = query_as("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint");
        let row: Option<(Micros,)> = self.row("Cannot ask for the time", now).await?;
        row.map(|(now,)| now).ok_or_else(|| PortError::new(Trouble::Corrupt, "The ledger has no time"))
    }

    /// Begins a transaction, in a task of its own that is not cut off with its caller. The library does not know of a `BEGIN` whose
    /// caller has gone before its answer: the connection would go back to the pool with an open transaction.
    async fn transaction(&self, context: &'static str) -> Result<Transaction<'static, Postgres>> {
        let pool = self.pool.clone();
        let begun = tokio::spawn(async move { pool.begin_with(BEGIN).await }).await;
        let begun = begun.map_err(|error| PortError::caused(Trouble::Unavailable, context, error))?;
        begun.map_err(doing(context))
    }

    /// Closes the ledger.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// The database's time.
#[async_trait]
impl Times for PostgresLedger {
    async fn clock(&self) -> Result<Arc<dyn Clock>> {
        let (now, ledger) = (self.now().await?, self.clone());
        let clock = SharedClock::new(move || {
            let ledger = ledger.clone();
            async move { ledger.now().await }
        });
        clock.set(now);
        Ok(clock)
    }
}

/// What an SQLSTATE means (<https://www.postgresql.org/docs/15/errcodes-appendix.html>).
fn trouble(code: &str) -> Trouble {
    match code {
        "23505" => Trouble::Conflict,
        "53100" => Trouble::Full,
        "XX001" | "XX002" => Trouble::Corrupt,
        // A standby that has not been promoted yet.
        // Or a session that was silent in its transaction for too long.
        "25006" | "25P03" => Trouble::Unavailable,
        _ => match code.get(..2) {
            // Connections, rollbacks, resources, locks, operators, the system: as it is now, not for ever.
            Some("08" | "40" | "53" | "55" | "57" | "58" | "XX") => Trouble::Unavailable,
            _ => Trouble::Refused,
        },
    }
}

/// A statement of this once. Any other the library names, and where it is to remember none it never tells the server to
/// forget it: a session would grow with each.
fn query<'q>(sql: impl SqlSafeStr) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(sql).persistent(false)
}

/// As [`query`], for rows.
fn query_as<'q, O: for<'r> FromRow<'r, PgRow>>(sql: impl SqlSafeStr) -> QueryAs<'q, Postgres, O, PgArguments> {
    sqlx::query_as(sql).persistent(false)
}

/// Why no connection can be made, which the pool does not tell.
async fn no_connection(options: &PgConnectOptions) -> sqlx::Error {
    match tokio::time::timeout(CAUSE, options.connect()).await {
        Ok(Err(error)) => error,
        Ok(Ok(_)) | Err(_) => sqlx::Error::PoolTimedOut,
    }
}

/// What the server or the library says, without the line of the server's own source.
fn said(error: sqlx::Error) -> Box<dyn std::error::Error + Send + Sync> {
    match &error {
        sqlx::Error::Database(database) => database.message().into(),
        sqlx::Error::PoolTimedOut => format!("it gives no connection within {} seconds", ACQUIRE.as_secs()).into(),
        _ => error.into(),
    }
}

/// Makes the error of a statement that does `context`.
fn doing(context: &str) -> impl FnOnce(sqlx::Error) -> PortError {
    move |error| {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        let kind = code.as_deref().map_or(Trouble::Unavailable, trouble);
        if kind != Trouble::Conflict {
            crate::count_trouble("postgresql");
        }
        let hint = if kind == Trouble::Full { " (the disk of its database is full)" } else { "" };
        PortError::caused(kind, format!("{context}{hint}"), said(error))
    }
}
