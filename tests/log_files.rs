//! The log as other rooms use it: append, read, stop, start, over real files.

use bytes::Bytes;
use ottla::base::{LeaderEpoch, ProducerEpoch, ProducerId, TopicId, TopicPartition};
use ottla::config::{BrokerConfig, LogConfig};
use ottla::log::{AppendOrigin, Log, LogAppendInfo, LogError, LogManager};
use ottla::record::{BatchBuilder, EndTxnMarker, ValidatedRecords, batches};
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

fn produced(sequence: i32, transactional: bool) -> ValidatedRecords {
    let mut builder = BatchBuilder::new().producer(500, 0, sequence).transactional(transactional);
    builder.append(ottla::base::time::wall_ms(), None, Some(b"v"), []);
    ValidatedRecords::from_batch(builder.build().unwrap())
}

#[test]
fn duplicates_get_their_first_offsets_and_gaps_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for is_restarted in [false, true] {
        let manager = open(dir.path());
        let log = manager.create(&partition(), None, small()).unwrap();
        let send = |sequence| log.append_as_leader(produced(sequence, false), LeaderEpoch(0), AppendOrigin::Client);
        if !is_restarted {
            (0..6).for_each(|sequence| assert_eq!(send(sequence).unwrap().first_offset, i64::from(sequence)));
        }
        let again = send(5).unwrap();
        assert!(again.is_duplicate);
        assert_eq!((again.first_offset, log.log_end_offset()), (5, 6));
        assert!(matches!(send(0), Err(LogError::OutOfOrderSequence { .. })), "older than five batches");
        assert!(matches!(send(7), Err(LogError::OutOfOrderSequence { expected: 6, .. })));
        assert_eq!(log.active_producers().len(), 1);
        manager.shutdown();
    }
}

#[test]
fn readers_of_committed_data_stop_at_an_open_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let marker = |commit| {
        let marker = EndTxnMarker { commit, coordinator_epoch: 0 };
        ValidatedRecords::from_batch(marker.batch(500, 0, ottla::base::time::wall_ms()).unwrap())
    };
    let manager = open(dir.path());
    let log = manager.create(&partition(), None, small()).unwrap();
    append(&log, &["plain"], 1);
    let begin = || log.append_as_leader(produced(0, true), LeaderEpoch(0), AppendOrigin::Client);
    assert!(matches!(begin(), Err(LogError::InvalidTransactionState { .. })), "the coordinator was not asked");
    let guard = log.begin_verification(ProducerId(500), ProducerEpoch(0), Some(0), 0).expect("a question");
    assert!(matches!(begin(), Err(LogError::InvalidTransactionState { .. })), "it has not answered");
    log.confirm_verification(ProducerId(500), guard);
    begin().unwrap();
    assert_eq!(log.begin_verification(ProducerId(500), ProducerEpoch(0), Some(1), 0), None, "the transaction is open");
    append(&log, &["plain"], 1);
    log.update_high_watermark(3);
    assert_eq!((log.high_watermark(), log.last_stable_offset()), (3, 1));
    let inside = log.append_as_leader(produced(1, false), LeaderEpoch(0), AppendOrigin::Client);
    assert!(matches!(inside, Err(LogError::InvalidTransactionState { .. })));
    manager.shutdown();
    drop((log, manager));

    let manager = open(dir.path());
    let log = manager.log(&partition()).unwrap();
    assert_eq!((log.high_watermark(), log.last_stable_offset()), (3, 1), "after a restart");
    log.append_as_leader(marker(false), LeaderEpoch(0), AppendOrigin::Coordinator).unwrap();
    assert_eq!(log.last_stable_offset(), 1, "the marker is not committed yet");
    log.update_high_watermark(4);
    assert_eq!(log.last_stable_offset(), 4);
    let aborted = log.aborted_transactions(0, 4).unwrap();
    assert_eq!(aborted.iter().map(|t| (t.first_offset, t.last_offset)).collect::<Vec<_>>(), [(1, 3)]);
    assert!(log.aborted_transactions(0, 1).unwrap().is_empty());
}

/// Transactions of three producers, interleaved by a seed: each batch, and the aborted ones with their first and last offsets.
fn interleaved(seed: u64) -> (Vec<ottla::record::ValidatedBatch>, Vec<(i64, i64)>) {
    let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut roll = |sides: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        (dice >> 11) % sides
    };
    let (mut all, mut aborted, mut open) = (Vec::new(), Vec::new(), [None; 3]);
    for offset in 0.. {
        let is_over = offset >= 30;
        let producer = match open.iter().position(Option::is_some) {
            Some(first) if is_over => first,
            None if is_over => break,
            _ => roll(3) as usize,
        };
        let id = 500 + producer as i64;
        let mut batch = match open[producer] {
            Some(first) if is_over || roll(3) == 0 => {
                open[producer] = None;
                let commit = roll(3) == 0;
                if !commit {
                    aborted.push((first, offset));
                }
                EndTxnMarker { commit, coordinator_epoch: 0 }.batch(id, 0, 1).unwrap()
            }
            found => {
                open[producer] = found.or(Some(offset));
                let mut builder = BatchBuilder::new().producer(id, 0, 0).transactional(true);
                builder.append(1, None, Some(b"v"), []);
                builder.build().unwrap()
            }
        };
        batch.header.set_base_offset(offset);
        batch.header.set_partition_leader_epoch(0);
        all.push(batch);
    }
    (all, aborted)
}

