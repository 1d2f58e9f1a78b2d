//! The log as other rooms use it: append, read, stop, start, over real files.

use bytes::Bytes;
use ottla::base::{LeaderEpoch, TopicId, TopicPartition};
use ottla::config::{BrokerConfig, LogConfig};
use ottla::log::{AppendOrigin, Log, LogAppendInfo, LogError, LogManager};
use ottla::record::{BatchBuilder, ValidatedRecords, batches};
use std::path::Path;
use std::sync::Arc;

fn broker(dir: &Path) -> BrokerConfig {
    BrokerConfig { log_dirs: vec![dir.to_path_buf()], ..BrokerConfig::default() }
}

fn small() -> LogConfig {
    LogConfig { segment_bytes: 4096, index_interval_bytes: 200, ..LogConfig::default() }
}

fn open(dir: &Path) -> Arc<LogManager> {
    LogManager::open(&broker(dir), &|_| small()).unwrap()
}

fn partition() -> TopicPartition {
    TopicPartition::new("topic", 0)
}

fn records(values: &[&str], timestamp: i64) -> ValidatedRecords {
    let mut builder = BatchBuilder::new();
    for (at, value) in values.iter().enumerate() {
        builder.append(timestamp + at as i64, None, Some(value.as_bytes()), []);
    }
    ValidatedRecords::from_batch(builder.build().unwrap())
}

fn append(log: &Log, values: &[&str], timestamp: i64) -> LogAppendInfo {
    log.append_as_leader(records(values, timestamp), LeaderEpoch(0), AppendOrigin::Client).unwrap()
}

fn values(bytes: &Bytes) -> Vec<(i64, String)> {
    let mut out = Vec::new();
    for batch in batches(bytes) {
        let batch = batch.unwrap();
        batch.verify().unwrap();
        for record in batch.records(1 << 20).unwrap().iter() {
            let record = record.unwrap();
            out.push((record.offset, String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
        }
    }
    out
}

fn read_all(log: &Log) -> Vec<(i64, String)> {
    let mut out = Vec::new();
    let mut offset = log.log_start_offset();
    loop {
        let bytes = log.read_bytes(offset, 1000, i64::MAX, true).unwrap();
        let found: Vec<_> = values(&bytes).into_iter().filter(|(at, _)| *at >= offset).collect();
        let Some((last, _)) = found.last() else { return out };
        offset = last + 1;
        out.extend(found);
    }
}

#[test]
fn what_was_appended_is_read_before_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for stop_cleanly in [true, false, true] {
        let manager = open(dir.path());
        let log = manager.create(&partition(), None, small()).unwrap();
        assert_eq!(read_all(&log), expected);
        assert_eq!(log.log_end_offset(), expected.len() as i64);
        for i in 0..300 {
            let value = format!("value {}", expected.len());
            let info = append(&log, &[&value, "second"], 1000 + i);
            assert_eq!(info.first_offset, expected.len() as i64);
            expected.push((info.first_offset, value));
            expected.push((info.last_offset, "second".to_string()));
        }
        assert!(log.segment_count() > 3);
        assert_eq!(read_all(&log), expected);
        if stop_cleanly {
            manager.shutdown();
            assert!(dir.path().join(".kafka_cleanshutdown").exists());
        }
    }
}

#[test]
fn limits_of_a_read() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path());
    let log = manager.create(&partition(), None, LogConfig::default()).unwrap();
    for i in 0..10 {
        append(&log, &["a", "b"], 1000 + i);
    }
    let size = (log.size_bytes() / 10) as usize;
    let read = |offset, max, limit, min_one| {
        let read = log.read(offset, max, limit, min_one).unwrap();
        (read.size_bytes() / size, read.size_bytes() % size, read.first_batch_incomplete)
    };
    assert_eq!(read(0, usize::MAX, i64::MAX, false), (10, 0, false));
    assert_eq!(read(4, 2 * size, i64::MAX, false), (2, 0, false));
    assert_eq!(read(5, 10 * size, 10, false), (3, 0, false), "from inside a batch, to the limit");
    assert_eq!(read(0, 1, i64::MAX, true), (1, 0, false), "one whole batch at least");
    assert_eq!(read(0, 1, i64::MAX, false), (0, 1, true));
    assert_eq!(read(8, 100 * size, 8, true), (0, 0, false), "at the limit");
    assert_eq!(read(20, 100, i64::MAX, true), (0, 0, false), "at the end");
    assert!(matches!(log.read(21, 100, i64::MAX, true), Err(LogError::OffsetOutOfRange { .. })));
    assert!(matches!(log.read(-1, 100, i64::MAX, true), Err(LogError::OffsetOutOfRange { .. })));
    assert_eq!(log.bytes_between(2, 6), 2 * size as u64);
    assert_eq!(log.bytes_between(0, 20), 10 * size as u64);
    assert_eq!(log.bytes_between(20, 20), 0);
    log.update_high_watermark(10);
    log.increment_log_start_offset(6).unwrap();
    assert!(matches!(log.read(5, 100, i64::MAX, true), Err(LogError::OffsetOutOfRange { .. })));
    assert!(log.increment_log_start_offset(11).is_err(), "not beyond the high watermark");
}

#[test]
fn a_topic_id_stays_and_another_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let id = TopicId::random();
    let manager = open(dir.path());
    let log = manager.create(&partition(), Some(id), small()).unwrap();
    append(&log, &["a"], 1);
    drop((log, manager));
    let manager = open(dir.path());
    let log = manager.log(&partition()).unwrap();
    assert_eq!(log.topic_id(), Some(id));
    assert!(matches!(log.set_topic_id(TopicId::random()), Err(LogError::InconsistentTopicId { .. })));
}

#[test]
fn only_one_broker_at_a_time_and_no_foreign_directories() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path());
    let second = LogManager::open(&broker(dir.path()), &|_| small()).err().unwrap();
    assert!(second.to_string().contains("another broker"), "{second}");
    manager.shutdown();
    std::fs::create_dir(dir.path().join("photos")).unwrap();
    let refused = LogManager::open(&broker(dir.path()), &|_| small()).err().unwrap();
    assert!(refused.to_string().contains("photos"), "{refused}");
    assert!(dir.path().join(".kafka_cleanshutdown").exists(), "a refused start changes nothing");
}
