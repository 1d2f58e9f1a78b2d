//! What the group coordinator is asked and what it answers, free of protocol versions: `api/` translates.
//!
//! Strings are `Arc<str>` and byte fields are copies, so that no group keeps a request's frame alive.

use super::records::{CoordinatorRecord, OffsetValue};
use crate::base::{ErrorCode, ProducerEpoch, ProducerId};
use crate::coordinator;
use bytes::Bytes;
use std::convert::Infallible;
use std::sync::Arc;

pub use crate::coordinator::{Now, ReplyToken, WriteToken};

/// A protocol (assignor) that a member supports, with its metadata (for consumers: the subscription).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Protocol {
    pub name: Arc<str>,
    pub metadata: Bytes,
}

#[derive(Clone, Debug)]
pub struct JoinRequest {
    pub group: Arc<str>,
    /// Empty: a member that has no id yet.
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    /// The id that this request gets if it needs one. Drawn by the driver, since the core has no randomness.
    pub new_member_id: Arc<str>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub protocol_type: Arc<str>,
    pub protocols: Vec<Protocol>,
    /// A dynamic member must come back with the id it is given (JoinGroup 4 and later).
    pub require_known_member_id: bool,
    /// JoinGroup 9 and later.
    pub supports_skip_assignment: bool,
}

/// A member as the leader of the group sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinedMember {
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    pub metadata: Bytes,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinResponse {
    pub error: ErrorCode,
    pub generation: i32,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    /// Empty if there is none.
    pub leader: Arc<str>,
    pub skip_assignment: bool,
    pub member_id: Arc<str>,
    /// For the leader only.
    pub members: Vec<JoinedMember>,
}

impl JoinResponse {
    pub fn error(member_id: Arc<str>, error: ErrorCode) -> JoinResponse {
        JoinResponse {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: "".into(),
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct SyncRequest {
    pub group: Arc<str>,
    pub generation: i32,
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    /// SyncGroup 5 and later.
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    /// From the leader only.
    pub assignments: Vec<(Arc<str>, Bytes)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncResponse {
    pub error: ErrorCode,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub assignment: Bytes,
}

impl SyncResponse {
    pub fn error(error: ErrorCode) -> SyncResponse {
        SyncResponse { error, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

#[derive(Clone, Debug)]
pub struct HeartbeatRequest {
    pub group: Arc<str>,
    pub generation: i32,
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
}

/// A member that leaves. With an instance id and an empty member id an administrator removes whoever holds the instance.
#[derive(Clone, Debug)]
pub struct LeavingMember {
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
}

#[derive(Clone, Debug)]
pub struct LeaveRequest {
    pub group: Arc<str>,
    pub members: Vec<LeavingMember>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaveResponse {
    pub error: ErrorCode,
    /// One a leaving member, in the order of the request; empty if `error` says it all.
    pub members: Vec<ErrorCode>,
}

#[derive(Clone, Debug)]
pub struct CommitTopic {
    pub topic: Arc<str>,
    pub partitions: Vec<(i32, OffsetValue)>,
}

#[derive(Clone, Debug)]
pub struct CommitRequest {
    pub group: Arc<str>,
    /// Negative: not a member (an administrator, or a consumer that assigns itself).
    pub generation: i32,
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    pub topics: Vec<CommitTopic>,
    /// Commits inside a transaction, which count once the producer's marker is written.
    pub transaction: Option<(ProducerId, ProducerEpoch)>,
}

/// One code a partition, in the order of the request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitResponse {
    pub errors: Vec<ErrorCode>,
}

#[derive(Clone, Debug)]
pub struct OffsetDeleteRequest {
    pub group: Arc<str>,
    pub partitions: Vec<(Arc<str>, i32)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetDeleteResponse {
    pub error: ErrorCode,
    /// One a partition, in the order of the request; empty if `error` says it all.
    pub partitions: Vec<ErrorCode>,
}

/// Partitions whose offsets are wanted.
#[derive(Clone, Debug)]
pub enum FetchTopics {
    All,
    Named(Vec<(Arc<str>, Vec<i32>)>),
}

/// A committed offset as OffsetFetch shows it; offset -1 is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedOffset {
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: Box<str>,
    pub error: ErrorCode,
}

impl FetchedOffset {
    pub fn none(partition: i32, error: ErrorCode) -> FetchedOffset {
        FetchedOffset { partition, offset: -1, leader_epoch: -1, metadata: "".into(), error }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchResponse {
    pub error: ErrorCode,
    pub topics: Vec<(Arc<str>, Vec<FetchedOffset>)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberDescription {
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupDescription {
    pub error: ErrorCode,
    /// Kafka's name of the state, empty on error.
    pub state: &'static str,
    pub protocol_type: Arc<str>,
    pub protocol: Arc<str>,
    pub members: Vec<MemberDescription>,
}

impl GroupDescription {
    pub fn without_members(error: ErrorCode, state: &'static str) -> GroupDescription {
        GroupDescription { error, state, protocol_type: "".into(), protocol: "".into(), members: Vec::new() }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupListing {
    pub group: Arc<str>,
    pub protocol_type: Arc<str>,
    pub state: &'static str,
}

/// What goes back for a token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Response {
    Join(JoinResponse),
    Sync(SyncResponse),
    Heartbeat(ErrorCode),
    Leave(LeaveResponse),
    Commit(CommitResponse),
    DeleteGroup(ErrorCode),
    OffsetDelete(OffsetDeleteResponse),
    EndTransaction(ErrorCode),
}

/// What happens to a shard.
#[derive(Clone, Debug)]
pub enum Event {
    Join(ReplyToken, JoinRequest),
    Sync(ReplyToken, SyncRequest),
    Heartbeat(ReplyToken, HeartbeatRequest),
    Leave(ReplyToken, LeaveRequest),
    Commit(ReplyToken, CommitRequest),
    DeleteGroup(ReplyToken, Arc<str>),
    OffsetDelete(ReplyToken, OffsetDeleteRequest),
    /// The marker that ends a producer's transaction (`true`: commits it) is in the log. Answered once it has acted.
    EndTransaction(ReplyToken, ProducerId, bool),
    /// An append ended: the offset of its first record, or why it failed.
    Appended(WriteToken, Result<i64, ErrorCode>),
    /// These partitions are gone from the cluster, and their committed offsets with them.
    PartitionsDeleted(Arc<Vec<(Arc<str>, i32)>>),
    /// A timer may be due.
    Tick,
}

/// Records that are appended as one batch.
#[derive(Clone, PartialEq, Debug)]
pub struct Batch {
    pub records: Vec<CoordinatorRecord>,
    /// The producer of offsets that are committed inside a transaction.
    pub transaction: Option<(ProducerId, ProducerEpoch)>,
}

/// What a shard wants done, in order.
pub type Effect = coordinator::Effect<Response, Arc<Batch>, Infallible>;
