//! Each kind of file, cut at every byte.

use crate::subject::{
    ABORTED, BASES, END, NEIGHBOUR_END, Stop, Subject, TRIMMED, goes_on, open_and_check, partition, said, try_open,
};
use ottla::base::LeaderEpoch;
use ottla::log::{Log, read_meta_properties};
use std::fs;
use std::path::Path;

/// Cuts `name` at every byte, after both kinds of stop, and shows what came of it.
fn cut(name: &str, stops: &[Stop], mut check: impl FnMut(&Subject, &Path, Stop, usize, usize, &str)) {
    let subject = Subject::new();
    for &stop in stops {
        let bytes = fs::read(subject.dir(stop).join(name)).unwrap();
        for len in 0..=bytes.len() {
            let work = subject.copy(stop);
            fs::write(work.join(name), &bytes[..len]).unwrap();
            check(&subject, &work, stop, len, bytes.len(), &format!("{name} cut at {len}, {stop:?}"));
        }
    }
}

const BOTH: [Stop; 2] = [Stop::Killed, Stop::Clean];

/// Everything is served, and times and aborted transactions are found.
fn assert_whole(subject: &Subject, log: &Log, found: &[(i64, Vec<u8>)], case: &str) {
    assert!(found == subject.batches("topic"), "{case}");
    assert_eq!(log.log_end_offset(), END, "{case}");
    let newest = log.max_timestamp_offset().unwrap().unwrap();
    assert_eq!(newest.offset, END - 2, "{case}");
    for time in (0..19).map(|n| newest.timestamp - n * 10) {
        assert!(log.offset_for_timestamp(time).unwrap().unwrap().timestamp >= time, "{case}");
    }
    let epochs: Vec<_> = (0..3).map(|epoch| log.end_offset_for_epoch(LeaderEpoch(epoch)).1).collect();
    assert_eq!(epochs, [16, 32, END], "{case}");
}

fn assert_aborted_is_known(log: &Log, case: &str) {
    let aborted = log.aborted_transactions(0, END).unwrap();
    assert_eq!(aborted.iter().map(|a| (a.producer_id.0, a.first_offset)).collect::<Vec<_>>(), [(ABORTED, 4)], "{case}");
}

#[test]
fn a_log_keeps_the_whole_batches_before_the_cut() {
    for base in BASES {
        let name = format!("topic-0/{base:020}.log");
        cut(&name, &BOTH, |subject, work, stop, len, of, case| {
            let (manager, log, found) = open_and_check(subject, work, case);
            let lines = said(work);
            let written = subject.batches("topic");
            let (mut position, mut kept) = (0, written.iter().take_while(|batch| batch.0 < base).count());
            for batch in &written[kept..] {
                position += size_of(batch);
                if position > len || batch.0 >= BASES.iter().copied().find(|next| *next > base).unwrap_or(i64::MAX) {
                    break;
                }
                kept += 1;
            }
            assert!(found.starts_with(&written[..kept]), "{case}");
            if len == of {
                assert!(found == written, "{case}");
            } else if (stop == Stop::Killed || base == BASES[2]) && !ends_of_batches(&written, base).contains(&len) {
                assert!(found.len() == kept, "{case}: {} batches", found.len());
                assert!(lines.contains(&format!("{base:020}.log")) && lines.contains("WARN"), "{case}: {lines}");
                assert!(lines.contains(&format!("next_offset={}", log.log_end_offset())), "{case}: {lines}");
            }
            if stop == Stop::Killed && len % 7 == 0 {
                goes_on(&manager, &log, work, case);
            }
        });
    }
}

/// In the file; the leader's epoch is left out of what is compared.
fn size_of(batch: &(i64, Vec<u8>)) -> usize {
    batch.1.len() + 4
}

