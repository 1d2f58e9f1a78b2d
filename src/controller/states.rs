//! Partition states on their way to ZooKeeper: many in one transaction, which costs the ensemble one proposal and one write to disk
//! instead of hundreds (Kafka's controller has a transaction for each).
//!
//! Invariant: a state is written only on top of the version that it was decided on. A transaction that fails at one of its states has
//! written none of them: they are tried again one by one, so that nobody pays for another partition's race.

use super::machine::{Answers, Controller};
use super::partitions::set_version;
use crate::base::{PartitionEpoch, TopicPartition};
use crate::zookeeper::paths::{self, PartitionState};
use crate::zookeeper::{Answer, Operation, Write, Written, ZkError};

/// States in one transaction.
const STATES_AT_ONCE: usize = 100;

/// A state, the version of the znode that it replaces, and what its writer wants to know afterwards.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct StateWrite<T> {
    pub tp: TopicPartition,
    pub state: PartitionState,
    pub expected: PartitionEpoch,
    pub what: T,
}

/// What is written in each transaction of one [`ask`](Controller::ask).
pub(super) type Groups<T> = Vec<Vec<StateWrite<T>>>;

/// What came of it.
pub(super) struct Settled<T> {
    pub done: Vec<(StateWrite<T>, Result<PartitionEpoch, ZkError>)>,
    /// Not written, for no fault of their own perhaps: one by one.
    pub again: Groups<T>,
}

impl Controller {
    /// The transactions for `writes`, and which write is in which.
    pub(super) fn state_writes<T>(&self, writes: Vec<StateWrite<T>>) -> (Vec<Operation>, Groups<T>) {
        let mut groups = Groups::new();
        for write in writes {
            match groups.last_mut() {
                Some(group) if group.len() < STATES_AT_ONCE => group.push(write),
                _ => groups.push(vec![write]),
            }
        }
        (self.state_operations(&groups), groups)
    }

    pub(super) fn state_operations<T>(&self, groups: &Groups<T>) -> Vec<Operation> {
        let set = |write: &StateWrite<T>| {
            let path = paths::partition_state(&write.tp.topic, write.tp.partition);
            Write::set(path, write.state.to_json(), Some(write.expected.0))
        };
        groups.iter().map(|group| self.fenced(group.iter().map(set))).collect()
    }
}

/// Pairs transactions with their answers.
pub(super) fn settle<T>(groups: Groups<T>, answers: Answers) -> Settled<T> {
    let mut settled = Settled { done: Vec::new(), again: Vec::new() };
    for (group, answer) in groups.into_iter().zip(answers) {
        match (answer, group.len()) {
            (Ok(Answer::Multi(written)), _) if written.len() == group.len() + 1 => {
                settled.done.extend(group.into_iter().zip(written.into_iter().skip(1).map(version)));
            }
            (Err(ZkError::Multi { .. }), 2..) => settled.again.extend(group.into_iter().map(|write| vec![write])),
            (answer, _) => {
                let unexpected = || ZkError::Other("a transaction was answered with something else".into());
                let outcome = answer.map_err(ZkError::flatten).and_then(|one| set_version(&one).ok_or_else(unexpected));
                settled.done.extend(group.into_iter().map(|write| (write, outcome.clone())));
            }
        }
    }
    settled
}

fn version(written: Written) -> Result<PartitionEpoch, ZkError> {
    match written {
        Written::Set(stat) => Ok(PartitionEpoch(stat.version)),
        _ => Err(ZkError::Other("a set was answered with something else".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BrokerId, ControllerEpoch, LeaderEpoch};
    use crate::zookeeper::Stat;
    use crate::zookeeper::paths::LeaderRecoveryState;

    fn write(partition: i32) -> StateWrite<i32> {
        let state = PartitionState {
            leader: BrokerId(1),
            leader_epoch: LeaderEpoch(1),
            controller_epoch: ControllerEpoch(1),
            isr: vec![BrokerId(1)],
            recovery: LeaderRecoveryState::Recovered,
        };
        StateWrite { tp: TopicPartition::new("t", partition), state, expected: PartitionEpoch(4), what: partition }
    }

    fn set(version: i32) -> Written {
        Written::Set(Stat { version, ..Stat::default() })
    }

    #[test]
    fn a_transaction_that_fails_is_tried_again_state_by_state() {
        let written = Ok(Answer::Multi(vec![Written::Checked, set(5), set(7)]));
        let refused = |index| Err(ZkError::Multi { index, error: Box::new(ZkError::BadVersion) });
        let groups = vec![vec![write(0), write(1)], vec![write(2), write(3)], vec![write(4)], vec![write(5), write(6)]];
        let answers = vec![written, refused(2), refused(1), Err(ZkError::NoAuth)];
        let Settled { done, again } = settle(groups, answers);
        let done: Vec<_> = done.into_iter().map(|(write, outcome)| (write.what, outcome)).collect();
        let expected = [
            (0, Ok(PartitionEpoch(5))),
            (1, Ok(PartitionEpoch(7))),
            (4, Err(ZkError::BadVersion)),
            (5, Err(ZkError::NoAuth)),
            (6, Err(ZkError::NoAuth)),
        ];
        assert_eq!(done, expected);
        assert_eq!(again, [[write(2)], [write(3)]]);
    }
}
