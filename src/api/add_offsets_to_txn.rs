//! AddOffsetsToTxn: the producer will commit offsets of a group, so that the group's partition of `__consumer_offsets` belongs to the
//! transaction.

use super::Services;
use super::group_fields::shared;
use super::transaction_fields::{code_of, fenced};
use crate::base::topic_name::CONSUMER_OFFSETS;
use crate::base::{ErrorCode, ProducerEpoch, ProducerId, TopicPartition};
use crate::transaction::message::AddRequest;
use crate::wire::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use crate::wire::{Outcome, Reply, Request, WireError};
use std::sync::Arc;

/// First version that knows PRODUCER_FENCED.
const PRODUCER_FENCED_SINCE: i16 = 2;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: AddOffsetsToTxnRequest = request.decode()?;
    let header = request.header;
    let add = AddRequest {
        id: shared(&body.transactional_id.0),
        producer_id: ProducerId(body.producer_id.0),
        producer_epoch: ProducerEpoch(body.producer_epoch),
        partitions: vec![TopicPartition::new(CONSUMER_OFFSETS, services.groups.partition_for(&body.group_id))],
    };
    Ok(services
        .transactions
        .add(add)
        .reply(move |answer| Reply::or_close(&header, &response(code_of(answer), header.version))))
}

fn response(error: ErrorCode, version: i16) -> AddOffsetsToTxnResponse {
    AddOffsetsToTxnResponse::default().with_error_code(fenced(version, PRODUCER_FENCED_SINCE, error).code())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    #[test]
    fn every_version_encodes_and_knows_its_codes() {
        for version in 0..=4 {
            let fenced = response(ErrorCode::ProducerFenced, version);
            assert!(encode(&fenced, version).is_ok(), "version {version}");
            assert_eq!(fenced.error_code, if version < 2 { 47 } else { 90 });
        }
    }
}
