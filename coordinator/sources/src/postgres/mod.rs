//! PostgreSQL: binary COPY of the narrowed model, decoded straight into Arrow.

mod decode;
mod describe;
mod refusal;
mod types;
mod value;

use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use outflow_model::database_url::{mistake, verifies_certificate};
use outflow_model::mapping::SourceColumn;
use outflow_model::text::with_causes;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, SqlSafeStr, SqlStr};

use crate::config::PostgresConfig;
use crate::error::SourceError;
use crate::port::{Extraction, Query, Source};
use crate::reader::{Batches, Sink};
use crate::shape;
use crate::sql::{Dialect, Statement, quoted};

use self::decode::Decoder;
use self::refusal::{broken, connect, refused};
use self::types::Form;

/// A server is given so long to let us in, and beyond the time that a query may take to say that it has stopped it.
const ANSWER: Duration = Duration::from_mins(1);

/// Makes the server stop a query whose client is gone, however it went: it looks once a second where it can, which PostgreSQL
/// can from version 14 on.
const WATCH_CLIENT: &str = "SELECT set_config(name, '1000', true) FROM pg_settings \
                            WHERE name = 'client_connection_check_interval' AND version() ~ 'linux|darwin|bsd'";

/// Asks for UTF-8. A database in `SQL_ASCII` does not know what its bytes are, and would end the query at the first text that is not
/// UTF-8: it hands them on as they are, and each value is checked here.
const ENCODING: &str = "SELECT set_config('client_encoding', \
                        CASE current_setting('server_encoding') WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END, true)";

/// A PostgreSQL server.
pub(crate) struct Postgres {
    name: String,
    config: PostgresConfig,
}

/// A column of the result, and how it is fetched.
struct Fetched {
    column: SourceColumn,
    form: Form,
}

impl Postgres {
    pub(crate) fn new(name: &str, config: PostgresConfig) -> Self {
        Self { name: name.to_owned(), config }
    }

    async fn connect(&self) -> Result<PgConnection, SourceError> {
        let unusable = |reason: String| SourceError::Settings { source_name: format!("source {}", self.name), reason };
        let url = &self.config.url;
        if let Some(mistake) = mistake(url) {
            return Err(unusable(mistake));
        }
        let options = PgConnectOptions::from_str(url).map_err(|error| unusable(with_causes(&error)))?;
        let socket = options.get_socket().map(|socket| socket.display().to_string());
        let host = socket.unwrap_or_else(|| options.get_host().to_owned());
        let place = format!("source {} (PostgreSQL at {host}:{})", self.name, options.get_port());
        // Poolers refuse settings of a session that they do not know.
        let options = options.extra_float_digits(None).application_name("outflow").disable_statement_logging();
        let verifies = verifies_certificate(url, &host);
        let options = if verifies { options.ssl_mode(PgSslMode::VerifyFull) } else { options };
        let connecting = tokio::time::timeout(ANSWER, PgConnection::connect_with(&options)).await;
        let silent = |_| SourceError::Connect { source_name: place.clone(), reason: "it does not answer".to_owned() };
        connecting.map_err(silent)?.map_err(|error| connect(&error, &place, verifies))
    }

    /// The server has said something by then, or is gone; it may take any time where it stops no query.
    fn limit(&self) -> Duration {
        match self.config.statement_timeout_seconds {
            0 => Duration::MAX,
            seconds => Duration::from_secs(seconds.into()) + ANSWER,
        }
    }

