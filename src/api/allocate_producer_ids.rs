//! AllocateProducerIds (KIP-730): a broker gets its next block of producer ids from the controller.

use super::Services;
use super::stop_replica::done;
use crate::base::{BrokerEpoch, BrokerId, ErrorCode};
use crate::wire::messages::{self, AllocateProducerIdsRequest, AllocateProducerIdsResponse};
use crate::wire::{Outcome, Request, WireError};
use crate::zookeeper::paths::ProducerIdBlock;
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: AllocateProducerIdsRequest = request.decode()?;
    let services = services.clone();
    Ok(done(request.header, async move {
        match allocate(&services, BrokerId(body.broker_id.0), BrokerEpoch(body.broker_epoch)).await {
            Ok(block) => AllocateProducerIdsResponse::default()
                .with_producer_id_start(messages::ProducerId(block.first))
                .with_producer_id_len(i32::try_from(block.last - block.first + 1).unwrap_or(0)),
            Err(error) => AllocateProducerIdsResponse::default().with_error_code(error.code()),
        }
    }))
}

async fn allocate(services: &Services, broker: BrokerId, epoch: BrokerEpoch) -> Result<ProducerIdBlock, ErrorCode> {
    services.controller.check_broker(broker, epoch).await?;
    // The write is conditional on what was read, so a controller that is none any more hands out no block twice.
    services.controller.allocate_producer_ids(broker).await.map_err(|error| {
        tracing::error!(%broker, %error, "no producer ids");
        ErrorCode::UnknownServerError
    })
}
