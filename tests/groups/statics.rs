//! Static members (KIP-345): they come back under a new id without a rebalance.

use crate::harness::{Harness, Joining, REBALANCE_MS, SESSION_MS};
use ottla::base::ErrorCode;

fn leader_and_follower(h: &mut Harness) -> (String, String, i32) {
    let (ids, generation) = h.stable(&[Joining::instance("a"), Joining::instance("b")]);
    (ids[0].clone(), ids[1].clone(), generation)
}

#[test]
fn a_restarted_follower_keeps_its_assignment() {
    let mut h = Harness::new();
    let (leader, follower, generation) = leader_and_follower(&mut h);
    let records = h.log.len();
    let join = h.send_join(Joining::instance("b"));
    let joined = h.joined(join);
    assert_eq!((joined.error, joined.generation, joined.members.len()), (ErrorCode::None, generation, 0));
    assert_eq!(*joined.leader, *leader);
    assert_ne!(*joined.member_id, *follower);
    assert_eq!(h.log.len(), records + 1, "the new id is in the log");
    let sync = h.send_sync(&joined.member_id, generation, &[]);
    assert_eq!(h.synced(sync).assignment, format!("a-{follower}"));
    assert_eq!(h.heartbeat_as(&follower, Some("b"), generation), ErrorCode::FencedInstanceId);
    assert_eq!(h.heartbeat(&follower, generation), ErrorCode::UnknownMemberId);
    assert_eq!(h.heartbeat_as(&leader, Some("a"), generation), ErrorCode::None);
    h.reload();
    assert_eq!(h.heartbeat_as(&joined.member_id, Some("b"), generation), ErrorCode::None);
}

#[test]
fn a_restarted_leader_does_not_assign_again() {
    for skip_assignment in [false, true] {
        let mut h = Harness::new();
        let (leader, _, generation) = leader_and_follower(&mut h);
        let join = h.send_join(Joining { skip_assignment, ..Joining::instance("a") });
        let joined = h.joined(join);
        assert_eq!((joined.error, joined.generation), (ErrorCode::None, generation));
        assert_eq!(joined.skip_assignment, skip_assignment);
        if skip_assignment {
            assert_eq!((&joined.leader, joined.members.len()), (&joined.member_id, 2));
        } else {
            assert_eq!((&*joined.leader, joined.members.len()), (&*leader, 0));
        }
        // Its next join, with its id, makes a rebalance as that of any leader.
        let again = h.send_join(Joining { member_id: joined.member_id.to_string(), ..Joining::instance("a") });
        assert!(h.is_held(again));
    }
}

#[test]
fn another_protocol_makes_a_rebalance_after_all() {
    let mut h = Harness::new();
    let (ids, _) = h.stable(&[
        Joining::instance("a").protocols(&["range", "sticky"]),
        Joining::instance("b").protocols(&["range", "sticky"]),
    ]);
    let join = h.send_join(Joining::instance("b").protocols(&["sticky"]));
    assert_eq!(h.state(), "PreparingRebalance");
    let first =
        h.send_join(Joining { member_id: ids[0].clone(), ..Joining::instance("a").protocols(&["range", "sticky"]) });
    assert_eq!((h.joined(first).protocol, h.joined(join).generation), (Some("sticky".into()), 2));
}

#[test]
fn a_restart_that_cannot_be_stored_is_undone() {
    let mut h = Harness::new();
    let (leader, follower, generation) = leader_and_follower(&mut h);
    h.hold_appends = true;
    let join = h.send_join(Joining::instance("b"));
    h.complete(Err(ErrorCode::NotEnoughReplicas));
    let joined = h.joined(join);
    assert_eq!((joined.error, &*joined.member_id), (ErrorCode::CoordinatorNotAvailable, ""));
    assert_eq!(*joined.leader, *leader);
    assert_eq!(h.heartbeat_as(&follower, Some("b"), generation), ErrorCode::None);
}

#[test]
fn a_rebalance_during_the_store_answers_the_join() {
    let mut h = Harness::new();
    let (leader, _, _) = leader_and_follower(&mut h);
    for result in [Ok(()), Err(ErrorCode::NotEnoughReplicas)] {
        h.hold_appends = true;
        let join = h.send_join(Joining::instance("b"));
        let first = h.send_join(Joining { member_id: leader.clone(), ..Joining::instance("a") });
        let (joined, first) = (h.joined(join), h.joined(first));
        assert_eq!(joined.generation, first.generation);
        h.complete(result);
        assert_eq!(h.state(), "CompletingRebalance");
        let sync = h.send_sync(&leader, first.generation, &[(&joined.member_id, "x")]);
        h.complete(Ok(()));
        assert_eq!(h.synced(sync).error, ErrorCode::None);
        assert_eq!(h.heartbeat_as(&joined.member_id, Some("b"), first.generation), ErrorCode::None);
    }
}

#[test]
fn a_waiting_twin_is_fenced() {
    let mut h = Harness::new();
    h.stable(&[Joining { session_ms: 60_000, ..Joining::new() }]);
    let one = h.send_join(Joining::instance("b"));
    let two = h.send_join(Joining::instance("b"));
    assert_eq!(h.joined(one).error, ErrorCode::FencedInstanceId);
    let first = h.send_join(Joining { session_ms: 60_000, ..Joining::id("m1") });
    assert_eq!((h.joined(first).generation, h.joined(two).generation), (2, 2));
    // Between join and sync the old id is in the leader's hands: everybody joins again.
    let three = h.send_join(Joining::instance("b"));
    assert!(h.is_held(three));
    assert_eq!(h.state(), "PreparingRebalance");
}

#[test]
fn an_absent_static_member_stays_until_its_session_ends() {
    let mut h = Harness::new();
    let (ids, _) = h.stable(&[
        Joining { session_ms: 300_000, ..Joining::instance("a") },
        Joining { session_ms: 300_000, ..Joining::instance("b") },
    ]);
    let join = h.send_join(Joining { member_id: ids[0].clone(), session_ms: 300_000, ..Joining::instance("a") });
    h.advance(i64::from(REBALANCE_MS));
    let joined = h.joined(join);
    assert_eq!((joined.generation, joined.members.len()), (2, 2));
    assert_eq!(h.members().len(), 2);
}

#[test]
fn an_administrator_removes_instances() {
    let mut h = Harness::new();
    let (leader, follower, _) = leader_and_follower(&mut h);
    assert_eq!(
        h.leave(&[("", Some("nobody")), ("", None), (&follower, Some("a")), (&leader, Some("zzz")), ("", Some("b"))]),
        [
            ErrorCode::UnknownMemberId,
            ErrorCode::UnknownMemberId,
            ErrorCode::FencedInstanceId,
            ErrorCode::UnknownMemberId,
            ErrorCode::None
        ]
    );
    assert_eq!(h.members(), [leader]);
    assert_eq!(h.state(), "PreparingRebalance");
}

#[test]
fn a_static_member_needs_no_second_round_for_its_id() {
    let mut h = Harness::new();
    let join = h.send_join(Joining { session_ms: SESSION_MS, ..Joining::instance("a") });
    h.advance(3_000);
    assert_eq!(h.joined(join).generation, 1);
}
