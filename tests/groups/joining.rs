//! Dynamic members: joining, rebalancing, leaving, vanishing.

use crate::harness::{Harness, Joining, REBALANCE_MS, SESSION_MS, config, subscription};
use ottla::base::ErrorCode;

#[test]
fn a_consumer_gets_an_id_a_generation_and_an_assignment() {
    let mut h = Harness::new();
    let first = h.send_join(Joining { require_known_id: true, ..Joining::new() });
    let refused = h.joined(first);
    assert_eq!((refused.error, &*refused.member_id), (ErrorCode::MemberIdRequired, "m1"));
    let join = h.send_join(Joining { require_known_id: true, ..Joining::id("m1") });
    h.advance(2_999);
    assert!(h.is_held(join));
    h.advance(1);
    let joined = h.joined(join);
    assert_eq!((joined.error, joined.generation, &*joined.leader), (ErrorCode::None, 1, "m1"));
    assert_eq!(joined.protocol.as_deref(), Some("range"));
    assert_eq!(joined.members.len(), 1);
    h.hold_appends = true;
    let sync = h.send_sync("m1", 1, &[("m1", "all")]);
    assert!(h.is_held(sync), "the assignment is not in the log yet");
    assert_eq!(h.heartbeat("m1", 1), ErrorCode::None);
    h.complete(Ok(()));
    assert_eq!(h.synced(sync).assignment, "all");
    assert_eq!(h.state(), "Stable");
    assert_eq!(h.heartbeat("m1", 1), ErrorCode::None);
    assert_eq!(h.heartbeat("m1", 0), ErrorCode::IllegalGeneration);
    assert_eq!(h.heartbeat("m2", 1), ErrorCode::UnknownMemberId);
}

#[test]
fn the_initial_delay_grows_with_every_wave_up_to_the_rebalance_timeout() {
    let mut h = Harness::new();
    let mut joins = vec![h.send_join(Joining { rebalance_ms: 8_000, ..Joining::new() })];
    for _ in 0..2 {
        h.advance(2_000);
        joins.push(h.send_join(Joining { rebalance_ms: 8_000, ..Joining::new() }));
        h.advance(1_000);
        assert!(joins.iter().all(|join| h.is_held(*join)));
    }
    // 6 seconds have passed of at most 8.
    h.advance(1_000);
    joins.push(h.send_join(Joining { rebalance_ms: 8_000, ..Joining::new() }));
    h.advance(1_000);
    let generations: Vec<i32> = joins.iter().map(|join| h.joined(*join).generation).collect();
    assert_eq!(generations, [1, 1, 1, 1]);
}

#[test]
fn without_a_delay_the_first_join_is_answered_at_once() {
    let mut h = Harness::with(ottla::group::GroupConfig { initial_rebalance_delay_ms: 0, ..config() });
    let join = h.send_join(Joining::new());
    assert_eq!(h.joined(join).generation, 1);
}

#[test]
fn a_second_member_makes_the_first_rejoin() {
    let mut h = Harness::new();
    h.stable(&[Joining::new()]);
    let second = h.send_join(Joining::new());
    assert_eq!(h.heartbeat("m1", 1), ErrorCode::RebalanceInProgress);
    let late = h.send_sync("m1", 1, &[]);
    assert_eq!(h.synced(late).error, ErrorCode::RebalanceInProgress);
    let first = h.send_join(Joining::id("m1"));
    let (first, second) = (h.joined(first), h.joined(second));
    assert_eq!((first.generation, second.generation), (2, 2));
    assert_eq!((&*first.leader, first.members.len(), second.members.len()), ("m1", 2, 0));
    // The follower waits for the leader.
    let follower = h.send_sync("m2", 2, &[]);
    assert!(h.is_held(follower));
    let leader = h.send_sync("m1", 2, &[("m1", "x"), ("m2", "y")]);
    assert_eq!((h.synced(leader).assignment, h.synced(follower).assignment), ("x".into(), "y".into()));
    // Asking again is harmless.
    let again = h.send_sync("m2", 2, &[]);
    assert_eq!(h.synced(again).assignment, "y");
}

#[test]
fn a_member_that_does_not_rejoin_is_dropped_and_another_leads() {
    let mut h = Harness::new();
    h.stable(&[Joining { session_ms: 100_000, ..Joining::new() }]);
    let second = h.send_join(Joining::new());
    h.advance(i64::from(REBALANCE_MS) - 1);
    assert!(h.is_held(second));
    h.advance(1);
    let second = h.joined(second);
    assert_eq!((second.generation, &*second.leader, second.members.len()), (2, "m2", 1));
    assert_eq!(h.heartbeat("m1", 1), ErrorCode::UnknownMemberId);
}

