//! Images in parquet by row.
//!
//! A reader stands in each image column where it last read, so that a walk in order of the rows decodes every page once. To go back,
//! or far ahead, it starts at the last page before the row that begins with a row; only the heads of the pages before it are read.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, PoisonError};

use parquet::basic::{Repetition, Type as Physical};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::FileReader;
use parquet::schema::types::{ColumnDescPtr, SchemaDescriptor};

use super::Parquet;
use crate::tables::{CellPath, IMAGE_KEYS};

/// Levels that are read at once.
const BATCH: usize = 4096;

/// What is remembered from image to image.
#[derive(Default)]
pub(super) struct State {
    /// By column.
    cursors: HashMap<usize, Cursor>,
    /// By column and row group.
    marks: HashMap<(usize, usize), Arc<[Mark]>>,
}

/// A reader within one column of one row group.
struct Cursor {
    group: usize,
    /// The row that it reads next, counted within the group.
    next: usize,
    reader: ColumnReaderImpl<ByteArrayType>,
}

/// A page that begins with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Pages of data before it.
    pages: usize,
    /// Its first row, counted within the group.
    row: usize,
}

impl Parquet {
    fn schema(&self) -> &SchemaDescriptor {
        self.reader.metadata().file_metadata().schema_descr()
    }

    fn column(&self, leaf: usize) -> ColumnDescPtr {
        self.schema().column(leaf)
    }

    /// The columns in which an image cell may stand, those that are taken first in front.
    pub(super) fn leaves(&self, path: &CellPath) -> Vec<usize> {
        let names: Vec<&str> = path.column.split('/').filter(|part| part.parse::<usize>().is_err()).collect();
        let below = |leaf: &usize| {
            let column = self.column(*leaf);
            let mut parts = column.path().parts().iter();
            let is_first = column.path().parts().first().map(String::as_str) == names.first().copied();
            is_first && names.iter().all(|name| parts.any(|part| part == name))
        };
        let leaves: Vec<usize> = (0..self.schema().num_columns()).filter(below).collect();
        let key = |leaf: &usize| {
            let column = self.column(*leaf);
            IMAGE_KEYS.iter().position(|key| column.path().parts().last().is_some_and(|last| last == key))
        };
        // A name is no file.
        let is_image = |leaf: &usize| key(leaf).is_some_and(|at| IMAGE_KEYS[at] != "path");
        let mut images: Vec<usize> = leaves.iter().copied().filter(is_image).collect();
        images.sort_by_key(key);
        if images.is_empty() && leaves.len() == 1 {
            images = leaves;
        }
        images.retain(|&leaf| self.column(leaf).physical_type() == Physical::BYTE_ARRAY);
        images
    }

    /// Whether the column stands for itself, not within a struct or list.
    pub(super) fn is_plain(&self, leaf: usize) -> bool {
        self.column(leaf).path().parts().len() == 1
    }

    /// The element of the cell of a row that `path` names, the first of lists where it does not say; `None` where it is null or is
    /// not there.
    pub(super) fn bytes(&self, leaf: usize, row: usize, path: &CellPath) -> Result<Option<ByteArray>, ParquetError> {
        let group = self.starts.partition_point(|&start| start <= row).saturating_sub(1);
        let local = row - self.starts[group];
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cursor = self.cursor(&mut state, leaf, group, local)?;
        if cursor.reader.skip_records(local - cursor.next)? != local - cursor.next {
            return Err(missing());
        }
        let (mut defined, mut repeated, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let (read, ..) = cursor.reader.read_records(1, Some(&mut defined), Some(&mut repeated), &mut values)?;
        cursor.next = local + 1;
        state.cursors.insert(leaf, cursor);
        if read != 1 {
            return Err(missing());
        }
        let column = self.column(leaf);
        let wanted = path.column.split('/').filter_map(|part| part.parse().ok()).chain(path.nth);
        let wanted = wanted.chain(std::iter::repeat(0)).take(usize::try_from(column.max_rep_level()).unwrap_or(0));
        let Some(at) = element(&repeated, &wanted.collect::<Vec<usize>>()) else { return Ok(None) };
        if defined.is_empty() {
            return Ok(values.into_iter().nth(at));
        }
        let full = column.max_def_level();
        let before = defined.iter().take(at).filter(|&&level| level == full).count();
        let there = defined.get(at) == Some(&full);
        Ok(values.into_iter().nth(before).filter(|_| there))
    }

    /// The reader of the column, at or before the row.
    fn cursor(&self, state: &mut State, leaf: usize, group: usize, local: usize) -> Result<Cursor, ParquetError> {
        let standing = state.cursors.remove(&leaf).filter(|cursor| cursor.group == group && cursor.next <= local);
        if let Some(cursor) = standing.as_ref()
            && cursor.next == local
        {
            return standing.ok_or_else(missing);
        }
        let marks = match state.marks.entry((leaf, group)) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(unknown) => Arc::clone(unknown.insert(self.marks(leaf, group)?.into())),
        };
        let last = marks.partition_point(|mark| mark.row <= local).checked_sub(1);
        let mark = last.map_or(Mark { pages: 0, row: 0 }, |last| marks[last]);
        if let Some(cursor) = standing.filter(|cursor| cursor.next >= mark.row) {
            return Ok(cursor);
        }
        let pages = self.reader.get_row_group(group)?.get_column_page_reader(leaf)?;
        let mut pages = Box::new(Filled(pages));
        let mut left = mark.pages;
        while left > 0 {
            let page = pages.peek_next_page()?.ok_or_else(missing)?;
            left -= usize::from(!page.is_dict);
            pages.skip_next_page()?;
        }
        Ok(Cursor { group, next: mark.row, reader: ColumnReaderImpl::new(self.column(leaf), pages) })
    }

