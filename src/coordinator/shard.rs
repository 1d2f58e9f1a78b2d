//! The pure half of a coordinator, as its driver sees it: events in, effects out.
//!
//! Invariant: what a new coordinator must know changes only when a record is replayed, whether it comes from the log or was
//! appended a moment ago. So loading a partition and serving live run one code path.

use crate::base::{ErrorCode, Millis, ProducerId};
use crate::record::{RecordError, ValidatedBatch};
use crate::wire::coordinator_record::RecordFormatError;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// Names a held reply: the driver keeps the waiting client by this number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReplyToken(pub u64);

/// Names an append under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WriteToken(pub u64);

/// `Millis` of both clocks: deadlines use the monotonic one, records and retention the wall clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    pub monotonic_ms: Millis,
    pub wall_ms: Millis,
}

/// What a shard wants done, in order: responses `R` to clients, batches `B` to the log, and errands `E` that lead elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect<R, B, E> {
    Reply(ReplyToken, R),
    Append(WriteToken, B),
    Errand(E),
}

/// The effects of a shard.
pub type EffectOf<S> = Effect<<S as Shard>::Response, <S as Shard>::Batch, <S as Shard>::Errand>;

/// What an errand comes back with.
pub enum Done<S: Shard> {
    Event(S::Event),
    /// It failed, and this is what the client hears that waits for it.
    Reply(ReplyToken, S::Response),
}

/// An errand under way. One that is done at once costs no task.
pub type Underway<S> = Pin<Box<dyn Future<Output = Done<S>> + Send>>;

/// A record as it lies in the log.
pub struct StoredRecord<'a> {
    pub offset: i64,
    pub key: &'a [u8],
    /// `None`: a tombstone.
    pub value: Option<&'a [u8]>,
    /// Whose transaction it is part of.
    pub producer: Option<ProducerId>,
}

/// All that one partition of a coordinator's topic holds.
pub trait Shard: Sized + Send + 'static {
    const TOPIC: &'static str;

    /// Decisions leave the broker under the leader epoch of the partition. Then a new epoch needs a shard that is loaded anew,
    /// nothing is appended in another epoch than the shard's, and what was loaded is not acted on before all in-sync replicas have
    /// it: until then another leader could be elected that does not know of a decision.
    const IS_BOUND_TO_EPOCH: bool;

    type Event: Send;
    type Response: Send + 'static;
    /// Records that are appended as one batch.
    type Batch: Send;
    type Errand: Send;
    /// What errands are done with.
    type Hands: Send + Sync + 'static;
    /// What happens while the log is being read, and may be missed by who reads it.
    type Note: Send;

    /// Replays a record of the log; one that is of no use here is passed over.
    fn read(&mut self, now: Now, record: &StoredRecord<'_>) -> Result<(), RecordFormatError>;

    /// Replays the marker that ends a producer's transaction.
    fn read_marker(&mut self, producer: ProducerId, commit: bool);

    /// What happened meanwhile; the records that have been read may know of it already.
    fn replay_note(&mut self, note: Self::Note);

    /// The whole log has been replayed.
    fn finish_loading(&mut self, now: Now, effects: &mut Vec<EffectOf<Self>>);

    fn step(&mut self, now: Now, event: Self::Event, effects: &mut Vec<EffectOf<Self>>);

    /// The partition has another leader now: whoever waits is told so.
    fn unload(self, effects: &mut Vec<EffectOf<Self>>);

    /// When the next [`tick`](Shard::tick) is due.
    fn next_deadline(&self) -> Option<Millis>;

    /// How many things it coordinates, for the log.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A timer may be due.
    fn tick() -> Self::Event;

    /// An append ended: the offset of its first record, or why it failed.
    fn appended(token: WriteToken, result: Result<i64, ErrorCode>) -> Self::Event;

    /// A batch as the log stores it.
    fn to_log(&self, batch: &Self::Batch, timestamp_ms: Millis) -> Result<ValidatedBatch, RecordError>;

    /// How long to wait for the replicas.
    fn append_timeout(&self, batch: &Self::Batch) -> Duration;

    /// Starts an errand, which may come back in several parts.
    fn run(hands: &Self::Hands, errand: Self::Errand) -> Vec<Underway<Self>>;
}
