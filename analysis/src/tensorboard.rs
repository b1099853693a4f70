//! TensorBoard event files: scalars only, written by hand, as the format is small and settled.
//!
//! A file is a sequence of TFRecords (`length: u64 le, masked crc32c of it, payload, masked crc32c of it`), each
//! payload a protocol-buffer `Event`. Field numbers: `Event { wall_time = 1 double, step = 2 int64, file_version = 3
//! string, summary = 5, session_log = 7 }`, `Summary { value = 1 }`, `Value { tag = 1, simple_value = 2 float }`,
//! `SessionLog { status = 1, START = 1 }`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::AnalysisError;

/// Writes scalars to one event file.
///
/// ```
/// use imagent_analysis::tensorboard::{EventWriter, read_scalars};
/// # let folder = tempfile::tempdir().unwrap();
/// let mut writer = EventWriter::create(folder.path())?;
/// writer.scalars(3, [("loss", 0.5)])?;
/// let read = read_scalars(writer.path())?;
/// assert_eq!((read[0].step, read[0].tag.as_str(), read[0].value), (3, "loss", 0.5));
/// # Ok::<(), imagent_analysis::AnalysisError>(())
/// ```
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// Starts a new event file in `folder` (`runs/NAME/tensorboard`).
    ///
    /// # Errors
    /// When the folder or the file cannot be made.
    pub fn create(folder: &Path) -> Result<Self, AnalysisError> {
        fs::create_dir_all(folder).map_err(AnalysisError::io(folder))?;
        let (path, file) = new_file(folder)?;
        let mut writer = Self { path, file };
        let mut event = event(0);
        put_bytes(&mut event, 3, b"brain.Event:2");
        writer.write(&event)?;
        Ok(writer)
    }

    /// Starts a new event file for a run that goes on after `step`: TensorBoard forgets what older files in the
    /// folder say of later steps.
    ///
    /// # Errors
    /// As [`EventWriter::create`].
    pub fn resume(folder: &Path, step: usize) -> Result<Self, AnalysisError> {
        let mut writer = Self::create(folder)?;
        let mut event = event(step + 1);
        put_bytes(&mut event, 7, &[0x08, 0x01]);
        writer.write(&event)?;
        Ok(writer)
    }

    /// Writes the values of one step, as 32-bit floats.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn scalars<'a>(
        &mut self,
        step: usize,
        values: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Result<(), AnalysisError> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut entry = Vec::new();
            put_bytes(&mut entry, 1, tag.as_bytes());
            put_key(&mut entry, 2, 5);
            entry.extend_from_slice(&(value as f32).to_le_bytes());
            put_bytes(&mut summary, 1, &entry);
        }
        let mut event = event(step);
        put_bytes(&mut event, 5, &summary);
        self.write(&event)
    }

    /// Writes a row of `metrics.jsonl`: metrics under their names, times under `seconds/NAME`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn row(&mut self, row: &crate::MetricsRow) -> Result<(), AnalysisError> {
        let seconds: BTreeMap<String, f64> =
            row.seconds.iter().map(|(name, value)| (format!("seconds/{name}"), *value)).collect();
        self.scalars(row.step, row.metrics.iter().chain(&seconds).map(|(name, value)| (name.as_str(), *value)))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, payload: &[u8]) -> Result<(), AnalysisError> {
        let length = (payload.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(payload.len() + 16);
        record.extend_from_slice(&length);
        record.extend_from_slice(&masked_crc(&length).to_le_bytes());
        record.extend_from_slice(payload);
        record.extend_from_slice(&masked_crc(payload).to_le_bytes());
        self.file.write_all(&record).map_err(AnalysisError::io(&self.path))
    }
}

/// Makes `events.out.tfevents.SECONDS.imagent.N`; TensorBoard reads a folder's files in the order of their names.
fn new_file(folder: &Path) -> Result<(PathBuf, File), AnalysisError> {
    let seconds = wall_time() as u64;
    let mut n = 0;
    loop {
        let path = folder.join(format!("events.out.tfevents.{seconds:010}.imagent.{n:03}"));
        match File::create_new(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => n += 1,
            Err(source) => return Err(AnalysisError::Io { path, source }),
        }
    }
}

fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

fn event(step: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_key(&mut bytes, 1, 1);
    bytes.extend_from_slice(&wall_time().to_le_bytes());
    put_key(&mut bytes, 2, 0);
    put_varint(&mut bytes, step as u64);
    bytes
}

