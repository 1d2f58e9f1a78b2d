//! One partition on this broker: who leads it, who is in sync, and the way of a record through it (class `Partition`).
//!
//! Invariants: only the leader of the current epoch appends for clients, and only a follower of the current epoch takes records from
//! its leader; the high watermark never goes back while this broker leads; whoever waits for the partition is woken after
//! every change that could satisfy it. What follows from followers' fetches is decided in `isr`; what a follower does with its
//! log is in `following`.

mod following;

pub use following::{Followed, check_batches};

use super::error::ReplicaError;
use super::follower::{Follower, FollowerFetch};
use super::isr::{AfterAlter, Circumstances, IsrState};
use super::leadership::{AlterPartition, AlteredPartition, IsrChange, Leadership};
use super::metadata_cache::{MetadataCache, PartitionMetadata};
use super::waiters::{Waiters, Watched};
use crate::base::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Millis, TopicPartition};
use crate::log::{AppendOrigin, Log, LogAppendInfo, LogManager};
use crate::record::ValidatedRecords;
use parking_lot::RwLock;
use std::sync::Arc;

/// Who takes proposals to change an ISR; the answer comes to [`Partition::altered`].
pub trait IsrChanges: Send + Sync {
    fn propose(&self, change: AlterPartition);
}

/// Monotonic time.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// What all partitions of a broker share.
pub struct Surroundings {
    pub local: BrokerId,
    pub logs: Arc<LogManager>,
    pub metadata: Arc<MetadataCache>,
    pub isr_changes: Arc<dyn IsrChanges>,
    /// `replica.lag.time.max.ms`
    pub lag_max_ms: Millis,
    pub clock: Clock,
}

pub struct Partition {
    topic_partition: TopicPartition,
    around: Arc<Surroundings>,
    log: Arc<Log>,
    state: RwLock<IsrState>,
    /// Who waits for the high watermark, or for the leadership to change.
    waiters: Waiters,
    /// Who waits for the log's end: followers.
    end_waiters: Waiters,
}

impl Watched for Partition {
    fn waiters(&self) -> &Waiters {
        &self.waiters
    }
}

/// A partition whose log end is waited for.
pub struct LogEnd(pub Arc<Partition>);

impl Watched for LogEnd {
    fn waiters(&self) -> &Waiters {
        self.0.end_waiters()
    }
}

/// What a follower's fetch says of its log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerSays {
    pub broker_epoch: BrokerEpoch,
    pub offset: i64,
    pub log_start_offset: i64,
}

/// What moved by an event on a partition.
#[derive(Clone, Copy, Default)]
struct Moved {
    high_watermark: bool,
    low_watermark: bool,
}

impl Partition {
    pub fn new(around: Arc<Surroundings>, log: Arc<Log>) -> Partition {
        Partition {
            topic_partition: log.topic_partition().clone(),
            state: RwLock::new(IsrState::new(around.local)),
            around,
            log,
            waiters: Waiters::default(),
            end_waiters: Waiters::default(),
        }
    }

    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    pub fn leadership(&self) -> Leadership {
        self.state.read().leadership().clone()
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.state.read().leadership().leader_epoch
    }

    pub fn is_leader(&self) -> bool {
        self.state.read().is_leader()
    }

    /// The log's directory has failed.
    pub fn is_offline(&self) -> bool {
        self.log.log_dir().is_offline()
    }

    /// Topic configs name this replica for `follower.replication.throttled.rate`.
    pub fn is_throttled_follower(&self) -> bool {
        let (partition, local) = (self.topic_partition.partition, self.around.local.0);
        self.log.config().follower_throttled_replicas.contains(partition, local)
    }

    /// Whether what `reader` gets of this partition counts for `leader.replication.throttled.rate`, and may be held back: not while
    /// the reader is in sync.
    pub fn is_throttled_leader(&self) -> bool {
        let (partition, local) = (self.topic_partition.partition, self.around.local.0);
        self.log.config().leader_throttled_replicas.contains(partition, local)
    }

