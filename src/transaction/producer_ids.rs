//! Handing out producer ids from blocks of 1000 (class `RPCProducerIdManager` of a broker, `ZkProducerIdManager` of the
//! controller).
//!
//! Invariant: an id is handed out once. The next block is fetched when nine tenths of the present one are used, so that
//! nobody waits for the controller, or for ZooKeeper, but the first.

use crate::base::{BrokerEpoch, BrokerId, ErrorCode, ProducerId};
use crate::controller::ControllerClient;
use crate::zookeeper::paths::ProducerIdBlock;
use crate::zookeeper::{Zk, ZkError, registration};
use parking_lot::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long a client waits for a block before it is told to come again. The block is fetched all the same.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no block now.
#[derive(Debug, thiserror::Error)]
pub enum NoBlock {
    #[error(transparent)]
    ZooKeeper(#[from] ZkError),
    #[error("the controller answers {0:?}")]
    Controller(ErrorCode),
}

/// A block, or why there is none now.
pub type BlockFuture = Pin<Box<dyn Future<Output = Result<ProducerIdBlock, NoBlock>> + Send>>;

/// Where blocks come from.
pub trait ProducerIdBlocks: Send + Sync + 'static {
    fn next_block(&self) -> BlockFuture;
}

/// Blocks straight from `/latest_producer_id_block`.
pub struct ZkProducerIdBlocks {
    pub zookeeper: Zk,
    pub broker: BrokerId,
}

impl ProducerIdBlocks for ZkProducerIdBlocks {
    fn next_block(&self) -> BlockFuture {
        let (zookeeper, broker) = (self.zookeeper.clone(), self.broker);
        Box::pin(async move { Ok(registration::allocate_producer_id_block(&zookeeper, broker).await?) })
    }
}

/// Blocks from the controller, which knows that they are for a broker that lives (KIP-730, class `RPCProducerIdManager`).
pub struct ControllerProducerIdBlocks {
    broker_epoch: Arc<AtomicI64>,
    /// Set as soon as this broker has one: coordinators are made before it.
    client: OnceLock<ControllerClient>,
}

impl ControllerProducerIdBlocks {
    pub fn new(broker_epoch: Arc<AtomicI64>) -> Arc<ControllerProducerIdBlocks> {
        Arc::new(ControllerProducerIdBlocks { broker_epoch, client: OnceLock::new() })
    }

    pub fn ask(&self, client: ControllerClient) {
        let _ = self.client.set(client);
    }
}

impl ProducerIdBlocks for ControllerProducerIdBlocks {
    fn next_block(&self) -> BlockFuture {
        let epoch = BrokerEpoch(self.broker_epoch.load(Ordering::Acquire));
        let client = self.client.get().cloned();
        Box::pin(async move {
            let client = client.ok_or(NoBlock::Controller(ErrorCode::NotController))?;
            client.allocate_producer_ids(epoch).await.map_err(NoBlock::Controller)
        })
    }
}

/// Ids that can be handed out: `next..=last`.
#[derive(Default)]
struct Ids {
    present: Option<Range>,
    following: Option<ProducerIdBlock>,
}

struct Range {
    next: i64,
    block: ProducerIdBlock,
}

impl Ids {
    fn take(&mut self) -> Option<i64> {
        let is_used_up = self.present.as_ref().is_none_or(|range| range.next > range.block.last);
        if is_used_up {
            let block = self.following.take()?;
            self.present = Some(Range { next: block.first, block });
        }
        let range = self.present.as_mut()?;
        let id = range.next;
        range.next += 1;
        Some(id)
    }

    /// Nine tenths are used and nothing follows.
    fn runs_low(&self) -> bool {
        let low = |range: &Range| range.block.last - range.next < ProducerIdBlock::SIZE / 10;
        self.following.is_none() && self.present.as_ref().is_none_or(low)
    }
}

pub struct ProducerIdManager {
    blocks: Arc<dyn ProducerIdBlocks>,
    ids: Mutex<Ids>,
    /// Held while a block is being fetched: one at a time.
    fetching: tokio::sync::Mutex<()>,
}

impl ProducerIdManager {
    pub fn new(blocks: Arc<dyn ProducerIdBlocks>) -> Arc<ProducerIdManager> {
        Arc::new(ProducerIdManager { blocks, ids: Mutex::default(), fetching: tokio::sync::Mutex::new(()) })
    }

    fn take(self: &Arc<ProducerIdManager>) -> Option<i64> {
        let mut ids = self.ids.lock();
        let id = ids.take()?;
        if ids.runs_low() && self.fetching.try_lock().is_ok() {
            let manager = self.clone();
            tokio::spawn(async move { manager.fetch().await });
        }
        Some(id)
    }

    /// The next id. Clients repeat the request if there is none now.
    pub async fn next(self: &Arc<ProducerIdManager>) -> Result<ProducerId, ErrorCode> {
        loop {
            if let Some(id) = self.take() {
                return Ok(ProducerId(id));
            }
            let manager = self.clone();
            let fetching = tokio::spawn(async move { manager.fetch().await });
            match tokio::time::timeout(PATIENCE, fetching).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => {
                    tracing::warn!(%error, "no block of producer ids");
                    return Err(ErrorCode::CoordinatorLoadInProgress);
                }
                Ok(Err(_)) | Err(_) => return Err(ErrorCode::CoordinatorLoadInProgress),
            }
        }
    }

    async fn fetch(&self) -> Result<(), NoBlock> {
        let _one = self.fetching.lock().await;
        if !self.ids.lock().runs_low() {
            return Ok(());
        }
        let block = self.blocks.next_block().await?;
        self.ids.lock().following = Some(block);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Blocks by number; every third attempt fails.
    #[derive(Default)]
    struct Counted(Mutex<(u32, Option<ProducerIdBlock>)>);

    impl ProducerIdBlocks for Counted {
        fn next_block(&self) -> BlockFuture {
            let mut state = self.0.lock();
            state.0 += 1;
            if state.0.is_multiple_of(3) {
                return Box::pin(std::future::ready(Err(ZkError::SessionExpired.into())));
            }
            state.1 = ProducerIdBlock::after(state.1, BrokerId(1));
            let block = state.1.expect("ids are left");
            Box::pin(async move {
                tokio::task::yield_now().await;
                Ok(block)
            })
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn ids_are_never_handed_out_twice() {
        let manager = ProducerIdManager::new(Arc::new(Counted::default()));
        let mut tasks = Vec::new();
        for _ in 0..8 {
            let manager = manager.clone();
            tasks.push(tokio::spawn(async move {
                let mut ids = Vec::new();
                while ids.len() < 500 {
                    match manager.next().await {
                        Ok(id) => ids.push(id),
                        Err(error) => assert_eq!(error, ErrorCode::CoordinatorLoadInProgress),
                    }
                }
                ids
            }));
        }
        let mut all = BTreeSet::new();
        for task in tasks {
            for id in task.await.expect("task") {
                assert!(all.insert(id), "{id:?} twice");
            }
        }
        assert_eq!(all.len(), 4_000);
        assert_eq!((all.first(), all.last()), (Some(&ProducerId(0)), Some(&ProducerId(3_999))));
    }
}
