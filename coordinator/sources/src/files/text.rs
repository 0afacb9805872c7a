//! Text files: what stands before the first character, and lines of bounded length.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::error::SourceError;

/// The longest line of NDJSON or record of CSV, in bytes.
pub(super) const LONGEST: usize = 32 * 1024 * 1024;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// First bytes of files that hold no text.
const FOREIGN: [(&[u8], &str); 7] = [
    (b"\x1f\x8b", "it is compressed with gzip; decompress it"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd; decompress it"),
    (b"\xfd7zXZ", "it is compressed with xz; decompress it"),
    (b"\x04\x22\x4d\x18", "it is compressed with lz4; decompress it"),
    (b"PK\x03\x04", "it is a zip archive or a spreadsheet; save it as text"),
    (b"PAR1", "it is a Parquet file; set `format: parquet`"),
    (b"\xd0\xcf\x11\xe0", "it is a spreadsheet; save it as text"),
];

/// Reads a file of UTF-8 text from behind its byte order mark, where it has one.
pub(super) fn begin<'f>(file: &'f File, path: &Path) -> Result<BufReader<&'f File>, SourceError> {
    let mut input = BufReader::with_capacity(64 * 1024, file);
    let start = input.fill_buf().map_err(|error| trouble(path, error.to_string()))?;
    if let Some((_, reason)) = FOREIGN.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Err(trouble(path, *reason));
    }
    let is_utf16 = matches!(start, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..]);
    if is_utf16 {
        return Err(trouble(path, "it is UTF-16; save it as UTF-8"));
    }
    if start.starts_with(BOM) {
        input.consume(BOM.len());
    }
    Ok(input)
}

/// Reads the next line into `line`, without its line feed; false at the end. A line above [`LONGEST`] is an error.
pub(super) fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool, String> {
    line.clear();
    let mut is_some = false;
    loop {
        let buffer = input.fill_buf().map_err(|error| error.to_string())?;
        if buffer.is_empty() {
            return Ok(is_some);
        }
        is_some = true;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default());
        let used = end.map_or(buffer.len(), |end| end + 1);
        input.consume(used);
        if line.len() > LONGEST {
            return Err(too_long());
        }
        if end.is_some() {
            return Ok(true);
        }
    }
}

pub(super) fn too_long() -> String {
    format!("it is longer than {} MiB", LONGEST >> 20)
}

/// An error that names the file.
pub(super) fn trouble(path: &Path, reason: impl Into<String>) -> SourceError {
    SourceError::File { path: path.display().to_string(), reason: reason.into() }
}
