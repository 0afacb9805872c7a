//! The binary COPY format, into Arrow builders.

use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Date32Builder, Float64Builder, Int64Builder, StringBuilder, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::types::Wire;
use crate::error::SourceError;
use crate::port::{Batch, Fault};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of the extension.
const HEADER: usize = 19;
/// A batch ends at so many rows or bytes.
const ROWS: usize = 8_192;
const BYTES: usize = 4 * 1024 * 1024;
/// PostgreSQL counts from 2000-01-01.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = 946_684_800_000_000;

enum Builder {
    Bool(BooleanBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Text(StringBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
}

/// Decodes a COPY stream.
pub(super) struct Decoder {
    wires: Vec<Wire>,
    builders: Vec<Builder>,
    schema: SchemaRef,
    /// A tuple that a message cut in two.
    rest: Vec<u8>,
    started: bool,
    ended: bool,
    batch_rows: usize,
    batch_bytes: usize,
    faults: Vec<Fault>,
    rows: u64,
    scratch: String,
}

/// Why a tuple could not be decoded.
enum Stop {
    /// More bytes are needed.
    Short,
    /// The bytes are not what the column's type says.
    Odd,
}

impl Decoder {
    pub(super) fn new(wires: Vec<Wire>, schema: SchemaRef) -> Self {
        Self {
            builders: wires.iter().map(|wire| Builder::new(*wire)).collect(),
            wires,
            schema,
            rest: Vec::new(),
            started: false,
            ended: false,
            batch_rows: 0,
            batch_bytes: 0,
            faults: Vec::new(),
            rows: 0,
            scratch: String::new(),
        }
    }

    /// Rows decoded so far.
    pub(super) const fn rows(&self) -> u64 {
        self.rows
    }

    /// True where the batch is large enough to be taken.
    pub(super) const fn is_full(&self) -> bool {
        self.batch_rows >= ROWS || self.batch_bytes >= BYTES
    }

    /// Decodes the next message.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        if self.rest.is_empty() {
            let used = self.decode(bytes)?;
            self.rest.extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            self.rest.extend_from_slice(bytes);
            let joined = std::mem::take(&mut self.rest);
            let used = self.decode(&joined)?;
            self.rest.extend_from_slice(joined.get(used..).unwrap_or_default());
        }
        Ok(())
    }

    /// Checks that the stream came to its own end.
    pub(super) fn finish(&self) -> Result<(), SourceError> {
        if self.ended && self.rest.is_empty() {
            return Ok(());
        }
        Err(SourceError::Broken { rows: self.rows, reason: "the result is cut short".to_owned() })
    }

    /// The rows decoded since the last call.
    pub(super) fn take(&mut self) -> Result<Batch, SourceError> {
        let arrays: Vec<ArrayRef> = self.builders.iter_mut().map(Builder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.batch_rows));
        (self.batch_rows, self.batch_bytes) = (0, 0);
        let faults = std::mem::take(&mut self.faults);
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map(|records| Batch { records, faults })
            .map_err(|error| SourceError::Broken { rows: self.rows, reason: error.to_string() })
    }

    /// Decodes whole tuples; returns how many bytes they took.
    fn decode(&mut self, bytes: &[u8]) -> Result<usize, SourceError> {
        let mut at = 0;
        if !self.started {
            if bytes.len() < HEADER {
                return Ok(0);
            }
            if !bytes.starts_with(SIGNATURE) {
                return Err(SourceError::Broken { rows: 0, reason: "the result is no binary COPY".to_owned() });
            }
            self.started = true;
            at = HEADER;
        }
        while at < bytes.len() && !self.ended {
            match self.tuple(bytes.get(at..).unwrap_or_default()) {
                Ok(used) => at += used,
                Err(Stop::Short) => break,
                Err(Stop::Odd) => {
                    let reason = "a value has another length than its type; report it".to_owned();
                    return Err(SourceError::Broken { rows: self.rows, reason });
                }
            }
        }
        Ok(at)
    }

    fn tuple(&mut self, bytes: &[u8]) -> Result<usize, Stop> {
        let (count, mut rest) = bytes.split_first_chunk::<2>().ok_or(Stop::Short)?;
        let count = i16::from_be_bytes(*count);
        if count == -1 {
            self.ended = true;
            return Ok(2);
        }
        // Nothing may be added to the builders before the tuple is known to be whole.
        let mut whole = rest;
        for _ in 0..count {
            let (length, after) = whole.split_first_chunk::<4>().ok_or(Stop::Short)?;
            let length = i32::from_be_bytes(*length).max(0) as usize;
            whole = after.get(length..).ok_or(Stop::Short)?;
        }
        let used = bytes.len() - whole.len();
        for (column, (builder, wire)) in self.builders.iter_mut().zip(&self.wires).enumerate() {
            let (length, after) = rest.split_first_chunk::<4>().ok_or(Stop::Short)?;
            let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
                builder.push_null();
                rest = after;
                continue;
            };
            let (value, after) = after.split_at_checked(length).ok_or(Stop::Short)?;
            rest = after;
            match builder.push(*wire, value, &mut self.scratch) {
                Ok(()) => {}
                Err(ODD) => return Err(Stop::Odd),
                Err(reason) => {
                    builder.push_null();
                    self.faults.push(Fault {
                        row: self.batch_rows as u32,
                        column: column as u16,
                        reason: reason.into(),
                    });
                }
            }
        }
        self.batch_rows += 1;
        self.batch_bytes += used;
        self.rows += 1;
        Ok(used)
    }
}

