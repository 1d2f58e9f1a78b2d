//! `ottla check`: could this broker take over the log directories and the place in the cluster that a properties file names?
//!
//! Invariant: everything is only read: no file is made, locked for longer than a look, or changed, and no znode is written. So it
//! may be asked while Apache Kafka still runs, and says then that it does.

use super::identity;
use crate::base::{BrokerId, TopicPartition};
use crate::config::{self, BrokerConfig};
use crate::log::{DirInspection, Finding, Severity, inspect_dir};
use crate::zookeeper::operation::{Answer, Operation};
use crate::zookeeper::paths::{self, BrokerInfo, ClusterId, ControllerInfo, FeatureZnode, TopicZnode};
use crate::zookeeper::{Zk, ZkConfig, ZkError};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Nobody wants to wait longer for an answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const PROBE_WITHIN: Duration = Duration::from_secs(2);
/// What recovery reads in a second on an ordinary disk, for the estimate.
const RECOVERY_BYTES_PER_SECOND: u64 = 500 << 20;
/// So many of a kind are named; the others are counted.
const NAMED_MAX: usize = 5;

/// What was found, and what follows from it.
#[derive(Debug, Default)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    fn add(&mut self, severity: Severity, text: impl Into<String>) {
        self.findings.push(Finding::new(severity, text));
    }

    fn worst(&self) -> Severity {
        self.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Note)
    }

    /// 0: it could take over. 1: it could, and something needs a look. 2: it could not.
    pub fn exit_code(&self) -> u8 {
        match self.worst() {
            Severity::Note => 0,
            Severity::Warning | Severity::Offline => 1,
            Severity::Refusal => 2,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let mark = match finding.severity {
                Severity::Note => "ok    ",
                Severity::Warning | Severity::Offline => "look  ",
                Severity::Refusal => "REFUSE",
            };
            writeln!(out, "{mark} {}", finding.text)?;
        }
        writeln!(
            out,
            "{}",
            match self.exit_code() {
                0 => "This broker could take over.",
                1 => "This broker could take over; see the lines marked `look`.",
                _ => "This broker could not take over; see the lines marked `REFUSE`.",
            }
        )
    }
}

/// Looks at everything that a start with this file would look at.
pub fn check(file: &Path, overrides: &[String]) -> Report {
    let mut report = Report::default();
    let config = match config::load(Some(file), overrides) {
        Ok(loaded) => {
            loaded.warnings.into_iter().for_each(|warning| report.add(Severity::Warning, warning));
            loaded.config
        }
        Err(error) => {
            report.add(Severity::Refusal, error.to_string());
            return report;
        }
    };
    let dirs: Vec<DirInspection> = config.log_dirs.iter().map(|path| inspect_dir(path)).collect();
    look_at_dirs(&dirs, &mut report);
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(look_at_cluster(&config, &dirs, &mut report)),
        Err(error) => report.add(Severity::Warning, format!("ZooKeeper was not asked: {error}")),
    }
    report
}

fn look_at_dirs(dirs: &[DirInspection], report: &mut Report) {
    for dir in dirs {
        let name = dir.path.display();
        let sizes: u64 = dir.partitions.iter().map(|partition| partition.size_bytes).sum();
        if !dir.is_offline() {
            report.add(Severity::Note, format!("{name}: {} partitions, {}", dir.partitions.len(), bytes(sizes)));
        }
        for finding in &dir.findings {
            report.add(finding.severity, format!("{name}: {}", finding.text));
        }
        look_at_recovery(dir, report);
    }
    if !dirs.is_empty() && dirs.iter().all(DirInspection::is_offline) {
        report.add(Severity::Refusal, "no log directory can be worked in");
    }
    let mut seen: BTreeMap<&TopicPartition, &Path> = BTreeMap::new();
    for partition in dirs.iter().flat_map(|dir| &dir.partitions) {
        if let Some(first) = seen.insert(&partition.partition, &partition.path) {
            let (name, second) = (&partition.partition, partition.path.display());
            let text =
                format!("{name} is in two log directories: {} and {second}. Remove the stale copy", first.display());
            report.add(Severity::Refusal, text);
        }
    }
}

fn look_at_recovery(dir: &DirInspection, report: &mut Report) {
    let to_check: u64 = dir.partitions.iter().map(|partition| partition.recovery_bytes).sum();
    let logs = dir.partitions.iter().filter(|partition| partition.recovery_bytes > 0).count();
    let name = dir.path.display();
    if logs > 0 {
        let seconds = to_check.div_ceil(RECOVERY_BYTES_PER_SECOND);
        let amount = bytes(to_check);
        report.add(
            Severity::Warning,
            format!("{name}: was not shut down cleanly: {amount} in {logs} logs would be checked, about {seconds} s"),
        );
    } else if dir.is_clean {
        report.add(Severity::Note, format!("{name}: was shut down cleanly"));
    }
}

fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, size)| count >= *size) {
        Some((unit, size)) => format!("{:.1} {unit}", count as f64 / *size as f64),
        None => format!("{count} bytes"),
    }
}

/// The ensemble, read without the chroot of the session, which would be made if it were absent.
struct Ensemble {
    zookeeper: Zk,
    chroot: String,
}

impl Ensemble {
    async fn connect(connect: &str, config: &BrokerConfig) -> Result<Ensemble, ZkError> {
        let (hosts, chroot) = connect.split_at(connect.find('/').unwrap_or(connect.len()));
        let within = Duration::from_millis(config.zookeeper_connection_timeout_ms.max(0) as u64).min(CONNECT_WITHIN);
        let settings = ZkConfig::of(config, hosts.to_owned())?;
        let zookeeper = Zk::connect(ZkConfig { connection_timeout: within, ..settings }).await?;
        Ok(Ensemble { zookeeper, chroot: chroot.trim_end_matches('/').to_owned() })
    }

    fn path(&self, path: &str) -> String {
        format!("{}{path}", self.chroot)
    }

    async fn get(&self, path: &str) -> Result<Option<Vec<u8>>, ZkError> {
        Ok(self.zookeeper.get(&self.path(path)).await?.map(|(data, _)| data))
    }
}

async fn look_at_cluster(config: &BrokerConfig, dirs: &[DirInspection], report: &mut Report) {
    let connect = match &config.zookeeper_connect {
        Some(connect) => connect.clone(),
        None => {
            let address = (config.zookeeper_embedded_address.as_str(), config.zookeeper_embedded_port);
            if !answers(address) {
                return look_at_embedded(config, dirs, report);
            }
            format!("{}:{}", address.0, address.1)
        }
    };
    let outcome = async {
        let ensemble = Ensemble::connect(&connect, config).await?;
        let outcome = look_at_znodes(&ensemble, config, dirs, report).await;
        ensemble.zookeeper.close().await;
        outcome
    };
    if let Err(error) = outcome.await {
        report.add(Severity::Refusal, error.to_string());
    }
}

fn answers(address: (&str, u16)) -> bool {
    let Ok(mut addresses) = address.to_socket_addrs() else { return false };
    addresses.any(|address| TcpStream::connect_timeout(&address, PROBE_WITHIN).is_ok())
}

/// Without a running server, only the directories can be held against one another.
fn look_at_embedded(config: &BrokerConfig, dirs: &[DirInspection], report: &mut Report) {
    let dir = config.zookeeper_embedded_data_dir.display();
    let has_data = config.zookeeper_embedded_data_dir.join("version-2").exists();
    let known = dirs.iter().filter_map(|dir| dir.meta.as_ref()?.cluster_id.clone());
    let clusters: BTreeSet<String> = known.collect();
    match (has_data, clusters.first()) {
        (true, _) => report.add(Severity::Note, format!("the ZooKeeper inside is not running; its data is in {dir}")),
        (false, None) => report.add(Severity::Note, "the ZooKeeper inside would begin a new cluster"),
        (false, Some(cluster)) => report.add(
            Severity::Refusal,
            format!(
                "the logs belong to cluster {cluster}, and the ZooKeeper inside has no data in {dir}: set zookeeper.connect to \
                 that cluster's ensemble, or zookeeper.embedded.data.dir to its data"
            ),
        ),
    }
    // Directories that name no cluster may still disagree about the broker.
    identity_of(config, clusters.first().map_or("(not known yet)", String::as_str), dirs, report);
}

/// The id that the broker would have, if everything agrees on it.
fn identity_of(config: &BrokerConfig, cluster: &str, dirs: &[DirInspection], report: &mut Report) -> Option<BrokerId> {
    let metas: Vec<(PathBuf, _)> = dirs.iter().map(|dir| (dir.path.clone(), dir.meta.clone())).collect();
    match identity::identify(config.broker_id, cluster, &metas) {
        Ok(Some(id)) => {
            report.add(Severity::Note, format!("broker {id} of cluster {cluster}"));
            Some(id)
        }
        Ok(None) => {
            report.add(Severity::Note, format!("a broker with a generated id, of cluster {cluster}"));
            None
        }
        Err(error) => {
            report.add(Severity::Refusal, error.to_string());
            None
        }
    }
}

async fn look_at_znodes(
    ensemble: &Ensemble,
    config: &BrokerConfig,
    dirs: &[DirInspection],
    report: &mut Report,
) -> Result<(), ZkError> {
    let Some(data) = ensemble.get(paths::CLUSTER_ID).await? else {
        let text = "ZooKeeper has no cluster there yet; a start would begin one";
        let stored = dirs.iter().find_map(|dir| dir.meta.as_ref()?.cluster_id.as_ref());
        match stored {
            None => report.add(Severity::Note, text),
            Some(stored) => report.add(
                Severity::Refusal,
                format!("ZooKeeper has no cluster there, but the logs belong to cluster {stored}: look at zookeeper.connect and its chroot"),
            ),
        }
        return Ok(());
    };
    let cluster = ClusterId::parse(&data)?.0;
    let id = identity_of(config, &cluster, dirs, report);
    look_at_features(ensemble, report).await?;
    look_at_brokers(ensemble, config, id, report).await?;
    look_at_topics(ensemble, id, dirs, report).await
}