    /// The in-sync replicas, and those that are too few for `min.insync.replicas`: for metrics and tests.
    pub fn is_under_min_isr(&self) -> bool {
        let state = self.state.read();
        state.is_leader() && self.check_min_isr(&state, &state.leadership().isr).is_err()
    }

    fn end_waiters(&self) -> &Waiters {
        &self.end_waiters
    }

    fn wake_all(&self) {
        self.waiters.wake_all();
        self.end_waiters.wake_all();
    }

    /// Takes over what LeaderAndIsr says, its epochs already judged.
    pub fn apply(&self, leadership: Leadership) -> Result<(), ReplicaError> {
        let mut state = self.state.write();
        if leadership.leader == self.around.local {
            self.log.assign_epoch_start_offset(leadership.leader_epoch)?;
            state.lead(leadership, (self.around.clock)(), self.log.log_end_offset());
            self.advance_high_watermark(&state);
        } else {
            state.follow(leadership);
        }
        drop(state);
        self.wake_all();
        Ok(())
    }

    /// The partition leaves this broker: whoever waits finds out.
    pub fn retire(&self) {
        self.state.write().retire();
        self.wake_all();
    }

    /// Appends what a client sent. `require_min_isr` is set for acks=all.
    pub fn append(
        &self,
        records: ValidatedRecords,
        origin: AppendOrigin,
        require_min_isr: bool,
    ) -> Result<LogAppendInfo, ReplicaError> {
        let state = self.state.read();
        if !state.is_leader() {
            return Err(ReplicaError::NotLeader);
        }
        if require_min_isr {
            self.check_min_isr(&state, &state.leadership().isr)?;
        }
        let info = self.log.append_as_leader(records, state.leadership().leader_epoch, origin)?;
        let moved = self.advance_high_watermark(&state);
        drop(state);
        self.end_waiters.wake_all();
        if moved {
            self.waiters.wake_all();
        }
        Ok(info)
    }

    /// Whether what is below `offset` is on all in-sync replicas: `None` while it is not. After it is, the in-sync set is judged
    /// once more (NOT_ENOUGH_REPLICAS_AFTER_APPEND).
    pub fn committed(&self, offset: i64) -> Option<Result<(), ReplicaError>> {
        let state = self.state.read();
        if !state.is_leader() {
            return Some(Err(ReplicaError::NotLeader));
        }
        (self.log.high_watermark() >= offset).then(|| self.check_min_isr(&state, state.maximal_isr()))
    }

    /// Judges the leader epoch that a client knows (-1: it knows none) and that this broker leads.
    pub fn check_leader(&self, client_epoch: LeaderEpoch) -> Result<(), ReplicaError> {
        let state = self.state.read();
        check_epoch(&state, client_epoch)?;
        if state.is_leader() { Ok(()) } else { Err(ReplicaError::NotLeader) }
    }

    /// Judges only the epoch: for reads that a follower may serve.
    pub fn check_follower_read(&self, client_epoch: LeaderEpoch) -> Result<(), ReplicaError> {
        check_epoch(&self.state.read(), client_epoch)
    }

    /// Judges that a fetching broker is a replica. One that is not may know more than this broker does, or less.
    pub fn check_replica(&self, id: BrokerId, client_epoch: LeaderEpoch) -> Result<(), ReplicaError> {
        let state = self.state.read();
        match state.follower(id) {
            Some(_) => Ok(()),
            None if client_epoch == LeaderEpoch::NONE => Err(ReplicaError::NotLeader),
            None => Err(ReplicaError::UnknownLeaderEpoch { current: state.leadership().leader_epoch }),
        }
    }

    /// Whether the latest offset may be told to clients: not before the high watermark has passed what earlier leaders wrote.
    pub fn check_offsets_available(&self) -> Result<(), ReplicaError> {
        let available = self.log.high_watermark() >= self.state.read().epoch_start();
        if available { Ok(()) } else { Err(ReplicaError::OffsetNotAvailable) }
    }

