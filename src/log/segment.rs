//! One segment: a `.log` file with its indexes (class `LogSegment`).
//!
//! Invariant: `size` bytes of the file are whole batches; bytes beyond it are not there for readers. Files are opened when
//! first needed, so that a thousand idle segments hold no descriptors.

use super::disk;
use super::index_file::IndexFile;
use super::names::FileKind;
use super::offset_index::{OffsetEntry, OffsetIndex};
use super::recovery::is_batch;
use super::scan::{BatchAt, Scanner, Step};
use super::time_index::{TimeEntry, TimeIndex};
use super::transaction_index::TransactionIndex;
use crate::base::Millis;
use crate::config::LogConfig;
use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Slices a single `pwritev` takes (`IOV_MAX`).
const SLICES_MAX: usize = 1024;

pub struct Segment {
    base_offset: i64,
    path: PathBuf,
    file: OnceLock<Arc<File>>,
    size: AtomicU64,
    pub offset_index: OffsetIndex,
    pub time_index: TimeIndex,
    pub transaction_index: TransactionIndex,
    is_written: AtomicBool,
    /// The file has blocks beyond its end.
    is_preallocated: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bytes_since_index_entry: u64,
    largest: Option<TimeEntry>,
    first_timestamp: Option<i64>,
    created_ms: Millis,
    jitter_ms: Millis,
}

/// What is known of a batch that is being appended.
#[derive(Clone, Copy, Debug)]
pub struct AppendedBatch {
    pub size: u64,
    pub last_offset: i64,
    pub max_timestamp: i64,
}

/// A lookup led to a place where no such batch is: the index does not belong to the file.
#[derive(Debug)]
pub struct StaleIndex;

/// Time of a segment without timestamps.
pub const NO_TIMESTAMP: i64 = -1;

impl Segment {
    /// A segment whose `.log` file has `size` bytes.
    pub fn open(dir: &Path, base_offset: i64, size: u64, now_ms: Millis) -> Segment {
        let path = |kind: FileKind| dir.join(kind.file_name(base_offset));
        Segment {
            base_offset,
            path: path(FileKind::Log),
            file: OnceLock::new(),
            size: AtomicU64::new(size),
            offset_index: OffsetIndex::open(base_offset, path(FileKind::OffsetIndex)),
            time_index: TimeIndex::open(base_offset, path(FileKind::TimeIndex)),
            transaction_index: TransactionIndex::new(base_offset, path(FileKind::TransactionIndex)),
            is_written: AtomicBool::new(false),
            is_preallocated: AtomicBool::new(false),
            state: Mutex::new(State { created_ms: now_ms, ..State::default() }),
        }
    }

