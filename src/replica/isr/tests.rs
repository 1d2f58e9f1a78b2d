//! Scenarios of a leader with followers 2 and 3.

use super::*;
use crate::base::{LeaderEpoch, PartitionEpoch};

const LAG: Millis = 30_000;

fn ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

fn leadership(epoch: i32, isr: &[i32]) -> Leadership {
    Leadership {
        leader: BrokerId(1),
        leader_epoch: LeaderEpoch(epoch),
        partition_epoch: PartitionEpoch(epoch * 10),
        isr: ids(isr),
        replicas: ids(&[1, 2, 3]),
        ..Leadership::default()
    }
}

fn leader(isr: &[i32], log_end: i64) -> IsrState {
    let mut state = IsrState::new(BrokerId(1));
    state.lead(leadership(1, isr), 0, log_end);
    state
}

fn at(now_ms: Millis, log_end: i64, high_watermark: i64) -> Circumstances<'static> {
    Circumstances { now_ms, lag_max_ms: LAG, log_end, high_watermark, min_isr: 1, is_alive: &|_| true }
}

fn fetch(state: &mut IsrState, id: i32, now_ms: Millis, offset: i64, leader_end: i64) {
    let fetch = FollowerFetch { now_ms, broker_epoch: BrokerEpoch(id.into()), offset, log_start_offset: 0, leader_end };
    state.fetched(BrokerId(id), &fetch).expect("a replica");
}

fn answer(change: &IsrChange) -> AlteredPartition {
    AlteredPartition {
        leader: BrokerId(1),
        leader_epoch: change.leader_epoch,
        isr: change.isr.clone(),
        is_recovering: false,
        partition_epoch: PartitionEpoch(change.partition_epoch.0 + 1),
    }
}

#[test]
fn the_high_watermark_is_the_smallest_log_end_in_sync() {
    let mut state = leader(&[1, 2, 3], 0);
    assert_eq!(state.high_watermark(&at(1, 10, 0)), None, "nothing is known of the others");
    fetch(&mut state, 2, 1, 10, 10);
    assert_eq!(state.high_watermark(&at(1, 10, 0)), None);
    fetch(&mut state, 3, 2, 7, 10);
    assert_eq!(state.high_watermark(&at(2, 10, 0)), Some(7));
    assert_eq!(state.high_watermark(&at(2, 10, 8)), None, "it never goes back");
    fetch(&mut state, 3, 3, 10, 10);
    assert_eq!(state.high_watermark(&at(3, 10, 7)), Some(10));
}

#[test]
fn the_high_watermark_stands_while_too_few_are_in_sync() {
    let state = leader(&[1], 0);
    assert_eq!(state.high_watermark(&Circumstances { min_isr: 2, ..at(LAG * 2, 10, 0) }), None);
    assert_eq!(state.high_watermark(&at(LAG * 2, 10, 0)), Some(10));
    // With three replicas no more than three can be asked for.
    assert_eq!(state.required(5), 3);
}

#[test]
fn the_high_watermark_waits_for_a_follower_that_is_about_to_join() {
    let mut state = leader(&[1], 0);
    fetch(&mut state, 2, 100, 10, 10);
    assert_eq!(state.high_watermark(&at(101, 20, 10)), None, "2 has just caught up, and may join at 10");
    let dead = Circumstances { is_alive: &|_| false, ..at(101, 20, 10) };
    assert_eq!(state.high_watermark(&dead), Some(20));
    assert_eq!(state.high_watermark(&at(101 + LAG, 20, 10)), Some(20));
}

#[test]
fn a_proposed_member_counts_at_once_and_a_leaving_one_until_the_controller_agrees() {
    let mut state = leader(&[1, 2], 0);
    fetch(&mut state, 2, 1, 10, 10);
    fetch(&mut state, 3, 1, 10, 10);
    let change = state.expand(BrokerId(3), &at(1, 10, 10)).expect("an expansion");
    assert_eq!((change.isr.clone(), change.partition_epoch), (ids(&[1, 2, 3]), PartitionEpoch(10)));
    assert_eq!(change.member_epochs, [BrokerEpoch::UNKNOWN, BrokerEpoch(2), BrokerEpoch(3)]);
    assert_eq!(state.maximal_isr(), ids(&[1, 2, 3]));
    assert_eq!(state.leadership().isr, ids(&[1, 2]));
    // Long after, 3 is behind; until the answer it counts nevertheless.
    fetch(&mut state, 2, LAG * 3, 20, 20);
    assert_eq!(state.high_watermark(&at(LAG * 3, 20, 10)), None);
    assert_eq!(state.shrink(&at(LAG * 3, 20, 10)), None, "one proposal at a time");
    assert_eq!(state.altered(change.token, Ok(answer(&change)), 1), AfterAlter::Committed);
    assert_eq!(state.leadership().partition_epoch, PartitionEpoch(11));
    let change = state.shrink(&at(LAG * 3, 20, 10)).expect("a shrink");
    assert_eq!(change.isr, ids(&[1, 2]));
    assert_eq!(state.maximal_isr(), ids(&[1, 2, 3]));
    assert_eq!(state.high_watermark(&at(LAG * 3, 20, 10)), None);
    assert_eq!(state.altered(change.token, Ok(answer(&change)), 1), AfterAlter::Committed);
    assert_eq!(state.high_watermark(&at(LAG * 3, 20, 10)), Some(20));
}

