//! What a fetcher asks for, and what it does with the answers: no clock, no network, no randomness (class `AbstractFetcherThread`).
//!
//! Invariants: a follower whose last epoch or offset the leader does not have cuts its log back to what both have, before it appends
//! (KIP-101, KIP-595: the leader compares at every fetch); records are appended exactly at the log's end; a partition that cannot
//! go on waits for its time, or for the next LeaderAndIsr, and does not hold up others.

use super::session::FetchSession;
use super::trouble::Trouble;
use super::{FetchWant, FollowerReplica, LeaderAnswer, LeaderFetch, LogSide, PartitionAnswer};
use crate::base::{ErrorCode, LeaderEpoch, Millis, TopicId, TopicPartition};
use crate::replica::error::ReplicaError;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetcherSettings {
    /// `replica.fetch.backoff.ms`: the longest pause after a failure.
    pub backoff_ms: Millis,
}

/// Pause after the first failure; doubled with each. A leader that was just elected may hear of it later than its followers, and cannot
/// commit anything before they have asked it.
const BACKOFF_FIRST_MS: Millis = 5;

/// How often a quota that is exceeded is looked at again.
const THROTTLE_CHECK_MS: Millis = 100;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The log knows no epochs: what is above the high watermark may not be the leader's.
    Truncating,
    Fetching,
    /// The leader's log does not have the offset.
    OutOfRange(LogSide),
    /// Only the next LeaderAndIsr can help.
    Parked,
}

struct Followed {
    replica: Arc<dyn FollowerReplica>,
    topic_id: TopicId,
    leader_epoch: LeaderEpoch,
    offset: i64,
    last_epoch: LeaderEpoch,
    phase: Phase,
    not_before_ms: Millis,
    /// Since the last success.
    failures: u32,
    trouble: Trouble,
    /// How far the leader's high watermark is ahead; `None` before the first answer.
    lag: Option<i64>,
}

impl Followed {
    fn delay(&mut self, now_ms: Millis, settings: FetcherSettings) {
        let pause_ms = BACKOFF_FIRST_MS << self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        self.not_before_ms = now_ms + pause_ms.min(settings.backoff_ms);
    }

    /// Goes on at the log's end.
    fn resume(&mut self) {
        self.offset = self.replica.log_end_offset();
        self.last_epoch = self.replica.latest_epoch().unwrap_or(LeaderEpoch::NONE);
        self.phase = Phase::Fetching;
    }
}

/// What to do next.
#[derive(Debug)]
pub enum Work {
    /// Nothing before this time, or before the partitions change.
    Idle {
        until_ms: Option<Millis>,
    },
    Offsets(LogSide, Vec<(TopicPartition, LeaderEpoch)>),
    Fetch(LeaderFetch),
}

pub struct FetcherMachine {
    settings: FetcherSettings,
    partitions: BTreeMap<TopicPartition, Followed>,
    session: FetchSession,
    /// What the fetch on its way asks for.
    asked: BTreeMap<TopicPartition, (LeaderEpoch, i64)>,
}

impl FetcherMachine {
    pub fn new(settings: FetcherSettings) -> FetcherMachine {
        FetcherMachine {
            settings,
            partitions: BTreeMap::new(),
            session: FetchSession::default(),
            asked: BTreeMap::new(),
        }
    }

    /// Begins to follow a partition in a leader epoch.
    pub fn add(
        &mut self,
        partition: TopicPartition,
        topic_id: TopicId,
        epoch: LeaderEpoch,
        replica: Arc<dyn FollowerReplica>,
    ) {
        let mut followed = Followed {
            topic_id,
            leader_epoch: epoch,
            offset: 0,
            last_epoch: LeaderEpoch::NONE,
            phase: Phase::Truncating,
            not_before_ms: Millis::MIN,
            failures: 0,
            trouble: Trouble::default(),
            lag: None,
            replica,
        };
        if followed.replica.latest_epoch().is_some() {
            followed.resume();
        }
        self.partitions.insert(partition, followed);
    }

    pub fn remove(&mut self, partition: &TopicPartition) -> bool {
        self.partitions.remove(partition).is_some()
    }

    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Largest lag of all partitions, for metrics.
    pub fn max_lag(&self) -> i64 {
        self.partitions.values().filter_map(|followed| followed.lag).max().unwrap_or(0)
    }

