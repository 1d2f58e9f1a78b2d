//! The log under several threads: readers beside a writer that rolls, retention that removes, and flushes that share.

use ottla::base::{LeaderEpoch, TopicPartition};
use ottla::config::{BrokerConfig, LogConfig};
use ottla::log::{AppendOrigin, Log, LogError, LogManager};
use ottla::record::{BatchBuilder, ValidatedRecords, batches};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const APPENDS: i64 = 1000;

fn open(dir: &Path, config: LogConfig) -> (Arc<LogManager>, Arc<Log>) {
    let broker = BrokerConfig { log_dirs: vec![dir.to_path_buf()], ..BrokerConfig::default() };
    let manager = LogManager::open(&broker, &|_| LogConfig::default()).unwrap();
    let log = manager.create(&TopicPartition::new("busy", 0), None, config).unwrap();
    (manager, log)
}

fn append(log: &Log, n: i64) -> i64 {
    let mut builder = BatchBuilder::new();
    builder.append(1000 + n, None, Some(n.to_string().as_bytes()), []);
    builder.append(1000 + n, None, Some(&[b'x'; 40]), []);
    let records = ValidatedRecords::from_batch(builder.build().unwrap());
    let info = log.append_as_leader(records, LeaderEpoch(0), AppendOrigin::Client).unwrap();
    log.update_high_watermark(info.last_offset + 1);
    info.first_offset
}

/// Says that the writer is done, even if it failed.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Reads from the log start to the end, again whenever retention took its place away. Gives the number of batches.
fn follow(log: &Log, is_done: &AtomicBool) -> u64 {
    let (mut offset, mut count) = (0, 0);
    loop {
        let was_done = is_done.load(Ordering::Acquire);
        let bytes = match log.read_bytes(offset, 1500, log.high_watermark(), true) {
            Ok(bytes) => bytes,
            Err(LogError::OffsetOutOfRange { start, .. }) => {
                offset = start;
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        if bytes.is_empty() {
            if was_done {
                return count;
            }
            std::thread::yield_now();
        }
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            batch.verify().unwrap();
            assert_eq!(batch.base_offset(), offset);
            offset = batch.next_offset();
            count += 1;
        }
        log.offset_for_timestamp(1000 + offset / 2).unwrap();
        assert!(log.bytes_between(offset.max(log.log_start_offset()), log.high_watermark()) < 10 << 20);
    }
}

/// KAFKA-9835: slices of a log that is appended to meanwhile.
#[test]
fn readers_see_whole_batches_in_order_while_segments_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig {
        segment_bytes: 3000,
        index_interval_bytes: 200,
        retention_bytes: 20_000,
        retention_ms: -1,
        file_delete_delay_ms: 0,
        ..LogConfig::default()
    };
    let (manager, log) = open(dir.path(), config);
    manager.start_background().unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3).map(|_| scope.spawn(|| follow(&log, &is_done))).collect();
        let done = Done(&is_done);
        for n in 0..APPENDS {
            append(&log, n);
            if n % 50 == 0 {
                log.apply_retention(0).unwrap();
            }
        }
        drop(done);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    assert!(log.log_start_offset() > 0);
    manager.shutdown();
}

#[test]
fn producers_that_wait_for_the_disk_find_all_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let (manager, log) = open(dir.path(), LogConfig { flush_messages: 1, ..LogConfig::default() });
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let log = &log;
            scope.spawn(move || {
                for n in 0..10 {
                    let first = append(log, thread * 10 + n);
                    assert!(log.recovery_point() > first + 1);
                }
            });
        }
    });
    assert_eq!((log.log_end_offset(), log.recovery_point()), (80, 80));
    manager.shutdown();
}

#[test]
fn flush_by_time_comes_from_the_background() {
    let dir = tempfile::tempdir().unwrap();
    let (manager, log) = open(dir.path(), LogConfig { flush_ms: 1, ..LogConfig::default() });
    append(&log, 0);
    manager.start_background().unwrap();
    while log.recovery_point() < 2 {
        std::thread::yield_now();
    }
    manager.shutdown();
}

#[test]
fn deleting_a_topic_under_its_readers_is_no_fault_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 500, index_interval_bytes: 100, ..LogConfig::default() };
    let (manager, log) = open(dir.path(), config.clone());
    for n in 0..60 {
        append(&log, n);
    }
    manager.shutdown();
    drop((manager, log));
    // Opened again, nothing has a descriptor yet.
    let (manager, log) = open(dir.path(), config);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for offset in (0..120).step_by(2) {
                match log.read_bytes(offset, 100, i64::MAX, true) {
                    Ok(bytes) => assert!(!bytes.is_empty()),
                    Err(error) => return assert!(matches!(error, LogError::Closed(_)), "{error}"),
                }
                let _ = log.offset_for_timestamp(1000 + offset);
                let _ = log.apply_retention(0);
            }
        });
        manager.delete(log.topic_partition()).unwrap();
        reader.join().unwrap();
    });
    assert!(matches!(log.assign_epoch_start_offset(LeaderEpoch(9)), Err(LogError::Closed(_))));
    assert!(!log.log_dir().is_offline());
    manager.shutdown();
    assert!(dir.path().join(".kafka_cleanshutdown").exists());
}