    /// Notes what a follower's fetch says of its log: it may move the high watermark, and the follower may join the ISR.
    /// `epoch` is the leader epoch that the follower knows; what it said to an earlier leader does not count.
    pub fn follower_fetched(&self, id: BrokerId, epoch: LeaderEpoch, said: FollowerSays) {
        let now_ms = (self.around.clock)();
        let mut state = self.state.write();
        if !state.is_leader() || check_epoch(&state, epoch).is_err() {
            return;
        }
        let before = state.follower(id).map(|follower| follower.log_start);
        let FollowerSays { broker_epoch, offset, log_start_offset } = said;
        let leader_end = self.log.log_end_offset();
        let fetch = FollowerFetch { now_ms, broker_epoch, offset, log_start_offset, leader_end };
        let Ok(end_moved) = state.fetched(id, &fetch) else { return };
        let change = self.with_circumstances(|by| state.expand(id, by));
        let high_watermark = (end_moved || change.is_some()) && self.advance_high_watermark(&state);
        let low_watermark = before.is_some_and(|before| before < log_start_offset);
        drop(state);
        self.after(change, Moved { high_watermark, low_watermark });
    }

    /// Proposes to drop followers that have fallen behind. Called every half of the time they have.
    pub fn shrink_isr(&self) {
        if !self.is_leader() {
            return;
        }
        let mut state = self.state.write();
        let change = self.with_circumstances(|by| state.shrink(by));
        // A follower that is no longer about to join holds nothing up.
        let high_watermark = self.advance_high_watermark(&state);
        drop(state);
        if let Some(change) = &change {
            let partition = &self.topic_partition;
            tracing::info!(%partition, isr = ?change.isr, "shrinking the ISR: the others have fallen behind");
        }
        self.after(change, Moved { high_watermark, low_watermark: false });
    }

    /// The controller's answer to a proposal.
    pub fn altered(&self, token: u64, answer: Result<AlteredPartition, ErrorCode>) {
        if let Err(code) = &answer {
            tracing::info!(partition = %self.topic_partition, ?code, "the controller refused a change of the ISR");
        }
        let image = self.around.metadata.image();
        let mut state = self.state.write();
        let after = match state.altered(token, answer, (self.around.clock)()) {
            // What a refusal waits for may have come before it (KAFKA-13790).
            AfterAlter::Nothing => match image.partition(&self.topic_partition.topic, self.topic_partition.partition) {
                Some(news) => state.told(as_altered(news)),
                None => AfterAlter::Nothing,
            },
            after => after,
        };
        self.settle(state, after);
    }

    /// What UpdateMetadata says of the partition.
    pub fn told(&self, news: &PartitionMetadata) {
        if news.leader != self.around.local || !self.is_leader() {
            return;
        }
        let mut state = self.state.write();
        let after = state.told(as_altered(news));
        self.settle(state, after);
    }

    /// A broker is gone: nobody waits for what it has, and no fetch of it will ask again.
    pub fn broker_gone(&self) {
        let state = self.state.read();
        let high_watermark = state.is_leader() && self.advance_high_watermark(&state);
        drop(state);
        self.after(None, Moved { high_watermark, low_watermark: true });
    }

    fn settle(&self, state: parking_lot::RwLockWriteGuard<'_, IsrState>, after: AfterAlter) {
        let high_watermark = match after {
            AfterAlter::Committed | AfterAlter::Reverted => self.advance_high_watermark(&state),
            _ => false,
        };
        if after == AfterAlter::Committed {
            tracing::info!(partition = %self.topic_partition, isr = ?state.leadership().isr, "the ISR has changed");
        }
        drop(state);
        let retry = if let AfterAlter::Retry(change) = after { Some(change) } else { None };
        self.after(retry, Moved { high_watermark, low_watermark: false });
    }

