//! `ottla dump` beside `kafka-dump-log` of Apache Kafka 3.9.2, line by line. Where ours differs on purpose, a test says so.

#[path = "common/kafka_dump.rs"]
mod kafka_dump;

use kafka_dump::dump as kafka;
use ottla::log::dump::{Decoder, DumpOptions, dump};
use ottla::record::BatchBuilder;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const NAME: &str = "00000000000000000000.log";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn unpack_fixture() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let archive = root().join("tests/fixtures/kafka-log-dir-3.9.2.tar.gz");
    let status = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(dir.path()).status().expect("tar runs");
    assert!(status.success());
    dir
}

fn options(flags: &[&str]) -> DumpOptions {
    let has = |flag| flags.contains(&flag);
    let decoder = match () {
        () if has("--offsets-decoder") => Decoder::Offsets,
        () if has("--transaction-log-decoder") => Decoder::Transactions,
        () => Decoder::Text,
    };
    DumpOptions {
        print_data_log: has("--print-data-log") || decoder != Decoder::Text,
        deep_iteration: has("--deep-iteration"),
        skip_record_metadata: has("--skip-record-metadata"),
        index_sanity_check: has("--index-sanity-check"),
        verify_index_only: has("--verify-index-only"),
        decoder,
        ..DumpOptions::default()
    }
}

/// What we print, and whether all was well.
fn ottla(dir: &Path, flags: &[&str], files: &[PathBuf]) -> (String, String, bool) {
    let paths: Vec<PathBuf> = files.iter().map(|file| dir.join(file)).collect();
    let (mut out, mut problems) = (Vec::new(), Vec::new());
    let is_sound = dump(&paths, &options(flags), &mut out, &mut problems).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace(&format!("{}/", dir.display()), "");
    (text(out), text(problems), is_sound)
}

/// Kafka tells the files in the order of a hash table.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

fn assert_same(dir: &Path, flags: &[&str], files: &[PathBuf]) -> String {
    let (expected, expected_problems) = kafka(dir, flags, files);
    let (found, problems, _) = ottla(dir, flags, files);
    for (at, (theirs, ours)) in expected.lines().zip(found.lines()).enumerate() {
        assert_eq!(ours, theirs, "{flags:?}, line {}", at + 1);
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "{flags:?}");
    assert_eq!(sorted(&problems), sorted(&expected_problems.replace(&format!("{}/", dir.display()), "")), "{flags:?}");
    found
}

/// Files of the fixture below a directory, with one of the endings, in order.
fn files(dir: &Path, below: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for partition in fs::read_dir(dir.join(below)).unwrap() {
        let Ok(entries) = fs::read_dir(partition.unwrap().path()) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| endings.iter().any(|wanted| end == *wanted)) {
                found.push(path.strip_prefix(dir).unwrap().to_owned());
            }
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

#[test]
fn healthy_files_are_shown_in_the_same_words() {
    let dir = unpack_fixture();
    let all = files(dir.path(), "clean", &["log", "index", "timeindex", "txnindex", "snapshot"]);
    let shown = assert_same(dir.path(), &["--print-data-log"], &all);
    for words in
        ["endTxnMarker: ABORT", "compresscodec: zstd", "headerKeys: [h,h]", "currentTxnFirstOffset: OptionalLong[62]"]
    {
        assert!(shown.contains(words), "{words}");
    }
    assert_same(dir.path(), &["--deep-iteration"], &all);
    assert_same(dir.path(), &[], &all);
    assert_same(dir.path(), &["--print-data-log", "--skip-record-metadata"], &all);
    let indexes = files(dir.path(), "clean", &["index", "timeindex"]);
    assert_same(dir.path(), &["--index-sanity-check"], &indexes);
    assert_same(dir.path(), &["--verify-index-only"], &indexes);
}

/// Kafka's tool ends with an exception at the preallocated index of an empty log, so that one is not among these.
#[test]
fn files_of_a_killed_broker_are_shown_in_the_same_words() {
    let dir = unpack_fixture();
    let mut all = files(dir.path(), "killed", &["log", "index", "timeindex", "txnindex", "snapshot"]);
    all.retain(|path| !path.starts_with("killed/empty-0"));
    assert_same(dir.path(), &["--print-data-log"], &all);
    let empty = files(dir.path(), "killed/", &["index"]);
    let empty: Vec<_> = empty.into_iter().filter(|path| path.starts_with("killed/empty-0")).collect();
    let (shown, problems, is_sound) = ottla(dir.path(), &[], &empty);
    assert!(shown.contains("is empty (4096 bytes are preallocated)") && problems.is_empty() && is_sound, "{shown}");
}

#[test]
fn every_message_format_is_shown_in_the_same_words() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for entry in fs::read_dir(root().join("tests/fixtures/records")).unwrap() {
        let path = entry.unwrap().path();
        let folder = dir.path().join(path.file_stem().unwrap());
        fs::create_dir(&folder).unwrap();
        fs::copy(&path, folder.join(NAME)).unwrap();
        all.push(Path::new(path.file_stem().unwrap()).join(NAME));
    }
    all.sort();
    let shown = assert_same(dir.path(), &["--print-data-log"], &all);
    for words in ["magic: 0", "magic: 1", "NoTimestampType", "LogAppendTime"] {
        assert!(shown.contains(words), "{words}");
    }
    assert_same(dir.path(), &[], &all);
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as i16).to_be_bytes()[..], text.as_bytes()].concat()
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as i32).to_be_bytes()[..], bytes].concat()
}

