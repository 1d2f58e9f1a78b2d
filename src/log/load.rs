//! Opening a partition directory, whatever state it was left in (class `LogLoader`).
//!
//! Invariant: after a clean stop nothing is scanned but the end of the last segment; after any other stop every batch from
//! the recovery point on is checked before it can be served.

use super::background::{Background, Removal};
use super::checkpoint::{Durability, read_epochs, write_epochs};
use super::cleaner::Cleaning;
use super::disk;
use super::epoch_cache::LeaderEpochCache;
use super::error::{AtPath, LogError};
use super::log_dir::LogDir;
use super::names::{self, FileKind};
use super::partition::{HighWatermark, Log, LogPosition, Place, StoredTopicId, Writer};
use super::partition_dir::{self, Files};
use super::producer_state::{ProducerEntry, ProducerStates, is_expired};
use super::progress::Progress;
use super::recovery::{Gap, Recovered, Replay, first_to_recover, rebuild_indexes, recover_segment, replay_producers};
use super::roll::segment_jitter_ms;
use super::segment::Segment;
use super::{partition_metadata, producer_snapshot, split};
use crate::base::time::monotonic_ms;
use crate::base::{Millis, TopicId, TopicPartition};
use crate::config::LogConfig;
use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

/// What is known before the directory is opened.
#[derive(Clone)]
pub struct LoadOptions {
    pub config: LogConfig,
    /// The last stop left the marker.
    pub is_clean: bool,
    /// Of the checkpoints; 0 where there is none.
    pub recovery_point: i64,
    pub log_start: i64,
    pub high_watermark: i64,
    pub cleaned_offset: i64,
    pub producer_expiration_ms: Millis,
    pub now_ms: Millis,
    pub(super) progress: Arc<Progress>,
}

impl LoadOptions {
    /// Of a log that does not exist yet.
    pub fn new_log(config: LogConfig, producer_expiration_ms: Millis, now_ms: Millis) -> LoadOptions {
        LoadOptions {
            config,
            is_clean: true,
            recovery_point: 0,
            log_start: 0,
            high_watermark: 0,
            cleaned_offset: 0,
            producer_expiration_ms,
            now_ms,
            progress: Arc::default(),
        }
    }
}

struct Loader<'a> {
    dir: &'a Path,
    background: &'a Background,
    options: &'a LoadOptions,
    segments: Vec<Arc<Segment>>,
    epochs: LeaderEpochCache,
    /// What the file says.
    stored_epochs: Vec<(i32, i64)>,
    producers: ProducerStates,
    /// Offsets of the snapshot files, rising.
    snapshots: Vec<i64>,
    /// A clean stop is not believed any more.
    is_clean: bool,
    recovery_point: i64,
    next_offset: i64,
}

impl Log {
    /// Opens `dir`, or makes it a new log if it is empty.
    pub fn load(
        topic_partition: TopicPartition,
        dir: PathBuf,
        log_dir: Arc<LogDir>,
        background: Arc<Background>,
        options: LoadOptions,
    ) -> Result<Arc<Log>, LogError> {
        let topic_id = read_topic_id(&dir)?;
        let mut loader = Loader {
            dir: &dir,
            background: &background,
            options: &options,
            segments: Vec::new(),
            epochs: LeaderEpochCache::default(),
            stored_epochs: Vec::new(),
            producers: ProducerStates::default(),
            snapshots: Vec::new(),
            is_clean: options.is_clean,
            recovery_point: options.recovery_point,
            next_offset: 0,
        };
        loader.run()?;
        let Loader { segments, epochs, producers, snapshots, is_clean, recovery_point, next_offset, .. } = loader;
        let (Some(first), Some(active)) = (segments.first(), segments.last()) else {
            return Err(LogError::corrupt(&dir, "log has no segment"));
        };
        let log_start = options.log_start.max(first.base_offset());
        let end = LogPosition { offset: next_offset, segment_base: active.base_offset(), position: active.size() };
        let snapshot_offset = snapshots.last().copied().unwrap_or(0);
        let mut writer = Writer { producers, snapshot_offset, verifications: Default::default() };
        let high_watermark = options.high_watermark.clamp(log_start.min(next_offset), next_offset);
        writer.producers.on_high_watermark(high_watermark);
        if options.recovery_point.max(options.cleaned_offset).max(options.high_watermark) > next_offset {
            log_dir.set_stale_checkpoints();
        }
        let log = Arc::new_cyclic(|this| Log {
            this: this.clone(),
            topic_partition,
            place: ArcSwap::from_pointee(Place { dir: dir.clone(), log_dir }),
            background: Arc::clone(&background),
            config: ArcSwap::from_pointee(options.config.clone()),
            topic_id: Mutex::new(StoredTopicId { id: topic_id, is_synced: true }),
            end: RwLock::new(end),
            high_watermark: RwLock::new(HighWatermark { offset: high_watermark, position: None }),
            log_start: AtomicI64::new(log_start),
            recovery_point: AtomicI64::new(if is_clean { next_offset } else { recovery_point.min(next_offset) }),
            first_unstable: AtomicI64::new(i64::MAX),
            last_flush_ms: AtomicI64::new(monotonic_ms()),
            epochs: RwLock::new(epochs),
            are_epochs_unwritten: AtomicBool::new(false),
            segments: ArcSwap::from_pointee(segments.clone()),
            writer: Mutex::new(writer),
            flushing: Mutex::new(()),
            truncation: RwLock::new(()),
            is_closed: AtomicBool::new(false),
            cleaning: Cleaning::new(options.cleaned_offset.min(next_offset)),
            lowest_truncation: AtomicI64::new(i64::MAX),
            damage: Mutex::default(),
        });
        log.publish_first_unstable(&log.writer.lock());
        Ok(log)
    }
}

