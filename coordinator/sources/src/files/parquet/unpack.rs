//! Pages that are unpacked while they are read, where a page may be so large that it must not be in memory twice.

use std::fs::File;
use std::io::{self, BufReader, Error, ErrorKind, Read};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use parquet::basic::Compression;
use parquet::errors::Result;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, Length};

/// A file of which one column's pages, in one row group, are given unpacked.
pub(super) struct Unpacked {
    file: File,
    packed: Option<Packed>,
}

/// A column chunk, and how its pages are packed.
struct Packed {
    place: Range<u64>,
    compression: Compression,
    /// How many bytes its pages take at most.
    limit: u64,
}

impl Unpacked {
    /// Reads a file as it is.
    pub(super) const fn plain(file: File) -> Self {
        Self { file, packed: None }
    }

    /// Reads a file whose leaf column `leaf` of row group `group` is given unpacked, and the metadata that says so. A page has no
    /// part that is never packed: it is of version 1.
    pub(super) fn new(
        file: File,
        metadata: &Arc<ParquetMetaData>,
        group: usize,
        leaf: usize,
    ) -> Result<(Self, Arc<ParquetMetaData>)> {
        let mut groups = metadata.row_groups().to_vec();
        let mut packed = None;
        if let Some(place) = groups.get_mut(group) {
            let mut columns = place.columns().to_vec();
            if let Some(column) = columns.get_mut(leaf) {
                let (start, length) = column.byte_range();
                let limit = u64::try_from(column.uncompressed_size()).unwrap_or_default();
                packed = Some(Packed { place: start..start + length, compression: column.compression(), limit });
                *column = column.clone().into_builder().set_compression(Compression::UNCOMPRESSED).build()?;
            }
            *place = place.clone().into_builder().set_column_metadata(columns).build()?;
        }
        let metadata = ParquetMetaData::clone(metadata).into_builder().set_row_groups(groups).build();
        Ok((Self { file, packed }, Arc::new(metadata)))
    }
}

/// True if pages that are packed so can be unpacked while they are read.
pub(super) const fn can_stream(compression: Compression) -> bool {
    matches!(compression, Compression::SNAPPY | Compression::GZIP(_) | Compression::ZSTD(_))
}

impl Length for Unpacked {
    fn len(&self) -> u64 {
        self.file.len()
    }
}

impl ChunkReader for Unpacked {
    type T = BufReader<File>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        self.file.get_read(start)
    }

    /// The bytes of a page, of which there are `length` in the file and more once they are unpacked.
    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let Some(packed) = self.packed.as_ref().filter(|packed| packed.place.contains(&start)) else {
            return self.file.get_bytes(start, length);
        };
        let page = self.file.get_read(start)?.take(length as u64);
        Ok(unpack(page, packed.compression, packed.limit)?.into())
    }
}

fn unpack(page: impl Read, compression: Compression, limit: u64) -> io::Result<Vec<u8>> {
    let page = BufReader::new(page);
    let mut unpacked = Vec::new();
    match compression {
        Compression::SNAPPY => unpacked = snappy(page, limit)?,
        Compression::GZIP(_) => drop(MultiGzDecoder::new(page).take(limit + 1).read_to_end(&mut unpacked)?),
        Compression::ZSTD(_) => drop(zstd::Decoder::with_buffer(page)?.take(limit + 1).read_to_end(&mut unpacked)?),
        _ => return Err(invalid("its compression is not known")),
    }
    if unpacked.len() as u64 > limit { Err(invalid("a page is larger than its column")) } else { Ok(unpacked) }
}