/// A group of version 3 with one member.
fn group(protocol_type: &str, subscription: &[u8], assignment: &[u8]) -> Vec<u8> {
    let head = [&3i16.to_be_bytes()[..], &text(protocol_type), &4i32.to_be_bytes(), &text("range"), &text("m \"1\"")];
    let member = [text("m \"1\""), (-1i16).to_be_bytes().to_vec(), text("größe"), text("/127.0.0.1")].concat();
    let times = [&1i32.to_be_bytes()[..], &2i32.to_be_bytes()].concat();
    let count = [&1_700_000_000_000i64.to_be_bytes()[..], &1i32.to_be_bytes()].concat();
    [head.concat(), count, member, times, bytes(subscription), bytes(assignment)].concat()
}

/// Every record of `__consumer_offsets` that the fixture has, and groups with and without what consumers say in them.
fn offsets_log() -> Vec<u8> {
    let fixture = fs::read_to_string(root().join("tests/fixtures/group-records-3.9.2.txt")).unwrap();
    let find = |name: &str, version: i16| {
        let prefix = format!("{name} {version} ");
        let line = fixture.lines().find_map(|line| line.strip_prefix(prefix.as_str()));
        unhex(line.unwrap_or_else(|| panic!("no {name} {version}")))
    };
    let (key, group_key) = (find("offset-key", 1), find("group-key", 2));
    let mut records = vec![(find("offset-key", 0), None), (group_key.clone(), None)];
    for version in 0..=4 {
        records.push((key.clone(), Some(find("offset-value", version))));
        records.push((group_key.clone(), Some(find("stable-value", version))));
        records.push((group_key.clone(), Some(find("empty-value", version))));
    }
    let topics =
        [&1i32.to_be_bytes()[..], &text("a"), &2i32.to_be_bytes(), &0i32.to_be_bytes(), &7i32.to_be_bytes()].concat();
    let subscription = |version: i16, user_data: Option<&[u8]>| {
        let data = user_data.map_or_else(|| (-1i32).to_be_bytes().to_vec(), bytes);
        let mut all = [&version.to_be_bytes()[..], &1i32.to_be_bytes(), &text("a"), &data].concat();
        for (from, field) in [(1, topics.clone()), (2, 9i32.to_be_bytes().to_vec()), (3, text("rack"))] {
            if version >= from {
                all.extend(field);
            }
        }
        all
    };
    let assignment = [&0i16.to_be_bytes()[..], &topics, &bytes(b"xy")].concat();
    for version in 0..=3 {
        records.push((group_key.clone(), Some(group("consumer", &subscription(version, Some(b"u")), &assignment))));
    }
    records.push((group_key.clone(), Some(group("consumer", &subscription(3, None), b""))));
    records.push((group_key, Some(group("connect", &subscription(0, None), &assignment))));
    records.push(([&9i16.to_be_bytes()[..], &text("g")].concat(), Some(vec![0, 0])));
    log_of(&records)
}

