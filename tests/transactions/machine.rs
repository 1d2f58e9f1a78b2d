//! Scenarios: what each request does in each state, and what a coordinator that takes over goes on with.

use super::harness::{Harness, ID, TIMEOUT_MS, Who, partition};
use ottla::base::{ErrorCode, ProducerEpoch, ProducerId};
use ottla::transaction::message::MarkerOutcome;
use ottla::transaction::state::LAST_EPOCH;

fn epoch(who: Who, epoch: i16) -> Who {
    (who.0, ProducerEpoch(epoch))
}

#[test]
fn a_transaction_from_its_begin_to_its_end() {
    let mut h = Harness::new();
    let who = h.init();
    assert_eq!((who.1, h.status()), (ProducerEpoch(0), "Empty"));
    assert_eq!(h.end(who, true), ErrorCode::InvalidTxnState);
    assert_eq!(h.add(who, &["a"]), ErrorCode::None);
    let records = h.log.len();
    assert_eq!(h.add(who, &["a"]), ErrorCode::None);
    assert_eq!(h.log.len(), records, "what is known already is not written again");
    assert_eq!(h.add(who, &["b", "a"]), ErrorCode::None);
    assert_eq!(h.status(), "Ongoing");
    h.now_ms += 5;
    assert_eq!(h.end(who, true), ErrorCode::None);
    assert_eq!(h.status(), "PrepareCommit");
    for (commit, what) in [(true, "again"), (false, "otherwise")] {
        assert_eq!(h.end(who, commit), ErrorCode::ConcurrentTransactions, "{what}");
    }
    assert_eq!(h.add(who, &["c"]), ErrorCode::ConcurrentTransactions);
    assert_eq!(h.init_as(None), Err(ErrorCode::ConcurrentTransactions));
    let sent = h.sent.pop_front().expect("markers");
    assert_eq!(sent.partitions, [partition("a"), partition("b")]);
    assert!(sent.marker.commit && sent.marker.coordinator_epoch == 0 && sent.marker.producer_id == who.0);
    h.answer(sent, MarkerOutcome::Written);
    assert_eq!(h.status(), "CompleteCommit");
    assert_eq!(h.end(who, true), ErrorCode::None, "the answer was lost");
    assert_eq!(h.end(who, false), ErrorCode::InvalidTxnState);
    let stored = &h.shard.transaction(ID).expect("it").stored;
    assert_eq!((stored.start_ms, stored.last_update_ms, stored.partitions.len()), (1_000_000, 1_000_005, 0));
    assert_eq!(h.add(who, &["a"]), ErrorCode::None, "the next one");
    assert_eq!(h.end(who, false), ErrorCode::None);
    h.write_markers();
    assert_eq!(h.status(), "CompleteAbort");
}

#[test]
fn answers_wait_for_the_log() {
    let mut h = Harness::new();
    h.hold_appends = true;
    let init = h.send_init(TIMEOUT_MS, None);
    assert!(h.is_held(init));
    assert_eq!(h.init_as(None), Err(ErrorCode::ConcurrentTransactions));
    h.complete(Ok(()));
    let who = h.inited(init).expect("a producer id");
    let add = h.send_add(who, &["a"]);
    assert!(h.is_held(add));
    assert_eq!(h.verify(who, &["a"]), [ErrorCode::TransactionAbortable], "not before it is written");
    assert_eq!(h.end(who, true), ErrorCode::ConcurrentTransactions);
    h.complete(Ok(()));
    assert_eq!((h.done(add), h.verify(who, &["a"])), (ErrorCode::None, vec![ErrorCode::None]));
    let end = h.send_end(who, true);
    assert!(h.is_held(end) && h.sent.is_empty(), "no marker before the decision is safe");
    h.complete(Ok(()));
    assert_eq!((h.done(end), h.sent.len()), (ErrorCode::None, 1));
}

