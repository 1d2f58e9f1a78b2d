//! Disks that answer with errors, and producers that wait for them.

use crate::base::{LeaderEpoch, TopicPartition};
use crate::config::{BrokerConfig, LogConfig};
use crate::log::disk::{Call, faults};
use crate::log::{AppendOrigin, Log, LogAppendInfo, LogError, LogManager};
use crate::record::{BatchBuilder, ValidatedRecords};
use parking_lot::{Condvar, Mutex};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `EIO`, and `ENOSPC`
const IO_ERROR: i32 = 5;
const NO_SPACE: i32 = 28;

fn open(dirs: &[PathBuf]) -> Arc<LogManager> {
    let broker = BrokerConfig { log_dirs: dirs.to_vec(), ..BrokerConfig::default() };
    LogManager::open(&broker, &|_| LogConfig::default()).unwrap()
}

fn append(log: &Log, value: &str) -> Result<LogAppendInfo, LogError> {
    let mut builder = BatchBuilder::new();
    builder.append(1000, None, Some(value.as_bytes()), []);
    let records = ValidatedRecords::from_batch(builder.build().unwrap());
    log.append_as_leader(records, LeaderEpoch(0), AppendOrigin::Client)
}

/// Only calls on `.log` files.
fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "log")
}

#[test]
fn producers_that_wait_share_a_sync() {
    const PRODUCERS: usize = 32;
    let dir = tempfile::tempdir().unwrap();
    let manager = open(&[dir.path().to_owned()]);
    let config = LogConfig { flush_messages: 1, ..LogConfig::default() };
    let log = manager.create(&TopicPartition::new("shared", 0), None, config).unwrap();
    append(&log, "the log's directory is synced with its first record").unwrap();
    let (syncs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new((Mutex::new(false), Condvar::new())));
    let (count, at_gate) = (Arc::clone(&syncs), Arc::clone(&gate));
    let _fault = faults::at(Call::Sync, dir.path(), move |path| {
        if is_log(path) {
            count.fetch_add(1, Ordering::SeqCst);
            let mut is_open = at_gate.0.lock();
            while !*is_open {
                at_gate.1.wait(&mut is_open);
            }
        }
        Ok(())
    });
    std::thread::scope(|scope| {
        for n in 0..PRODUCERS {
            let log = &log;
            scope.spawn(move || {
                let info = append(log, &n.to_string()).unwrap();
                assert!(log.recovery_point() > info.last_offset, "it is on the disk before the producer hears of it");
            });
        }
        // The first of them holds the disk until all have written.
        while log.log_end_offset() < 1 + PRODUCERS as i64 {
            std::thread::yield_now();
        }
        *gate.0.lock() = true;
        gate.1.notify_all();
    });
    assert_eq!(log.recovery_point(), log.log_end_offset());
    assert_eq!(syncs.load(Ordering::SeqCst), 2, "the one that began, and one for all who came meanwhile");
}

