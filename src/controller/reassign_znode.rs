//! `/admin/reassign_partitions`, by which tools older than Kafka 2.5 ask for moves.
//!
//! Invariant: the znode is acted on once, when it appears; from then on this controller takes out what is done, what failed and what
//! a later wish has overtaken, and deletes the znode with its last entry.

use super::machine::{Answers, Controller, Task, Waiting};
use crate::base::{BrokerId, TopicPartition};
use crate::zookeeper::paths::{self, ReassignmentList};
use crate::zookeeper::{Answer, Operation, Write};
use std::collections::{BTreeMap, BTreeSet};

/// Entries of `/admin/reassign_partitions` that are to go: those that failed or were overtaken, and those that are done.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Trim {
    Any(BTreeSet<TopicPartition>),
    Done(BTreeMap<TopicPartition, Vec<BrokerId>>),
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum ZnodeWait {
    Read,
    Trim(Trim),
    Trimmed { left: bool },
}

impl Controller {
    pub(super) fn reassign_znode_answered(&mut self, wait: ZnodeWait, mut answers: Answers) {
        match wait {
            ZnodeWait::Read => match answers.pop() {
                Some(Ok(Answer::Data(data, stat))) => self.reassign_znode_read(&data, stat.czxid),
                _ => self.context.reassign_znode = None,
            },
            ZnodeWait::Trim(trim) => match answers.pop() {
                Some(Ok(Answer::Data(data, stat))) => self.trim_read(trim, &data, stat.version),
                _ => self.context.reassign_znode = None,
            },
            ZnodeWait::Trimmed { left: true } => {}
            ZnodeWait::Trimmed { left: false } => {
                self.context.reassign_znode = None;
                self.first(Task::ReassignZnode);
            }
        }
    }

    /// `/admin/reassign_partitions`, read together with the watch that says when it is there.
    pub(super) fn read_reassign_znode(&mut self) {
        let operations =
            vec![Operation::exists_and_watch(paths::REASSIGN_PARTITIONS), Operation::get(paths::REASSIGN_PARTITIONS)];
        self.ask(operations, Waiting::ReassignZnode(ZnodeWait::Read));
    }

    /// Acts once on each such znode; its later contents are this controller's own.
    fn reassign_znode_read(&mut self, data: &[u8], czxid: i64) {
        if self.context.reassign_znode.replace(czxid) == Some(czxid) {
            return;
        }
        let list = match ReassignmentList::parse(data) {
            Ok(list) => list.0,
            Err(error) => {
                self.warn(error.to_string());
                Vec::new()
            }
        };
        let named: BTreeSet<TopicPartition> = list.iter().map(|(tp, _)| tp.clone()).collect();
        let wishes = list.into_iter().map(|(tp, replicas)| (tp, Some(replicas))).collect();
        let moves = self.accepted(wishes);
        let failed: BTreeSet<TopicPartition> = named.into_iter().filter(|tp| !moves.contains_key(tp)).collect();
        if !failed.is_empty() {
            self.warn(format!("{}: these partitions cannot be moved: {failed:?}", paths::REASSIGN_PARTITIONS));
        }
        self.first_all(vec![Task::TrimReassignZnode(Trim::Any(failed)), Task::Reassign(moves)]);
    }

    pub(super) fn trim_reassign_znode(&mut self, trim: Trim) {
        if self.context.reassign_znode.is_some() {
            let read = Operation::get(paths::REASSIGN_PARTITIONS);
            self.ask(vec![read], Waiting::ReassignZnode(ZnodeWait::Trim(trim)));
        }
    }

    fn trim_read(&mut self, trim: Trim, data: &[u8], version: i32) {
        let before = ReassignmentList::parse(data).unwrap_or_default();
        let mut after = before.clone();
        after.0.retain(|(tp, replicas)| match &trim {
            Trim::Any(gone) => !gone.contains(tp),
            Trim::Done(done) => done.get(tp) != Some(replicas),
        });
        let left = !after.0.is_empty();
        if left && after == before {
            return;
        }
        let write = match left {
            true => Write::set(paths::REASSIGN_PARTITIONS, after.to_json(), Some(version)),
            false => Write::delete(paths::REASSIGN_PARTITIONS, Some(version)),
        };
        let write = self.fenced([write]);
        self.ask(vec![write], Waiting::ReassignZnode(ZnodeWait::Trimmed { left }));
    }
}
