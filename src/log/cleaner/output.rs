//! The files of a group that is being written: `.cleaned` until they are whole and on the disk (class `LogSegment` of
//! `Cleaner.cleanSegments`).

use super::Halt;
use crate::config::LogConfig;
use crate::log::disk;
use crate::log::error::LogError;
use crate::log::index_file::IndexFile;
use crate::log::names::{FileKind, Transit};
use crate::log::offset_index::OffsetIndex;
use crate::log::partition::Log;
use crate::log::recovery::IndexBuilder;
use crate::log::scan::BatchAt;
use crate::log::segment::Segment;
use crate::log::time_index::TimeIndex;
use crate::log::transaction_index::{AbortedTransaction, TransactionIndex};
use crate::record::ValidatedBatch;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

const BUFFER_BYTES_MIN: usize = 4 << 10;
const BUFFER_BYTES_MAX: usize = 4 << 20;
/// A position in an index is a signed number of 32 bits to Apache Kafka.
const FILE_BYTES_MAX: u64 = i32::MAX as u64;
pub const KINDS: [FileKind; 4] =
    [FileKind::Log, FileKind::OffsetIndex, FileKind::TimeIndex, FileKind::TransactionIndex];

pub(super) struct Output {
    log: Arc<Log>,
    base_offset: i64,
    file: File,
    buffer: Vec<u8>,
    buffer_bytes: usize,
    size: u64,
    indexes: IndexBuilder,
    transactions: TransactionIndex,
    has_aborted: bool,
}

/// A group that is complete and on the disk, still under `.cleaned` names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cleaned {
    pub base_offset: i64,
    pub size: u64,
    pub has_aborted: bool,
}

pub(super) fn cleaned_path(log: &Log, kind: FileKind, base_offset: i64) -> PathBuf {
    log.dir().join(format!("{}{}", kind.file_name(base_offset), Transit::Cleaned.suffix()))
}

impl Output {
    pub fn create(log: &Arc<Log>, base_offset: i64, config: &LogConfig, buffer_bytes: i32) -> Result<Output, LogError> {
        let transactions =
            TransactionIndex::new(base_offset, cleaned_path(log, FileKind::TransactionIndex, base_offset));
        let path = cleaned_path(log, FileKind::Log, base_offset);
        let file = transactions.reset().and_then(|()| disk::create(&path));
        Ok(Output {
            log: Arc::clone(log),
            base_offset,
            file: file.map_err(|error| log.read_failed(&path, error))?,
            buffer: Vec::new(),
            // Half of it is for reading, as in Apache Kafka.
            buffer_bytes: (buffer_bytes.max(0) as usize / 2).clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX),
            size: 0,
            indexes: IndexBuilder::new(config.index_interval_bytes),
            transactions,
            has_aborted: false,
        })
    }

    /// A batch as it was. Gives its size.
    pub fn copy(&mut self, at: &BatchAt, bytes: &[u8]) -> Result<u64, Halt> {
        self.add(&BatchAt { position: self.size, ..*at }, &[bytes])
    }

    pub fn write(&mut self, batch: &ValidatedBatch) -> Result<u64, Halt> {
        let at = BatchAt {
            position: self.size,
            size: batch.size_bytes() as u64,
            magic: 2,
            base_offset: batch.header.base_offset(),
            last_offset: batch.header.last_offset(),
            max_timestamp: batch.header.max_timestamp(),
            header: None,
        };
        self.add(&at, &[batch.header.as_bytes(), &batch.payload])
    }

    fn add(&mut self, at: &BatchAt, parts: &[&[u8]]) -> Result<u64, Halt> {
        let path = cleaned_path(&self.log, FileKind::Log, self.base_offset);
        if at.end() > FILE_BYTES_MAX {
            return Err(LogError::corrupt(&path, "what compaction leaves does not fit one segment").into());
        }
        parts.iter().for_each(|part| self.buffer.extend_from_slice(part));
        self.size = at.end();
        self.indexes.add(at);
        if self.buffer.len() >= self.buffer_bytes {
            self.write_buffer().map_err(|error| self.log.read_failed(&path, error))?;
        }
        Ok(at.size)
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        disk::may_write(&cleaned_path(&self.log, FileKind::Log, self.base_offset))?;
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    pub fn aborted(&mut self, transaction: &AbortedTransaction) -> Result<(), Halt> {
        self.has_aborted = true;
        let pushed = self.transactions.push(transaction);
        pushed.map_err(|error| self.log.read_failed(self.transactions.path(), error).into())
    }

    /// Has everything on the disk, with the age of `last`, the last source.
    pub fn finish(mut self, last: &Arc<Segment>) -> Result<Cleaned, Halt> {
        match self.try_finish(last) {
            Ok(()) => Ok(Cleaned { base_offset: self.base_offset, size: self.size, has_aborted: self.has_aborted }),
            Err(error) => {
                let halt = Halt::of(&self.log, last, error);
                self.discard();
                Err(halt)
            }
        }
    }

    fn try_finish(&mut self, last: &Segment) -> io::Result<()> {
        self.write_buffer()?;
        self.file.set_modified(fs::metadata(last.path())?.modified()?)?;
        disk::sync_all(&self.file, &cleaned_path(&self.log, FileKind::Log, self.base_offset))?;
        self.indexes.finish();
        let base = self.base_offset;
        let path = |kind| cleaned_path(&self.log, kind, base);
        let offsets = OffsetIndex::new(base, IndexFile::create(path(FileKind::OffsetIndex))?);
        offsets.replace(&self.indexes.offsets)?;
        offsets.file().flush(true)?;
        let times = TimeIndex::new(base, IndexFile::create(path(FileKind::TimeIndex))?);
        times.replace(&self.indexes.times)?;
        times.file().flush(true)?;
        self.transactions.sync()
    }

    /// Leaves nothing behind.
    pub fn discard(self) {
        discard(&self.log, self.base_offset);
    }
}

/// A file that stays is removed at the next start.
pub(super) fn discard(log: &Log, base_offset: i64) {
    for kind in KINDS {
        let _ = disk::remove_file(&cleaned_path(log, kind, base_offset));
    }
}
