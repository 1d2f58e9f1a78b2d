//! What a leader knows of one follower, from the follower's own fetches (class `Replica`).
//!
//! Invariant: a follower's log end is the offset that it asked for last: it has everything below, and nothing of it is guessed.

use crate::base::{BrokerEpoch, Millis};

/// Nothing was heard of the follower since this broker leads.
pub const UNKNOWN_OFFSET: i64 = -1;

/// Long before any time there is.
const NEVER: Millis = Millis::MIN;

/// What one fetch tells of its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerFetch {
    pub now_ms: Millis,
    /// The registration that it was sent in; unknown before Fetch 15.
    pub broker_epoch: BrokerEpoch,
    pub offset: i64,
    pub log_start_offset: i64,
    /// Where the leader's log ended when the fetch was read.
    pub leader_end: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Follower {
    /// The registration in which the follower was heard last.
    pub broker_epoch: BrokerEpoch,
    pub log_end: i64,
    pub log_start: i64,
    last_fetch_ms: Millis,
    /// Where the leader's log ended at the last fetch.
    leader_end_then: i64,
    /// The last time at which the follower had all that the leader had.
    pub caught_up_ms: Millis,
}

impl Follower {
    pub fn unknown() -> Follower {
        Follower {
            broker_epoch: BrokerEpoch::UNKNOWN,
            log_end: UNKNOWN_OFFSET,
            log_start: UNKNOWN_OFFSET,
            last_fetch_ms: NEVER,
            leader_end_then: UNKNOWN_OFFSET,
            caught_up_ms: NEVER,
        }
    }

    /// A leader epoch begins. Those in sync get the full time to show it again; what is known of a log survives only where this
    /// broker led before.
    pub fn reset(&mut self, now_ms: Millis, leader_end: i64, is_new_leader: bool, is_in_sync: bool) {
        let since_ms = if is_in_sync { now_ms } else { NEVER };
        *self = match is_new_leader {
            true => Follower { caught_up_ms: since_ms, ..Follower::unknown() },
            false => Follower { last_fetch_ms: since_ms, leader_end_then: leader_end, caught_up_ms: since_ms, ..*self },
        };
    }

    /// Says whether the log end moved. What was sent by an earlier life of the follower's broker, which may have had more, does not
    /// count (KIP-903).
    pub fn fetched(&mut self, fetch: &FollowerFetch) -> bool {
        if fetch.broker_epoch != BrokerEpoch::UNKNOWN && fetch.broker_epoch < self.broker_epoch {
            return false;
        }
        self.broker_epoch = fetch.broker_epoch;
        if fetch.offset >= fetch.leader_end {
            self.caught_up_ms = self.caught_up_ms.max(fetch.now_ms);
        } else if fetch.offset >= self.leader_end_then {
            // It has what there was at its fetch before this one.
            self.caught_up_ms = self.caught_up_ms.max(self.last_fetch_ms);
        }
        let moved = self.log_end != fetch.offset;
        self.log_end = fetch.offset;
        self.log_start = fetch.log_start_offset;
        self.last_fetch_ms = fetch.now_ms;
        self.leader_end_then = self.leader_end_then.max(fetch.leader_end);
        moved
    }

    pub fn is_caught_up(&self, leader_end: i64, now_ms: Millis, lag_max_ms: Millis) -> bool {
        self.log_end == leader_end || now_ms.saturating_sub(self.caught_up_ms) <= lag_max_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(now_ms: Millis, offset: i64, leader_end: i64) -> FollowerFetch {
        FollowerFetch { now_ms, broker_epoch: BrokerEpoch::UNKNOWN, offset, log_start_offset: 0, leader_end }
    }

    #[test]
    fn a_follower_that_keeps_up_is_caught_up_though_it_never_reaches_the_end() {
        let mut follower = Follower::unknown();
        assert!(!follower.is_caught_up(10, 0, 30_000), "at the first millisecond of the process too");
        for round in 0..100 {
            let now_ms = round * 1000;
            // Each time it has what the leader had one second before.
            follower.fetched(&fetch(now_ms, round * 10, round * 10 + 10));
        }
        assert_eq!(follower.caught_up_ms, 98_000);
        assert!(follower.is_caught_up(2000, 128_000, 30_000));
        assert!(!follower.is_caught_up(2000, 128_001, 30_000));
        assert!(follower.is_caught_up(990, i64::MAX, 30_000), "it has everything");
    }

    #[test]
    fn what_an_earlier_life_of_the_broker_said_does_not_count() {
        let mut follower = Follower::unknown();
        let of = |epoch, offset| FollowerFetch { broker_epoch: BrokerEpoch(epoch), ..fetch(0, offset, 10) };
        assert!(follower.fetched(&of(5, 3)));
        assert!(!follower.fetched(&of(4, 9)));
        assert_eq!((follower.log_end, follower.broker_epoch), (3, BrokerEpoch(5)));
        assert!(follower.fetched(&of(6, 1)), "it may have lost records");
    }

    #[test]
    fn a_new_epoch_trusts_those_in_sync_for_a_while_and_forgets_the_logs_of_another_leaders_time() {
        let mut follower = Follower::unknown();
        follower.fetched(&fetch(5, 7, 10));
        let mut same_leader = follower;
        same_leader.reset(100, 10, false, true);
        assert_eq!((same_leader.log_end, same_leader.caught_up_ms), (7, 100));
        let mut new_leader = follower;
        new_leader.reset(100, 10, true, false);
        assert_eq!(new_leader, Follower::unknown());
    }
}