/// Producers of one runtime, more than it has threads.
#[test]
fn producers_of_one_thread_share_a_sync_too() {
    const PRODUCERS: usize = 16;
    let dir = tempfile::tempdir().unwrap();
    let manager = open(&[dir.path().to_owned()]);
    let config = LogConfig { flush_messages: 1, ..LogConfig::default() };
    let log = manager.create(&TopicPartition::new("shared", 0), None, config).unwrap();
    append(&log, "first").unwrap();
    let syncs = Arc::new(AtomicUsize::new(0));
    let (count, watched) = (Arc::clone(&syncs), Arc::downgrade(&log));
    let _fault = faults::at(Call::Sync, dir.path(), move |path| {
        if is_log(path) && count.fetch_add(1, Ordering::SeqCst) == 0 {
            // Nobody could write now if the one thread waited for the disk.
            while watched.upgrade().is_some_and(|log| log.log_end_offset() < 1 + PRODUCERS as i64) {
                std::thread::yield_now();
            }
        }
        Ok(())
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    runtime.block_on(async {
        let append = |n: usize| {
            let log = Arc::clone(&log);
            tokio::spawn(async move { append(&log, &n.to_string()).map(|_| ()) })
        };
        for task in (0..PRODUCERS).map(append).collect::<Vec<_>>() {
            task.await.unwrap().unwrap();
        }
    });
    assert_eq!(syncs.load(Ordering::SeqCst), 2);
}

/// After a failed sync the operating system has dropped the pages: asked again, it says that all is well.
#[test]
fn what_could_not_be_synced_is_never_called_synced() {
    for code in [IO_ERROR, NO_SPACE] {
        let root = tempfile::tempdir().unwrap();
        let dirs = ["one", "two"].map(|name| root.path().join(name));
        let manager = open(&dirs);
        let partitions = [0, 1].map(|n| TopicPartition::new("t", n));
        let logs = partitions.map(|name| manager.create(&name, None, LogConfig::default()).unwrap());
        logs.iter().for_each(|log| {
            append(log, "a").unwrap();
            log.flush().unwrap();
            append(log, "b").unwrap();
        });
        let bad = logs.iter().find(|log| log.log_dir().path() == dirs[0]).unwrap();
        let good = logs.iter().find(|log| log.log_dir().path() == dirs[1]).unwrap();
        let failures = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&failures);
        manager.on_dir_failure(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let once = AtomicUsize::new(0);
        let fault = faults::at(Call::Sync, &dirs[0], move |path| {
            let is_first = is_log(path) && once.fetch_add(1, Ordering::SeqCst) == 0;
            if is_first { Err(io::Error::from_raw_os_error(code)) } else { Ok(()) }
        });
        let error = bad.flush().unwrap_err();
        assert!(error.to_string().contains("cannot be synced"), "{error}");
        drop(fault);
        assert!(bad.flush().is_err(), "the second answer of the disk would be a lie");
        assert!(matches!(append(bad, "c"), Err(LogError::DirOffline { .. })));
        assert_eq!((bad.recovery_point(), bad.log_end_offset()), (1, 2));
        append(good, "c").unwrap();
        good.flush().unwrap();
        assert_eq!(failures.load(Ordering::SeqCst), 1, "told once");
        manager.shutdown();
        let marker = |dir: &Path| dir.join(".kafka_cleanshutdown").exists();
        assert!(!marker(&dirs[0]) && marker(&dirs[1]), "the bad one is to be recovered");
    }
}

#[test]
fn an_error_of_the_disk_takes_only_its_directory_away() {
    let root = tempfile::tempdir().unwrap();
    let dirs = ["one", "two"].map(|name| root.path().join(name));
    let manager = open(&dirs);
    let logs = [0, 1].map(|n| manager.create(&TopicPartition::new("t", n), None, LogConfig::default()).unwrap());
    logs.iter().for_each(|log| assert!(append(log, "a").is_ok()));
    let _fault = faults::at(Call::Write, &dirs[0], |_| Err(io::Error::from_raw_os_error(IO_ERROR)));
    for log in &logs {
        let is_bad = log.log_dir().path() == dirs[0];
        assert_eq!(append(log, "b").is_err(), is_bad);
        assert_eq!(log.log_dir().is_offline(), is_bad);
        assert_eq!(log.log_end_offset(), if is_bad { 1 } else { 2 });
    }
    let new = manager.create(&TopicPartition::new("t", 2), None, LogConfig::default()).unwrap();
    assert_eq!(new.log_dir().path(), dirs[1], "nothing new goes where nothing can be written");
}

/// A full disk refuses writes and nothing else; when there is room again, all goes on, without a hole.
#[test]
fn a_full_disk_heals() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(&[dir.path().to_owned()]);
    let config = LogConfig { segment_bytes: 1000, index_interval_bytes: 1, ..LogConfig::default() };
    let log = manager.create(&TopicPartition::new("full", 0), None, config).unwrap();
    let mut kept = Vec::new();
    for round in 0..30 {
        let fault = faults::at(Call::Write, dir.path(), |_| Err(io::Error::from_raw_os_error(NO_SPACE)));
        assert!(append(&log, "refused").is_err());
        assert!(!log.log_dir().is_offline());
        assert_eq!(log.read_bytes(0, 10_000, log.log_end_offset(), true).unwrap().is_empty(), kept.is_empty());
        drop(fault);
        kept.push(append(&log, &format!("round {round}")).unwrap().first_offset);
    }
    assert!(log.segment_count() > 1 && kept.iter().copied().eq(0..30));
    log.update_high_watermark(30);
    manager.shutdown();
    drop((log, manager));
    let manager = open(&[dir.path().to_owned()]);
    assert_eq!(manager.all()[0].log_end_offset(), 30);
}
