//! One partition on this broker: who leads it, who is in sync, and the way of a record through it (class `Partition`).
//!
//! Invariants: only the leader of the current epoch appends for clients; the high watermark is the smallest log end of the
//! in-sync replicas and never goes back while this broker leads; whoever waits for the partition is woken after every
//! change that could satisfy it.

use super::error::ReplicaError;
use super::waiters::{Waiters, Watched};
use crate::base::{BrokerId, ControllerEpoch, LeaderEpoch, PartitionEpoch, TopicPartition};
use crate::log::{AppendOrigin, Log, LogAppendInfo};
use crate::record::ValidatedRecords;
use parking_lot::RwLock;
use std::sync::Arc;

/// What the controller last said of the partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub controller_epoch: ControllerEpoch,
    pub partition_epoch: PartitionEpoch,
    pub isr: Vec<BrokerId>,
    pub replicas: Vec<BrokerId>,
    pub adding_replicas: Vec<BrokerId>,
    pub removing_replicas: Vec<BrokerId>,
}

/// Before the first LeaderAndIsr.
impl Default for Leadership {
    fn default() -> Leadership {
        Leadership {
            leader: BrokerId::NONE,
            leader_epoch: LeaderEpoch::NONE,
            controller_epoch: ControllerEpoch(0),
            partition_epoch: PartitionEpoch(-1),
            isr: Vec::new(),
            replicas: Vec::new(),
            adding_replicas: Vec::new(),
            removing_replicas: Vec::new(),
        }
    }
}

struct State {
    leadership: Leadership,
    /// Log end when this broker became leader: what is below may come from earlier leaders.
    epoch_start_offset: i64,
}

pub struct Partition {
    topic_partition: TopicPartition,
    local: BrokerId,
    log: Arc<Log>,
    state: RwLock<State>,
    waiters: Waiters,
}

impl Watched for Partition {
    fn waiters(&self) -> &Waiters {
        &self.waiters
    }
}

impl Partition {
    pub fn new(local: BrokerId, log: Arc<Log>) -> Partition {
        let state = State { leadership: Leadership::default(), epoch_start_offset: -1 };
        let topic_partition = log.topic_partition().clone();
        Partition { topic_partition, local, log, state: RwLock::new(state), waiters: Waiters::default() }
    }

    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    pub fn leadership(&self) -> Leadership {
        self.state.read().leadership.clone()
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.state.read().leadership.leader_epoch
    }

    pub fn is_leader(&self) -> bool {
        self.state.read().leadership.leader == self.local
    }

    /// Takes over what LeaderAndIsr says, its epochs already judged. Returns whether this broker leads now and did not in this
    /// epoch before.
    pub fn apply(&self, leadership: Leadership) -> Result<(), ReplicaError> {
        let mut state = self.state.write();
        if leadership.leader == self.local && leadership.leader_epoch > state.leadership.leader_epoch {
            self.log.assign_epoch_start_offset(leadership.leader_epoch)?;
            state.epoch_start_offset = self.log.log_end_offset();
        }
        state.leadership = leadership;
        self.advance_high_watermark(&state);
        drop(state);
        self.waiters.wake_all();
        Ok(())
    }

    /// The partition leaves this broker: whoever waits finds out.
    pub fn retire(&self) {
        self.state.write().leadership.leader = BrokerId::NONE;
        self.waiters.wake_all();
    }

    /// Appends what a client sent. `require_min_isr` is set for acks=all.
    pub fn append(
        &self,
        records: ValidatedRecords,
        origin: AppendOrigin,
        require_min_isr: bool,
    ) -> Result<LogAppendInfo, ReplicaError> {
        let state = self.state.read();
        if state.leadership.leader != self.local {
            return Err(ReplicaError::NotLeader);
        }
        if require_min_isr {
            self.check_min_isr(&state)?;
        }
        let info = self.log.append_as_leader(records, state.leadership.leader_epoch, origin)?;
        let before = self.log.high_watermark();
        self.advance_high_watermark(&state);
        drop(state);
        if self.log.high_watermark() > before {
            self.waiters.wake_all();
        }
        Ok(info)
    }

    /// Whether a record below `offset` is on all in-sync replicas: `None` while it is not. After it is, the in-sync set is judged
    /// once more (NOT_ENOUGH_REPLICAS_AFTER_APPEND).
    pub fn committed(&self, offset: i64) -> Option<Result<(), ReplicaError>> {
        let state = self.state.read();
        if state.leadership.leader != self.local {
            return Some(Err(ReplicaError::NotLeader));
        }
        (self.log.high_watermark() >= offset).then(|| self.check_min_isr(&state))
    }

    /// Judges the leader epoch that a client knows (-1: it knows none) and that this broker leads.
    pub fn check_leader(&self, client_epoch: LeaderEpoch) -> Result<(), ReplicaError> {
        let state = self.state.read();
        self.check_epoch(&state, client_epoch)?;
        if state.leadership.leader == self.local { Ok(()) } else { Err(ReplicaError::NotLeader) }
    }

    /// Judges only the epoch: for reads that a follower may serve.
    pub fn check_follower_read(&self, client_epoch: LeaderEpoch) -> Result<(), ReplicaError> {
        self.check_epoch(&self.state.read(), client_epoch)
    }

    fn check_epoch(&self, state: &State, client_epoch: LeaderEpoch) -> Result<(), ReplicaError> {
        let current = state.leadership.leader_epoch;
        match client_epoch {
            LeaderEpoch::NONE => Ok(()),
            epoch if epoch < current => Err(ReplicaError::FencedLeaderEpoch { current }),
            epoch if epoch > current => Err(ReplicaError::UnknownLeaderEpoch { current }),
            _ => Ok(()),
        }
    }

    /// Whether the latest offset may be told to clients: not before the high watermark has passed what earlier leaders wrote.
    pub fn check_offsets_available(&self) -> Result<(), ReplicaError> {
        let available = self.log.high_watermark() >= self.state.read().epoch_start_offset;
        if available { Ok(()) } else { Err(ReplicaError::OffsetNotAvailable) }
    }

    /// Lowest log start among the live replicas: what DeleteRecords waits for.
    pub fn low_watermark(&self) -> i64 {
        self.log.log_start_offset()
    }

    /// DeleteRecords: moves the log start up to `offset` (-1: the high watermark).
    pub fn delete_records(&self, offset: i64) -> Result<i64, ReplicaError> {
        let state = self.state.read();
        if state.leadership.leader != self.local {
            return Err(ReplicaError::NotLeader);
        }
        let target = if offset == -1 { self.log.high_watermark() } else { offset };
        self.log.increment_log_start_offset(target)?;
        drop(state);
        self.waiters.wake_all();
        Ok(self.low_watermark())
    }

    fn check_min_isr(&self, state: &State) -> Result<(), ReplicaError> {
        let configured = self.log.config().min_insync_replicas.max(1) as usize;
        let required = configured.min(state.leadership.replicas.len().max(1));
        let isr = state.leadership.isr.len();
        if isr >= required { Ok(()) } else { Err(ReplicaError::NotEnoughReplicas { isr, required }) }
    }

    /// With this broker alone in sync, what it has is committed. Followers' log ends join here with replication.
    fn advance_high_watermark(&self, state: &State) {
        if state.leadership.leader == self.local && state.leadership.isr == [self.local] {
            self.log.update_high_watermark(self.log.log_end_offset());
        }
    }
}
