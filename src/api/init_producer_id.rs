//! InitProducerId: a fresh producer id for an idempotent producer, or the next epoch of a transactional one.

use super::Services;
use super::group_fields::shared;
use super::transaction_fields::fenced;
use crate::base::{ErrorCode, ProducerEpoch, ProducerId};
use crate::transaction::message::{InitRequest, InitResponse};
use crate::wire::messages::{InitProducerIdRequest, InitProducerIdResponse};
use crate::wire::{Outcome, Reply, Request, WireError};
use std::sync::Arc;

/// First version that knows PRODUCER_FENCED.
const PRODUCER_FENCED_SINCE: i16 = 4;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: InitProducerIdRequest = request.decode()?;
    let header = request.header;
    let version = header.version;
    let expected = match (body.producer_id.0, body.producer_epoch) {
        (-1, -1) => None,
        // Both or neither.
        (-1, _) | (_, -1) => {
            return Ok(Reply::message(&header, &response(Err(ErrorCode::InvalidRequest), version))?.into());
        }
        (id, epoch) => Some((ProducerId(id), ProducerEpoch(epoch))),
    };
    let Some(id) = &body.transactional_id else {
        let ids = services.producer_ids.clone();
        return Ok(Outcome::later(async move {
            let fresh = ids.next().await.map(|id| (id, ProducerEpoch(0)));
            Reply::or_close(&header, &response(fresh, version))
        }));
    };
    let init = InitRequest { id: shared(&id.0), timeout_ms: body.transaction_timeout_ms, expected };
    Ok(services.transactions.init(init).reply(move |given| Reply::or_close(&header, &response(given, version))))
}

fn response(given: InitResponse, version: i16) -> InitProducerIdResponse {
    match given {
        Ok((id, epoch)) => InitProducerIdResponse::default().with_producer_id(id.0.into()).with_producer_epoch(epoch.0),
        Err(error) => InitProducerIdResponse::default()
            .with_error_code(fenced(version, PRODUCER_FENCED_SINCE, error).code())
            .with_producer_id((-1).into())
            .with_producer_epoch(-1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    #[test]
    fn every_version_encodes_and_knows_its_codes() {
        for version in 0..=5 {
            assert!(encode(&response(Ok((ProducerId(7), ProducerEpoch(1))), version), version).is_ok());
            let fenced = response(Err(ErrorCode::ProducerFenced), version);
            assert!(encode(&fenced, version).is_ok(), "version {version}");
            assert_eq!(fenced.error_code, if version < 4 { 47 } else { 90 });
        }
    }
}
