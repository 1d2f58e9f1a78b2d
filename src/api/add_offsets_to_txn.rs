//! AddOffsetsToTxn: the producer will commit offsets of a group, so that the group's partition of `__consumer_offsets` belongs to the
//! transaction.

use super::Services;
use super::group_fields::shared;
use super::transaction_fields::reply_code;
use crate::base::topic_name::CONSUMER_OFFSETS;
use crate::base::{ProducerEpoch, ProducerId, TopicPartition};
use crate::transaction::message::AddRequest;
use crate::wire::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use crate::wire::{Outcome, Request, WireError};
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: AddOffsetsToTxnRequest = request.decode()?;
    let added = services.transactions.add(AddRequest {
        id: shared(&body.transactional_id.0),
        producer_id: ProducerId(body.producer_id.0),
        producer_epoch: ProducerEpoch(body.producer_epoch),
        partitions: vec![TopicPartition::new(CONSUMER_OFFSETS, services.groups.partition_for(&body.group_id))],
    });
    Ok(reply_code(request.header, added, response))
}

fn response(code: i16) -> AddOffsetsToTxnResponse {
    AddOffsetsToTxnResponse::default().with_error_code(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    #[test]
    fn every_version_encodes() {
        for version in 0..=4 {
            assert!(encode(&response(47), version).is_ok(), "version {version}");
        }
    }
}
