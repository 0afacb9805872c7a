//! Keys as a snapshot keeps them.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use outflow_model::cell::{Cell, Kind};
use outflow_model::column::Column;
use outflow_snapshot::{cell, decode_key, encode_key};

#[test]
fn key_of_every_kind_reads_back_as_the_value_that_it_was() {
    let moment = 1_767_268_800_123_456;
    let texts = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    let kept: [(Kind, ArrayRef); 11] = [
        (Kind::Bool, Arc::new(BooleanArray::from(vec![true]))),
        (Kind::Int, Arc::new(Int64Array::from(vec![i64::MIN]))),
        (Kind::Float, Arc::new(Float64Array::from(vec![0.1]))),
        (Kind::Date, Arc::new(Date32Array::from(vec![-1]))),
        (Kind::Time, Arc::new(Time64MicrosecondArray::from(vec![86_399_999_999]))),
        (Kind::Timestamp, Arc::new(TimestampMicrosecondArray::from(vec![moment]))),
        (Kind::TimestampTz, Arc::new(TimestampMicrosecondArray::from(vec![moment]))),
        (Kind::Decimal, texts("12345678901234567890.10")),
        (Kind::Json, texts("{\"a\":1}")),
        (Kind::Text, texts("\u{e9} \"a\"")),
        (Kind::Bytes, texts("AAE=")),
    ];
    for (kind, array) in kept {
        let batch = RecordBatch::try_from_iter([("key", array)]).expect("a column");
        let mut key = Vec::new();
        encode_key(&batch, &[(0, kind)], 0, &mut key);
        let mut read = [Column::new(kind)];
        decode_key(&key, &mut read);
        assert_eq!(read[0].cell(0), cell(batch.column(0), kind, 0), "{kind:?}");
        assert_ne!(read[0].cell(0), Cell::Null, "{kind:?}");
    }
}
