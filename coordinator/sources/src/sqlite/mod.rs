//! SQLite: rows of one statement, typed by what the columns declare.

mod kinds;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::TryStreamExt;
use outflow_model::cell::Kind;
use outflow_model::mapping::SourceColumn;
use outflow_model::text::with_causes;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Connection, Executor, Row, SqlSafeStr, SqlStr, TypeInfo, ValueRef};

use crate::error::SourceError;
use crate::message::{masked, words};
use crate::port::{Extraction, Query, Source};
use crate::reader::{Batches, Sink};
use crate::rows::Rows;
use crate::shape;
use crate::sql::{Dialect, Statement, quoted};

use self::kinds::{Stored, cell, kind};

/// Rows that SQLite reads ahead.
const AHEAD: usize = 16;

/// Steps of SQLite's machine between two looks whether its rows are still wanted: well below a millisecond.
const STEPS: i32 = 10_000;

/// Stops what SQLite computes for a connection once this is dropped: its thread would go on for as long as that takes.
struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    async fn of(connection: &mut SqliteConnection) -> sqlx::Result<Self> {
        let is_dropped = Arc::new(AtomicBool::new(false));
        let seen = is_dropped.clone();
        connection.lock_handle().await?.set_progress_handler(STEPS, move || !seen.load(Ordering::Relaxed));
        Ok(Self(is_dropped))
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A SQLite database file.
pub(crate) struct Sqlite {
    path: PathBuf,
}

impl Sqlite {
    pub(crate) fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned() }
    }

    fn trouble(&self, reason: String) -> SourceError {
        SourceError::File { path: self.path.display().to_string(), reason }
    }

    async fn connect(&self) -> Result<SqliteConnection, SourceError> {
        if matches!(self.path.try_exists(), Ok(false)) {
            return Err(SourceError::absent(&self.path));
        }
        // A pipe would be waited for.
        if self.path.exists() && !self.path.is_file() {
            return Err(self.trouble("it is not a regular file".to_owned()));
        }
        let options = SqliteConnectOptions::new().filename(&self.path).read_only(true).row_buffer_size(AHEAD);
        let connected = SqliteConnection::connect_with(&options.disable_statement_logging()).await;
        connected.map_err(|error| self.trouble(with_causes(&error)))
    }

    async fn describe(
        connection: &mut SqliteConnection,
        statement: &Statement<'_>,
    ) -> Result<Vec<SourceColumn>, SourceError> {
        // As the model has them: in a subquery, SQLite gives doubled names a number.
        let sql = statement.text.to_owned();
        let prepared = connection.prepare(safe(sql.clone())).await.map_err(|error| refused(&error, statement, &sql))?;
        let names: Vec<(String, bool)> = sqlx::Statement::columns(&prepared)
            .iter()
            .map(|column| (column.name().to_owned(), column.type_info().name() == "BLOB"))
            .collect();
        if names.is_empty() {
            return Err(statement.refused("", None, "The model returns no columns; write a SELECT"));
        }
        // A view's columns have the types that the model's columns declare; a temporary one changes nothing in the file.
        let sql = format!("CREATE TEMP VIEW outflow_model AS {}", statement.narrowed(&[]));
        connection.execute(safe(sql.clone())).await.map_err(|error| refused(&error, statement, &sql))?;
        let listed = connection.fetch_all("SELECT type FROM pragma_table_info('outflow_model', 'temp')").await;
        let listed = listed.map_err(|error| refused(&error, statement, &sql))?;
        connection.execute("DROP VIEW temp.outflow_model").await.map_err(|error| refused(&error, statement, &sql))?;
        let declared = listed.iter().map(|row| row.try_get::<String, _>(0).unwrap_or_default());
        let column = |((name, is_blob), declared): ((String, bool), String)| {
            // A view calls columns without a type BLOB, too.
            let declared = if declared == "BLOB" && !is_blob { "" } else { &declared };
            SourceColumn { name, kind: kind(declared) }
        };
        Ok(names.into_iter().zip(declared).map(column).collect())
    }
}

fn safe(sql: String) -> SqlStr {
    AssertSqlSafe(sql).into_sql_str()
}

fn refused(error: &sqlx::Error, statement: &Statement<'_>, sent: &str) -> SourceError {
    let refused = statement.refused(sent, None, &format!("The source refuses the query: {}", said(error, sent)));
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    match refused {
        // Another error than SQLITE_ERROR is about the file or the machine.
        SourceError::Query(text) if code.as_deref() != Some("1") => SourceError::Refused(text),
        refused => refused,
    }
}

