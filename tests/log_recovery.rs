//! What is left after a crash, a cut file or a damaged one: a prefix of what was written, and never a bad batch.

use ottla::base::{LeaderEpoch, TopicPartition};
use ottla::config::{BrokerConfig, LogConfig};
use ottla::log::{AppendOrigin, Log, LogError, LogManager};
use ottla::record::{BatchBuilder, ValidatedRecords, batches};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn config() -> LogConfig {
    LogConfig { segment_bytes: 700, index_interval_bytes: 100, ..LogConfig::default() }
}

fn partition() -> TopicPartition {
    TopicPartition::new("topic", 0)
}

fn try_open(dir: &Path) -> Result<Arc<LogManager>, LogError> {
    let broker = BrokerConfig { log_dirs: vec![dir.to_path_buf()], ..BrokerConfig::default() };
    LogManager::open(&broker, &|_| config())
}

fn open(dir: &Path) -> (Arc<LogManager>, Arc<Log>) {
    let manager = try_open(dir).unwrap();
    let log = manager.create(&partition(), None, config()).unwrap();
    (manager, log)
}

/// Now: the producers of old records are forgotten at a start.
fn start_ms() -> i64 {
    static START: std::sync::OnceLock<i64> = std::sync::OnceLock::new();
    *START.get_or_init(ottla::base::time::wall_ms)
}

fn records(n: i32) -> ValidatedRecords {
    let mut builder = BatchBuilder::new().producer(77, 0, n * 2);
    for i in 0..2 {
        let value = format!("value {n} {i}");
        builder.append(start_ms() + i64::from(n) * 10, None, Some(value.as_bytes()), []);
    }
    ValidatedRecords::from_batch(builder.build().unwrap())
}

fn append(log: &Log, n: i32) {
    log.append_as_leader(records(n), LeaderEpoch(n / 9), AppendOrigin::Client).unwrap();
}

/// Twenty batches of two records in three segments.
fn write(dir: &Path) -> (Arc<LogManager>, Arc<Log>) {
    let (manager, log) = open(dir);
    (0..20).for_each(|n| append(&log, n));
    assert_eq!(log.segment_count(), 3);
    (manager, log)
}

/// Last offset of each batch, all of them sound.
fn batch_ends(log: &Log) -> Vec<i64> {
    let mut ends = Vec::new();
    let mut offset = log.log_start_offset();
    while offset < log.log_end_offset() {
        let bytes = log.read_bytes(offset, 300, i64::MAX, true).unwrap();
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            batch.verify().unwrap();
            assert_eq!(batch.base_offset(), offset);
            offset = batch.next_offset();
            ends.push(offset - 1);
        }
    }
    ends
}

