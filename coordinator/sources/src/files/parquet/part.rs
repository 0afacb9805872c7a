//! Parts of a file, each of which has a reader of its own: a reader keeps a page until it has the next one, and a page may be
//! hundreds of megabytes, since some writers count its values and not their bytes.

use std::fs::File;
use std::sync::Arc;

use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::column::page::PageReader;
use parquet::errors::Result;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::serialized_reader::SerializedPageReader;

use super::unpack;

/// Pages of more bytes than this are read one by one; in tests all is smaller.
const LARGE: u64 = if cfg!(test) { 1024 } else { 16 * 1024 * 1024 };

/// Consecutive rows of one row group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) group: usize,
    skip: usize,
    rows: usize,
    /// The leaf column whose page is unpacked while it is read.
    pub(super) streamed: Option<usize>,
}

/// The large pages of a column.
#[derive(Default)]
struct Pages {
    /// After how many rows each of them ends.
    ends: Vec<usize>,
    can_stream: bool,
}

impl Part {
    /// Selects the part's rows among those of its row group.
    pub(super) fn selection(self) -> RowSelection {
        vec![RowSelector::skip(self.skip), RowSelector::select(self.rows)].into()
    }

    /// The parts of a file, of which the leaf columns at `leaves` are read.
    pub(super) fn all(file: &File, metadata: &ParquetMetaData, leaves: &[usize]) -> Result<Vec<Self>> {
        let mut parts = Vec::new();
        for (group, of_group) in metadata.row_groups().iter().enumerate() {
            let rows = of_group.num_rows() as usize;
            let widest = leaves.iter().copied().max_by_key(|leaf| size(of_group, *leaf));
            let widest = widest.filter(|leaf| size(of_group, *leaf) > LARGE);
            let pages = widest.map(|leaf| large_pages(file, of_group, leaf)).transpose()?.unwrap_or_default();
            let streamed = widest.filter(|_| pages.can_stream);
            let mut skip = 0;
            for end in pages.ends.into_iter().filter(|end| *end < rows).chain([rows]) {
                if end > skip {
                    parts.push(Self { group, skip, rows: end - skip, streamed });
                    skip = end;
                }
            }
        }
        Ok(parts)
    }
}

fn size(group: &RowGroupMetaData, leaf: usize) -> u64 {
    u64::try_from(group.column(leaf).uncompressed_size()).unwrap_or_default()
}

/// The pages of a column; none if they are not large, or if a value is not a row.
fn large_pages(file: &File, group: &RowGroupMetaData, leaf: usize) -> Result<Pages> {
    let column = group.column(leaf);
    if column.column_descr().max_rep_level() > 0 {
        return Ok(Pages::default());
    }
    let file = Arc::new(file.try_clone()?);
    let mut reader = SerializedPageReader::new(file, column, group.num_rows() as usize, None)?;
    let mut pages = Pages { ends: Vec::new(), can_stream: unpack::can_stream(column.compression()) };
    let mut rows = 0;
    while let Some(page) = reader.peek_next_page()? {
        if !page.is_dict {
            rows += page.num_rows.or(page.num_levels).unwrap_or_default();
            pages.ends.push(rows);
            // Only pages of version 2 say how many rows they have, and begin with what is never packed.
            pages.can_stream &= page.num_rows.is_none();
        }
        reader.skip_next_page()?;
    }
    let are_large = size(group, leaf) / (pages.ends.len() as u64).max(1) > LARGE;
    Ok(if are_large { pages } else { Pages::default() })
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
    use parquet::file::properties::WriterProperties;

    use super::*;

    /// The parts of a file of two row groups with 20 rows each, whose texts are written in pages of `page` rows.
    fn parts(length: usize, page: usize) -> Vec<(usize, usize, usize)> {
        let file = tempfile::tempfile().unwrap();
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_max_row_group_row_count(Some(20))
            .set_data_page_row_count_limit(page)
            .set_write_batch_size(1)
            .build();
        let texts: StringArray = (0..40).map(|_| Some("x".repeat(length))).collect();
        let columns =
            [("id", Arc::new(Int64Array::from_iter_values(0..40)) as ArrayRef), ("text", Arc::new(texts) as ArrayRef)];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = ArrowWriter::try_new(file.try_clone().unwrap(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).unwrap();
        let parts = Part::all(&file, metadata.metadata(), &[0, 1]).unwrap();
        parts.into_iter().map(|part| (part.group, part.skip, part.rows)).collect()
    }

    #[test]
    fn large_pages_are_read_one_by_one_and_small_ones_in_one_go() {
        let large = LARGE as usize / 6;
        assert_eq!(parts(large, 8), [(0, 0, 8), (0, 8, 8), (0, 16, 4), (1, 0, 8), (1, 8, 8), (1, 16, 4)]);
        assert_eq!(parts(large, 2), [(0, 0, 20), (1, 0, 20)]);
        assert_eq!(parts(1, 8), [(0, 0, 20), (1, 0, 20)]);
    }
}
