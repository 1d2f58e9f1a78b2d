//! What the transaction coordinator is asked and what it answers, free of protocol versions: `api/` translates.

use super::records::TransactionRecord;
use crate::base::{ErrorCode, Millis, ProducerEpoch, ProducerId, TopicPartition};
use crate::coordinator;
use std::sync::Arc;

pub use crate::coordinator::{Now, ReplyToken, WriteToken};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct InitRequest {
    pub id: Arc<str>,
    pub timeout_ms: i32,
    /// What the producer had before, if it says so (KIP-360).
    pub expected: Option<(ProducerId, ProducerEpoch)>,
}

pub type InitResponse = Result<(ProducerId, ProducerEpoch), ErrorCode>;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AddRequest {
    pub id: Arc<str>,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub partitions: Vec<TopicPartition>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct EndRequest {
    pub id: Arc<str>,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub commit: bool,
}

/// Names the end of one transaction, from its decision to its last marker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MarkersToken(pub u64);

/// What goes back for a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Response {
    Init(InitResponse),
    /// Of AddPartitionsToTxn and AddOffsetsToTxn for all their partitions, and of EndTxn.
    Done(ErrorCode),
}

/// What ends a transaction in a partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Marker {
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub commit: bool,
    /// Leader epoch of the partition of `__transaction_state`.
    pub coordinator_epoch: i32,
}

/// What became of a marker for one partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum MarkerOutcome {
    Written,
    /// The leader moved, cannot write now, or did not answer.
    Failed,
    /// The partition is not there any more, so nothing in it needs an end.
    Gone,
    /// The leader has heard of a newer coordinator, or of a newer epoch of the producer.
    Fenced,
}

/// What happens to a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A producer id if the request was told to come back with one.
    Init(ReplyToken, InitRequest, Option<ProducerId>),
    Add(ReplyToken, AddRequest),
    End(ReplyToken, EndRequest),
    /// An append ended.
    Appended(WriteToken, Result<(), ErrorCode>),
    /// Leaders answered; a partition is answered once for each time that it was sent to.
    Markers(MarkersToken, Arc<str>, Vec<(TopicPartition, MarkerOutcome)>),
    /// A timer may be due.
    Tick,
}

/// Records that are appended as one batch.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Batch {
    pub records: Vec<TransactionRecord>,
    /// How long to wait for the replicas.
    pub timeout_ms: Millis,
}

/// What leads a shard elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Errand {
    /// A producer id is needed: the request comes back with one, or is refused if there is none.
    Allocate(ReplyToken, InitRequest),
    /// The id of the transaction, the marker, and where to write it.
    Send(MarkersToken, Arc<str>, Marker, Vec<TopicPartition>),
}

/// What a shard wants done, in order.
pub type Effect = coordinator::Effect<Response, Batch, Errand>;
