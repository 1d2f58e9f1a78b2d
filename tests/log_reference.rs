//! The log beside Apache Kafka 3.9.2: directories that its broker wrote are read here, and its own tools read ours.
//!
//! The fixture is made by `tests/fixtures/kafka-log-dir.sh`. The jars are in `target/kafka-3.9.2/libs` (`scripts/kafka libs`
//! fetches them) or in `OTTLA_KAFKA_LIBS`.

#[path = "common/kafka_dump.rs"]
mod kafka_dump;

use kafka_dump::dump_without_fault;
use ottla::base::{LeaderEpoch, ProducerEpoch, ProducerId, TopicPartition};
use ottla::config::{BrokerConfig, LogConfig};
use ottla::log::{AppendOrigin, Log, LogManager};
use ottla::record::{BatchBuilder, BatchHeader, Compression, EndTxnMarker, ValidatedBatch, ValidatedRecords, batches};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const TOPICS: [&str; 6] = ["plain", "codecs", "stamped", "transactions", "trimmed", "empty"];

fn unpack_fixture(into: &Path) {
    let archive = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/kafka-log-dir-3.9.2.tar.gz");
    let status = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(into).status().expect("tar runs");
    assert!(status.success());
}

fn small() -> LogConfig {
    LogConfig { segment_bytes: 1500, index_interval_bytes: 200, segment_index_bytes: 4096, ..LogConfig::default() }
}

fn open(dir: &Path) -> Arc<LogManager> {
    let config = BrokerConfig { log_dirs: vec![dir.to_path_buf()], ..BrokerConfig::default() };
    LogManager::open(&config, &|_| small()).expect("opens")
}

fn log(manager: &LogManager, topic: &str) -> Arc<Log> {
    manager.log(&TopicPartition::new(topic, 0)).expect("there")
}

fn hex(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".into() };
    bytes.iter().fold("'".to_string(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The records as a consumer of this isolation level sees them, in the words of `WriteLogs.java`.
fn consume(log: &Log, isolation: &str, out: &mut String) {
    let start = log.log_start_offset();
    let is_committed = isolation == "read_committed";
    let end = if is_committed { log.last_stable_offset() } else { log.high_watermark() };
    let aborted = log.aborted_transactions(start, end).unwrap();
    let mut offset = start;
    while offset < end {
        let bytes = log.read_bytes(offset, 700, end, true).unwrap();
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            batch.verify().unwrap();
            offset = batch.next_offset();
            let header = batch.header().unwrap();
            let is_aborted = aborted.iter().any(|transaction| {
                transaction.producer_id.0 == header.producer_id()
                    && (transaction.first_offset..=transaction.last_offset).contains(&batch.base_offset())
            });
            if header.is_control() || (is_committed && header.is_transactional() && is_aborted) {
                continue;
            }
            for record in batch.records(1 << 20).unwrap().iter() {
                let record = record.unwrap();
                if record.offset < start {
                    continue;
                }
                let (topic, epoch) = (&log.topic_partition().topic, header.partition_leader_epoch());
                write!(out, "{isolation} {topic} {} {} {epoch} ", record.offset, record.timestamp).unwrap();
                write!(out, "{} {}", hex(record.key), hex(record.value)).unwrap();
                for (key, value) in record.headers.iter() {
                    write!(out, " {}={}", String::from_utf8_lossy(key), hex(value)).unwrap();
                }
                out.push('\n');
            }
        }
    }
}

fn describe(manager: &LogManager) -> String {
    let mut out = String::new();
    for topic in TOPICS {
        let log = log(manager, topic);
        let max = log.max_timestamp_offset().unwrap().map_or(-1, |found| found.offset);
        let (earliest, latest) = (log.log_start_offset(), log.high_watermark());
        writeln!(out, "log {topic} earliest={earliest} latest={latest} max-timestamp={max}").unwrap();
        for delta in (-1..70_000).step_by(7001) {
            let timestamp = 1_700_000_000_000i64 + delta;
            let found = log.offset_for_timestamp(timestamp).unwrap().map_or(-1, |found| found.offset);
            writeln!(out, "time {topic} {timestamp}={found}").unwrap();
        }
        for isolation in ["read_uncommitted", "read_committed"] {
            consume(&log, isolation, &mut out);
        }
    }
    out
}

/// Kafka looks for a time no further than the first segment that has it, even if that segment lies below the log start, and
/// then finds nothing until retention removes the segment. Here the first record that can be read is found at once.
fn assert_same_lines(ours: &str, theirs: &str, name: &str) {
    for (at, (our, their)) in ours.lines().zip(theirs.lines()).enumerate() {
        let is_below_start = their.starts_with("time trimmed") && their.ends_with("=-1") && our.ends_with("=33");
        assert!(our == their || is_below_start, "{name}: line {}: {our} instead of {their}", at + 1);
    }
    assert_eq!(ours.lines().count(), theirs.lines().count(), "{name}");
}

#[test]
fn what_kafka_wrote_is_read_as_kafka_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    unpack_fixture(dir.path());
    let expected = fs::read_to_string(dir.path().join("expected")).unwrap();
    for stop in ["clean", "killed"] {
        let logs = dir.path().join(stop);
        for round in ["first", "after a clean stop of ours", "after a kill of ours"] {
            let manager = open(&logs);
            assert_same_lines(&describe(&manager), &expected, &format!("{stop}, {round}"));
            if round == "first" {
                manager.shutdown();
            }
        }
    }
}

/// Names and contents of a partition directory, without what waits for removal.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .filter(|(name, _)| !name.ends_with(".deleted"))
        .collect();
    files.sort();
    files
}

