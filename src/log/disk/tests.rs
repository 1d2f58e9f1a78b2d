//! What a log makes of the errors of an operating system: those that pass, those that do not, and files that change under it.

use super::{Call, faults};
use crate::base::{LeaderEpoch, TopicPartition};
use crate::config::{BrokerConfig, LogConfig};
use crate::log::{AppendOrigin, Log, LogError, LogManager};
use crate::record::{BatchBuilder, ValidatedRecords, batches};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn config() -> LogConfig {
    LogConfig { segment_bytes: 400, index_interval_bytes: 0, ..LogConfig::default() }
}

fn open(dirs: &[PathBuf]) -> Arc<LogManager> {
    let broker = BrokerConfig { log_dirs: dirs.to_vec(), ..BrokerConfig::default() };
    LogManager::open(&broker, &|_| config()).unwrap()
}

fn append(log: &Log) -> Result<i64, LogError> {
    let mut builder = BatchBuilder::new();
    builder.append(1000, None, Some(&[b'x'; 60]), []);
    let records = ValidatedRecords::from_batch(builder.build().unwrap());
    log.append_as_leader(records, LeaderEpoch(0), AppendOrigin::Client).map(|info| info.first_offset)
}

/// Base offsets of all batches, each found by its offset.
fn read(log: &Log) -> Vec<i64> {
    let first = |offset| {
        let bytes = log.read_bytes(offset, 1, i64::MAX, true).unwrap();
        batches(&bytes).next().unwrap().unwrap().base_offset()
    };
    (log.log_start_offset()..log.log_end_offset()).map(first).collect()
}

const READ_ONLY: i32 = 30;
const PERMISSION: i32 = 13;
const NO_SPACE: i32 = 28;
const QUOTA: i32 = 122;
const FILES_OF_PROCESS: i32 = 24;
const FILES_OF_SYSTEM: i32 = 23;

/// No room, no inode, no quota, no descriptor: nothing is written for a while, everything is read, and nobody restarts anything.
#[test]
fn errors_that_pass_refuse_appends_and_heal() {
    for code in [NO_SPACE, QUOTA, FILES_OF_PROCESS, FILES_OF_SYSTEM] {
        let dir = tempfile::tempdir().unwrap();
        let manager = open(&[dir.path().to_owned()]);
        let log = manager.create(&TopicPartition::new("full", 0), None, config()).unwrap();
        let mut written = 0;
        for call in [Call::Change, Call::Write, Call::Change] {
            let fault = faults::at(call, dir.path(), move |_| Err(io::Error::from_raw_os_error(code)));
            // Until a segment is full, and the next one cannot begin.
            let error = loop {
                match append(&log) {
                    Ok(offset) => assert_eq!(offset, written),
                    Err(error) => break error,
                }
                written += 1;
            };
            assert!(matches!(&error, LogError::Storage { .. }), "{code}: {error}");
            assert!(error.to_string().contains(dir.path().to_str().unwrap()), "it is named: {error}");
            let created = manager.create(&TopicPartition::new("new", written as i32), None, config());
            assert!(created.is_err() || call == Call::Write, "{code}");
            assert!(!manager.has_offline_dirs(), "{code}: the directory is not at fault");
            assert_eq!(read(&log), (0..written).collect::<Vec<_>>(), "{code}");
            drop(fault);
            assert_eq!(append(&log).unwrap(), written, "{code}: no hole");
            written += 1;
        }
        assert!(log.segment_count() > 1);
        manager.create(&TopicPartition::new("new", 0), None, config()).unwrap();
        manager.shutdown();
        drop((manager, log));
        let manager = open(&[dir.path().to_owned()]);
        let log = manager.log(&TopicPartition::new("full", 0)).unwrap();
        assert_eq!(read(&log), (0..written).collect::<Vec<_>>(), "{code}");
    }
}

/// A file system that became read-only, or that nobody may write to: its directory is out of use, once, and the other serves on.
#[test]
fn errors_that_stay_take_the_directory_offline() {
    for code in [READ_ONLY, PERMISSION] {
        for call in [Call::Change, Call::Write] {
            let root = tempfile::tempdir().unwrap();
            let dirs = ["one", "two"].map(|name| root.path().join(name));
            let manager = open(&dirs);
            let logs = [0, 1].map(|n| manager.create(&TopicPartition::new("topic", n), None, config()).unwrap());
            let bad = logs.iter().find(|log| log.log_dir().path() == dirs[0]).unwrap();
            let good = logs.iter().find(|log| log.log_dir().path() == dirs[1]).unwrap();
            assert_eq!((append(bad).unwrap(), append(good).unwrap()), (0, 0));
            let _fault = faults::at(call, &dirs[0], move |_| Err(io::Error::from_raw_os_error(code)));
            let error = (0..20).find_map(|_| append(bad).err()).expect("a segment is full some time");
            assert!(error.to_string().contains("one"), "{error}");
            assert!(bad.log_dir().is_offline() && !good.log_dir().is_offline());
            assert!(matches!(append(bad), Err(LogError::DirOffline { .. })), "nobody tries again");
            (1..20).for_each(|n| assert_eq!(append(good).unwrap(), n));
            let created = manager.create(&TopicPartition::new("topic", 7), None, config()).unwrap();
            assert_eq!(created.log_dir().path(), dirs[1], "new partitions go where they can");
        }
    }
}

/// Indexes are files and not memory that is mapped: one that is cut, or goes, under a running log is an answer and not a signal.
#[test]
fn an_index_that_changes_under_a_running_log_is_made_anew() {
    let cut: fn(&Path) = |path| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(3).unwrap();
    let empty: fn(&Path) = |path| fs::write(path, "").unwrap();
    let garbage: fn(&Path) = |path| fs::write(path, [0xff; 80]).unwrap();
    let gone: fn(&Path) = |path| fs::remove_file(path).unwrap();
    for (case, harm) in [("cut", cut), ("empty", empty), ("garbage", garbage), ("gone", gone)] {
        let dir = tempfile::tempdir().unwrap();
        let manager = open(&[dir.path().to_owned()]);
        let log = manager.create(&TopicPartition::new("topic", 0), None, config()).unwrap();
        (0..20).for_each(|n| assert_eq!(append(&log).unwrap(), n));
        assert!(log.segment_count() > 3);
        let closed: Vec<PathBuf> = log.segments.load().iter().map(|segment| segment.path().to_owned()).collect();
        for segment in &closed[..2] {
            harm(&segment.with_extension("index"));
        }
        assert_eq!(read(&log), (0..20).collect::<Vec<_>>(), "{case}");
        assert!(!manager.has_offline_dirs(), "{case}");
        assert_eq!(append(&log).unwrap(), 20, "{case}");
    }
}
