//! Mistakes that a broker could make with transactions, made for it at the edges of the coordinator and of the leaders: each of them
//! must be noticed by the exploration.

use ottla::base::ErrorCode;
use ottla::transaction::TransactionShard;
use ottla::transaction::message::{Event, Marker};
use ottla::transaction::records::TransactionRecord;
use ottla::transaction::state::Status;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mistake {
    /// The coordinator does not look at the epoch of who asks.
    AnyEpochIsTaken,
    /// Leaders do not look at the epoch of who writes.
    AnyEpochWrites,
    /// The coordinator goes on before its decision is in the log.
    DecisionUnwritten,
    /// An append that failed counts as one that did not.
    FailureTakenForSuccess,
    /// A new coordinator does not finish what was decided.
    DecidedNotResumed,
    /// A new coordinator takes what was decided for what is still open.
    DecisionForgotten,
    /// A marker is answered and not written.
    MarkerLost,
    /// One of the partitions is told the opposite.
    MarkerTurned,
    /// Markers go to one of the partitions only, and all of them are said to have it.
    OnePartitionMarked,
}

pub const ALL: [Mistake; 9] = [
    Mistake::AnyEpochIsTaken,
    Mistake::AnyEpochWrites,
    Mistake::DecisionUnwritten,
    Mistake::FailureTakenForSuccess,
    Mistake::DecidedNotResumed,
    Mistake::DecisionForgotten,
    Mistake::MarkerLost,
    Mistake::MarkerTurned,
    Mistake::OnePartitionMarked,
];

/// What is about to reach the shard.
pub fn in_event(mistake: Option<Mistake>, shard: &TransactionShard, event: Event) -> Event {
    let Some(Mistake::AnyEpochIsTaken) = mistake else { return event };
    match event {
        Event::Add(token, mut request) => {
            if let Some(known) = shard.transaction(&request.id) {
                request.producer_epoch = known.stored.producer_epoch;
            }
            Event::Add(token, request)
        }
        Event::End(token, mut request) => {
            if let Some(known) = shard.transaction(&request.id) {
                request.producer_epoch = known.stored.producer_epoch;
            }
            Event::End(token, request)
        }
        event => event,
    }
}

/// How an append has ended for the coordinator, and whether the log has it.
pub fn in_append(
    mistake: Option<Mistake>,
    result: Result<(), ErrorCode>,
    is_written: bool,
) -> (Result<(), ErrorCode>, bool) {
    match mistake {
        Some(Mistake::DecisionUnwritten) if result.is_ok() => (result, false),
        Some(Mistake::FailureTakenForSuccess) => (Ok(()), is_written),
        _ => (result, is_written),
    }
}

/// What a new coordinator reads.
pub fn in_loading(mistake: Option<Mistake>, mut record: TransactionRecord) -> TransactionRecord {
    if let (Some(Mistake::DecisionForgotten), Some(value)) = (mistake, record.value.as_mut())
        && matches!(value.status, Status::PrepareCommit | Status::PrepareAbort)
    {
        value.status = Status::Ongoing;
    }
    record
}

/// A marker on its way to a partition; `None`: it is answered as if it had come.
pub fn in_marker(mistake: Option<Mistake>, mut marker: Marker, partition: usize) -> Option<Marker> {
    match mistake {
        Some(Mistake::MarkerLost) => return None,
        Some(Mistake::OnePartitionMarked) if partition > 0 => return None,
        Some(Mistake::MarkerTurned) if partition > 0 => marker.commit = !marker.commit,
        _ => {}
    }
    Some(marker)
}
