//! Remains of compactions, deletions and moves, in every combination of suffix and kind, and crashes while they are cleared up.

use crate::subject::{BASES, END, Stop, Subject, copy_dir, forget, goes_on, open_and_check, partition, try_open};
use std::fs;
use std::path::Path;

const KINDS: [&str; 5] = ["log", "index", "timeindex", "txnindex", "snapshot"];

fn assert_tidy(work: &Path, case: &str) {
    for entry in fs::read_dir(work.join("topic-0")).unwrap().map(|entry| entry.unwrap().file_name()) {
        let name = entry.to_str().unwrap();
        assert!(![".cleaned", ".swap", ".deleted"].iter().any(|end| name.ends_with(end)), "{case}: {name} is left");
    }
}

/// Whatever lies beside a whole segment under a passing name, with right or wrong content.
#[test]
fn remains_beside_whole_segments_go() {
    let subject = Subject::new();
    for kind in KINDS {
        for suffix in ["deleted", "cleaned"] {
            for base in [0, 3, BASES[1], BASES[2], END] {
                for content in [&b""[..], b"garbage"] {
                    for stop in [Stop::Killed, Stop::Clean] {
                        let work = subject.copy(stop);
                        let name = format!("topic-0/{base:020}.{kind}.{suffix}");
                        fs::write(work.join(&name), content).unwrap();
                        let case = format!("{name} of {} bytes, {stop:?}", content.len());
                        let (manager, log, found) = open_and_check(&subject, &work, &case);
                        assert!(found == subject.batches("topic"), "{case}");
                        assert_tidy(&work, &case);
                        if base == BASES[1] {
                            goes_on(&manager, &log, &work, &case);
                        }
                    }
                }
            }
        }
    }
}

/// The first two segments became one: every state of the directory that a crash in the change can leave, the new files written in
/// any order, the old ones renamed in any order, and the last step half done.
#[test]
fn a_swap_is_completed_or_forgotten() {
    let subject = Subject::new();
    for stop in [Stop::Killed, Stop::Clean] {
        let source = subject.dir(stop).join("topic-0");
        let read = |base: i64, kind: &str| fs::read(source.join(format!("{base:020}.{kind}"))).unwrap_or_default();
        let merged = [read(BASES[0], "log"), read(BASES[1], "log")].concat();
        let new_files = ["log", "index", "timeindex"];
        // How many of the new files are `.swap` and no longer `.cleaned`.
        for swapped in 0..=new_files.len() {
            // How many of the old files are `.deleted` (only once all new ones are `.swap`), and how many of the new are in place.
            let old: Vec<String> = BASES[..2]
                .iter()
                .flat_map(|base| ["log", "index", "timeindex"].map(|kind| format!("{base:020}.{kind}")))
                .collect();
            let steps = if swapped == new_files.len() { old.len() + new_files.len() } else { 0 };
            for step in 0..=steps {
                let work = subject.copy(stop);
                let topic = work.join("topic-0");
                for (at, kind) in new_files.iter().enumerate() {
                    let suffix = if at < swapped { "swap" } else { "cleaned" };
                    let content = if *kind == "log" { merged.clone() } else { Vec::new() };
                    fs::write(topic.join(format!("{:020}.{kind}.{suffix}", 0)), content).unwrap();
                }
                for name in old.iter().take(step) {
                    fs::rename(topic.join(name), topic.join(format!("{name}.deleted"))).unwrap();
                }
                for kind in new_files.iter().take(step.saturating_sub(old.len())) {
                    let name = format!("{:020}.{kind}", 0);
                    fs::rename(topic.join(format!("{name}.swap")), topic.join(name)).unwrap();
                }
                let case = format!("{swapped} files are .swap, step {step}, {stop:?}");
                // Killed at once and started again, the start finds the same.
                let again = work.with_file_name("again");
                let _ = fs::remove_dir_all(&again);
                let (manager, log, found) = open_and_check(&subject, &work, &case);
                copy_dir(&work, &again);
                assert!(found == subject.batches("topic"), "{case}: {} batches", found.len());
                assert_eq!(log.segment_count(), if swapped == new_files.len() { 2 } else { 3 }, "{case}");
                assert_tidy(&work, &case);
                goes_on(&manager, &log, &work, &case);
                let (_manager, _log, found) = open_and_check(&subject, &again, &case);
                assert!(found == subject.batches("topic"), "{case}, once more");
            }
        }
    }
}

/// A result of compaction that is not whole is never taken for what it replaces.
#[test]
fn swaps_beside_cleaned_files_do_not_count() {
    let subject = Subject::new();
    for (swap, cleaned) in [(0, 0), (BASES[1], 0), (BASES[1], BASES[1]), (BASES[2], BASES[1])] {
        let work = subject.copy(Stop::Clean);
        let topic = work.join("topic-0");
        fs::write(topic.join(format!("{swap:020}.log.swap")), b"").unwrap();
        fs::write(topic.join(format!("{cleaned:020}.log.cleaned")), b"").unwrap();
        let case = format!("swap at {swap}, cleaned at {cleaned}");
        let (manager, log, found) = open_and_check(&subject, &work, &case);
        assert!(found == subject.batches("topic"), "{case}");
        assert_tidy(&work, &case);
        goes_on(&manager, &log, &work, &case);
    }
}

/// Directories that wait for removal, moves and strays do not become partitions; anything else is refused by name, as in Apache Kafka.
#[test]
fn directories_by_their_names() {
    let subject = Subject::new();
    let id = "0123456789abcdef0123456789abcdef";
    for (name, is_taken) in [
        (format!("topic-1.{id}-delete"), true),
        (format!("topic-0.{id}-stray"), true),
        (format!("{}-0.{id}-delete", "x".repeat(200)), true),
        ("remote-log-index-cache".to_string(), true),
        ("nothing".to_string(), false),
        (format!("topic-0.{id}-other"), false),
        ("topic-".to_string(), false),
        ("-0".to_string(), false),
    ] {
        let work = subject.copy(Stop::Clean);
        copy_dir(&work.join("topic-0"), &work.join(&name));
        match try_open(&work) {
            Ok(manager) => {
                assert!(is_taken, "{name} is taken");
                assert_eq!(manager.all().len(), 4, "{name}");
                assert_eq!(manager.log(&partition("topic")).unwrap().log_end_offset(), END, "{name}");
            }
            Err(error) => {
                assert!(!is_taken && error.to_string().contains(&name), "{name}: {error}");
                // Refused for its looks, it is still the clean directory that it was.
                assert!(work.join(".kafka_cleanshutdown").exists(), "{name}");
            }
        }
        forget(&work);
    }
}