    /// A new, empty segment. Left-overs of that name are emptied.
    pub fn create(dir: &Path, base_offset: i64, now_ms: Millis, jitter_ms: Millis) -> io::Result<Segment> {
        let path = |kind: FileKind| dir.join(kind.file_name(base_offset));
        let log = path(FileKind::Log);
        disk::may_change(&log)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&log)?;
        let segment = Segment {
            base_offset,
            path: path(FileKind::Log),
            file: OnceLock::from(Arc::new(file)),
            size: AtomicU64::new(0),
            offset_index: OffsetIndex::new(base_offset, IndexFile::create(path(FileKind::OffsetIndex))?),
            time_index: TimeIndex::new(base_offset, IndexFile::create(path(FileKind::TimeIndex))?),
            transaction_index: TransactionIndex::new(base_offset, path(FileKind::TransactionIndex)),
            is_written: AtomicBool::new(false),
            is_preallocated: AtomicBool::new(false),
            state: Mutex::new(State { created_ms: now_ms, jitter_ms, ..State::default() }),
        };
        segment.transaction_index.reset()?;
        Ok(segment)
    }

    pub fn base_offset(&self) -> i64 {
        self.base_offset
    }

    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self) -> io::Result<Arc<File>> {
        if let Some(file) = self.file.get() {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(OpenOptions::new().read(true).write(true).open(&self.path)?);
        Ok(Arc::clone(self.file.get_or_init(|| file)))
    }

    /// The file for a scan: the descriptor is not kept for one.
    pub fn scan_file(&self) -> io::Result<Arc<File>> {
        match self.file.get() {
            Some(file) => Ok(Arc::clone(file)),
            None => File::open(&self.path).map(Arc::new),
        }
    }

    /// Whether anything was appended or rebuilt since the segment was opened.
    pub fn is_written(&self) -> bool {
        self.is_written.load(Ordering::Relaxed)
    }

    /// Writes whole batches at the end with one system call (a short write is continued). On an error the file is cut back,
    /// and nothing of it becomes visible; the second error, if any, is of the cut.
    pub fn append(
        &self,
        slices: &mut [IoSlice<'_>],
        batches: &[AppendedBatch],
        index_interval_bytes: u64,
    ) -> Result<(), (io::Error, Option<io::Error>)> {
        let start = self.size();
        let file = self.file().map_err(|error| (error, None))?;
        let written = disk::may_write(&self.path).and_then(|()| write_all_at(&file, slices, start));
        if let Err(error) = written {
            return Err((error, disk::set_len(&file, &self.path, start).err()));
        }
        self.is_written.store(true, Ordering::Relaxed);
        let mut position = start;
        let mut state = self.state.lock();
        // Loaded before the size moves, so that the scan sees only older batches.
        let mut largest = self.largest_locked(&mut state).unwrap_or(None);
        for batch in batches {
            if batch.max_timestamp > largest.map_or(NO_TIMESTAMP, |entry| entry.timestamp) {
                largest = Some(TimeEntry { timestamp: batch.max_timestamp, offset: batch.last_offset });
            }
            if state.bytes_since_index_entry > index_interval_bytes {
                self.index(OffsetEntry { offset: batch.last_offset, position: position as u32 }, largest);
                state.bytes_since_index_entry = 0;
            }
            if state.first_timestamp.is_none() && start == 0 {
                state.first_timestamp = Some(batch.max_timestamp);
            }
            state.bytes_since_index_entry += batch.size;
            position += batch.size;
        }
        state.largest = Some(largest.unwrap_or(TimeEntry { timestamp: NO_TIMESTAMP, offset: self.base_offset }));
        self.size.store(position, Ordering::Release);
        Ok(())
    }

    /// An entry that cannot be written stays in memory, and the flush at roll or close reports it.
    fn index(&self, entry: OffsetEntry, largest: Option<TimeEntry>) {
        let _ = self.offset_index.push(entry);
        if let Some(largest) = largest {
            let _ = self.time_index.maybe_push(largest);
        }
    }

    /// First batch that ends at or beyond `offset`.
    pub fn find(&self, offset: i64) -> io::Result<Result<Option<BatchAt>, StaleIndex>> {
        let size = self.size();
        if size == 0 {
            return Ok(Ok(None));
        }
        let floor = match self.offset_index.floor(offset) {
            Ok(floor) => floor,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Err(StaleIndex)),
            // Somebody took it away, and not the segment with it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.path.exists() => return Ok(Err(StaleIndex)),
            Err(error) => return Err(error),
        };
        let start = floor.map_or(0, |entry| u64::from(entry.position));
        if start >= size && start > 0 {
            return Ok(Err(StaleIndex));
        }
        let file = self.file()?;
        let mut scanner = Scanner::new(&file, start, size);
        loop {
            match scanner.next_header()? {
                Step::Batch(batch) => {
                    // The entry speaks of a batch that begins at or below its own offset.
                    if batch.position == start && floor.is_some_and(|entry| batch.base_offset > entry.offset) {
                        return Ok(Err(StaleIndex));
                    }
                    if batch.last_offset >= offset {
                        return Ok(Ok(Some(batch)));
                    }
                }
                Step::End => return Ok(Ok(None)),
                Step::Bad { position, .. } if position == start && start > 0 && !is_batch(self, &file, floor)? => {
                    return Ok(Err(StaleIndex));
                }
                Step::Bad { position, reason } => {
                    let text = format!("{}: batch at {position} {reason}", self.path.display());
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
        }
    }

    /// Offset after the last batch, by a walk from the last index entry; the base offset if there is none.
    pub fn read_next_offset(&self) -> io::Result<Result<i64, StaleIndex>> {
        if self.size() == 0 {
            return Ok(Ok(self.base_offset));
        }
        let start = self.offset_index.last()?.map_or(0, |entry| u64::from(entry.position));
        let file = self.scan_file()?;
        let mut scanner = Scanner::new(&file, start, self.size());
        let mut next = None;
        loop {
            match scanner.next_header()? {
                Step::Batch(batch) => next = Some(batch.last_offset + 1),
                Step::End => return Ok(next.ok_or(StaleIndex)),
                Step::Bad { .. } => return Ok(Err(StaleIndex)),
            }
        }
    }

    /// Largest timestamp with the last offset of its batch; `None` for a segment without batches or timestamps.
    pub fn largest_timestamp(&self) -> io::Result<Option<TimeEntry>> {
        self.largest_locked(&mut self.state.lock())
    }

    fn largest_locked(&self, state: &mut State) -> io::Result<Option<TimeEntry>> {
        if state.largest.is_none() {
            let none = TimeEntry { timestamp: NO_TIMESTAMP, offset: self.base_offset };
            state.largest = Some(if self.size() == 0 { none } else { self.scan_largest()?.unwrap_or(none) });
        }
        Ok(state.largest.filter(|entry| entry.timestamp > NO_TIMESTAMP))
    }

    /// The last time entry, or something larger after it. An index that cannot be true is not asked.
    fn scan_largest(&self) -> io::Result<Option<TimeEntry>> {
        let indexed = self.time_index.last()?.filter(|last| self.is_plausible(last));
        let start = match indexed {
            Some(entry) => self.offset_index.floor(entry.offset)?.map_or(0, |entry| u64::from(entry.position)),
            None => 0,
        };
        let file = self.scan_file()?;
        let mut scanner = Scanner::new(&file, start.min(self.size()), self.size());
        let mut largest = indexed;
        while let Step::Batch(batch) = scanner.next_header()? {
            if batch.max_timestamp > largest.map_or(NO_TIMESTAMP, |entry| entry.timestamp) {
                largest = Some(TimeEntry { timestamp: batch.max_timestamp, offset: batch.last_offset });
            }
        }
        Ok(largest)
    }

    fn is_plausible(&self, last: &TimeEntry) -> bool {
        let rising = match self.time_index.first() {
            Ok(Some(first)) => first == *last || first.timestamp < last.timestamp,
            _ => false,
        };
        rising && last.timestamp > 0 && last.offset >= self.base_offset
    }

    /// Timestamp of the first batch, by which a segment ages. -1 if there is none.
    pub fn first_timestamp(&self) -> io::Result<i64> {
        let mut state = self.state.lock();
        if let Some(timestamp) = state.first_timestamp {
            return Ok(timestamp);
        }
        if self.size() == 0 {
            return Ok(NO_TIMESTAMP);
        }
        let file = self.scan_file()?;
        let timestamp = match Scanner::new(&file, 0, self.size()).next_header()? {
            Step::Batch(batch) => batch.max_timestamp,
            _ => NO_TIMESTAMP,
        };
        state.first_timestamp = Some(timestamp);
        Ok(timestamp)
    }

    pub fn set_jitter(&self, jitter_ms: Millis) {
        self.state.lock().jitter_ms = jitter_ms;
    }

    /// Takes the blocks of a full segment from the file system at once, if `preallocate` asks for it. The size of the file stays
    /// what was written, so that nobody meets zeros; a file system that cannot do this does without.
    pub fn preallocate(&self, config: &LogConfig) {
        let Ok(bytes) = u64::try_from(config.segment_bytes) else { return };
        if config.preallocate
            && let Ok(file) = self.file()
        {
            let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
            let taken = rustix::fs::fallocate(&*file, flags, 0, bytes).is_ok();
            self.is_preallocated.store(taken, Ordering::Relaxed);
        }
    }

    /// Gives back blocks that were taken and not needed.
    fn trim(&self) -> io::Result<()> {
        if self.is_preallocated.swap(false, Ordering::Relaxed) {
            disk::set_len(&*self.file()?, &self.path, self.size())
        } else {
            Ok(())
        }
    }

    pub fn created_ms(&self) -> Millis {
        self.state.lock().created_ms
    }

    pub fn jitter_ms(&self) -> Millis {
        self.state.lock().jitter_ms
    }

    /// Cuts the file to `size` bytes, which end with the batch before `next_offset`, and the indexes with it.
    pub fn truncate_to(&self, size: u64, next_offset: i64) -> io::Result<()> {
        let file = self.file()?;
        self.size.store(size, Ordering::Release);
        self.offset_index.truncate_to(next_offset)?;
        self.time_index.truncate_to(next_offset)?;
        self.forget();
        disk::set_len(&file, &self.path, size)
    }

    /// What recovery found replaces the indexes; `flush_indexes` or a later close writes them.
    pub fn replace_indexes(&self, offsets: &[OffsetEntry], times: &[TimeEntry]) -> io::Result<()> {
        self.offset_index.replace(offsets)?;
        self.time_index.replace(times)?;
        self.is_written.store(true, Ordering::Relaxed);
        self.forget();
        Ok(())
    }

    /// What was learned by reading has to be read again.
    fn forget(&self) {
        let mut state = self.state.lock();
        state.largest = None;
        state.first_timestamp = None;
        state.bytes_since_index_entry = 0;
    }

    /// Adds the final time entry and writes the indexes out, as at roll and close.
    pub fn close_indexes(&self) -> io::Result<()> {
        if let Some(largest) = self.largest_timestamp()? {
            self.time_index.maybe_push(largest)?;
        }
        self.trim()?;
        self.flush_indexes()
    }

    /// Writes the indexes out.
    pub fn flush_indexes(&self) -> io::Result<()> {
        self.offset_index.file().flush(false)?;
        self.time_index.file().flush(false)
    }

    pub fn sync_log(&self) -> io::Result<()> {
        disk::sync_data(&*self.scan_file()?, &self.path)
    }

    pub fn sync_indexes(&self) -> io::Result<()> {
        self.offset_index.file().flush(true)?;
        self.time_index.file().flush(true)?;
        self.transaction_index.sync()
    }

    /// Paths of all files that a segment may have.
    pub fn paths(&self) -> [&Path; 4] {
        [&self.path, self.offset_index.file().path(), self.time_index.file().path(), self.transaction_index.path()]
    }
}

/// `pwritev` until everything is written.
fn write_all_at(file: &File, mut slices: &mut [IoSlice<'_>], mut position: u64) -> io::Result<()> {
    while !slices.is_empty() {
        let now = &slices[..slices.len().min(SLICES_MAX)];
        match rustix::io::pwritev(file, now, position).map_err(io::Error::from) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                position += written as u64;
                IoSlice::advance_slices(&mut slices, written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
