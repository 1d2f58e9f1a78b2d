//! Offsets: who may commit, what is kept, what goes.

use crate::harness::{Harness, Joining, config};
use ottla::base::ErrorCode;
use ottla::group::message::Event;
use ottla::group::records::{CoordinatorRecord, OffsetValue};
use std::sync::Arc;

const DAY_MS: i64 = 24 * 3600 * 1000;

fn tombstones(h: &Harness) -> Vec<String> {
    let gone = h.log.iter().filter_map(|(_, record)| match record {
        CoordinatorRecord::Offset { topic, partition, value: None, .. } => Some(format!("{topic}-{partition}")),
        CoordinatorRecord::Group { value: None, .. } => Some("group".to_string()),
        _ => None,
    });
    gone.collect()
}

#[test]
fn who_may_commit_when() {
    // (state, member, generation) -> code
    let cases = [
        ("no group", "", -1, ErrorCode::None),
        ("no group", "m1", 3, ErrorCode::IllegalGeneration),
        ("empty", "", -1, ErrorCode::None),
        ("empty", "m1", 1, ErrorCode::UnknownMemberId),
        ("stable", "", -1, ErrorCode::UnknownMemberId),
        ("stable", "m1", 1, ErrorCode::None),
        ("stable", "m1", 2, ErrorCode::IllegalGeneration),
        ("stable", "m1", -1, ErrorCode::IllegalGeneration),
        ("stable", "m9", 1, ErrorCode::UnknownMemberId),
        ("preparing", "m1", 1, ErrorCode::None),
        ("completing", "m1", 1, ErrorCode::RebalanceInProgress),
    ];
    for (state, member, generation, expected) in cases {
        let mut h = Harness::new();
        match state {
            "empty" => {
                h.stable(&[Joining::new()]);
                h.leave(&[("m1", None)]);
            }
            "stable" => {
                h.stable(&[Joining::new()]);
            }
            "preparing" => {
                h.stable(&[Joining::new()]);
                h.send_join(Joining::new());
            }
            "completing" => {
                h.send_join(Joining::new());
                h.advance(3_000);
            }
            _ => {}
        }
        assert_eq!(h.commit(member, generation, &[("t", 0, 5)]), [expected], "{state} {member:?} {generation}");
        assert_eq!(h.offsets().is_empty(), expected.is_error(), "{state} {member:?} {generation}");
    }
}

#[test]
fn a_commit_counts_when_it_is_in_the_log() {
    let mut h = Harness::new();
    h.hold_appends = true;
    let commit = h.send_commit("", -1, &[("t", 0, 5), ("t", 1, 6)]);
    assert!(h.is_held(commit) && h.offsets().is_empty());
    h.complete(Ok(()));
    assert_eq!(h.committed(commit), [ErrorCode::None, ErrorCode::None]);
    assert_eq!(h.offsets().len(), 2);
    for (append, seen) in [
        (ErrorCode::NotEnoughReplicasAfterAppend, ErrorCode::CoordinatorNotAvailable),
        (ErrorCode::KafkaStorageError, ErrorCode::NotCoordinator),
        (ErrorCode::MessageTooLarge, ErrorCode::InvalidCommitOffsetSize),
        (ErrorCode::RequestTimedOut, ErrorCode::RequestTimedOut),
    ] {
        let commit = h.send_commit("", -1, &[("t", 0, 99)]);
        h.complete(Err(append));
        assert_eq!(h.committed(commit), [seen]);
    }
    assert_eq!(h.offsets()[&("t".to_string(), 0)], 5);
}

