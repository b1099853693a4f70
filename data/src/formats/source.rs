//! From a path to a dataset: which files are its tables, of which format, and all rows in a stream.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::entry::{Entry, Picture};
use super::view::{View, missing, resolve};
use super::{FORMATS, Format, Keys, Select, named};
use crate::error::DataError;
use crate::folder::SAMPLES;
use crate::root::Root;
use crate::tables::{self, Cell, ENDINGS, Place, Row, Spot, Table};

/// How deep tables may lie below the folder.
const DEPTH: usize = 4;
/// Endings of archives, which are not unpacked here.
const ARCHIVES: [&str; 8] = [".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar", ".zip.001", ".tar.bz2"];
/// Bad rows at the front of a table that are passed over in search of its columns.
const PATIENCE: usize = 100;

/// Names of splits, which begin the names of their files, or of the folders in which they lie.
const SPLITS: [&str; 5] = ["train", "validation", "val", "dev", "test"];

/// A dataset that was found, before its rows are read.
#[derive(Debug)]
pub struct Source {
    pub(super) path: PathBuf,
    pub(super) root: Root,
    pub(super) format: &'static Format,
    pub(super) tables: Vec<Part>,
    /// Why files that look like tables cannot be read.
    pub(super) unreadable: Vec<DataError>,
    /// Tables that are left out, as the columns of their first rows are not the format's.
    pub(super) others: Vec<(PathBuf, String)>,
    pub(super) archives: Vec<String>,
}

/// A table of a dataset.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) table: Box<dyn Table>,
    /// Its path from the root, without its ending.
    stem: String,
    /// Its folder from the root.
    below: PathBuf,
}

/// A row that was read for an image of it, and of which table: the next image is often of the same.
pub(super) type LastRow = Option<(usize, Row)>;

/// Where a row stands within a dataset.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) table: usize,
    pub(super) nth: usize,
    pub(super) spot: Spot,
}

/// What a folder holds, as far as names tell.
#[derive(Default)]
struct Listing {
    tables: Vec<PathBuf>,
    archives: Vec<String>,
}

/// The folder, if our own format is meant: by name, or by a `samples.jsonl` in the folder, or as the path, where no format is named.
pub(super) fn own_folder(path: &Path, select: Select<'_>) -> Result<Option<PathBuf>, DataError> {
    let is_file = path.file_name().is_some_and(|name| name == SAMPLES) && path.is_file();
    let folder = if is_file { path.with_file_name("") } else { path.to_owned() };
    let own = match select.format {
        Some(name) => named(name)?.is_none(),
        None => folder.join(SAMPLES).is_file(),
    };
    if own && select.split.is_some() {
        let problem = format!("is a folder with {SAMPLES}, which has no splits");
        return Err(DataError::NotADataset { path: path.into(), problem });
    }
    Ok(own.then_some(folder))
}

impl Source {
    /// Finds the tables of a published dataset: a folder, or one file.
    ///
    /// # Errors
    /// When there is no such path, format or split, or nothing there is of the format; names archives that have to be unpacked
    /// first. When there are several splits and none is selected.
    pub fn find(path: &Path, select: Select<'_>) -> Result<Self, DataError> {
        let wanted = select.format.map(named).transpose()?.flatten();
        let resolve = |path: &Path| path.canonicalize().map_err(DataError::io("resolve", path));
        let mut listing = Listing::default();
        let folder = if path.is_file() {
            let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
            let folder = resolve(folder)?;
            // A file that is named may be a link to anywhere: its ending and its neighbours are those of the link.
            listing.sort_in(&folder, folder.join(path.file_name().unwrap_or_default()));
            folder
        } else if path.is_dir() {
            let folder = resolve(path)?;
            listing.walk(&folder, &folder, 0)?;
            folder
        } else {
            return Err(DataError::NoFolder { path: path.into() });
        };
        let root = Root::open(&folder).map_err(DataError::io("resolve", path))?;
        let Listing { tables, archives } = listing.without_doubles().of_split(path, &root, select.split)?;
        let Chosen { format, tables, unreadable, others } = choose(path, &root, tables, wanted, &archives)?;
        if select.split.is_none() {
            one_split(path, &root, &tables)?;
        }
        Ok(Self { path: path.into(), root, format, tables, unreadable, others, archives })
    }

