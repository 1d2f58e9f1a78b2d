//! A member of a group: what it told about itself, and which of its requests are held (class `MemberMetadata`).

use super::message::{JoinRequest, JoinedMember, Protocol, ReplyToken};
use super::records::MemberValue;
use bytes::Bytes;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct Member {
    pub id: Arc<str>,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// In the member's order of preference.
    pub protocols: Vec<Protocol>,
    pub assignment: Bytes,
    /// A JoinGroup that is answered when the rebalance completes.
    pub(super) awaiting_join: Option<ReplyToken>,
    /// A SyncGroup that is answered when the leader's assignment is stored.
    pub(super) awaiting_sync: Option<ReplyToken>,
    /// Has not seen the end of its first rebalance yet, so it cannot send heartbeats.
    pub is_new: bool,
    /// Got the current generation and has not asked for its assignment.
    pub pending_sync: bool,
}

impl Member {
    pub fn joining(id: Arc<str>, request: &JoinRequest) -> Member {
        Member {
            id,
            instance_id: request.instance_id.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols.clone(),
            assignment: Bytes::new(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: true,
            pending_sync: false,
        }
    }

    /// A member as the log has it: it supports the protocol that was chosen when the record was written.
    pub fn loaded(value: &MemberValue, protocol: Option<&Arc<str>>) -> Member {
        let protocols = protocol.map(|name| Protocol { name: name.clone(), metadata: value.subscription.clone() });
        Member {
            id: value.member_id.clone(),
            instance_id: value.instance_id.clone(),
            client_id: value.client_id.clone(),
            client_host: value.client_host.clone(),
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            session_timeout_ms: value.session_timeout_ms,
            protocols: protocols.into_iter().collect(),
            assignment: value.assignment.clone(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
            pending_sync: false,
        }
    }

    pub fn is_static(&self) -> bool {
        self.instance_id.is_some()
    }

    pub fn is_awaiting_join(&self) -> bool {
        self.awaiting_join.is_some()
    }

    /// Waiting for the rebalance stands for a heartbeat, except in a new member, which may be gone without a trace.
    pub fn heartbeat_not_expected(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    pub fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|supported| &*supported.name == protocol);
        found.map(|supported| supported.metadata.clone()).unwrap_or_default()
    }

    pub fn joined(&self, protocol: &str) -> JoinedMember {
        JoinedMember {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            metadata: self.metadata(protocol),
        }
    }

    pub fn to_value(&self, protocol: &str, assignment: Bytes) -> MemberValue {
        MemberValue {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment,
        }
    }
}
