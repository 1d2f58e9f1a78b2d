//! What a log knows of its idempotent and transactional producers (classes `ProducerStateManager`, `ProducerStateEntry`,
//! KIP-98).
//!
//! Invariant: the state is what a replay of the batches from the last snapshot to `end_offset` gives; checks happen before
//! the write, changes after it.

use super::transaction_index::AbortedTransaction;
use crate::base::{Millis, ProducerEpoch, ProducerId};
use crate::record::{BatchHeader, EndTxnMarker};
use std::collections::{BTreeMap, HashMap};

/// Batches of a producer by which duplicates are known.
const BATCHES_KEPT: usize = 5;

/// Who appends, and so which checks apply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppendOrigin {
    Client,
    /// Group or transaction coordinator: no sequences.
    Coordinator,
    /// A follower takes what the leader has; recovery takes what the file has.
    Replication,
}

/// A batch that is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchMetadata {
    pub last_sequence: i32,
    pub last_offset: i64,
    pub offset_delta: i32,
    pub timestamp: Millis,
}

impl BatchMetadata {
    pub fn first_offset(&self) -> i64 {
        self.last_offset - i64::from(self.offset_delta)
    }

    /// Wraps below 0 to 2^31-1.
    pub fn first_sequence(&self) -> i32 {
        let first = i64::from(self.last_sequence) - i64::from(self.offset_delta);
        if first < 0 { (first + (1 << 31)) as i32 } else { first as i32 }
    }
}

/// One producer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerEntry {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
    /// Oldest first.
    batches: [Option<BatchMetadata>; BATCHES_KEPT],
    /// Of the last marker; -1 is none.
    pub coordinator_epoch: i32,
    pub last_timestamp: Millis,
    pub transaction_first_offset: Option<i64>,
}

impl ProducerEntry {
    pub fn new(id: ProducerId) -> ProducerEntry {
        ProducerEntry {
            id,
            epoch: ProducerEpoch::NONE,
            batches: [None; BATCHES_KEPT],
            coordinator_epoch: -1,
            last_timestamp: -1,
            transaction_first_offset: None,
        }
    }

    pub fn last_batch(&self) -> Option<BatchMetadata> {
        self.batches.iter().rev().find_map(|batch| *batch)
    }

    pub fn first_offset(&self) -> Option<i64> {
        self.batches.iter().find_map(|batch| batch.map(|b| b.first_offset()))
    }

    /// -1 if no batch is known.
    pub fn last_sequence(&self) -> i32 {
        self.last_batch().map_or(-1, |batch| batch.last_sequence)
    }

    pub fn add_batch(&mut self, batch: BatchMetadata) {
        match self.batches.iter_mut().find(|slot| slot.is_none()) {
            Some(free) => *free = Some(batch),
            None => {
                self.batches.rotate_left(1);
                self.batches[BATCHES_KEPT - 1] = Some(batch);
            }
        }
    }

    fn set_epoch(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches = [None; BATCHES_KEPT];
        }
    }

    fn find_duplicate(&self, header: &BatchHeader) -> Option<BatchMetadata> {
        if header.producer_epoch() != self.epoch.0 {
            return None;
        }
        let same = |b: &BatchMetadata| {
            b.first_sequence() == header.base_sequence() && b.last_sequence == header.last_sequence()
        };
        self.batches.iter().flatten().copied().find(same)
    }
}

/// Why a batch is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProducerError {
    OutOfOrderSequence {
        expected: i32,
    },
    InvalidEpoch {
        current: ProducerEpoch,
    },
    /// A plain batch inside the producer's open transaction, or a transactional one of which the coordinator does not know.
    InvalidTransactionState,
    CoordinatorFenced {
        epoch: i32,
        current: i32,
    },
}

/// A transaction that a marker ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CompletedTransaction {
    pub producer_id: ProducerId,
    pub first_offset: i64,
    pub last_offset: i64,
    pub is_aborted: bool,
}

/// Changes that one append makes, prepared before the write.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProducerUpdate {
    entries: Vec<ProducerEntry>,
    completed: Vec<CompletedTransaction>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProducerStates {
    entries: HashMap<ProducerId, ProducerEntry>,
    /// Open transactions by their first offset.
    ongoing: BTreeMap<i64, ProducerId>,
    /// Ended transactions whose marker is not yet below the high watermark: first offset to marker's offset.
    unreplicated: BTreeMap<i64, i64>,
    end_offset: i64,
}