    /// The name of the format.
    pub fn format(&self) -> &'static str {
        self.format.name
    }

    /// The files with rows.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.tables.iter().map(|part| part.table.file())
    }

    /// Reads all rows in order; a bad one is an error that names file and line, and does not hide those after it.
    pub fn scan(&self, sink: &mut dyn FnMut(Result<Entry, DataError>) -> ControlFlow<()>) {
        self.scan_at(&mut |row| sink(row.map(|(_, entry)| entry)));
    }

    /// The same with places.
    pub(super) fn scan_at(&self, sink: &mut dyn FnMut(Result<(At, Entry), DataError>) -> ControlFlow<()>) {
        for table in 0..self.tables.len() {
            let (mut nth, mut flow) = (0, ControlFlow::Continue(()));
            self.tables[table].table.stream(&mut |row| {
                let read = row.and_then(|row| {
                    let at = At { table, nth, spot: row.spot };
                    Ok((at, self.entry(at, &row)?))
                });
                nth += 1;
                flow = sink(read);
                flow
            });
            if flow == ControlFlow::Break(()) {
                return;
            }
        }
    }

    /// A row as an entry.
    fn entry(&self, at: At, row: &Row) -> Result<Entry, DataError> {
        let part = &self.tables[at.table];
        let view = View {
            row,
            place: part.table.place(at.spot),
            table: at.table,
            stem: &part.stem,
            nth: at.nth,
            root: &self.root,
            below: &part.below,
            archives: &self.archives,
        };
        (self.format.read)(&view)
    }

    /// A row again; `None` where its table cannot read single rows.
    pub(super) fn again(&self, at: At) -> Option<Result<Entry, DataError>> {
        let row = self.tables[at.table].table.again(at.spot)?;
        Some(row.and_then(|row| self.entry(at, &row)))
    }

    pub(super) fn place(&self, at: At) -> Place {
        self.tables[at.table].table.place(at.spot)
    }

    /// The bytes of an image's file, or why they cannot be had. `read` goes from image to image of an entry.
    pub(super) fn bytes(&self, picture: &Picture, read: &mut LastRow) -> Result<Vec<u8>, String> {
        match picture {
            Picture::File { .. } => picture.file(),
            Picture::Cell { table, spot, cell, path } => {
                let part = &self.tables[*table];
                let mut own = read.take().filter(|(of, _)| of == table).map(|(_, row)| row);
                let found = part.table.cell(*spot, cell, &mut own);
                *read = own.map(|row| (*table, row));
                match found.map_err(|error| error.to_string())? {
                    Some(Cell::Bytes(bytes)) => Ok(bytes),
                    Some(Cell::Text(text)) => base64(&text),
                    None => {
                        let name = path.as_deref().ok_or("there is no image in the cell")?;
                        let file = resolve(&self.root, &part.below, name);
                        let file = file.map_err(|refused| missing(name, refused, &self.archives))?;
                        crate::folder::decode::bytes(&file)
                    }
                }
            }
        }
    }
}

/// Texts of fewer bytes are quoted where they are no image: they were meant as something else.
const SHORT: usize = 256;

/// Base64 with or without padding, white space and the head of a data address.
fn base64(text: &str) -> Result<Vec<u8>, String> {
    use base64::Engine;
    use base64::alphabet::STANDARD;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let text = match text.split_once("base64,") {
        Some((head, data)) if head.starts_with("data:") => data,
        _ => text,
    };
    let packed: std::borrow::Cow<'_, str> = match text.contains(|c: char| c.is_ascii_whitespace()) {
        true => text.split_ascii_whitespace().collect::<String>().into(),
        false => text.into(),
    };
    let decoded = GeneralPurpose::new(&STANDARD, config).decode(packed.as_bytes());
    if text.len() < SHORT && !decoded.as_ref().is_ok_and(|bytes| image::guess_format(bytes).is_ok()) {
        return Err(format!("{text:?} is neither a file of the dataset nor an image in base64"));
    }
    decoded.map_err(|error| format!("not base64: {error}"))
}