#[test]
fn what_cannot_be_written_changes_nothing() {
    let mut h = Harness::new();
    let who = h.begin(&["a"]);
    h.hold_appends = true;
    let cases = [
        (ErrorCode::RequestTimedOut, ErrorCode::CoordinatorNotAvailable),
        (ErrorCode::NotEnoughReplicas, ErrorCode::CoordinatorNotAvailable),
        (ErrorCode::NotLeaderOrFollower, ErrorCode::NotCoordinator),
        (ErrorCode::MessageTooLarge, ErrorCode::UnknownServerError),
    ];
    for (failed, answered) in cases {
        let add = h.send_add(who, &["b"]);
        h.complete(Err(failed));
        assert_eq!(h.done(add), answered);
        assert_eq!(h.verify(who, &["a", "b"]), [ErrorCode::None, ErrorCode::TransactionAbortable]);
        let end = h.send_end(who, true);
        h.complete(Err(failed));
        assert_eq!((h.done(end), h.status(), h.sent.len()), (answered, "Ongoing", 0));
    }
    // An id whose first record failed is not there.
    let mut h = Harness::new();
    h.hold_appends = true;
    let init = h.send_init(TIMEOUT_MS, None);
    h.complete(Err(ErrorCode::RequestTimedOut));
    assert_eq!(h.inited(init), Err(ErrorCode::CoordinatorNotAvailable));
    assert!(h.shard.transaction(ID).is_none());
}

#[test]
fn who_asks_is_judged() {
    let mut h = Harness::new();
    let who = h.begin(&["a"]);
    let other = (ProducerId(7), ProducerEpoch(0));
    for (asks, expected) in [
        (other, ErrorCode::InvalidProducerIdMapping),
        (epoch(who, -1), ErrorCode::ProducerFenced),
        (epoch(who, 1), ErrorCode::ProducerFenced),
    ] {
        assert_eq!(h.add(asks, &["b"]), expected);
        assert_eq!(h.end(asks, true), expected);
        assert_eq!(h.verify(asks, &["a"]), [expected]);
    }
    for timeout_ms in [0, -1, 900_001] {
        let token = h.send_init(timeout_ms, None);
        assert_eq!(h.inited(token), Err(ErrorCode::InvalidTransactionTimeout));
    }
    let mut empty = Harness::new();
    assert_eq!(empty.add(other, &["b"]), ErrorCode::InvalidProducerIdMapping);
    assert_eq!(empty.end(other, true), ErrorCode::InvalidProducerIdMapping);
    assert_eq!(empty.verify(other, &["a"]), [ErrorCode::InvalidProducerIdMapping]);
}