/// Positions in the segment that begins at `base` where a batch ends, and 0.
fn ends_of_batches(written: &[(i64, Vec<u8>)], base: i64) -> Vec<usize> {
    let next = BASES.iter().copied().find(|next| *next > base).unwrap_or(i64::MAX);
    let mut ends = vec![0];
    for batch in written.iter().filter(|batch| (base..next).contains(&batch.0)) {
        ends.push(ends[ends.len() - 1] + size_of(batch));
    }
    ends
}

#[test]
fn indexes_give_the_same_answers() {
    for base in BASES {
        for kind in ["index", "timeindex"] {
            let name = format!("topic-0/{base:020}.{kind}");
            cut(&name, &BOTH, |subject, work, _, len, _, case| {
                let (manager, log, found) = open_and_check(subject, work, case);
                assert_whole(subject, &log, &found, case);
                assert_aborted_is_known(&log, case);
                if len % 7 == 0 {
                    goes_on(&manager, &log, work, case);
                }
            });
        }
    }
}

/// After a kill the transactions are read from the log. After a clean stop whole entries that are gone cannot be missed (Apache Kafka
/// takes the file as it is, too); half of one is.
#[test]
fn a_transaction_index_is_read_again() {
    cut("topic-0/00000000000000000000.txnindex", &BOTH, |subject, work, stop, len, _, case| {
        let (manager, log, found) = open_and_check(subject, work, case);
        assert_whole(subject, &log, &found, case);
        if stop == Stop::Killed || len > 0 {
            assert_aborted_is_known(&log, case);
        }
        goes_on(&manager, &log, work, case);
    });
}

#[test]
fn snapshots_are_replaced_by_older_ones_and_the_log() {
    for offset in [BASES[1], BASES[2], END] {
        let stops: &[Stop] = if offset == END { &[Stop::Clean] } else { &BOTH };
        let name = format!("topic-0/{offset:020}.snapshot");
        cut(&name, stops, |subject, work, _, len, of, case| {
            let (manager, log, found) = open_and_check(subject, work, case);
            assert_whole(subject, &log, &found, case);
            let producers: Vec<_> = log.active_producers().iter().map(|entry| entry.id.0).collect();
            assert!(producers.contains(&77) && producers.contains(&ABORTED), "{case}: {producers:?}");
            if offset == END && len < of {
                let lines = said(work);
                assert!(lines.contains(&format!("{offset:020}.snapshot")), "{case}: {lines}");
            }
            if len % 5 == 0 {
                goes_on(&manager, &log, work, case);
            }
        });
    }
}

#[test]
fn leader_epochs_are_read_from_the_log_again() {
    cut("topic-0/leader-epoch-checkpoint", &BOTH, |subject, work, _, len, of, case| {
        let (manager, log, found) = open_and_check(subject, work, case);
        assert_whole(subject, &log, &found, case);
        assert_aborted_is_known(&log, case);
        let is_named = said(work).contains("leader-epoch-checkpoint");
        assert_eq!(is_named, len < of, "{case}");
        goes_on(&manager, &log, work, case);
    });
}

#[test]
fn checkpoints_cost_time_and_no_record() {
    for name in ["recovery-point-offset-checkpoint", "replication-offset-checkpoint", "cleaner-offset-checkpoint"] {
        let stops: &[Stop] = if name.starts_with("recovery") { &[Stop::Clean] } else { &BOTH };
        cut(name, stops, |subject, work, _, len, of, case| {
            let (manager, log, found) = open_and_check(subject, work, case);
            assert_whole(subject, &log, &found, case);
            assert!(log.high_watermark() <= END && (log.high_watermark() == END || name.starts_with("repl")), "{case}");
            assert_eq!(said(work).contains(name), 0 < len && len < of, "{case}");
            if len % 5 == 0 {
                goes_on(&manager, &log, work, case);
            }
        });
    }
}