impl Listing {
    fn walk(&mut self, root: &Path, folder: &Path, depth: usize) -> Result<(), DataError> {
        let read = fs::read_dir(folder).map_err(DataError::io("read", folder))?;
        let entries: Result<Vec<_>, _> = read.map(|entry| entry.map(|entry| entry.path())).collect();
        let mut entries = entries.map_err(DataError::io("read", folder))?;
        entries.sort();
        for path in entries {
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            let is_link = path.is_symlink();
            if hidden {
                continue;
            }
            if path.is_dir() && !is_link && depth < DEPTH {
                self.walk(root, &path, depth + 1)?;
            } else if path.is_file() {
                if is_link && is_table(&path) && !path.canonicalize().is_ok_and(|target| target.starts_with(root)) {
                    let problem = "is a link that leads out of the dataset; name the file itself, or copy it here";
                    return Err(DataError::NotADataset { path, problem: problem.into() });
                }
                self.sort_in(root, path);
            }
        }
        Ok(())
    }

    fn sort_in(&mut self, root: &Path, path: PathBuf) {
        let name = path.to_string_lossy().to_lowercase();
        if is_table(&path) {
            self.tables.push(path);
        } else if ARCHIVES.iter().any(|ending| name.ends_with(ending)) {
            self.archives.push(path.strip_prefix(root).unwrap_or(&path).display().to_string());
        }
    }

    /// Without tables that are there in a better form.
    fn without_doubles(mut self) -> Self {
        let rank = |path: &Path| {
            let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
            ENDINGS.iter().position(|known| ending.as_deref() == Some(known.as_ref()))
        };
        let mut best = HashMap::new();
        for path in &self.tables {
            let least = best.entry(path.with_extension("")).or_insert_with(|| rank(path));
            *least = rank(path).min(*least);
        }
        self.tables.retain(|path| best.get(&path.with_extension("")).is_none_or(|least| *least == rank(path)));
        self
    }

    /// Only the tables of the split.
    fn of_split(mut self, path: &Path, root: &Root, split: Option<&str>) -> Result<Self, DataError> {
        let Some(split) = split else { return Ok(self) };
        let lower = split.to_lowercase();
        // Only splits that are known compete: those of a table's name and of its folders may differ.
        let known = SPLITS.iter().find(|known| **known == lower);
        self.tables.retain(|table| match known {
            Some(known) => split_of(root, table, &SPLITS) == Some(known),
            None => split_of(root, table, &[&lower]).is_some(),
        });
        if self.tables.is_empty() {
            let problem = format!("has no table whose name, or whose folder's, begins with {split:?}");
            return Err(DataError::NotADataset { path: path.into(), problem });
        }
        Ok(self)
    }
}

/// The split of a table, out of these: its own name says it, or that of the nearest folder below the root that says one.
fn split_of<'a>(root: &Root, table: &Path, splits: &[&'a str]) -> Option<&'a str> {
    let relative = table.strip_prefix(root.path()).unwrap_or(table).with_extension("");
    let named = |part: std::path::Component<'_>| {
        let name = part.as_os_str().to_string_lossy().to_lowercase();
        splits.iter().copied().find(|split| begins(&name, split))
    };
    relative.components().rev().find_map(named)
}

/// Whether a name, in small letters, is that of a split, alone or before something that is no letter: `train-00000-of-00002`.
fn begins(name: &str, split: &str) -> bool {
    name.strip_prefix(split).is_some_and(|rest| !rest.starts_with(char::is_alphabetic))
}

