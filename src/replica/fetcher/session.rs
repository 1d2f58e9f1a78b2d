//! The follower's side of a fetch session (KIP-227, class `FetchSessionHandler`): pure.
//!
//! Invariant: what the leader has in the session is what was last sent, or the session is begun anew.

use super::{FetchWant, LeaderAnswer, LeaderFetch};
use crate::base::{ErrorCode, TopicId, TopicPartition};
use std::collections::BTreeMap;

const NO_SESSION: i32 = 0;
const INITIAL_EPOCH: i32 = 0;

#[derive(Debug, Default)]
pub struct FetchSession {
    id: i32,
    /// Of the next fetch; 0 begins a session.
    epoch: i32,
    by_id: bool,
    /// What the leader remembers.
    sent: BTreeMap<TopicPartition, FetchWant>,
}

impl FetchSession {
    /// The next request for all of `wants`.
    pub fn next(&mut self, wants: BTreeMap<TopicPartition, FetchWant>) -> LeaderFetch {
        let by_id = wants.values().all(|want| !want.topic_id.is_zero());
        if self.epoch != INITIAL_EPOCH && by_id != self.by_id {
            self.epoch = INITIAL_EPOCH;
        }
        self.by_id = by_id;
        let (session_id, session_epoch) = (self.id, self.epoch);
        if self.epoch == INITIAL_EPOCH {
            let all = wants.values().cloned().collect();
            self.sent = wants;
            return LeaderFetch {
                session_id,
                session_epoch,
                by_id,
                wants: all,
                forgotten: Vec::new(),
                wait_ms_max: None,
            };
        }
        let mut forgotten: Vec<(TopicPartition, TopicId)> = Vec::new();
        for (partition, before) in &self.sent {
            // A topic made again is another one.
            if wants.get(partition).is_none_or(|want| want.topic_id != before.topic_id) {
                forgotten.push((partition.clone(), before.topic_id));
            }
        }
        let is_new = |want: &&FetchWant| self.sent.get(&want.partition) != Some(*want);
        let changed = wants.values().filter(is_new).cloned().collect();
        self.sent = wants;
        LeaderFetch { session_id, session_epoch, by_id, wants: changed, forgotten, wait_ms_max: None }
    }

    /// Says whether the answer can be used.
    pub fn answered(&mut self, answer: &LeaderAnswer) -> bool {
        if answer.error.is_error() {
            if answer.error == ErrorCode::FetchSessionIdNotFound {
                self.id = NO_SESSION;
            }
            self.epoch = INITIAL_EPOCH;
            return false;
        }
        (self.id, self.epoch) = match answer.session_id {
            NO_SESSION => (NO_SESSION, INITIAL_EPOCH),
            id if self.epoch == INITIAL_EPOCH => (id, 1),
            id => (id, if self.epoch == i32::MAX { 1 } else { self.epoch + 1 }),
        };
        true
    }

    /// No answer came: the leader may or may not have seen the request.
    pub fn lost(&mut self) {
        self.epoch = INITIAL_EPOCH;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::LeaderEpoch;

    fn wants(list: &[(&str, TopicId, i64)]) -> BTreeMap<TopicPartition, FetchWant> {
        let want = |&(topic, topic_id, offset): &(&str, TopicId, i64)| FetchWant {
            partition: TopicPartition::new(topic, 0),
            topic_id,
            leader_epoch: LeaderEpoch(0),
            offset,
            last_epoch: LeaderEpoch(0),
            log_start_offset: 0,
        };
        list.iter().map(want).map(|want| (want.partition.clone(), want)).collect()
    }

    fn answer(session_id: i32) -> LeaderAnswer {
        LeaderAnswer { session_id, ..LeaderAnswer::default() }
    }

    fn shape(fetch: &LeaderFetch) -> (i32, i32, Vec<String>, Vec<String>) {
        let names = fetch.wants.iter().map(|want| format!("{}@{}", want.partition, want.offset)).collect();
        let forgotten = fetch.forgotten.iter().map(|(partition, _)| partition.to_string()).collect();
        (fetch.session_id, fetch.session_epoch, names, forgotten)
    }

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| text.to_string()).collect()
    }

    #[test]
    fn only_changes_are_sent_within_a_session() {
        let id = TopicId::random();
        let mut session = FetchSession::default();
        let first = session.next(wants(&[("a", id, 0), ("b", id, 0)]));
        assert_eq!(shape(&first), (0, 0, texts(&["a-0@0", "b-0@0"]), vec![]));
        assert!(session.answered(&answer(7)));
        let second = session.next(wants(&[("a", id, 5), ("b", id, 0), ("c", id, 0)]));
        assert_eq!(shape(&second), (7, 1, texts(&["a-0@5", "c-0@0"]), vec![]));
        assert!(session.answered(&answer(7)));
        assert_eq!(shape(&session.next(wants(&[("c", id, 0)]))), (7, 2, vec![], texts(&["a-0", "b-0"])));
        // A topic made again is forgotten under its old id, and asked for under the new one.
        assert!(session.answered(&answer(7)));
        let again = session.next(wants(&[("c", TopicId::random(), 0)]));
        assert_eq!(again.forgotten, [(TopicPartition::new("c", 0), id)]);
        assert_eq!(again.wants.len(), 1);
    }

    #[test]
    fn a_session_that_is_lost_is_begun_anew() {
        let id = TopicId::random();
        let mut session = FetchSession::default();
        let begin = |session: &mut FetchSession| {
            session.next(wants(&[("a", id, 0)]));
            assert!(session.answered(&answer(7)));
        };
        begin(&mut session);
        session.next(wants(&[("a", id, 0)]));
        session.lost();
        assert_eq!(shape(&session.next(wants(&[("a", id, 0)]))), (7, 0, texts(&["a-0@0"]), vec![]));
        begin(&mut session);
        let not_found = LeaderAnswer { error: ErrorCode::FetchSessionIdNotFound, ..answer(0) };
        assert!(!session.answered(&not_found));
        assert_eq!(shape(&session.next(wants(&[("a", id, 0)]))), (0, 0, texts(&["a-0@0"]), vec![]));
        // The leader has no slot: every fetch is a full one.
        assert!(session.answered(&answer(0)));
        assert_eq!(shape(&session.next(wants(&[("a", id, 0)]))), (0, 0, texts(&["a-0@0"]), vec![]));
        // A topic without id needs a session by names.
        begin(&mut session);
        let by_name = session.next(wants(&[("a", id, 0), ("b", TopicId::ZERO, 0)]));
        assert_eq!((by_name.by_id, by_name.session_id, by_name.session_epoch), (false, 7, 0));
    }
}
