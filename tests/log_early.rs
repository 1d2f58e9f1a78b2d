//! A start that leaves large recoveries for later: what may be done meanwhile with a log that is not there yet, and what not.

mod common;

use common::cluster::wait_until;
use ottla::base::{LeaderEpoch, TopicId, TopicPartition};
use ottla::config::{BrokerConfig, LogConfig};
use ottla::log::{AppendOrigin, Log, LogError, LogManager, RecoveryLeft, Unready};
use ottla::record::{BatchBuilder, ValidatedRecords};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const MARKER: &str = ".kafka_cleanshutdown";

fn config() -> LogConfig {
    LogConfig { segment_bytes: 1 << 20, segment_index_bytes: 4096, file_delete_delay_ms: 0, ..LogConfig::default() }
}

fn broker(dirs: &[PathBuf], threads: i32) -> BrokerConfig {
    BrokerConfig {
        log_dirs: dirs.to_vec(),
        log: config(),
        num_recovery_threads_per_data_dir: threads,
        ..BrokerConfig::default()
    }
}

/// Recovery stands still, as far as it is in the background.
fn open_early(dirs: &[PathBuf]) -> Arc<LogManager> {
    open_paced(dirs, 1.0)
}

fn open_paced(dirs: &[PathBuf], bytes_per_second: f64) -> Arc<LogManager> {
    let config_of_broker = BrokerConfig { log_recovery_io_max_bytes_per_second: bytes_per_second, ..broker(dirs, 1) };
    LogManager::open_early(&config_of_broker, &|_| config()).expect("opens")
}

fn partition(topic: &str) -> TopicPartition {
    TopicPartition::new(topic, 0)
}

fn append(log: &Log, bytes: usize) {
    let mut builder = BatchBuilder::new();
    builder.append(1000, None, Some(&vec![b'x'; bytes]), []);
    let records = ValidatedRecords::from_batch(builder.build().unwrap());
    let info = log.append_as_leader(records, LeaderEpoch(0), AppendOrigin::Client).unwrap();
    log.update_high_watermark(info.last_offset + 1);
}

fn create(manager: &LogManager, topic: &str, dir: &Path, count: i64, bytes: usize) -> Arc<Log> {
    let _ = manager.move_to(&partition(topic), dir);
    let log = manager.create(&partition(topic), Some(TopicId::random()), config()).unwrap();
    (0..count).for_each(|_| append(&log, bytes));
    log
}

/// Directories as a kill leaves them: `large` in the first, with a recovery point of 0, and `small` beside it.
fn killed(dirs: &[PathBuf]) -> Option<TopicId> {
    let manager = LogManager::open(&broker(dirs, 1), &|_| config()).unwrap();
    let large = create(&manager, "large", &dirs[0], 50, 64 << 10);
    create(&manager, "small", &dirs[0], 3, 100);
    large.increment_log_start_offset(5).unwrap();
    let topic_id = large.topic_id();
    manager.shutdown();
    for dir in dirs {
        fs::remove_file(dir.join(MARKER)).unwrap();
        fs::remove_file(dir.join("recovery-point-offset-checkpoint")).unwrap();
    }
    topic_id
}

fn dirs(root: &Path) -> [PathBuf; 2] {
    [root.join("one"), root.join("two")]
}

fn checkpoint(dir: &Path, name: &str) -> BTreeMap<String, i64> {
    let text = fs::read_to_string(dir.join(name)).unwrap();
    let entries = text.lines().skip(2).map(|line| line.rsplit_once(' ').unwrap());
    entries.map(|(name, offset)| (name.to_owned(), offset.parse().unwrap())).collect()
}

