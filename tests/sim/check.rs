//! What must hold in every state of a cluster, and what must be true of its history.
//!
//! Of a partition: one leader per epoch, elected from the ISR; the ISR within the replicas; what is committed is on every member of the
//! ISR, on every later leader, and never taken back. Of controllers: their epochs only grow, one acts per epoch, and what an older
//! one writes does not count. Of clients: what was acknowledged was on enough replicas and survives; what a consumer has read
//! stays what it was.

use super::keeper::Keeper;
use super::process::Process;
use super::promises::{Kept, Place, Promises};
use super::world::{MIN_ISR, PARTITIONS, TOPIC};
use ottla::base::{BrokerId, ControllerEpoch, LeaderEpoch};
use ottla::replica::Partition;
use ottla::zookeeper::paths::{self, PartitionState, ReplicaAssignment, TopicZnode};
use std::collections::BTreeMap;
use std::sync::Arc;

pub struct Observed {
    pub violation: Option<String>,
    pub trace: Vec<String>,
    /// Version and content of each partition's state in ZooKeeper.
    states: BTreeMap<i32, (i32, PartitionState)>,
    assignments: BTreeMap<i32, ReplicaAssignment>,
    topic_version: Option<i32>,
    controller_epoch: i32,
    active: BTreeMap<ControllerEpoch, u64>,
    leaders: BTreeMap<(i32, LeaderEpoch), Led>,
    /// By the leaders of each epoch.
    committed: BTreeMap<(i32, LeaderEpoch), i64>,
    /// Where the logs of brokers ended when they died, or deleted them: what was replicated counts, also where a disk then forgets it, and
    /// where a leader that commits it has not yet heard that the replica was moved away.
    left: BTreeMap<i32, BTreeMap<i32, i64>>,
    pub promises: Promises,
    pub elections: usize,
}

struct Led {
    /// A broker that comes back while it is still the leader goes on in its epoch.
    broker: i32,
    life: u64,
    high_watermark: i64,
}

impl Observed {
    pub fn new() -> Observed {
        Observed {
            violation: None,
            trace: Vec::new(),
            states: BTreeMap::new(),
            assignments: BTreeMap::new(),
            topic_version: None,
            controller_epoch: 0,
            active: BTreeMap::new(),
            leaders: BTreeMap::new(),
            committed: BTreeMap::new(),
            left: BTreeMap::new(),
            promises: Promises::default(),
            elections: 0,
        }
    }

    pub fn note(&mut self, what: String) {
        self.trace.push(format!("{:>6} {what}", super::clock::now_ms()));
    }

    /// The first violation is the one to look at.
    pub fn fail(&mut self, what: String) {
        self.note(format!("VIOLATION {what}"));
        self.violation.get_or_insert(what);
    }

