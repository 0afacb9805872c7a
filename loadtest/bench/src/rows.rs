//! Generated rows: seven columns as a customer table has them, or a key and one value.

use std::sync::Arc;

use anyhow::Result;
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use outflow_model::cell::Kind;

/// Rows per batch.
pub(crate) const BATCH: u64 = 8_192;

/// The kinds of the columns; the first is the key.
pub(crate) fn kinds(narrow: bool) -> Vec<Kind> {
    if narrow {
        return vec![Kind::Int, Kind::Int];
    }
    vec![Kind::Int, Kind::Text, Kind::Text, Kind::Text, Kind::Decimal, Kind::Float, Kind::TimestampTz]
}

/// The rows `from..to`; `changed` says which carry another value.
pub(crate) fn batch(from: u64, to: u64, narrow: bool, changed: impl Fn(u64) -> bool) -> Result<RecordBatch> {
    let ids: Vec<i64> = (from..to).map(|n| n as i64).collect();
    let bump = |n: i64| i64::from(changed(n as u64));
    let key: ArrayRef = Arc::new(Int64Array::from(ids.clone()));
    if narrow {
        let value: ArrayRef = Arc::new(Int64Array::from_iter_values(ids.iter().map(|n| n * 7 + bump(*n))));
        return Ok(RecordBatch::try_from_iter([("id", key), ("value", value)])?);
    }
    let text = |make: &dyn Fn(i64) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(ids.iter().map(|n| make(*n))))
    };
    let churn: ArrayRef = Arc::new(Float64Array::from_iter_values(ids.iter().map(|n| (n % 1_000) as f64 / 1_000.0)));
    let updated = ids.iter().map(|n| 1_767_225_600_000_000 + n * 1_000_000);
    let updated: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(updated));
    Ok(RecordBatch::try_from_iter([
        ("id", key),
        ("email", text(&|n| format!("user{n}@example{}.com", n % 97))),
        ("first_name", text(&|n| format!("First{}", n % 5_000))),
        ("last_name", text(&|n| format!("Last{}", n % 7_919))),
        ("ltv", text(&|n| format!("{}.{:02}", n % 71_428 + bump(n), n % 100))),
        ("churn_risk", churn),
        ("updated_at", updated),
    ])?)
}
