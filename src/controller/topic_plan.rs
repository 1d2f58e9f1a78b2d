//! What a topic to be created or grown will look like, or why it cannot be (classes `ZkAdminManager`, `AdminZkClient`).
//!
//! Pure. Invariant: nothing is allocated by a number that a client chose before that number was found acceptable, and what is
//! planned fits into one znode.

use super::placement::{Candidate, PlacementError, Start, assign};
use crate::base::{BrokerId, ErrorCode, topic_name};
use crate::config::topic_values::validate_topic_config;
use crate::zookeeper::paths::{ReplicaAssignment, TopicZnode};
use std::collections::{BTreeMap, BTreeSet};

/// Partitions of one topic. Apache Kafka has no limit and dies of large numbers; a znode of ZooKeeper's default
/// `jute.maxbuffer` holds fewer than this.
pub const PARTITIONS_MAX: usize = 100_000;
/// Room for the rest of the request in ZooKeeper's default `jute.maxbuffer` of 1 MiB.
const ZNODE_BYTES_MAX: usize = 1_000_000;

/// A refusal: Kafka's error code and a message for the operator.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct TopicError {
    pub code: ErrorCode,
    pub message: String,
}

impl TopicError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> TopicError {
        TopicError { code, message: message.into() }
    }
}

impl From<PlacementError> for TopicError {
    fn from(error: PlacementError) -> TopicError {
        let code = match error {
            PlacementError::NoPartitions => ErrorCode::InvalidPartitions,
            PlacementError::NoReplicas | PlacementError::TooFewBrokers { .. } => ErrorCode::InvalidReplicationFactor,
        };
        TopicError::new(code, error.to_string())
    }
}

/// What a client asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicWish<'a> {
    pub name: &'a str,
    /// -1: the broker's default.
    pub partitions: i32,
    /// -1: the broker's default.
    pub replication_factor: i16,
    /// (partition, replicas); empty: placed by the broker.
    pub assignments: Vec<(i32, Vec<BrokerId>)>,
    pub configs: Vec<(&'a str, Option<&'a str>)>,
}

/// What the broker brings to a wish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster<'a> {
    pub brokers: &'a [Candidate],
    pub default_partitions: i32,
    pub default_replication_factor: i32,
    pub start: Start,
}

/// A topic that can be created.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicPlan {
    pub assignment: BTreeMap<i32, ReplicaAssignment>,
    pub configs: BTreeMap<String, String>,
}

impl TopicPlan {
    pub fn replication_factor(&self) -> usize {
        self.assignment.values().next().map_or(0, |assignment| assignment.replicas.len())
    }
}

/// `existing` are the names of all topics that there are.
pub fn plan<'n>(
    wish: &TopicWish,
    cluster: &Cluster,
    existing: impl IntoIterator<Item = &'n str>,
) -> Result<TopicPlan, TopicError> {
    topic_name::check(wish.name).map_err(|reason| TopicError::new(ErrorCode::InvalidTopicException, reason))?;
    check_existing(wish.name, existing)?;
    let configs = check_configs(&wish.configs)?;
    let assignment = match wish.assignments.is_empty() {
        true => place(wish, cluster)?,
        false => check_assignments(wish)?,
    };
    check_size(&assignment)?;
    Ok(TopicPlan { assignment, configs })
}

fn check_existing<'n>(name: &str, existing: impl IntoIterator<Item = &'n str>) -> Result<(), TopicError> {
    let mut colliding = Vec::new();
    for other in existing {
        if other == name {
            return Err(TopicError::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
        }
        if topic_name::collides(other, name) {
            colliding.push(other);
        }
    }
    if colliding.is_empty() {
        return Ok(());
    }
    let message = format!("Topic '{name}' collides with existing topics: {}", colliding.join(", "));
    Err(TopicError::new(ErrorCode::InvalidTopicException, message))
}

fn check_configs(configs: &[(&str, Option<&str>)]) -> Result<BTreeMap<String, String>, TopicError> {
    let wrong = |message: String| TopicError::new(ErrorCode::InvalidConfig, message);
    let nulls: Vec<&str> = configs.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| *name).collect();
    if !nulls.is_empty() {
        return Err(wrong(format!("Null value not supported for topic configs: {}", nulls.join(","))));
    }
    let mut checked = BTreeMap::new();
    for (name, value) in configs {
        let value = value.unwrap_or_default();
        validate_topic_config(name, value).map_err(|error| wrong(error.to_string()))?;
        checked.insert((*name).to_owned(), value.to_owned());
    }
    Ok(checked)
}

