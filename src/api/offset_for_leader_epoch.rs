//! OffsetForLeaderEpoch (KIP-101, KIP-320): where an epoch ended, so that a reader notices that its log is not ours.

use super::{Services, error};
use crate::base::{ErrorCode, LeaderEpoch};
use crate::wire::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use crate::wire::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use crate::wire::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use crate::wire::{Outcome, Reply, Request, WireError};
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: OffsetForLeaderEpochRequest = request.decode()?;
    let version = request.header.version;
    let mut topics = Vec::with_capacity(body.topics.len());
    for topic in &body.topics {
        let partitions =
            topic.partitions.iter().map(|wanted| answer(services, version, &topic.topic, wanted)).collect();
        topics.push(OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions));
    }
    Ok(Reply::message(&request.header, &OffsetForLeaderEpochResponse::default().with_topics(topics))?.into())
}

fn answer(services: &Services, version: i16, topic: &str, wanted: &OffsetForLeaderPartition) -> EpochEndOffset {
    let current = if version >= 2 { LeaderEpoch(wanted.current_leader_epoch) } else { LeaderEpoch::NONE };
    let found = services.replicas.partition(topic, wanted.partition).and_then(|partition| {
        partition.check_leader(current)?;
        Ok(partition.log().end_offset_for_epoch(LeaderEpoch(wanted.leader_epoch)))
    });
    let (code, epoch, end) = match found {
        Ok((epoch, end)) => (ErrorCode::None, epoch, end),
        Err(why) => (error::of_replica(&why), LeaderEpoch::NONE, -1),
    };
    let answer =
        EpochEndOffset::default().with_error_code(code.code()).with_partition(wanted.partition).with_end_offset(end);
    if version >= 1 { answer.with_leader_epoch(epoch.0) } else { answer }
}
