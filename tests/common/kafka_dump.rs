//! `kafka-dump-log` of Apache Kafka 3.9.2, for tests that have it read our files.

// Each test program compiles this and uses the part that it needs.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The jars are in `target/kafka-3.9.2/libs` (`scripts/kafka libs` fetches them) or in `OTTLA_KAFKA_LIBS`.
pub fn kafka_libs() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let libs = std::env::var_os("OTTLA_KAFKA_LIBS").map_or_else(|| root.join("target/kafka-3.9.2/libs"), PathBuf::from);
    let jar = libs.join("kafka_2.13-3.9.2.jar");
    assert!(jar.exists(), "{} is missing: run scripts/kafka libs once, or set OTTLA_KAFKA_LIBS", jar.display());
    libs
}

/// What Kafka's tool prints on stdout and stderr.
pub fn dump(dir: &Path, flags: &[&str], files: &[PathBuf]) -> (String, String) {
    let files: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let logging = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka-jars/tools-log4j.properties");
    let output = Command::new("java")
        .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"])
        .args(["-Dstdout.encoding=UTF-8", "-Dstderr.encoding=UTF-8", "-Dfile.encoding=UTF-8"])
        .arg(format!("-Dlog4j.configuration=file:{}", logging.display()))
        .arg("-cp")
        .arg(format!("{}/*", kafka_libs().display()))
        .arg("kafka.tools.DumpLogSegments")
        .args(flags)
        .args(["--files", &files.join(",")])
        .current_dir(dir)
        .output()
        .expect("java runs");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{flags:?}: {}\n{}", text(&output.stdout), text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

/// All that the tool prints of the files of a log directory, its checks of the indexes included. Only gaps between offsets may be
/// there, where `is_compacted`.
pub fn dump_without_fault(log_dir: &Path, is_compacted: bool) -> String {
    let mut found = Vec::new();
    for partition in fs::read_dir(log_dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        found.extend(fs::read_dir(partition).unwrap().map(|entry| entry.unwrap().path()));
    }
    found.sort();
    let of = |kinds: &[&str]| {
        let is_kind = |path: &&PathBuf| path.extension().is_some_and(|end| kinds.contains(&end.to_str().unwrap()));
        let files: Vec<_> = found.iter().filter(is_kind).cloned().collect();
        assert!(!files.is_empty(), "{kinds:?}");
        files
    };
    let (every, indexes) = (of(&["log", "index", "timeindex", "txnindex", "snapshot"]), of(&["index", "timeindex"]));
    let mut all = dump(log_dir, &["--deep-iteration"], &every).0;
    for check in ["--verify-index-only", "--index-sanity-check"] {
        all += &dump(log_dir, &[check], &indexes).0;
    }
    let faults =
        ["Mismatches", "Non-consecutive", "not found", "out of order", "corrupt", "not valid", "Invalid", "Found"];
    // "Non-consecutive offsets" are what compaction is for.
    for fault in faults.into_iter().filter(|fault| !is_compacted || *fault != "Non-consecutive") {
        let lines: Vec<_> = all.lines().filter(|line| line.contains(fault)).collect();
        assert!(lines.is_empty(), "{fault}: {lines:?}");
    }
    assert!(!all.contains("isvalid: false") && all.contains("passed sanity check"));
    all
}