    /// What to do now. `is_over_quota`: throttled partitions that are not in sync have to wait.
    pub fn next(&mut self, now_ms: Millis, is_over_quota: bool) -> Work {
        self.truncate_without_epochs(now_ms);
        let is_ready = |followed: &Followed| followed.not_before_ms <= now_ms;
        for side in [LogSide::Latest, LogSide::Earliest] {
            let out_of_range = self.partitions.iter().filter(|(_, followed)| is_ready(followed));
            let asked: Vec<_> = out_of_range
                .filter(|(_, followed)| followed.phase == Phase::OutOfRange(side))
                .map(|(partition, followed)| (partition.clone(), followed.leader_epoch))
                .collect();
            if !asked.is_empty() {
                return Work::Offsets(side, asked);
            }
        }
        let may_fetch = |followed: &Followed| {
            let in_sync = followed.lag.is_some_and(|lag| lag <= 0);
            let throttled = is_over_quota && !in_sync && followed.replica.is_throttled();
            followed.phase == Phase::Fetching && is_ready(followed) && !throttled
        };
        let fetching = self.partitions.iter().filter(|(_, followed)| may_fetch(followed));
        let wants: BTreeMap<_, _> =
            fetching.map(|(partition, followed)| (partition.clone(), want(partition, followed))).collect();
        self.asked = wants.iter().map(|(name, want)| (name.clone(), (want.leader_epoch, want.offset))).collect();
        let until_ms = self.next_time(now_ms);
        if wants.is_empty() {
            return Work::Idle { until_ms };
        }
        // A partition that is refused until its new leader has heard of it must not wait for records of the others.
        let wait_ms_max = until_ms.map(|until_ms| (until_ms - now_ms).max(1));
        Work::Fetch(LeaderFetch { wait_ms_max, ..self.session.next(wants) })
    }

    /// When a partition that is not asked for may go on. One that is ready and is not asked for is throttled.
    fn next_time(&self, now_ms: Millis) -> Option<Millis> {
        let time = |followed: &Followed| match followed.not_before_ms {
            ready_ms if ready_ms <= now_ms => now_ms + THROTTLE_CHECK_MS,
            later_ms => later_ms,
        };
        let waits = |(partition, followed): &(&TopicPartition, &Followed)| {
            followed.phase != Phase::Parked && !self.asked.contains_key(*partition)
        };
        self.partitions.iter().filter(waits).map(|(_, followed)| time(followed)).min()
    }

    fn truncate_without_epochs(&mut self, now_ms: Millis) {
        let settings = self.settings;
        let truncating =
            |followed: &&mut Followed| followed.phase == Phase::Truncating && followed.not_before_ms <= now_ms;
        for (partition, followed) in &mut self.partitions {
            if let Some(followed) = Some(followed).filter(truncating) {
                let high_watermark = followed.replica.high_watermark();
                let cut = followed.replica.truncate(followed.leader_epoch, high_watermark);
                settle(partition, followed, cut.map(|_| ()), now_ms, settings);
            }
        }
    }

    /// No answer came.
    pub fn fetch_failed(&mut self, now_ms: Millis) {
        self.session.lost();
        for partition in std::mem::take(&mut self.asked).keys() {
            if let Some(followed) = self.partitions.get_mut(partition) {
                followed.delay(now_ms, self.settings);
            }
        }
    }

    /// The fetch was given up, to ask for other partitions too.
    pub fn fetch_abandoned(&mut self) {
        self.session.lost();
        self.asked.clear();
    }

    /// The leader's answer. Returns the bytes that count against the quota of throttled replicas.
    pub fn fetched(&mut self, now_ms: Millis, answer: LeaderAnswer) -> usize {
        let is_session_error = matches!(
            answer.error,
            ErrorCode::FetchSessionIdNotFound
                | ErrorCode::InvalidFetchSessionEpoch
                | ErrorCode::FetchSessionTopicIdError
        );
        if !self.session.answered(&answer) {
            tracing::debug!(error = ?answer.error, "the leader refused a fetch");
            if !is_session_error {
                self.fetch_failed(now_ms);
            }
            return 0;
        }
        let mut throttled_bytes = 0;
        for one in answer.partitions {
            let asked = self.asked.get(&one.partition).copied();
            let Some(followed) = self.partitions.get_mut(&one.partition) else { continue };
            let is_current = asked == Some((followed.leader_epoch, followed.offset))
                && followed.phase == Phase::Fetching
                && followed.not_before_ms <= now_ms;
            if is_current {
                let bytes = take(followed, &one, now_ms, self.settings);
                if bytes > 0 && followed.replica.is_throttled() {
                    throttled_bytes += bytes;
                }
            }
        }
        throttled_bytes
    }

    /// The leader's answer to [`Work::Offsets`], or `None` if there was none.
    pub fn offsets_answered(
        &mut self,
        now_ms: Millis,
        side: LogSide,
        asked: Vec<(TopicPartition, LeaderEpoch)>,
        answers: Option<Vec<Result<i64, ErrorCode>>>,
    ) {
        let answers = answers.unwrap_or_default();
        for (at, (partition, epoch)) in asked.into_iter().enumerate() {
            let Some(followed) = self.partitions.get_mut(&partition) else { continue };
            if followed.leader_epoch != epoch || followed.phase != Phase::OutOfRange(side) {
                continue;
            }
            match answers.get(at) {
                Some(Ok(offset)) => {
                    out_of_range(&partition, followed, side, *offset, now_ms, self.settings);
                }
                Some(Err(ErrorCode::FencedLeaderEpoch)) => followed.phase = Phase::Parked,
                _ => followed.delay(now_ms, self.settings),
            }
        }
    }
}

fn want(partition: &TopicPartition, followed: &Followed) -> FetchWant {
    FetchWant {
        partition: partition.clone(),
        topic_id: followed.topic_id,
        leader_epoch: followed.leader_epoch,
        offset: followed.offset,
        last_epoch: followed.last_epoch,
        log_start_offset: followed.replica.log_start_offset(),
    }
}