/// However many batches a follower, or a recovery, takes at once: a reader that comes to it after a fail-over is told of every
/// aborted transaction of what it reads.
#[test]
fn a_follower_knows_the_aborted_transactions_of_what_it_took_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path());
    for (seed, at_once) in (0..40).flat_map(|seed| [1, 2, 5, 100].map(|at_once| (seed, at_once))) {
        let partition = TopicPartition::new("topic", seed as i32 * 1000 + at_once as i32);
        let log = manager.create(&partition, None, LogConfig::default()).unwrap();
        let (all, aborted) = interleaved(seed);
        for batches in all.chunks(at_once) {
            log.append_as_follower(batches).unwrap();
        }
        let end = log.log_end_offset();
        log.update_high_watermark(end);
        assert_eq!(log.last_stable_offset(), end);
        for (from, to) in (0..end).flat_map(|from| (from + 1..=end).map(move |to| (from, to))) {
            let told = log.aborted_transactions(from, to).unwrap();
            let told: Vec<_> = told.iter().map(|aborted| (aborted.first_offset, aborted.last_offset)).collect();
            let there: Vec<_> = aborted.iter().copied().filter(|(first, last)| *last >= from && *first < to).collect();
            assert_eq!(told, there, "{from}..{to} of seed {seed}, {at_once} batches at once");
        }
    }
}

#[test]
fn deleted_topics_make_room_for_new_ones_of_their_name() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path());
    let log = manager.create(&partition(), None, LogConfig { file_delete_delay_ms: 0, ..small() }).unwrap();
    append(&log, &["old"], 1);
    manager.delete(&partition()).unwrap();
    assert!(manager.log(&partition()).is_none());
    let late = log.append_as_leader(records(&["late"], 1), LeaderEpoch(0), AppendOrigin::Client);
    assert!(matches!(late, Err(LogError::Closed(_))));
    let log = manager.create(&partition(), None, small()).unwrap();
    assert_eq!(log.log_end_offset(), 0);
    manager.start_background().unwrap();
    while std::fs::read_dir(dir.path())
        .unwrap()
        .any(|entry| entry.unwrap().path().to_str().unwrap().ends_with("-delete"))
    {
        std::thread::yield_now();
    }
    manager.shutdown();
    assert!(manager.create(&TopicPartition::new("../../etc", 0), None, small()).is_err());
}

#[test]
fn retention_by_size_takes_the_oldest_segments_and_their_files() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path());
    let config = LogConfig { retention_bytes: 5000, retention_ms: -1, file_delete_delay_ms: 0, ..small() };
    let log = manager.create(&partition(), None, config).unwrap();
    for i in 0..300 {
        append(&log, &["some value", "another value"], i);
    }
    assert_eq!(log.apply_retention(0).unwrap(), 0, "nothing is committed yet");
    log.update_high_watermark(i64::MAX);
    let before = log.segment_count();
    let gone = log.apply_retention(0).unwrap();
    assert!(gone > 0 && log.size_bytes() >= 5000 && log.size_bytes() < 5000 + 4096, "{}", log.size_bytes());
    assert_eq!(log.segment_count(), before - gone);
    assert!(log.log_start_offset() > 0);
    assert_eq!(read_all(&log).first().map(|(offset, _)| *offset), Some(log.log_start_offset()));
    // Nothing comes back.
    let start = log.log_start_offset();
    drop((log, manager));
    assert_eq!(open(dir.path()).log(&partition()).unwrap().log_start_offset(), start);
}

#[test]
fn a_file_that_cannot_be_written_takes_its_directory_offline_but_others_serve() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let config =
        BrokerConfig { log_dirs: dirs.iter().map(|dir| dir.path().to_path_buf()).collect(), ..broker(dirs[0].path()) };
    let manager = LogManager::open(&config, &|_| small()).unwrap();
    let logs: Vec<_> = (0..2).map(|p| manager.create(&TopicPartition::new("t", p), None, small()).unwrap()).collect();
    assert_ne!(logs[0].dir().parent(), logs[1].dir().parent(), "new logs go where the fewest are");
    for log in &logs {
        append(log, &["a"], 1);
    }
    logs[0].log_dir().set_offline("by the test");
    let refused = logs[0].append_as_leader(records(&["b"], 1), LeaderEpoch(0), AppendOrigin::Client);
    assert!(matches!(refused, Err(LogError::DirOffline { .. })));
    append(&logs[1], &["b"], 1);
    let third = manager.create(&TopicPartition::new("t", 2), None, small()).unwrap();
    assert_eq!(third.dir().parent(), logs[1].dir().parent());
    let described: Vec<_> = manager.dirs().iter().map(|dir| (dir.is_offline, dir.logs.len())).collect();
    assert!(described.contains(&(true, 1)) && described.contains(&(false, 2)), "{described:?}");
    manager.shutdown();
    let marked = dirs.iter().filter(|dir| dir.path().join(".kafka_cleanshutdown").exists()).count();
    assert_eq!(marked, 1, "an offline directory is left to be recovered");
}