fn log_of(records: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<u8> {
    let mut log = Vec::new();
    for (offset, (key, value)) in records.iter().enumerate() {
        let mut batch = BatchBuilder::new();
        batch.append(1_700_000_000_000, Some(key), value.as_deref(), []);
        let mut batch = batch.build().unwrap();
        batch.header.set_base_offset(offset as i64);
        log.extend_from_slice(&batch.to_bytes());
    }
    log
}

#[test]
fn coordinator_records_are_decoded_in_the_same_words() {
    let dir = unpack_fixture();
    let file = PathBuf::from(NAME);
    fs::write(dir.path().join(&file), offsets_log()).unwrap();
    let shown = assert_same(dir.path(), &["--offsets-decoder"], &[file]);
    assert!(
        shown.contains("\"rackId\":\"rack\"") && shown.contains("<DELETE>") && shown.contains("Unknown record type 9")
    );
    let transactions = Path::new("clean/__transaction_state-0").join(NAME);
    let shown = assert_same(dir.path(), &["--transaction-log-decoder"], &[transactions]);
    assert!(shown.contains("state=PrepareCommit,partitions=[transactions-0]"), "{shown}");
}

fn patch(path: &Path, at: usize, bytes: &[u8]) {
    let mut content = fs::read(path).unwrap();
    content[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(path, content).unwrap();
}

#[test]
fn damage_is_told_in_the_same_words() {
    let dir = unpack_fixture();
    let at = |name: &str| PathBuf::from("clean").join(name);
    let change = |name: &str, work: &dyn Fn(&Path)| work(&dir.path().join(at(name)));
    change("plain-0/00000000000000000000.log", &|path| patch(path, 450, &[0x55]));
    change("plain-0/00000000000000000029.index", &|path| patch(path, 0, &19i32.to_be_bytes()));
    change("plain-0/00000000000000000000.timeindex", &|path| patch(path, 7, &[0x7f]));
    change("plain-0/00000000000000000029.snapshot", &|path| patch(path, 17, &[0x7f]));
    change("plain-0/00000000000000000029.timeindex", &|path| patch(path, 0, &1_700_000_099_999i64.to_be_bytes()));
    let files = ["00000000000000000000.log", "00000000000000000029.index", "00000000000000000000.timeindex"];
    let more = ["00000000000000000029.timeindex", "00000000000000000029.snapshot"];
    let files: Vec<_> = files.iter().chain(&more).map(|name| at("plain-0").join(name)).collect();
    let (expected, expected_problems) = kafka(dir.path(), &["--deep-iteration"], &files);
    let (found, problems, is_sound) = ottla(dir.path(), &["--deep-iteration"], &files);
    assert_eq!(found, expected);
    let expected_problems = expected_problems.replace(&format!("{}/", dir.path().display()), "");
    assert_eq!(sorted(&problems), sorted(&expected_problems));
    assert!(!is_sound && problems.contains("Mismatches in") && problems.contains("timestamp mismatch"), "{problems}");
}

/// Different on purpose: Kafka's tool ends with a stack trace at the first of these, or says nothing.
#[test]
fn what_cannot_be_read_is_named_and_the_next_file_follows() {
    let dir = unpack_fixture();
    let clean = dir.path().join("clean");
    let mut torn = fs::read(clean.join("plain-0").join(NAME)).unwrap();
    torn.truncate(700);
    fs::write(clean.join("plain-0").join(NAME), torn).unwrap();
    let mut zeros = fs::read(clean.join("codecs-0").join(NAME)).unwrap();
    zeros.extend([0; 100]);
    fs::write(clean.join("codecs-0").join(NAME), zeros).unwrap();
    let aborted = "transactions-0/00000000000000000045.txnindex";
    let mut entry = fs::read(clean.join(aborted)).unwrap();
    entry.extend([0; 30]);
    fs::write(clean.join(aborted), entry).unwrap();
    fs::write(clean.join("plain-0/00000000000000000029.snapshot"), [0, 1, 9]).unwrap();
    let mut index = fs::read(clean.join("plain-0/00000000000000000029.index")).unwrap();
    index.push(1);
    fs::write(clean.join("plain-0/00000000000000000029.index"), index).unwrap();
    fs::write(clean.join("recovery-point-offset-checkpoint"), "0\n2\na 0 1\n").unwrap();
    // (file, flags, what is said)
    let cases: [(&str, &[&str], &str); 11] = [
        ("plain-0/00000000000000000000.log", &[], "the last batch at position 396 is cut off"),
        ("codecs-0/00000000000000000000.log", &[], "the batch at position 1215 has an impossible length"),
        ("plain-0/00000000000000000000.index", &[], "Index offset: 28, log offset: -1"),
        ("plain-0/00000000000000000000.timeindex", &[], "Indexed offset: 28, found log offset: -1"),
        (aborted, &[], "30 bytes are left behind the last entry"),
        ("plain-0/00000000000000000029.snapshot", &[], "snapshot is cut off"),
        ("plain-0/00000000000000000029.index", &["--index-sanity-check"], "found 25 bytes which is neither"),
        ("recovery-point-offset-checkpoint", &[], "checkpoint says 2 entries and has 1"),
        ("meta.properties.bak", &[], "Ignoring unknown file"),
        ("plain-0/00000000000000009999.log", &[], "No such file or directory"),
        ("plain-0/00000000000000009999.index", &[], "No such file or directory"),
    ];
    for (file, flags, says) in cases {
        let next = PathBuf::from("clean/stamped-0").join(NAME);
        let (shown, problems, is_sound) = ottla(dir.path(), flags, &[PathBuf::from("clean").join(file), next]);
        assert!(problems.contains(says) && !is_sound, "{file}: {problems}");
        assert!(shown.contains("LogAppendTime"), "{file}: the next file is shown: {shown}");
    }
}

#[test]
fn small_files_are_shown_too() {
    let dir = unpack_fixture();
    let names = [
        "clean/plain-0/leader-epoch-checkpoint",
        "clean/plain-0/partition.metadata",
        "clean/meta.properties",
        "clean/recovery-point-offset-checkpoint",
        "clean/log-start-offset-checkpoint",
        "clean/.kafka_cleanshutdown",
        "killed/trimmed-0/00000000000000000000.log.deleted",
    ];
    let (shown, problems, is_sound) = ottla(dir.path(), &[], &names.map(PathBuf::from));
    assert!(is_sound && problems.is_empty(), "{problems}");
    let told = [
        "epoch: 0 startOffset: 0",
        "version: 0 topicId: tp4bQcCgTIWKfVOmD3FJ5Q",
        "version: 0 brokerId: 7 clusterId: e4p4Kh0AQeq4LK6g9pP-qQ",
        "topic: plain partition: 0 offset: 60",
        "topic: trimmed partition: 0 offset: 33",
        "clean shutdown: {\"version\":0,\"brokerEpoch\":-1}",
        "Log starting offset: 0\nbaseOffset: 0 ",
    ];
    for words in told {
        assert!(shown.contains(words), "{words}: {shown}");
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ottla")).args(arguments).output().expect("ottla runs")
}

#[test]
fn the_command_line_takes_files_both_ways_and_exits_with_1_when_something_is_wrong() {
    let dir = unpack_fixture();
    let log = dir.path().join("clean/plain-0").join(NAME).to_str().unwrap().to_owned();
    let index = dir.path().join("clean/plain-0/00000000000000000000.index").to_str().unwrap().to_owned();
    let ours = run(&["dump", &log, &index]);
    assert!(ours.status.success() && ours.stderr.is_empty());
    let kafkas = run(&["dump", "--files", &format!("{log},{index}")]);
    assert_eq!(kafkas.stdout, ours.stdout);
    assert_eq!(run(&["dump", &log, "/nowhere"]).status.code(), Some(1));
    let none = run(&["dump"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&none.stderr).starts_with("ottla: name the files to dump"));
}
