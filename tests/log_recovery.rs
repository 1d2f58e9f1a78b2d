//! What is left after a crash, a cut file or a damaged one: a prefix of what was written, and never a bad batch.

use ottla::base::{LeaderEpoch, TopicPartition};
use ottla::config::{BrokerConfig, LogConfig};
use ottla::log::{AppendOrigin, Log, LogError, LogManager};
use ottla::record::{BatchBuilder, ValidatedRecords, batches};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn config() -> LogConfig {
    LogConfig { segment_bytes: 700, index_interval_bytes: 100, ..LogConfig::default() }
}

fn partition() -> TopicPartition {
    TopicPartition::new("topic", 0)
}

fn try_open(dir: &Path) -> Result<Arc<LogManager>, LogError> {
    let broker = BrokerConfig { log_dirs: vec![dir.to_path_buf()], ..BrokerConfig::default() };
    LogManager::open(&broker, &|_| config())
}

fn open(dir: &Path) -> (Arc<LogManager>, Arc<Log>) {
    let manager = try_open(dir).unwrap();
    let log = manager.create(&partition(), None, config()).unwrap();
    (manager, log)
}

/// Now: the producers of old records are forgotten at a start.
fn start_ms() -> i64 {
    static START: std::sync::OnceLock<i64> = std::sync::OnceLock::new();
    *START.get_or_init(ottla::base::time::wall_ms)
}

fn records(n: i32) -> ValidatedRecords {
    let mut builder = BatchBuilder::new().producer(77, 0, n * 2);
    for i in 0..2 {
        let value = format!("value {n} {i}");
        builder.append(start_ms() + i64::from(n) * 10, None, Some(value.as_bytes()), []);
    }
    ValidatedRecords::from_batch(builder.build().unwrap())
}

fn append(log: &Log, n: i32) {
    log.append_as_leader(records(n), LeaderEpoch(n / 9), AppendOrigin::Client).unwrap();
}

/// Twenty batches of two records in three segments.
fn write(dir: &Path) -> (Arc<LogManager>, Arc<Log>) {
    let (manager, log) = open(dir);
    (0..20).for_each(|n| append(&log, n));
    assert_eq!(log.segment_count(), 3);
    (manager, log)
}

fn all_ends(count: i64) -> Vec<i64> {
    (0..count).map(|n| n * 2 + 1).collect()
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files_of(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(dir.join("topic-0")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = all.filter(|path| path.to_str().unwrap().ends_with(suffix)).collect();
    files.sort();
    files
}

/// A directory as kill -9 leaves it, and one as SIGTERM does.
fn stopped() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (killed, clean) = (dir.path().join("killed"), dir.path().join("clean"));
    drop(write(&killed));
    fs::remove_file(killed.join(".lock")).unwrap();
    let (manager, _log) = write(&clean);
    manager.shutdown();
    (dir, killed, clean)
}

fn batch_ends_with_gap(log: &Log) -> Vec<i64> {
    let mut ends = Vec::new();
    let mut offset = log.log_start_offset();
    loop {
        let bytes = log.read_bytes(offset, 300, i64::MAX, true).unwrap();
        let Some(batch) = batches(&bytes).next() else { return ends };
        offset = batch.unwrap().next_offset();
        ends.push(offset - 1);
    }
}

#[test]
fn a_flipped_byte_ends_the_log_before_its_batch_or_lies_outside_the_checksum() {
    let (dir, killed, _) = stopped();
    let logs = files_of(&killed, ".log");
    let work = dir.path().join("work");
    let bytes = fs::read(&logs[1]).unwrap();
    let first = batches(&fs::read(&logs[0]).unwrap()).count() as i64;
    for at in (0..bytes.len()).step_by(5) {
        let _ = fs::remove_dir_all(&work);
        copy_dir(&killed, &work);
        let mut bad = bytes.clone();
        bad[at] ^= 0x55;
        fs::write(work.join("topic-0").join(logs[1].file_name().unwrap()), bad).unwrap();
        let (_manager, log) = open(&work);
        let mut position = 0;
        let before = batches(&bytes).take_while(|batch| {
            position += batch.as_ref().unwrap().size_bytes();
            position <= at
        });
        let kept = first + before.count() as i64;
        let ends = batch_ends_with_gap(&log);
        assert!(ends.starts_with(&all_ends(kept)), "flip at {at}: {ends:?}");
        assert_eq!(ends.last().map(|end| end + 1), Some(log.log_end_offset()), "flip at {at}: {ends:?}");
    }
}

#[test]
fn the_same_partition_in_two_directories_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dirs = [dir.path().join("a"), dir.path().join("b")];
    dirs.iter().for_each(|dir| fs::create_dir_all(dir.join("topic-0")).unwrap());
    let broker = BrokerConfig { log_dirs: dirs.to_vec(), ..BrokerConfig::default() };
    let error = LogManager::open(&broker, &|_| config()).err().unwrap();
    assert!(matches!(error, LogError::DuplicateLog { .. }), "{error}");
}

#[test]
fn a_topic_that_is_made_again_after_a_restart_has_nothing_of_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let (manager, log) = write(dir.path());
    log.update_high_watermark(40);
    log.increment_log_start_offset(20).unwrap();
    manager.shutdown();
    drop((manager, log));

    let (manager, _) = open(dir.path());
    manager.delete(&partition()).unwrap();
    let log = manager.create(&partition(), None, config()).unwrap();
    (0..3).for_each(|n| append(&log, n));
    let killed = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), killed.path());

    let (_manager, log) = open(killed.path());
    assert_eq!((log.log_start_offset(), log.log_end_offset(), log.recovery_point()), (0, 6, 0));
}