#[test]
fn recovery_ends_with_the_files_that_kafka_has_after_a_clean_stop() {
    let dir = tempfile::tempdir().unwrap();
    unpack_fixture(dir.path());
    let (clean, killed) = (dir.path().join("clean"), dir.path().join("killed"));
    // Nothing is trusted: everything is scanned from the first batch on.
    fs::remove_file(killed.join("recovery-point-offset-checkpoint")).unwrap();
    open(&killed).shutdown();
    for topic in TOPICS {
        let partition = format!("{topic}-0");
        let (ours, theirs) = (files(&killed.join(&partition)), files(&clean.join(&partition)));
        let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&theirs), "{partition}");
        for ((name, our), (_, their)) in ours.iter().zip(&theirs) {
            if name.ends_with(".snapshot") {
                assert_eq!(snapshot_entries(our), snapshot_entries(their), "{partition}/{name}");
            } else if topic == "empty" && name == "leader-epoch-checkpoint" {
                // An epoch without records is dropped at the start; its leader will note it again.
                assert_eq!(our, b"0\n0\n");
            } else {
                assert_eq!(our, their, "{partition}/{name}");
            }
        }
    }
    for name in ["replication-offset-checkpoint", "recovery-point-offset-checkpoint", "log-start-offset-checkpoint"] {
        let lines = |dir: &Path| {
            let text = fs::read_to_string(dir.join(name)).unwrap();
            text.lines().map(str::to_string).collect::<BTreeSet<_>>()
        };
        assert_eq!(lines(&killed), lines(&clean), "{name}");
    }
}

/// Their order in the file means nothing.
fn snapshot_entries(bytes: &[u8]) -> BTreeSet<&[u8]> {
    bytes[10..].chunks(46).collect()
}

fn batch(n: i64, codec: Compression, build: impl FnOnce(BatchBuilder) -> BatchBuilder) -> ValidatedRecords {
    let mut builder = build(BatchBuilder::new().compression(codec, None));
    for i in 0..3 {
        let value = format!("value {n} {i} {}", "y".repeat(n as usize % 60));
        builder.append(1_700_000_000_000 + n * 50 - (n % 3) * 70 + i, Some(b"key"), Some(value.as_bytes()), []);
    }
    ValidatedRecords::from_batch(builder.build().unwrap())
}

/// As the partition's leader does after the coordinator's answer: without it no transaction begins.
fn verify(log: &Log, header: &BatchHeader) {
    let (producer, epoch) = (ProducerId(header.producer_id()), ProducerEpoch(header.producer_epoch()));
    if let Some(guard) = log.begin_verification(producer, epoch, None, 0) {
        log.confirm_verification(producer, guard);
    }
}

fn append(log: &Log, records: ValidatedRecords, epoch: i32, origin: AppendOrigin) {
    records.batches.iter().for_each(|batch| verify(log, &batch.header));
    log.append_as_leader(records, LeaderEpoch(epoch), origin).unwrap();
    log.update_high_watermark(i64::MAX);
}

fn marker(producer_id: i64, commit: bool) -> ValidatedRecords {
    let marker: ValidatedBatch =
        EndTxnMarker { commit, coordinator_epoch: 3 }.batch(producer_id, 1, 1_700_000_000_000).unwrap();
    ValidatedRecords::from_batch(marker)
}

/// Two logs with every codec, several leader epochs, idempotent producers, commits, aborts and an open transaction.
fn write_logs(manager: &LogManager) {
    use Compression::*;
    let id = ottla::base::TopicId::random();
    let codecs = manager.create(&TopicPartition::new("codecs", 0), Some(id), small()).unwrap();
    for n in 0..100 {
        let codec = [None, Gzip, Snappy, Lz4, Zstd][n as usize % 5];
        append(&codecs, batch(n, codec, |b| b), (n / 40) as i32, AppendOrigin::Client);
    }
    let producers = manager.create(&TopicPartition::new("producers", 1), Some(id), small()).unwrap();
    for n in 0..40i32 {
        let (producer, sequence) = (1000 + i64::from(n % 4), n / 4 * 3);
        let records = batch(i64::from(n), None, |b| b.producer(producer, 1, sequence).transactional(n % 4 > 0));
        append(&producers, records, 5, AppendOrigin::Client);
        if n % 10 == 9 {
            append(&producers, marker(1001, true), 5, AppendOrigin::Coordinator);
            append(&producers, marker(1002, false), 5, AppendOrigin::Coordinator);
        }
    }
}

#[test]
fn kafkas_own_dump_tool_finds_no_fault_in_what_we_write() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path());
    write_logs(&manager);
    manager.shutdown();
    let dumped = dump_without_fault(dir.path(), false);
    assert_eq!(dumped.matches(" compresscodec: zstd").count(), 20);
    assert_eq!(dumped.matches("\n| offset: ").count(), 3 * 140 + 8, "all records, and the markers");
    assert!(dumped.contains("endTxnMarker: ABORT") && dumped.contains("endTxnMarker: COMMIT"));
    assert!(
        dumped
            .contains("producerId: 1003 producerEpoch: 1 coordinatorEpoch: -1 currentTxnFirstOffset: OptionalLong[9]")
    );

    // The same files once more, made by recovery.
    fs::remove_file(dir.path().join(".kafka_cleanshutdown")).unwrap();
    fs::remove_file(dir.path().join("recovery-point-offset-checkpoint")).unwrap();
    let before = files(&dir.path().join("producers-1"));
    open(dir.path()).shutdown();
    assert_eq!(files(&dir.path().join("producers-1")).len(), before.len());
    dump_without_fault(dir.path(), false);
}