#[test]
fn who_may_join() {
    // (name, log end of 3, high watermark, alive, whether it joins)
    let cases = [
        ("behind the high watermark", 9, 10, true, false),
        ("below the start of this epoch (KAFKA-7128)", 4, 3, true, false),
        ("at both", 10, 10, true, true),
        ("not alive", 10, 10, false, false),
    ];
    for (name, log_end, high_watermark, alive, joins) in cases {
        let mut state = leader(&[1, 2], 5);
        fetch(&mut state, 3, 1, log_end, 12);
        let is_alive: &dyn Fn(BrokerId) -> bool = &|_| alive;
        let change = state.expand(BrokerId(3), &Circumstances { is_alive, ..at(1, 12, high_watermark) });
        assert_eq!(change.is_some(), joins, "{name}");
    }
    let mut state = leader(&[1, 2], 5);
    assert_eq!(state.expand(BrokerId(2), &at(1, 12, 0)), None, "a member");
    let fetch =
        FollowerFetch { now_ms: 1, broker_epoch: BrokerEpoch(4), offset: 12, log_start_offset: 0, leader_end: 12 };
    assert_eq!(state.fetched(BrokerId(4), &fetch), Err(NotAReplica));
}

#[test]
fn answers_of_the_controller() {
    let proposed = || {
        let mut state = leader(&[1, 2], 0);
        fetch(&mut state, 3, 1, 0, 0);
        let change = state.expand(BrokerId(3), &at(1, 0, 0)).expect("an expansion");
        (state, change)
    };
    for code in [ErrorCode::IneligibleReplica, ErrorCode::OperationNotAttempted] {
        let (mut state, change) = proposed();
        assert_eq!(state.altered(change.token, Err(code), 1), AfterAlter::Reverted);
        assert_eq!(state.maximal_isr(), ids(&[1, 2]));
        assert_eq!(state.expand(BrokerId(3), &at(1, 0, 0)), None, "not at once");
        assert!(state.expand(BrokerId(3), &at(1 + REFUSED_FIRST_MS, 0, 0)).is_some(), "it may be proposed again");
    }
    for code in [ErrorCode::FencedLeaderEpoch, ErrorCode::InvalidUpdateVersion, ErrorCode::UnknownTopicId] {
        let (mut state, change) = proposed();
        assert_eq!(state.altered(change.token, Err(code), 1), AfterAlter::Nothing);
        assert_eq!(state.maximal_isr(), ids(&[1, 2, 3]), "it may have been carried out");
    }
    let (mut state, change) = proposed();
    let unknown = state.altered(change.token, Err(ErrorCode::UnknownServerError), 1);
    assert_eq!(unknown, AfterAlter::Retry(change.clone()));
    assert_eq!(state.altered(change.token + 1, Ok(answer(&change)), 1), AfterAlter::Nothing, "not its answer");
    let other_epoch = AlteredPartition { leader_epoch: LeaderEpoch(0), ..answer(&change) };
    assert_eq!(state.altered(change.token, Ok(other_epoch), 1), AfterAlter::Nothing);
    assert_eq!(state.altered(change.token, Ok(answer(&change)), 1), AfterAlter::Committed);
    assert_eq!(state.altered(change.token, Ok(answer(&change)), 1), AfterAlter::Nothing, "once");
}

/// A broker in controlled shutdown fetches on for a while, and then stands still: alive, and caught up a moment ago.
#[test]
fn nobody_waits_for_a_follower_that_the_controller_refuses() {
    let mut state = leader(&[1, 2], 0);
    fetch(&mut state, 2, 1, 10, 10);
    fetch(&mut state, 3, 1, 10, 10);
    let change = state.expand(BrokerId(3), &at(1, 10, 10)).expect("an expansion");
    fetch(&mut state, 2, 2, 20, 20);
    assert_eq!(state.high_watermark(&at(2, 20, 10)), None, "it may be in the ISR by now");
    state.altered(change.token, Err(ErrorCode::IneligibleReplica), 2);
    assert_eq!(state.high_watermark(&at(2, 20, 10)), Some(20));
    // Each refusal doubles the pause; while a proposal is on its way it counts again.
    let mut now_ms = 2;
    for pause_ms in [REFUSED_FIRST_MS, 2 * REFUSED_FIRST_MS, 4 * REFUSED_FIRST_MS] {
        fetch(&mut state, 3, now_ms, 20, 20);
        assert_eq!(state.expand(BrokerId(3), &at(now_ms + pause_ms - 1, 20, 20)), None);
        now_ms += pause_ms;
        let change = state.expand(BrokerId(3), &at(now_ms, 20, 20)).expect("an expansion");
        assert_eq!(state.maximal_isr(), ids(&[1, 2, 3]));
        state.altered(change.token, Err(ErrorCode::IneligibleReplica), now_ms);
    }
    // The next life of its broker is judged anew.
    let fetched =
        FollowerFetch { now_ms, broker_epoch: BrokerEpoch(9), offset: 20, log_start_offset: 0, leader_end: 20 };
    state.fetched(BrokerId(3), &fetched).expect("a replica");
    fetch(&mut state, 2, now_ms, 30, 30);
    assert_eq!(state.high_watermark(&at(now_ms, 30, 20)), None, "it is about to join");
    assert!(state.expand(BrokerId(3), &at(now_ms, 30, 20)).is_some());
}

