//! PostgreSQL: binary COPY of the narrowed model, decoded straight into Arrow.

mod decode;
mod types;

use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use outflow_model::mapping::SourceColumn;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Connection, Executor, SqlSafeStr, SqlStr, Statement};

use crate::config::PostgresConfig;
use crate::error::SourceError;
use crate::port::{Extraction, Query, Source};
use crate::reader::{Batches, Sink};
use crate::shape;
use crate::sql::{narrowed, quoted, trimmed};

use self::decode::Decoder;
use self::types::{Wire, wire};

/// A server is given so long to let us in, and beyond the time that a query may take to say that it has stopped it.
const ANSWER: Duration = Duration::from_mins(1);

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
        let connecting = tokio::time::timeout(ANSWER, PgConnection::connect_with(&options)).await;
        let silent = |_| SourceError::Connect { source_name: "PostgreSQL", reason: "it does not answer".to_owned() };
        connecting.map_err(silent)?.map_err(|error| refused(&error))
    }

    /// The server has said something by then, or is gone; it may take any time where it stops no query.
    fn limit(&self) -> Duration {
        match self.config.statement_timeout_seconds {
            0 => Duration::MAX,
            seconds => Duration::from_secs(seconds.into()) + ANSWER,
        }
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
        execute(&mut connection, safe(sql), self.limit()).await?;
        Ok(connection)
    }

    async fn describe(&self, connection: &mut PgConnection, model: &str) -> Result<Vec<Fetched>, SourceError> {
        in_time(self.limit(), 0, describe(connection, model)).await
    }
}

/// Waits for the server no longer than `limit`: nothing else tells of a machine that has vanished.
async fn in_time<T>(
    limit: Duration,
    rows: u64,
    work: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, SourceError> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let reason = format!("PostgreSQL has said nothing for {} s; is it still there?", limit.as_secs());
        Err(SourceError::Broken { rows, reason })
    })
}

async fn execute(connection: &mut PgConnection, sql: SqlStr, limit: Duration) -> Result<(), SourceError> {
    let work = async { connection.execute(sql).await.map_err(refused) };
    in_time(limit, 0, work).await?;
    Ok(())
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
        execute(&mut connection, safe("SELECT 1".to_owned()), self.limit()).await?;
        _ = connection.close().await;
        Ok(())
    }

    async fn columns(&self, query: &Query, _wanted: &[String]) -> Result<Vec<SourceColumn>, SourceError> {
        let mut connection = self.begin().await?;
        let columns = self.describe(&mut connection, sql_of(query)?).await?;
        _ = connection.close().await;
        Ok(columns.into_iter().map(|fetched| fetched.column).collect())
    }

    async fn extract(&self, query: &Query, columns: &[String]) -> Result<Extraction, SourceError> {
        let model = sql_of(query)?;
        let mut connection = self.begin().await?;
        let all = self.describe(&mut connection, model).await?;
        let names: Vec<_> = all.iter().map(|fetched| fetched.column.clone()).collect();
        let picked = shape::pick(&names, columns)?;
        let wires: Vec<Wire> = picked.iter().filter_map(|(at, _)| all.get(*at).map(|fetched| fetched.wire)).collect();
        let columns: Vec<SourceColumn> = picked.into_iter().map(|(_, column)| column).collect();
        let expressions: Vec<String> =
            columns.iter().zip(&wires).map(|(column, wire)| wire.expression(&quoted(&column.name))).collect();
        let sql = format!("COPY ({}) TO STDOUT (FORMAT binary)", narrowed(model, &expressions));
        let schema = shape::schema(&columns);
        let decoder = Decoder::new(wires, schema.clone());
        let limit = self.limit();
        let batches = Batches::read(|sink| read(connection, sql, decoder, limit, sink));
        Ok(Extraction { columns, schema, batches })
    }
}

/// Runs the COPY, and leaves the server where that came to its end.
async fn read(
    mut connection: PgConnection,
    sql: String,
    decoder: Decoder,
    limit: Duration,
    sink: Sink,
) -> Result<(), SourceError> {
    copy(&mut connection, &sql, decoder, limit, &sink).await?;
    _ = connection.close().await;
    Ok(())
}

/// Sends what the COPY decodes to; ends early where nobody wants more.
async fn copy(
    connection: &mut PgConnection,
    sql: &str,
    mut decoder: Decoder,
    limit: Duration,
    sink: &Sink,
) -> Result<(), SourceError> {
    let begun = connection.copy_out_raw(sql).map(|begun| begun.map_err(refused));
    let mut stream = in_time(limit, 0, begun).await?;
    loop {
        // What is there already needs no timer: each row would set one.
        let next = match stream.next().now_or_never() {
            Some(next) => next,
            None => in_time(limit, decoder.rows(), async { Ok(stream.next().await) }).await?,
        };
        let Some(bytes) = next else { break };
        let bytes =
            bytes.map_err(|error| SourceError::Broken { rows: decoder.rows(), reason: SourceError::reason(&error) })?;
        decoder.push(&bytes)?;
        if decoder.is_full() && !sink.send(decoder.take()?).await {
            return Ok(());
        }
    }
    decoder.finish()?;
    let last = decoder.take()?;
    if last.num_rows() > 0 {
        sink.send(last).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_falls_silent_has_broken_off() {
        let silent = std::future::pending::<Result<(), SourceError>>();
        let broken = in_time(Duration::from_millis(1), 7, silent).await;
        assert!(matches!(broken, Err(SourceError::Broken { rows: 7, .. })), "{broken:?}");
    }
}