    /// The pages of a column of lists that begin with a row. None of a column without lists, where the reader itself counts rows by
    /// the heads of pages, nor of one that has no sibling of text from which to learn how long the lists are.
    fn marks(&self, leaf: usize, group: usize) -> Result<Vec<Mark>, ParquetError> {
        let Some(sibling) = self.sibling(leaf, group).filter(|_| self.column(leaf).max_rep_level() > 0) else {
            return Ok(Vec::new());
        };
        let rows = self.reader.get_row_group(group)?;
        let pages = Box::new(Filled(rows.get_column_page_reader(sibling)?));
        let reader = ColumnReaderImpl::new(self.column(sibling), pages);
        page_starts(&row_starts(reader)?, Box::new(Filled(rows.get_column_page_reader(leaf)?)))
    }

    /// The smallest column of text in the same lists, such as the path beside an image's bytes.
    fn sibling(&self, leaf: usize, group: usize) -> Option<usize> {
        let (lists, sizes) = (self.lists(leaf), self.reader.metadata().row_group(group));
        let alike = |&other: &usize| {
            let is_text = self.column(other).physical_type() == Physical::BYTE_ARRAY;
            other != leaf && is_text && self.lists(other) == lists
        };
        let size = |&other: &usize| sizes.column(other).uncompressed_size();
        (0..self.schema().num_columns()).filter(alike).min_by_key(size)
    }

    /// The path of the innermost list that the column is in.
    fn lists(&self, leaf: usize) -> Vec<String> {
        let column = self.column(leaf);
        let (mut node, mut lists) = (self.schema().root_schema(), 0);
        for (depth, part) in column.path().parts().iter().enumerate() {
            let Some(field) = node.get_fields().iter().find(|field| field.name() == part) else { break };
            if field.get_basic_info().repetition() == Repetition::REPEATED {
                lists = depth + 1;
            }
            node = field;
            if node.is_primitive() {
                break;
            }
        }
        column.path().parts()[..lists].to_vec()
    }
}

/// Where the element with these positions, from the outermost list to the innermost, stands among the levels of a row.
fn element(repeated: &[i16], wanted: &[usize]) -> Option<usize> {
    let mut at = vec![0; wanted.len()];
    // A column without lists has no levels.
    let levels = if repeated.is_empty() { &[0] } else { repeated };
    levels.iter().position(|&level| {
        let level = usize::try_from(level).unwrap_or(0);
        if level > 0 {
            at[level - 1] += 1;
            at[level..].fill(0);
        }
        at == wanted
    })
}

/// The pages of a column but those of data that are empty, which the column's reader would take for its end. pyarrow writes one where it
/// gives up a dictionary.
struct Filled(Box<dyn PageReader>);

