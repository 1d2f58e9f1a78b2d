//! What the group coordinator answers.

use super::message::{CommitResponse, JoinResponse, LeaveResponse, OffsetDeleteResponse, Response, SyncResponse};
use crate::base::ErrorCode;
use crate::coordinator::{self, kinds};

/// Here already, or held until a rebalance or an append ends.
pub type Answer<T> = coordinator::Answer<T, Response>;

kinds!(Response {
    Join => JoinResponse,
    Sync => SyncResponse,
    Leave => LeaveResponse,
    Commit => CommitResponse,
    OffsetDelete => OffsetDeleteResponse,
    Heartbeat | DeleteGroup | EndTransaction => ErrorCode,
});
