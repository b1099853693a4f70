//! Parquet: columns by row groups. Rows are streamed without the columns that hold images; an image is read when asked for.
//!
//! * `cells`: images by row, in order or at random.

mod cells;

use std::collections::HashMap;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use parquet::basic::{Compression, Type as Physical};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::TreeBuilder;
use parquet::record::{Field, Row as Record};
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};
use serde_json::{Map, Value};

use super::{Cell, CellPath, Row, Sink, Spot, Table};
use crate::error::DataError;

/// Cells of this mean size or more, in bytes, stay in the file.
const LARGE: i64 = 2048;
/// Rows decoded at once.
const BATCH: usize = 64;
/// The field of an image that holds its file.
const BYTES: &str = "bytes";

/// A `.parquet` file.
pub(super) struct Parquet {
    file: PathBuf,
    reader: SerializedFileReader<File>,
    /// The first row of each row group, and the number of all rows.
    starts: Vec<usize>,
    /// The columns without image bytes.
    light: Arc<SchemaDescriptor>,
    /// Columns that are left out whole, or without their bytes.
    held: HashMap<String, Held>,
    state: Mutex<cells::State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// The column is one large cell a row.
    Whole,
    /// The column has structs, in lists or not; all is read but their bytes.
    Bytes,
}

impl std::fmt::Debug for Parquet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parquet").field("file", &self.file).field("held", &self.held).finish_non_exhaustive()
    }
}

impl Parquet {
    /// Reads the file's foot.
    pub(super) fn open(file: &Path) -> Result<Self, DataError> {
        let broken = |error: ParquetError| broken(file, &error);
        let reader =
            SerializedFileReader::new(File::open(file).map_err(DataError::io("open", file))?).map_err(broken)?;
        let mut starts = vec![0];
        for group in reader.metadata().row_groups() {
            let rows = usize::try_from(group.num_rows()).unwrap_or_default();
            starts.push(starts.last().copied().unwrap_or_default() + rows);
        }
        check_codecs(file, &reader)?;
        let schema = reader.metadata().file_metadata().schema_descr().root_schema_ptr();
        let (mut light, mut held) = (Vec::new(), HashMap::new());
        for column in schema.get_fields() {
            let (kept, hold) = without_bytes(column, &reader).map_err(broken)?;
            light.extend(kept);
            held.extend(hold.map(|hold| (column.name().to_owned(), hold)));
        }
        let light = Type::group_type_builder(schema.name()).with_fields(light).build().map_err(broken)?;
        let light = Arc::new(SchemaDescriptor::new(Arc::new(light)));
        Ok(Self { file: file.into(), reader, starts, light, held, state: Mutex::default() })
    }

    fn row(&self, spot: Spot, record: Record) -> Row {
        let mut cells = Map::new();
        for (name, field) in record.into_columns() {
            let held = self.held.get(&name) == Some(&Held::Bytes);
            cells.insert(name, value(&field, held));
        }
        for (name, _) in self.held.iter().filter(|(_, held)| **held == Held::Whole) {
            cells.insert(name.clone(), Value::Bool(true));
        }
        Row { spot, cells }
    }
}

impl Table for Parquet {
    fn file(&self) -> &Path {
        &self.file
    }

    fn is_dear(&self) -> bool {
        true
    }