#[test]
fn what_is_small_is_there_at_once_and_the_rest_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let dirs = dirs(root.path());
    let topic_id = killed(&dirs);
    for is_started in [false, true] {
        let manager = open_early(&dirs);
        let large = partition("large");
        assert_eq!(manager.log(&partition("small")).unwrap().log_end_offset(), 3);
        assert!(manager.log(&large).is_none());
        assert_eq!(manager.unready(&large), Some(Unready::Recovering { topic_id }));
        assert_eq!(manager.unready(&partition("small")), None);
        let left = manager.recovery_left();
        let RecoveryLeft { logs, segments, bytes } = left[0].1;
        assert!(logs == 1 && segments == 4 && bytes > 3 << 20, "{left:?}");
        assert_eq!(left[1].1, RecoveryLeft::default());
        if is_started {
            manager.start_background().unwrap();
            wait_until("some is read", || manager.recovery_left()[0].1.bytes < bytes);
        }
        // Nothing is made in its place, or moved.
        for error in [manager.create(&large, None, config()).err(), manager.move_to(&large, &dirs[1]).err()] {
            assert!(matches!(error, Some(LogError::Recovering(_))), "{error:?}");
        }
        let described = &manager.dirs()[0];
        assert_eq!((described.logs.len(), described.unready.len()), (1, 1));
        assert!(described.unready[0].size_bytes > 3 << 20);
        append(&manager.log(&partition("small")).unwrap(), 100);
        manager.truncate_to(&[(partition("small"), 3)]).unwrap();
        manager.shutdown();
        assert!(!dirs[0].join(MARKER).exists(), "there is something left to be recovered");
        assert!(dirs[1].join(MARKER).exists(), "there is not, here");
        assert_eq!(checkpoint(&dirs[0], "log-start-offset-checkpoint")["large 0"], 5);
        assert_eq!(checkpoint(&dirs[0], "replication-offset-checkpoint")["large 0"], 50);
        assert_eq!(checkpoint(&dirs[0], "recovery-point-offset-checkpoint")["large 0"], 0);
    }
    let manager = open_paced(&dirs, f64::MAX);
    let (sender, recovered) = std::sync::mpsc::channel();
    manager.on_recovered(move |partition| sender.send(partition.to_string()).unwrap());
    manager.start_background().unwrap();
    assert_eq!(recovered.recv_timeout(PATIENCE).unwrap(), "large-0");
    let log = manager.log(&partition("large")).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset(), log.high_watermark()), (5, 50, 50));
    assert_eq!(manager.recovery_left()[0].1, RecoveryLeft::default());
    manager.shutdown();
    assert!(dirs[0].join(MARKER).exists());
}

#[test]
fn a_pace_that_is_lifted_lets_recovery_go_on() {
    let root = tempfile::tempdir().unwrap();
    let dirs = dirs(root.path());
    killed(&dirs);
    let manager = open_early(&dirs);
    manager.start_background().unwrap();
    assert!(manager.log(&partition("large")).is_none());
    manager.limit_recovery(0.0);
    wait_until("it is there", || manager.log(&partition("large")).is_some());
    manager.shutdown();
}

#[test]
fn a_log_may_be_deleted_before_or_while_it_is_recovered() {
    for is_started in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let dirs = dirs(root.path());
        killed(&dirs);
        let manager = open_early(&dirs);
        if is_started {
            let bytes = manager.recovery_left()[0].1.bytes;
            manager.start_background().unwrap();
            wait_until("some is read", || manager.recovery_left()[0].1.bytes < bytes);
        }
        manager.delete(&partition("large")).unwrap();
        assert_eq!(manager.unready(&partition("large")), None);
        assert!(!dirs[0].join("large-0").exists());
        let log = manager.create(&partition("large"), Some(TopicId::random()), config()).unwrap();
        assert_eq!(log.log_end_offset(), 0);
        append(&log, 10);
        manager.shutdown();
        assert!(dirs[0].join(MARKER).exists(), "nothing is left to be recovered");
        let manager = open_early(&dirs);
        assert_eq!(manager.log(&partition("large")).unwrap().log_end_offset(), 1);
    }
}

