//! Replicas on their way between two log directories: nothing is lost, doubled or reordered, whoever writes, reads, cuts or stops
//! meanwhile.

mod common;

use common::cluster::wait_until;
use ottla::base::{LeaderEpoch, ProducerEpoch, ProducerId, TopicId, TopicPartition};
use ottla::config::{BrokerConfig, LogConfig};
use ottla::log::{AppendOrigin, Log, LogError, LogManager};
use ottla::record::{BatchBuilder, EndTxnMarker, ValidatedRecords, batches};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 4000,
        index_interval_bytes: 200,
        segment_index_bytes: 4096,
        file_delete_delay_ms: 0,
        ..LogConfig::default()
    }
}

fn dirs(root: &Path) -> [PathBuf; 2] {
    [root.join("one"), root.join("two")]
}

fn open(root: &Path) -> Arc<LogManager> {
    let config = BrokerConfig { log_dirs: dirs(root).to_vec(), log: small(), ..BrokerConfig::default() };
    // Who was dropped without a stop may still be at work for a moment.
    let deadline = Instant::now() + PATIENCE;
    loop {
        match LogManager::open(&config, &|_| small()) {
            Err(LogError::Locked { .. }) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            opened => return opened.expect("opens"),
        }
    }
}

fn partition() -> TopicPartition {
    TopicPartition::new("moved", 0)
}

/// A log in the first directory.
fn create(manager: &LogManager, root: &Path) -> Arc<Log> {
    let [one, _] = dirs(root);
    assert!(matches!(manager.move_to(&partition(), &one), Err(LogError::NoReplica(_))));
    let log = manager.create(&partition(), Some(TopicId::random()), small()).unwrap();
    assert_eq!(log.log_dir().path(), one, "made where it was asked for");
    log
}

fn append(log: &Log, n: i64) {
    let mut builder = BatchBuilder::new();
    builder.append(1000 + n, Some(b"key"), Some(format!("value {n}").as_bytes()), []);
    let records = ValidatedRecords::from_batch(builder.build().unwrap());
    let info = log.append_as_leader(records, LeaderEpoch((n / 100) as i32), AppendOrigin::Client).unwrap();
    log.update_high_watermark(info.last_offset + 1);
}

/// Every byte from the log start on.
fn content(log: &Log) -> Vec<u8> {
    let mut all = Vec::new();
    let mut offset = log.log_start_offset();
    while offset < log.log_end_offset() {
        let bytes = log.read_bytes(offset, 1 << 20, log.log_end_offset(), true).unwrap();
        let whole = batches(&bytes).map(|batch| batch.unwrap()).collect::<Vec<_>>();
        all.extend(whole.iter().flat_map(|batch| batch.bytes()));
        offset = whole.last().expect("a batch").next_offset();
    }
    all
}

fn move_to(manager: &LogManager, log: &Log, to: &Path) {
    manager.move_to(log.topic_partition(), to).unwrap();
    wait_until("the move ends", || log.log_dir().path() == to && manager.future(log.topic_partition()).is_none());
}

/// Directories of the partition, whatever their kind.
fn places(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for dir in dirs(root) {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn writers_and_readers_notice_nothing() {
    let root = tempfile::tempdir().unwrap();
    let manager = open(root.path());
    manager.start_background().unwrap();
    let log = create(&manager, root.path());
    let is_done = AtomicBool::new(false);
    let [one, two] = dirs(root.path());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..20_000 {
                if is_done.load(Ordering::Acquire) {
                    return;
                }
                append(&log, n);
            }
        });
        scope.spawn(|| {
            let mut expected = 0;
            while !is_done.load(Ordering::Acquire) {
                let bytes = log.read_bytes(expected, 10_000, log.high_watermark(), true).unwrap();
                for batch in batches(&bytes) {
                    let batch = batch.unwrap();
                    batch.verify().unwrap();
                    assert_eq!(batch.base_offset(), expected);
                    expected = batch.next_offset();
                }
            }
        });
        for to in [&two, &one, &two, &one, &two] {
            move_to(&manager, &log, to);
        }
        is_done.store(true, Ordering::Release);
    });
    let (before, end, epoch) = (content(&log), log.log_end_offset(), log.latest_epoch());
    assert!(end > 0);
    wait_until("the old files go", || places(root.path()) == ["two/moved-0"]);
    manager.shutdown();
    drop((log, manager));
    let manager = open(root.path());
    let log = manager.log(&partition()).unwrap();
    assert_eq!((log.log_end_offset(), log.latest_epoch(), log.high_watermark()), (end, epoch, end));
    assert!(content(&log) == before && log.log_dir().path() == two);
}

