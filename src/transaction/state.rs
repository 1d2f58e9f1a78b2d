//! One transactional id: its producer, and the transaction that is under way (class `TransactionMetadata`).
//!
//! ```text
//!            +--------- InitProducerId --------+
//!            v                                 |
//!          Empty --add--> Ongoing --end--> PrepareCommit --markers--> CompleteCommit --add--> Ongoing
//!                            |    --end/fence--> PrepareAbort --markers--> CompleteAbort --add--> Ongoing
//! ```
//! Invariant: while a record is being written or markers are on their way, nothing else of the id changes: requests that would
//! change it are told CONCURRENT_TRANSACTIONS.

use super::message::{MarkersToken, WriteToken};
use super::records::TransactionValue;
use crate::base::{Millis, ProducerEpoch, ProducerId, TopicPartition};
use std::collections::BTreeSet;

/// The last epoch of a producer id that a client gets; the one above is left for fencing.
pub const LAST_EPOCH: ProducerEpoch = ProducerEpoch(i16::MAX - 1);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Status {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
    /// Never stored by a 3.9 broker, which writes a tombstone instead.
    Dead,
    /// Never stored.
    PrepareEpochFence,
}

impl Status {
    const ALL: [Status; 8] = [
        Status::Empty,
        Status::Ongoing,
        Status::PrepareCommit,
        Status::PrepareAbort,
        Status::CompleteCommit,
        Status::CompleteAbort,
        Status::Dead,
        Status::PrepareEpochFence,
    ];

    pub fn code(self) -> i8 {
        self as i8
    }

    /// Of the states that a log may hold.
    pub fn of_code(code: i8) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.code() == code && *status != Status::PrepareEpochFence)
    }

    /// As tools show it.
    pub fn name(self) -> &'static str {
        match self {
            Status::Empty => "Empty",
            Status::Ongoing => "Ongoing",
            Status::PrepareCommit => "PrepareCommit",
            Status::PrepareAbort => "PrepareAbort",
            Status::CompleteCommit => "CompleteCommit",
            Status::CompleteAbort => "CompleteAbort",
            Status::Dead => "Dead",
            Status::PrepareEpochFence => "PrepareEpochFence",
        }
    }

    pub fn of_name(name: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.name() == name)
    }

    /// The decision of a transaction whose markers have to be written.
    pub fn decision(self) -> Option<bool> {
        match self {
            Status::PrepareCommit => Some(true),
            Status::PrepareAbort => Some(false),
            _ => None,
        }
    }

    pub fn prepare(commit: bool) -> Status {
        if commit { Status::PrepareCommit } else { Status::PrepareAbort }
    }

    pub fn complete(commit: bool) -> Status {
        if commit { Status::CompleteCommit } else { Status::CompleteAbort }
    }

    /// No transaction is under way: a new one may begin, and the id may expire.
    pub fn is_idle(self) -> bool {
        matches!(self, Status::Empty | Status::CompleteCommit | Status::CompleteAbort)
    }
}

/// Why nothing may change now.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Pending {
    Write(WriteToken),
    Markers(Markers),
}

/// Markers of one transaction that are on their way to the leaders of its partitions.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Markers {
    pub token: MarkersToken,
    /// Not yet written.
    pub missing: BTreeSet<TopicPartition>,
    /// Those of them that are to be tried again.
    pub failed: BTreeSet<TopicPartition>,
    /// A leader knows of a newer coordinator or producer: this one has nothing more to say.
    pub is_fenced: bool,
}

#[derive(Clone, Debug)]
pub struct Transaction {
    /// What the log says. The epoch may be one higher: see `fence_failed`.
    pub stored: TransactionValue,
    /// The producer id and epoch before the last InitProducerId, by which its repetition is known. Memory only, as in Kafka.
    pub previous_id: ProducerId,
    pub previous_epoch: ProducerEpoch,
    /// The epoch was raised to fence a producer, but the record of it may not be in the log: it is not raised again, since
    /// nobody got the new one.
    pub fence_failed: bool,
    /// When the transaction that is under way times out, by the monotonic clock.
    pub deadline: Option<Millis>,
    pub pending: Option<Pending>,
}

impl Transaction {
    /// An id that nothing is stored of yet.
    pub fn new(producer_id: ProducerId, timeout_ms: i32, now: Millis) -> Transaction {
        Transaction {
            stored: TransactionValue {
                producer_id,
                producer_epoch: ProducerEpoch::NONE,
                timeout_ms,
                status: Status::Empty,
                partitions: BTreeSet::new(),
                last_update_ms: now,
                start_ms: -1,
            },
            previous_id: ProducerId::NONE,
            previous_epoch: ProducerEpoch::NONE,
            fence_failed: false,
            deadline: None,
            pending: None,
        }
    }

    pub fn is_stored(&self) -> bool {
        self.stored.producer_epoch != ProducerEpoch::NONE
    }

    pub fn status(&self) -> Status {
        self.stored.status
    }

    /// No epoch is left that a client could get.
    pub fn is_exhausted(&self) -> bool {
        self.stored.producer_epoch >= LAST_EPOCH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_kafkas_codes_and_names() {
        let codes = [
            (0, "Empty"),
            (1, "Ongoing"),
            (2, "PrepareCommit"),
            (3, "PrepareAbort"),
            (4, "CompleteCommit"),
            (5, "CompleteAbort"),
            (6, "Dead"),
        ];
        for (code, name) in codes {
            assert_eq!(Status::of_code(code).map(Status::name), Some(name));
            assert_eq!(Status::of_name(name).map(Status::code), Some(code));
        }
        assert_eq!((Status::of_code(7), Status::of_code(-1)), (None, None));
        assert_eq!(Status::of_name("PrepareEpochFence"), Some(Status::PrepareEpochFence));
        assert_eq!(Status::of_name("ongoing"), None);
    }
}
