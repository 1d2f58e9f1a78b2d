//! The cleaner with a log on the disk: crashes in the middle of the swap, and changes of the log under a pass.

use super::output::{Cleaned, KINDS};
use super::*;
use crate::base::{LeaderEpoch, ProducerEpoch, ProducerId};
use crate::config::{BrokerConfig, CleanupPolicy, LogConfig};
use crate::log::AppendOrigin;
use crate::log::names::FileKind;
use crate::record::{BatchBuilder, BatchHeader, ValidatedRecords, batches};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 600,
        index_interval_bytes: 100,
        cleanup_policy: CleanupPolicy { compact: true, delete: false },
        min_cleanable_dirty_ratio: 0.0,
        ..LogConfig::default()
    }
}

/// Batches of the idempotent producer.
const SENT: i32 = 30;

fn partition() -> TopicPartition {
    TopicPartition::new("compacted", 0)
}

fn open(dir: &Path) -> (Arc<LogManager>, Arc<Log>) {
    let broker = BrokerConfig { log_dirs: vec![dir.to_path_buf()], ..BrokerConfig::default() };
    let manager = LogManager::open(&broker, &|_| config()).unwrap();
    let log = manager.create(&partition(), None, config()).unwrap();
    (manager, log)
}

/// Eight keys over and over, by an idempotent producer; some aborted by a transactional one.
fn fill(log: &Log) -> BTreeMap<String, String> {
    let mut newest = BTreeMap::new();
    for n in 0..SENT {
        let (key, value) = (format!("key {}", n % 8), format!("value {n}"));
        let mut builder = BatchBuilder::new().producer(5, 0, n);
        builder.append(wall_ms(), Some(key.as_bytes()), Some(value.as_bytes()), []);
        append(log, builder.build().unwrap(), AppendOrigin::Client);
        newest.insert(key, value);
        if n % 9 == 4 {
            let mut builder = BatchBuilder::new().producer(6, 0, n / 9).transactional(true);
            builder.append(wall_ms(), Some(b"key 1"), Some(b"aborted"), []);
            append(log, builder.build().unwrap(), AppendOrigin::Client);
            let marker = crate::record::EndTxnMarker { commit: false, coordinator_epoch: 0 };
            append(log, marker.batch(6, 0, wall_ms()).unwrap(), AppendOrigin::Coordinator);
        }
    }
    newest
}

/// As the partition's leader does after the coordinator's answer: without it no transaction begins.
fn verify(log: &Log, header: &BatchHeader) {
    let (producer, epoch) = (ProducerId(header.producer_id()), ProducerEpoch(header.producer_epoch()));
    if let Some(guard) = log.begin_verification(producer, epoch, None, 0) {
        log.confirm_verification(producer, guard);
    }
}

fn append(log: &Log, batch: crate::record::ValidatedBatch, origin: AppendOrigin) {
    verify(log, &batch.header);
    log.append_as_leader(ValidatedRecords::from_batch(batch), LeaderEpoch(1), origin).unwrap();
    log.update_high_watermark(i64::MAX);
}

/// What a reader of committed records knows of each key in the end, and how many records it read.
fn read(log: &Log) -> (BTreeMap<String, String>, usize) {
    let (mut newest, mut count, mut offset) = (BTreeMap::new(), 0, log.log_start_offset());
    let end = log.log_end_offset();
    let aborted = log.aborted_transactions(offset, end).unwrap();
    while offset < end {
        let bytes = log.read_bytes(offset, 400, end, true).unwrap();
        let before = offset;
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            batch.verify().unwrap();
            offset = batch.next_offset();
            let header = batch.header().unwrap();
            let is_aborted = aborted.iter().any(|transaction| {
                transaction.producer_id.0 == header.producer_id()
                    && (transaction.first_offset..=transaction.last_offset).contains(&batch.base_offset())
            });
            if header.is_control() || is_aborted {
                continue;
            }
            for record in batch.records(1 << 20).unwrap().iter() {
                let record = record.unwrap();
                let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
                newest.insert(text(record.key), text(record.value));
                count += 1;
            }
        }
        if offset == before {
            break;
        }
    }
    (newest, count)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

