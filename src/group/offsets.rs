//! Committed offsets of one group, and those that wait for the end of a transaction (the offset half of `GroupMetadata`).
//!
//! Invariant: of two values for a partition the one that stands later in the log wins, whenever its transaction ends; and what is
//! removed takes the earlier ones of open transactions with it. (In Apache Kafka these come back when another coordinator reads
//! the log and their transaction commits; there, too, they are gone until then.)

use super::message::WriteToken;
use super::records::OffsetValue;
use crate::base::{Millis, ProducerId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// An offset and where its record stands in `__consumer_offsets`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    pub record_offset: i64,
    pub value: OffsetValue,
}

#[derive(Clone, Default, Debug)]
pub struct Offsets {
    topics: HashMap<Arc<str>, BTreeMap<i32, Committed>>,
    /// By producer: commits whose transaction is open.
    transactional: HashMap<ProducerId, BTreeMap<(Arc<str>, i32), Committed>>,
    /// Commits that are being appended.
    pending: Vec<WriteToken>,
}

/// When offsets of a group are given up (`offsets.retention.minutes`).
pub struct Expiry<'a> {
    pub now: Millis,
    pub retention_ms: Millis,
    /// The time from which retention counts; `None`: from each commit.
    pub since: Option<Millis>,
    /// Topics of which nothing expires.
    pub is_kept: &'a dyn Fn(&str) -> bool,
}

impl Offsets {
    /// Nothing committed, nothing on the way.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.transactional.is_empty() && self.pending.is_empty()
    }

    pub fn writing(&mut self, token: WriteToken) {
        self.pending.push(token);
    }

    pub fn written(&mut self, token: WriteToken) {
        self.pending.retain(|pending| *pending != token);
    }

    /// Commits that are being appended.
    pub fn pending(&self) -> &[WriteToken] {
        &self.pending
    }

    pub fn get(&self, topic: &str, partition: i32) -> Option<&OffsetValue> {
        self.topics.get(topic)?.get(&partition).map(|committed| &committed.value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &BTreeMap<i32, Committed>)> {
        self.topics.iter()
    }

    /// An open transaction may still change this offset.
    pub fn is_unstable(&self, topic: &str, partition: i32) -> bool {
        // A tuple key of `Arc<str>` cannot be looked up by `&str`; transactions are few and short.
        self.transactional.values().any(|open| open.keys().any(|(name, index)| **name == *topic && *index == partition))
    }

    /// Applies a record: a value, or `None` for a tombstone.
    pub fn apply(&mut self, topic: &Arc<str>, partition: i32, value: Option<OffsetValue>, record_offset: i64) {
        match value {
            Some(value) => {
                let committed = Committed { record_offset, value };
                match self.topics.get_mut(topic) {
                    Some(partitions) => keep_newest(partitions, partition, committed),
                    None => {
                        self.topics.insert(topic.clone(), BTreeMap::from([(partition, committed)]));
                    }
                }
            }
            None => {
                self.remove(topic, partition);
                self.transactional.retain(|_, open| {
                    open.retain(|(name, index), committed| {
                        committed.record_offset > record_offset || *index != partition || name != topic
                    });
                    !open.is_empty()
                });
            }
        }
    }

    fn remove(&mut self, topic: &str, partition: i32) {
        let Some(partitions) = self.topics.get_mut(topic) else { return };
        partitions.remove(&partition);
        if partitions.is_empty() {
            self.topics.remove(topic);
        }
    }

    /// Applies a record of an open transaction.
    pub fn apply_transactional(
        &mut self,
        producer: ProducerId,
        topic: &Arc<str>,
        partition: i32,
        value: Option<OffsetValue>,
        record_offset: i64,
    ) {
        let open = self.transactional.entry(producer).or_default();
        match value {
            Some(value) => {
                open.insert((topic.clone(), partition), Committed { record_offset, value });
            }
            None => {
                open.remove(&(topic.clone(), partition));
            }
        }
    }

    /// The producer's marker: its offsets count now, or never.
    pub fn end_transaction(&mut self, producer: ProducerId, commit: bool) {
        let Some(open) = self.transactional.remove(&producer) else { return };
        if commit {
            for ((topic, partition), committed) in open {
                keep_newest(self.topics.entry(topic).or_default(), partition, committed);
            }
        }
    }

    /// Partitions whose offsets have expired: each with an expiry of its own by that, the others by the rule. Not those that an open
    /// transaction is about to change.
    pub fn expired(&self, rule: &Expiry<'_>) -> Vec<(Arc<str>, i32)> {
        let is_expired = |value: &OffsetValue| match value.expire_timestamp {
            Some(at) => rule.now >= at,
            None => rule.now.saturating_sub(rule.since.unwrap_or(value.commit_timestamp)) >= rule.retention_ms,
        };
        let topics = self.topics.iter().filter(|(topic, _)| !(rule.is_kept)(topic));
        topics
            .flat_map(|(topic, partitions)| {
                partitions.iter().map(move |(partition, committed)| (topic, partition, committed))
            })
            .filter(|(topic, partition, committed)| {
                is_expired(&committed.value) && !self.is_unstable(topic, **partition)
            })
            .map(|(topic, partition, _)| (topic.clone(), *partition))
            .collect()
    }

    /// Whether nothing is left once `count` of all partitions are gone.
    pub fn has_only(&self, count: usize) -> bool {
        let committed: usize = self.topics.values().map(BTreeMap::len).sum();
        committed + self.only_transactional().len() == count && self.pending.is_empty()
    }

    /// All partitions with an offset, committed or in an open transaction.
    pub fn partitions(&self) -> Vec<(Arc<str>, i32)> {
        let committed = self.topics.iter();
        let committed =
            committed.flat_map(|(topic, partitions)| partitions.keys().map(|index| (topic.clone(), *index)));
        committed.chain(self.only_transactional()).collect()
    }

    /// Whether there is an offset, committed or in an open transaction.
    pub fn has(&self, topic: &str, partition: i32) -> bool {
        self.get(topic, partition).is_some() || self.is_unstable(topic, partition)
    }

    fn only_transactional(&self) -> BTreeSet<(Arc<str>, i32)> {
        let open = self.transactional.values().flat_map(BTreeMap::keys);
        open.filter(|(topic, partition)| self.get(topic, *partition).is_none()).cloned().collect()
    }
}

