//! Who this broker is: `broker.id` and cluster id must agree between the configuration, every log directory and ZooKeeper.

use crate::base::BrokerId;
use crate::log::MetaProperties;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdentityError {
    #[error(
        "log directory {dir} belongs to cluster {stored}, but ZooKeeper has cluster {cluster_id}: set zookeeper.connect to the \
         cluster of these logs, or log.dirs to directories of this cluster",
        dir = dir.display()
    )]
    OtherCluster { dir: PathBuf, stored: String, cluster_id: String },
    #[error(
        "log directory {dir} belongs to broker {stored}, but {other_name} says {other}: set broker.id={stored}, or log.dirs to \
         the directories of broker {other}",
        dir = dir.display()
    )]
    OtherBroker { dir: PathBuf, stored: BrokerId, other: BrokerId, other_name: String },
}

/// The id that the configuration (-1: none) and the directories agree on; `None` if none of them has one.
pub fn identify(
    configured: i32,
    cluster_id: &str,
    dirs: &[(PathBuf, Option<MetaProperties>)],
) -> Result<Option<BrokerId>, IdentityError> {
    let mut known = (configured >= 0).then(|| (BrokerId(configured), "broker.id".to_owned()));
    for (dir, meta) in dirs {
        let Some(meta) = meta else { continue };
        check_cluster(dir, meta, cluster_id)?;
        let Some(stored) = meta.broker_id else { continue };
        match &known {
            None => known = Some((stored, dir.join("meta.properties").display().to_string())),
            Some((other, other_name)) if *other != stored => {
                let (dir, other, other_name) = (dir.clone(), *other, other_name.clone());
                return Err(IdentityError::OtherBroker { dir, stored, other, other_name });
            }
            Some(_) => {}
        }
    }
    Ok(known.map(|(id, _)| id))
}

fn check_cluster(dir: &Path, meta: &MetaProperties, cluster_id: &str) -> Result<(), IdentityError> {
    match &meta.cluster_id {
        Some(stored) if stored != cluster_id => Err(IdentityError::OtherCluster {
            dir: dir.to_owned(),
            stored: stored.clone(),
            cluster_id: cluster_id.to_owned(),
        }),
        _ => Ok(()),
    }
}
