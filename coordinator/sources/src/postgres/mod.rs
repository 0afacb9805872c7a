//! PostgreSQL: binary COPY of the narrowed model, decoded straight into Arrow.

mod decode;
mod types;

use std::str::FromStr;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use futures::StreamExt;
use outflow_model::mapping::SourceColumn;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Connection, Executor, SqlSafeStr, SqlStr, Statement};
use tokio::sync::mpsc;

use crate::config::PostgresConfig;
use crate::error::SourceError;
use crate::port::{Extraction, Query, Source};
use crate::shape;
use crate::sql::{narrowed, quoted, trimmed};

use self::decode::Decoder;
use self::types::{Wire, wire};

/// Batches that wait for the reader.
const AHEAD: usize = 2;

/// A PostgreSQL server.
pub(crate) struct Postgres {
    config: PostgresConfig,
}

/// A column of the result, and how it is fetched.
struct Fetched {
    column: SourceColumn,
    wire: Wire,
}

impl Postgres {
    pub(crate) const fn new(config: PostgresConfig) -> Self {
        Self { config }
    }

    async fn connect(&self) -> Result<PgConnection, SourceError> {
        let refused = |error: &sqlx::Error| SourceError::Connect {
            source_name: "PostgreSQL",
            reason: SourceError::reason(error),
        };
        let options = PgConnectOptions::from_str(&self.config.url).map_err(|error| refused(&error))?;
        let options = options.application_name("outflow").disable_statement_logging();
        PgConnection::connect_with(&options).await.map_err(|error| refused(&error))
    }

    /// Begins a transaction that sees one state of the database and cannot write.
    async fn begin(&self) -> Result<PgConnection, SourceError> {
        let mut connection = self.connect().await?;
        let seconds = self.config.statement_timeout_seconds;
        let sql = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '{seconds}s'; \
             SET LOCAL idle_in_transaction_session_timeout = '{seconds}s'; SET LOCAL intervalstyle = 'iso_8601'; \
             SET LOCAL timezone = 'UTC'; SET LOCAL extra_float_digits = 1"
        );
        connection.execute(safe(sql)).await.map_err(refused)?;
        Ok(connection)
    }
}

fn safe(sql: String) -> SqlStr {
    AssertSqlSafe(sql).into_sql_str()
}

fn refused(error: sqlx::Error) -> SourceError {
    SourceError::Query(match error.as_database_error() {
        Some(database) => match database.code() {
            Some(code) => format!("{} (SQLSTATE {code})", database.message()),
            None => database.message().to_owned(),
        },
        None => SourceError::reason(&error),
    })
}

async fn describe(connection: &mut PgConnection, model: &str) -> Result<Vec<Fetched>, SourceError> {
    let statement = connection.prepare(safe(trimmed(model).to_owned())).await.map_err(refused)?;
    if !statement.columns().is_empty() {
        return Ok(statement.columns().iter().map(fetched).collect());
    }
    Err(SourceError::Query("the model returns no columns; write a SELECT".to_owned()))
}

fn fetched(column: &sqlx::postgres::PgColumn) -> Fetched {
    let wire = wire(column.type_info());
    Fetched { column: SourceColumn { name: column.name().to_owned(), kind: wire.kind() }, wire }
}

fn sql_of(query: &Query) -> Result<&str, SourceError> {
    match query {
        Query::Sql(sql) => Ok(sql),
        Query::Files(_) => Err(SourceError::Query("a model on PostgreSQL is SQL, not a path".to_owned())),
    }
}

#[async_trait]
impl Source for Postgres {
    async fn check(&self) -> Result<(), SourceError> {
        let mut connection = self.begin().await?;
        connection.execute("SELECT 1").await.map_err(refused)?;
        _ = connection.close().await;
        Ok(())
    }

    async fn columns(&self, query: &Query) -> Result<Vec<SourceColumn>, SourceError> {
        let mut connection = self.begin().await?;
        let columns = describe(&mut connection, sql_of(query)?).await?;
        _ = connection.close().await;
        Ok(columns.into_iter().map(|fetched| fetched.column).collect())
    }

    async fn extract(&self, query: &Query, columns: &[String]) -> Result<Extraction, SourceError> {
        let model = sql_of(query)?;
        let mut connection = self.begin().await?;
        let all = describe(&mut connection, model).await?;
        let names: Vec<_> = all.iter().map(|fetched| fetched.column.clone()).collect();
        let picked = shape::pick(&names, columns)?;
        let wires: Vec<Wire> = picked.iter().filter_map(|(at, _)| all.get(*at).map(|fetched| fetched.wire)).collect();
        let columns: Vec<SourceColumn> = picked.into_iter().map(|(_, column)| column).collect();
        let expressions: Vec<String> =
            columns.iter().zip(&wires).map(|(column, wire)| wire.expression(&quoted(&column.name))).collect();
        let sql = format!("COPY ({}) TO STDOUT (FORMAT binary)", narrowed(model, &expressions));
        let schema = shape::schema(&columns);
        let decoder = Decoder::new(&columns, wires, schema.clone());
        let (sender, batches) = mpsc::channel(AHEAD);
        tokio::spawn(copy(connection, sql, decoder, sender));
        Ok(Extraction { columns, schema, batches })
    }
}

/// Runs the COPY and sends what it decodes; ends early where nobody reads any more.
async fn copy(
    mut connection: PgConnection,
    sql: String,
    mut decoder: Decoder,
    sender: mpsc::Sender<Result<RecordBatch, SourceError>>,
) {
    let result = async {
        let mut stream = connection.copy_out_raw(&sql).await.map_err(refused)?;
        while let Some(bytes) = stream.next().await {
            let bytes = bytes
                .map_err(|error| SourceError::Broken { rows: decoder.rows(), reason: SourceError::reason(&error) })?;
            decoder.push(&bytes)?;
            if decoder.is_full() && sender.send(Ok(decoder.take()?)).await.is_err() {
                return Ok(());
            }
        }
        decoder.finish()?;
        let last = decoder.take()?;
        if last.num_rows() > 0 {
            _ = sender.send(Ok(last)).await;
        }
        Ok(())
    }
    .await;
    match result {
        Ok(()) => _ = connection.close().await,
        Err(error) => _ = sender.send(Err(error)).await,
    }
}