#[test]
fn a_new_producer_fences_the_old_one_and_aborts_its_transaction() {
    let mut h = Harness::new();
    let old = h.begin(&["a"]);
    assert_eq!(h.init_as(None), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(h.status(), "PrepareAbort");
    assert_eq!(h.end(old, true), ErrorCode::ProducerFenced);
    let sent = h.sent.pop_front().expect("markers");
    assert_eq!((sent.marker.commit, sent.marker.producer_epoch), (false, ProducerEpoch(1)));
    assert_eq!(h.init_as(None), Err(ErrorCode::ConcurrentTransactions), "until the markers are written");
    h.answer(sent, MarkerOutcome::Written);
    assert_eq!(h.init(), epoch(old, 2), "the fencing epoch belongs to nobody");
    assert_eq!(h.add(old, &["a"]), ErrorCode::ProducerFenced);
}

#[test]
fn a_fence_that_could_not_be_written_still_holds_and_is_not_raised_again() {
    let mut h = Harness::new();
    let old = h.begin(&["a"]);
    h.hold_appends = true;
    for _ in 0..3 {
        let init = h.send_init(TIMEOUT_MS, None);
        h.complete(Err(ErrorCode::NotEnoughReplicas));
        assert_eq!(h.inited(init), Err(ErrorCode::CoordinatorNotAvailable));
        assert_eq!(h.end(old, true), ErrorCode::ProducerFenced);
    }
    h.hold_appends = false;
    assert_eq!(h.init_as(None), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(h.sent[0].marker.producer_epoch, ProducerEpoch(1));
    h.write_markers();
    assert_eq!(h.init(), epoch(old, 2));
}

#[test]
fn a_producer_that_says_what_it_had_gets_the_next_epoch_once() {
    let mut h = Harness::new();
    let first = h.init();
    assert_eq!(h.init_as(Some(first)), Ok(epoch(first, 1)));
    assert_eq!(h.init_as(Some(first)), Ok(epoch(first, 1)), "the answer was lost");
    assert_eq!(h.init_as(Some(epoch(first, 1))), Ok(epoch(first, 2)));
    assert_eq!(h.init_as(Some(first)), Err(ErrorCode::ProducerFenced));
    assert_eq!(h.init_as(Some((ProducerId(7), ProducerEpoch(2)))), Err(ErrorCode::ProducerFenced));
    // One that does not say replaces whoever had it.
    assert_eq!(h.init(), epoch(first, 3));
    assert_eq!(h.init_as(Some(epoch(first, 2))), Err(ErrorCode::ProducerFenced));
    // Of an id that expired nothing is known.
    let mut empty = Harness::new();
    let (_, fresh) = empty.init_as(Some((ProducerId(7), ProducerEpoch(9)))).expect("a producer id");
    assert_eq!(fresh, ProducerEpoch(0));
}

#[test]
fn used_up_epochs_lead_to_a_new_producer_id() {
    let mut h = Harness::new();
    let mut who = h.init();
    while who.1 < LAST_EPOCH {
        let next = h.init_as(Some(who)).expect("the next epoch");
        assert_eq!(next, epoch(who, who.1.0 + 1));
        who = next;
    }
    let fresh = h.init_as(Some(who)).expect("another id");
    assert!(fresh.0 != who.0 && fresh.1 == ProducerEpoch(0));
    assert_eq!(h.init_as(Some(who)), Ok(fresh), "the answer was lost");
    assert_eq!(h.add(who, &["a"]), ErrorCode::InvalidProducerIdMapping);
    // Fencing the last epoch takes the one that no client gets.
    let mut h = Harness::new();
    let mut who = h.init();
    while who.1 < LAST_EPOCH {
        who = h.init();
    }
    assert_eq!(h.add(who, &["a"]), ErrorCode::None);
    assert_eq!(h.init_as(None), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(h.sent[0].marker.producer_epoch, ProducerEpoch(i16::MAX));
    h.write_markers();
    let fresh = h.init();
    assert!(fresh.0 != who.0 && fresh.1 == ProducerEpoch(0));
}

#[test]
fn markers_are_sent_until_each_partition_has_one() {
    let mut h = Harness::new();
    let who = h.begin(&["a", "b", "c"]);
    assert_eq!(h.end(who, true), ErrorCode::None);
    let sent = h.sent.pop_front().expect("markers");
    let outcomes = [MarkerOutcome::Written, MarkerOutcome::Failed, MarkerOutcome::Gone];
    let outcomes = sent.partitions.iter().cloned().zip(outcomes).collect();
    h.event(ottla::transaction::message::Event::Markers(sent.token, sent.id.clone(), outcomes));
    assert_eq!(h.status(), "PrepareCommit");
    for _ in 0..3 {
        h.advance(50);
        let again = h.sent.pop_front().expect("the failed one again");
        assert_eq!((again.partitions.as_slice(), again.token), ([partition("b")].as_slice(), sent.token));
        h.answer(again, MarkerOutcome::Failed);
    }
    h.advance(50);
    h.write_markers();
    assert_eq!(h.status(), "CompleteCommit");
}

#[test]
fn a_fenced_coordinator_leaves_the_transaction_to_the_next_one() {
    let mut h = Harness::new();
    let who = h.begin(&["a", "b"]);
    assert_eq!(h.end(who, true), ErrorCode::None);
    let sent = h.sent.pop_front().expect("markers");
    h.answer(sent, MarkerOutcome::Fenced);
    h.advance(3_600_000);
    assert_eq!((h.status(), h.sent.len()), ("PrepareCommit", 0));
    h.load(4);
    assert_eq!(h.sent[0].marker.coordinator_epoch, 4);
    h.write_markers();
    assert_eq!(h.status(), "CompleteCommit");
}

#[test]
fn the_record_of_the_end_is_written_until_it_is_there() {
    let mut h = Harness::new();
    let who = h.begin(&["a"]);
    assert_eq!(h.end(who, false), ErrorCode::None);
    h.hold_appends = true;
    h.write_markers();
    for _ in 0..3 {
        h.complete(Err(ErrorCode::NotEnoughReplicas));
        assert_eq!((h.status(), h.pending.len()), ("PrepareAbort", 0));
        assert_eq!(h.add(who, &["a"]), ErrorCode::ConcurrentTransactions);
        h.advance(50);
    }
    h.complete(Ok(()));
    assert_eq!(h.status(), "CompleteAbort");
}

#[test]
fn whoever_takes_over_goes_on_from_the_decision() {
    for commit in [true, false] {
        let mut h = Harness::new();
        let who = h.begin(&["a", "b"]);
        h.load(1);
        assert_eq!((h.status(), h.sent.len()), ("Ongoing", 0));
        assert_eq!(h.verify(who, &["a"]), [ErrorCode::None]);
        assert_eq!(h.end(who, commit), ErrorCode::None);
        h.load(2);
        assert_eq!(h.add(who, &["c"]), ErrorCode::ConcurrentTransactions);
        let sent = h.sent.pop_front().expect("markers of the new coordinator");
        assert_eq!((sent.marker.commit, sent.marker.coordinator_epoch, sent.partitions.len()), (commit, 2, 2));
        h.answer(sent, MarkerOutcome::Written);
        let end = if commit { "CompleteCommit" } else { "CompleteAbort" };
        assert_eq!(h.status(), end);
        h.load(3);
        assert_eq!((h.status(), h.sent.len()), (end, 0));
        assert_eq!(h.end(who, commit), ErrorCode::None);
    }
}

#[test]
fn held_requests_are_sent_away_when_another_broker_leads() {
    let mut h = Harness::new();
    let who = h.begin(&["a"]);
    h.hold_appends = true;
    let end = h.send_end(who, true);
    h.load(1);
    assert_eq!(h.done(end), ErrorCode::NotCoordinator);
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let mut h = Harness::new();
    let who = h.begin(&["a"]);
    h.advance(59_000);
    assert_eq!(h.add(who, &["b"]), ErrorCode::None);
    h.advance(900);
    assert_eq!(h.status(), "Ongoing");
    h.advance(10_200);
    assert_eq!(h.status(), "PrepareAbort");
    h.write_markers();
    assert_eq!(h.end(who, true), ErrorCode::ProducerFenced);
    assert_eq!(h.init_as(Some(who)), Err(ErrorCode::ProducerFenced));
    assert_eq!(h.init(), epoch(who, 2));
    h.advance(3_600_000);
    assert_eq!(h.status(), "Empty", "what is not under way does not time out");
}

#[test]
fn the_time_before_a_fail_over_counts() {
    let mut h = Harness::new();
    h.begin(&["a"]);
    h.advance(50_000);
    h.load(1);
    h.advance(9_000);
    assert_eq!(h.status(), "Ongoing");
    h.advance(12_000);
    assert_eq!(h.status(), "PrepareAbort");
    // A record from the future does not wait longer than the time-out.
    let mut h = Harness::new();
    h.begin(&["a"]);
    h.now_ms -= 900_000;
    h.load(1);
    h.advance(71_000);
    assert_eq!(h.status(), "PrepareAbort");
}

#[test]
fn ids_that_nobody_uses_expire() {
    const WEEK_MS: i64 = 7 * 24 * 3_600_000;
    let mut h = Harness::new();
    let who = h.begin(&["a"]);
    h.now_ms += WEEK_MS - 100_000;
    assert_eq!(h.end(who, true), ErrorCode::None);
    h.write_markers();
    h.advance(WEEK_MS - 3_600_000);
    assert_eq!(h.status(), "CompleteCommit");
    h.advance(2 * 3_600_000);
    assert_eq!(h.status(), "none");
    assert_eq!(h.log.last().map(|record| record.value.is_none()), Some(true), "a tombstone");
    h.load(1);
    assert_eq!(h.status(), "none");
    assert_eq!(h.add(who, &["a"]), ErrorCode::InvalidProducerIdMapping);
    assert!(h.init_as(Some(who)).is_ok(), "its producer may begin anew");
}

#[test]
fn lists_are_filtered() {
    use ottla::transaction::state::Status;
    use ottla::transaction::view::ListFilter;
    let mut h = Harness::new();
    let who = h.begin(&["a"]);
    let all = ListFilter { older_than_ms: -1, ..ListFilter::default() };
    let count = |filter: &ListFilter, now| h.shard.list(filter, now).len();
    assert_eq!(count(&all, h.now_ms), 1);
    let by_status = |status| ListFilter { statuses: Some([status].into()), ..all.clone() };
    assert_eq!((count(&by_status(Status::Ongoing), 0), count(&by_status(Status::Empty), 0)), (1, 0));
    assert_eq!(count(&ListFilter { statuses: Some([].into()), ..all.clone() }, 0), 0);
    let by_producer = |id| ListFilter { producer_ids: [id].into(), ..all.clone() };
    assert_eq!((count(&by_producer(who.0), 0), count(&by_producer(ProducerId(7)), 0)), (1, 0));
    let old = ListFilter { older_than_ms: 100, ..all.clone() };
    assert_eq!((count(&old, h.now_ms + 100), count(&old, h.now_ms + 101)), (0, 1));
    let described = h.shard.describe(ID).expect("it");
    assert_eq!((described.partitions, described.start_ms), (vec![partition("a")], h.now_ms));
    assert_eq!(h.shard.describe("other"), None);
}