#[test]
fn metadata_that_is_too_long_is_refused_alone() {
    let mut h = Harness::new();
    let value = |h: &Harness, metadata: &str| OffsetValue { metadata: metadata.into(), ..h.value(5) };
    let (long, short) = (value(&h, "seventeen letters"), value(&h, "sixteen letters!"));
    let commit = h.send_commit_values("", -1, vec![("t", 0, long.clone()), ("t", 1, short)]);
    assert_eq!(h.committed(commit), [ErrorCode::OffsetMetadataTooLarge, ErrorCode::None]);
    let commit = h.send_commit_values("", -1, vec![("t", 0, long)]);
    assert_eq!(h.committed(commit), [ErrorCode::OffsetMetadataTooLarge]);
    assert_eq!(h.offsets().len(), 1);
    // Sixteen UTF-16 units, whatever they take in the log.
    let wide = value(&h, "größe größe 😀 é");
    let commit = h.send_commit_values("", -1, vec![("t", 2, wide)]);
    assert_eq!(h.committed(commit), [ErrorCode::None]);
}

#[test]
fn a_deleted_group_is_gone_from_the_log_too() {
    let mut h = Harness::new();
    assert_eq!(h.delete_group(), ErrorCode::GroupIdNotFound);
    h.stable(&[Joining::new()]);
    assert_eq!(h.commit("m1", 1, &[("t", 0, 5), ("u", 3, 6)]), [ErrorCode::None; 2]);
    assert_eq!(h.delete_group(), ErrorCode::NonEmptyGroup);
    h.leave(&[("m1", None)]);
    assert_eq!(h.delete_group(), ErrorCode::None);
    let mut gone = tombstones(&h);
    gone.sort();
    assert_eq!(gone, ["group", "t-0", "u-3"]);
    assert!(h.shard.group("g").is_none());
    h.reload();
    assert!(h.shard.group("g").is_none());
    assert_eq!(h.delete_group(), ErrorCode::GroupIdNotFound);
}