#[test]
fn a_restart_in_the_middle_goes_on() {
    for is_clean in [true, false] {
        let root = tempfile::tempdir().unwrap();
        let manager = open(root.path());
        let log = create(&manager, root.path());
        (0..500).for_each(|n| append(&log, n));
        let (before, topic_id) = (content(&log), log.topic_id());
        let [_, two] = dirs(root.path());
        manager.limit_moves(1000);
        manager.start_background().unwrap();
        manager.move_to(&partition(), &two).unwrap();
        let future = manager.future(&partition()).unwrap();
        wait_until("some is copied", || future.log_end_offset() > 0);
        let name = future.dir().file_name().unwrap().to_str().unwrap().to_owned();
        assert!(name.starts_with("moved-0.") && name.ends_with("-future"), "{name}");
        if is_clean {
            manager.shutdown();
        }
        drop((future, log, manager));
        let manager = open(root.path());
        let log = manager.log(&partition()).unwrap();
        let copied = manager.future(&partition()).expect("found again").log_end_offset();
        assert!(copied > 0 && copied < 500, "{copied}");
        manager.start_background().unwrap();
        wait_until("the move ends", || manager.future(&partition()).is_none());
        assert!(content(&log) == before && log.topic_id() == topic_id && log.log_dir().path() == two);
        append(&log, 500);
        manager.shutdown();
        drop((log, manager));
        let manager = open(root.path());
        assert_eq!(manager.log(&partition()).unwrap().log_end_offset(), 501);
        assert_eq!(places(root.path()), ["two/moved-0"]);
    }
}

#[test]
fn the_copy_is_cut_where_the_log_is_cut() {
    let root = tempfile::tempdir().unwrap();
    let manager = open(root.path());
    let log = create(&manager, root.path());
    (0..300).for_each(|n| append(&log, n));
    let [_, two] = dirs(root.path());
    manager.limit_moves(8000);
    manager.start_background().unwrap();
    manager.move_to(&partition(), &two).unwrap();
    let future = manager.future(&partition()).unwrap();
    wait_until("some is copied", || future.log_end_offset() > 50);
    manager.truncate_to(&[(partition(), 20)]).unwrap();
    (1000..1100).for_each(|n| append(&log, n));
    let expected = content(&log);
    manager.limit_moves(i64::MAX);
    wait_until("the move ends", || manager.future(&partition()).is_none());
    assert!(content(&log) == expected);
    assert_eq!((log.log_end_offset(), log.log_dir().path().to_owned()), (120, two));
}

#[test]
fn moves_are_refused_changed_and_called_off() {
    let root = tempfile::tempdir().unwrap();
    let manager = open(root.path());
    let log = create(&manager, root.path());
    append(&log, 0);
    let [one, two] = dirs(root.path());
    let unknown = manager.move_to(&partition(), Path::new("/no/such/dir"));
    assert!(matches!(unknown, Err(LogError::UnknownDirectory { .. })));
    manager.move_to(&partition(), &one).unwrap();
    assert!(manager.future(&partition()).is_none(), "it lies there already");
    manager.move_to(&partition(), &two).unwrap();
    let future = manager.future(&partition()).unwrap();
    manager.move_to(&partition(), &two).unwrap();
    assert!(Arc::ptr_eq(&manager.future(&partition()).unwrap(), &future), "it is on its way already");
    manager.move_to(&partition(), &one).unwrap();
    assert!(manager.future(&partition()).is_none() && future.is_closed());
    manager.move_to(&partition(), &two).unwrap();
    manager.delete(&partition()).unwrap();
    assert!(manager.future(&partition()).is_none());
    assert!(places(root.path()).iter().all(|name| name.ends_with("-delete")), "{:?}", places(root.path()));
    manager.start_background().unwrap();
    wait_until("the files go", || places(root.path()).is_empty());
}

