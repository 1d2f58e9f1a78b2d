//! InitProducerId: a fresh producer id for an idempotent producer.
//!
//! Transactions are not served: a transactional id is refused with INVALID_REQUEST, which producers take for final and show,
//! while they repeat for ever what a coordinator that is not available answers.

use super::Services;
use crate::base::{ErrorCode, ProducerId};
use crate::wire::messages::{InitProducerIdRequest, InitProducerIdResponse};
use crate::wire::{Outcome, Reply, Request, WireError};
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: InitProducerIdRequest = request.decode()?;
    // Both or neither.
    let is_half_known = (body.producer_id.0 == -1) != (body.producer_epoch == -1);
    if body.transactional_id.is_some() || is_half_known {
        return Ok(Reply::message(&request.header, &response(Err(ErrorCode::InvalidRequest)))?.into());
    }
    let ids = services.producer_ids.clone();
    let header = request.header;
    Ok(Outcome::later(async move { Reply::or_close(&header, &response(ids.next().await)) }))
}

fn response(id: Result<ProducerId, ErrorCode>) -> InitProducerIdResponse {
    match id {
        Ok(id) => InitProducerIdResponse::default().with_producer_id(id.0.into()),
        Err(error) => InitProducerIdResponse::default()
            .with_error_code(error.code())
            .with_producer_id((-1).into())
            .with_producer_epoch(-1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    #[test]
    fn every_version_encodes() {
        for version in 0..=5 {
            for id in [Ok(ProducerId(7)), Err(ErrorCode::InvalidRequest)] {
                assert!(encode(&response(id), version).is_ok(), "version {version}");
            }
        }
    }
}
