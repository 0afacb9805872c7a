//! SQLite: rows of one statement, typed by the columns' declarations, else by the first value.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::TryStreamExt;
use outflow_model::cell::Kind;
use outflow_model::mapping::SourceColumn;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{
    AssertSqlSafe, Column, ConnectOptions, Connection, Executor, Row, SqlSafeStr, SqlStr, Statement, TypeInfo, ValueRef,
};

use crate::error::SourceError;
use crate::port::{Extraction, Query, Source};
use crate::reader::{Batches, Sink};
use crate::shape;
use crate::sql::{narrowed, quoted, trimmed};

const ROWS: usize = 8_192;

/// A SQLite database file.
pub(crate) struct Sqlite {
    path: PathBuf,
}

impl Sqlite {
    pub(crate) fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned() }
    }

    async fn connect(&self) -> Result<SqliteConnection, SourceError> {
        let options = SqliteConnectOptions::new().filename(&self.path).read_only(true).disable_statement_logging();
        SqliteConnection::connect_with(&options).await.map_err(|error| SourceError::File {
            path: self.path.display().to_string(),
            reason: SourceError::reason(&error),
        })
    }

    async fn describe(connection: &mut SqliteConnection, model: &str) -> Result<Vec<SourceColumn>, SourceError> {
        let statement = connection.prepare(safe(trimmed(model).to_owned())).await.map_err(refused)?;
        let mut columns: Vec<SourceColumn> = Vec::new();
        let mut first: Option<Option<SqliteRow>> = None;
        for column in statement.columns() {
            let kind = match declared(column.type_info().name()) {
                Some(kind) => kind,
                None => {
                    if first.is_none() {
                        let sql = format!("{} LIMIT 1", narrowed(model, &[]));
                        first = Some(connection.fetch_optional(safe(sql)).await.map_err(refused)?);
                    }
                    let row = first.as_ref().and_then(Option::as_ref);
                    row.map_or(Kind::Text, |row| observed(row, column.ordinal()))
                }
            };
            columns.push(SourceColumn { name: column.name().to_owned(), kind });
        }
        if columns.is_empty() {
            return Err(SourceError::Query("the model returns no columns; write a SELECT".to_owned()));
        }
        Ok(columns)
    }
}

fn safe(sql: String) -> SqlStr {
    AssertSqlSafe(sql).into_sql_str()
}

fn refused(error: sqlx::Error) -> SourceError {
    SourceError::Query(match error.as_database_error() {
        Some(database) => database.message().to_owned(),
        None => SourceError::reason(&error),
    })
}

fn sql_of(query: &Query) -> Result<&str, SourceError> {
    match query {
        Query::Sql(sql) => Ok(sql),
        Query::Files(_) => Err(SourceError::Query("a model on SQLite is SQL, not a path".to_owned())),
    }
}

/// The kind that a declared type stands for.
fn declared(name: &str) -> Option<Kind> {
    match name {
        "BOOLEAN" => Some(Kind::Bool),
        "INTEGER" | "INT4" | "INT8" => Some(Kind::Int),
        "REAL" => Some(Kind::Float),
        "NUMERIC" => Some(Kind::Decimal),
        "TEXT" | "DATE" | "TIME" | "DATETIME" => Some(Kind::Text),
        "BLOB" => Some(Kind::Bytes),
        _ => None,
    }
}

fn observed(row: &SqliteRow, at: usize) -> Kind {
    let value = row.try_get_raw(at).map(|value| value.type_info().name().to_owned()).unwrap_or_default();
    match value.as_str() {
        "INTEGER" => Kind::Int,
        "REAL" => Kind::Float,
        "BLOB" => Kind::Bytes,
        _ => Kind::Text,
    }
}

#[async_trait]
impl Source for Sqlite {
    async fn check(&self) -> Result<(), SourceError> {
        let mut connection = self.connect().await?;
        connection.execute("SELECT count(*) FROM sqlite_schema").await.map_err(refused)?;
        Ok(())
    }

    async fn columns(&self, query: &Query, _wanted: &[String]) -> Result<Vec<SourceColumn>, SourceError> {
        Self::describe(&mut self.connect().await?, sql_of(query)?).await
    }

    async fn extract(&self, query: &Query, columns: &[String]) -> Result<Extraction, SourceError> {
        let model = sql_of(query)?;
        let mut connection = self.connect().await?;
        let all = Self::describe(&mut connection, model).await?;
        let columns: Vec<_> = shape::pick(&all, columns)?.into_iter().map(|(_, column)| column).collect();
        let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
        let sql = narrowed(model, &names);
        let schema = shape::schema(&columns);
        let builder = Batch::new(&columns);
        let batches = Batches::read(|sink| read(connection, sql, builder, sink));
        Ok(Extraction { columns, schema, batches })
    }
}

