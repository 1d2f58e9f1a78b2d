//! One file an API; `table.rs` is the list of all of them, `error.rs` the one mapping to Kafka's error codes.
//!
//! Adding an API is one file and one line in the table. A handler decodes, asks the rooms below, and answers with a
//! [`Reply`], now or later; it holds no state of its own.

pub mod add_offsets_to_txn;
pub mod add_partitions_to_txn;
pub mod allocate_producer_ids;
pub mod alter_configs;
pub mod alter_partition;
pub mod alter_partition_reassignments;
pub mod alter_replica_log_dirs;
pub mod api_versions;
pub mod authorized;
pub mod config_resource;
pub mod consumer_znodes;
pub mod controlled_shutdown;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_transactions;
pub mod elect_leaders;
pub mod end_txn;
pub mod error;
pub mod fetch;
pub mod find_coordinator;
pub mod group_fields;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leader_and_isr;
pub mod leave_group;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod list_transactions;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod produce_verified;
pub mod stop_replica;
pub mod sync_group;
pub mod table;
pub mod topics;
pub mod transaction_fields;
pub mod txn_offset_commit;
pub mod update_features;
pub mod update_metadata;
pub mod write_txn_markers;

use crate::base::BrokerId;
use crate::config::BrokerConfig;
use crate::controller::{AutoTopicCreation, ControllerHandle};
use crate::group::GroupCoordinator;
use crate::replica::fetch_session::FetchSessionCache;
use crate::replica::{MetadataCache, ReplicaManager};
use crate::transaction::{ProducerIdManager, TransactionCoordinator, Verifier};
use crate::wire::{Outcome, Reply, Request};
use crate::zookeeper::Zk;
use std::sync::Arc;

/// Everything that a handler may touch.
pub struct Services {
    pub config: Arc<BrokerConfig>,
    /// 22 characters, from `/cluster/id`.
    pub cluster_id: Arc<str>,
    pub metadata: Arc<MetadataCache>,
    pub replicas: Arc<ReplicaManager>,
    pub fetch_sessions: FetchSessionCache,
    pub groups: Arc<GroupCoordinator>,
    pub transactions: Arc<TransactionCoordinator>,
    pub verifier: Arc<Verifier>,
    pub producer_ids: Arc<ProducerIdManager>,
    pub controller: ControllerHandle,
    pub auto_creation: Arc<AutoTopicCreation>,
    pub zookeeper: Zk,
}

impl Services {
    /// Who is the controller, as ZooKeeper says. UpdateMetadata says so too, but only when a new one has read the whole cluster, and
    /// clients that are sent to the dead one come back later each time.
    fn controller_id(&self) -> BrokerId {
        self.controller.controller_id().or(self.metadata.image().controller_id).unwrap_or(BrokerId::NONE)
    }
}

/// Finds the handler of a request and runs it. An unknown key or version, or a body that does not decode, closes the
/// connection, as Kafka does; only ApiVersions answers versions that it does not know. Said at debug level only, or anybody could
/// fill the log.
pub fn dispatch(services: &Arc<Services>, request: Request) -> Outcome {
    let header = request.header.clone();
    let Some(api) = table::find(header.api_key) else {
        tracing::debug!(api_key = header.api_key, client = %request.connection.client_address, "unknown api key");
        return Reply::Close.into();
    };
    if !api.versions.contains(&header.version) && api.key != api_versions::KEY {
        tracing::debug!(api = api.name, version = header.version, client = %request.connection.client_address, "unsupported version");
        return Reply::Close.into();
    }
    let client = request.connection.client_address;
    match (api.handler)(services, request) {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::debug!(api = api.name, version = header.version, %client, %error, "request refused");
            Reply::Close.into()
        }
    }
}
