//! EndTxn: the producer commits or aborts. Answered once the decision is safe; markers follow.

use super::Services;
use super::group_fields::shared;
use super::transaction_fields::reply_code;
use crate::base::{ProducerEpoch, ProducerId};
use crate::transaction::message::EndRequest;
use crate::wire::messages::{EndTxnRequest, EndTxnResponse};
use crate::wire::{Outcome, Request, WireError};
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: EndTxnRequest = request.decode()?;
    let ended = services.transactions.end(EndRequest {
        id: shared(&body.transactional_id.0),
        producer_id: ProducerId(body.producer_id.0),
        producer_epoch: ProducerEpoch(body.producer_epoch),
        commit: body.committed,
    });
    Ok(reply_code(request.header, ended, response))
}

fn response(code: i16) -> EndTxnResponse {
    EndTxnResponse::default().with_error_code(code)
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
