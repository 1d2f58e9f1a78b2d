//! Dynamic configurations below `/config`: reading, writing, and hearing of changes (classes `AdminZkClient`,
//! `ZkConfigManager`, `ZkNodeChangeNotificationListener`).
//!
//! Invariant: a notification only names what changed; the entity's own znode is what counts, so a notification that comes
//! twice or late does no harm.

use super::operation::{Answer, CreateMode, Operation, Write, ZkError};
use super::paths::{self, ConfigEntity, ControllerInfo, EntityConfig};
use super::registration::watch_children;
use super::session::Zk;
use super::watches::Watches;
use crate::base::{Millis, time::wall_ms};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;

/// Notifications older than this are deleted by whichever broker sees them.
const CHANGE_EXPIRATION_MS: Millis = 15 * 60 * 1000;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The dynamic configuration of an entity; empty if there is none.
pub async fn read(zk: &Zk, entity: &ConfigEntity) -> Result<EntityConfig, ZkError> {
    match zk.get(&entity.path()).await? {
        None => Ok(EntityConfig::default()),
        Some((data, _)) => Ok(EntityConfig::parse(&data)?),
    }
}

/// Those of many entities at once, in the order asked for.
pub async fn read_many(zk: &Zk, entities: &[ConfigEntity]) -> Vec<Result<EntityConfig, ZkError>> {
    let reads: Vec<Operation> = entities.iter().map(|entity| Operation::get(entity.path())).collect();
    zk.run(&reads, None)
        .await
        .into_iter()
        .map(|answer| match answer {
            Ok(Answer::Data(data, _)) => Ok(EntityConfig::parse(&data)?),
            Err(ZkError::NoNode) => Ok(EntityConfig::default()),
            Err(error) => Err(error),
            Ok(_) => Err(ZkError::Other("a read was answered with something else".into())),
        })
        .collect()
}

/// The names below `/config/<type>`, as they stand there.
pub async fn entity_names(zk: &Zk, entity_type: &str) -> Result<Vec<String>, ZkError> {
    zk.children(&format!("/config/{entity_type}")).await
}

/// The dynamic configurations of all topics.
pub async fn read_all_topics(zk: &Zk) -> Result<BTreeMap<String, EntityConfig>, ZkError> {
    let names = entity_names(zk, "topics").await?;
    let entities: Vec<ConfigEntity> =
        names.iter().filter_map(|name| ConfigEntity::parse(&format!("topics/{name}"))).collect();
    let mut configs = BTreeMap::new();
    for (entity, config) in entities.iter().zip(read_many(zk, &entities).await) {
        let ConfigEntity::Topic(topic) = entity else { continue };
        match config {
            Ok(config) => {
                configs.insert(topic.clone(), config);
            }
            Err(ZkError::Malformed(error)) => tracing::error!(topic, %error, "configuration ignored"),
            Err(error) => return Err(error),
        }
    }
    Ok(configs)
}

/// Replaces the configuration of an entity and tells every broker. Like Kafka it is fenced by `/controller` only against a
/// KRaft controller; of two writers at once the last one wins.
pub async fn write(zk: &Zk, entity: &ConfigEntity, config: &EntityConfig) -> Result<(), ZkError> {
    let Some((data, controller)) = zk.get(paths::CONTROLLER).await? else {
        return Err(ZkError::Other("there is no controller, so configurations cannot be changed".into()));
    };
    if ControllerInfo::parse(&data)?.kraft_epoch > 0 {
        return Err(ZkError::Other("a KRaft controller owns the configurations".into()));
    }
    let path = entity.path();
    let fence = Write::check(paths::CONTROLLER, controller.version);
    match zk.multi(vec![fence, Write::set(&path, config.to_json(), None)]).await {
        Ok(_) => {}
        Err(ZkError::Multi { index: 1, error }) if *error == ZkError::NoNode => {
            match zk.create_with_parents(&path, &config.to_json()).await {
                Err(ZkError::NodeExists) => {
                    zk.set(&path, &config.to_json(), None).await?;
                }
                other => other?,
            }
        }
        Err(error) => return Err(error.flatten()),
    }
    notify(zk, entity).await
}

/// Adds a notification that `entity` has changed.
pub async fn notify(zk: &Zk, entity: &ConfigEntity) -> Result<(), ZkError> {
    let path = format!("{}/{}", paths::CONFIG_CHANGES, paths::CONFIG_CHANGE_PREFIX);
    zk.create(&path, &paths::change_json(entity), CreateMode::PersistentSequential).await?;
    Ok(())
}

/// Calls `changed` for every notification from now on, those that are there already first, with what the entity holds by then.
/// Ends when the handle is closed.
pub fn listen(
    zk: Zk,
    changed: impl Fn(ConfigEntity, EntityConfig) + Send + Sync + 'static,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let (sender, mut changes) = mpsc::unbounded_channel();
        let watches = Watches::new(sender);
        let mut last = -1;
        loop {
            match handle_new(&zk, &watches, &mut last, &changed).await {
                Ok(()) => {}
                Err(ZkError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "cannot read configuration changes; trying again");
                    tokio::time::sleep(RETRY_AFTER).await;
                    continue;
                }
            }
            if changes.recv().await.is_none() {
                return;
            }
            // One read answers everything that has happened up to it.
            while changes.try_recv().is_ok() {}
        }
    })
}

async fn handle_new(
    zk: &Zk,
    watches: &Watches,
    last: &mut i64,
    changed: &impl Fn(ConfigEntity, EntityConfig),
) -> Result<(), ZkError> {
    let children = watch_children(zk, paths::CONFIG_CHANGES, watches).await?;
    let mut numbers: Vec<(i64, String)> = children
        .into_iter()
        .filter_map(|child| Some((paths::sequence_number(&child, paths::CONFIG_CHANGE_PREFIX)?, child)))
        .collect();
    numbers.sort_unstable();
    let all: Vec<Operation> =
        numbers.iter().map(|(_, child)| Operation::get(format!("{}/{child}", paths::CONFIG_CHANGES))).collect();
    let mut expired = Vec::new();
    for ((number, child), answer) in numbers.into_iter().zip(zk.run(&all, None).await) {
        let Ok(Answer::Data(data, stat)) = answer else { continue };
        if stat.ctime_ms < wall_ms() - CHANGE_EXPIRATION_MS {
            expired.push(Operation::from(Write::delete(format!("{}/{child}", paths::CONFIG_CHANGES), None)));
        }
        if number <= *last {
            continue;
        }
        match paths::change_entity_path(&data) {
            Ok(entity) => match read(zk, &entity).await {
                Ok(config) => changed(entity, config),
                Err(ZkError::Malformed(error)) => tracing::error!(%error, "configuration change ignored"),
                Err(error) => return Err(error),
            },
            Err(error) => tracing::warn!(%error, "configuration change ignored"),
        }
        *last = number;
    }
    zk.run(&expired, None).await;
    Ok(())
}