    fn read(&self, sink: &mut Sink<'_>) -> Result<(), DataError> {
        let broken = |error| broken(&self.file, &error);
        for group in 0..self.reader.num_row_groups() {
            // Readers that share a file handle would move each other's place in the file.
            let file = File::open(&self.file).map_err(DataError::io("open", &self.file))?;
            let reader = SerializedFileReader::new(file).map_err(broken)?;
            let rows = reader.get_row_group(group).map_err(broken)?;
            let rows = TreeBuilder::new().with_batch_size(BATCH).as_iter(Arc::clone(&self.light), &*rows);
            for (nth, record) in rows.map_err(broken)?.enumerate() {
                let row = self.starts[group] + nth;
                let spot = Spot { number: row + 1, is_line: false, start: row as u64, len: 0 };
                let row = match record {
                    Ok(record) => Ok(self.row(spot, record)),
                    Err(error) => return Err(self.bad(spot, error.to_string())),
                };
                if sink(row) == ControlFlow::Break(()) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn again(&self, _: Spot) -> Option<Result<Row, DataError>> {
        None
    }

    fn cell(&self, spot: Spot, path: &CellPath, _: &mut Option<Row>) -> Result<Option<Cell>, DataError> {
        let leaves = self.leaves(path);
        if leaves.is_empty() {
            return Err(self.bad(spot, format!("`{}` holds no images", path.column)));
        }
        for leaf in leaves {
            let bytes = self.bytes(leaf, spot.start as usize, path);
            let bytes = bytes.map_err(|error| self.bad(spot, format!("`{}`: {error}", path.column)))?;
            let Some(bytes) = bytes.filter(|bytes| !bytes.data().is_empty()) else { continue };
            return Ok(Some(match std::str::from_utf8(bytes.data()) {
                // Image files are no text, and base64 is.
                Ok(text) if self.is_plain(leaf) || image::guess_format(bytes.data()).is_err() => {
                    Cell::Text(text.to_owned())
                }
                _ => Cell::Bytes(bytes.data().to_vec()),
            }));
        }
        Ok(None)
    }
}

fn broken(file: &Path, error: &ParquetError) -> DataError {
    DataError::NotADataset { path: file.into(), problem: format!("cannot be read as parquet: {error}") }
}

/// Refuses compressions that are not built in, by name.
fn check_codecs(file: &Path, reader: &SerializedFileReader<File>) -> Result<(), DataError> {
    for column in reader.metadata().row_groups().iter().flat_map(|group| group.columns()) {
        let codec = match column.compression() {
            Compression::UNCOMPRESSED
            | Compression::SNAPPY
            | Compression::GZIP(_)
            | Compression::LZ4
            | Compression::LZ4_RAW => continue,
            Compression::ZSTD(_) if cfg!(feature = "zstd") => continue,
            Compression::ZSTD(_) => "zstd",
            Compression::BROTLI(_) => "brotli",
            Compression::LZO => "lzo",
        };
        let column = column.column_path().parts().join(".");
        let problem =
            format!("column `{column}` is compressed with {codec}, which is not read; write the file anew with snappy");
        return Err(DataError::NotADataset { path: file.into(), problem });
    }
    Ok(())
}

/// A top-level column as it is streamed: without image bytes where something else tells how many images there are.
fn without_bytes(
    column: &TypePtr,
    reader: &SerializedFileReader<File>,
) -> Result<(Option<TypePtr>, Option<Held>), ParquetError> {
    if column.is_primitive() {
        let large = column.get_physical_type() == Physical::BYTE_ARRAY && mean_size(column.name(), reader) >= LARGE;
        let image = ["image", BYTES].contains(&column.name());
        return Ok(if large && image { (None, Some(Held::Whole)) } else { (Some(Arc::clone(column)), None) });
    }
    let stripped = strip(column)?;
    let held = stripped.is_some().then_some(Held::Bytes);
    Ok((Some(stripped.unwrap_or_else(|| Arc::clone(column))), held))
}

/// Bytes of a cell of the column, uncompressed, on average.
fn mean_size(name: &str, reader: &SerializedFileReader<File>) -> i64 {
    let groups = reader.metadata().row_groups();
    let columns = groups.iter().flat_map(|group| group.columns());
    let own = columns.filter(|column| column.column_path().parts() == [name]);
    let bytes: i64 = own.map(|column| column.uncompressed_size()).sum();
    let rows: i64 = groups.iter().map(|group| group.num_rows()).sum();
    bytes / rows.max(1)
}

/// The type without the bytes of `{bytes, path}` structs; `None` where it has no such struct.
fn strip(column: &TypePtr) -> Result<Option<TypePtr>, ParquetError> {
    if column.is_primitive() {
        return Ok(None);
    }
    let fields = column.get_fields();
    let has = |name: &str| fields.iter().any(|field| field.name() == name && field.is_primitive());
    let mut changed = has(BYTES) && has("path");
    let mut kept = Vec::new();
    for field in fields.iter().filter(|field| !(changed && field.name() == BYTES)) {
        kept.push((field, strip(field)?));
    }
    changed |= kept.iter().any(|(_, inner)| inner.is_some());
    if !changed {
        return Ok(None);
    }
    let kept = kept.into_iter().map(|(field, inner)| inner.unwrap_or_else(|| Arc::clone(field))).collect();
    let info = column.get_basic_info();
    let mut builder = Type::group_type_builder(column.name()).with_fields(kept);
    if info.has_repetition() {
        builder = builder.with_repetition(info.repetition());
    }
    let builder =
        builder.with_converted_type(info.converted_type()).with_logical_type(info.logical_type_ref().cloned());
    Ok(Some(Arc::new(builder.build()?)))
}

/// A field as JSON. Binary cells become `true`; with `held`, so does the missing `bytes` beside a `path`.
fn value(field: &Field, held: bool) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => Value::from(*value),
        Field::Byte(value) => Value::from(*value),
        Field::Short(value) => Value::from(*value),
        Field::Int(value) => Value::from(*value),
        Field::Long(value) => Value::from(*value),
        Field::UByte(value) => Value::from(*value),
        Field::UShort(value) => Value::from(*value),
        Field::UInt(value) => Value::from(*value),
        Field::ULong(value) => Value::from(*value),
        Field::Float(value) => Value::from(*value),
        Field::Double(value) => Value::from(*value),
        Field::Str(value) => Value::from(value.as_str()),
        Field::Bytes(value) => Value::Bool(!value.is_empty()),
        Field::Group(record) => {
            let of = |(name, field): (&String, &Field)| (name.clone(), value(field, held));
            let mut object: Map<String, Value> = record.get_column_iter().map(of).collect();
            if held && object.contains_key("path") && !object.contains_key(BYTES) {
                object.insert(BYTES.into(), Value::Bool(true));
            }
            Value::Object(object)
        }
        Field::ListInternal(list) => list.elements().iter().map(|element| value(element, held)).collect(),
        Field::MapInternal(map) => {
            let pair = |(key, of): &(Field, Field)| {
                let key = value(key, held);
                (key.as_str().map_or_else(|| key.to_string(), str::to_owned), value(of, held))
            };
            map.entries().iter().map(pair).collect()
        }
        other => Value::from(other.to_string()),
    }
}