impl Iterator for Filled {
    type Item = Result<Page, ParquetError>;
    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Filled {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        loop {
            let page = self.0.get_next_page()?;
            if !page.as_ref().is_some_and(|page| page.is_data_page() && page.num_values() == 0) {
                return Ok(page);
            }
        }
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        loop {
            let page = self.0.peek_next_page()?;
            if !page.as_ref().is_some_and(|page| !page.is_dict && page.num_levels == Some(0)) {
                return Ok(page);
            }
            self.0.skip_next_page()?;
        }
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        // What is peeked at is not empty.
        self.peek_next_page()?.map_or(Ok(()), |_| self.0.skip_next_page())
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.0.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> Result<Option<Page>, ParquetError> {
        self.0.take_deferred_dictionary()
    }

    fn at_record_boundary(&mut self) -> Result<bool, ParquetError> {
        self.peek_next_page()?.map_or(Ok(true), |_| self.0.at_record_boundary())
    }
}

fn missing() -> ParquetError {
    ParquetError::General("the row is missing".into())
}

/// Where rows begin, in levels: the elements of all lists, an empty list or null counting as one.
fn row_starts(mut reader: ColumnReaderImpl<ByteArrayType>) -> Result<Vec<usize>, ParquetError> {
    let (mut starts, mut seen) = (Vec::new(), 0);
    loop {
        let (mut defined, mut repeated, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let (rows, _, levels) = reader.read_records(BATCH, Some(&mut defined), Some(&mut repeated), &mut values)?;
        if rows == 0 {
            return Ok(starts);
        }
        starts.extend((seen..).zip(&repeated).filter(|(_, level)| **level == 0).map(|(at, _)| at));
        seen += levels;
    }
}

/// The pages whose first level is that of a row.
fn page_starts(rows: &[usize], mut pages: Box<dyn PageReader>) -> Result<Vec<Mark>, ParquetError> {
    let (mut marks, mut before, mut level) = (Vec::new(), 0, 0);
    while let Some(page) = pages.peek_next_page()? {
        if !page.is_dict {
            let Some(levels) = page.num_levels else { return Ok(Vec::new()) };
            if let Ok(row) = rows.binary_search(&level) {
                marks.push(Mark { pages: before, row });
            }
            (before, level) = (before + 1, level + levels);
        }
        pages.skip_next_page()?;
    }
    Ok(marks)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::path::Path;

    #[test]
    fn pages_of_lists_are_found_by_row() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet/pages.parquet");
        let table = Parquet::open(&file).unwrap();
        let leaf_of = |column: &str| table.leaves(&CellPath { column: column.into(), nth: None })[0];
        let leaf = leaf_of("images");
        let marks = table.marks(leaf, 0).unwrap();
        assert!(marks.len() > 8 && marks[0] == Mark { pages: 0, row: 0 }, "{marks:?}");
        let mut state = State::default();
        let mark = marks[marks.len() - 2];
        assert_eq!(table.cursor(&mut state, leaf, 0, mark.row + 1).unwrap().next, mark.row, "not from the front");
        assert_eq!(table.marks(leaf_of("single"), 0).unwrap(), []);
        // Lists within lists, where the length is told by columns beside the object that holds the image.
        let table = Parquet::open(&file.with_file_name("messages.parquet")).unwrap();
        let leaf = table.leaves(&CellPath { column: "messages/0/content/0".into(), nth: None })[0];
        let marks = table.marks(leaf, 0).unwrap();
        assert!(marks.len() > 4, "{marks:?}");
        let mark = marks[marks.len() - 2];
        assert_eq!(
            table.cursor(&mut State::default(), leaf, 0, mark.row).unwrap().next,
            mark.row,
            "not from the front"
        );
    }

    /// The heads of pages: how many levels each has, `None` of a dictionary.
    struct Heads(VecDeque<Option<usize>>);

    impl Iterator for Heads {
        type Item = Result<Page, ParquetError>;
        fn next(&mut self) -> Option<Self::Item> {
            None
        }
    }

    impl PageReader for Heads {
        fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
            Err(missing())
        }
        fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
            let head = |levels: &Option<usize>| PageMetadata {
                num_rows: None,
                num_levels: *levels,
                is_dict: levels.is_none(),
            };
            Ok(self.0.front().map(head))
        }
        fn skip_next_page(&mut self) -> Result<(), ParquetError> {
            self.0.pop_front();
            Ok(())
        }
    }

    #[test]
    fn elements_of_lists_within_lists_are_found() {
        // [[a, b], [], [c, d]]: the empty list has one level, too.
        let levels = [0, 2, 1, 1, 2];
        let found = [[0, 0], [0, 1], [1, 0], [2, 0], [2, 1], [0, 2], [3, 0]].map(|wanted| element(&levels, &wanted));
        assert_eq!(found, [Some(0), Some(1), Some(2), Some(3), Some(4), None, None]);
        assert_eq!((element(&[0, 1, 1], &[2]), element(&[0, 1], &[2]), element(&[], &[])), (Some(2), None, Some(0)));
    }

    #[test]
    fn pages_that_begin_within_a_row_are_passed_over() {
        let heads = Heads([None, Some(3), Some(2), Some(4), Some(1)].into());
        // Rows of 2, 3, 4 and 1 elements; the second page begins with the last element of the second row.
        let marks = page_starts(&[0, 2, 5, 9], Box::new(heads)).unwrap();
        assert_eq!(marks, [(0, 0), (2, 2), (3, 3)].map(|(pages, row)| Mark { pages, row }));
    }
}
