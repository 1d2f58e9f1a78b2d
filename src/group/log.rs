//! A shard of groups in its log: what it reads there, and what it makes of its records.

use super::message::{Batch, Effect, Event, Now, Response};
use super::records::CoordinatorRecord;
use super::shard::GroupShard;
use crate::base::topic_name::CONSUMER_OFFSETS;
use crate::base::{ErrorCode, Millis, ProducerId};
use crate::coordinator::{Shard, StoredRecord, Underway, WriteToken, build};
use crate::record::{BatchBuilder, RecordError, ValidatedBatch};
use crate::wire::coordinator_record::RecordFormatError;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

impl Shard for GroupShard {
    const TOPIC: &'static str = CONSUMER_OFFSETS;

    /// What groups decide is told to their members only, under the generation: a shard goes on when its leader is elected again.
    const IS_BOUND_TO_EPOCH: bool = false;

    type Event = Event;
    type Response = Response;
    type Batch = Arc<Batch>;
    type Errand = Infallible;
    type Hands = ();
    /// A marker that was appended: the producer, and whether it commits. One that was read already has nothing to end any more, since
    /// nobody could commit in between.
    type Note = (ProducerId, bool);

    fn read(&mut self, now: Now, record: &StoredRecord<'_>) -> Result<(), RecordFormatError> {
        if let Some(decoded) = CoordinatorRecord::decode(record.key, record.value)? {
            self.replay(now, decoded, record.offset, record.producer);
        }
        Ok(())
    }

    fn read_marker(&mut self, producer: ProducerId, commit: bool) {
        self.replay_marker(producer, commit);
    }

    fn replay_note(&mut self, (producer, commit): (ProducerId, bool)) {
        self.replay_marker(producer, commit);
    }

    fn finish_loading(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.finish_loading(now, effects);
    }

    fn step(&mut self, now: Now, event: Event, effects: &mut Vec<Effect>) {
        self.step(now, event, effects);
    }

    fn unload(self, effects: &mut Vec<Effect>) {
        self.unload(effects);
    }

    fn next_deadline(&self) -> Option<Millis> {
        self.next_deadline()
    }

    fn len(&self) -> usize {
        self.groups().count()
    }

    fn tick() -> Event {
        Event::Tick
    }

    fn appended(token: WriteToken, result: Result<i64, ErrorCode>) -> Event {
        Event::Appended(token, result)
    }

    fn to_log(&self, batch: &Arc<Batch>, timestamp_ms: Millis) -> Result<ValidatedBatch, RecordError> {
        let mut builder = BatchBuilder::new().compression(self.config().compression, None);
        if let Some((producer, epoch)) = batch.transaction {
            builder = builder.producer(producer.0, epoch.0, -1).transactional(true);
        }
        build(builder, &batch.records, timestamp_ms, |record, key, value| {
            record.encode_key(key);
            record.encode_value(value)
        })
    }

    fn append_timeout(&self, _batch: &Arc<Batch>) -> Duration {
        Duration::from_millis(self.config().commit_timeout_ms.max(0) as u64)
    }

    fn run(_hands: &(), errand: Infallible) -> Vec<Underway<GroupShard>> {
        match errand {}
    }
}
