//! One [`Peer`] for each other broker, at the address that the cluster's metadata has for it.

use super::error::PeerError;
use super::sender::{Peer, PeerConfig};
use crate::base::BrokerId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Where a live broker listens for other brokers.
type Lookup = Box<dyn Fn(BrokerId) -> Option<(String, u16)> + Send + Sync>;

pub struct Peers {
    config: PeerConfig,
    lookup: Lookup,
    runtime: Handle,
    open: Mutex<HashMap<BrokerId, Arc<Peer>>>,
}

impl Peers {
    /// `lookup` is asked at each [`get`](Self::get), so that a broker which moved is found; connections live on `runtime`.
    pub fn new(
        config: PeerConfig,
        runtime: Handle,
        lookup: impl Fn(BrokerId) -> Option<(String, u16)> + Send + Sync + 'static,
    ) -> Peers {
        Peers { config, lookup: Box::new(lookup), runtime, open: Mutex::default() }
    }

    pub fn get(&self, broker: BrokerId) -> Result<Arc<Peer>, PeerError> {
        let mut open = self.open.lock();
        let Some((host, port)) = (self.lookup)(broker) else {
            open.remove(&broker);
            return Err(PeerError::Unknown(broker));
        };
        if let Some(peer) = open.get(&broker).filter(|peer| peer.host() == host && peer.port() == port) {
            return Ok(peer.clone());
        }
        let _runtime = self.runtime.enter();
        let peer = Arc::new(Peer::new(self.config.clone(), host, port));
        open.insert(broker, peer.clone());
        Ok(peer)
    }
}