fn place(wish: &TopicWish, cluster: &Cluster) -> Result<BTreeMap<i32, ReplicaAssignment>, TopicError> {
    let or_default = |asked: i32, default: i32| if asked == -1 { default } else { asked };
    let partitions = or_default(wish.partitions, cluster.default_partitions);
    let factor = or_default(wish.replication_factor.into(), cluster.default_replication_factor);
    let count = check_count(partitions)?;
    let factor = usize::try_from(factor).unwrap_or(0);
    let placed = assign(cluster.brokers, 0, count, factor, cluster.start)?;
    Ok((0..).zip(placed.into_iter().map(ReplicaAssignment::new)).collect())
}

fn check_count(partitions: i32) -> Result<usize, TopicError> {
    let count = usize::try_from(partitions).unwrap_or(0);
    if count > PARTITIONS_MAX {
        let message = format!("Number of partitions is {partitions}, but a topic can have at most {PARTITIONS_MAX}.");
        return Err(TopicError::new(ErrorCode::InvalidPartitions, message));
    }
    Ok(count)
}

fn check_assignments(wish: &TopicWish) -> Result<BTreeMap<i32, ReplicaAssignment>, TopicError> {
    if wish.partitions != -1 || wish.replication_factor != -1 {
        return Err(TopicError::new(
            ErrorCode::InvalidRequest,
            "Both numPartitions or replicationFactor and replicasAssignments were set. Both cannot be used at the same time.",
        ));
    }
    let wrong = |message: String| Err(TopicError::new(ErrorCode::InvalidReplicaAssignment, message));
    let mut assignment = BTreeMap::new();
    for (partition, replicas) in &wish.assignments {
        assignment.insert(*partition, ReplicaAssignment::new(replicas.clone()));
    }
    if !assignment.keys().copied().eq((0..).take(wish.assignments.len())) {
        return wrong("partitions should be a consecutive 0-based integer sequence".into());
    }
    let sizes: BTreeSet<usize> = assignment.values().map(|partition| partition.replicas.len()).collect();
    if sizes.len() != 1 {
        return wrong("All partitions should have the same number of replicas".into());
    }
    for (partition, replicas) in &assignment {
        check_replicas(*partition, &replicas.replicas)?;
    }
    Ok(assignment)
}

fn check_replicas(partition: i32, replicas: &[BrokerId]) -> Result<(), TopicError> {
    let wrong = |message: String| Err(TopicError::new(ErrorCode::InvalidReplicaAssignment, message));
    if replicas.is_empty() {
        return wrong(format!("Cannot have replication factor of 0 for partition id {partition}."));
    }
    if replicas.iter().collect::<BTreeSet<_>>().len() != replicas.len() {
        let listed = list(replicas);
        return wrong(format!(
            "Duplicate brokers not allowed in replica assignment: {listed} for partition id {partition}."
        ));
    }
    if replicas.iter().any(|replica| replica.0 < 0) {
        return wrong(format!(
            "Broker ids must not be negative in replica assignment: {} for partition id {partition}.",
            list(replicas)
        ));
    }
    Ok(())
}

