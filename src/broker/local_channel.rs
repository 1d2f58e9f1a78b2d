//! The controller's way to the broker of its own process: a call. To others there is none yet.

use crate::base::{BrokerId, ErrorCode};
use crate::controller::channel::Sent;
use crate::controller::{ChannelError, Channels, ControlChannel, ControlRequest, ControlResponse};
use crate::group::GroupCoordinator;
use crate::replica::ReplicaManager;
use crate::wire::messages::UpdateMetadataResponse;
use crate::zookeeper::paths::BrokerInfo;
use std::sync::Arc;
use tokio::runtime::Handle;

#[derive(Clone)]
pub struct LocalChannels {
    pub replicas: Arc<ReplicaManager>,
    pub groups: Arc<GroupCoordinator>,
    /// Where requests are carried out: thousands of new logs keep a disk busy, and the ZooKeeper session must not wait for it.
    pub data: Handle,
}

impl Channels for LocalChannels {
    fn open(&self, broker: BrokerId, _info: &BrokerInfo) -> Arc<dyn ControlChannel> {
        match broker == self.replicas.local() {
            true => Arc::new(Local(self.clone())),
            false => Arc::new(Remote { broker }),
        }
    }
}

struct Local(LocalChannels);

impl ControlChannel for Local {
    fn send(&self, request: ControlRequest) -> Sent {
        let LocalChannels { replicas, groups, data } = self.0.clone();
        let done = data.spawn(async move {
            match request {
                ControlRequest::LeaderAndIsr(request) => {
                    ControlResponse::LeaderAndIsr(replicas.leader_and_isr(&request).await)
                }
                ControlRequest::UpdateMetadata(request) => {
                    let updated = replicas.update_metadata(&request).await;
                    let error = updated.map(|deleted| groups.on_partitions_deleted(&deleted)).err();
                    let error = error.unwrap_or(ErrorCode::None);
                    let response = UpdateMetadataResponse::default().with_error_code(error.code());
                    ControlResponse::UpdateMetadata(response)
                }
                ControlRequest::StopReplica(request) => {
                    ControlResponse::StopReplica(replicas.stop_replica(&request).await)
                }
            }
        });
        Box::pin(async move { done.await.map_err(|error| ChannelError(error.to_string())) })
    }
}

struct Remote {
    broker: BrokerId,
}

impl ControlChannel for Remote {
    fn send(&self, _request: ControlRequest) -> Sent {
        let reason =
            format!("broker {} is another process: clusters of several brokers are not supported yet", self.broker);
        Box::pin(std::future::ready(Err(ChannelError(reason))))
    }
}
