//! Cases of the ledger in PostgreSQL alone: its sessions, its locks and its schema.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use libtest_mimic::Trial;
use outflow_backends::PostgresLedger;
use outflow_model::id::RunId;
use outflow_model::port::lease::Leases;
use outflow_model::port::ledger::{Ledger, Run, RunOptions, RunPatch, Runs};
use outflow_model::port::{PortError, Trouble};
use outflow_model::run::RunState;
use outflow_model::text::with_causes;
use outflow_testkit::services::{PgBouncer, Postgres, Service};
use outflow_testkit::{LEASE, LEDGER};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};
use tempfile::TempDir;

use crate::{fresh, trial, trials as cases};

pub(crate) fn trials() -> Vec<Trial> {
    let (found, pooled) = (Postgres::is_found(), PgBouncer::is_found());
    let own = vec![
        trial("ledger::postgres::no_statement_stays_prepared".to_owned(), found, unprepared),
        trial("ledger::postgres::who_opens_it_at_once_brings_it_up_to_date_once".to_owned(), found, together),
        trial("ledger::postgres::a_schema_that_only_has_more_is_worked_with".to_owned(), found, newer),
        trial("leases::postgres::a_lease_is_renewed_while_its_holder_writes".to_owned(), found, renewed),
        trial("ledger::postgres::an_opened_ledger_needs_no_right_to_write".to_owned(), found, read_only),
        trial("ledger::postgres::ledger_of_one_project_refuses_another".to_owned(), found, owned),
        trial("leases::postgres::whoever_hangs_holds_up_nobody_for_long".to_owned(), found, locked),
        trial("ledger::postgres::a_caller_that_stops_waiting_leaves_no_transaction_open".to_owned(), found, abandoned),
    ];
    [
        cases("ledger::postgres", found, LEDGER, ledger),
        cases("leases::postgres", found, LEASE, leases),
        cases("ledger::postgres_behind_a_pooler", pooled, LEDGER, pooled_ledger),
        cases("leases::postgres_behind_a_pooler", pooled, LEASE, pooled_leases),
        own,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A database of a case's own.
async fn database() -> Result<PgConnectOptions> {
    let (server, name) = (Postgres::shared()?, fresh("ledger").replace('-', "_"));
    let mut connection = PgConnection::connect(&server.url).await?;
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await?;
    Ok(server.url.parse::<PgConnectOptions>()?.database(&name))
}

async fn open(database: &PgConnectOptions) -> outflow_model::port::Result<PostgresLedger> {
    PostgresLedger::open(database.to_url_lossy().as_str()).await
}

async fn ledger(_folder: &TempDir) -> Result<Arc<dyn Ledger>> {
    Ok(Arc::new(open(&database().await?).await?))
}

async fn leases(_folder: &TempDir) -> Result<Arc<dyn Leases>> {
    Ok(Arc::new(open(&database().await?).await?))
}

/// In front of a database of a case's own, a pooler that changes the server's session with each transaction.
async fn pooled() -> Result<Arc<PostgresLedger>> {
    let database = database().await?;
    let url = PgBouncer::shared()?.url(database.get_database().unwrap_or_default());
    Ok(Arc::new(PostgresLedger::open(&url).await?))
}

async fn pooled_ledger(_folder: &TempDir) -> Result<Arc<dyn Ledger>> {
    Ok(pooled().await?)
}

async fn pooled_leases(_folder: &TempDir) -> Result<Arc<dyn Leases>> {
    Ok(pooled().await?)
}

/// Each statement is given up after another step of it.
async fn abandoned() -> Result<()> {
    let database = database().await?;
    let ledger = open(&database).await?;
    for steps in 0..40 {
        let mut asked = Box::pin(ledger.runs(None, 1));
        for _ in 0..steps {
            if futures::poll!(&mut asked).is_ready() {
                break;
            }
            tokio::time::sleep(Duration::from_micros(50)).await;
        }
    }
    // Far sooner than the server ends a session that is silent in its transaction.
    let mut connection = database.connect().await?;
    let began = Instant::now();
    loop {
        let open: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'",
        )
        .fetch_one(&mut connection)
        .await?;
        if open == 0 {
            return Ok(());
        }
        ensure!(began.elapsed() < Duration::from_secs(5), "{open} transactions stay open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn together() -> Result<()> {
    let database = database().await?;
    let opened = try_join_all((0..8).map(|_| open(&database))).await?;
    let mut connection = PgConnection::connect_with(&database).await?;
    let (steps, versions): (i64, i64) = sqlx::query_as("SELECT count(*), count(DISTINCT version) FROM outflow_version")
        .fetch_one(&mut connection)
        .await?;
    ensure!(opened.len() == 8 && steps == versions, "{steps} steps were taken to {versions} versions");
    Ok(())
}

/// A newer program has added to the schema: this one goes on, and begins again, until something is taken away that it uses.
async fn newer() -> Result<()> {
    let database = database().await?;
    open(&database).await?;
    let mut connection = PgConnection::connect_with(&database).await?;
    connection
        .execute("ALTER TABLE runs ADD COLUMN more text; INSERT INTO outflow_version (version) VALUES (1000)")
        .await?;
    let run = Run::queued(RunId::new(1, 1), "s", "d", RunOptions::default(), 1);
    open(&database).await?.request(&run).await?;
    connection.execute("UPDATE outflow_version SET least = 1000").await?;
    let refused = open(&database).await.err();
    ensure!(refused.is_some_and(|error| error.trouble == Trouble::Newer && error.to_string().contains("upgrade")));
    Ok(())
}

/// A transaction that writes under a lease takes long: its own process renews the lease meanwhile, and nobody takes it over.
async fn renewed() -> Result<()> {
    let url = database().await?;
    let ledger = open(&url).await?;
    let epoch = ledger.take("sync/a", "one", 1).await?.unwrap_or_default();
    let run = Run::queued(RunId::new(1, 1), "a", "d", RunOptions::default(), 1);
    ledger.request(&run).await?;
    let mut holds = PgConnection::connect_with(&url).await?;
    holds.execute("BEGIN; SELECT * FROM runs FOR UPDATE").await?;
    let fenced = ledger.under("sync/a", epoch);
    let cancel = RunPatch { cancel: true, ..RunPatch::default() };
    let writes = tokio::spawn(async move { fenced.patch(&run.id, RunState::Queued, cancel).await });
    let mut watches = PgConnection::connect_with(&url).await?;
    loop {
        let waiting: (i64,) = sqlx::query_as(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .fetch_one(&mut watches)
        .await?;
        if waiting.0 > 0 {
            break;
        }
    }
    let renewed = tokio::time::timeout(Duration::from_secs(3), ledger.take("sync/a", "one", 1)).await??;
    ensure!(renewed == Some(epoch), "{renewed:?}");
    let taken = tokio::time::timeout(Duration::from_secs(1), ledger.take("sync/a", "two", 1)).await;
    ensure!(!matches!(taken, Ok(Ok(Some(_)))), "it was taken over within the write: {taken:?}");
    holds.execute("ROLLBACK").await?;
    writes.await??;
    Ok(())
}

/// What is up to date is opened by whoever may only read it.
async fn read_only() -> Result<()> {
    let database = database().await?;
    open(&database).await?;
    let mut connection = PgConnection::connect_with(&database).await?;
    let name = database.get_database().unwrap_or_default().to_owned();
    let sql = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await?;
    let ledger = open(&database).await?;
    ensure!(ledger.unended().await?.is_empty());
    let checked = ledger.check().await.err().map(|error| (error.trouble, with_causes(&error)));
    let says = |(trouble, text): &(Trouble, String)| *trouble == Trouble::Unavailable && text.contains("read-only");
    ensure!(checked.as_ref().is_some_and(says), "leases cannot be taken, and it says so: {checked:?}");
    Ok(())
}

/// The first name that comes is the ledger's; others, and projects without a name, are refused from then on.
async fn owned() -> Result<()> {
    let ledger = open(&database().await?).await?;
    ledger.belong_to(None).await?;
    let names = ["people", "orders"];
    let came = tokio::join!(ledger.belong_to(Some(names[0])), ledger.belong_to(Some(names[1])));
    let owner = if came.0.is_ok() { "people" } else { "orders" };
    ensure!(came.0.is_ok() != came.1.is_ok(), "both of two projects, or neither, got the ledger: {came:?}");
    ledger.belong_to(Some(owner)).await?;
    for other in [None, Some("others")] {
        let refused = ledger.belong_to(other).await.err();
        let says = |error: &PortError| error.trouble == Trouble::Refused && error.to_string().contains(owner);
        ensure!(refused.as_ref().is_some_and(says), "{other:?}: {refused:?}");
    }
    Ok(())
}

/// A process that hangs in a transaction holds up nobody for long.
async fn locked() -> Result<()> {
    let url = database().await?;
    let ledger = open(&url).await?;
    ledger.take("sync/a", "hangs", 1).await?;
    let mut hangs = PgConnection::connect_with(&url).await?;
    hangs.execute("BEGIN; SELECT * FROM leases FOR SHARE").await?;
    let taken = tokio::time::timeout(Duration::from_mins(1), ledger.take("sync/a", "other", 1)).await?;
    ensure!(taken.is_err_and(|error| error.trouble == Trouble::Unavailable));
    hangs.execute("ROLLBACK").await?;
    ensure!(ledger.take("sync/a", "other", 1).await?.is_some());
    Ok(())
}

/// What a session prepares and keeps grows with each statement, and belongs to nobody behind a pooler.
async fn unprepared() -> Result<()> {
    let url = database().await?;
    let ledger = open(&url).await?;
    let mut connection = PgConnection::connect_with(&url).await?;
    // A session tells what it has prepared to nobody but itself.
    let watch = "CREATE TABLE watched (prepared bigint); CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS \
                 $$BEGIN INSERT INTO watched SELECT count(*) FROM pg_prepared_statements; RETURN NULL; END$$; \
                 CREATE TRIGGER watch AFTER INSERT ON runs EXECUTE FUNCTION watch()";
    connection.execute(watch).await?;
    for number in 0..20 {
        let run = Run::queued(RunId::new(1, number), &format!("s{number}"), "d", RunOptions::default(), 1);
        ledger.request(&run).await?;
        ensure!(ledger.run(&run.id).await?.is_some());
    }
    let (told, most): (i64, i64) =
        sqlx::query_as("SELECT count(*), max(prepared) FROM watched").fetch_one(&mut connection).await?;
    ensure!(told == 20 && most == 0, "{most} statements stay prepared");
    Ok(())
}