/// Hands on what the statement returns; ends early where nobody wants more.
async fn read(
    mut connection: SqliteConnection,
    sql: String,
    mut builder: Batch,
    sink: Sink,
) -> Result<(), SourceError> {
    let mut rows = connection.fetch(safe(sql));
    loop {
        let next = rows.try_next().await;
        let next =
            next.map_err(|error| SourceError::Broken { rows: builder.total, reason: SourceError::reason(&error) })?;
        let Some(row) = next else { break };
        builder.push(&row)?;
        if builder.rows == ROWS && !sink.send(builder.take()?).await {
            return Ok(());
        }
    }
    if builder.rows > 0 {
        sink.send(builder.take()?).await;
    }
    Ok(())
}

enum Builder {
    Bool(BooleanBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Text(StringBuilder),
}

struct Batch {
    columns: Vec<SourceColumn>,
    builders: Vec<Builder>,
    rows: usize,
    total: u64,
}

impl Batch {
    fn new(columns: &[SourceColumn]) -> Self {
        let builder = |column: &SourceColumn| match column.kind {
            Kind::Bool => Builder::Bool(BooleanBuilder::new()),
            Kind::Int => Builder::Int(Int64Builder::new()),
            Kind::Float => Builder::Float(Float64Builder::new()),
            _ => Builder::Text(StringBuilder::new()),
        };
        Self { columns: columns.to_vec(), builders: columns.iter().map(builder).collect(), rows: 0, total: 0 }
    }

    fn push(&mut self, row: &SqliteRow) -> Result<(), SourceError> {
        for (at, (builder, column)) in self.builders.iter_mut().zip(&self.columns).enumerate() {
            push(builder, column, row, at).map_err(|reason| SourceError::Value {
                row: self.total + 1,
                column: column.name.clone(),
                reason,
            })?;
        }
        self.rows += 1;
        self.total += 1;
        Ok(())
    }

    fn take(&mut self) -> Result<RecordBatch, SourceError> {
        let arrays = self
            .builders
            .iter_mut()
            .map(|builder| -> ArrayRef {
                match builder {
                    Builder::Bool(builder) => Arc::new(builder.finish()),
                    Builder::Int(builder) => Arc::new(builder.finish()),
                    Builder::Float(builder) => Arc::new(builder.finish()),
                    Builder::Text(builder) => Arc::new(builder.finish()),
                }
            })
            .collect();
        self.rows = 0;
        RecordBatch::try_new(shape::schema(&self.columns), arrays)
            .map_err(|error| SourceError::Broken { rows: self.total, reason: error.to_string() })
    }
}

fn push(builder: &mut Builder, column: &SourceColumn, row: &SqliteRow, at: usize) -> Result<(), String> {
    let raw = row.try_get_raw(at).map_err(|error| error.to_string())?;
    let stored = raw.type_info().name().to_owned();
    let null = raw.is_null();
    let text = |error: sqlx::Error| SourceError::reason(&error);
    let differs = || format!("the column is {}, but the value is {stored}; CAST it in the model", column.kind.name());
    match builder {
        Builder::Bool(builder) if null => builder.append_null(),
        Builder::Int(builder) if null => builder.append_null(),
        Builder::Float(builder) if null => builder.append_null(),
        Builder::Text(builder) if null => builder.append_null(),
        Builder::Bool(builder) if matches!(stored.as_str(), "INTEGER" | "BOOLEAN") => {
            builder.append_value(row.try_get_unchecked::<i64, _>(at).map_err(text)? != 0);
        }
        Builder::Int(builder) if stored == "INTEGER" => {
            builder.append_value(row.try_get_unchecked::<i64, _>(at).map_err(text)?);
        }
        Builder::Float(builder) if matches!(stored.as_str(), "INTEGER" | "REAL") => {
            builder.append_value(row.try_get_unchecked::<f64, _>(at).map_err(text)?);
        }
        Builder::Text(builder) => match stored.as_str() {
            "INTEGER" => builder.append_value(row.try_get_unchecked::<i64, _>(at).map_err(text)?.to_string()),
            "REAL" => builder.append_value(row.try_get_unchecked::<f64, _>(at).map_err(text)?.to_string()),
            "BLOB" => builder.append_value(STANDARD.encode(row.try_get_unchecked::<&[u8], _>(at).map_err(text)?)),
            _ => builder.append_value(row.try_get_unchecked::<&str, _>(at).map_err(text)?),
        },
        _ => return Err(differs()),
    }
    Ok(())
}