impl ProducerStates {
    pub fn new(end_offset: i64) -> ProducerStates {
        ProducerStates { end_offset, ..ProducerStates::default() }
    }

    /// From a snapshot taken at `end_offset`.
    pub fn from_entries(entries: Vec<ProducerEntry>, end_offset: i64) -> ProducerStates {
        let mut states = ProducerStates::new(end_offset);
        for entry in entries {
            if let Some(first) = entry.transaction_first_offset {
                states.ongoing.insert(first, entry.id);
            }
            states.entries.insert(entry.id, entry);
        }
        states
    }

    pub fn entries(&self) -> impl Iterator<Item = &ProducerEntry> {
        self.entries.values()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn has_open_transaction(&self, producer: ProducerId) -> bool {
        self.entries.get(&producer).is_some_and(|entry| entry.transaction_first_offset.is_some())
    }

    /// The state covers the batches before this offset.
    pub fn end_offset(&self) -> i64 {
        self.end_offset
    }

    pub fn set_end_offset(&mut self, offset: i64) {
        self.end_offset = offset;
    }

    /// An earlier batch that `header` repeats.
    pub fn duplicate_of(&self, header: &BatchHeader) -> Option<BatchMetadata> {
        self.entries.get(&ProducerId(header.producer_id()))?.find_duplicate(header)
    }

    /// Checks a batch against the state and the batches that `update` already has, and adds it to `update`.
    pub fn check(
        &self,
        update: &mut ProducerUpdate,
        header: &BatchHeader,
        marker: Option<EndTxnMarker>,
        origin: AppendOrigin,
    ) -> Result<(), ProducerError> {
        if !header.has_producer_id() || (header.is_control() && marker.is_none()) {
            return Ok(());
        }
        let id = ProducerId(header.producer_id());
        let at = match update.entries.iter().position(|entry| entry.id == id) {
            Some(at) => at,
            None => {
                update.entries.push(self.entries.get(&id).copied().unwrap_or_else(|| ProducerEntry::new(id)));
                update.entries.len() - 1
            }
        };
        let entry = &mut update.entries[at];
        match marker {
            Some(marker) => update.completed.extend(end_transaction(entry, header, marker, origin)?),
            None => add_data(entry, header, origin)?,
        }
        Ok(())
    }

    /// Takes over what was prepared, and gives what belongs into the transaction index.
    pub fn apply(&mut self, update: ProducerUpdate) -> Vec<AbortedTransaction> {
        // Each transaction ends among all that were open at its marker: those too that begin or end later in the same append.
        let begun = update.entries.iter().filter_map(|entry| Some((entry.transaction_first_offset?, entry.id)));
        let ended = update.completed.iter().map(|done| (done.first_offset, done.producer_id));
        self.ongoing.extend(begun.chain(ended));
        self.entries.extend(update.entries.into_iter().map(|entry| (entry.id, entry)));
        let mut aborted = Vec::new();
        for done in &update.completed {
            aborted.extend(done.is_aborted.then(|| self.aborted(done)));
            self.ongoing.remove(&done.first_offset);
            self.unreplicated.insert(done.first_offset, done.last_offset);
        }
        aborted
    }

    fn aborted(&self, done: &CompletedTransaction) -> AbortedTransaction {
        // A reader looks no further than the first entry whose stable offset is beyond what it reads: what began after the
        // marker, in the same append, must not count.
        let open = self.ongoing.keys().copied().find(|first| *first != done.first_offset);
        let end = done.last_offset + 1;
        AbortedTransaction {
            producer_id: done.producer_id,
            first_offset: done.first_offset,
            last_offset: done.last_offset,
            last_stable_offset: open.map_or(end, |first| first.min(end)),
        }
    }

    /// First offset that a reader of committed data must not see yet, apart from the high watermark.
    pub fn first_unstable_offset(&self) -> Option<i64> {
        let ongoing = self.ongoing.keys().next();
        let unreplicated = self.unreplicated.keys().next();
        ongoing.into_iter().chain(unreplicated).min().copied()
    }

    pub fn on_high_watermark(&mut self, high_watermark: i64) {
        self.unreplicated.retain(|_, marker| *marker >= high_watermark);
    }

    /// Forgets producers that were silent too long and have no open transaction.
    pub fn expire(&mut self, now_ms: Millis, expiration_ms: Millis) {
        self.entries.retain(|_, entry| !is_expired(entry, now_ms, expiration_ms));
    }
}

pub fn is_expired(entry: &ProducerEntry, now_ms: Millis, expiration_ms: Millis) -> bool {
    entry.transaction_first_offset.is_none() && now_ms.saturating_sub(entry.last_timestamp) >= expiration_ms
}

fn check_epoch(entry: &ProducerEntry, header: &BatchHeader, origin: AppendOrigin) -> Result<(), ProducerError> {
    if header.producer_epoch() < entry.epoch.0 && origin != AppendOrigin::Replication {
        return Err(ProducerError::InvalidEpoch { current: entry.epoch });
    }
    Ok(())
}

/// A new producer may begin anywhere, a new epoch at 0, and otherwise the sequence goes on.
fn check_sequence(entry: &ProducerEntry, header: &BatchHeader) -> Result<(), ProducerError> {
    if entry.epoch == ProducerEpoch::NONE {
        return Ok(());
    }
    let expected = match entry.last_sequence() {
        _ if entry.epoch.0 != header.producer_epoch() => 0,
        i32::MAX => 0,
        last => last + 1,
    };
    if header.base_sequence() == expected { Ok(()) } else { Err(ProducerError::OutOfOrderSequence { expected }) }
}

fn add_data(entry: &mut ProducerEntry, header: &BatchHeader, origin: AppendOrigin) -> Result<(), ProducerError> {
    check_epoch(entry, header, origin)?;
    if origin == AppendOrigin::Client {
        check_sequence(entry, header)?;
        if entry.transaction_first_offset.is_some() && !header.is_transactional() {
            return Err(ProducerError::InvalidTransactionState);
        }
    }
    entry.set_epoch(ProducerEpoch(header.producer_epoch()));
    entry.add_batch(BatchMetadata {
        last_sequence: header.last_sequence(),
        last_offset: header.last_offset(),
        offset_delta: header.last_offset_delta(),
        timestamp: header.max_timestamp(),
    });
    entry.last_timestamp = header.max_timestamp();
    if header.is_transactional() && entry.transaction_first_offset.is_none() {
        entry.transaction_first_offset = Some(header.base_offset());
    }
    Ok(())
}

fn end_transaction(
    entry: &mut ProducerEntry,
    header: &BatchHeader,
    marker: EndTxnMarker,
    origin: AppendOrigin,
) -> Result<Option<CompletedTransaction>, ProducerError> {
    check_epoch(entry, header, origin)?;
    if marker.coordinator_epoch < entry.coordinator_epoch && origin != AppendOrigin::Replication {
        return Err(ProducerError::CoordinatorFenced {
            epoch: marker.coordinator_epoch,
            current: entry.coordinator_epoch,
        });
    }
    entry.set_epoch(ProducerEpoch(header.producer_epoch()));
    entry.coordinator_epoch = marker.coordinator_epoch;
    entry.last_timestamp = header.max_timestamp();
    Ok(entry.transaction_first_offset.take().map(|first_offset| CompletedTransaction {
        producer_id: entry.id,
        first_offset,
        last_offset: header.base_offset(),
        is_aborted: !marker.commit,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, sequence: i32, count: i32, offset: i64) -> BatchHeader {
        let mut header = BatchHeader::new();
        header.set_producer_id(9);
        header.set_producer_epoch(epoch);
        header.set_base_sequence(sequence);
        header.set_last_offset_delta(count - 1);
        header.set_base_offset(offset);
        header.set_max_timestamp(1000);
        header
    }

    fn transactional(epoch: i16, sequence: i32, offset: i64) -> BatchHeader {
        let mut header = batch(epoch, sequence, 1, offset);
        header.set_attributes(0x10);
        header
    }

    fn append(states: &mut ProducerStates, header: &BatchHeader) -> Result<(), ProducerError> {
        let mut update = ProducerUpdate::default();
        states.check(&mut update, header, None, AppendOrigin::Client)?;
        states.apply(update);
        Ok(())
    }

    #[test]
    fn sequences() {
        let out_of_order = |expected| Err(ProducerError::OutOfOrderSequence { expected });
        let mut states = ProducerStates::new(0);
        // (epoch, first sequence, count) -> outcome; refused ones change nothing
        let steps = [
            ((0, 7, 3), Ok(())), // unknown producer: any sequence
            ((0, 10, 1), Ok(())),
            ((0, 12, 1), out_of_order(11)),
            ((1, 5, 1), out_of_order(0)),
            ((1, 0, 1), Ok(())),
            ((0, 11, 1), Err(ProducerError::InvalidEpoch { current: ProducerEpoch(1) })),
            ((1, 1, i32::MAX), Ok(())), // to 2^31-1
            ((1, 0, 1), Ok(())),
            ((1, 2, 1), out_of_order(1)),
        ];
        let mut offset = 0;
        for ((epoch, sequence, count), expected) in steps {
            let header = batch(epoch, sequence, count, offset);
            assert_eq!(append(&mut states, &header), expected, "epoch {epoch} sequence {sequence}");
            offset += i64::from(count);
        }
    }

    #[test]
    fn the_last_five_batches_are_known_as_duplicates() {
        let mut states = ProducerStates::new(0);
        for i in 0..7 {
            append(&mut states, &batch(0, i * 2, 2, i64::from(i) * 2)).unwrap();
        }
        for i in 0..7 {
            let found = states.duplicate_of(&batch(0, i * 2, 2, 99)).map(|b| b.first_offset());
            assert_eq!(found, (i >= 2).then_some(i64::from(i) * 2), "batch {i}");
        }
        assert_eq!(states.duplicate_of(&batch(0, 12, 1, 99)), None, "half a batch is no duplicate");
        assert_eq!(states.duplicate_of(&batch(1, 12, 2, 99)), None, "another epoch is no duplicate");
    }

    #[test]
    fn first_sequence_wraps_backwards() {
        let batch = BatchMetadata { last_sequence: 1, last_offset: 13, offset_delta: 3, timestamp: 0 };
        assert_eq!((batch.first_sequence(), batch.first_offset()), (i32::MAX - 1, 10));
    }

    /// KAFKA-9807: the end of a transaction moves the last stable offset when it is replicated, and not before.
    #[test]
    fn transactions_hold_the_stable_offset_until_the_marker_is_replicated() {
        let mut states = ProducerStates::new(0);
        append(&mut states, &transactional(0, 0, 10)).unwrap();
        append(&mut states, &transactional(0, 1, 11)).unwrap();
        assert_eq!(states.first_unstable_offset(), Some(10));
        assert_eq!(append(&mut states, &batch(0, 2, 1, 12)), Err(ProducerError::InvalidTransactionState));

        let mut control = batch(0, -1, 1, 12);
        control.set_attributes(0x30);
        let mut update = ProducerUpdate::default();
        let marker = EndTxnMarker { commit: false, coordinator_epoch: 3 };
        states.check(&mut update, &control, Some(marker), AppendOrigin::Coordinator).unwrap();
        let aborted = states.apply(update);
        assert_eq!(aborted.len(), 1);
        assert_eq!((aborted[0].first_offset, aborted[0].last_offset, aborted[0].last_stable_offset), (10, 12, 13));
        assert_eq!(states.first_unstable_offset(), Some(10));
        states.on_high_watermark(12);
        assert_eq!(states.first_unstable_offset(), Some(10));
        states.on_high_watermark(13);
        assert_eq!(states.first_unstable_offset(), None);

        let old = EndTxnMarker { commit: true, coordinator_epoch: 2 };
        let refused = states.check(&mut ProducerUpdate::default(), &control, Some(old), AppendOrigin::Coordinator);
        assert_eq!(refused, Err(ProducerError::CoordinatorFenced { epoch: 2, current: 3 }));
        // The sequence goes on after a marker.
        append(&mut states, &batch(0, 2, 1, 13)).unwrap();
    }

    /// KAFKA-7190, KAFKA-9144: producers are forgotten by age, and not because their last records were deleted.
    #[test]
    fn silent_producers_expire_but_open_transactions_do_not() {
        let mut states = ProducerStates::new(0);
        append(&mut states, &transactional(0, 0, 10)).unwrap();
        states.expire(1000 + 86_400_000, 86_400_000);
        assert!(!states.is_empty());
        let mut states = ProducerStates::new(0);
        append(&mut states, &batch(0, 0, 1, 10)).unwrap();
        states.expire(1000 + 86_399_999, 86_400_000);
        assert!(!states.is_empty());
        states.expire(1000 + 86_400_000, 86_400_000);
        assert!(states.is_empty());
    }
}