#[test]
fn silence_ends_a_session_and_the_last_one_leaves_an_empty_group() {
    let mut h = Harness::new();
    h.stable(&[Joining::new(), Joining { session_ms: 30_000, ..Joining::new() }]);
    h.advance(i64::from(SESSION_MS) - 1);
    assert_eq!(h.state(), "Stable");
    h.advance(1);
    assert_eq!((h.state(), h.members()), ("PreparingRebalance", vec!["m2".to_string()]));
    assert_eq!(h.heartbeat("m2", 1), ErrorCode::RebalanceInProgress);
    h.advance(30_000);
    assert_eq!((h.state(), h.members().len()), ("Empty", 0));
    assert_eq!(h.shard.group("g").map(|group| group.generation), Some(2));
    h.reload();
    assert_eq!(h.state(), "Empty");
    assert_eq!(h.shard.group("g").map(|group| group.generation), Some(2));
}

#[test]
fn heartbeats_keep_a_member_in() {
    let mut h = Harness::new();
    let (ids, generation) = h.stable(&[Joining::new()]);
    for _ in 0..20 {
        h.advance(i64::from(SESSION_MS) - 1);
        assert_eq!(h.heartbeat(&ids[0], generation), ErrorCode::None);
    }
    // So do commits.
    for offset in 0..20 {
        h.advance(i64::from(SESSION_MS) - 1);
        assert_eq!(h.commit(&ids[0], generation, &[("t", 0, offset)]), [ErrorCode::None]);
    }
    assert_eq!(h.state(), "Stable");
}

#[test]
fn who_waits_for_a_rebalance_sends_no_heartbeats_but_a_new_member_may_be_gone() {
    let mut h = Harness::new();
    h.stable(&[Joining { rebalance_ms: 3_600_000, session_ms: 1_000_000, ..Joining::new() }]);
    let second = h.send_join(Joining::new());
    h.advance(299_999);
    assert!(h.is_held(second), "longer than its session time-out");
    h.advance(1);
    assert_eq!(h.joined(second).error, ErrorCode::UnknownMemberId);
    assert_eq!(h.members(), ["m1"]);
}

#[test]
fn rejoining_tells_the_generation_or_starts_a_rebalance() {
    struct Case {
        name: &'static str,
        who: usize,
        topics: &'static [&'static str],
        rebalances: bool,
    }
    let cases = [
        Case { name: "follower, nothing new", who: 1, topics: &["t"], rebalances: false },
        Case { name: "follower, other topics", who: 1, topics: &["t", "u"], rebalances: true },
        Case { name: "leader, nothing new", who: 0, topics: &["t"], rebalances: true },
    ];
    for case in cases {
        let mut h = Harness::new();
        let (ids, generation) = h.stable(&[Joining::new(), Joining::new()]);
        let protocols = vec![("range".to_string(), subscription(case.topics))];
        let join = h.send_join(Joining { protocols, ..Joining::id(&ids[case.who]) });
        assert_eq!(h.is_held(join), case.rebalances, "{}", case.name);
        if !case.rebalances {
            let joined = h.joined(join);
            assert_eq!((joined.error, joined.generation, joined.members.len()), (ErrorCode::None, generation, 0));
        }
    }
}

#[test]
fn a_lost_join_reply_is_repeated_before_the_sync() {
    let mut h = Harness::new();
    let first = h.send_join(Joining::new());
    h.advance(3_000);
    assert_eq!(h.joined(first).generation, 1);
    let again = h.send_join(Joining::id("m1"));
    let again = h.joined(again);
    assert_eq!((again.generation, again.members.len()), (1, 1));
    // With other metadata the generation is over.
    let changed = h.send_join(Joining::id("m1").protocols(&["roundrobin", "range"]));
    let changed = h.joined(changed);
    assert_eq!((changed.generation, changed.protocol.as_deref()), (2, Some("roundrobin")));
}

#[test]
fn members_that_do_not_sync_in_time_are_removed() {
    let mut h = Harness::new();
    let (one, two) = (h.send_join(Joining::new()), h.send_join(Joining { session_ms: 100_000, ..Joining::new() }));
    h.advance(6_000);
    assert_eq!((h.joined(one).generation, h.joined(two).generation), (1, 1));
    let sync = h.send_sync("m1", 1, &[("m1", "all")]);
    assert_eq!(h.synced(sync).error, ErrorCode::None);
    for _ in 0..7 {
        h.advance(8_500);
        assert_eq!(h.heartbeat("m1", 1), ErrorCode::None);
    }
    h.advance(500);
    assert_eq!((h.state(), h.members()), ("PreparingRebalance", vec!["m1".to_string()]));
}