/// What one partition makes of its answer: the bytes appended.
fn take(followed: &mut Followed, answer: &PartitionAnswer, now_ms: Millis, settings: FetcherSettings) -> usize {
    let partition = &answer.partition;
    match answer.error {
        ErrorCode::None => {}
        ErrorCode::OffsetOutOfRange => {
            tracing::info!(%partition, offset = followed.offset, "the leader's log does not have this offset");
            followed.phase = Phase::OutOfRange(LogSide::Latest);
            return 0;
        }
        ErrorCode::FencedLeaderEpoch => {
            tracing::info!(%partition, epoch = %followed.leader_epoch, "the leader has a newer epoch: waiting for the controller");
            followed.phase = Phase::Parked;
            return 0;
        }
        error => {
            tracing::debug!(%partition, ?error, "the leader refused the partition");
            if error == ErrorCode::CorruptMessage {
                let error = ReplicaError::Corrupt("the leader cannot read it".into());
                followed.trouble.tell(now_ms, partition, followed.offset, &error);
            }
            followed.delay(now_ms, settings);
            return 0;
        }
    }
    if let Some((epoch, end)) = answer.diverging_epoch {
        let offset = truncation_offset(&*followed.replica, epoch, end);
        tracing::info!(%partition, %epoch, end, offset, "the leader's log is another one: truncating");
        let cut = followed.replica.truncate(followed.leader_epoch, offset);
        settle(partition, followed, cut.map(|_| ()), now_ms, settings);
        return 0;
    }
    if followed.offset != followed.replica.log_end_offset() {
        tracing::warn!(%partition, asked = followed.offset, end = followed.replica.log_end_offset(), "the log has moved");
        followed.resume();
        return 0;
    }
    let (epoch, replica) = (followed.leader_epoch, &followed.replica);
    match replica.append(epoch, &answer.records, answer.high_watermark, answer.log_start_offset) {
        Ok(taken) => {
            followed.failures = 0;
            if taken.size_bytes > 0 {
                followed.trouble.end(partition, followed.offset);
            }
            followed.offset = taken.next_offset;
            followed.last_epoch = taken.last_epoch.unwrap_or(followed.last_epoch);
            followed.lag = Some((answer.high_watermark - taken.next_offset).max(0));
            taken.size_bytes
        }
        Err(error) => {
            settle(partition, followed, Err(error), now_ms, settings);
            0
        }
    }
}

/// Where this log and the leader's part, when the leader's has `epoch` up to `end`. If this log does not know the epoch, it goes back to
/// the end of the one before it, and the next fetch compares again.
fn truncation_offset(replica: &dyn FollowerReplica, epoch: LeaderEpoch, end: i64) -> i64 {
    let log_end = replica.log_end_offset();
    if end < 0 {
        return replica.high_watermark();
    }
    match replica.end_offset_for_epoch(epoch) {
        (_, own_end) if own_end < 0 || epoch == LeaderEpoch::NONE => end.min(log_end),
        (own, own_end) if own != epoch => own_end.min(log_end),
        (_, own_end) => own_end.min(end).min(log_end),
    }
}

/// After a change of the log: on, or why not.
fn settle(
    partition: &TopicPartition,
    followed: &mut Followed,
    outcome: Result<(), ReplicaError>,
    now_ms: Millis,
    settings: FetcherSettings,
) {
    match outcome {
        Ok(()) => followed.resume(),
        Err(ReplicaError::NotFollowing { .. }) => followed.phase = Phase::Parked,
        Err(error) if followed.replica.is_offline() => {
            tracing::error!(%partition, %error, "the partition cannot be followed");
            followed.phase = Phase::Parked;
        }
        Err(error) => {
            followed.trouble.tell(now_ms, partition, followed.offset, &error);
            if followed.phase == Phase::Fetching {
                // The log may have taken a part.
                followed.resume();
            }
            followed.delay(now_ms, settings);
        }
    }
}

/// The leader's log ends before this one (an unclean election), or begins after it (this broker was away for long).
fn out_of_range(
    partition: &TopicPartition,
    followed: &mut Followed,
    side: LogSide,
    leaders: i64,
    now_ms: Millis,
    settings: FetcherSettings,
) {
    let (own_end, epoch) = (followed.replica.log_end_offset(), followed.leader_epoch);
    let outcome = match side {
        LogSide::Latest if leaders < own_end => {
            tracing::warn!(%partition, own_end, leaders, "the leader's log is shorter: truncating");
            followed.replica.truncate(epoch, leaders).map(|_| ())
        }
        LogSide::Latest => {
            followed.phase = Phase::OutOfRange(LogSide::Earliest);
            return;
        }
        LogSide::Earliest if leaders > own_end => {
            tracing::warn!(%partition, own_end, leaders, "the leader's log begins later: starting there");
            followed.replica.restart(epoch, leaders).map(|_| ())
        }
        LogSide::Earliest => Ok(()),
    };
    settle(partition, followed, outcome, now_ms, settings);
}