#[test]
fn a_new_epoch_ends_a_proposal_and_its_answer_comes_too_late() {
    let mut state = leader(&[1, 2], 0);
    fetch(&mut state, 3, 1, 0, 0);
    let change = state.expand(BrokerId(3), &at(1, 0, 0)).expect("an expansion");
    state.lead(leadership(2, &[1]), 5, 0);
    assert_eq!(state.maximal_isr(), ids(&[1]));
    assert_eq!(state.altered(change.token, Ok(answer(&change)), 1), AfterAlter::Nothing);
    assert_eq!(state.leadership().isr, ids(&[1]));
}

#[test]
fn an_isr_that_changed_behind_the_leaders_back_is_learnt_from_update_metadata() {
    let mut state = leader(&[1, 2, 3], 0);
    let change = state.shrink(&at(LAG + 1, 5, 0)).expect("a shrink");
    assert_eq!(change.isr, ids(&[1]));
    let news = AlteredPartition { isr: ids(&[1, 2]), partition_epoch: PartitionEpoch(12), ..answer(&change) };
    assert_eq!(state.told(news.clone()), AfterAlter::Nothing, "the answer is still to come");
    state.altered(change.token, Err(ErrorCode::InvalidUpdateVersion), 1);
    let old = AlteredPartition { partition_epoch: PartitionEpoch(10), ..news.clone() };
    assert_eq!(state.told(old), AfterAlter::Nothing);
    assert_eq!(state.told(news), AfterAlter::Committed);
    assert_eq!(
        (state.leadership().isr.clone(), state.leadership().partition_epoch),
        (ids(&[1, 2]), PartitionEpoch(12))
    );
    assert!(state.shrink(&at(LAG + 1, 5, 0)).is_some());
}

#[test]
fn a_follower_knows_no_followers_and_moves_no_high_watermark() {
    let mut state = leader(&[1, 2, 3], 0);
    fetch(&mut state, 2, 1, 10, 10);
    state.follow(Leadership { leader: BrokerId(2), ..leadership(2, &[1, 2, 3]) });
    assert_eq!(state.high_watermark(&at(1, 10, 0)), None);
    assert!(state.follower(BrokerId(2)).is_none());
    assert_eq!(state.shrink(&at(LAG * 9, 10, 0)), None);
    assert_eq!(state.epoch_start(), -1);
}

#[test]
fn the_low_watermark_is_that_of_the_living() {
    let mut state = leader(&[1, 2, 3], 0);
    let fetched = |log_start_offset| FollowerFetch {
        now_ms: 1,
        broker_epoch: BrokerEpoch(4),
        offset: 10,
        log_start_offset,
        leader_end: 10,
    };
    state.fetched(BrokerId(2), &fetched(4)).expect("a replica");
    state.fetched(BrokerId(3), &fetched(2)).expect("a replica");
    assert_eq!(state.low_watermark(5, &|_| true), 2);
    assert_eq!(state.low_watermark(5, &|id| id != BrokerId(3)), 4);
    assert_eq!(state.low_watermark(1, &|_| true), 1);
}

#[test]
fn a_replica_that_was_taken_away_counts_until_it_is_out_of_the_isr() {
    let mut state = leader(&[1, 2, 3], 0);
    let moved = Leadership { replicas: ids(&[1, 2]), ..leadership(2, &[1, 2, 3]) };
    state.lead(moved, 1, 0);
    fetch(&mut state, 2, 2, 10, 10);
    assert_eq!(state.high_watermark(&at(2, 10, 0)), None, "3 may still be elected");
    fetch(&mut state, 3, 3, 4, 10);
    assert_eq!(state.high_watermark(&at(3, 10, 0)), Some(4));
    state.lead(Leadership { replicas: ids(&[1, 2]), ..leadership(3, &[1, 2]) }, 4, 10);
    fetch(&mut state, 2, 5, 10, 10);
    assert_eq!(state.high_watermark(&at(5, 10, 4)), Some(10));
    assert!(
        state
            .fetched(
                BrokerId(3),
                &FollowerFetch {
                    now_ms: 6,
                    offset: 4,
                    log_start_offset: 0,
                    leader_end: 10,
                    broker_epoch: BrokerEpoch::UNKNOWN
                }
            )
            .is_err()
    );
}
