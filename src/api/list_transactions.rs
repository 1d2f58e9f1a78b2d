//! ListTransactions: the transactional ids that this broker coordinates (KIP-664, KIP-994).

use super::Services;
use crate::base::{ErrorCode, ProducerId};
use crate::transaction::state::Status;
use crate::transaction::view::{ListFilter, Listing};
use crate::wire::messages::list_transactions_response::TransactionState;
use crate::wire::messages::{ListTransactionsRequest, ListTransactionsResponse, TransactionalId};
use crate::wire::{Outcome, Reply, Request, StrBytes, WireError, text};
use std::sync::Arc;

pub fn handle(services: &Arc<Services>, request: Request) -> Result<Outcome, WireError> {
    let body: ListTransactionsRequest = request.decode()?;
    let (filter, unknown) = filter(body);
    let response = response(services.transactions.list(&filter)).with_unknown_state_filters(unknown);
    Ok(Reply::message(&request.header, &response)?.into())
}

/// The filter, and names that are no states.
fn filter(body: ListTransactionsRequest) -> (ListFilter, Vec<StrBytes>) {
    let (known, unknown): (Vec<_>, Vec<_>) =
        body.state_filters.into_iter().partition(|name| Status::of_name(name).is_some());
    let asked = !known.is_empty() || !unknown.is_empty();
    let statuses = known.iter().filter_map(|name| Status::of_name(name)).collect();
    let filter = ListFilter {
        statuses: asked.then_some(statuses),
        producer_ids: body.producer_id_filters.iter().map(|id| ProducerId(id.0)).collect(),
        older_than_ms: body.duration_filter,
    };
    (filter, unknown)
}

fn response(listed: Result<Vec<Listing>, ErrorCode>) -> ListTransactionsResponse {
    let listings = match listed {
        Ok(listings) => listings,
        Err(error) => return ListTransactionsResponse::default().with_error_code(error.code()),
    };
    let state = |listing: Listing| {
        TransactionState::default()
            .with_transactional_id(TransactionalId(text(&listing.id)))
            .with_producer_id(listing.producer_id.0.into())
            .with_transaction_state(text(listing.status.name()))
    };
    ListTransactionsResponse::default().with_transaction_states(listings.into_iter().map(state).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    #[test]
    fn every_version_encodes() {
        for version in 0..=1 {
            let listing = Listing { id: "t".into(), producer_id: ProducerId(1), status: Status::Ongoing };
            for listed in [Ok(vec![listing]), Err(ErrorCode::CoordinatorLoadInProgress)] {
                assert!(encode(&response(listed), version).is_ok(), "version {version}");
            }
        }
    }

    #[test]
    fn names_that_are_no_states_match_nothing() {
        let body = ListTransactionsRequest::default().with_state_filters(vec![text("Ongoing"), text("Sleeping")]);
        let (known, unknown) = filter(body);
        assert_eq!(known.statuses, Some([Status::Ongoing].into()));
        assert_eq!(unknown, [text("Sleeping")]);
        let (none, _) = filter(ListTransactionsRequest::default().with_state_filters(vec![text("Sleeping")]));
        assert_eq!(none.statuses, Some([].into()));
        assert_eq!(filter(ListTransactionsRequest::default()).0.statuses, None);
    }
}
