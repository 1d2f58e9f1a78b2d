//! No kind of work in the background waits for another: a disk that does not answer holds up what has to be synced, and nothing else.

use crate::base::{LeaderEpoch, TopicId, TopicPartition};
use crate::config::{BrokerConfig, LogConfig};
use crate::log::disk::{Call, faults};
use crate::log::{AppendOrigin, Log, LogManager};
use crate::record::{BatchBuilder, ValidatedRecords};
use parking_lot::{Condvar, Mutex};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

fn small() -> LogConfig {
    LogConfig { segment_bytes: 1000, segment_index_bytes: 4096, file_delete_delay_ms: 0, ..LogConfig::default() }
}

fn open(dirs: &[PathBuf], threads_of_moves: usize) -> Arc<LogManager> {
    let broker = BrokerConfig {
        log_dirs: dirs.to_vec(),
        log_retention_check_interval_ms: 50,
        num_replica_alter_log_dirs_threads: threads_of_moves,
        ..BrokerConfig::default()
    };
    LogManager::open(&broker, &|_| small()).unwrap()
}

fn append(log: &Log) {
    let mut builder = BatchBuilder::new();
    builder.append(1000, None, Some(&[b'x'; 300]), []);
    let records = ValidatedRecords::from_batch(builder.build().unwrap());
    let info = log.append_as_leader(records, LeaderEpoch(0), AppendOrigin::Client).unwrap();
    log.update_high_watermark(info.last_offset + 1);
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Holds whoever comes until it is opened.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    has_visitor: AtomicBool,
}

impl Gate {
    fn pass(&self) {
        self.has_visitor.store(true, Ordering::SeqCst);
        let mut is_open = self.is_open.lock();
        while !*is_open {
            self.opened.wait(&mut is_open);
        }
    }

    fn open(&self) {
        *self.is_open.lock() = true;
        self.opened.notify_all();
    }
}

/// Syncs of logs in the directory of `name` wait at a gate.
fn hold_syncs(below: &Path, name: &'static str) -> (Arc<Gate>, faults::Fault) {
    let gate = Arc::new(Gate::default());
    let at_gate = Arc::clone(&gate);
    let fault = faults::at(Call::Sync, below, move |path| {
        if path.extension().is_some_and(|end| end == "log") && path.to_string_lossy().contains(name) {
            at_gate.pass();
        }
        Ok(())
    });
    (gate, fault)
}

fn deleted_files(log: &Log) -> usize {
    let files = std::fs::read_dir(log.dir()).unwrap().flatten();
    files.filter(|file| file.file_name().to_string_lossy().ends_with(".deleted")).count()
}

#[test]
fn a_sync_that_takes_long_holds_up_no_deletion() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(&[dir.path().to_owned()], 1);
    let slow = manager.create(&TopicPartition::new("slow", 0), None, small()).unwrap();
    let old = manager.create(&TopicPartition::new("old", 0), None, small()).unwrap();
    append(&slow);
    let (gate, _fault) = hold_syncs(dir.path(), "/slow-0/");
    manager.start_background().unwrap();
    // It rolls, and the segment before is to be synced.
    (0..10).for_each(|_| append(&slow));
    wait_until("a sync that does not end", || gate.has_visitor.load(Ordering::SeqCst));
    (0..20).for_each(|_| append(&old));
    old.set_config(LogConfig { retention_ms: 1, ..small() });
    wait_until("retention", || old.log_start_offset() == 20);
    wait_until("the files are gone", || deleted_files(&old) == 0 && old.segment_count() == 1);
    manager.delete(&TopicPartition::new("old", 0)).unwrap();
    let names = || std::fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.file_name());
    wait_until("a topic is gone", || !names().any(|name| name.to_string_lossy().starts_with("old-0")));
    assert_eq!(slow.recovery_point(), 0, "and all that while the sync has not ended");
    gate.open();
    manager.shutdown();
}

#[test]
fn retention_that_does_not_get_on_holds_up_no_flush() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(&[dir.path().to_owned()], 1);
    let stuck = manager.create(&TopicPartition::new("stuck", 0), None, small()).unwrap();
    let fresh = manager.create(&TopicPartition::new("fresh", 0), None, small()).unwrap();
    (0..20).for_each(|_| append(&stuck));
    stuck.set_config(LogConfig { retention_ms: 1, ..small() });
    fresh.set_config(LogConfig { flush_ms: 1, ..small() });
    let held = stuck.writer.lock();
    manager.start_background().unwrap();
    // So often that retention has come to the log that it cannot have.
    for _ in 0..10 {
        append(&fresh);
        wait_until("it is on the disk", || fresh.recovery_point() == fresh.log_end_offset());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(stuck.log_start_offset(), 0);
    drop(held);
    wait_until("retention", || stuck.log_start_offset() == 20);
    manager.shutdown();
}

#[test]
fn a_move_to_a_slow_disk_holds_up_no_other() {
    let root = tempfile::tempdir().unwrap();
    let dirs = ["one", "two"].map(|name| root.path().join(name));
    let manager = open(&dirs, 2);
    let create = |topic: &str| {
        let partition = TopicPartition::new(topic, 0);
        let _ = manager.move_to(&partition, &dirs[0]);
        let log = manager.create(&partition, Some(TopicId::random()), small()).unwrap();
        (0..10).for_each(|_| append(&log));
        log
    };
    let (held, free) = (create("held"), create("free"));
    let (gate, _fault) = hold_syncs(&dirs[1], "/held-0.");
    manager.start_background().unwrap();
    manager.move_to(held.topic_partition(), &dirs[1]).unwrap();
    wait_until("a sync that does not end", || gate.has_visitor.load(Ordering::SeqCst));
    manager.move_to(free.topic_partition(), &dirs[1]).unwrap();
    wait_until("the other is moved", || free.log_dir().path() == dirs[1]);
    assert_eq!(held.log_dir().path(), dirs[0]);
    gate.open();
    wait_until("and then this one", || held.log_dir().path() == dirs[1]);
    manager.shutdown();
}
