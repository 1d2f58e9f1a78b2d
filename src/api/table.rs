//! THE list of APIs. ApiVersions, dispatch, metrics and the golden tests iterate over it.

use super::*;
use crate::wire::{Outcome, Request, WireError};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// What every API's `handle` looks like. An error closes the connection: it is for requests that do not follow the protocol.
pub type Handler = fn(&Arc<Services>, Request) -> Result<Outcome, WireError>;

/// Which part of the broker an API belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    Data,
    Group,
    Admin,
    Controller,
    Auth,
}

pub struct Api {
    pub key: i16,
    pub name: &'static str,
    pub versions: RangeInclusive<i16>,
    pub class: Class,
    pub handler: Handler,
}

const fn api(key: i16, name: &'static str, versions: RangeInclusive<i16>, class: Class, handler: Handler) -> Api {
    Api { key, name, versions, class, handler }
}

/// In the order of their keys, which is the order in which ApiVersions shows them.
pub static APIS: &[Api] = &[
    api(0, "Produce", 0..=11, Class::Data, produce::handle),
    api(1, "Fetch", 0..=17, Class::Data, fetch::handle),
    api(2, "ListOffsets", 0..=9, Class::Data, list_offsets::handle),
    api(3, "Metadata", 0..=12, Class::Data, metadata::handle),
    api(4, "LeaderAndIsr", 0..=7, Class::Controller, leader_and_isr::handle),
    api(5, "StopReplica", 0..=4, Class::Controller, stop_replica::handle),
    api(6, "UpdateMetadata", 0..=8, Class::Controller, update_metadata::handle),
    api(7, "ControlledShutdown", 0..=3, Class::Controller, controlled_shutdown::handle),
    api(8, "OffsetCommit", 0..=9, Class::Group, offset_commit::handle),
    api(9, "OffsetFetch", 0..=9, Class::Group, offset_fetch::handle),
    api(10, "FindCoordinator", 0..=6, Class::Group, find_coordinator::handle),
    api(11, "JoinGroup", 0..=9, Class::Group, join_group::handle),
    api(12, "Heartbeat", 0..=4, Class::Group, heartbeat::handle),
    api(13, "LeaveGroup", 0..=5, Class::Group, leave_group::handle),
    api(14, "SyncGroup", 0..=5, Class::Group, sync_group::handle),
    api(15, "DescribeGroups", 0..=5, Class::Group, describe_groups::handle),
    api(16, "ListGroups", 0..=5, Class::Group, list_groups::handle),
    api(18, "ApiVersions", 0..=4, Class::Auth, api_versions::handle),
    api(19, "CreateTopics", 0..=7, Class::Controller, create_topics::handle),
    api(20, "DeleteTopics", 0..=6, Class::Controller, delete_topics::handle),
    api(21, "DeleteRecords", 0..=2, Class::Data, delete_records::handle),
    api(22, "InitProducerId", 0..=5, Class::Data, init_producer_id::handle),
    api(23, "OffsetForLeaderEpoch", 0..=4, Class::Data, offset_for_leader_epoch::handle),
    api(24, "AddPartitionsToTxn", 0..=5, Class::Data, add_partitions_to_txn::handle),
    api(25, "AddOffsetsToTxn", 0..=4, Class::Data, add_offsets_to_txn::handle),
    api(26, "EndTxn", 0..=4, Class::Data, end_txn::handle),
    api(27, "WriteTxnMarkers", 0..=1, Class::Data, write_txn_markers::handle),
    api(28, "TxnOffsetCommit", 0..=4, Class::Group, txn_offset_commit::handle),
    api(32, "DescribeConfigs", 0..=4, Class::Admin, describe_configs::handle),
    api(33, "AlterConfigs", 0..=2, Class::Admin, alter_configs::handle),
    api(34, "AlterReplicaLogDirs", 0..=2, Class::Admin, alter_replica_log_dirs::handle),
    api(35, "DescribeLogDirs", 0..=4, Class::Admin, describe_log_dirs::handle),
    api(37, "CreatePartitions", 0..=3, Class::Controller, create_partitions::handle),
    api(42, "DeleteGroups", 0..=2, Class::Group, delete_groups::handle),
    api(43, "ElectLeaders", 0..=2, Class::Controller, elect_leaders::handle),
    api(44, "IncrementalAlterConfigs", 0..=1, Class::Admin, incremental_alter_configs::handle),
    api(45, "AlterPartitionReassignments", 0..=0, Class::Controller, alter_partition_reassignments::handle),
    api(46, "ListPartitionReassignments", 0..=0, Class::Controller, list_partition_reassignments::handle),
    api(47, "OffsetDelete", 0..=0, Class::Group, offset_delete::handle),
    api(56, "AlterPartition", 0..=3, Class::Controller, alter_partition::handle),
    api(57, "UpdateFeatures", 0..=1, Class::Controller, update_features::handle),
    api(60, "DescribeCluster", 0..=1, Class::Admin, describe_cluster::handle),
    api(61, "DescribeProducers", 0..=0, Class::Admin, describe_producers::handle),
    api(65, "DescribeTransactions", 0..=0, Class::Admin, describe_transactions::handle),
    api(66, "ListTransactions", 0..=1, Class::Admin, list_transactions::handle),
    api(67, "AllocateProducerIds", 0..=0, Class::Controller, allocate_producer_ids::handle),
];

pub fn find(key: i16) -> Option<&'static Api> {
    APIS.binary_search_by_key(&key, |api| api.key).ok().map(|at| &APIS[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_rise_and_are_found() {
        assert!(APIS.windows(2).all(|pair| pair[0].key < pair[1].key));
        assert!(APIS.iter().all(|api| find(api.key).is_some_and(|found| found.name == api.name)));
        assert!(find(-1).is_none());
    }
}