/// Without it the records below the log start are there again: nothing else remembers that they were deleted. A smaller number
/// than the one that was there is never taken for it.
#[test]
fn a_log_start_is_what_it_was_or_the_first_offset() {
    cut("log-start-offset-checkpoint", &BOTH, |subject, work, _, len, of, case| {
        let (manager, log, found) = open_and_check(subject, work, case);
        assert_whole(subject, &log, &found, case);
        let trimmed = manager.log(&partition("trimmed")).unwrap();
        assert_eq!(trimmed.log_start_offset(), if len == of { TRIMMED.0 } else { 0 }, "{case}");
        assert_eq!(trimmed.log_end_offset(), TRIMMED.1, "{case}");
        assert_eq!(said(work).contains("log-start-offset-checkpoint"), 0 < len && len < of, "{case}");
    });
}

/// The topic id is not guessed: that partition is refused, and only it; a clean stop of a killed directory without it is none.
#[test]
fn a_topic_id_is_not_guessed() {
    cut("topic-0/partition.metadata", &BOTH, |subject, work, stop, len, of, case| {
        if len == of {
            open_and_check(subject, work, case);
            return;
        }
        let manager = try_open(work).unwrap();
        assert!(manager.log(&partition("topic")).is_none(), "{case}");
        assert_eq!(manager.log(&partition("neighbour")).unwrap().log_end_offset(), NEIGHBOUR_END, "{case}");
        let error = manager.create(&partition("topic"), None, crate::subject::config("topic")).err().unwrap();
        assert!(error.to_string().contains("partition.metadata"), "{case}: {error}");
        let lines = said(work);
        assert!(lines.contains("ERROR") && lines.contains("partition.metadata"), "{case}: {lines}");
        manager.shutdown();
        drop(manager);
        assert_eq!(work.join(".kafka_cleanshutdown").exists(), stop == Stop::Clean, "{case}");
        // Put right by hand, it is as it was.
        let name = "topic-0/partition.metadata";
        fs::copy(subject.dir(stop).join(name), work.join(name)).unwrap();
        let (_manager, log, found) = open_and_check(subject, work, case);
        assert_whole(subject, &log, &found, case);
    });
}

#[test]
fn the_marker_counts_by_being_there() {
    cut(".kafka_cleanshutdown", &[Stop::Clean], |subject, work, _, _, _, case| {
        let (manager, log, found) = open_and_check(subject, work, case);
        assert_whole(subject, &log, &found, case);
        assert!(!work.join(".kafka_cleanshutdown").exists(), "{case}");
        assert_eq!(log.recovery_point(), END, "{case}");
        goes_on(&manager, &log, work, case);
    });
}

/// Ids are read whole or not at all. A file without its end is refused, by name, rather than read as another broker's.
#[test]
fn meta_properties_are_whole_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.properties");
    let texts = [
        "#\nbroker.id=1042\ncluster.id=5nZ-qxTnT2qGFGuqMKEyPA\ndirectory.id=MHTEBYiBVbf5dHdxnhAxGA\nversion=0\n",
        "#\n#Sat Nov 21 22:00:00 UTC 2026\ncluster.id=5nZ-qxTnT2qGFGuqMKEyPA\nversion=0\nbroker.id=1042\n",
    ];
    for text in texts {
        fs::write(&path, text).unwrap();
        let whole = read_meta_properties(folder.path()).unwrap().unwrap();
        for len in 0..text.len() {
            fs::write(&path, &text[..len]).unwrap();
            match read_meta_properties(folder.path()) {
                Err(error) => assert!(error.to_string().contains("meta.properties"), "{error}"),
                Ok(found) => {
                    let found = found.unwrap();
                    let is_part = |part: &Option<_>, all| part.is_none() || *part == all;
                    assert!(is_part(&found.broker_id, whole.broker_id), "cut at {len}: {found:?}");
                    assert!(
                        found.cluster_id.is_none() || found.cluster_id == whole.cluster_id,
                        "cut at {len}: {found:?}"
                    );
                }
            }
        }
    }
}
