//! The directory that is damaged, and what must hold of it afterwards.

use ottla::base::{LeaderEpoch, TopicId, TopicPartition};
use ottla::config::{BrokerConfig, CleanupPolicy, LogConfig};
use ottla::log::{AppendOrigin, Log, LogError, LogManager};
use ottla::record::{BatchBuilder, EndTxnMarker, RawBatch, ValidatedRecords, batches};
use parking_lot::Mutex;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Batches of two records, and two markers of one: the offsets that [`Subject`] writes.
pub const END: i64 = 40;
/// Base offsets of the segments, as `write` makes them.
pub const BASES: [i64; 3] = [0, 12, 26];
/// Log start and end of `trimmed`.
pub const TRIMMED: (i64, i64) = (5, 6);
/// Log ends of `neighbour` and `compacted`.
pub const NEIGHBOUR_END: i64 = 6;
pub const COMPACTED_END: i64 = 24;
pub const ABORTED: i64 = 9001;

pub fn config(topic: &str) -> LogConfig {
    let compact = topic == "compacted";
    LogConfig {
        segment_bytes: 700,
        index_interval_bytes: 100,
        cleanup_policy: CleanupPolicy { compact, delete: !compact },
        ..LogConfig::default()
    }
}

fn start_ms() -> i64 {
    // Now: the producers of old records are forgotten at a start.
    static START: OnceLock<i64> = OnceLock::new();
    *START.get_or_init(ottla::base::time::wall_ms)
}

pub fn try_open(dir: &Path) -> Result<Arc<LogManager>, LogError> {
    let broker = BrokerConfig { log_dirs: vec![dir.to_path_buf()], ..BrokerConfig::default() };
    LogManager::open(&broker, &config)
}

pub fn partition(topic: &str) -> TopicPartition {
    TopicPartition::new(topic, 0)
}

fn data(n: i32, key: Option<&[u8]>) -> ValidatedRecords {
    let mut builder = BatchBuilder::new().producer(77, 0, n * 2);
    for i in 0..2 {
        let value = format!("value {n} {i}");
        builder.append(start_ms() + i64::from(n) * 10, key, Some(value.as_bytes()), []);
    }
    ValidatedRecords::from_batch(builder.build().unwrap())
}

fn append(log: &Log, records: ValidatedRecords, epoch: i32, origin: AppendOrigin) {
    for header in records.batches.iter().map(|batch| &batch.header).filter(|header| header.is_transactional()) {
        let (producer, sequence) = (ottla::base::ProducerId(header.producer_id()), header.base_sequence());
        let epoch = ottla::base::ProducerEpoch(header.producer_epoch());
        if let Some(guard) = log.begin_verification(producer, epoch, Some(sequence), 0) {
            log.confirm_verification(producer, guard);
        }
    }
    log.append_as_leader(records, LeaderEpoch(epoch), origin).unwrap();
    log.update_high_watermark(i64::MAX);
}

/// Three segments: batches of a producer, an aborted transaction in the first segment, three leader epochs.
fn write_topic(log: &Log) {
    let mut n = 0;
    while log.log_end_offset() < END {
        let end = log.log_end_offset();
        let epoch = (end / 16) as i32;
        if end == 4 {
            let mut builder = BatchBuilder::new().producer(ABORTED, 0, 0).transactional(true);
            builder.append(start_ms() + 25, None, Some(b"aborted"), []);
            append(log, ValidatedRecords::from_batch(builder.build().unwrap()), epoch, AppendOrigin::Client);
            let marker = EndTxnMarker { commit: false, coordinator_epoch: 1 }.batch(ABORTED, 0, start_ms() + 26);
            append(log, ValidatedRecords::from_batch(marker.unwrap()), epoch, AppendOrigin::Coordinator);
            continue;
        }
        append(log, data(n, None), epoch, AppendOrigin::Client);
        n += 1;
    }
}