/// The last step of a move is two renames. After a crash between them both logs are there, and equal.
#[test]
fn a_crash_between_the_last_two_steps_leaves_one_log() {
    let root = tempfile::tempdir().unwrap();
    let manager = open(root.path());
    let log = create(&manager, root.path());
    (0..50).for_each(|n| append(&log, n));
    let before = content(&log);
    manager.shutdown();
    drop((log, manager));
    let [one, two] = dirs(root.path());
    let copied = Command::new("cp").arg("-a").arg(one.join("moved-0")).arg(&two).status().unwrap();
    assert!(copied.success());
    let manager = open(root.path());
    let log = manager.log(&partition()).unwrap();
    assert!(content(&log) == before);
    let left = places(root.path());
    assert_eq!(left.iter().filter(|name| name.ends_with("-delete")).count(), 1, "{left:?}");
    assert_eq!(left.iter().filter(|name| name.ends_with("moved-0")).count(), 1, "{left:?}");
}

/// What another broker wrote: all codecs, transactions, a log that begins inside a segment, and the formats before the present one.
#[test]
fn whatever_kafka_wrote_is_moved_byte_for_byte() {
    let root = tempfile::tempdir().unwrap();
    let archive = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/kafka-log-dir-3.9.2.tar.gz");
    let status = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(root.path()).status().expect("tar runs");
    assert!(status.success());
    let [one, two] = dirs(root.path());
    fs::rename(root.path().join("clean"), &one).unwrap();
    for format in ["v0-none", "v0-gzip", "v1-none", "v1-snappy"] {
        let dir = one.join(format!("{format}-0"));
        fs::create_dir(&dir).unwrap();
        let from =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records").join(format!("{format}.bin"));
        fs::copy(from, dir.join("00000000000000000040.log")).unwrap();
    }
    let manager = open(root.path());
    manager.start_background().unwrap();
    let logs = manager.all();
    assert_eq!(logs.len(), 11);
    for log in &logs {
        log.update_high_watermark(log.log_end_offset());
        let facts = |log: &Log| {
            let aborted = log.aborted_transactions(log.log_start_offset(), log.log_end_offset()).unwrap();
            let mut producers = log.active_producers();
            producers.sort_by_key(|producer| producer.id);
            let times = (log.max_timestamp_offset().unwrap(), log.offset_for_timestamp(1_700_000_020_000).unwrap());
            let offsets =
                (log.log_start_offset(), log.log_end_offset(), log.high_watermark(), log.last_stable_offset());
            (content(log), aborted, producers, times, offsets, log.latest_epoch(), log.topic_id())
        };
        let before = facts(log);
        move_to(&manager, log, &two);
        assert!(facts(log) == before, "{}", log.topic_partition());
    }
    manager.shutdown();
    drop((logs, manager));
    let manager = open(root.path());
    assert_eq!(manager.all().len(), 11);
    assert!(manager.all().iter().all(|log| log.log_dir().path() == two));
}

#[test]
fn an_open_transaction_stays_open() {
    let root = tempfile::tempdir().unwrap();
    let manager = open(root.path());
    manager.start_background().unwrap();
    let log = create(&manager, root.path());
    append(&log, 0);
    let send = |sequence: i32| {
        let mut builder = BatchBuilder::new().producer(7, 0, sequence).transactional(true);
        builder.append(1000, None, Some(b"in a transaction"), []);
        let records = ValidatedRecords::from_batch(builder.build().unwrap());
        if let Some(guard) = log.begin_verification(ProducerId(7), ProducerEpoch(0), Some(sequence), 0) {
            log.confirm_verification(ProducerId(7), guard);
        }
        log.append_as_leader(records, LeaderEpoch(0), AppendOrigin::Client).unwrap()
    };
    send(0);
    log.update_high_watermark(2);
    let [one, two] = dirs(root.path());
    move_to(&manager, &log, &two);
    assert_eq!(log.last_stable_offset(), 1);
    assert!(send(0).is_duplicate, "the producer is known");
    let marker = EndTxnMarker { commit: false, coordinator_epoch: 0 }.batch(7, 0, 2000).unwrap();
    log.append_as_leader(ValidatedRecords::from_batch(marker), LeaderEpoch(0), AppendOrigin::Coordinator).unwrap();
    log.update_high_watermark(3);
    move_to(&manager, &log, &one);
    assert_eq!(log.last_stable_offset(), 3);
    assert_eq!(log.aborted_transactions(0, 3).unwrap().len(), 1);
}