fn list(replicas: &[BrokerId]) -> String {
    replicas.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn check_size(assignment: &BTreeMap<i32, ReplicaAssignment>) -> Result<(), TopicError> {
    let bytes: usize = assignment.values().map(|partition| 12 + partition.replicas.len() * 4).sum();
    // The estimate is below the truth, so that only what is large anyway is written out.
    if bytes < ZNODE_BYTES_MAX / 4 {
        return Ok(());
    }
    let znode = TopicZnode { topic_id: None, partitions: assignment.clone() };
    if znode.to_json().len() <= ZNODE_BYTES_MAX {
        return Ok(());
    }
    let message = format!("{} partitions with their replicas do not fit into one znode.", assignment.len());
    Err(TopicError::new(ErrorCode::InvalidPartitions, message))
}

/// The partitions to add so that a topic has `count`. `assignments` are the replicas of the new ones, if the client chose them.
pub fn plan_growth(
    topic: &TopicZnode,
    count: i32,
    assignments: Option<&[Vec<BrokerId>]>,
    brokers: &[Candidate],
    shift: usize,
) -> Result<BTreeMap<i32, ReplicaAssignment>, TopicError> {
    if topic.partitions.values().any(ReplicaAssignment::is_being_reassigned) {
        let message = "The topic's partitions are being reassigned.";
        return Err(TopicError::new(ErrorCode::ReassignmentInProgress, message));
    }
    let existing = topic.partitions.len();
    let wanted = usize::try_from(count).unwrap_or(0);
    let added = wanted.saturating_sub(existing);
    if added == 0 {
        let message = match i32::try_from(existing) == Ok(count) {
            true => format!("Topic already has {existing} partitions."),
            false => format!("Topic currently has {existing} partitions, which is higher than the requested {count}."),
        };
        return Err(TopicError::new(ErrorCode::InvalidPartitions, message));
    }
    check_count(count)?;
    let first = topic.partitions.get(&0).map(|partition| partition.replicas.clone()).unwrap_or_default();
    let placed = match assignments {
        Some(assignments) => check_growth(assignments, existing, added, first.len(), brokers)?,
        None => {
            let position = brokers.iter().position(|broker| first.first() == Some(&broker.id)).unwrap_or(0);
            assign(brokers, existing, added, first.len(), Start { broker: position, shift })?
        }
    };
    let mut all = topic.partitions.clone();
    all.extend((0..).skip(existing).zip(placed.into_iter().map(ReplicaAssignment::new)));
    check_size(&all)?;
    Ok(all)
}

fn check_growth(
    assignments: &[Vec<BrokerId>],
    existing: usize,
    added: usize,
    factor: usize,
    brokers: &[Candidate],
) -> Result<Vec<Vec<BrokerId>>, TopicError> {
    let wrong = |message: String| Err(TopicError::new(ErrorCode::InvalidReplicaAssignment, message));
    if assignments.len() != added {
        let given = assignments.len();
        return wrong(format!("Increasing the number of partitions by {added} but {given} assignments provided."));
    }
    let alive: BTreeSet<BrokerId> = brokers.iter().map(|broker| broker.id).collect();
    let unknown: BTreeSet<BrokerId> =
        assignments.iter().flatten().copied().filter(|broker| !alive.contains(broker)).collect();
    for (partition, replicas) in (0..).skip(existing).zip(assignments) {
        check_replicas(partition, replicas)?;
    }
    if !unknown.is_empty() {
        let unknown: Vec<BrokerId> = unknown.into_iter().collect();
        return wrong(format!("Unknown broker(s) in replica assignment: {}.", list(&unknown)));
    }
    if let Some(at) = assignments.iter().position(|replicas| replicas.len() != factor) {
        return wrong(format!(
            "Inconsistent replication factor between partitions, partition 0 has {factor} while partitions [{}] have replication factors [{}], respectively.",
            existing + at,
            assignments[at].len()
        ));
    }
    Ok(assignments.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ErrorCode::{
        InvalidConfig, InvalidPartitions, InvalidReplicaAssignment, InvalidReplicationFactor, InvalidRequest,
        InvalidTopicException, TopicAlreadyExists,
    };

    fn wish(name: &str, partitions: i32, factor: i16) -> TopicWish<'_> {
        TopicWish { name, partitions, replication_factor: factor, assignments: Vec::new(), configs: Vec::new() }
    }

    fn brokers() -> Vec<Candidate> {
        [1, 2, 3].map(|id| Candidate { id: BrokerId(id), rack: None }).to_vec()
    }

    fn planned(wish: &TopicWish) -> Result<TopicPlan, (ErrorCode, String)> {
        let brokers = brokers();
        let start = Start { broker: 0, shift: 0 };
        let cluster = Cluster { brokers: &brokers, default_partitions: 2, default_replication_factor: 1, start };
        plan(wish, &cluster, ["orders", "a.b"]).map_err(|error| (error.code, error.message))
    }

    /// Codes and messages are those of Apache Kafka 3.9.2.
    #[test]
    fn refusals() {
        let ids = |list: &[i32]| list.iter().copied().map(BrokerId).collect::<Vec<_>>();
        let assigned = |list: &[(i32, &[i32])]| TopicWish {
            assignments: list.iter().map(|(partition, replicas)| (*partition, ids(replicas))).collect(),
            ..wish("t", -1, -1)
        };
        let configured = |name, value| TopicWish { configs: vec![(name, value)], ..wish("t", 1, 1) };
        for (wish, code, message) in [
            (wish("orders", 1, 1), TopicAlreadyExists, "Topic 'orders' already exists."),
            (wish("a_b", 1, 1), InvalidTopicException, "Topic 'a_b' collides with existing topics: a.b"),
            (wish("..", 1, 1), InvalidTopicException, "Topic name is invalid: '..' is not allowed"),
            (wish("t", 0, 1), InvalidPartitions, "Number of partitions must be larger than 0."),
            (wish("t", -2, 1), InvalidPartitions, "Number of partitions must be larger than 0."),
            (
                wish("t", i32::MAX, 1),
                InvalidPartitions,
                "Number of partitions is 2147483647, but a topic can have at most 100000.",
            ),
            (
                wish("t", 90_000, 3),
                InvalidPartitions,
                "90000 partitions with their replicas do not fit into one znode.",
            ),
            (wish("t", 1, 0), InvalidReplicationFactor, "Replication factor must be larger than 0."),
            (wish("t", 1, 4), InvalidReplicationFactor, "Replication factor: 4 larger than available brokers: 3."),
            (
                assigned(&[(1, &[3])]),
                InvalidReplicaAssignment,
                "partitions should be a consecutive 0-based integer sequence",
            ),
            (
                assigned(&[(0, &[3]), (0, &[3])]),
                InvalidReplicaAssignment,
                "partitions should be a consecutive 0-based integer sequence",
            ),
            (
                assigned(&[(-1, &[3])]),
                InvalidReplicaAssignment,
                "partitions should be a consecutive 0-based integer sequence",
            ),
            (
                assigned(&[(0, &[3]), (1, &[3, 2])]),
                InvalidReplicaAssignment,
                "All partitions should have the same number of replicas",
            ),
            (
                assigned(&[(0, &[3, 3])]),
                InvalidReplicaAssignment,
                "Duplicate brokers not allowed in replica assignment: 3, 3 for partition id 0.",
            ),
            (
                assigned(&[(0, &[])]),
                InvalidReplicaAssignment,
                "Cannot have replication factor of 0 for partition id 0.",
            ),
            (
                configured("retention.ms", None),
                InvalidConfig,
                "Null value not supported for topic configs: retention.ms",
            ),
            (configured("nope", Some("1")), InvalidConfig, "Unknown topic config name: nope"),
        ] {
            assert_eq!(planned(&wish), Err((code, message.to_owned())), "{wish:?}");
        }
        let both = TopicWish { partitions: 1, ..assigned(&[(0, &[1])]) };
        assert_eq!(planned(&both).unwrap_err().0, InvalidRequest);
        let bad = TopicWish { configs: vec![("retention.ms", Some("x"))], ..wish("t", 1, 1) };
        assert_eq!(planned(&bad).unwrap_err().0, InvalidConfig);
    }

    #[test]
    fn defaults_and_wishes_are_granted() {
        let plan = planned(&wish("t", -1, -1)).unwrap();
        assert_eq!((plan.assignment.len(), plan.replication_factor()), (2, 1));
        // Kafka lets replicas be on brokers that are not there.
        let plan = planned(&TopicWish { assignments: vec![(0, vec![BrokerId(9)])], ..wish("t", -1, -1) }).unwrap();
        assert_eq!(plan.assignment[&0].replicas, [BrokerId(9)]);
        let plan = planned(&TopicWish { configs: vec![("retention.ms", Some("5"))], ..wish("t", 50_000, 1) }).unwrap();
        assert_eq!((plan.assignment.len(), plan.configs["retention.ms"].as_str()), (50_000, "5"));
    }

    #[test]
    fn growth() {
        let topic = TopicZnode::parse(br#"{"version":3,"partitions":{"0":[2],"1":[3],"2":[1]}}"#).unwrap();
        let grow = |count, assignments: Option<&[Vec<BrokerId>]>| {
            plan_growth(&topic, count, assignments, &brokers(), 0)
                .map(|all| all.into_iter().map(|(p, a)| (p, a.replicas[0].0)).collect::<Vec<_>>())
                .map_err(|error| (error.code, error.message))
        };
        assert_eq!(grow(5, None), Ok(vec![(0, 2), (1, 3), (2, 1), (3, 2), (4, 3)]));
        assert_eq!(grow(4, Some(&[vec![BrokerId(3)]])), Ok(vec![(0, 2), (1, 3), (2, 1), (3, 3)]));
        type Chosen<'a> = Option<&'a [Vec<BrokerId>]>;
        let refused: [(i32, Chosen, ErrorCode, &str); 8] = [
            (3, None, InvalidPartitions, "Topic already has 3 partitions."),
            (2, None, InvalidPartitions, "Topic currently has 3 partitions, which is higher than the requested 2."),
            (
                i32::MIN,
                None,
                InvalidPartitions,
                "Topic currently has 3 partitions, which is higher than the requested -2147483648.",
            ),
            (
                5,
                Some(&[]),
                InvalidReplicaAssignment,
                "Increasing the number of partitions by 2 but 0 assignments provided.",
            ),
            (4, Some(&[vec![BrokerId(9)]]), InvalidReplicaAssignment, "Unknown broker(s) in replica assignment: 9."),
            (
                4,
                Some(&[vec![BrokerId(3), BrokerId(3)]]),
                InvalidReplicaAssignment,
                "Duplicate brokers not allowed in replica assignment: 3, 3 for partition id 3.",
            ),
            (4, Some(&[vec![]]), InvalidReplicaAssignment, "Cannot have replication factor of 0 for partition id 3."),
            (
                i32::MAX,
                None,
                InvalidPartitions,
                "Number of partitions is 2147483647, but a topic can have at most 100000.",
            ),
        ];
        for (count, assignments, code, message) in refused {
            assert_eq!(grow(count, assignments), Err((code, message.to_owned())));
        }
    }
}