async fn look_at_features(ensemble: &Ensemble, report: &mut Report) -> Result<(), ZkError> {
    if let Some(data) = ensemble.get(paths::FEATURE).await?
        && let Some(name) = FeatureZnode::parse(&data)?.features.into_keys().next()
    {
        report.add(
            Severity::Refusal,
            format!("the cluster has finalized feature {name}, which this broker does not support"),
        );
    }
    if let Some(data) = ensemble.get(paths::CONTROLLER).await?
        && ControllerInfo::parse(&data)?.kraft_epoch > 0
    {
        report.add(Severity::Refusal, "the cluster is being migrated to KRaft");
    }
    Ok(())
}

async fn look_at_brokers(
    ensemble: &Ensemble,
    config: &BrokerConfig,
    id: Option<BrokerId>,
    report: &mut Report,
) -> Result<(), ZkError> {
    let ids = ensemble.zookeeper.children(&ensemble.path(paths::BROKER_IDS)).await?;
    let mut others = 0;
    for other in ids.iter().filter_map(|child| paths::parse_broker_id(child)) {
        let Some(data) = ensemble.get(&paths::broker_id(other)).await? else { continue };
        let info = BrokerInfo::parse(&data)?;
        if Some(other) == id {
            let at: Vec<String> = info.endpoints.iter().map(|end| format!("{}:{}", end.host, end.port)).collect();
            let at = at.join(", ");
            let text = format!("broker {other} is registered now, at {at}: stop it before this one starts");
            report.add(Severity::Refusal, text);
            continue;
        }
        others += 1;
        let taken = config.advertised_listeners.iter().find(|own| {
            info.endpoints
                .iter()
                .any(|end| !own.host.is_empty() && end.host == own.host && end.port == i32::from(own.port))
        });
        if let Some(taken) = taken {
            report.add(Severity::Refusal, format!("{taken} is already advertised by broker {other}"));
        }
    }
    report.add(Severity::Note, format!("{others} other brokers are registered"));
    Ok(())
}

async fn look_at_topics(
    ensemble: &Ensemble,
    id: Option<BrokerId>,
    dirs: &[DirInspection],
    report: &mut Report,
) -> Result<(), ZkError> {
    let partitions: Vec<_> = dirs.iter().flat_map(|dir| &dir.partitions).collect();
    let topics: BTreeSet<&str> = partitions.iter().map(|partition| &*partition.partition.topic).collect();
    let reads: Vec<Operation> =
        topics.iter().map(|topic| Operation::get(ensemble.path(&paths::topic(topic)))).collect();
    let mut known: BTreeMap<&str, TopicZnode> = BTreeMap::new();
    for (topic, answer) in topics.iter().zip(ensemble.zookeeper.run(&reads, None).await) {
        match answer {
            Ok(Answer::Data(data, _)) => {
                known.insert(topic, TopicZnode::parse(&data)?);
            }
            Err(ZkError::NoNode) => {}
            Err(error) => return Err(error),
            Ok(_) => return Err(ZkError::Other("a read was answered with something else".into())),
        }
    }
    let (mut unknown, mut foreign, mut differing) = (Vec::new(), Vec::new(), Vec::new());
    for partition in partitions {
        let name = &partition.partition;
        let Some(topic) = known.get(&*name.topic) else {
            unknown.push(name);
            continue;
        };
        if let (Some(ours), Some(theirs)) = (partition.topic_id, topic.topic_id)
            && ours != theirs
        {
            differing.push(name);
        } else if let Some(id) = id
            && !topic.partitions.get(&name.partition).is_some_and(|assigned| assigned.replicas.contains(&id))
        {
            foreign.push(name);
        }
    }
    let groups = [
        (unknown, "of topics that the cluster does not know; they would lie unused"),
        (foreign, "not assigned to this broker; they would lie unused"),
        (differing, "of another topic of the same name (topic ids differ); they would be refused"),
    ];
    for (names, text) in groups {
        if let Some(listed) = listed(&names) {
            report.add(Severity::Warning, format!("{} partitions are {text}: {listed}", names.len()));
        }
    }
    Ok(())
}

fn listed(names: &[&TopicPartition]) -> Option<String> {
    let shown: Vec<String> = names.iter().take(NAMED_MAX).map(|name| name.to_string()).collect();
    let more = if names.len() > NAMED_MAX { ", .." } else { "" };
    (!names.is_empty()).then(|| format!("{}{more}", shown.join(", ")))
}