#[test]
fn an_id_that_is_not_used_holds_the_rebalance_only_for_its_session() {
    let mut h = Harness::new();
    h.stable(&[Joining { session_ms: 60_000, ..Joining::new() }]);
    let pending = h.send_join(Joining { require_known_id: true, ..Joining::new() });
    assert_eq!(h.joined(pending).error, ErrorCode::MemberIdRequired);
    let first = h.send_join(Joining { session_ms: 60_000, ..Joining::id("m1") });
    assert!(h.is_held(first), "the pending member may come");
    h.advance(i64::from(SESSION_MS));
    assert_eq!(h.joined(first).generation, 2);
    let sync = h.send_sync("m1", 2, &[]);
    assert_eq!(h.synced(sync).error, ErrorCode::None);
    // A pending member may also say that it will not come.
    let pending = h.send_join(Joining { require_known_id: true, ..Joining::new() });
    let pending = h.joined(pending).member_id.to_string();
    let first = h.send_join(Joining { session_ms: 60_000, ..Joining::id("m1") });
    assert!(h.is_held(first));
    assert_eq!(h.leave(&[(&pending, None)]), [ErrorCode::None]);
    assert_eq!(h.joined(first).generation, 3);
}

#[test]
fn ids_that_are_only_given_out_leave_nothing_behind() {
    let mut h = Harness::new();
    for _ in 0..10 {
        h.send_join(Joining { require_known_id: true, ..Joining::new() });
    }
    assert_eq!(h.state(), "Empty");
    h.advance(i64::from(SESSION_MS));
    assert!(h.shard.group("g").is_none() && h.log.is_empty());
    let wrong = h.send_join(Joining::new().protocols(&[]));
    assert_eq!(h.joined(wrong).error, ErrorCode::InconsistentGroupProtocol);
    assert!(h.shard.group("g").is_none());
}

#[test]
fn joins_that_cannot_be() {
    let mut h = Harness::new();
    h.stable(&[Joining::new().protocols(&["range", "sticky"])]);
    let cases = [
        ("session too short", Joining { session_ms: 5_999, ..Joining::new() }, ErrorCode::InvalidSessionTimeout),
        ("session too long", Joining { session_ms: 1_800_001, ..Joining::new() }, ErrorCode::InvalidSessionTimeout),
        ("unknown id", Joining::id("nobody"), ErrorCode::UnknownMemberId),
        ("no common protocol", Joining::new().protocols(&["other"]), ErrorCode::InconsistentGroupProtocol),
        ("no protocol", Joining::new().protocols(&[]), ErrorCode::InconsistentGroupProtocol),
        (
            "another type",
            Joining { protocol_type: "connect".into(), ..Joining::new() },
            ErrorCode::InconsistentGroupProtocol,
        ),
        (
            "unknown instance",
            Joining { instance_id: Some("i".into()), ..Joining::id("m1") },
            ErrorCode::UnknownMemberId,
        ),
    ];
    for (name, joining, error) in cases {
        let join = h.send_join(joining);
        assert_eq!(h.joined(join).error, error, "{name}");
    }
    assert_eq!(h.state(), "Stable");
}

#[test]
fn the_protocol_with_most_votes_wins() {
    let cases: &[(&[&[&str]], &str)] = &[
        (&[&["a", "b"], &["b", "a"], &["b", "a"]], "b"),
        (&[&["a", "b"], &["b"]], "b"),
        (&[&["a", "b"], &["b", "a"]], "a"),
        (&[&["x", "c"], &["y", "c"]], "c"),
    ];
    for (members, expected) in cases {
        let mut h = Harness::new();
        let joins: Vec<u64> = members.iter().map(|names| h.send_join(Joining::new().protocols(names))).collect();
        h.advance(60_000);
        assert_eq!(h.joined(joins[0]).protocol.as_deref(), Some(*expected));
    }
}

#[test]
fn a_full_group_takes_nobody_else() {
    let mut h = Harness::with(ottla::group::GroupConfig { max_size: 2, ..config() });
    let (ids, _) = h.stable(&[Joining::new(), Joining::new()]);
    let third = h.send_join(Joining::new());
    assert_eq!(h.joined(third).error, ErrorCode::GroupMaxSizeReached);
    assert_eq!((h.state(), h.members().len()), ("Stable", 2));
    assert_eq!(h.leave(&[(&ids[1], None)]), [ErrorCode::None]);
    // One place is free: the first of two takes it.
    let (one, two) = (h.send_join(Joining::new()), h.send_join(Joining::new()));
    assert!(h.is_held(one));
    let first = h.send_join(Joining::id(&ids[0]));
    assert!(!h.is_held(two) || !h.is_held(first), "somebody is told that the group is full");
}