const ODD: &str = "the value has an unexpected length";
const ENDLESS: &str = "the value is infinity";

impl Builder {
    fn new(wire: Wire) -> Self {
        match wire {
            Wire::Bool => Self::Bool(BooleanBuilder::with_capacity(ROWS)),
            Wire::Int2 | Wire::Int4 | Wire::Int8 => Self::Int(Int64Builder::with_capacity(ROWS)),
            Wire::Float4 | Wire::Float8 => Self::Float(Float64Builder::with_capacity(ROWS)),
            Wire::Date => Self::Date(Date32Builder::with_capacity(ROWS)),
            Wire::Time => Self::Time(Time64MicrosecondBuilder::with_capacity(ROWS)),
            Wire::Timestamp | Wire::TimestampTz => Self::Timestamp(TimestampMicrosecondBuilder::with_capacity(ROWS)),
            Wire::Numeric
            | Wire::Text
            | Wire::Uuid
            | Wire::Json
            | Wire::Jsonb
            | Wire::Bytea
            | Wire::Array
            | Wire::Cast => Self::Text(StringBuilder::with_capacity(ROWS, ROWS * 16)),
        }
    }

    fn push_null(&mut self) {
        match self {
            Self::Bool(builder) => builder.append_null(),
            Self::Int(builder) => builder.append_null(),
            Self::Float(builder) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Time(builder) => builder.append_null(),
            Self::Timestamp(builder) => builder.append_null(),
        }
    }

    fn push(&mut self, wire: Wire, value: &[u8], scratch: &mut String) -> Result<(), &'static str> {
        match self {
            Self::Bool(builder) => builder.append_value(value.first().is_some_and(|byte| *byte != 0)),
            Self::Int(builder) => builder.append_value(match wire {
                Wire::Int2 => i64::from(i16::from_be_bytes(array(value)?)),
                Wire::Int4 => i64::from(i32::from_be_bytes(array(value)?)),
                _ => i64::from_be_bytes(array(value)?),
            }),
            Self::Float(builder) => builder.append_value(match wire {
                Wire::Float4 => f64::from(f32::from_be_bytes(array(value)?)),
                _ => f64::from_be_bytes(array(value)?),
            }),
            Self::Date(builder) => {
                let days = i32::from_be_bytes(array(value)?);
                builder.append_value(days.checked_add(EPOCH_DAYS).filter(|_| days > i32::MIN).ok_or(ENDLESS)?);
            }
            Self::Time(builder) => builder.append_value(i64::from_be_bytes(array(value)?)),
            Self::Timestamp(builder) => {
                let micros = i64::from_be_bytes(array(value)?);
                builder.append_value(micros.checked_add(EPOCH_MICROS).filter(|_| micros > i64::MIN).ok_or(ENDLESS)?);
            }
            Self::Text(builder) => {
                scratch.clear();
                match wire {
                    Wire::Numeric => {
                        write_numeric(value, scratch)?;
                        builder.append_value(&*scratch);
                    }
                    Wire::Uuid => {
                        write_uuid(value, scratch);
                        builder.append_value(&*scratch);
                    }
                    Wire::Bytea => {
                        STANDARD.encode_string(value, scratch);
                        builder.append_value(&*scratch);
                    }
                    Wire::Jsonb => builder.append_value(utf8(value.get(1..).unwrap_or_default())?),
                    _ => builder.append_value(utf8(value)?),
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Bool(builder) => Arc::new(builder.finish()),
            Self::Int(builder) => Arc::new(builder.finish()),
            Self::Float(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Time(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
        }
    }
}

fn array<const N: usize>(value: &[u8]) -> Result<[u8; N], &'static str> {
    value.try_into().map_err(|_| ODD)
}

fn utf8(value: &[u8]) -> Result<&str, &'static str> {
    std::str::from_utf8(value).map_err(|_| "the text is not UTF-8; the database must use UTF8 encoding")
}

fn write_uuid(value: &[u8], out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for (at, byte) in value.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push(char::from(HEX[usize::from(byte >> 4)]));
        out.push(char::from(HEX[usize::from(byte & 15)]));
    }
}