/// A stopped broker's directories: a log of `count` records in the first, with its epochs.
fn stopped(root: &Path, count: i64) {
    let manager = open(root);
    let log = create(&manager, root);
    (0..count).for_each(|n| append(&log, n));
    manager.shutdown();
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

fn unclean(root: &Path) {
    for dir in dirs(root) {
        for name in [".kafka_cleanshutdown", "recovery-point-offset-checkpoint"] {
            fs::remove_file(dir.join(name)).unwrap();
        }
    }
}

const FUTURE: &str = "moved-0.0123456789abcdef0123456789abcdef-future";

/// Cuts the last segment of a log, as a machine that loses its power may.
fn lose_tail(log: &Path, bytes: u64) {
    let mut segments: Vec<PathBuf> = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|end| end == "log"));
    segments.sort();
    let last = fs::File::options().write(true).open(segments.last().unwrap()).unwrap();
    last.set_len(last.metadata().unwrap().len() - bytes).unwrap();
}

/// The machine went down: what was copied is on one disk, and its origin was not yet on the other.
#[test]
fn a_copy_that_outran_its_log_is_cut_back() {
    let root = tempfile::tempdir().unwrap();
    stopped(root.path(), 350);
    let [one, two] = dirs(root.path());
    copy(&one.join("moved-0"), &two.join(FUTURE));
    lose_tail(&one.join("moved-0"), 100);
    unclean(root.path());
    let manager = open(root.path());
    let log = manager.log(&partition()).unwrap();
    let end = log.log_end_offset();
    assert!(end < 350 && end > 300, "{end}");
    let future = manager.future(&partition()).unwrap();
    assert_eq!(future.log_end_offset(), end, "nothing is in it that the log has not");
    assert!(content(&future) == content(&log));
    // What the log gets instead is what is moved.
    (1000..1050).for_each(|n| append(&log, n));
    let expected = content(&log);
    manager.start_background().unwrap();
    wait_until("the move ends", || manager.future(&partition()).is_none());
    assert!(content(&log) == expected && log.log_dir().path() == two);
    manager.shutdown();
}

/// The log was cut and went on in another epoch, and the copy heard nothing of it.
#[test]
fn a_copy_of_what_the_log_has_no_more_is_cut_where_they_part() {
    for (cut, from) in [(250, 700), (20, 900), (0, 900)] {
        let root = tempfile::tempdir().unwrap();
        stopped(root.path(), 350);
        let [one, two] = dirs(root.path());
        copy(&one.join("moved-0"), &two.join(FUTURE));
        let aside = root.path().join("aside");
        fs::rename(two.join(FUTURE), &aside).unwrap();
        let manager = open(root.path());
        let log = manager.log(&partition()).unwrap();
        manager.truncate_to(&[(partition(), cut)]).unwrap();
        // Later epochs, and more records than the copy has, or fewer.
        (from..from + 200).for_each(|n| append(&log, n));
        let expected = content(&log);
        manager.shutdown();
        drop((log, manager));
        fs::rename(&aside, two.join(FUTURE)).unwrap();
        unclean(root.path());
        let manager = open(root.path());
        let log = manager.log(&partition()).unwrap();
        let future = manager.future(&partition()).unwrap();
        assert_eq!(future.log_end_offset(), cut, "{cut}");
        manager.start_background().unwrap();
        wait_until("the move ends", || manager.future(&partition()).is_none());
        assert!(content(&log) == expected && log.log_dir().path() == two, "{cut}");
        manager.shutdown();
    }
}

