//! DescribeTransactions: the state of transactional ids that this broker coordinates (KIP-664).

use super::Services;
use super::transaction_fields::by_topic;
use crate::base::ErrorCode;
use crate::transaction::view::Description;
use crate::wire::messages::describe_transactions_response::{TopicData, TransactionState};
use crate::wire::messages::{DescribeTransactionsRequest, DescribeTransactionsResponse, TopicName, TransactionalId};
use crate::wire::{Outcome, Reply, Request, WireError, text};
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: DescribeTransactionsRequest = request.decode()?;
    let states = body.transactional_ids.into_iter().map(|id| {
        let described = services.transactions.describe(&id);
        state(id, described)
    });
    let response = DescribeTransactionsResponse::default().with_transaction_states(states.collect());
    Ok(Reply::message(&request.header, &response)?.into())
}

fn state(id: TransactionalId, described: Result<Description, ErrorCode>) -> TransactionState {
    let state = TransactionState::default().with_transactional_id(id);
    let description = match described {
        Ok(description) => description,
        Err(error) => return state.with_error_code(error.code()),
    };
    let topic = |(name, partitions): (&Arc<str>, Vec<i32>)| {
        TopicData::default().with_topic(TopicName(text(name))).with_partitions(partitions)
    };
    state
        .with_transaction_state(text(description.status.name()))
        .with_transaction_timeout_ms(description.timeout_ms)
        .with_transaction_start_time_ms(description.start_ms)
        .with_producer_id(description.producer_id.0.into())
        .with_producer_epoch(description.producer_epoch.0)
        .with_topics(by_topic(&description.partitions).into_iter().map(topic).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ProducerEpoch, ProducerId, TopicPartition};
    use crate::transaction::state::Status;
    use crate::wire::encode;

    #[test]
    fn it_encodes() {
        let description = Description {
            status: Status::Ongoing,
            producer_id: ProducerId(7),
            producer_epoch: ProducerEpoch(1),
            timeout_ms: 60_000,
            start_ms: 5,
            partitions: vec![TopicPartition::new("t", 0), TopicPartition::new("t", 1)],
        };
        let id = TransactionalId(text("id"));
        let states = vec![state(id.clone(), Ok(description)), state(id, Err(ErrorCode::NotCoordinator))];
        assert!(encode(&DescribeTransactionsResponse::default().with_transaction_states(states), 0).is_ok());
    }
}