/// Writes a numeric: groups of four digits, of which the first stands `weight` groups before the point.
fn write_numeric(value: &[u8], out: &mut String) -> Result<(), &'static str> {
    let (head, mut groups) = value.split_first_chunk::<8>().ok_or(ODD)?;
    let [c0, c1, w0, w1, s0, s1, d0, d1] = *head;
    let count = i32::from(i16::from_be_bytes([c0, c1]));
    let weight = i32::from(i16::from_be_bytes([w0, w1]));
    let scale = usize::from(u16::from_be_bytes([d0, d1]));
    match u16::from_be_bytes([s0, s1]) {
        0x0000 => {}
        0x4000 => out.push('-'),
        0xC000 => {
            out.push_str("NaN");
            return Ok(());
        }
        _ => return Err(ENDLESS),
    }
    let mut at = 0;
    let mut group = |index: i32| {
        while at < index.min(count) {
            groups = groups.get(2..).unwrap_or_default();
            at += 1;
        }
        if index < 0 || index >= count { 0 } else { groups.first_chunk().map_or(0, |b| u16::from_be_bytes(*b)) }
    };
    if weight < 0 {
        out.push('0');
    } else {
        for index in 0..=weight {
            push_group(group(index), index > 0, out);
        }
    }
    if scale > 0 {
        out.push('.');
        let start = out.len();
        let mut index = weight + 1;
        while out.len() - start < scale {
            push_group(group(index), true, out);
            index += 1;
        }
        out.truncate(start + scale);
    }
    Ok(())
}

fn push_group(group: u16, padded: bool, out: &mut String) {
    let digits = [group / 1000 % 10, group / 100 % 10, group / 10 % 10, group % 10];
    let skip = if padded { 0 } else { digits.iter().take(3).take_while(|digit| **digit == 0).count() };
    out.extend(digits.iter().skip(skip).map(|digit| char::from(b'0' + *digit as u8)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(weight: i16, sign: u16, scale: u16, groups: &[u16]) -> Result<String, &'static str> {
        let mut bytes = (groups.len() as i16).to_be_bytes().to_vec();
        bytes.extend(weight.to_be_bytes());
        bytes.extend(sign.to_be_bytes());
        bytes.extend(scale.to_be_bytes());
        groups.iter().for_each(|group| bytes.extend(group.to_be_bytes()));
        let mut out = String::new();
        write_numeric(&bytes, &mut out).map(|()| out)
    }

    #[test]
    fn numerics_keep_every_digit() {
        assert_eq!(numeric(0, 0, 2, &[12, 5000]), Ok("12.50".to_owned()));
        assert_eq!(numeric(1, 0x4000, 0, &[1, 7]), Ok("-10007".to_owned()));
        assert_eq!(numeric(-1, 0, 4, &[42]), Ok("0.0042".to_owned()));
        assert_eq!(numeric(-2, 0, 8, &[42]), Ok("0.00000042".to_owned()));
        assert_eq!(numeric(2, 0, 0, &[1]), Ok("100000000".to_owned()));
        assert_eq!(numeric(0, 0, 3, &[]), Ok("0.000".to_owned()));
        assert_eq!(numeric(0, 0xC000, 0, &[]), Ok("NaN".to_owned()));
        assert_eq!(numeric(0, 0xD000, 0, &[]), Err(ENDLESS));
    }
}