/// Unpacks raw Snappy, whose copies refer to what is unpacked already.
/// Source: <https://github.com/google/snappy/blob/main/format_description.txt>.
fn snappy(mut from: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let length = varint(&mut from)?;
    if length > limit {
        return Err(invalid("a page is larger than its column"));
    }
    let length = usize::try_from(length).map_err(Error::other)?;
    let mut unpacked = Vec::new();
    unpacked.try_reserve_exact(length).map_err(Error::other)?;
    while unpacked.len() < length {
        let [tag] = bytes(&mut from)?;
        let (high, kind) = (usize::from(tag >> 2), tag & 3);
        let (count, back) = match kind {
            0 if high < 60 => (high + 1, None),
            0 => (number(&mut from, high - 59)? + 1, None),
            1 => ((high & 7) + 4, Some(((high >> 3) << 8) + number(&mut from, 1)?)),
            2 => (high + 1, Some(number(&mut from, 2)?)),
            _ => (high + 1, Some(number(&mut from, 4)?)),
        };
        if count > length - unpacked.len() {
            return Err(invalid("a packed page holds more than it says"));
        }
        match back {
            None => {
                if from.by_ref().take(count as u64).read_to_end(&mut unpacked)? < count {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
            Some(back) => repeat(&mut unpacked, back, count)?,
        }
    }
    Ok(unpacked)
}

/// Appends `count` bytes that stand `back` bytes before the end. They may be among those that are appended.
fn repeat(unpacked: &mut Vec<u8>, back: usize, count: usize) -> io::Result<()> {
    let start = unpacked.len().checked_sub(back).filter(|_| back > 0);
    let start = start.ok_or_else(|| invalid("a packed page refers to what it does not hold"))?;
    let end = unpacked.len() + count;
    while unpacked.len() < end {
        let count = (end - unpacked.len()).min(unpacked.len() - start);
        unpacked.extend_from_within(start..start + count);
    }
    Ok(())
}

fn varint(from: &mut impl Read) -> io::Result<u64> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let [byte] = bytes(from)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(invalid("a packed page does not say how large it is"))
}

/// A number of `count` bytes, at most four, the lowest first.
fn number(from: &mut impl Read, count: usize) -> io::Result<usize> {
    let mut value = 0;
    for at in 0..count {
        let [byte] = bytes(from)?;
        value |= usize::from(byte) << (8 * at);
    }
    Ok(value)
}

fn bytes<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn invalid(reason: &str) -> Error {
    Error::new(ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::{ArrayRef, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
    use parquet::basic::{GzipLevel, ZstdLevel};
    use parquet::file::properties::WriterProperties;

    use super::*;

    /// Texts that are packed as literals, as copies, and as copies of what they append.
    fn texts() -> Vec<Option<String>> {
        let mixed = |seed: u32| {
            let mut state = seed;
            let next = move || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                Some(char::from(b'a' + (state >> 24) as u8 % 26))
            };
            std::iter::from_fn(next).take(90_000).collect()
        };
        let mut texts = vec!["x".repeat(200_000), String::new(), "abc".repeat(30_000), "short".to_owned()];
        texts.extend((0..4).map(mixed));
        texts.push(texts.concat());
        texts.into_iter().map(Some).chain([None]).collect()
    }

    fn write(
        file: &File,
        (compression, has_dictionary): (Compression, bool),
        texts: &[Option<String>],
    ) -> Arc<ParquetMetaData> {
        let column: ArrayRef = Arc::new(texts.iter().map(Option::as_deref).collect::<StringArray>());
        let batch = RecordBatch::try_from_iter([("id", column.clone()), ("text", column)]).unwrap();
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(has_dictionary)
            .set_dictionary_page_size_limit(1 << 30)
            .set_max_row_group_row_count(Some(5))
            .set_compression(compression)
            .build();
        let mut writer = ArrowWriter::try_new(file.try_clone().unwrap(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        ArrowReaderMetadata::load(file, ArrowReaderOptions::new()).unwrap().metadata().clone()
    }

    #[test]
    fn a_page_that_is_unpacked_while_it_is_read_holds_what_was_written() {
        let texts = texts();
        let compressions =
            [Compression::SNAPPY, Compression::GZIP(GzipLevel::default()), Compression::ZSTD(ZstdLevel::default())];
        for way in compressions.into_iter().flat_map(|compression| [(compression, false), (compression, true)]) {
            assert!(can_stream(way.0));
            let file = tempfile::tempfile().unwrap();
            let metadata = write(&file, way, &texts);
            for (group, want) in texts.chunks(5).enumerate() {
                let (unpacked, metadata) = Unpacked::new(file.try_clone().unwrap(), &metadata, group, 1).unwrap();
                let metadata = ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new()).unwrap();
                let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(unpacked, metadata);
                let batches: Vec<_> =
                    reader.with_row_groups(vec![group]).build().unwrap().map(Result::unwrap).collect();
                for column in [0, 1] {
                    let found = batches.iter().flat_map(|batch| batch.column(column).as_string::<i32>().iter());
                    assert!(found.eq(want.iter().map(Option::as_deref)), "{way:?}, column {column}");
                }
            }
        }
    }

    #[test]
    fn a_damaged_page_is_an_error_and_takes_no_more_than_its_column() {
        let whole = [&[8, 0b1100][..], b"abcd", &[0b0000_0001, 4]].concat();
        assert_eq!(unpack(&whole[..], Compression::SNAPPY, 8).unwrap(), b"abcdabcd");
        let far = [&[8, 0b1100][..], b"abcd", &[0b0000_1111, 4, 0, 0, 0]].concat();
        assert_eq!(unpack(&far[..], Compression::SNAPPY, 8).unwrap(), b"abcdabcd");
        for end in 0..whole.len() {
            unpack(&whole[..end], Compression::SNAPPY, 8).unwrap_err();
        }
        for (damaged, told) in [
            (&[9, 0b0000_0001, 4][..], "does not hold"),
            (&[8, 0b1100, 1, 2, 3, 4, 0b0000_0001, 5], "does not hold"),
            (&[8, 0b1100, 1, 2, 3, 4, 0b0000_0001, 0], "does not hold"),
            (&[5, 0b1100, 1, 2, 3, 4, 0b0000_0001, 4], "more than it says"),
            (&[10, 0b1100, 1, 2, 3, 4], "larger than its column"),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "does not say how large"),
        ] {
            let error = unpack(damaged, Compression::SNAPPY, 9).unwrap_err().to_string();
            assert!(error.contains(told), "{damaged:?}: {error}");
        }
        let zeros = zstd::encode_all(&[0; 4096][..], 1).unwrap();
        unpack(&zeros[..], Compression::ZSTD(ZstdLevel::default()), 4096).unwrap();
        unpack(&zeros[..], Compression::ZSTD(ZstdLevel::default()), 4095).unwrap_err();
    }
}