fn put_key(out: &mut Vec<u8>, field: u64, wire: u64) {
    put_varint(out, field << 3 | wire);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_key(out, field, 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// TFRecord's checksum: crc32c, rotated and offset so that a checksum of a checksum is no trap.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli, reflected polynomial 0x82f63b78).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| CRC_TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

const CRC_TABLE: [u32; 256] = crc_table();

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let (mut crc, mut bit) = (i as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

/// One value of an event file.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// The step.
    pub step: u64,
    /// The name.
    pub tag: String,
    /// The value.
    pub value: f32,
}

/// The scalars of an event file that [`EventWriter`] wrote.
///
/// # Errors
/// When the file cannot be read, a checksum is wrong or a record is cut short.
pub fn read_scalars(path: &Path) -> Result<Vec<Scalar>, AnalysisError> {
    let bytes = fs::read(path).map_err(AnalysisError::io(path))?;
    let mut scalars = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let damaged = |what| AnalysisError::Events { path: path.to_owned(), at, what };
        let payload = record_at(&bytes[at..]).map_err(damaged)?;
        event_scalars(payload, &mut scalars).ok_or_else(|| damaged("not an event"))?;
        at += payload.len() + 16;
    }
    Ok(scalars)
}

/// The payload of the record at the start of `bytes`, its checksums compared.
fn record_at(bytes: &[u8]) -> Result<&[u8], &'static str> {
    const SHORT: &str = "cut short";
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or(SHORT)?;
    let (crc, rest) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
    if u32::from_le_bytes(*crc) != masked_crc(length) {
        return Err("wrong checksum of the length");
    }
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| SHORT)?;
    let (payload, rest) = rest.split_at_checked(length).ok_or(SHORT)?;
    let (crc, _) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
    if u32::from_le_bytes(*crc) == masked_crc(payload) { Ok(payload) } else { Err("wrong checksum of the data") }
}

/// One field of a protocol-buffer message.
enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
    Fixed64,
}

fn event_scalars(event: &[u8], out: &mut Vec<Scalar>) -> Option<()> {
    let (mut step, mut summary) = (0, &[][..]);
    for (number, field) in fields(event)? {
        match (number, field) {
            (2, Field::Varint(value)) => step = value,
            (5, Field::Bytes(bytes)) => summary = bytes,
            _ => {}
        }
    }
    for (number, field) in fields(summary)? {
        if let (1, Field::Bytes(value)) = (number, field) {
            let mut scalar = Scalar { step, tag: String::new(), value: 0.0 };
            for entry in fields(value)? {
                match entry {
                    (1, Field::Bytes(tag)) => scalar.tag = String::from_utf8(tag.to_vec()).ok()?,
                    (2, Field::Fixed32(value)) => scalar.value = f32::from_le_bytes(value),
                    _ => {}
                }
            }
            out.push(scalar);
        }
    }
    Some(())
}

fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut bytes)?),
            1 => take(&mut bytes, 8).map(|_| Field::Fixed64)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Field::Bytes(take(&mut bytes, length)?)
            }
            5 => Field::Fixed32(take(&mut bytes, 4)?.try_into().ok()?),
            _ => return None,
        };
        found.push((key >> 3, field));
    }
    Some(found)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, B.4, and the check value of the catalogue.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path()).unwrap();
        writer.scalars(1, [("loss", 0.5), ("end/answered", 1.0)]).unwrap();
        writer.scalars(300, [("loss", -2.25)]).unwrap();
        let read = read_scalars(writer.path()).unwrap();
        let plain: Vec<_> = read.iter().map(|s| (s.step, s.tag.as_str(), s.value)).collect();
        assert_eq!(plain, [(1, "loss", 0.5), (1, "end/answered", 1.0), (300, "loss", -2.25)]);
    }

    #[test]
    fn a_row_has_its_times_apart_and_a_resumed_run_its_own_file() {
        let folder = tempfile::tempdir().unwrap();
        let first = EventWriter::create(folder.path()).unwrap();
        let mut second = EventWriter::resume(folder.path(), 7).unwrap();
        assert!(second.path() > first.path());
        let seconds = [("rollout".to_owned(), 2.0)].into();
        second.row(&crate::MetricsRow { step: 8, metrics: [("kl".to_owned(), 0.25)].into(), seconds }).unwrap();
        let tags: Vec<_> = read_scalars(second.path()).unwrap().into_iter().map(|s| s.tag).collect();
        assert_eq!(tags, ["kl", "seconds/rollout"]);
    }

    #[test]
    fn damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path()).unwrap();
        writer.scalars(1, [("loss", 0.5)]).unwrap();
        let whole = fs::read(writer.path()).unwrap();
        let copy = folder.path().join("copy");
        for i in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[i] ^= 1;
            fs::write(&copy, &bytes).unwrap();
            assert!(read_scalars(&copy).is_err(), "byte {i}");
        }
        fs::write(&copy, &whole[..whole.len() - 1]).unwrap();
        assert!(read_scalars(&copy).unwrap_err().to_string().contains("cut short"));
    }
}
