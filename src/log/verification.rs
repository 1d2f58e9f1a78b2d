//! Whether a partition's leader knows that a producer's transaction includes the partition (class `VerificationStateEntry`, KIP-890).
//!
//! A late batch of a transaction that is over would open one that nobody ends. So before the first batch the leader asks the
//! coordinator, and appends only if it says yes and no marker came in between: a marker takes the entry away, and an answer
//! that finds another entry or none says nothing any more. Invariant: transactional data is in the log only where the coordinator
//! knew of it.

use super::producer_state::ProducerError;
use crate::base::{Millis, ProducerEpoch, ProducerId};
use crate::record::BatchHeader;
use std::collections::HashMap;

/// Names one question to the coordinator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerificationGuard(u64);

struct Entry {
    guard: VerificationGuard,
    epoch: ProducerEpoch,
    /// The first sequence may not be above this one: an earlier batch is still on its way.
    lowest_sequence: Option<i32>,
    is_verified: bool,
    asked_ms: Millis,
}

#[derive(Default)]
pub(super) struct Verifications {
    entries: HashMap<ProducerId, Entry>,
    last_guard: u64,
}

impl Verifications {
    /// A question that has to be asked; `None` if it was answered already. Batches of coordinators have no `sequence`.
    pub fn begin(
        &mut self,
        producer: ProducerId,
        epoch: ProducerEpoch,
        sequence: Option<i32>,
        now_ms: Millis,
    ) -> Option<VerificationGuard> {
        if let Some(entry) = self.entries.get_mut(&producer)
            && entry.epoch >= epoch
        {
            if entry.epoch == epoch {
                entry.lowest_sequence = entry.lowest_sequence.into_iter().chain(sequence).min();
            }
            let is_answered = entry.is_verified && entry.epoch == epoch;
            return (!is_answered).then_some(entry.guard);
        }
        self.last_guard += 1;
        let guard = VerificationGuard(self.last_guard);
        let entry = Entry { guard, epoch, lowest_sequence: sequence, is_verified: false, asked_ms: now_ms };
        self.entries.insert(producer, entry);
        Some(guard)
    }

    /// The coordinator said yes to the question.
    pub fn confirm(&mut self, producer: ProducerId, guard: VerificationGuard) {
        if let Some(entry) = self.entries.get_mut(&producer).filter(|entry| entry.guard == guard) {
            entry.is_verified = true;
        }
    }

    /// Judges the first data batch of a transaction.
    pub fn check(&self, header: &BatchHeader) -> Result<(), ProducerError> {
        let entry = self.entries.get(&ProducerId(header.producer_id()));
        let Some(entry) = entry.filter(|entry| entry.is_verified && entry.epoch.0 == header.producer_epoch()) else {
            return Err(ProducerError::InvalidTransactionState);
        };
        match entry.lowest_sequence {
            Some(expected) if header.base_sequence() > expected => Err(ProducerError::OutOfOrderSequence { expected }),
            _ => Ok(()),
        }
    }

    /// The producer's transaction has begun here, or has ended.
    pub fn clear(&mut self, producer: ProducerId) {
        if !self.entries.is_empty() {
            self.entries.remove(&producer);
        }
    }

    /// Answers that are under way find nothing any more.
    pub fn clear_all(&mut self) {
        self.entries.clear();
    }

    pub fn expire(&mut self, now_ms: Millis, expiration_ms: Millis) {
        self.entries.retain(|_, entry| now_ms.saturating_sub(entry.asked_ms) < expiration_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCER: ProducerId = ProducerId(9);

    fn header(epoch: i16, sequence: i32) -> BatchHeader {
        let mut header = BatchHeader::new();
        header.set_producer_id(PRODUCER.0);
        header.set_producer_epoch(epoch);
        header.set_base_sequence(sequence);
        header
    }

    fn begin(states: &mut Verifications, epoch: i16, sequence: i32) -> Option<VerificationGuard> {
        states.begin(PRODUCER, ProducerEpoch(epoch), Some(sequence), 0)
    }

    #[test]
    fn only_what_the_coordinator_confirmed_passes() {
        let mut states = Verifications::default();
        let refused = Err(ProducerError::InvalidTransactionState);
        assert_eq!(states.check(&header(0, 0)), refused);
        let guard = begin(&mut states, 0, 0).unwrap();
        assert_eq!(states.check(&header(0, 0)), refused);
        states.confirm(PRODUCER, guard);
        assert_eq!(states.check(&header(0, 0)), Ok(()));
        assert_eq!(states.check(&header(1, 0)), refused);
        assert_eq!(begin(&mut states, 0, 0), None, "answered already");
    }

    #[test]
    fn an_answer_from_before_a_marker_says_nothing() {
        let mut states = Verifications::default();
        let before = begin(&mut states, 0, 0).unwrap();
        states.clear(PRODUCER);
        let after = begin(&mut states, 0, 0).unwrap();
        assert_ne!(before, after);
        states.confirm(PRODUCER, before);
        assert!(states.check(&header(0, 0)).is_err());
    }

    #[test]
    fn a_later_batch_does_not_overtake_an_earlier_one() {
        let mut states = Verifications::default();
        let guard = begin(&mut states, 0, 5).unwrap();
        assert_eq!(begin(&mut states, 0, 7), Some(guard));
        states.confirm(PRODUCER, guard);
        assert_eq!(states.check(&header(0, 7)), Err(ProducerError::OutOfOrderSequence { expected: 5 }));
        assert_eq!(states.check(&header(0, 5)), Ok(()));
    }

    #[test]
    fn a_higher_epoch_asks_anew_and_a_lower_one_is_not_taken_for_it() {
        let mut states = Verifications::default();
        let old = begin(&mut states, 0, 5).unwrap();
        let new = begin(&mut states, 1, 0).unwrap();
        assert_ne!(old, new);
        states.confirm(PRODUCER, old);
        assert!(states.check(&header(1, 0)).is_err() && states.check(&header(0, 5)).is_err());
        states.confirm(PRODUCER, new);
        assert_eq!(states.check(&header(1, 0)), Ok(()));
        assert!(begin(&mut states, 0, 5).is_some());
        assert!(states.check(&header(0, 5)).is_err());
        states.expire(99, 100);
        assert_eq!(states.check(&header(1, 0)), Ok(()));
        states.expire(100, 100);
        assert!(states.check(&header(1, 0)).is_err());
    }
}