/// One of the two renames at the end of a move was done when the machine went down, and the old directory had not yet had all on its
/// disk: the new one counts, in whatever order they are found.
#[test]
fn of_two_logs_the_complete_one_counts() {
    for is_first_short in [true, false] {
        for lost in [1, 100, 5_000] {
            let root = tempfile::tempdir().unwrap();
            stopped(root.path(), 350);
            let [one, two] = dirs(root.path());
            copy(&one.join("moved-0"), &two.join("moved-0"));
            let (short, whole) = if is_first_short { (&one, &two) } else { (&two, &one) };
            lose_tail(&short.join("moved-0"), lost.min(300));
            unclean(root.path());
            let manager = open(root.path());
            let log = manager.log(&partition()).unwrap();
            assert_eq!((log.log_end_offset(), log.log_dir().path()), (350, whole.as_path()), "{lost}");
            // Only the first directory had its high watermark on file.
            assert!(log.high_watermark() >= 340, "{}", log.high_watermark());
            let left = places(root.path());
            assert_eq!(left.iter().filter(|name| name.ends_with("-delete")).count(), 1, "{left:?}");
            append(&log, 351);
            manager.shutdown();
            drop((log, manager));
            let manager = open(root.path());
            assert_eq!(manager.log(&partition()).unwrap().log_end_offset(), 351);
        }
    }
}

#[test]
fn of_two_empty_logs_of_one_topic_one_counts() {
    let root = tempfile::tempdir().unwrap();
    stopped(root.path(), 0);
    let [one, two] = dirs(root.path());
    copy(&one.join("moved-0"), &two.join("moved-0"));
    let manager = open(root.path());
    assert_eq!(manager.log(&partition()).unwrap().log_end_offset(), 0);
}

/// Two logs that say different things are nobody's move: somebody has to choose.
#[test]
fn two_logs_that_contradict_each_other_are_refused() {
    let root = tempfile::tempdir().unwrap();
    stopped(root.path(), 350);
    let [one, two] = dirs(root.path());
    copy(&one.join("moved-0"), &two.join("moved-0"));
    let aside = root.path().join("aside");
    fs::rename(two.join("moved-0"), &aside).unwrap();
    let manager = open(root.path());
    let log = manager.log(&partition()).unwrap();
    manager.truncate_to(&[(partition(), 200)]).unwrap();
    (500..600).for_each(|n| append(&log, n));
    manager.shutdown();
    drop((log, manager));
    fs::rename(&aside, two.join("moved-0")).unwrap();
    let config = BrokerConfig { log_dirs: dirs(root.path()).to_vec(), log: small(), ..BrokerConfig::default() };
    let error = LogManager::open(&config, &|_| small()).err().unwrap();
    assert!(matches!(error, LogError::DuplicateLog { .. }), "{error}");
    assert_eq!(places(root.path()), ["one/moved-0", "two/moved-0"], "both are left as they are");
}

#[test]
fn several_threads_carry_out_several_moves() {
    for threads in [1, 3] {
        let root = tempfile::tempdir().unwrap();
        let config = BrokerConfig {
            log_dirs: dirs(root.path()).to_vec(),
            num_replica_alter_log_dirs_threads: threads,
            ..BrokerConfig::default()
        };
        let manager = LogManager::open(&config, &|_| small()).unwrap();
        let [one, two] = dirs(root.path());
        let names: Vec<TopicPartition> = (0..6).map(|n| TopicPartition::new("moved", n)).collect();
        let create = |name: &TopicPartition| {
            let _ = manager.move_to(name, &one);
            let log = manager.create(name, Some(TopicId::random()), small()).unwrap();
            (0..50).for_each(|n| append(&log, n));
            log
        };
        let logs: Vec<Arc<Log>> = names.iter().map(create).collect();
        let before: Vec<Vec<u8>> = logs.iter().map(|log| content(log)).collect();
        manager.start_background().unwrap();
        names.iter().for_each(|name| manager.move_to(name, &two).unwrap());
        wait_until("all moves end", || logs.iter().all(|log| log.log_dir().path() == two));
        assert!(logs.iter().map(|log| content(log)).eq(before));
        manager.shutdown();
    }
}
