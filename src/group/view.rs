//! What the coordinator shows of its groups without changing them: OffsetFetch, DescribeGroups, ListGroups.

use super::member::Member;
use super::message::{FetchResponse, FetchTopics, FetchedOffset, GroupDescription, GroupListing, MemberDescription};
use super::records::CoordinatorRecord;
use super::shard::GroupShard;
use super::state::{Group, GroupState};
use crate::base::ErrorCode;
use bytes::Bytes;
use std::sync::Arc;

impl GroupShard {
    /// Committed offsets, whatever state the group is in. With `require_stable` an offset that an open transaction may
    /// change is not shown (KIP-447).
    pub fn fetch_offsets(&self, group: &str, topics: &FetchTopics, require_stable: bool) -> FetchResponse {
        let group = self.group(group).filter(|group| !group.is(GroupState::Dead));
        let fetch = |topic: &Arc<str>, partition: i32| match group {
            Some(group) if require_stable && self.is_unstable(group, topic, partition) => {
                FetchedOffset::none(partition, ErrorCode::UnstableOffsetCommit)
            }
            Some(group) => fetch_offset(group, topic, partition),
            None => FetchedOffset::none(partition, ErrorCode::None),
        };
        let topics = match topics {
            FetchTopics::Named(topics) => topics
                .iter()
                .map(|(topic, partitions)| {
                    (topic.clone(), partitions.iter().map(|index| fetch(topic, *index)).collect())
                })
                .collect(),
            FetchTopics::All => group
                .iter()
                .flat_map(|group| group.offsets.iter())
                .map(|(topic, partitions)| {
                    (topic.clone(), partitions.keys().map(|index| fetch(topic, *index)).collect())
                })
                .collect(),
        };
        FetchResponse { error: ErrorCode::None, topics }
    }

    /// A commit that is being appended, or a transaction that is open, may still change this offset.
    fn is_unstable(&self, group: &Group, topic: &str, index: i32) -> bool {
        let changes = |record: &CoordinatorRecord| matches!(record, CoordinatorRecord::Offset { topic: name, partition, .. } if **name == *topic && *partition == index);
        let is_pending = |token| self.writes.batch(token).is_some_and(|batch| batch.records.iter().any(changes));
        group.offsets.is_unstable(topic, index) || group.offsets.pending().iter().copied().any(is_pending)
    }

    /// `None` if there is no such group.
    pub fn describe(&self, group: &str) -> Option<GroupDescription> {
        let group = self.group(group)?;
        let stable_protocol = group.protocol.clone().filter(|_| group.is(GroupState::Stable));
        Some(GroupDescription {
            error: ErrorCode::None,
            state: group.state().name(),
            protocol_type: group.protocol_type.clone().unwrap_or_else(|| "".into()),
            protocol: stable_protocol.clone().unwrap_or_else(|| "".into()),
            members: group.members().map(|member| describe_member(member, stable_protocol.as_deref())).collect(),
        })
    }

    pub fn list(&self) -> impl Iterator<Item = GroupListing> {
        self.groups().map(|group| GroupListing {
            group: group.id.clone(),
            protocol_type: group.protocol_type.clone().unwrap_or_else(|| "".into()),
            state: group.state().name(),
        })
    }
}

fn fetch_offset(group: &Group, topic: &Arc<str>, partition: i32) -> FetchedOffset {
    match group.offsets.get(topic, partition) {
        None => FetchedOffset::none(partition, ErrorCode::None),
        Some(value) => FetchedOffset {
            partition,
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata.clone(),
            error: ErrorCode::None,
        },
    }
}

/// Metadata and assignment mean something in a stable group only.
fn describe_member(member: &Member, stable_protocol: Option<&str>) -> MemberDescription {
    MemberDescription {
        member_id: member.id.clone(),
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        metadata: stable_protocol.map(|protocol| member.metadata(protocol)).unwrap_or_default(),
        assignment: stable_protocol.map_or_else(Bytes::new, |_| member.assignment.clone()),
    }
}
