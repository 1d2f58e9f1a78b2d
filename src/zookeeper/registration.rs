//! How a broker enters the cluster (class `KafkaZkClient`, start-up of `KafkaServer`).
//!
//! Invariant: a broker is registered while its session lives and never twice; its epoch is the czxid of `/brokers/ids/N`. The
//! data is written by a second op of the same transaction, as Kafka does, so that the znode starts at zkVersion 1 and the
//! epoch can be read from an answer that every server version fills in.

use super::operation::{CreateMode, Operation, Write, Written, ZkError};
use super::paths::{self, BrokerInfo, ClusterId, FeatureZnode};
use super::session::{SessionEvent, Zk};
use super::{Answer, Watches};
use crate::base::{BrokerEpoch, BrokerId, TopicId};
use crate::config::BrokerConfig;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::{broadcast, watch};

const RETRY_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    #[error(
        "broker id {id} is taken: {owner} is registered with it in ZooKeeper. Stop that broker or give this one another broker.id"
    )]
    BrokerIdTaken { id: BrokerId, owner: String },
    #[error(
        "{listener}://{address} is already advertised by broker {other}: give this broker other advertised.listeners"
    )]
    EndpointTaken { listener: String, address: String, other: BrokerId },
    #[error("the cluster has finalized feature {0}, which this broker does not support")]
    UnsupportedFeature(String),
    #[error(transparent)]
    Zk(#[from] ZkError),
}

impl From<paths::ZnodeError> for RegistrationError {
    fn from(error: paths::ZnodeError) -> RegistrationError {
        RegistrationError::Zk(error.into())
    }
}

/// What to do about a registration that an earlier run of this broker has left behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leftover {
    /// Its session ends by itself: wait for that, at most so long.
    Wait(Duration),
    /// The ZooKeeper server lives in this process and has just started, so the session's owner is gone for good.
    Remove,
}

/// What this broker registers.
pub fn broker_info(config: &BrokerConfig, timestamp_ms: i64) -> BrokerInfo {
    BrokerInfo {
        endpoints: config.advertised_listeners.iter().map(Into::into).collect(),
        rack: config.broker_rack.clone(),
        timestamp_ms,
        features: BTreeMap::new(),
    }
}

