//! More than two hundred ways to harm a file, and what has to come of each.

use crate::subject::{
    BASES, Batch, COMPACTED_END, END, Stop, Subject, goes_on, open_and_check, partition, said, served, try_open,
};
use ottla::log::LogError;
use std::fs;
use std::path::Path;

type Harm = (String, Box<dyn Fn(&[u8]) -> Vec<u8>>);

fn harm(name: impl Into<String>, change: impl Fn(&[u8]) -> Vec<u8> + 'static) -> Harm {
    (name.into(), Box::new(change))
}

/// Numbers that look random and are the same every time.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// What can be done to the bytes of any file.
fn harms() -> Vec<Harm> {
    let mut all = vec![
        harm("emptied", |_| Vec::new()),
        harm("zeroed", |bytes| vec![0; bytes.len()]),
        harm("all ones", |bytes| vec![0xff; bytes.len()]),
        harm("one byte", |_| vec![0]),
        harm("doubled", |bytes| bytes.repeat(2)),
        harm("a block of zeros behind it", |bytes| [bytes, &[0; 4096]].concat()),
        harm("a block of ones behind it", |bytes| [bytes, &[0xff; 512]].concat()),
        harm("a second half of zeros", |bytes| {
            let half = bytes.len() / 2;
            [&bytes[..half], &vec![0; bytes.len() - half]].concat()
        }),
        harm("a first half of zeros", |bytes| {
            let half = bytes.len() / 2;
            [&vec![0; half], &bytes[half..]].concat()
        }),
        harm("without its first byte", |bytes| bytes.get(1..).unwrap_or_default().to_vec()),
        harm("reversed", |bytes| bytes.iter().rev().copied().collect()),
    ];
    for seed in 1..=4u64 {
        all.push(harm(format!("noise {seed}"), move |bytes| noise(seed, bytes.len())));
        all.push(harm(format!("noise {seed} behind it"), move |bytes| [bytes, &noise(seed, 300)].concat()));
        // A bit somewhere.
        all.push(harm(format!("flip {seed}"), move |bytes| {
            let mut bytes = bytes.to_vec();
            if let Some(at) = (seed as usize * 7919).checked_rem(bytes.len()) {
                bytes[at] ^= 1 << (seed % 8);
            }
            bytes
        }));
    }
    all
}

/// Does each harm to each file, and counts.
fn each(names: &[String], stops: &[Stop], mut check: impl FnMut(&Subject, &Path, Stop, &str, &str)) -> usize {
    let subject = Subject::new();
    let mut count = 0;
    for name in names {
        for (what, change) in harms() {
            for &stop in stops {
                let Ok(bytes) = fs::read(subject.dir(stop).join(name)) else { continue };
                let harmed = change(&bytes);
                if harmed == bytes {
                    continue;
                }
                let work = subject.copy(stop);
                fs::write(work.join(name), harmed).unwrap();
                check(&subject, &work, stop, name, &format!("{name}: {what}, {stop:?}"));
                count += 1;
            }
        }
    }
    count
}

const BOTH: [Stop; 2] = [Stop::Killed, Stop::Clean];

fn in_topic(offsets: &[i64], kinds: &[&str]) -> Vec<String> {
    let name = |offset: &i64, kind: &&str| format!("topic-0/{offset:020}.{kind}");
    offsets.iter().flat_map(|offset| kinds.iter().map(move |kind| name(offset, kind))).collect()
}

/// After a kill everything is checked: the log ends before the first batch that is not sound, and says so.
#[test]
fn a_log_ends_before_its_first_bad_batch() {
    let count = each(&in_topic(&BASES, &["log"]), &[Stop::Killed], |subject, work, _, name, case| {
        let (manager, log, found) = open_and_check(subject, work, case);
        let written = subject.batches("topic");
        // A segment without a byte has no bad batch: the gap is named, and what follows is kept.
        if !case.contains("emptied") {
            let bytes = |batches: &[Batch]| batches.iter().map(|batch| batch.1[12..].to_vec()).collect::<Vec<_>>();
            assert!(bytes(&written).starts_with(&bytes(&found)), "{case}");
        }
        let lines = said(work);
        if found != written || case.contains("behind it") {
            let file = name.strip_prefix("topic-0/").unwrap();
            let is_last = name.contains(&format!("{:020}", BASES[2])) && case.contains("emptied");
            assert!(is_last || lines.contains(file), "{case}: {lines}");
            assert!(lines.contains("position=") || case.contains("emptied"), "{case}: {lines}");
        }
        goes_on(&manager, &log, work, case);
    });
    assert!(count >= 60, "{count} cases");
}