#[test]
fn leaving_is_quick_and_of_strangers_refused() {
    let mut h = Harness::new();
    let (ids, generation) = h.stable(&[Joining::new(), Joining::new()]);
    assert_eq!(h.leave(&[("nobody", None), (&ids[1], None)]), [ErrorCode::UnknownMemberId, ErrorCode::None]);
    assert_eq!((h.state(), h.heartbeat(&ids[0], generation)), ("PreparingRebalance", ErrorCode::RebalanceInProgress));
    assert_eq!(h.leave(&[(&ids[0], None)]), [ErrorCode::None]);
    assert_eq!(h.state(), "Empty");
}

#[test]
fn an_assignment_that_cannot_be_stored_starts_over() {
    for (append, seen) in [
        (ErrorCode::NotEnoughReplicas, ErrorCode::CoordinatorNotAvailable),
        (ErrorCode::NotLeaderOrFollower, ErrorCode::NotCoordinator),
        (ErrorCode::RequestTimedOut, ErrorCode::RebalanceInProgress),
        (ErrorCode::MessageTooLarge, ErrorCode::UnknownServerError),
    ] {
        let mut h = Harness::new();
        let (one, two) = (h.send_join(Joining::new()), h.send_join(Joining::new()));
        h.advance(6_000);
        assert_eq!((h.joined(one).error, h.joined(two).error), (ErrorCode::None, ErrorCode::None));
        h.hold_appends = true;
        let (follower, leader) = (h.send_sync("m2", 1, &[]), h.send_sync("m1", 1, &[("m2", "x")]));
        h.complete(Err(append));
        assert_eq!((h.synced(leader).error, h.synced(follower).error), (seen, seen));
        assert_eq!(h.state(), "PreparingRebalance");
    }
}

#[test]
fn an_assignment_that_is_stored_too_late_is_void() {
    let mut h = Harness::new();
    let one = h.send_join(Joining::new());
    h.advance(3_000);
    assert_eq!(h.joined(one).generation, 1);
    h.hold_appends = true;
    let sync = h.send_sync("m1", 1, &[("m1", "old")]);
    let two = h.send_join(Joining::new());
    assert_eq!(h.synced(sync).error, ErrorCode::RebalanceInProgress);
    let one = h.send_join(Joining::id("m1"));
    assert_eq!((h.joined(one).generation, h.joined(two).generation), (2, 2));
    h.complete(Ok(()));
    assert_eq!(h.state(), "CompletingRebalance");
    let sync = h.send_sync("m1", 2, &[("m1", "new")]);
    h.complete(Ok(()));
    assert_eq!(h.synced(sync).assignment, "new");
}

#[test]
fn a_new_coordinator_goes_on_with_the_members_of_the_log() {
    let mut h = Harness::new();
    let (ids, generation) = h.stable(&[Joining::new(), Joining::new()]);
    assert_eq!(h.commit(&ids[1], generation, &[("t", 0, 7)]), [ErrorCode::None]);
    let described = h.shard.describe("g");
    h.reload();
    assert_eq!(h.shard.describe("g"), described);
    assert_eq!(h.heartbeat(&ids[1], generation), ErrorCode::None);
    let sync = h.send_sync(&ids[0], generation, &[]);
    assert_eq!(h.synced(sync).assignment, format!("a-{}", ids[0]));
    assert_eq!(h.offsets().get(&("t".to_string(), 0)), Some(&7));
    // Sessions run from the moment of the take-over.
    h.advance(i64::from(SESSION_MS));
    assert_eq!(h.state(), "Empty");
}

#[test]
fn who_waits_is_sent_to_the_next_coordinator() {
    let mut h = Harness::new();
    h.stable(&[Joining::new()]);
    let join = h.send_join(Joining::new());
    h.hold_appends = true;
    let commit = h.send_commit("m1", 1, &[("t", 0, 1)]);
    h.reload();
    assert_eq!(h.joined(join).error, ErrorCode::NotCoordinator);
    assert_eq!(h.committed(commit), [ErrorCode::NotCoordinator]);
}

#[test]
fn a_repeated_join_displaces_the_one_that_waits() {
    let mut h = Harness::new();
    h.stable(&[Joining::new()]);
    let second = h.send_join(Joining::new());
    let id = h.members()[1].clone();
    let again = h.send_join(Joining::id(&id));
    assert_eq!(h.joined(second).error, ErrorCode::RebalanceInProgress);
    let first = h.send_join(Joining::id("m1"));
    assert_eq!((h.joined(first).generation, h.joined(again).generation), (2, 2));
}
