//! TxnOffsetCommit: offsets that count once the transaction is committed. The first ones of a transaction are taken only if its
//! coordinator knows of them (KIP-890).

use super::Services;
use super::group_fields::{shared, shared_option};
use crate::base::time::{monotonic_ms, wall_ms};
use crate::base::topic_name::CONSUMER_OFFSETS;
use crate::base::{ErrorCode, Millis, ProducerEpoch, ProducerId, TopicPartition};
use crate::group::message::{CommitRequest, CommitTopic};
use crate::group::records::OffsetValue;
use crate::replica::MetadataImage;
use crate::transaction::message::AddRequest;
use crate::transaction::verifier::Verification;
use crate::wire::messages::txn_offset_commit_request::TxnOffsetCommitRequestPartition;
use crate::wire::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use crate::wire::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use crate::wire::{Outcome, Reply, Request, RequestHeader, WireError};
use std::sync::Arc;

/// First version whose clients know that loading passes.
const KNOWS_LOADING: i16 = 2;
/// First version that knows TRANSACTION_ABORTABLE.
const KNOWS_ABORTABLE: i16 = 4;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: TxnOffsetCommitRequest = request.decode()?;
    let header = request.header;
    let image = services.metadata.image();
    let skeleton = response_skeleton(&image, &body);
    let commit = commit_request(&image, &body, wall_ms());
    if commit.topics.is_empty() {
        return Ok(Reply::message(&header, &skeleton)?.into());
    }
    if commit.group.is_empty() {
        return Ok(refused(&header, skeleton, ErrorCode::InvalidGroupId).into());
    }
    match verify(services, &body) {
        Verified::Yes => Ok(store(services, header, skeleton, commit)),
        Verified::No(error) => Ok(refused(&header, skeleton, error).into()),
        Verified::Asking(answer) => {
            let services = services.clone();
            Ok(Outcome::later(async move {
                match answer.await {
                    Ok(()) => store(&services, header, skeleton, commit).reply().await,
                    Err(error) => refused(&header, skeleton, error),
                }
            }))
        }
    }
}

enum Verified {
    Yes,
    No(ErrorCode),
    Asking(std::pin::Pin<Box<dyn Future<Output = Result<(), ErrorCode>> + Send>>),
}

/// Asks the transaction coordinator, unless the transaction has begun in the group's partition.
fn verify(services: &Services, body: &TxnOffsetCommitRequest) -> Verified {
    let index = services.groups.partition_for(&body.group_id);
    let Ok(partition) = services.replicas.partition(CONSUMER_OFFSETS, index) else {
        return Verified::No(ErrorCode::NotCoordinator);
    };
    let (producer_id, producer_epoch) = (ProducerId(body.producer_id.0), ProducerEpoch(body.producer_epoch));
    let guard = partition.log().begin_verification(producer_id, producer_epoch, None, monotonic_ms());
    let Some(guard) = guard else { return Verified::Yes };
    let id = shared(&body.transactional_id.0);
    let partitions = vec![TopicPartition::new(CONSUMER_OFFSETS, index)];
    let judge = move |codes: Vec<ErrorCode>| match codes.first() {
        Some(ErrorCode::None) => {
            partition.log().confirm_verification(producer_id, guard);
            Ok(())
        }
        Some(error) => Err(unverified(*error)),
        None => Err(ErrorCode::UnknownServerError),
    };
    match services.verifier.verify(AddRequest { id, producer_id, producer_epoch, partitions }) {
        Verification::Now(codes) => judge(codes).map_or_else(Verified::No, |()| Verified::Yes),
        Verification::Later(codes) => Verified::Asking(Box::pin(async move { judge(codes.await) })),
    }
}

/// What a client sees of the failed question: what makes it ask again without looking for another coordinator of the group.
fn unverified(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::NetworkException => ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::UnknownTopicOrPartition => ErrorCode::CoordinatorNotAvailable,
        error => error,
    }
}

fn store(
    services: &Services,
    header: RequestHeader,
    mut skeleton: TxnOffsetCommitResponse,
    commit: CommitRequest,
) -> Outcome {
    services.groups.commit(commit).reply(move |committed| {
        fill(&mut skeleton, header.version, committed.errors.into_iter());
        Reply::or_close(&header, &skeleton)
    })
}

fn refused(header: &RequestHeader, mut skeleton: TxnOffsetCommitResponse, error: ErrorCode) -> Reply {
    fill(&mut skeleton, header.version, std::iter::repeat(error));
    Reply::or_close(header, &skeleton)
}

/// Puts codes where the skeleton has no error.
fn fill(skeleton: &mut TxnOffsetCommitResponse, version: i16, errors: impl Iterator<Item = ErrorCode>) {
    let partitions = skeleton.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    for (partition, error) in partitions.filter(|partition| partition.error_code == 0).zip(errors) {
        partition.error_code = known(version, error).code();
    }
}

fn known(version: i16, error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::CoordinatorLoadInProgress if version < KNOWS_LOADING => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::TransactionAbortable if version < KNOWS_ABORTABLE => ErrorCode::InvalidTxnState,
        error => error,
    }
}

/// The response with UNKNOWN_TOPIC_OR_PARTITION where it applies, and no error elsewhere.
fn response_skeleton(image: &MetadataImage, body: &TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let topics = body.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let known = image.partition(&topic.name, index).is_some();
            let error = if known { ErrorCode::None } else { ErrorCode::UnknownTopicOrPartition };
            TxnOffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(error.code())
        });
        TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

/// What the coordinator gets: the partitions that exist.
fn commit_request(image: &MetadataImage, body: &TxnOffsetCommitRequest, now: Millis) -> CommitRequest {
    let topics = body.topics.iter().filter_map(|topic| {
        let known = topic.partitions.iter().filter(|p| image.partition(&topic.name, p.partition_index).is_some());
        let partitions: Vec<_> = known.map(|p| (p.partition_index, offset_value(p, now))).collect();
        (!partitions.is_empty()).then(|| CommitTopic { topic: shared(&topic.name), partitions })
    });
    CommitRequest {
        group: shared(&body.group_id),
        generation: body.generation_id,
        member_id: shared(&body.member_id),
        instance_id: shared_option(&body.group_instance_id),
        topics: topics.collect(),
        transaction: Some((ProducerId(body.producer_id.0), ProducerEpoch(body.producer_epoch))),
    }
}

fn offset_value(partition: &TxnOffsetCommitRequestPartition, now: Millis) -> OffsetValue {
    OffsetValue {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: partition.committed_metadata.as_deref().unwrap_or("").into(),
        commit_timestamp: now,
        expire_timestamp: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    #[test]
    fn every_version_encodes_and_knows_its_codes() {
        for version in 0..=4 {
            let partitions = [3, 0, 0].map(|error| TxnOffsetCommitResponsePartition::default().with_error_code(error));
            let topic = TxnOffsetCommitResponseTopic::default().with_partitions(partitions.to_vec());
            let mut response = TxnOffsetCommitResponse::default().with_topics(vec![topic]);
            let errors = [ErrorCode::TransactionAbortable, ErrorCode::CoordinatorLoadInProgress];
            fill(&mut response, version, errors.into_iter());
            let codes: Vec<i16> = response.topics[0].partitions.iter().map(|partition| partition.error_code).collect();
            assert_eq!(codes, [3, if version < 4 { 48 } else { 120 }, if version < 2 { 15 } else { 14 }]);
            assert!(encode(&response, version).is_ok(), "version {version}");
        }
    }
}