impl Loader<'_> {
    fn run(&mut self) -> Result<(), LogError> {
        loop {
            match self.try_run() {
                // Each split leaves one segment less of the kind.
                Err(LogError::OffsetOverflow { base_offset, .. }) => self.split(base_offset)?,
                outcome => return outcome,
            }
        }
    }

    /// Has a segment replaced by several, whose indexes and aborted transactions are then found by a scan.
    fn split(&mut self, base_offset: i64) -> Result<(), LogError> {
        split::split(self.dir, base_offset)?;
        self.segments.clear();
        self.epochs = LeaderEpochCache::default();
        self.producers = ProducerStates::default();
        self.is_clean = false;
        self.recovery_point = self.recovery_point.min(base_offset);
        Ok(())
    }

    fn try_run(&mut self) -> Result<(), LogError> {
        let files = partition_dir::tidy(self.dir)?;
        self.load_epochs(&files)?;
        self.snapshots = files.of(FileKind::ProducerSnapshot).collect();
        self.open_segments(&files)?;
        if self.segments.is_empty() {
            return self.start_at(self.options.log_start);
        }
        if self.is_clean && !self.trust_end()? {
            tracing::warn!(dir = %self.dir.display(), "end of the log is not sound after a clean stop: recovering it");
            self.is_clean = false;
        }
        if !self.is_clean {
            self.recover()?;
        }
        if self.next_offset < self.options.log_start {
            tracing::warn!(dir = %self.dir.display(), end = self.next_offset, start = self.options.log_start,
                "log ends below its start offset: starting it anew there");
            for segment in std::mem::take(&mut self.segments) {
                self.drop_segment(&segment)?;
            }
            self.epochs.clear();
            return self.start_at(self.options.log_start);
        }
        if self.is_clean {
            self.load_producers(self.next_offset)?;
        }
        self.finish_epochs()?;
        self.remove_stray_snapshots()
    }

    /// An empty log that begins at `offset`.
    fn start_at(&mut self, offset: i64) -> Result<(), LogError> {
        let jitter_ms = segment_jitter_ms(&self.options.config);
        let segment = Segment::create(self.dir, offset, self.options.now_ms, jitter_ms).at(self.dir)?;
        segment.preallocate(&self.options.config);
        self.segments = vec![Arc::new(segment)];
        self.next_offset = offset;
        self.producers = ProducerStates::new(offset);
        self.finish_epochs()?;
        self.remove_snapshots(|_| true)
    }

    fn load_epochs(&mut self, files: &Files) -> Result<(), LogError> {
        let path = self.dir.join(names::LEADER_EPOCHS);
        let has_records = files.of(FileKind::Log).any(|offset| files.size(offset, FileKind::Log) > 0);
        let read = match read_epochs(&path) {
            // With no epochs in it the file still has two lines.
            Ok(_) if has_records && fs::metadata(&path).map_or(0, |file| file.len()) == 0 => {
                Err(LogError::corrupt(&path, "is missing or empty beside a log that has records"))
            }
            read => read,
        };
        match read {
            Ok(entries) => {
                self.epochs = LeaderEpochCache::from_entries(entries.clone());
                self.stored_epochs = entries;
            }
            Err(error @ LogError::Corrupt { .. }) => {
                tracing::warn!(%error, "leader epochs are read from the log again");
                self.is_clean = false;
                self.recovery_point = 0;
                // Differs from whatever the log gives, so that the file is written again.
                self.stored_epochs = vec![(-1, -1)];
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn open_segments(&mut self, files: &Files) -> Result<(), LogError> {
        for offset in files.of(FileKind::Log) {
            let size = files.size(offset, FileKind::Log);
            let segment = Segment::open(self.dir, offset, size, self.options.now_ms);
            let is_indexed = files.has(offset, FileKind::OffsetIndex) && files.has(offset, FileKind::TimeIndex);
            if files.has(offset, FileKind::TransactionIndex) && is_damaged(&segment) {
                // Aborted transactions can only be known again by a scan from there.
                self.is_clean = false;
                self.recovery_point = self.recovery_point.min(offset);
            } else if !is_indexed {
                tracing::warn!(segment = %segment.path().display(), "index is missing: rebuilding it");
                rebuild_indexes(&segment, self.options.config.index_interval_bytes).at(segment.path())?;
            }
            self.segments.push(Arc::new(segment));
        }
        for pair in self.segments.windows(2) {
            if let [segment, next] = pair {
                self.check_reach(segment, next.base_offset())?;
            }
        }
        if let Some(active) = self.segments.last() {
            active.set_jitter(segment_jitter_ms(&self.options.config));
        }
        for kind in [FileKind::OffsetIndex, FileKind::TimeIndex, FileKind::TransactionIndex] {
            for offset in files.of(kind).filter(|&offset| !files.has(offset, FileKind::Log)) {
                let path = self.dir.join(kind.file_name(offset));
                disk::remove_file(&path).at(&path)?;
            }
        }
        Ok(())
    }

    /// Only where the next segment begins that far away can offsets be out of reach, and only then the segment is read for it.
    fn check_reach(&self, segment: &Segment, next_base: i64) -> Result<(), LogError> {
        let base_offset = segment.base_offset();
        if next_base - 1 - base_offset > split::REACH && split::overflows(segment.path(), base_offset)? {
            return Err(LogError::OffsetOverflow { log: self.dir.to_owned(), base_offset });
        }
        Ok(())
    }

    /// Finds the log's end after a clean stop; `false` if what is there cannot be the end.
    fn trust_end(&mut self) -> Result<bool, LogError> {
        let Some(active) = self.segments.last() else { return Ok(false) };
        for _ in 0..2 {
            match active.read_next_offset() {
                Ok(Ok(next)) => {
                    self.check_reach(active, next)?;
                    self.next_offset = next;
                    return Ok(true);
                }
                Ok(Err(_)) => {
                    let interval = self.options.config.index_interval_bytes;
                    rebuild_indexes(active, interval).at(active.path())?;
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(error).at(active.path()),
            }
        }
        Ok(false)
    }

    fn recover(&mut self) -> Result<(), LogError> {
        let bases: Vec<i64> = self.segments.iter().map(|segment| segment.base_offset()).collect();
        let first = first_to_recover(&bases, self.recovery_point);
        let to_check = &self.segments[first..];
        self.options.progress.expect(to_check.len(), to_check.iter().map(|segment| segment.size()).sum());
        self.load_producers(bases[first])?;
        for at in first..self.segments.len() {
            let segment = Arc::clone(&self.segments[at]);
            if at > first && self.begins_after_a_loss(at) {
                for dropped in self.segments.split_off(at) {
                    tracing::warn!(segment = %dropped.path().display(), next_offset = self.next_offset,
                        "segment is empty and records before it are missing: it is dropped");
                    self.drop_segment(&dropped)?;
                }
                break;
            }
            let next_base = self.segments.get(at + 1).map(|next| next.base_offset());
            let mut replay = Replay { producers: &mut self.producers, epochs: &mut self.epochs };
            let interval = self.options.config.index_interval_bytes;
            let Recovered { next_offset, damage, gap } =
                recover_segment(&segment, next_base, &mut replay, interval, &self.options.progress)?;
            self.next_offset = next_offset;
            if let Some(Gap { position, from, to }) = gap.filter(|_| !self.options.config.cleanup_policy.compact) {
                tracing::warn!(segment = %segment.path().display(), position, from, to, "offsets are missing");
            }
            if let Some(damage) = damage {
                let later = self.segments.split_off(at + 1);
                tracing::warn!(segment = %segment.path().display(), position = damage.position, next_offset,
                    bytes_cut = damage.bytes_lost, later_segments_dropped = later.len(),
                    "batch {}: the log is cut there", damage.reason);
                for dropped in later {
                    self.drop_segment(&dropped)?;
                }
                break;
            }
            if let Some(next) = self.segments.get(at + 1) {
                let base = next.base_offset();
                self.producers.set_end_offset(base);
                self.write_snapshot()?;
            }
        }
        self.producers.set_end_offset(self.next_offset);
        if self.next_offset > 0 { self.write_snapshot() } else { Ok(()) }
    }

    /// Only empty segments follow a gap that nobody flushed: a power cut took the records and left the names of the files.
    fn begins_after_a_loss(&self, at: usize) -> bool {
        let later = &self.segments[at..];
        let is_gap = later.first().is_some_and(|segment| segment.base_offset() > self.next_offset);
        let is_empty = later.iter().all(|segment| segment.size() == 0);
        is_gap && is_empty && self.next_offset >= self.recovery_point
    }

    fn write_snapshot(&mut self) -> Result<(), LogError> {
        let offset = self.producers.end_offset();
        producer_snapshot::write_if_changed(self.dir, &self.producers)?;
        if let Err(at) = self.snapshots.binary_search(&offset) {
            self.snapshots.insert(at, offset);
        }
        Ok(())
    }

    fn remove_snapshots(&mut self, is_stale: impl Fn(i64) -> bool) -> Result<(), LogError> {
        for &offset in self.snapshots.iter().filter(|&&offset| is_stale(offset)) {
            producer_snapshot::remove_one(self.dir, offset)?;
        }
        self.snapshots.retain(|&offset| !is_stale(offset));
        Ok(())
    }

    fn drop_segment(&self, segment: &Segment) -> Result<(), LogError> {
        let mut paths = Vec::new();
        for path in segment.paths() {
            let mut deleted = path.as_os_str().to_owned();
            deleted.push(".deleted");
            match disk::rename(path, Path::new(&deleted)) {
                Ok(()) => paths.push(deleted.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).at(path),
            }
        }
        let due_ms = monotonic_ms().saturating_add(self.options.config.file_delete_delay_ms);
        self.background.remove_later(Removal { due_ms, paths });
        Ok(())
    }

    /// The state before `offset`: from the newest sound snapshot, and the batches after it.
    fn load_producers(&mut self, offset: i64) -> Result<(), LogError> {
        let producers =
            load_producers(self.dir, &mut self.snapshots, &self.segments, self.options.log_start, offset, |entry| {
                !is_expired(entry, self.options.now_ms, self.options.producer_expiration_ms)
            })?;
        self.producers = producers;
        Ok(())
    }

    fn finish_epochs(&mut self) -> Result<(), LogError> {
        let first = self.segments.first().map_or(0, |segment| segment.base_offset());
        self.epochs.truncate_from_start(self.options.log_start.max(first));
        self.epochs.truncate_from_end(self.next_offset);
        if self.epochs.entries() != self.stored_epochs {
            let path = self.dir.join(names::LEADER_EPOCHS);
            write_epochs(&path, self.epochs.entries(), Durability::Written).at(&path)?;
        }
        Ok(())
    }

    /// Snapshots belong to the beginning of a segment or to the end of the log.
    fn remove_stray_snapshots(&mut self) -> Result<(), LogError> {
        let bases: Vec<i64> = self.segments.iter().map(|segment| segment.base_offset()).collect();
        let end = self.next_offset;
        self.remove_snapshots(|offset| offset != end && bases.binary_search(&offset).is_err())
    }
}

/// A damaged topic id is not guessed: the partition is refused. Beside a log without records nothing is lost with it.
fn read_topic_id(dir: &Path) -> Result<Option<TopicId>, LogError> {
    match partition_metadata::read(dir) {
        Err(error @ LogError::Corrupt { .. }) => {
            if partition_dir::has_records(dir)? {
                return Err(error);
            }
            tracing::warn!(%error, "topic id is forgotten: the log has no records");
            partition_metadata::remove(dir)?;
            Ok(None)
        }
        read => read,
    }
}

fn is_damaged(segment: &Segment) -> bool {
    segment.transaction_index.read().is_err_and(|error| error.kind() == io::ErrorKind::InvalidData)
}

/// The producer state before `offset`, as snapshots and batches tell it. Damaged snapshots are removed.
pub(super) fn load_producers(
    dir: &Path,
    snapshots: &mut Vec<i64>,
    segments: &[Arc<Segment>],
    log_start: i64,
    offset: i64,
    is_alive: impl Fn(&ProducerEntry) -> bool,
) -> Result<ProducerStates, LogError> {
    let mut producers = ProducerStates::new(segments.first().map_or(0, |segment| segment.base_offset()).max(log_start));
    let usable: Vec<i64> = snapshots.iter().copied().filter(|&at| at <= offset && at >= log_start).collect();
    for at in usable.into_iter().rev() {
        match producer_snapshot::read(dir, at) {
            Ok(entries) => {
                producers = ProducerStates::from_entries(entries.into_iter().filter(&is_alive).collect(), at);
                break;
            }
            Err(error @ LogError::Corrupt { .. }) => {
                tracing::warn!(%error, "producer snapshot is dropped");
                producer_snapshot::remove_one(dir, at)?;
                snapshots.retain(|&other| other != at);
            }
            Err(error) => return Err(error),
        }
    }
    if producers.end_offset() < offset {
        replay_producers(segments, &mut producers, offset)?;
    }
    producers.set_end_offset(offset);
    Ok(producers)
}
