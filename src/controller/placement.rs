//! Which brokers get the replicas of a new partition (class `AdminUtils`, KIP-36).
//!
//! Pure: the random start comes in. Invariant: every partition gets exactly the replication factor of different brokers, and
//! no rack holds two replicas of a partition while another has none.

use crate::base::BrokerId;
use std::collections::{BTreeMap, BTreeSet};

/// A broker to place replicas on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    pub id: BrokerId,
    pub rack: Option<String>,
}

/// Where to begin. Kafka draws both at random for a new topic, and takes the position of partition 0's first replica when a
/// topic grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    pub broker: usize,
    pub shift: usize,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlacementError {
    #[error("Number of partitions must be larger than 0.")]
    NoPartitions,
    #[error("Replication factor must be larger than 0.")]
    NoReplicas,
    #[error("Replication factor: {factor} larger than available brokers: {brokers}.")]
    TooFewBrokers { factor: usize, brokers: usize },
}

/// Replicas of partitions `first_partition .. first_partition + count`, one list each. Racks count when every broker has one; when
/// only some do, a topic made through the API is placed without racks.
pub fn assign(
    candidates: &[Candidate],
    first_partition: usize,
    count: usize,
    factor: usize,
    start: Start,
) -> Result<Vec<Vec<BrokerId>>, PlacementError> {
    if count == 0 {
        return Err(PlacementError::NoPartitions);
    }
    if factor == 0 {
        return Err(PlacementError::NoReplicas);
    }
    if factor > candidates.len() {
        return Err(PlacementError::TooFewBrokers { factor, brokers: candidates.len() });
    }
    let racks: BTreeMap<BrokerId, &str> =
        candidates.iter().filter_map(|broker| Some((broker.id, broker.rack.as_deref()?))).collect();
    if racks.len() == candidates.len() {
        return Ok(with_racks(&racks, first_partition, count, factor, start));
    }
    let mut brokers: Vec<BrokerId> = candidates.iter().map(|broker| broker.id).collect();
    brokers.sort_unstable();
    Ok(without_racks(&brokers, first_partition, count, factor, start))
}

/// Index of the `replica`-th follower (from 0), when the first replica is at `first`.
fn follower(first: usize, shift: usize, replica: usize, brokers: usize) -> usize {
    let shift = 1 + (shift + replica) % (brokers - 1);
    (first + shift) % brokers
}

fn without_racks(
    brokers: &[BrokerId],
    first_partition: usize,
    count: usize,
    factor: usize,
    start: Start,
) -> Vec<Vec<BrokerId>> {
    let n = brokers.len();
    let mut shift = start.shift;
    let mut assignment = Vec::with_capacity(count);
    for partition in first_partition..first_partition + count {
        if partition > 0 && partition % n == 0 {
            shift += 1;
        }
        let first = (partition + start.broker) % n;
        let followers = (0..factor - 1).map(|replica| brokers[follower(first, shift, replica, n)]);
        assignment.push(std::iter::once(brokers[first]).chain(followers).collect());
    }
    assignment
}

/// Brokers so that neighbours are in different racks: one of each rack in turn.
fn alternate(racks: &BTreeMap<BrokerId, &str>) -> Vec<BrokerId> {
    let mut by_rack: BTreeMap<&str, Vec<BrokerId>> = BTreeMap::new();
    for (broker, rack) in racks {
        by_rack.entry(rack).or_default().push(*broker);
    }
    let longest = by_rack.values().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|at| by_rack.values().filter_map(move |brokers| brokers.get(at).copied())).collect()
}

