//! The controller's way to the brokers: a call to the one of its own process, a connection to each other.

use super::remote_channel::Remote;
use crate::api::update_metadata;
use crate::base::BrokerId;
use crate::config::BrokerConfig;
use crate::controller::channel::Sent;
use crate::controller::{ChannelError, Channels, ControlChannel, ControlRequest, ControlResponse};
use crate::group::GroupCoordinator;
use crate::peer::{Peer, PeerConfig};
use crate::replica::ReplicaManager;
use crate::zookeeper::paths::BrokerInfo;
use std::sync::Arc;
use tokio::runtime::Handle;

#[derive(Clone)]
pub struct LocalChannels {
    pub config: Arc<BrokerConfig>,
    pub replicas: Arc<ReplicaManager>,
    pub groups: Arc<GroupCoordinator>,
    /// Where requests are carried out: thousands of new logs keep a disk busy, and the ZooKeeper session must not wait for it.
    pub data: Handle,
}

impl Channels for LocalChannels {
    fn open(&self, broker: BrokerId, info: &BrokerInfo) -> Arc<dyn ControlChannel> {
        if broker == self.replicas.local() {
            return Arc::new(Local(self.clone()));
        }
        let endpoint = info.endpoint(&self.config.inter_broker_listener_name);
        let address = endpoint.and_then(|endpoint| Some((endpoint.host.clone(), u16::try_from(endpoint.port).ok()?)));
        match address {
            Some((host, port)) => {
                // As Kafka's controller: the client id is its broker id.
                let config = PeerConfig::new(self.config.broker_id.to_string());
                let peer = Arc::new(Peer::new(config, host, port));
                Arc::new(Remote { peer, protocol: self.config.inter_broker_protocol })
            }
            None => Arc::new(Unreachable(format!(
                "broker {broker} has no endpoint on the inter-broker listener {}",
                self.config.inter_broker_listener_name
            ))),
        }
    }
}

struct Local(LocalChannels);

impl ControlChannel for Local {
    fn send(&self, request: ControlRequest) -> Sent {
        let LocalChannels { replicas, groups, data, .. } = self.0.clone();
        let done = data.spawn(async move {
            match request {
                ControlRequest::LeaderAndIsr(request) => {
                    ControlResponse::LeaderAndIsr(replicas.leader_and_isr(&request).await)
                }
                ControlRequest::UpdateMetadata(request) => {
                    ControlResponse::UpdateMetadata(update_metadata::apply(&replicas, &groups, &request).await)
                }
                ControlRequest::StopReplica(request) => {
                    ControlResponse::StopReplica(replicas.stop_replica(&request).await)
                }
            }
        });
        Box::pin(async move { done.await.map_err(|error| ChannelError(error.to_string())) })
    }
}

/// A broker without an endpoint for other brokers.
struct Unreachable(String);

impl ControlChannel for Unreachable {
    fn send(&self, _request: ControlRequest) -> Sent {
        Box::pin(std::future::ready(Err(ChannelError(self.0.clone()))))
    }
}