    /// Begins a transaction that sees one state of the database and cannot write. It is never committed: the session ends with
    /// it, and a pooler in between gives it to nobody else.
    async fn begin(&self) -> Result<PgConnection, SourceError> {
        let mut connection = self.connect().await?;
        let seconds = self.config.statement_timeout_seconds;
        let sql = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {WATCH_CLIENT}; {ENCODING}; \
             SET LOCAL statement_timeout = '{seconds}s'; \
             SET LOCAL idle_in_transaction_session_timeout = '{seconds}s'; SET LOCAL datestyle = 'ISO'; \
             SET LOCAL intervalstyle = 'iso_8601'; SET LOCAL timezone = 'UTC'; SET LOCAL extra_float_digits = 1; \
             SET LOCAL bytea_output = 'hex'"
        );
        let begun = async {
            connection
                .execute(safe(sql))
                .await
                .map_err(|error| connect(&error, &format!("source {}", self.name), false))
        };
        in_time(self.limit(), 0, begun).await?;
        Ok(connection)
    }

    async fn describe(
        &self,
        connection: &mut PgConnection,
        statement: &Statement<'_>,
    ) -> Result<Vec<Fetched>, SourceError> {
        let columns = in_time(self.limit(), 0, describe::columns(connection, statement)).await?;
        if columns.is_empty() {
            return Err(statement.refused("", None, "The model returns no columns; write a SELECT"));
        }
        Ok(columns)
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

fn safe(sql: String) -> SqlStr {
    AssertSqlSafe(sql).into_sql_str()
}

fn statement_of(query: &Query) -> Result<Statement<'_>, SourceError> {
    match query {
        Query::Sql(sql) => Statement::new(sql, Dialect::Postgres),
        Query::Files(_) => Err(SourceError::Query("A model on PostgreSQL is SQL, not a path".to_owned())),
    }
}

#[async_trait]
impl Source for Postgres {
    async fn check(&self) -> Result<(), SourceError> {
        let connection = self.begin().await?;
        _ = connection.close().await;
        Ok(())
    }

    async fn columns(&self, query: &Query, _wanted: &[String]) -> Result<Vec<SourceColumn>, SourceError> {
        let statement = statement_of(query)?;
        let mut connection = self.begin().await?;
        let columns = self.describe(&mut connection, &statement).await?;
        _ = connection.close().await;
        Ok(columns.into_iter().map(|fetched| fetched.column).collect())
    }

    async fn extract(&self, query: &Query, columns: &[String]) -> Result<Extraction, SourceError> {
        let statement = statement_of(query)?;
        let mut connection = self.begin().await?;
        let all = self.describe(&mut connection, &statement).await?;
        let names: Vec<_> = all.iter().map(|fetched| fetched.column.clone()).collect();
        let picked = shape::pick(&names, columns)?;
        let forms: Vec<Form> = picked.iter().filter_map(|(at, _)| all.get(*at).map(|fetched| fetched.form)).collect();
        let columns: Vec<SourceColumn> = picked.into_iter().map(|(_, column)| column).collect();
        let expressions: Vec<String> =
            columns.iter().zip(&forms).map(|(column, form)| form.expression(&quoted(&column.name))).collect();
        let sql = format!("COPY ({}) TO STDOUT (FORMAT binary)", statement.narrowed(&expressions));
        let schema = shape::schema(&columns);
        let decoder = Decoder::new(forms, schema.clone());
        let limit = self.limit();
        let query = query.clone();
        let batches = Batches::read(|sink| read(connection, query, sql, decoder, limit, sink));
        Ok(Extraction { columns, schema, batches })
    }
}

/// Runs the COPY, and leaves the server where that came to its end.
async fn read(
    mut connection: PgConnection,
    query: Query,
    sql: String,
    decoder: Decoder,
    limit: Duration,
    sink: Sink,
) -> Result<(), SourceError> {
    let statement = statement_of(&query)?;
    copy(&mut connection, (&statement, &sql), decoder, limit, &sink).await?;
    _ = connection.close().await;
    Ok(())
}

/// Sends what the COPY decodes to; ends early where nobody wants more.
async fn copy(
    connection: &mut PgConnection,
    (statement, sql): (&Statement<'_>, &str),
    mut decoder: Decoder,
    limit: Duration,
    sink: &Sink,
) -> Result<(), SourceError> {
    let begun = connection.copy_out_raw(sql).map(|begun| begun.map_err(|error| refused(&error, statement, sql)));
    let mut stream = in_time(limit, 0, begun).await?;
    loop {
        // What is there already needs no timer: each row would set one.
        let next = match stream.next().now_or_never() {
            Some(next) => next,
            None => in_time(limit, decoder.rows(), async { Ok(stream.next().await) }).await?,
        };
        let Some(bytes) = next else { break };
        let bytes = bytes.map_err(|error| broken(&error, decoder.rows(), sql))?;
        decoder.push(&bytes)?;
        if decoder.is_full() && !sink.send(decoder.take()?).await {
            return Ok(());
        }
    }
    decoder.finish()?;
    if !decoder.is_empty() {
        sink.send(decoder.take()?).await;
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