#[test]
fn what_is_beyond_recovery_is_refused_and_remembered() {
    let root = tempfile::tempdir().unwrap();
    let dirs = dirs(root.path());
    killed(&dirs);
    let path = dirs[0].join("large-0/partition.metadata");
    let right = fs::read(&path).unwrap();
    fs::write(&path, "neither").unwrap();
    let manager = open_paced(&dirs, f64::MAX);
    let (sender, recovered) = std::sync::mpsc::channel();
    manager.on_recovered(move |partition| sender.send(partition.to_string()).unwrap());
    manager.start_background().unwrap();
    assert_eq!(recovered.recv_timeout(PATIENCE).unwrap(), "large-0");
    assert_eq!(manager.unready(&partition("large")), Some(Unready::Refused));
    let error = manager.create(&partition("large"), None, config()).err().unwrap();
    assert!(error.to_string().contains("partition.metadata"), "{error}");
    assert_eq!(manager.recovery_left()[0].1, RecoveryLeft::default());
    manager.shutdown();
    assert!(!dirs[0].join(MARKER).exists() && !dirs[1].join("large-0").exists());
    assert_eq!(checkpoint(&dirs[0], "log-start-offset-checkpoint")["large 0"], 5);
    fs::write(&path, right).unwrap();
    let manager = LogManager::open(&broker(&dirs, 1), &|_| config()).unwrap();
    let log = manager.log(&partition("large")).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (5, 50));
}

/// Each directory has threads of its own, however many logs another one has.
#[test]
fn a_directory_does_not_wait_for_another() {
    let root = tempfile::tempdir().unwrap();
    let dirs = dirs(root.path());
    let manager = LogManager::open(&broker(&dirs, 1), &|_| config()).unwrap();
    for n in 0..6 {
        create(&manager, &format!("large{n}"), &dirs[0], 20, 64 << 10);
    }
    create(&manager, "other", &dirs[1], 20, 64 << 10);
    manager.shutdown();
    for dir in &dirs {
        fs::remove_file(dir.join(MARKER)).unwrap();
        fs::remove_file(dir.join("recovery-point-offset-checkpoint")).unwrap();
    }
    let manager = open_early(&dirs);
    let before = manager.recovery_left();
    assert_eq!((before[0].1.logs, before[1].1.logs), (6, 1));
    manager.start_background().unwrap();
    wait_until("both are read", || {
        manager.recovery_left().iter().zip(&before).all(|(now, before)| now.1.bytes < before.1.bytes)
    });
    manager.limit_recovery(0.0);
    wait_until("all are there", || manager.all().len() == 7);
    manager.shutdown();
}

/// A move that a kill broke off waits until the log that it copies is there.
#[test]
fn a_move_goes_on_when_its_log_is_recovered() {
    let root = tempfile::tempdir().unwrap();
    let dirs = dirs(root.path());
    let manager = LogManager::open(&broker(&dirs, 1), &|_| config()).unwrap();
    let log = create(&manager, "large", &dirs[0], 50, 64 << 10);
    manager.limit_moves(100_000);
    manager.start_background().unwrap();
    manager.move_to(&partition("large"), &dirs[1]).unwrap();
    let future = manager.future(&partition("large")).unwrap();
    wait_until("some is copied", || future.log_end_offset() > 0);
    manager.shutdown();
    let copied = future.log_end_offset();
    drop((log, future, manager));
    for dir in &dirs {
        fs::remove_file(dir.join(MARKER)).unwrap();
        fs::remove_file(dir.join("recovery-point-offset-checkpoint")).unwrap();
    }
    let manager = open_early(&dirs);
    manager.start_background().unwrap();
    assert!(copied > 0 && manager.future(&partition("large")).is_none(), "it has nothing to be compared with");
    manager.limit_recovery(0.0);
    wait_until("the move ends", || manager.log(&partition("large")).is_some_and(|log| log.log_dir().path() == dirs[1]));
    let log = manager.log(&partition("large")).unwrap();
    assert_eq!((log.log_end_offset(), log.high_watermark()), (50, 50));
    manager.shutdown();
    assert!(dirs.iter().all(|dir| dir.join(MARKER).exists()));
}
