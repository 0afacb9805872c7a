//! CSV records: RFC 4180, strictly where leniency would change a value.

use std::io::BufRead;

use super::text::{LONGEST, too_long};

/// The values of one record.
#[derive(Default)]
pub(super) struct Record {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// The line that it begins in, from 1.
    pub(super) line: u64,
}

impl Record {
    /// How many values it has.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// A value, without its quotes.
    pub(super) fn value(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends.get(at - 1).copied().unwrap_or(usize::MAX) };
        self.ends.get(at).and_then(|end| self.bytes.get(start..*end)).unwrap_or_default()
    }

    fn end_value(&mut self) {
        self.ends.push(self.bytes.len());
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the begin of a record.
    Begin,
    /// At the begin of a value.
    Value,
    /// Within a value without quotes.
    Plain,
    /// Within a value in quotes.
    Quoted,
    /// After a quote within a value in quotes: its end, or half of a doubled quote.
    Quote,
    /// Behind the record.
    Over,
}

/// Reads records one by one.
pub(super) struct Splitter<R> {
    input: R,
    at: Place,
}

/// Where a splitter is.
struct Place {
    delimiter: u8,
    line: u64,
    state: State,
    /// The line before ended with a carriage return; a line feed may follow.
    returned: bool,
}

impl<R: BufRead> Splitter<R> {
    /// Reads from the beginning of `line`.
    pub(super) fn new(input: R, delimiter: u8, line: u64) -> Self {
        Self { input, at: Place { delimiter, line, state: State::Begin, returned: false } }
    }

    /// Reads the next record; false at the end. Blank lines are passed over. An error is a reason with its line.
    pub(super) fn read(&mut self, record: &mut Record) -> Result<bool, String> {
        record.bytes.clear();
        record.ends.clear();
        self.at.state = State::Begin;
        loop {
            let buffer = self.input.fill_buf().map_err(|error| error.to_string())?;
            if buffer.is_empty() {
                return match self.at.state {
                    State::Begin => Ok(false),
                    State::Quoted => Err(format!("line {}: its quote is not closed", record.line)),
                    _ => {
                        record.end_value();
                        Ok(true)
                    }
                };
            }
            let used = self.at.take(buffer, record)?;
            self.input.consume(used);
            if self.at.state == State::Over {
                return Ok(true);
            }
            if record.bytes.len() + record.ends.len() * 8 > LONGEST {
                return Err(format!("line {}: {}; is a quote missing?", record.line, too_long()));
            }
        }
    }
}

impl Place {
    /// Takes what belongs to the record from `buffer`, and answers how many bytes that were.
    fn take(&mut self, buffer: &[u8], record: &mut Record) -> Result<usize, String> {
        let mut rest = buffer;
        while let (true, Some((byte, after))) = (self.state != State::Over, rest.split_first()) {
            let (part, behind) = rest.split_at(self.run(rest));
            if part.is_empty() {
                self.step(*byte, record)?;
                rest = after;
            } else {
                if self.state == State::Quoted {
                    self.line += part.split(|byte| *byte == b'\n').skip(1).count() as u64;
                }
                record.bytes.extend_from_slice(part);
                rest = behind;
            }
        }
        Ok(buffer.len() - rest.len())
    }

    /// How many bytes at the begin of `rest` are the value's own.
    fn run(&self, rest: &[u8]) -> usize {
        let end = match self.state {
            State::Quoted => rest.iter().position(|byte| *byte == b'"'),
            State::Plain => rest.iter().position(|byte| *byte == self.delimiter || matches!(byte, b'\n' | b'\r')),
            _ => Some(0),
        };
        end.unwrap_or(rest.len())
    }

    fn step(&mut self, byte: u8, record: &mut Record) -> Result<(), String> {
        let ends_line = matches!(byte, b'\n' | b'\r');
        if self.state == State::Begin {
            let follows = std::mem::take(&mut self.returned) && byte == b'\n';
            record.line = self.line;
            if ends_line {
                self.end_line(byte, u64::from(!follows));
                return Ok(());
            }
        }
        self.state = match (self.state, byte) {
            (State::Quoted, _) => State::Quote,
            (State::Begin | State::Value, b'"') => State::Quoted,
            (State::Quote, b'"') => {
                record.bytes.push(byte);
                State::Quoted
            }
            _ if byte == self.delimiter => {
                record.end_value();
                State::Value
            }
            _ if ends_line => {
                record.end_value();
                self.end_line(byte, 1);
                State::Over
            }
            (State::Quote, _) => {
                let line = self.line;
                return Err(format!(
                    "line {line}: a value goes on after its closing quote; double the quotes within it"
                ));
            }
            _ => {
                record.bytes.push(byte);
                State::Plain
            }
        };
        Ok(())
    }

    fn end_line(&mut self, byte: u8, lines: u64) {
        self.line += lines;
        self.returned = byte == b'\r';
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::*;

    /// The records of `text`, read through a buffer of `size` bytes.
    fn records(text: &str, size: usize) -> Result<Vec<(u64, Vec<String>)>, String> {
        let mut splitter = Splitter::new(BufReader::with_capacity(size, text.as_bytes()), b',', 1);
        let (mut record, mut all) = (Record::default(), Vec::new());
        while splitter.read(&mut record)? {
            let value = |at| String::from_utf8_lossy(record.value(at)).into_owned();
            all.push((record.line, (0..record.len()).map(value).collect()));
        }
        Ok(all)
    }

    #[test]
    fn records_keep_every_character_and_know_their_line() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["a,b", "\"x\"\"y\",\"1,2\"", "", "\"two\nlines\",5\" pipe", ",", "\"\",last"].join(end);
            let wanted = [
                (1, ["a", "b"]),
                (2, ["x\"y", "1,2"]),
                (4, ["two\nlines", "5\" pipe"]),
                (6, ["", ""]),
                (7, ["", "last"]),
            ];
            let wanted: Vec<_> = wanted.map(|(line, values)| (line, values.map(str::to_owned).to_vec())).into();
            for size in [1, 2, 3, 7, 4096] {
                assert_eq!(records(&text, size).as_ref(), Ok(&wanted), "{end:?} {size}");
                assert_eq!(records(&format!("{text}{end}"), size).as_ref(), Ok(&wanted), "{end:?} {size}");
            }
        }
    }

    #[test]
    fn a_quote_out_of_place_is_told_with_its_line() {
        let open = records("a,b\n1,\"x\n2,y\n", 5).err().unwrap_or_default();
        assert_eq!(open, "line 2: its quote is not closed");
        let after = records("a,b\n1,x\n2,\"O\"Brien\"\n", 5).err().unwrap_or_default();
        assert!(after.starts_with("line 3: a value goes on after its closing quote"), "{after}");
    }

    #[test]
    fn a_record_without_end_costs_bounded_memory() {
        let text = b"\"".chain(std::io::repeat(b'x'));
        let mut splitter = Splitter::new(BufReader::new(text), b',', 1);
        let error = splitter.read(&mut Record::default()).err().unwrap_or_default();
        assert!(error.starts_with("line 1: it is longer than 32 MiB"), "{error}");
    }
}