fn all_ends(count: i64) -> Vec<i64> {
    (0..count).map(|n| n * 2 + 1).collect()
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files_of(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(dir.join("topic-0")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = all.filter(|path| path.to_str().unwrap().ends_with(suffix)).collect();
    files.sort();
    files
}

/// A directory as kill -9 leaves it, and one as SIGTERM does.
fn stopped() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (killed, clean) = (dir.path().join("killed"), dir.path().join("clean"));
    drop(write(&killed));
    fs::remove_file(killed.join(".lock")).unwrap();
    let (manager, _log) = write(&clean);
    manager.shutdown();
    (dir, killed, clean)
}

#[test]
fn a_log_cut_at_any_byte_keeps_exactly_the_whole_batches() {
    let (dir, killed, _) = stopped();
    let logs = files_of(&killed, ".log");
    let work = dir.path().join("work");
    let mut whole_before = 0;
    for log_file in &logs {
        let bytes = fs::read(log_file).unwrap();
        // Every byte where a crash tears; closed segments at every third.
        let step = if log_file == logs.last().unwrap() { 1 } else { 3 };
        for cut in (0..=bytes.len()).filter(|cut| cut % step == 0 || *cut == bytes.len()) {
            let _ = fs::remove_dir_all(&work);
            copy_dir(&killed, &work);
            let file = work.join("topic-0").join(log_file.file_name().unwrap());
            fs::write(&file, &bytes[..cut]).unwrap();
            let (_manager, log) = open(&work);
            let here = batches(&bytes[..cut]).count() as i64;
            let is_whole =
                cut == bytes.len() || (batches(&bytes[..cut]).map(|b| b.unwrap().size_bytes()).sum::<usize>() == cut);
            if cut == bytes.len() {
                assert_eq!(batch_ends(&log), all_ends(20));
            } else if is_whole && log_file != logs.last().unwrap() {
                // Nothing in this file says that there was more: the gap is only visible as such.
                assert_eq!(batch_ends_with_gap(&log)[..(whole_before + here) as usize], all_ends(whole_before + here));
                continue;
            } else {
                assert_eq!(batch_ends(&log), all_ends(whole_before + here), "{} cut at {cut}", file.display());
            }
            // It goes on from there, the producer's sequence included.
            append(&log, (log.log_end_offset() / 2) as i32);
        }
        whole_before += batches(&bytes).count() as i64;
    }
}

fn batch_ends_with_gap(log: &Log) -> Vec<i64> {
    let mut ends = Vec::new();
    let mut offset = log.log_start_offset();
    loop {
        let bytes = log.read_bytes(offset, 300, i64::MAX, true).unwrap();
        let Some(batch) = batches(&bytes).next() else { return ends };
        offset = batch.unwrap().next_offset();
        ends.push(offset - 1);
    }
}

#[test]
fn a_flipped_byte_ends_the_log_before_its_batch_or_lies_outside_the_checksum() {
    let (dir, killed, _) = stopped();
    let logs = files_of(&killed, ".log");
    let work = dir.path().join("work");
    let bytes = fs::read(&logs[1]).unwrap();
    let first = batches(&fs::read(&logs[0]).unwrap()).count() as i64;
    for at in (0..bytes.len()).step_by(5) {
        let _ = fs::remove_dir_all(&work);
        copy_dir(&killed, &work);
        let mut bad = bytes.clone();
        bad[at] ^= 0x55;
        fs::write(work.join("topic-0").join(logs[1].file_name().unwrap()), bad).unwrap();
        let (_manager, log) = open(&work);
        let mut position = 0;
        let before = batches(&bytes).take_while(|batch| {
            position += batch.as_ref().unwrap().size_bytes();
            position <= at
        });
        let kept = first + before.count() as i64;
        let ends = batch_ends_with_gap(&log);
        assert!(ends.starts_with(&all_ends(kept)), "flip at {at}: {ends:?}");
        assert_eq!(ends.last().map(|end| end + 1), Some(log.log_end_offset()), "flip at {at}: {ends:?}");
    }
}

#[test]
fn damaged_indexes_give_the_same_answers() {
    let (dir, killed, clean) = stopped();
    let work = dir.path().join("work");
    type Harm = (&'static str, fn(&Path));
    let harms: [Harm; 6] = [
        ("deleted", |path| fs::remove_file(path).unwrap()),
        ("emptied", |path| fs::write(path, []).unwrap()),
        ("zeroed", |path| fs::write(path, vec![0; fs::metadata(path).unwrap().len() as usize]).unwrap()),
        ("with a tail of zeros", |path| fs::write(path, [fs::read(path).unwrap(), vec![0; 960]].concat()).unwrap()),
        ("random", |path| fs::write(path, (0..240u32).map(|i| (i * 97 % 251) as u8).collect::<Vec<_>>()).unwrap()),
        ("cut", |path| fs::write(path, fs::read(path).unwrap().split_at_checked(7).unwrap_or_default().0).unwrap()),
    ];
    for stopped in [&killed, &clean] {
        for suffix in [".index", ".timeindex"] {
            for (name, harm) in harms {
                let _ = fs::remove_dir_all(&work);
                copy_dir(stopped, &work);
                files_of(&work, suffix).iter().for_each(|file| harm(file));
                let (_manager, log) = open(&work);
                let case = format!("{suffix} {name}, {}", stopped.display());
                assert_eq!(log.log_end_offset(), 40, "{case}");
                assert_eq!(batch_ends(&log), all_ends(20), "{case}");
                for n in 0..20 {
                    let found = log.offset_for_timestamp(start_ms() + n * 10 - 5).unwrap().unwrap();
                    assert_eq!(found.offset, n * 2, "{case}");
                }
            }
        }
    }
}

#[test]
fn damaged_side_files_cost_time_and_no_record() {
    let (dir, killed, clean) = stopped();
    let work = dir.path().join("work");
    let garbage = b"\x00\xffnot what it should be\n".as_slice();
    let names = [
        "recovery-point-offset-checkpoint",
        "replication-offset-checkpoint",
        "log-start-offset-checkpoint",
        "topic-0/leader-epoch-checkpoint",
        "topic-0/00000000000000000040.snapshot",
        "topic-0/00000000000000000014.snapshot",
    ];
    for stopped in [&killed, &clean] {
        for name in names {
            for content in [None, Some(b"".as_slice()), Some(garbage)] {
                let _ = fs::remove_dir_all(&work);
                copy_dir(stopped, &work);
                match content {
                    Some(content) => fs::write(work.join(name), content).unwrap(),
                    None => drop(fs::remove_file(work.join(name))),
                }
                let (_manager, log) = open(&work);
                assert_eq!(batch_ends(&log), all_ends(20), "{name}");
                let again = log.append_as_leader(records(18), LeaderEpoch(2), AppendOrigin::Client);
                let is_last_batch_only = name.ends_with("40.snapshot") || *stopped == clean;
                match again {
                    Ok(info) => assert!(info.is_duplicate && info.first_offset == 36, "{name}: {info:?}"),
                    // A snapshot holds only the last batch of a producer, as in Kafka.
                    Err(LogError::OutOfOrderSequence { .. }) => assert!(is_last_batch_only, "{name}"),
                    Err(error) => panic!("{name}: {error}"),
                }
                let again = log.append_as_leader(records(19), LeaderEpoch(2), AppendOrigin::Client).unwrap();
                assert!(again.is_duplicate && again.first_offset == 38, "{name}: {again:?}");
                append(&log, 20);
                if content != Some(garbage) || !name.ends_with("leader-epoch-checkpoint") {
                    continue;
                }
                assert_eq!(
                    log.end_offset_for_epoch(LeaderEpoch(0)),
                    (LeaderEpoch(0), 18),
                    "epochs are read from the log"
                );
            }
        }
    }
}

#[test]
fn what_names_the_partition_is_not_guessed() {
    let (_dir, killed, _) = stopped();
    fs::write(killed.join("topic-0/partition.metadata"), "version: 7\n").unwrap();
    let error = try_open(&killed).err().unwrap();
    assert!(error.to_string().contains("partition.metadata"), "{error}");
}

#[test]
fn the_same_partition_in_two_directories_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dirs = [dir.path().join("a"), dir.path().join("b")];
    dirs.iter().for_each(|dir| fs::create_dir_all(dir.join("topic-0")).unwrap());
    let broker = BrokerConfig { log_dirs: dirs.to_vec(), ..BrokerConfig::default() };
    let error = LogManager::open(&broker, &|_| config()).err().unwrap();
    assert!(matches!(error, LogError::DuplicateLog { .. }), "{error}");
}

#[test]
fn leftovers_of_a_crash_go_and_complete_swaps_count() {
    let (dir, _, clean) = stopped();
    let work = dir.path().join("work");
    copy_dir(&clean, &work);
    let topic = work.join("topic-0");
    let logs = files_of(&work, ".log");
    // A compaction of the first two segments that got as far as renaming its result.
    let merged = [fs::read(&logs[0]).unwrap(), fs::read(&logs[1]).unwrap()].concat();
    fs::write(topic.join("00000000000000000000.log.swap"), merged).unwrap();
    fs::write(topic.join("00000000000000000009.log.deleted"), "x").unwrap();
    let (manager, log) = open(&work);
    assert_eq!((log.segment_count(), batch_ends(&log)), (2, all_ends(20)));
    manager.shutdown();
    // One that did not finish.
    fs::write(topic.join("00000000000000000000.log.cleaned"), "half").unwrap();
    fs::write(topic.join("00000000000000000000.log.swap"), "half").unwrap();
    let (_manager, log) = open(&work);
    assert_eq!(batch_ends(&log), all_ends(20));
    for suffix in [".deleted", ".cleaned", ".swap"] {
        assert!(files_of(&work, suffix).is_empty(), "{suffix}");
    }
}
