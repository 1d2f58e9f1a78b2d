//! ControlledShutdown: a broker that is about to stop asks the controller to move its leaders away.

use super::Services;
use super::stop_replica::done;
use crate::base::{BrokerEpoch, BrokerId, ErrorCode, TopicPartition};
use crate::wire::messages::controlled_shutdown_response::RemainingPartition;
use crate::wire::messages::{ControlledShutdownRequest, ControlledShutdownResponse, TopicName};
use crate::wire::{Outcome, Request, WireError, text};
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: ControlledShutdownRequest = request.decode()?;
    let controller = services.controller.clone();
    Ok(done(request.header, async move {
        let (broker, epoch) = (BrokerId(body.broker_id.0), BrokerEpoch(body.broker_epoch));
        response(controller.controlled_shutdown(broker, epoch).await)
    }))
}

fn response(remaining: Result<Vec<TopicPartition>, ErrorCode>) -> ControlledShutdownResponse {
    let partition = |tp: &TopicPartition| {
        let name = TopicName(text(&tp.topic));
        RemainingPartition::default().with_topic_name(name).with_partition_index(tp.partition)
    };
    match remaining {
        Ok(remaining) => {
            ControlledShutdownResponse::default().with_remaining_partitions(remaining.iter().map(partition).collect())
        }
        Err(error) => ControlledShutdownResponse::default().with_error_code(error.code()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    #[test]
    fn every_version_can_be_answered() {
        for version in 0..=3 {
            for outcome in [Ok(vec![TopicPartition::new("t", 0)]), Err(ErrorCode::NotController)] {
                assert!(encode(&response(outcome), version).is_ok(), "version {version}");
            }
        }
    }
}