fn write(dir: &Path) -> Arc<LogManager> {
    let manager = try_open(dir).unwrap();
    let create = |topic: &str| manager.create(&partition(topic), Some(TopicId::random()), config(topic)).unwrap();
    write_topic(&create("topic"));
    let neighbour = create("neighbour");
    (0..3).for_each(|n| append(&neighbour, data(n, None), 0, AppendOrigin::Client));
    let compacted = create("compacted");
    (0..12).for_each(|n| append(&compacted, data(n, Some(&[n as u8 % 3])), 0, AppendOrigin::Client));
    let trimmed = create("trimmed");
    (0..3).for_each(|n| append(&trimmed, data(n, None), 0, AppendOrigin::Client));
    trimmed.increment_log_start_offset(TRIMMED.0).unwrap();
    assert!(manager.clean_dirtiest(start_ms()).is_some());
    manager
}

/// The same logs as kill -9 leaves them (with all checkpoints, of which the recovery points are 0), and as SIGTERM does.
pub struct Subject {
    folder: tempfile::TempDir,
    /// Of `topic` and `neighbour`.
    written: [Vec<Batch>; 2],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    Killed,
    Clean,
}

/// A batch as it was written.
pub type Batch = (i64, Vec<u8>);

impl Subject {
    pub fn new() -> Subject {
        // In memory if there is such a place: thousands of directories are made, and synced.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let [killed, clean] = [Stop::Killed, Stop::Clean].map(|stop| folder.path().join(format!("{stop:?}")));
        write(&clean).shutdown();
        for base in BASES {
            assert!(clean.join(format!("topic-0/{base:020}.log")).exists(), "segments begin elsewhere");
        }
        copy_dir(&clean, &killed);
        fs::remove_file(killed.join(".kafka_cleanshutdown")).unwrap();
        fs::remove_file(killed.join("recovery-point-offset-checkpoint")).unwrap();
        // A kill leaves no snapshot of the end, and only what was written of the last indexes: nothing.
        for suffix in ["index", "timeindex"] {
            fs::write(killed.join(format!("topic-0/{:020}.{suffix}", BASES[2])), []).unwrap();
        }
        fs::remove_file(killed.join(format!("topic-0/{END:020}.snapshot"))).unwrap();
        let written = ["topic", "neighbour"].map(|topic| read_logs(&clean.join(format!("{topic}-0"))));
        Subject { folder, written }
    }

    pub fn dir(&self, stop: Stop) -> PathBuf {
        self.folder.path().join(format!("{stop:?}"))
    }

    /// A copy of the directory, to be damaged.
    pub fn copy(&self, stop: Stop) -> PathBuf {
        let work = self.folder.path().join("work");
        let _ = fs::remove_dir_all(&work);
        copy_dir(&self.dir(stop), &work);
        forget(&work);
        work
    }

    /// What the log of a topic holds when nothing is damaged.
    pub fn batches(&self, topic: &str) -> Vec<Batch> {
        self.written[usize::from(topic == "neighbour")].clone()
    }
}

/// Without the leader's epoch, which lies outside the checksum.
fn as_written(batch: &RawBatch<'_>) -> Batch {
    (batch.base_offset(), [&batch.bytes()[..12], &batch.bytes()[16..]].concat())
}

fn read_logs(dir: &Path) -> Vec<Batch> {
    let mut logs: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    logs.retain(|path| path.extension().is_some_and(|end| end == "log"));
    logs.sort();
    let of = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap();
        batches(&bytes).map(|batch| as_written(&batch.unwrap())).collect::<Vec<_>>()
    };
    logs.iter().flat_map(of).collect()
}

pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else if entry.file_name() != ".lock" {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Everything that the log serves, each batch sound and at its offset; and the error that ends it, if one does.
pub fn served(log: &Log) -> (Vec<Batch>, Option<LogError>) {
    let (mut found, mut offset) = (Vec::new(), log.log_start_offset());
    while offset < log.log_end_offset() {
        let bytes = match log.read_bytes(offset, 300, i64::MAX, true) {
            Ok(bytes) => bytes,
            Err(error) => return (found, Some(error)),
        };
        let before = offset;
        for batch in batches(&bytes) {
            // A batch that the size limit cuts off comes whole with the next read.
            let Ok(batch) = batch else { break };
            batch.verify().unwrap();
            assert!(batch.next_offset() > offset, "offsets rise");
            offset = batch.next_offset();
            found.push(as_written(&batch));
        }
        if offset == before {
            return (found, None);
        }
    }
    (found, None)
}

/// Opens the damaged directory. The neighbour is untouched, and the topic serves only batches that were written, in order.
pub fn open_and_check(subject: &Subject, work: &Path, case: &str) -> (Arc<LogManager>, Arc<Log>, Vec<Batch>) {
    let manager = try_open(work).unwrap_or_else(|error| panic!("{case}: {error}"));
    let log = |topic: &str| manager.log(&partition(topic)).unwrap_or_else(|| panic!("{case}: {topic} is not there"));
    assert!(served(&log("neighbour")).0 == subject.batches("neighbour"), "{case}: the neighbour");
    let log = log("topic");
    let (found, error) = served(&log);
    let written = subject.batches("topic");
    let mut rest = written.iter();
    for (offset, bytes) in &found {
        let Some(origin) = rest.find(|other| other.1[12..] == bytes[12..]) else {
            panic!("{case}: the batch at {offset} was never written");
        };
        // Its offset lies outside the checksum as well: that something is missing before it is all that can be said.
        assert!(origin.0 == *offset || said(work).contains("offsets are missing"), "{case}: the batch at {offset}");
    }
    if let Some(error) = error {
        assert!(matches!(error, LogError::Corrupt { .. }), "{case}: {error}");
        assert!(error.to_string().contains("topic-0/0000"), "{case}: {error} names no file");
    }
    (manager, log, found)
}

/// The log takes records, and has them after another start.
pub fn goes_on(manager: &Arc<LogManager>, log: &Log, work: &Path, case: &str) {
    let end = log.log_end_offset();
    let epoch = LeaderEpoch(50);
    log.assign_epoch_start_offset(epoch).unwrap_or_else(|error| panic!("{case}: {error}"));
    let mut builder = BatchBuilder::new();
    builder.append(start_ms() + 1_000, None, Some(b"goes on"), []);
    let records = ValidatedRecords::from_batch(builder.build().unwrap());
    let info = log.append_as_leader(records, epoch, AppendOrigin::Client).unwrap_or_else(|e| panic!("{case}: {e}"));
    assert_eq!(info.first_offset, end, "{case}");
    manager.shutdown();
    forget(work);
    let manager = try_open(work).unwrap_or_else(|error| panic!("{case}, once more: {error}"));
    let log = manager.log(&partition("topic")).unwrap();
    assert_eq!(log.log_end_offset(), end + 1, "{case}");
    assert!(log.read_bytes(end, 300, i64::MAX, true).unwrap().ends_with(b"goes on\0"), "{case}");
    assert_eq!(log.end_offset_for_epoch(epoch), (epoch, end + 1), "{case}");
    let lines = said(work);
    assert!(!lines.contains("WARN") && !lines.contains("ERROR"), "{case}: damage is repaired once: {lines}");
}

// ---- what the broker says

static SAID: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Said;

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        SAID.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The lines of level WARN and above that name this directory, since [`forget`]. Tests run side by side, each with a directory of
/// its own.
pub fn said(dir: &Path) -> String {
    static LISTENING: OnceLock<()> = OnceLock::new();
    LISTENING.get_or_init(|| {
        let level = tracing::Level::WARN;
        tracing_subscriber::fmt().with_writer(|| Said).with_ansi(false).with_target(false).with_max_level(level).init();
    });
    let text = String::from_utf8_lossy(&SAID.lock()).into_owned();
    let name = dir.to_str().unwrap();
    text.lines().filter(|line| line.contains(name)).collect::<Vec<_>>().join("\n")
}

pub fn forget(dir: &Path) {
    said(dir);
    let mut said = SAID.lock();
    let name = dir.to_str().unwrap();
    let text = String::from_utf8_lossy(&said).into_owned();
    let others = text.lines().filter(|line| !line.contains(name));
    *said = others.flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect();
}