#[test]
fn a_crash_after_any_step_of_the_swap_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (manager, log) = open(dir.path());
    let newest = fill(&log);
    // Everything but the active segment becomes one.
    log.set_config(LogConfig { segment_bytes: 1 << 20, ..config() });
    let bases: Vec<i64> = log.segments.load().iter().map(|segment| segment.base_offset()).collect();
    assert!(bases.len() > 4);
    let replaced = &bases[..bases.len() - 1];
    let before = read(&log);
    log.flush().unwrap();
    manager.write_checkpoints(&log.log_dir()).unwrap();
    assert_eq!(manager.clean_dirtiest(wall_ms()), Some(partition()));
    assert_eq!(log.segment_count(), 2);
    let after = read(&log);
    assert_eq!((&before.0, &after.0), (&newest, &newest));
    assert!(after.1 < before.1 * 2 / 3, "{} of {} records are left", after.1, before.1);
    drop((manager, log));

    let has_aborted = dir.path().join("compacted-0").join(FileKind::TransactionIndex.file_name(0)).exists();
    assert!(has_aborted, "their data was met in this pass");
    let steps = swap::renames(&Cleaned { base_offset: 0, size: 0, has_aborted }, replaced);
    for done in 0..=steps.len() {
        for has_recovery_point in [true, false] {
            let case = format!("after {done} steps of {}, recovery point: {has_recovery_point}", steps.len());
            let crashed = tempfile::tempdir().unwrap();
            copy(dir.path(), crashed.path());
            let log_dir = crashed.path().join("compacted-0");
            for swap::Rename { from, to } in steps[done..].iter().rev() {
                if log_dir.join(to).exists() {
                    fs::rename(log_dir.join(to), log_dir.join(from)).unwrap();
                }
            }
            fs::remove_file(crashed.path().join("cleaner-offset-checkpoint")).unwrap();
            if !has_recovery_point {
                fs::remove_file(crashed.path().join("recovery-point-offset-checkpoint")).unwrap();
            }
            let (manager, log) = open(crashed.path());
            log.update_high_watermark(i64::MAX);
            let found = read(&log);
            assert_eq!(found.0, newest, "{case}");
            let expected = if done < KINDS.len() { before.1 } else { after.1 };
            assert_eq!(found.1, expected, "{case}: the old segments or the new one");
            let in_transit = |name: &&String| [".swap", ".cleaned"].iter().any(|suffix| name.ends_with(suffix));
            assert_eq!(names(&log_dir).iter().find(in_transit), None, "{case}");
            let mut again = BatchBuilder::new().producer(5, 0, SENT);
            again.append(wall_ms(), Some(b"key 0"), Some(b"next"), []);
            append(&log, again.build().unwrap(), AppendOrigin::Client);
            while manager.clean_dirtiest(wall_ms()).is_some() {}
            assert_eq!(read(&log).0["key 0"], "next", "{case}");
            manager.shutdown();
        }
    }
}

#[test]
fn a_pass_over_a_log_that_changes_changes_nothing() {
    type Change = fn(&LogManager, &Log);
    let changes: [(&str, Change); 4] = [
        ("truncated", |_, log| log.truncate_to(20).unwrap()),
        ("started anew", |_, log| log.truncate_fully_and_start_at(500).unwrap()),
        ("trimmed", |_, log| {
            log.increment_log_start_offset(20).unwrap();
            log.apply_retention(wall_ms()).unwrap();
        }),
        ("deleted", |manager, log| manager.delete(log.topic_partition()).unwrap()),
    ];
    for (name, change) in changes {
        let dir = tempfile::tempdir().unwrap();
        let (manager, log) = open(dir.path());
        fill(&log);
        let (candidate, cleanable) = candidate(&log, wall_ms()).unwrap().unwrap();
        change(&manager, &log);
        let kept = log.segments.load_full();
        let halt = manager.clean(&candidate, &cleanable, wall_ms()).unwrap_err();
        let is_harmless = matches!(halt, Halt::Aborted | Halt::Failed(LogError::Closed(_) | LogError::Storage { .. }));
        assert!(is_harmless, "{name}: {halt:?}");
        assert!(Arc::ptr_eq(&kept, &log.segments.load_full()), "{name}");
        assert!(!log.log_dir().is_offline(), "{name}");
        if log.dir().exists() {
            assert!(!names(&log.dir()).iter().any(|file| file.ends_with(".cleaned")), "{name}");
        }
    }
}

#[test]
fn a_stop_ends_a_pass_that_is_throttled() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = BrokerConfig { log_dirs: vec![dir.path().to_path_buf()], ..BrokerConfig::default() };
    broker.log_cleaner.io_max_bytes_per_second = 1.0;
    let manager = LogManager::open(&broker, &|_| config()).unwrap();
    let log = manager.create(&partition(), None, config()).unwrap();
    let newest = fill(&log);
    manager.start_background().unwrap();
    manager.shutdown();
    assert!(!log.log_dir().path().join("cleaner-offset-checkpoint").exists());
    drop((manager, log));
    let (_manager, log) = open(dir.path());
    assert_eq!(read(&log).0, newest);
}

#[test]
fn a_log_that_cannot_be_read_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (manager, log) = open(dir.path());
    fill(&log);
    let path = log.segments.load()[1].path().to_path_buf();
    let mut bytes = fs::read(&path).unwrap();
    bytes[70] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(manager.clean_dirtiest(wall_ms()), None);
    assert!(log.cleaning.is_uncleanable.load(Ordering::Relaxed) && !log.log_dir().is_offline());
    assert_eq!(manager.clean_dirtiest(wall_ms()), None);
    assert_eq!(fs::read(&path).unwrap(), bytes);
}
