//! DescribeProducers: what a partition knows of its producers, and where their transactions began (KIP-664). Any replica answers.

use super::{Services, error};
use crate::log::ProducerEntry;
use crate::wire::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use crate::wire::messages::{DescribeProducersRequest, DescribeProducersResponse};
use crate::wire::{Outcome, Reply, Request, WireError, text};
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: DescribeProducersRequest = request.decode()?;
    let topics = body.topics.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| describe(services, &topic.name, *index)).collect();
        TopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    let response = DescribeProducersResponse::default().with_topics(topics.collect());
    Ok(Reply::message(&request.header, &response)?.into())
}

fn describe(services: &Services, topic: &str, index: i32) -> PartitionResponse {
    let answer = PartitionResponse::default().with_partition_index(index);
    match services.replicas.partition(topic, index) {
        Ok(partition) => {
            let producers = partition.log().active_producers();
            answer.with_active_producers(producers.iter().map(state).collect())
        }
        Err(why) => {
            answer.with_error_code(error::of_replica(&why).code()).with_error_message(Some(text(&why.to_string())))
        }
    }
}

fn state(producer: &ProducerEntry) -> ProducerState {
    ProducerState::default()
        .with_producer_id(producer.id.0.into())
        .with_producer_epoch(producer.epoch.0.into())
        .with_last_sequence(producer.last_sequence())
        .with_last_timestamp(producer.last_timestamp)
        .with_coordinator_epoch(producer.coordinator_epoch)
        .with_current_txn_start_offset(producer.transaction_first_offset.unwrap_or(-1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ProducerId;
    use crate::wire::encode;

    #[test]
    fn it_encodes() {
        let partition =
            PartitionResponse::default().with_active_producers(vec![state(&ProducerEntry::new(ProducerId(7)))]);
        let topic = TopicResponse::default().with_partitions(vec![partition]);
        assert!(encode(&DescribeProducersResponse::default().with_topics(vec![topic]), 0).is_ok());
    }
}
