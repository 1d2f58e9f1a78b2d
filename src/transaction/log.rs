//! A shard of transactional ids in its log: what it reads there, what it makes of its records, and how its errands are run.

use super::markers::{Delivery, MarkerSender};
use super::message::{Batch, Effect, Errand, Event, Now, Response};
use super::producer_ids::ProducerIdManager;
use super::records::TransactionRecord;
use super::shard::TransactionShard;
use crate::base::topic_name::TRANSACTION_STATE;
use crate::base::{ErrorCode, Millis, ProducerId};
use crate::coordinator::{Done, Shard, StoredRecord, Underway, WriteToken, build};
use crate::record::{BatchBuilder, RecordError, ValidatedBatch};
use crate::wire::coordinator_record::RecordFormatError;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// What the shards' errands are run with.
pub struct Hands {
    pub markers: Arc<dyn MarkerSender>,
    pub producer_ids: Arc<ProducerIdManager>,
}

impl Shard for TransactionShard {
    const TOPIC: &'static str = TRANSACTION_STATE;

    /// The epoch goes into every marker, by which partitions refuse those of an earlier coordinator.
    const IS_BOUND_TO_EPOCH: bool = true;

    type Event = Event;
    type Response = Response;
    type Batch = Batch;
    type Errand = Errand;
    type Hands = Hands;
    type Note = Infallible;

    fn read(&mut self, now: Now, record: &StoredRecord<'_>) -> Result<(), RecordFormatError> {
        if let Some(decoded) = TransactionRecord::decode(record.key, record.value)? {
            self.replay(now, decoded);
        }
        Ok(())
    }

    /// No producer's transaction includes this topic.
    fn read_marker(&mut self, _producer: ProducerId, _commit: bool) {}

    fn replay_note(&mut self, note: Infallible) {
        match note {}
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
        self.transactions().count()
    }

    fn tick() -> Event {
        Event::Tick
    }

    fn appended(token: WriteToken, result: Result<i64, ErrorCode>) -> Event {
        Event::Appended(token, result.map(drop))
    }

    fn to_log(&self, batch: &Batch, timestamp_ms: Millis) -> Result<ValidatedBatch, RecordError> {
        build(BatchBuilder::new(), &batch.records, timestamp_ms, |record, key, value| {
            record.encode_key(key);
            record.encode_value(value)
        })
    }

    fn append_timeout(&self, batch: &Batch) -> Duration {
        Duration::from_millis(batch.timeout_ms.max(0) as u64)
    }

    fn run(hands: &Hands, errand: Errand) -> Vec<Underway<TransactionShard>> {
        match errand {
            Errand::Allocate(token, request) => {
                let ids = hands.producer_ids.clone();
                vec![Box::pin(async move {
                    match ids.next().await {
                        Ok(id) => Done::Event(Event::Init(token, request, Some(id))),
                        Err(error) => Done::Reply(token, Response::Init(Err(error))),
                    }
                })]
            }
            Errand::Send(token, id, marker, partitions) => {
                let event = |delivery: Delivery| -> Underway<TransactionShard> {
                    let id = id.clone();
                    Box::pin(async move { Done::Event(Event::Markers(token, id, delivery.await)) })
                };
                hands.markers.send(marker, partitions).into_iter().map(event).collect()
            }
        }
    }
}