/// After a clean stop a log is taken as it is, as in Apache Kafka; but its end is looked at, and no lookup is led astray.
#[test]
fn a_log_that_changed_after_a_clean_stop_serves_what_was_written_or_an_error() {
    let count = each(&in_topic(&BASES, &["log"]), &[Stop::Clean], |subject, work, _, name, case| {
        let manager = try_open(work).unwrap_or_else(|error| panic!("{case}: {error}"));
        let log = manager.log(&partition("topic")).unwrap();
        let mut offset = 0;
        // Readers see batches, or an error that names the file; never a panic, and never a walk without end.
        while offset < log.log_end_offset() {
            match log.read_bytes(offset, 300, i64::MAX, true) {
                Ok(bytes) if bytes.is_empty() => break,
                Ok(bytes) => {
                    let next =
                        ottla::record::batches(&bytes).map_while(Result::ok).last().map(|batch| batch.next_offset());
                    let Some(next) = next.filter(|next| *next > offset) else { break };
                    offset = next;
                }
                Err(LogError::Corrupt { path, .. }) => {
                    assert!(path.starts_with(work.join("topic-0")), "{case}: {}", path.display());
                    break;
                }
                Err(error) => panic!("{case}: {error}"),
            }
        }
        if name.contains(&format!("{:020}", BASES[2])) && (case.contains("behind it") || case.contains("emptied")) {
            assert!(served(&log).0 == before(subject, &case.contains("emptied")), "{case}");
        }
        assert!(served(&manager.log(&partition("neighbour")).unwrap()).0 == subject.batches("neighbour"), "{case}");
    });
    assert!(count >= 60, "{count} cases");
}

/// All batches, or those of the first two segments.
fn before(subject: &Subject, is_emptied: &bool) -> Vec<Batch> {
    let end = if *is_emptied { BASES[2] } else { i64::MAX };
    subject.batches("topic").into_iter().filter(|batch| batch.0 < end).collect()
}

#[test]
fn harmed_indexes_and_snapshots_give_the_same_answers() {
    let mut names = in_topic(&BASES, &["index", "timeindex"]);
    names.extend(in_topic(&[BASES[1], BASES[2], END], &["snapshot"]));
    let count = each(&names, &BOTH, |subject, work, _, name, case| {
        let (manager, log, found) = open_and_check(subject, work, case);
        assert!(found == subject.batches("topic"), "{case}");
        for n in 0..END {
            let bytes = log.read_bytes(n, 1, i64::MAX, true).unwrap_or_else(|error| panic!("{case}: {error}"));
            let batch = ottla::record::batches(&bytes).next().unwrap().unwrap();
            assert!((batch.base_offset()..batch.next_offset()).contains(&n), "{case}: offset {n}");
        }
        if name.ends_with("snapshot") {
            let producers: Vec<_> = log.active_producers().iter().map(|entry| entry.id.0).collect();
            assert!(producers.contains(&77), "{case}: {producers:?}");
        }
        if case.contains("noise") || case.contains("emptied") {
            goes_on(&manager, &log, work, case);
        }
    });
    assert!(count >= 300, "{count} cases");
}

#[test]
fn harmed_side_files_cost_time_and_no_record() {
    let names = [
        "recovery-point-offset-checkpoint",
        "replication-offset-checkpoint",
        "cleaner-offset-checkpoint",
        "topic-0/leader-epoch-checkpoint",
        "topic-0/00000000000000000000.txnindex",
        ".kafka_cleanshutdown",
    ];
    let count = each(&names.map(String::from), &BOTH, |subject, work, _, _, case| {
        let (manager, log, found) = open_and_check(subject, work, case);
        assert!(found == subject.batches("topic"), "{case}");
        assert!(log.high_watermark() <= END && log.recovery_point() <= END, "{case}");
        goes_on(&manager, &log, work, case);
    });
    assert!(count >= 150, "{count} cases");
}