fn with_racks(
    racks: &BTreeMap<BrokerId, &str>,
    first_partition: usize,
    count: usize,
    factor: usize,
    start: Start,
) -> Vec<Vec<BrokerId>> {
    let brokers = alternate(racks);
    let n = brokers.len();
    let rack_of = |broker: BrokerId| racks.get(&broker).copied().unwrap_or_default();
    let rack_count = racks.values().collect::<BTreeSet<_>>().len();
    let mut shift = start.shift;
    let mut assignment = Vec::with_capacity(count);
    for partition in first_partition..first_partition + count {
        if partition > 0 && partition % n == 0 {
            shift += 1;
        }
        let first = (partition + start.broker) % n;
        let leader = brokers[first];
        let mut replicas = vec![leader];
        let mut used_racks = BTreeSet::from([rack_of(leader)]);
        let mut step = 0;
        while replicas.len() < factor {
            let broker = brokers[rack_follower(first, shift * rack_count, step, n)];
            step += 1;
            let rack_is_new = !used_racks.contains(rack_of(broker)) || used_racks.len() == rack_count;
            if rack_is_new && !replicas.contains(&broker) {
                used_racks.insert(rack_of(broker));
                replicas.push(broker);
            }
        }
        assignment.push(replicas);
    }
    assignment
}

fn rack_follower(first: usize, shift: usize, step: usize, n: usize) -> usize {
    if n == 1 { first } else { follower(first, shift, step, n) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brokers(racks: &[(i32, &str)]) -> Vec<Candidate> {
        racks
            .iter()
            .map(|(id, rack)| Candidate { id: BrokerId(*id), rack: (!rack.is_empty()).then(|| (*rack).into()) })
            .collect()
    }

    fn numbers(assignment: Vec<Vec<BrokerId>>) -> Vec<Vec<i32>> {
        assignment.into_iter().map(|replicas| replicas.into_iter().map(|broker| broker.0).collect()).collect()
    }

    /// The example of Kafka's documentation of the algorithm: 10 partitions of 3 replicas on 5 brokers.
    #[test]
    fn plain_placement_is_kafkas() {
        let five = brokers(&[(0, ""), (1, ""), (2, ""), (3, ""), (4, "")]);
        let placed = numbers(assign(&five, 0, 10, 3, Start { broker: 0, shift: 0 }).unwrap());
        let expected = [
            [0, 1, 2],
            [1, 2, 3],
            [2, 3, 4],
            [3, 4, 0],
            [4, 0, 1],
            [0, 2, 3],
            [1, 3, 4],
            [2, 4, 0],
            [3, 0, 1],
            [4, 1, 2],
        ];
        assert_eq!(placed, expected);
        let grown = numbers(assign(&five, 8, 2, 3, Start { broker: 0, shift: 1 }).unwrap());
        assert_eq!(grown, [[3, 0, 1], [4, 1, 2]]);
    }

    #[test]
    fn racks_are_spread() {
        let six = brokers(&[(0, "a"), (1, "b"), (2, "c"), (3, "c"), (4, "a"), (5, "b")]);
        for shift in 0..4 {
            for broker in 0..6 {
                for replicas in assign(&six, 0, 12, 3, Start { broker, shift }).unwrap() {
                    let racks: BTreeSet<_> =
                        replicas.iter().map(|id| six.iter().find(|c| c.id == *id).unwrap().rack.clone()).collect();
                    assert_eq!(racks.len(), 3, "{replicas:?}");
                }
            }
        }
        let lopsided = brokers(&[(0, "a"), (1, "a"), (2, "a"), (3, "b")]);
        for replicas in assign(&lopsided, 0, 8, 4, Start { broker: 1, shift: 2 }).unwrap() {
            assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), 4, "{replicas:?}");
        }
        let one = brokers(&[(7, "a")]);
        assert_eq!(numbers(assign(&one, 0, 2, 1, Start { broker: 0, shift: 0 }).unwrap()), [[7], [7]]);
    }

    #[test]
    fn impossible_wishes_are_refused() {
        let two = brokers(&[(0, ""), (1, "")]);
        let start = Start { broker: 0, shift: 0 };
        assert_eq!(assign(&two, 0, 0, 1, start), Err(PlacementError::NoPartitions));
        assert_eq!(assign(&two, 0, 1, 0, start), Err(PlacementError::NoReplicas));
        assert_eq!(assign(&two, 0, 1, 3, start), Err(PlacementError::TooFewBrokers { factor: 3, brokers: 2 }));
    }
}
