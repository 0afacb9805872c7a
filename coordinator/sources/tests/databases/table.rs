//! A model's result as text, to compare with.

use anyhow::{Context, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef};
use outflow_model::cell::{Cell, Kind};
use outflow_sources::{Query, Source, SourceError, Sql};

/// A result: kinds by column, and rows of JSON values, a fault as `!reason`.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) kinds: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
    /// Rows of each batch.
    pub(crate) batches: Vec<usize>,
}

/// Reads all columns of `sql`.
pub(crate) async fn read(source: &dyn Source, sql: impl Into<Sql>) -> Result<Table, SourceError> {
    let query = Query::Sql(sql.into());
    let names: Vec<String> = source.columns(&query, &[]).await?.into_iter().map(|column| column.name).collect();
    let extraction = source.extract(&query, &names).await?;
    let mut table =
        Table { kinds: extraction.columns.iter().map(|column| column.kind.name()).collect(), ..Table::default() };
    let mut batches = extraction.batches;
    while let Some(batch) = batches.recv().await {
        let batch = batch?;
        table.batches.push(batch.num_rows());
        for row in 0..batch.num_rows() {
            let values =
                extraction.columns.iter().zip(batch.records.columns()).enumerate().map(|(place, (column, array))| {
                    let fault = batch.faults.iter().find(|f| f.row as usize == row && usize::from(f.column) == place);
                    fault.map_or_else(|| json(array, column.kind, row), |fault| format!("!{}", fault.reason))
                });
            table.rows.push(values.collect());
        }
    }
    Ok(table)
}

/// The refusal of `sql`, by `check` or by a run.
pub(crate) async fn refusal(source: &dyn Source, sql: Sql) -> Result<String> {
    let found = read(source, sql).await;
    Ok(found.err().context("it is not refused")?.to_string())
}

fn json(array: &ArrayRef, kind: Kind, row: usize) -> String {
    let mut out = String::new();
    let cell = if array.is_null(row) {
        Cell::Null
    } else {
        match kind {
            Kind::Bool => Cell::Bool(array.as_boolean().value(row)),
            Kind::Int => Cell::Int(array.as_primitive::<Int64Type>().value(row)),
            Kind::Float => Cell::Float(array.as_primitive::<Float64Type>().value(row)),
            Kind::Date => Cell::Date(array.as_primitive::<Date32Type>().value(row).into()),
            Kind::Time => Cell::Time(array.as_primitive::<Time64MicrosecondType>().value(row)),
            Kind::Timestamp => Cell::Timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row)),
            Kind::TimestampTz => Cell::TimestampTz(array.as_primitive::<TimestampMicrosecondType>().value(row)),
            Kind::Decimal => Cell::Decimal(array.as_string::<i32>().value(row)),
            Kind::Json => Cell::Json(array.as_string::<i32>().value(row)),
            Kind::Text | Kind::Bytes => Cell::Text(array.as_string::<i32>().value(row)),
        }
    };
    cell.write_json(&mut out);
    out
}