/// Refuses tables of several splits: to train on what is meant for a test is an error that nobody sees.
fn one_split(path: &Path, root: &Root, tables: &[Part]) -> Result<(), DataError> {
    let splits: BTreeSet<&str> = tables.iter().filter_map(|part| split_of(root, part.table.file(), &SPLITS)).collect();
    if splits.len() < 2 {
        return Ok(());
    }
    let splits = splits.into_iter().collect::<Vec<_>>().join(", ");
    let problem = format!("holds the splits {splits}; say which with `split`, or name a file");
    Err(DataError::NotADataset { path: path.into(), problem })
}

fn is_table(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
    ENDINGS.iter().any(|known| ending.as_deref() == Some(known.as_ref()))
}

/// What was found out about a table from its front.
enum Front {
    /// The columns of its first good row.
    Columns(Keys),
    /// No row is good; what is wrong with the first.
    Bad(DataError),
    Empty,
}

fn front(table: &dyn Table) -> Front {
    let (mut found, mut left) = (Front::Empty, PATIENCE);
    table.stream(&mut |row| {
        left -= 1;
        match row {
            Ok(row) => {
                found = Front::Columns(Keys(row.cells.keys().cloned().collect()));
                return ControlFlow::Break(());
            }
            Err(error) if matches!(found, Front::Empty) => found = Front::Bad(error),
            Err(_) => {}
        }
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    found
}

/// The tables of a dataset, and those that cannot be read.
struct Chosen {
    format: &'static Format,
    tables: Vec<Part>,
    unreadable: Vec<DataError>,
    /// Tables that are not of the format, with their columns.
    others: Vec<(PathBuf, String)>,
}

/// The tables of the wanted format, or of the first that any of them fits.
fn choose(
    path: &Path,
    root: &Root,
    files: Vec<PathBuf>,
    wanted: Option<&'static Format>,
    archives: &[String],
) -> Result<Chosen, DataError> {
    let (mut format, mut tables) = (wanted, Vec::new());
    let (mut unreadable, mut others, mut empty) = (Vec::new(), Vec::new(), Vec::new());
    for file in files {
        let Some(table) = tables::open(&file) else { continue };
        let relative = file.strip_prefix(root.path()).unwrap_or(&file).with_extension("");
        let stem = relative.to_string_lossy().replace('\\', "/");
        let (table, keys) = match table.map(|table| (front(table.as_ref()), table)) {
            Ok((Front::Columns(keys), table)) => (table, keys),
            Ok((Front::Bad(error), _)) | Err(error) => {
                unreadable.push(error);
                continue;
            }
            Ok((Front::Empty, _)) => {
                empty.push(file);
                continue;
            }
        };
        let fits = |format: &&'static Format| (format.fits)(&stem, &keys);
        format = format.or_else(|| FORMATS.into_iter().find(fits));
        if format.as_ref().is_some_and(fits) {
            let below = relative.parent().unwrap_or(Path::new("")).to_owned();
            tables.push(Part { table, stem, below });
        } else {
            let columns = if keys.0.is_empty() { "no columns".to_owned() } else { keys.0.join(", ") };
            others.push((file, columns));
        }
    }
    match format {
        Some(format) if !tables.is_empty() => Ok(Chosen { format, tables, unreadable, others }),
        _ => Err(match unreadable.into_iter().next() {
            Some(error) => error,
            None => {
                let seen = others.first().map(|(file, keys)| format!("{} has {keys}", file.display()));
                let seen = seen.or_else(|| empty.first().map(|file| format!("{} has no rows", file.display())));
                DataError::NotADataset { path: path.into(), problem: nothing(format, archives, seen.as_ref()) }
            }
        }),
    }
}

/// Why there is no dataset.
fn nothing(format: Option<&Format>, archives: &[String], seen: Option<&String>) -> String {
    let wanted = match format {
        Some(format) => format!("holds nothing of the format `{}` ({})", format.name, format.needs),
        None => "not a dataset of a known format".to_owned(),
    };
    match (archives.first(), seen) {
        (_, Some(seen)) => format!("{wanted}; {seen}"),
        (Some(archive), None) => format!("{wanted}; {archive} is an archive, which has to be unpacked there first"),
        (None, None) => format!("{wanted}: no samples.jsonl, and no table that ends in .{}", ENDINGS.join(", .")),
    }
}
