//! The binary COPY format.

use arrow_schema::SchemaRef;
use outflow_model::cell::Cell;

use super::types::Form;
use super::value::{Trouble, read, write_array};
use crate::error::SourceError;
use crate::port::Batch;
use crate::rows::Rows;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of the extension.
const HEADER: usize = 19;

/// Decodes a COPY stream.
pub(super) struct Decoder {
    forms: Vec<Form>,
    rows: Rows,
    /// A tuple that a message cut in two.
    rest: Vec<u8>,
    started: bool,
    ended: bool,
    scratch: String,
}

/// Why a tuple could not be decoded.
enum Stop {
    /// More bytes are needed.
    Short,
    /// The bytes are not what the columns' types say.
    Odd,
}

impl Decoder {
    pub(super) fn new(forms: Vec<Form>, schema: SchemaRef) -> Self {
        let rows = Rows::new(forms.iter().map(|form| form.kind()), schema);
        Self { forms, rows, rest: Vec::new(), started: false, ended: false, scratch: String::new() }
    }

    /// Rows decoded so far.
    pub(super) const fn rows(&self) -> u64 {
        self.rows.total()
    }

    /// True where the batch is large enough to be taken.
    pub(super) const fn is_full(&self) -> bool {
        self.rows.is_full()
    }

    /// True where no row waits to be taken.
    pub(super) const fn is_empty(&self) -> bool {
        self.rows.is_empty()
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
        Err(SourceError::Broken { rows: self.rows(), reason: "the result is cut short".to_owned() })
    }

    /// The rows decoded since the last call.
    pub(super) fn take(&mut self) -> Result<Batch, SourceError> {
        self.rows.take()
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
                    let reason = "a value has another form than its type, which is a defect of Outflow".to_owned();
                    return Err(SourceError::Broken { rows: self.rows(), reason });
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
        if usize::try_from(count) != Ok(self.forms.len()) {
            return Err(Stop::Odd);
        }
        // No value may be pushed before the tuple is known to be whole.
        let mut whole = rest;
        for _ in 0..count {
            let (length, after) = whole.split_first_chunk::<4>().ok_or(Stop::Short)?;
            let length = i32::from_be_bytes(*length).max(0) as usize;
            whole = after.get(length..).ok_or(Stop::Short)?;
        }
        for (column, form) in self.forms.iter().enumerate() {
            let (length, after) = rest.split_first_chunk::<4>().ok_or(Stop::Short)?;
            let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
                self.rows.push(column, Cell::Null);
                rest = after;
                continue;
            };
            let (value, after) = after.split_at_checked(length).ok_or(Stop::Short)?;
            rest = after;
            let pushed = if form.is_array {
                self.scratch.clear();
                write_array(form.wire, value, &mut self.scratch)
                    .map(|()| self.rows.push(column, Cell::Json(&self.scratch)))
            } else {
                read(form.wire, value, &mut self.scratch, |cell| self.rows.push(column, cell))
            };
            match pushed {
                Err(Trouble::Odd) => return Err(Stop::Odd),
                Err(Trouble::Fault(reason)) => self.rows.fault(column, reason.into()),
                Ok(()) => {}
            }
        }
        self.rows.end_row();
        Ok(bytes.len() - whole.len())
    }
}

#[cfg(test)]
mod tests {
    use outflow_model::cell::Kind;
    use outflow_model::mapping::SourceColumn;

    use super::*;
    use crate::shape;

    fn decoder() -> Decoder {
        let columns = [SourceColumn { name: "id".to_owned(), kind: Kind::Text }];
        Decoder::new(vec![Form::simple("text")], shape::schema(&columns))
    }

    fn header() -> Vec<u8> {
        [SIGNATURE, &[0; 8]].concat()
    }

    fn tuple(text: &str) -> Vec<u8> {
        [&1_i16.to_be_bytes()[..], &(text.len() as i32).to_be_bytes(), text.as_bytes()].concat()
    }

    const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

    #[test]
    fn stream_cut_at_any_byte_is_an_error() {
        let whole = [header(), tuple("ada"), tuple("bob"), TRAILER.to_vec()].concat();
        for cut in 0..whole.len() {
            let mut decoder = decoder();
            decoder.push(&whole[..cut]).unwrap();
            assert!(matches!(decoder.finish(), Err(SourceError::Broken { .. })), "cut at byte {cut}");
        }
        for cut in 0..whole.len() {
            let mut decoder = decoder();
            decoder.push(&whole[..cut]).unwrap();
            decoder.push(&whole[cut..]).unwrap();
            decoder.finish().unwrap();
            assert_eq!(decoder.take().unwrap().num_rows(), 2, "messages divided at byte {cut}");
        }
    }

    #[test]
    fn what_follows_the_trailer_is_an_error() {
        let mut decoder = decoder();
        decoder.push(&[header(), tuple("ada"), TRAILER.to_vec(), vec![0]].concat()).unwrap();
        assert!(decoder.finish().is_err());
    }

    #[test]
    fn tuple_of_other_columns_is_an_error() {
        let mut decoder = decoder();
        let two = [&2_i16.to_be_bytes()[..], &(-1_i32).to_be_bytes(), &(-1_i32).to_be_bytes()].concat();
        assert!(decoder.push(&[header(), two].concat()).is_err());
    }
}