    fn after(&self, change: Option<IsrChange>, moved: Moved) {
        if let Some(change) = change {
            let topic_id = self.log.topic_id().unwrap_or_default();
            let partition = self.topic_partition.clone();
            self.around.isr_changes.propose(AlterPartition { partition, topic_id, change });
        }
        if moved.high_watermark || moved.low_watermark {
            self.waiters.wake_all();
        }
    }

    /// Lowest log start among the live replicas: what DeleteRecords waits for.
    pub fn low_watermark(&self) -> i64 {
        let image = self.around.metadata.image();
        let is_alive = |id: BrokerId| image.brokers.contains_key(&id);
        self.state.read().low_watermark(self.log.log_start_offset(), &is_alive)
    }

    /// DeleteRecords: moves the log start up to `offset` (-1: the high watermark), and says where it is now. The followers learn it
    /// with their next fetches.
    pub fn delete_records(&self, offset: i64) -> Result<i64, ReplicaError> {
        let state = self.state.read();
        if !state.is_leader() {
            return Err(ReplicaError::NotLeader);
        }
        let target = if offset == -1 { self.log.high_watermark() } else { offset };
        self.log.increment_log_start_offset(target)?;
        drop(state);
        self.wake_all();
        Ok(target)
    }

    /// Whether all live replicas have deleted what is below `offset`: `None` while they have not.
    pub fn deleted(&self, offset: i64) -> Option<Result<i64, ReplicaError>> {
        if !self.is_leader() {
            return Some(Err(ReplicaError::NotLeader));
        }
        let low_watermark = self.low_watermark();
        (low_watermark >= offset).then_some(Ok(low_watermark))
    }

    /// In-sync followers that hold `offset`.
    pub fn readable_from(&self, offset: i64) -> Vec<(BrokerId, Follower)> {
        self.state.read().readable_from(offset)
    }

    pub fn is_in_sync(&self, id: BrokerId) -> bool {
        self.state.read().leadership().isr.contains(&id)
    }

    fn check_min_isr(&self, state: &IsrState, isr: &[BrokerId]) -> Result<(), ReplicaError> {
        let required = state.required(self.min_isr());
        let isr = isr.len();
        if isr >= required { Ok(()) } else { Err(ReplicaError::NotEnoughReplicas { isr, required }) }
    }

    fn min_isr(&self) -> usize {
        usize::try_from(self.log.config().min_insync_replicas).unwrap_or(1)
    }

    fn with_circumstances<T>(&self, judge: impl FnOnce(&Circumstances<'_>) -> T) -> T {
        judge(&Circumstances {
            now_ms: (self.around.clock)(),
            lag_max_ms: self.around.lag_max_ms,
            log_end: self.log.log_end_offset(),
            high_watermark: self.log.high_watermark(),
            min_isr: self.min_isr(),
            is_alive: &|id| self.around.metadata.image().brokers.contains_key(&id),
        })
    }

    /// Says whether it moved.
    fn advance_high_watermark(&self, state: &IsrState) -> bool {
        let reached = self.with_circumstances(|by| state.high_watermark(by));
        reached.is_some_and(|offset| self.log.raise_high_watermark(offset))
    }
}

fn as_altered(news: &PartitionMetadata) -> AlteredPartition {
    AlteredPartition {
        leader: news.leader,
        leader_epoch: news.leader_epoch,
        isr: news.isr.clone(),
        is_recovering: false,
        partition_epoch: news.partition_epoch,
    }
}

fn check_epoch(state: &IsrState, client_epoch: LeaderEpoch) -> Result<(), ReplicaError> {
    let current = state.leadership().leader_epoch;
    match client_epoch {
        LeaderEpoch::NONE => Ok(()),
        epoch if epoch < current => Err(ReplicaError::FencedLeaderEpoch { current }),
        epoch if epoch > current => Err(ReplicaError::UnknownLeaderEpoch { current }),
        _ => Ok(()),
    }
}