#[test]
fn a_group_that_is_being_deleted_takes_nobody_and_comes_back_if_that_fails() {
    let mut h = Harness::new();
    h.stable(&[Joining::new()]);
    h.commit("m1", 1, &[("t", 0, 5)]);
    h.leave(&[("m1", None)]);
    h.hold_appends = true;
    h.event(Event::DeleteGroup(ottla::group::message::ReplyToken(999), "g".into()));
    let join = h.send_join(Joining::new());
    assert_eq!(h.joined(join).error, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(h.commit("", -1, &[("t", 0, 6)]), [ErrorCode::CoordinatorNotAvailable]);
    assert_eq!(h.heartbeat("m1", 1), ErrorCode::CoordinatorNotAvailable);
    h.complete(Err(ErrorCode::NotEnoughReplicas));
    assert_eq!((h.state(), h.offsets().len()), ("Empty", 1));
}

#[test]
fn a_large_group_is_deleted_in_pieces() {
    let mut h = Harness::new();
    for partition in 0..3_000 {
        h.commit("", -1, &[("a-topic-with-a-name-of-some-length", partition, 1)]);
    }
    let before = h.log.len();
    assert_eq!(h.delete_group(), ErrorCode::None);
    assert_eq!(h.log.len(), before + 3_000);
    assert!(h.shard.group("g").is_none());
}

#[test]
fn offsets_of_subscribed_topics_cannot_be_deleted() {
    let mut h = Harness::new();
    assert_eq!(h.delete_offsets(&[("t", 0)]).0, ErrorCode::GroupIdNotFound);
    h.stable(&[Joining::new()]);
    h.commit("m1", 1, &[("t", 0, 5), ("u", 0, 6)]);
    let (error, codes) = h.delete_offsets(&[("t", 0), ("u", 0), ("u", 9)]);
    assert_eq!(
        (error, codes),
        (ErrorCode::None, vec![ErrorCode::GroupSubscribedToTopic, ErrorCode::None, ErrorCode::None])
    );
    assert_eq!(tombstones(&h), ["u-0"]);
    h.leave(&[("m1", None)]);
    // An empty group ends with its last offset.
    assert_eq!(h.delete_offsets(&[("t", 0), ("t", 0)]), (ErrorCode::None, vec![ErrorCode::None; 2]));
    assert_eq!(tombstones(&h), ["u-0", "t-0", "group"]);
    assert!(h.shard.group("g").is_none());
    let mut h = Harness::new();
    h.stable(&[Joining { protocol_type: "connect".into(), ..Joining::new() }]);
    assert_eq!(h.delete_offsets(&[("t", 0)]).0, ErrorCode::NonEmptyGroup);
}

#[test]
fn offsets_of_an_empty_group_expire_since_it_became_empty() {
    let mut h = Harness::new();
    h.stable(&[Joining::new()]);
    h.commit("m1", 1, &[("t", 0, 5)]);
    h.advance(5_000);
    h.leave(&[("m1", None)]);
    h.advance(7 * DAY_MS - 700_000);
    assert_eq!(h.offsets().len(), 1);
    h.advance(1_400_000);
    assert_eq!(tombstones(&h), ["t-0", "group"]);
    assert!(h.shard.group("g").is_none());
}

#[test]
fn a_stable_group_keeps_what_it_is_subscribed_to() {
    let mut h = Harness::new();
    h.stable(&[Joining { session_ms: 1_800_000, ..Joining::new() }]);
    h.commit("m1", 1, &[("t", 0, 5), ("old", 0, 6)]);
    let mut left = 7 * DAY_MS + 600_000;
    while left > 0 {
        h.advance(1_000_000);
        left -= 1_000_000;
        assert_eq!(h.heartbeat("m1", 1), ErrorCode::None);
    }
    assert_eq!(tombstones(&h), ["old-0"]);
}

#[test]
fn simple_consumers_lose_what_they_do_not_commit_again() {
    let mut h = Harness::new();
    let short = OffsetValue { expire_timestamp: Some(h.now_ms + DAY_MS), ..h.value(9) };
    let commit = h.send_commit_values("", -1, vec![("short", 0, short)]);
    h.committed(commit);
    h.commit("", -1, &[("t", 0, 5), ("t", 1, 5)]);
    h.advance(DAY_MS + 600_000);
    assert_eq!(tombstones(&h), ["short-0"]);
    h.commit("", -1, &[("t", 1, 6)]);
    h.advance(6 * DAY_MS);
    assert_eq!(tombstones(&h), ["short-0", "t-0"]);
    h.advance(DAY_MS + 600_000);
    // It never had a record of its own, so there is none to remove.
    assert_eq!(tombstones(&h), ["short-0", "t-0", "t-1"]);
    assert!(h.shard.group("g").is_none());
}

#[test]
fn what_is_being_committed_does_not_expire() {
    let mut h = Harness::new();
    h.commit("", -1, &[("t", 0, 5)]);
    h.advance(7 * DAY_MS - 600_000);
    h.hold_appends = true;
    let commit = h.send_commit("", -1, &[("t", 0, 6)]);
    h.advance(1_200_000);
    h.complete(Ok(()));
    h.committed(commit);
    assert!(tombstones(&h).is_empty());
    assert_eq!(h.offsets()[&("t".to_string(), 0)], 6);
}

#[test]
fn offsets_of_deleted_topics_go() {
    let mut h = Harness::new();
    h.stable(&[Joining::new()]);
    h.commit("m1", 1, &[("t", 0, 5), ("u", 0, 6), ("u", 1, 7)]);
    h.event(Event::PartitionsDeleted(Arc::new(vec![("u".into(), 0), ("u".into(), 1), ("v".into(), 0)])));
    assert_eq!(tombstones(&h), ["u-0", "u-1"]);
    assert_eq!(h.offsets().len(), 1);
    h.reload();
    assert_eq!(h.offsets().len(), 1);
}

#[test]
fn an_empty_group_without_offsets_ends_at_the_next_sweep() {
    let mut h = Harness::with(ottla::group::GroupConfig { offsets_retention_check_interval_ms: 1_000, ..config() });
    h.stable(&[Joining::new()]);
    h.leave(&[("m1", None)]);
    h.advance(1_000);
    assert_eq!(tombstones(&h), ["group"]);
    assert!(h.shard.group("g").is_none());
}
