//! The transaction coordinator of this broker, as requests see it (class `TransactionCoordinator`): what each is answered when
//! nobody here coordinates its id, or not yet. The pure half is [`TransactionShard`], the driver [`Partitions`].

use super::answer::Answer;
use super::log::Hands;
use super::markers::MarkerSender;
use super::message::{AddRequest, EndRequest, Event, InitRequest, InitResponse, ReplyToken, Response};
use super::producer_ids::ProducerIdManager;
use super::shard::{TransactionConfig, TransactionShard};
use super::view::{Description, ListFilter, Listing};
use crate::base::time::wall_ms;
use crate::base::{ErrorCode, LeaderEpoch};
use crate::config::BrokerConfig;
use crate::coordinator::{CoordinatorLog, Kind, Partitions};
use std::sync::Arc;
use tokio::runtime::Handle;

impl From<&BrokerConfig> for TransactionConfig {
    fn from(config: &BrokerConfig) -> TransactionConfig {
        TransactionConfig {
            max_timeout_ms: config.transaction_max_timeout_ms,
            id_expiration_ms: config.transactional_id_expiration_ms.into(),
            abort_interval_ms: config.transaction_abort_interval_ms.into(),
            expiry_interval_ms: config.transaction_remove_expired_interval_ms.into(),
            marker_retry_ms: 50,
        }
    }
}

pub struct TransactionCoordinator {
    config: Arc<TransactionConfig>,
    partitions: Arc<Partitions<TransactionShard>>,
}

impl TransactionCoordinator {
    /// Starts to tick on `runtime`; ends when the last reference is dropped.
    pub fn new(
        config: &BrokerConfig,
        log: Arc<dyn CoordinatorLog>,
        markers: Arc<dyn MarkerSender>,
        producer_ids: Arc<ProducerIdManager>,
        runtime: Handle,
    ) -> Arc<TransactionCoordinator> {
        let hands = Hands { markers, producer_ids };
        let partitions = Partitions::new(log, hands, config.transaction_state_log_num_partitions, runtime);
        Arc::new(TransactionCoordinator { config: Arc::new(config.into()), partitions })
    }

    /// How many partitions `__transaction_state` has, once it exists.
    pub fn set_partition_count(&self, count: i32) {
        self.partitions.set_count(count);
    }

    pub fn partition_for(&self, id: &str) -> i32 {
        self.partitions.index_of(id)
    }

    /// This broker leads a partition from now on.
    pub fn on_elected(&self, index: i32, epoch: LeaderEpoch) {
        self.partitions.elected(index, epoch, || TransactionShard::new(self.config.clone(), epoch.0));
    }

    /// Another broker leads, or the partition is gone.
    pub fn on_resigned(&self, index: i32) {
        self.partitions.resigned(index);
    }

    /// The broker goes down: everyone who waits is sent elsewhere.
    pub fn shutdown(&self) {
        self.partitions.shutdown();
    }

    fn ask<T: Kind<Response>>(
        &self,
        id: &str,
        make: impl FnOnce(ReplyToken) -> Event,
        failed: impl Fn(ErrorCode) -> T,
    ) -> Answer<T> {
        // Judged before anybody looks for a coordinator: no partition belongs to it.
        if id.is_empty() {
            return Answer::Now(failed(ErrorCode::InvalidRequest));
        }
        self.partitions.ask(id, make, failed)
    }

    /// Who may write under a transactional id from now on.
    pub fn init(&self, request: InitRequest) -> Answer<InitResponse> {
        self.ask(&request.id.clone(), |token| Event::Init(token, request, None), Err)
    }

    /// Adds partitions to a transaction.
    pub fn add(&self, request: AddRequest) -> Answer<ErrorCode> {
        self.ask(&request.id.clone(), |token| Event::Add(token, request), |error| error)
    }

    /// Commits or aborts. Answered once the decision is safe.
    pub fn end(&self, request: EndRequest) -> Answer<ErrorCode> {
        self.ask(&request.id.clone(), |token| Event::End(token, request), |error| error)
    }

    /// Whether partitions belong to a transaction (KIP-890), one code each.
    pub fn verify(&self, request: &AddRequest) -> Vec<ErrorCode> {
        let verified =
            self.partitions.of(&request.id).and_then(|partition| partition.view(|shard| shard.verify(request)));
        verified.unwrap_or_else(|error| vec![error; request.partitions.len()])
    }

    pub fn describe(&self, id: &str) -> Result<Description, ErrorCode> {
        let described = self.partitions.of(id)?.view(|shard| shard.describe(id))?;
        described.ok_or(ErrorCode::TransactionalIdNotFound)
    }

    /// All transactional ids that this broker coordinates; an error if some are still being loaded.
    pub fn list(&self, filter: &ListFilter) -> Result<Vec<Listing>, ErrorCode> {
        let now_ms = wall_ms();
        let mut listings = Vec::new();
        for partition in self.partitions.all() {
            match partition.view(|shard| shard.list(filter, now_ms)) {
                Ok(listed) => listings.extend(listed),
                Err(ErrorCode::CoordinatorLoadInProgress) => return Err(ErrorCode::CoordinatorLoadInProgress),
                Err(_) => {}
            }
        }
        Ok(listings)
    }
}