/// What SQLite says of the text that it was sent.
fn said(error: &sqlx::Error, sent: &str) -> String {
    match error.as_database_error() {
        Some(database) => masked(database.message(), sent),
        None => with_causes(error),
    }
}

/// What SQLite says while it reads rows, some of which may be in its words.
fn broken(error: &sqlx::Error, rows: u64) -> SourceError {
    let reason = match error.as_database_error() {
        Some(database) => words(database.message()).unwrap_or_else(|| {
            let code = database.code().unwrap_or_default();
            format!("SQLite raised an error (code {code})")
        }),
        None => with_causes(error),
    };
    SourceError::Broken { rows, reason }
}

fn statement_of(query: &Query) -> Result<Statement<'_>, SourceError> {
    match query {
        Query::Sql(sql) => Statement::new(sql, Dialect::Sqlite),
        Query::Files(_) => Err(SourceError::Query("A model on SQLite is SQL, not a path".to_owned())),
    }
}

#[async_trait]
impl Source for Sqlite {
    async fn check(&self) -> Result<(), SourceError> {
        let mut connection = self.connect().await?;
        let read = connection.execute("SELECT count(*) FROM sqlite_schema").await;
        read.map(|_| ()).map_err(|error| self.trouble(said(&error, "")))
    }

    async fn columns(&self, query: &Query, _wanted: &[String]) -> Result<Vec<SourceColumn>, SourceError> {
        let statement = statement_of(query)?;
        Self::describe(&mut self.connect().await?, &statement).await
    }

    async fn extract(&self, query: &Query, columns: &[String]) -> Result<Extraction, SourceError> {
        let statement = statement_of(query)?;
        let mut connection = self.connect().await?;
        let all = Self::describe(&mut connection, &statement).await?;
        let columns: Vec<_> = shape::pick(&all, columns)?.into_iter().map(|(_, column)| column).collect();
        let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
        let sql = statement.narrowed(&names);
        let schema = shape::schema(&columns);
        let kinds: Vec<Kind> = columns.iter().map(|column| column.kind).collect();
        let rows = Rows::new(kinds.iter().copied(), schema.clone());
        let interrupt = Interrupt::of(&mut connection).await;
        let interrupt = interrupt.map_err(|error| self.trouble(with_causes(&error)))?;
        let batches = Batches::read(|sink| async move {
            // Dropped with this task.
            let _interrupt = interrupt;
            read(connection, sql, kinds, rows, sink).await
        });
        Ok(Extraction { columns, schema, batches })
    }
}

/// Hands on what the statement returns; ends early where nobody wants more.
async fn read(
    mut connection: SqliteConnection,
    sql: String,
    kinds: Vec<Kind>,
    mut rows: Rows,
    sink: Sink,
) -> Result<(), SourceError> {
    let mut found = connection.fetch(safe(sql));
    let mut scratch = String::new();
    loop {
        let Some(row) = found.try_next().await.map_err(|error| broken(&error, rows.total()))? else { break };
        for (column, kind) in kinds.iter().enumerate() {
            match stored(&row, column).and_then(|stored| cell(*kind, stored, &mut scratch)) {
                Ok(cell) => rows.push(column, cell),
                Err(reason) => rows.fault(column, reason.into()),
            }
        }
        rows.end_row();
        if rows.is_full() && !sink.send(rows.take()?).await {
            return Ok(());
        }
    }
    if !rows.is_empty() {
        sink.send(rows.take()?).await;
    }
    Ok(())
}

const UNREADABLE: &str = "the value cannot be read";

fn stored(row: &SqliteRow, column: usize) -> Result<Stored<'_>, &'static str> {
    let raw = row.try_get_raw(column).map_err(|_| UNREADABLE)?;
    if raw.is_null() {
        return Ok(Stored::Null);
    }
    // Of the value, whatever its column declares.
    let class = raw.type_info().into_owned();
    Ok(match class.name() {
        "REAL" => Stored::Real(row.try_get_unchecked(column).map_err(|_| UNREADABLE)?),
        "TEXT" => Stored::Text(row.try_get_unchecked(column).map_err(|_| UNREADABLE)?),
        "BLOB" => Stored::Blob(row.try_get_unchecked(column).map_err(|_| UNREADABLE)?),
        _ => Stored::Integer(row.try_get_unchecked(column).map_err(|_| UNREADABLE)?),
    })
}
