//! The question of a partition's leader whether a transaction includes the partition (class `AddPartitionsToTxnManager`, KIP-890).

use super::coordinator::TransactionCoordinator;
use super::message::AddRequest;
use crate::base::topic_name::TRANSACTION_STATE;
use crate::base::{BrokerId, ErrorCode, TopicPartition};
use crate::peer::{Peer, PeerError, Peers};
use crate::replica::MetadataCache;
use crate::wire::messages::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use crate::wire::messages::add_partitions_to_txn_response::AddPartitionsToTxnResult;
use crate::wire::messages::{AddPartitionsToTxnRequest, ApiKey, TopicName, TransactionalId};
use crate::wire::text;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Versions between brokers, which can ask without adding.
const VERSIONS: RangeInclusive<i16> = 4..=5;

/// One code each partition, in the order of the request.
pub enum Verification {
    Now(Vec<ErrorCode>),
    Later(Pin<Box<dyn Future<Output = Vec<ErrorCode>> + Send>>),
}

pub struct Verifier {
    pub transactions: Arc<TransactionCoordinator>,
    pub metadata: Arc<MetadataCache>,
    pub peers: Arc<Peers>,
    pub local: BrokerId,
    /// `transaction.partition.verification.enable`, which may change at any time.
    pub is_enabled: AtomicBool,
}

impl Verifier {
    pub fn verify(&self, request: AddRequest) -> Verification {
        if !self.is_enabled.load(Ordering::Relaxed) {
            return Verification::Now(vec![ErrorCode::None; request.partitions.len()]);
        }
        let image = self.metadata.image();
        let coordinator = image.partition(TRANSACTION_STATE, self.transactions.partition_for(&request.id));
        let leader = coordinator.map_or(BrokerId::NONE, |partition| partition.leader);
        if leader == self.local {
            return Verification::Now(for_leader(self.transactions.verify(&request)));
        }
        match self.peers.get(leader) {
            Ok(peer) => Verification::Later(Box::pin(async move { for_leader(ask(&peer, &request).await) })),
            Err(_) => Verification::Now(vec![ErrorCode::CoordinatorNotAvailable; request.partitions.len()]),
        }
    }
}

/// Producers know a fenced epoch from partitions by another code.
fn for_leader(mut errors: Vec<ErrorCode>) -> Vec<ErrorCode> {
    for error in errors.iter_mut().filter(|error| **error == ErrorCode::ProducerFenced) {
        *error = ErrorCode::InvalidProducerEpoch;
    }
    errors
}

async fn ask(peer: &Peer, request: &AddRequest) -> Vec<ErrorCode> {
    let all = |error| vec![error; request.partitions.len()];
    let version = match peer.negotiate(ApiKey::AddPartitionsToTxn as i16, VERSIONS).await {
        Ok(version) => version,
        // A coordinator of before KIP-890, in a cluster that is being upgraded.
        Err(PeerError::UnsupportedVersion { .. }) => return all(ErrorCode::None),
        Err(_) => return all(ErrorCode::NetworkException),
    };
    let response = match peer.send(version, &to_wire(request)).await {
        Ok(response) => response,
        Err(error) => {
            tracing::debug!(id = &*request.id, %error, "a transaction cannot be verified");
            return all(ErrorCode::NetworkException);
        }
    };
    match response.error_code {
        0 => of_wire(&request.partitions, &response.results_by_transaction),
        code if code == ErrorCode::ClusterAuthorizationFailed.code() => all(ErrorCode::InvalidTxnState),
        code => all(known(code)),
    }
}

fn to_wire(request: &AddRequest) -> AddPartitionsToTxnRequest {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in &request.partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    let topic = |(name, partitions): (&str, Vec<i32>)| {
        AddPartitionsToTxnTopic::default().with_name(TopicName(text(name))).with_partitions(partitions)
    };
    let transaction = AddPartitionsToTxnTransaction::default()
        .with_transactional_id(TransactionalId(text(&request.id)))
        .with_producer_id(request.producer_id.0.into())
        .with_producer_epoch(request.producer_epoch.0)
        .with_verify_only(true)
        .with_topics(topics.into_iter().map(topic).collect());
    AddPartitionsToTxnRequest::default().with_transactions(vec![transaction])
}

/// What the answer says of each partition; one of which it says nothing is not verified.
fn of_wire(partitions: &[TopicPartition], results: &[AddPartitionsToTxnResult]) -> Vec<ErrorCode> {
    let topics = results.iter().flat_map(|result| &result.topic_results);
    let codes = topics.flat_map(|topic| {
        topic.results_by_partition.iter().map(|result| {
            let name: &str = &topic.name;
            ((name, result.partition_index), known(result.partition_error_code))
        })
    });
    let codes: HashMap<(&str, i32), ErrorCode> = codes.collect();
    let code = |partition: &TopicPartition| codes.get(&(&*partition.topic, partition.partition)).copied();
    partitions.iter().map(|partition| code(partition).unwrap_or(ErrorCode::UnknownServerError)).collect()
}

/// Codes that a coordinator answers with.
fn known(code: i16) -> ErrorCode {
    const KNOWN: &[ErrorCode] = &[
        ErrorCode::None,
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotCoordinator,
        ErrorCode::InvalidRequest,
        ErrorCode::InvalidProducerEpoch,
        ErrorCode::InvalidTxnState,
        ErrorCode::InvalidProducerIdMapping,
        ErrorCode::ConcurrentTransactions,
        ErrorCode::TransactionalIdAuthorizationFailed,
        ErrorCode::OperationNotAttempted,
        ErrorCode::ProducerFenced,
        ErrorCode::TransactionAbortable,
    ];
    KNOWN.iter().copied().find(|known| known.code() == code).unwrap_or(ErrorCode::UnknownServerError)
}