    fn require(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(what());
        }
    }

    /// The process ends, or deletes logs as the controller says.
    pub fn leaves(&mut self, process: &Process) {
        self.left.insert(process.id, self.log_ends(process));
    }

    /// Where the logs of a broker end. One that is gone, or still being recovered, has what it had.
    fn log_ends(&self, process: &Process) -> BTreeMap<i32, i64> {
        let mut ends = self.left.get(&process.id).cloned().unwrap_or_default();
        ends.extend(process.log_ends().into_iter().filter_map(|(partition, end)| Some((partition, end?))));
        ends
    }

    pub fn look(&mut self, keeper: &Keeper, processes: &[Arc<Process>]) {
        if self.violation.is_some() {
            return;
        }
        self.look_at_controllers(keeper, processes);
        self.look_at_topic(keeper);
        for partition in 0..PARTITIONS {
            self.look_at_state(keeper, partition);
            self.look_at_leaders(processes, partition);
        }
    }

    fn look_at_topic(&mut self, keeper: &Keeper) {
        let path = paths::topic(TOPIC);
        let version = keeper.version(&path);
        if version == self.topic_version {
            return;
        }
        self.topic_version = version;
        let Some((data, _)) = keeper.text(&path) else { return };
        match TopicZnode::parse(&data) {
            Ok(topic) => self.assignments = topic.partitions,
            Err(error) => self.fail(format!("the topic cannot be read: {error}")),
        }
    }

    fn look_at_controllers(&mut self, keeper: &Keeper, processes: &[Arc<Process>]) {
        let stored =
            keeper.text(paths::CONTROLLER_EPOCH).and_then(|(data, _)| String::from_utf8(data).ok()?.parse().ok());
        let stored: i32 = stored.unwrap_or(0);
        let before = self.controller_epoch;
        self.require(stored >= before, || format!("/controller_epoch went from {before} to {stored}"));
        self.controller_epoch = stored;
        for process in processes {
            let Some(epoch) = process.active_epoch() else { continue };
            let first = *self.active.entry(epoch).or_insert(process.life);
            self.require(first == process.life, || format!("two controllers of epoch {epoch}"));
        }
    }

    fn look_at_state(&mut self, keeper: &Keeper, partition: i32) {
        let path = paths::partition_state(TOPIC, partition);
        let seen = self.states.get(&partition).map(|(version, _)| *version);
        if keeper.version(&path) == seen {
            return;
        }
        let Some((data, version)) = keeper.text(&path) else { return };
        let before = self.states.get(&partition).cloned();
        let state = match PartitionState::parse(&data) {
            Ok(state) => state,
            Err(error) => return self.fail(format!("the state of {partition} cannot be read: {error}")),
        };
        self.note(format!("partition {partition}: {} epoch {} isr {:?}", state.leader, state.leader_epoch, state.isr));
        let replicas = self.assignments.get(&partition).map(|assigned| assigned.replicas.clone()).unwrap_or_default();
        let members = state.isr.iter().all(|member| replicas.contains(member));
        self.require(members && !state.isr.is_empty(), || {
            format!("the ISR of {partition} is {:?}, its replicas are {replicas:?}", state.isr)
        });
        let leads = state.leader == BrokerId::NONE || state.isr.contains(&state.leader);
        self.require(leads, || format!("{} leads {partition} outside its ISR {:?}", state.leader, state.isr));
        if let Some((_, old)) = &before {
            self.require(state.controller_epoch >= old.controller_epoch, || {
                format!("a controller of epoch {} wrote over one of {}", state.controller_epoch, old.controller_epoch)
            });
            let grows = state.leader_epoch > old.leader_epoch
                || (state.leader_epoch == old.leader_epoch && state.leader == old.leader);
            self.require(grows, || format!("leader {} of {partition} has epoch {}", state.leader, state.leader_epoch));
            if state.leader != old.leader && state.leader != BrokerId::NONE {
                self.elections += 1;
                let elected = old.isr.contains(&state.leader);
                self.require(elected, || {
                    format!("{} was elected for {partition} from outside {:?}", state.leader, old.isr)
                });
            }
        }
        self.states.insert(partition, (version, state));
    }

    fn look_at_leaders(&mut self, processes: &[Arc<Process>], partition: i32) {
        let hosted = |process: &Process| process.replicas()?.hosted(TOPIC, partition);
        for process in processes {
            let Some(led) = hosted(process).filter(|hosted| hosted.is_leader()) else { continue };
            self.look_at_leader(process, partition, &led);
            let high_watermark = led.log().high_watermark();
            // A leader that has not yet heard that a member is out speaks of what that one had.
            let members = self.isr(partition);
            for member in led.leadership().isr.into_iter().filter(|member| members.contains(member)) {
                let holder =
                    processes.iter().find(|process| process.id == member.0).and_then(|process| hosted(process));
                let end = holder.map(|holder| holder.log().log_end_offset());
                self.require(end.is_none_or(|end| end >= high_watermark), || {
                    format!("{member} is in the ISR of {partition} up to {end:?}, but {high_watermark} is committed")
                });
            }
        }
    }

    fn look_at_leader(&mut self, process: &Process, partition: i32, led: &Partition) {
        let epoch = led.leader_epoch();
        let (high_watermark, end) = (led.log().high_watermark(), led.log().log_end_offset());
        // News of an earlier epoch may come late: such a leader need not have what later ones committed.
        let earlier = self.committed.range((partition, LeaderEpoch(0))..(partition, epoch));
        let committed = earlier.map(|(_, offset)| *offset).max().unwrap_or(0);
        match self.leaders.get(&(partition, epoch)).map(|seen| (seen.broker, seen.life, seen.high_watermark)) {
            None => self.require(end >= committed, || {
                format!("{} leads {partition} in epoch {epoch} up to {end}, but {committed} was committed", process.id)
            }),
            Some((broker, life, before)) => {
                self.require(broker == process.id, || format!("two leaders of {partition} in epoch {epoch}"));
                self.require(high_watermark >= before || life != process.life, || {
                    format!("the high watermark of {partition} went from {before} to {high_watermark} in epoch {epoch}")
                });
            }
        }
        self.leaders.insert((partition, epoch), Led { broker: process.id, life: process.life, high_watermark });
        let own = self.committed.entry((partition, epoch)).or_default();
        *own = high_watermark.max(*own);
    }

    /// A producer has its acknowledgement.
    pub fn acknowledge(&mut self, processes: &[Arc<Process>], (partition, offset): Place, value: String) {
        let mut ends = self.left.clone();
        ends.extend(processes.iter().map(|process| (process.id, self.log_ends(process))));
        let holders = ends.values().filter(|ends| ends.get(&partition).is_some_and(|end| *end > offset)).count();
        self.require(holders >= MIN_ISR as usize, || {
            format!("{value} at {partition}:{offset} was acknowledged when {holders} replicas had it")
        });
        self.note(format!("acknowledged {value} at {partition}:{offset}"));
        let kept = self.promises.acknowledge((partition, offset), value);
        self.keep(kept);
    }

    fn keep(&mut self, kept: Kept) {
        if let Err(broken) = kept {
            self.fail(broken);
        }
    }

    /// A consumer has read something.
    pub fn consume(&mut self, place: Place, value: String, committed: bool) {
        let kept = match committed {
            true => self.promises.consume_committed(place, value),
            false => self.promises.consume(place, value),
        };
        self.keep(kept);
    }

    /// A transaction is committed, or aborted.
    pub fn decide(&mut self, transaction: String, commit: bool) {
        self.note(format!("{transaction} is {}", if commit { "committed" } else { "aborted" }));
        self.promises.decide(transaction, commit);
    }

    pub fn replicas(&self, partition: i32) -> Vec<BrokerId> {
        self.assignments.get(&partition).map(|assigned| assigned.replicas.clone()).unwrap_or_default()
    }

    pub fn isr(&self, partition: i32) -> Vec<BrokerId> {
        self.states.get(&partition).map(|(_, state)| state.isr.clone()).unwrap_or_default()
    }

    pub fn leader(&self, partition: i32) -> Option<BrokerId> {
        self.states.get(&partition).map(|(_, state)| state.leader)
    }

    /// The state in ZooKeeper, if nothing moves and every replica is in sync.
    pub fn whole(&self, partition: i32) -> Option<&PartitionState> {
        let (_, state) = self.states.get(&partition)?;
        let assigned = self.assignments.get(&partition)?;
        let in_sync = assigned.replicas.iter().all(|replica| state.isr.contains(replica));
        (in_sync && !assigned.is_being_reassigned() && state.leader != BrokerId::NONE).then_some(state)
    }

    /// When all is quiet: every replica has the same records, and all that was promised is there.
    pub fn settle(&mut self, partition: i32, logs: &BTreeMap<i32, Vec<String>>) {
        let mut logs = logs.iter();
        let Some((first, records)) = logs.next() else { return };
        for (other, theirs) in logs {
            let differs = records.iter().zip(theirs).position(|(one, other)| one != other);
            self.require(differs.is_none() && records.len() == theirs.len(), || {
                format!(
                    "the logs of {first} and {other} differ in {partition} from {differs:?} on: {} and {} records",
                    records.len(),
                    theirs.len()
                )
            });
        }
        let kept = self.promises.hold(partition, records);
        self.keep(kept);
    }

    /// What a reader of committed data sees in the end.
    pub fn settle_committed(&mut self, partition: i32, seen: &[(i64, String)]) {
        let kept = self.promises.hold_committed(partition, seen);
        self.keep(kept);
    }
}