fn keep_newest(partitions: &mut BTreeMap<i32, Committed>, partition: i32, committed: Committed) {
    match partitions.get_mut(&partition) {
        Some(present) if present.record_offset > committed.record_offset => {}
        Some(present) => *present = committed,
        None => {
            partitions.insert(partition, committed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(offset: i64, commit_timestamp: Millis, expire_timestamp: Option<Millis>) -> OffsetValue {
        OffsetValue { offset, leader_epoch: -1, metadata: "".into(), commit_timestamp, expire_timestamp }
    }

    #[test]
    fn the_later_record_wins_even_if_its_transaction_ends_earlier() {
        let topic: Arc<str> = "t".into();
        let mut offsets = Offsets::default();
        offsets.apply_transactional(ProducerId(7), &topic, 0, Some(value(10, 0, None)), 100);
        assert!(offsets.is_unstable("t", 0) && !offsets.is_unstable("t", 1));
        offsets.apply(&topic, 0, Some(value(20, 0, None)), 101);
        offsets.end_transaction(ProducerId(7), true);
        assert_eq!(offsets.get("t", 0).map(|value| value.offset), Some(20));
        offsets.apply_transactional(ProducerId(7), &topic, 0, Some(value(30, 0, None)), 102);
        offsets.end_transaction(ProducerId(7), false);
        assert_eq!(offsets.get("t", 0).map(|value| value.offset), Some(20));
        offsets.apply_transactional(ProducerId(7), &topic, 0, Some(value(40, 0, None)), 103);
        offsets.end_transaction(ProducerId(7), true);
        assert_eq!(offsets.get("t", 0).map(|value| value.offset), Some(40));
        offsets.apply(&topic, 0, None, 104);
        assert!(offsets.is_empty());
    }

    #[test]
    fn a_removed_offset_takes_earlier_ones_of_open_transactions_with_it() {
        let topic: Arc<str> = "t".into();
        let mut offsets = Offsets::default();
        offsets.apply(&topic, 0, Some(value(10, 0, None)), 100);
        for (producer, partition, record_offset) in [(7, 0, 101), (7, 1, 102), (8, 0, 103), (9, 0, 106)] {
            let put = Some(value(record_offset, 0, None));
            offsets.apply_transactional(ProducerId(producer), &topic, partition, put, record_offset);
        }
        assert_eq!(offsets.partitions(), [(topic.clone(), 0), (topic.clone(), 1)]);
        assert!(offsets.has_only(2) && !offsets.has_only(1));
        offsets.apply(&topic, 0, None, 105);
        [7, 8, 9].into_iter().for_each(|producer| offsets.end_transaction(ProducerId(producer), true));
        let left = |partition| offsets.get("t", partition).map(|value| value.offset);
        assert_eq!((left(0), left(1)), (Some(106), Some(102)));
    }

    #[test]
    fn what_an_open_transaction_is_about_to_change_does_not_expire() {
        let topic: Arc<str> = "t".into();
        let mut offsets = Offsets::default();
        offsets.apply(&topic, 0, Some(value(1, 0, None)), 1);
        offsets.apply_transactional(ProducerId(7), &topic, 0, Some(value(2, 0, None)), 2);
        let rule = Expiry { now: 10_000, retention_ms: 1_000, since: None, is_kept: &|_| false };
        assert!(offsets.expired(&rule).is_empty());
        offsets.end_transaction(ProducerId(7), false);
        assert_eq!(offsets.expired(&rule), [(topic, 0)]);
    }

    #[test]
    fn offsets_expire_by_the_group_the_commit_or_their_own_time() {
        let mut offsets = Offsets::default();
        offsets.apply(&"old".into(), 0, Some(value(1, 100, None)), 1);
        offsets.apply(&"new".into(), 0, Some(value(1, 900, None)), 2);
        offsets.apply(&"own".into(), 0, Some(value(1, 100, Some(5_000))), 3);
        let expired = |now, since, kept: &'static str| {
            let is_kept = move |topic: &str| topic == kept;
            let mut found: Vec<_> = offsets
                .expired(&Expiry { now, retention_ms: 1_000, since, is_kept: &is_kept })
                .into_iter()
                .map(|(topic, _)| topic.to_string())
                .collect();
            found.sort();
            found
        };
        let cases: &[(Millis, Option<Millis>, &'static str, &[&str])] = &[
            (1_099, None, "", &[]),
            (1_100, None, "", &["old"]),
            (1_100, None, "old", &[]),
            (1_900, None, "", &["new", "old"]),
            (1_900, Some(1_000), "", &[]),
            (2_000, Some(1_000), "", &["new", "old"]),
            (5_000, Some(10_000), "", &["own"]),
        ];
        for (now, since, kept, expected) in cases {
            assert_eq!(expired(*now, *since, kept), *expected, "{now} {since:?} {kept}");
        }
    }
}