/// Files that are sound and not where they belong, or not there at all.
#[test]
fn swapped_and_missing_files() {
    let file = |offset: i64, kind: &str| format!("topic-0/{offset:020}.{kind}");
    let mut cases: Vec<(String, Option<String>)> = Vec::new();
    for kind in ["index", "timeindex", "snapshot", "log"] {
        for (one, other) in [(0, 1), (1, 2), (0, 2)] {
            if kind != "snapshot" || one > 0 {
                cases.push((file(BASES[one], kind), Some(file(BASES[other], kind))));
            }
        }
    }
    for (kind, offsets) in [("index", &BASES[..]), ("timeindex", &BASES), ("log", &BASES), ("snapshot", &[12, 26, 40])]
    {
        cases.extend(offsets.iter().map(|offset| (file(*offset, kind), None)));
    }
    for name in ["replication-offset-checkpoint", "cleaner-offset-checkpoint", "topic-0/leader-epoch-checkpoint"] {
        cases.push((name.into(), None));
        cases.push((name.into(), Some("log-start-offset-checkpoint".into())));
    }
    let subject = Subject::new();
    for (one, other) in cases {
        for stop in BOTH {
            let work = subject.copy(stop);
            let case = format!("{one} and {other:?}, {stop:?}");
            let read = |name: &str| fs::read(work.join(name)).ok();
            match &other {
                Some(other) => {
                    let (a, b) = (read(&one), read(other));
                    if !other.ends_with("checkpoint") {
                        a.iter().for_each(|bytes| fs::write(work.join(other), bytes).unwrap());
                    }
                    b.iter().for_each(|bytes| fs::write(work.join(&one), bytes).unwrap());
                }
                None => drop(fs::remove_file(work.join(&one))),
            }
            let is_log = one.ends_with(".log");
            if is_log && stop == Stop::Clean {
                // Taken as they are; the neighbour serves.
                let manager = try_open(&work).unwrap_or_else(|error| panic!("{case}: {error}"));
                let neighbour = manager.log(&partition("neighbour")).unwrap();
                assert!(served(&neighbour).0 == subject.batches("neighbour"), "{case}");
                continue;
            }
            let (manager, log, found) = open_and_check(&subject, &work, &case);
            if !is_log {
                assert!(found == subject.batches("topic"), "{case}");
            }
            goes_on(&manager, &log, &work, &case);
        }
    }
}

/// Offsets that other brokers' checkpoints, or old ones, would say.
#[test]
fn offsets_that_lie_outside_the_log() {
    let subject = Subject::new();
    let names = ["recovery-point-offset-checkpoint", "replication-offset-checkpoint", "cleaner-offset-checkpoint"];
    for name in names {
        for offset in ["-1", "-9223372036854775808", "1", "39", "41", "9223372036854775807"] {
            for stop in BOTH {
                let work = subject.copy(stop);
                let text = format!("0\n3\ntopic 0 {offset}\ncompacted 0 {offset}\nunknown 7 {offset}\n");
                fs::write(work.join(name), text).unwrap();
                let case = format!("{name} says {offset}, {stop:?}");
                let (manager, log, found) = open_and_check(&subject, &work, &case);
                assert!(found == subject.batches("topic"), "{case}");
                assert!((0..=END).contains(&log.high_watermark()), "{case}");
                while manager.clean_dirtiest(ottla::base::time::wall_ms()).is_some() {}
                assert_eq!(manager.log(&partition("compacted")).unwrap().log_end_offset(), COMPACTED_END, "{case}");
                goes_on(&manager, &log, &work, &case);
            }
        }
    }
    // A log start beyond the end means that everything below it was deleted.
    for offset in [41, 1 << 40] {
        for stop in BOTH {
            let work = subject.copy(stop);
            fs::write(work.join("log-start-offset-checkpoint"), format!("0\n1\ntopic 0 {offset}\n")).unwrap();
            let case = format!("log start {offset}, {stop:?}");
            let manager = try_open(&work).unwrap_or_else(|error| panic!("{case}: {error}"));
            let log = manager.log(&partition("topic")).unwrap();
            assert_eq!((log.log_start_offset(), log.log_end_offset()), (offset, offset), "{case}");
            let lines = said(&work);
            assert!(lines.contains("topic-0") && lines.contains(&format!("start={offset}")), "{case}: {lines}");
        }
    }
}
