//! How control requests reach brokers (class `ControllerChannelManager`).
//!
//! Invariant: one queue per broker, one request on its way at a time; a request that fails is sent again until its broker is no
//! longer live.

use super::machine::Event;
use super::requests::{ControlRequest, ControlResponse};
use crate::base::BrokerId;
use crate::zookeeper::paths::BrokerInfo;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

const RETRY_AFTER: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ChannelError(pub String);

pub type Sent = Pin<Box<dyn Future<Output = Result<ControlResponse, ChannelError>> + Send>>;

/// The way to one broker.
pub trait ControlChannel: Send + Sync {
    fn send(&self, request: ControlRequest) -> Sent;
}

/// Makes channels: to the broker of this process, or over the network.
pub trait Channels: Send + Sync {
    fn open(&self, broker: BrokerId, info: &BrokerInfo) -> Arc<dyn ControlChannel>;
}

/// The open channels of an active controller.
pub(super) struct ChannelManager {
    channels: Arc<dyn Channels>,
    events: mpsc::UnboundedSender<Event>,
    open: HashMap<BrokerId, (mpsc::UnboundedSender<ControlRequest>, AbortHandle)>,
}

impl ChannelManager {
    pub fn new(channels: Arc<dyn Channels>, events: mpsc::UnboundedSender<Event>) -> ChannelManager {
        ChannelManager { channels, events, open: HashMap::new() }
    }

    pub fn open(&mut self, broker: BrokerId, info: &BrokerInfo) {
        self.close(broker);
        let channel = self.channels.open(broker, info);
        let (sender, requests) = mpsc::unbounded_channel();
        let task = tokio::spawn(deliver(broker, channel, requests, self.events.clone()));
        self.open.insert(broker, (sender, task.abort_handle()));
    }

    /// What is still queued is dropped.
    pub fn close(&mut self, broker: BrokerId) {
        if let Some((_, task)) = self.open.remove(&broker) {
            task.abort();
        }
    }

    pub fn send(&self, broker: BrokerId, request: ControlRequest) {
        if let Some((queue, _)) = self.open.get(&broker) {
            let _ = queue.send(request);
        }
    }
}

impl Drop for ChannelManager {
    fn drop(&mut self) {
        for (_, task) in self.open.values() {
            task.abort();
        }
    }
}

async fn deliver(
    broker: BrokerId,
    channel: Arc<dyn ControlChannel>,
    mut requests: mpsc::UnboundedReceiver<ControlRequest>,
    events: mpsc::UnboundedSender<Event>,
) {
    let mut told = false;
    while let Some(request) = requests.recv().await {
        let response = loop {
            match channel.send(request.clone()).await {
                Ok(response) => break response,
                Err(error) if !told => {
                    tracing::warn!(%broker, %error, "a control request cannot be delivered; trying on");
                    told = true;
                }
                Err(_) => {}
            }
            tokio::time::sleep(RETRY_AFTER).await;
        };
        told = false;
        let _ = events.send(Event::Response { broker, request, response });
    }
}
