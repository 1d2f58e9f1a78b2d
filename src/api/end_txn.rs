//! EndTxn: the producer commits or aborts. Answered once the decision is safe; markers follow.

use super::Services;
use super::group_fields::shared;
use super::transaction_fields::{code_of, fenced};
use crate::base::{ErrorCode, ProducerEpoch, ProducerId};
use crate::transaction::message::EndRequest;
use crate::wire::messages::{EndTxnRequest, EndTxnResponse};
use crate::wire::{Outcome, Reply, Request, WireError};
use std::sync::Arc;

/// First version that knows PRODUCER_FENCED.
const PRODUCER_FENCED_SINCE: i16 = 2;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: EndTxnRequest = request.decode()?;
    let header = request.header;
    let end = EndRequest {
        id: shared(&body.transactional_id.0),
        producer_id: ProducerId(body.producer_id.0),
        producer_epoch: ProducerEpoch(body.producer_epoch),
        commit: body.committed,
    };
    Ok(services
        .transactions
        .end(end)
        .reply(move |answer| Reply::or_close(&header, &response(code_of(answer), header.version))))
}

fn response(error: ErrorCode, version: i16) -> EndTxnResponse {
    EndTxnResponse::default().with_error_code(fenced(version, PRODUCER_FENCED_SINCE, error).code())
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
