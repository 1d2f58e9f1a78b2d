//! What an operator is told of a partition that cannot follow its leader, and that may last: once, and not at every attempt.
//!
//! Apache Kafka says it at each of them (`AbstractFetcherThread`: "Found invalid messages during fetch").

use crate::base::{Millis, TopicPartition};
use crate::replica::error::ReplicaError;

/// What still lasts is told again, for those who did not see it.
const AGAIN_AFTER_MS: Millis = 10 * 60 * 1000;

#[derive(Default)]
pub struct Trouble {
    /// At which offset, and when.
    told: Option<(i64, Millis)>,
}

impl Trouble {
    pub fn tell(&mut self, now_ms: Millis, partition: &TopicPartition, offset: i64, error: &ReplicaError) {
        if !self.is_due(now_ms, offset) {
            tracing::debug!(%partition, offset, %error, "cannot follow the leader; trying again");
            return;
        }
        match error {
            ReplicaError::Corrupt(reason) => tracing::error!(
                %partition,
                offset,
                reason,
                "the leader's batch at offset {offset} of {partition} is damaged and is not taken over; it is asked for again until it is \
                 whole: put a good copy of the segment in the leader's place, let a replica lead that has the records \
                 (kafka-leader-election), or delete the records up to there (kafka-delete-records)"
            ),
            error => tracing::error!(%partition, offset, %error, "cannot follow the leader; trying again"),
        }
    }

    fn is_due(&mut self, now_ms: Millis, offset: i64) -> bool {
        let is_told = self.told.is_some_and(|(at, told_ms)| at == offset && now_ms < told_ms + AGAIN_AFTER_MS);
        if !is_told {
            self.told = Some((offset, now_ms));
        }
        !is_told
    }

    /// Records were taken over.
    pub fn end(&mut self, partition: &TopicPartition, offset: i64) {
        if self.told.take().is_some() {
            tracing::info!(%partition, offset, "follows the leader again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_told_once_at_each_offset_and_again_after_long() {
        let mut trouble = Trouble::default();
        let due =
            [(0, 5), (1, 5), (1000, 5), (2000, 7), (3000, 7), (2000 + AGAIN_AFTER_MS, 7), (3000 + AGAIN_AFTER_MS, 7)];
        let told: Vec<bool> = due.iter().map(|(now_ms, offset)| trouble.is_due(*now_ms, *offset)).collect();
        assert_eq!(told, [true, false, false, true, false, true, false]);
        trouble.end(&TopicPartition::new("t", 0), 7);
        assert!(trouble.is_due(4000 + AGAIN_AFTER_MS, 7));
    }
}
