//! What a log knows of producers after it was cut back, and after a start: as much as its records and snapshots say, and no less.

use ottla::base::time::{monotonic_ms, wall_ms};
use ottla::base::{LeaderEpoch, ProducerEpoch, ProducerId, TopicPartition};
use ottla::config::{BrokerConfig, LogConfig};
use ottla::log::{AppendOrigin, Log, LogManager};
use ottla::record::{BatchBuilder, EndTxnMarker, ValidatedBatch, ValidatedRecords};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

const PLAIN: i64 = 77;
const TRANSACTIONAL: i64 = 88;

fn open(dir: &Path) -> (Arc<LogManager>, Arc<Log>) {
    let config = LogConfig { segment_bytes: 250, file_delete_delay_ms: 0, ..LogConfig::default() };
    let of_topic = config.clone();
    let broker = BrokerConfig { log_dirs: vec![dir.to_path_buf()], ..BrokerConfig::default() };
    let manager = LogManager::open(&broker, &move |_| of_topic.clone()).unwrap();
    let log = manager.create(&TopicPartition::new("topic", 0), None, config).unwrap();
    (manager, log)
}

/// Two records.
fn batch(producer: i64, sequence: i32) -> ValidatedBatch {
    let mut builder = BatchBuilder::new().transactional(producer == TRANSACTIONAL).producer(producer, 0, sequence);
    (0..2).for_each(|_| builder.append(wall_ms(), None, Some(b"value"), []));
    builder.build().unwrap()
}

fn marker(commit: bool) -> ValidatedBatch {
    EndTxnMarker { commit, coordinator_epoch: 0 }.batch(TRANSACTIONAL, 0, wall_ms()).unwrap()
}

fn append(log: &Log, batch: &ValidatedBatch) -> i64 {
    let header = &batch.header;
    let origin = if header.is_control() { AppendOrigin::Coordinator } else { AppendOrigin::Client };
    if header.is_transactional() && !header.is_control() {
        let (id, epoch) = (ProducerId(header.producer_id()), ProducerEpoch(header.producer_epoch()));
        if let Some(guard) = log.begin_verification(id, epoch, Some(header.base_sequence()), monotonic_ms()) {
            log.confirm_verification(id, guard);
        }
    }
    let info = log.append_as_leader(ValidatedRecords::from_batch(batch.clone()), LeaderEpoch(0), origin).unwrap();
    info.first_offset
}

fn append_all(log: &Log, batches: &[ValidatedBatch]) {
    for batch in batches {
        append(log, batch);
    }
}

/// What is known of each. (A snapshot has no more than the last batch.)
fn producers(log: &Log) -> BTreeSet<String> {
    let known = log.active_producers().into_iter();
    let known = known.map(|entry| {
        let (id, last, first) = (entry.id.0, entry.last_batch(), entry.transaction_first_offset);
        format!("{id}: {last:?}, transaction from {first:?}, last marker by {}", entry.coordinator_epoch)
    });
    known.collect()
}

/// KAFKA-12153: after a cut the last stable offset lies within what is left, and the producers are those of what is left: a transaction that
/// began beyond the cut is forgotten, one whose marker was cut away is open again.
#[test]
fn kafka_12153_producers_and_stable_offset_fit_a_log_that_was_cut() {
    let batches = [
        batch(PLAIN, 0),
        batch(TRANSACTIONAL, 0),
        marker(true),
        batch(PLAIN, 2),
        batch(TRANSACTIONAL, 2),
        marker(false),
        batch(PLAIN, 4),
    ];
    let ends = [0, 2, 4, 5, 7, 9, 10, 12];
    let stable = [0, 2, 2, 5, 7, 7, 10, 12];
    for kept in 0..=batches.len() {
        for is_committed in [false, true] {
            let case = format!("{kept} batches are left, committed: {is_committed}");
            let (whole, prefix) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let ((manager, log), (_other, expected)) = (open(whole.path()), open(prefix.path()));
            append_all(&log, &batches);
            assert!(log.segment_count() > 2);
            log.update_high_watermark(if is_committed { 12 } else { ends[kept] });
            append_all(&expected, &batches[..kept]);
            expected.update_high_watermark(ends[kept]);

            manager.truncate_to(&[(log.topic_partition().clone(), ends[kept])]).unwrap();
            assert_eq!((log.log_end_offset(), log.high_watermark()), (ends[kept], ends[kept]), "{case}");
            assert_eq!(log.last_stable_offset(), stable[kept], "{case}");
            assert_eq!(producers(&log), producers(&expected), "{case}");
            let readable = log.read_bytes(0, 1 << 20, log.last_stable_offset(), true).unwrap();
            assert_eq!(readable.is_empty(), stable[kept] == 0, "{case}");

            for (at, batch) in batches.iter().enumerate().skip(kept) {
                assert_eq!(append(&log, batch), ends[at], "{case}: it goes on");
            }
            log.update_high_watermark(12);
            assert_eq!(log.last_stable_offset(), 12, "{case}");
        }
    }
}

fn snapshots(dir: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(dir.join("topic-0")).unwrap().map(|entry| entry.unwrap().file_name());
    files.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".snapshot")).collect()
}

/// KAFKA-12520: the snapshot that a clean stop leaves at the log's end belongs to no segment, and is no stray file. Without it a producer
/// whose records were deleted is unknown, and what it sends again is taken twice.
#[test]
fn kafka_12520_the_snapshot_of_a_clean_stop_is_used_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (manager, log) = open(dir.path());
    append(&log, &batch(PLAIN, 0));
    append_all(&log, &Vec::from_iter((0..6).map(|n| batch(99, n * 2))));
    log.update_high_watermark(14);
    log.increment_log_start_offset(12).unwrap();
    log.apply_retention(wall_ms()).unwrap();
    assert!(log.first_segment_base() > 2, "the records of the first producer are gone");
    let known = producers(&log);
    assert_eq!(known.len(), 2);
    manager.shutdown();
    drop((manager, log));
    let at_end = format!("{:020}.snapshot", 14);
    for other in snapshots(dir.path()).iter().filter(|name| **name != at_end) {
        fs::remove_file(dir.path().join("topic-0").join(other)).unwrap();
    }
    for start in 0..2 {
        let (manager, log) = open(dir.path());
        assert_eq!(snapshots(dir.path()), BTreeSet::from([at_end.clone()]), "start {start}");
        assert_eq!(producers(&log), known, "start {start}");
        manager.shutdown();
    }
    let (_manager, log) = open(dir.path());
    let again = ValidatedRecords::from_batch(batch(PLAIN, 0));
    let info = log.append_as_leader(again, LeaderEpoch(0), AppendOrigin::Client).unwrap();
    assert_eq!((info.first_offset, log.log_end_offset()), (0, 14), "it is there already");
    assert_eq!(append(&log, &batch(PLAIN, 2)), 14);
}