/// Creates the znodes that every cluster has and this one lacks.
pub async fn create_persistent_paths(zk: &Zk) -> Result<(), ZkError> {
    let reads: Vec<Operation> = paths::PERSISTENT.iter().map(|path| Operation::exists(*path)).collect();
    let found = zk.run(&reads, None).await;
    let mut creates = Vec::new();
    for (path, found) in paths::PERSISTENT.iter().zip(found) {
        if found? == Answer::Exists(None) {
            creates.push(Operation::from(Write::create(*path, "")));
        }
    }
    for created in zk.run(&creates, None).await {
        match created.map_err(ZkError::flatten) {
            Ok(_) | Err(ZkError::NodeExists) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads `/cluster/id`, or makes the cluster's first one.
pub async fn cluster_id(zk: &Zk) -> Result<String, ZkError> {
    let fresh = ClusterId(TopicId::random().to_string());
    loop {
        if let Some((data, _)) = zk.get(paths::CLUSTER_ID).await? {
            return Ok(ClusterId::parse(&data)?.0);
        }
        match zk.create_with_parents(paths::CLUSTER_ID, &fresh.to_json()).await {
            Ok(()) => return Ok(fresh.0),
            Err(ZkError::NodeExists) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The next id above `reserved.broker.max.id`.
pub async fn generate_broker_id(zk: &Zk, reserved_max: i32) -> Result<BrokerId, ZkError> {
    let stat = match zk.set(paths::BROKER_SEQUENCE, b"", None).await {
        Err(ZkError::NoNode) => {
            zk.create_with_parents(paths::BROKER_SEQUENCE, b"").await?;
            zk.set(paths::BROKER_SEQUENCE, b"", None).await?
        }
        other => other?,
    };
    let id = reserved_max.checked_add(stat.version);
    id.map(BrokerId).ok_or_else(|| ZkError::Other("all generated broker ids are used up".into()))
}

/// Refuses a cluster whose finalized features this broker cannot satisfy; it supports none.
pub async fn check_features(zk: &Zk) -> Result<(), RegistrationError> {
    let Some((data, _)) = zk.get(paths::FEATURE).await? else { return Ok(()) };
    match FeatureZnode::parse(&data)?.features.into_keys().next() {
        None => Ok(()),
        Some(name) => Err(RegistrationError::UnsupportedFeature(name)),
    }
}

/// Refuses endpoints that another broker advertises.
async fn check_endpoints(zk: &Zk, id: BrokerId, info: &BrokerInfo) -> Result<(), RegistrationError> {
    let children = zk.children(paths::BROKER_IDS).await?;
    let others: Vec<BrokerId> =
        children.iter().filter_map(|child| paths::parse_broker_id(child)).filter(|other| *other != id).collect();
    let reads: Vec<Operation> = others.iter().map(|other| Operation::get(paths::broker_id(*other))).collect();
    for (other, answer) in others.into_iter().zip(zk.run(&reads, None).await) {
        let Ok(Answer::Data(data, _)) = answer else { continue };
        let Ok(registered) = BrokerInfo::parse(&data) else { continue };
        let taken = info
            .endpoints
            .iter()
            .find(|own| registered.endpoints.iter().any(|theirs| (&theirs.host, theirs.port) == (&own.host, own.port)));
        if let Some(own) = taken {
            let (listener, address) = (own.listener.clone(), format!("{}:{}", own.host, own.port));
            return Err(RegistrationError::EndpointTaken { listener, address, other });
        }
    }
    Ok(())
}

/// Registers `/brokers/ids/N` in the current session. `previous_session` is an ended session of this process.
pub async fn register(
    zk: &Zk,
    id: BrokerId,
    info: &BrokerInfo,
    previous_session: Option<i64>,
    leftover: Leftover,
) -> Result<BrokerEpoch, RegistrationError> {
    check_endpoints(zk, id, info).await?;
    let deadline = match leftover {
        Leftover::Wait(wait) => tokio::time::Instant::now() + wait,
        Leftover::Remove => tokio::time::Instant::now(),
    };
    let path = paths::broker_id(id);
    let json = info.to_json();
    let mut told = false;
    loop {
        let writes = vec![Write::create_ephemeral(&path, ""), Write::set(&path, json.clone(), Some(0))];
        match zk.multi(writes).await {
            Ok(written) => match written.last() {
                Some(Written::Set(stat)) => return Ok(BrokerEpoch(stat.czxid)),
                _ => return Err(ZkError::Other("a registration was answered with something else".into()).into()),
            },
            Err(ZkError::Multi { index: 0, error }) if *error == ZkError::NodeExists => {}
            Err(error) => return Err(error.into()),
        }
        let Some((data, stat)) = zk.get(&path).await? else { continue };
        if stat.owner == zk.session_id().await? {
            return Ok(BrokerEpoch(stat.czxid));
        }
        let registered = BrokerInfo::parse(&data);
        let same_broker = registered.as_ref().is_ok_and(|theirs| theirs.endpoints == info.endpoints);
        if Some(stat.owner) == previous_session || (leftover == Leftover::Remove && same_broker) {
            remove_leftovers(zk, &path, stat.owner, stat.version).await?;
        } else if same_broker && tokio::time::Instant::now() < deadline {
            if !told {
                tracing::warn!(broker = %id, "an earlier run of this broker is still registered: waiting for its ZooKeeper session to end");
                told = true;
            }
            tokio::time::sleep(RETRY_AFTER / 4).await;
        } else {
            return Err(RegistrationError::BrokerIdTaken { id, owner: describe(registered, stat.owner) });
        }
    }
}

/// Deletes the registration of an ended session, and the controller's znode if it is of the same session.
async fn remove_leftovers(zk: &Zk, path: &str, session: i64, version: i32) -> Result<(), ZkError> {
    let mut writes = vec![Write::delete(path, Some(version))];
    if let Some((_, stat)) = zk.get(paths::CONTROLLER).await?
        && stat.owner == session
    {
        writes.push(Write::delete(paths::CONTROLLER, Some(stat.version)));
    }
    match zk.multi(writes).await.map_err(ZkError::flatten) {
        Ok(_) | Err(ZkError::NoNode | ZkError::BadVersion) => Ok(()),
        Err(error) => Err(error),
    }
}

fn describe(registered: Result<BrokerInfo, paths::ZnodeError>, session: i64) -> String {
    let endpoint = registered.ok().and_then(|info| info.endpoints.into_iter().next());
    match endpoint {
        Some(endpoint) => format!("a broker at {}:{} (session {session:#x})", endpoint.host, endpoint.port),
        None => format!("session {session:#x}"),
    }
}

/// Keeps the broker registered: registers anew, with a new epoch, in every new session.
pub struct Registrar {
    epoch: watch::Sender<BrokerEpoch>,
}

impl Registrar {
    /// Registers for the first time, and from then on whenever a session was lost.
    pub async fn start(
        zk: &Zk,
        id: BrokerId,
        info: BrokerInfo,
        leftover: Leftover,
    ) -> Result<Registrar, RegistrationError> {
        let events = zk.events();
        let epoch = register(zk, id, &info, None, leftover).await?;
        tracing::info!(broker = %id, %epoch, "registered");
        let sender = watch::Sender::new(epoch);
        tokio::spawn(reregister(zk.clone(), id, info, events, sender.clone(), zk.session_id().await?));
        Ok(Registrar { epoch: sender })
    }

    pub fn epoch(&self) -> BrokerEpoch {
        *self.epoch.borrow()
    }

    /// The current epoch and every later one.
    pub fn subscribe(&self) -> watch::Receiver<BrokerEpoch> {
        self.epoch.subscribe()
    }
}

async fn reregister(
    zk: Zk,
    id: BrokerId,
    info: BrokerInfo,
    mut events: broadcast::Receiver<SessionEvent>,
    epoch: watch::Sender<BrokerEpoch>,
    mut session: i64,
) {
    loop {
        match events.recv().await {
            Ok(SessionEvent::Established { .. }) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Ok(SessionEvent::Expired) => continue,
            Err(broadcast::error::RecvError::Closed) => return,
        }
        loop {
            match register(&zk, id, &info, Some(session), Leftover::Wait(Duration::ZERO)).await {
                Ok(new) => {
                    tracing::info!(broker = %id, epoch = %new, "registered again after the ZooKeeper session expired");
                    epoch.send_replace(new);
                    break;
                }
                Err(RegistrationError::Zk(ZkError::Closed)) => return,
                // The next session brings its own event.
                Err(RegistrationError::Zk(ZkError::SessionExpired)) => break,
                Err(error) => tracing::error!(%error, "cannot register again; trying on"),
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
        if let Ok(now) = zk.session_id().await {
            session = now;
        }
    }
}

/// Creates `/latest_producer_id_block` and hands out its next block, whoever else does so at the same time.
pub async fn allocate_producer_id_block(zk: &Zk, id: BrokerId) -> Result<paths::ProducerIdBlock, ZkError> {
    loop {
        let Some((data, stat)) = zk.get(paths::PRODUCER_ID_BLOCK).await? else {
            match zk.create(paths::PRODUCER_ID_BLOCK, b"", CreateMode::Persistent).await {
                Ok(_) | Err(ZkError::NodeExists) => continue,
                Err(error) => return Err(error),
            }
        };
        let next = paths::ProducerIdBlock::after(paths::ProducerIdBlock::parse(&data)?, id)
            .ok_or_else(|| ZkError::Other("all producer ids are used up".into()))?;
        match zk.set(paths::PRODUCER_ID_BLOCK, &next.to_json(), Some(stat.version)).await {
            Ok(_) => return Ok(next),
            Err(ZkError::BadVersion) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Watches `path`'s children by `watches` and returns them; empty if there is no such znode.
pub(super) async fn watch_children(zk: &Zk, path: &str, watches: &Watches) -> Result<Vec<String>, ZkError> {
    match zk.run(&[Operation::children_and_watch(path)], Some(watches)).await.pop() {
        Some(Ok(Answer::Children(children, _))) => Ok(children),
        Some(Err(error)) => Err(error),
        _ => Err(ZkError::Other("children were answered with something else".into())),
    }
}
