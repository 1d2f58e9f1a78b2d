//! Who is in sync with a leader, and what that makes of the high watermark (classes `Partition`, `PartitionState`): pure.
//!
//! A leader may not change the ISR by itself: it proposes a change to the controller (AlterPartition) and goes on with what is
//! safe whatever the answer. Invariants: one proposal at a time; a proposed member counts as in sync at once, a member that is
//! proposed to leave counts until the controller agrees (together: the maximal ISR); the high watermark and acks=all go by
//! the maximal ISR, the check before an append by the committed one.

use super::follower::{Follower, FollowerFetch};
use super::leadership::{AlteredPartition, IsrChange, Leadership};
use crate::base::{BrokerEpoch, BrokerId, ErrorCode, Millis};
use std::collections::{BTreeMap, BTreeSet};

#[cfg(test)]
mod tests;

/// What the state of a partition is judged by.
#[derive(Clone, Copy)]
pub struct Circumstances<'a> {
    pub now_ms: Millis,
    /// `replica.lag.time.max.ms`
    pub lag_max_ms: Millis,
    pub log_end: i64,
    pub high_watermark: i64,
    /// `min.insync.replicas`
    pub min_isr: usize,
    pub is_alive: &'a dyn Fn(BrokerId) -> bool,
}

/// A change that the controller was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Pending {
    change: IsrChange,
    is_expansion: bool,
    /// The controller refused it in a way that only its next word on the partition can settle.
    is_stuck: bool,
}

/// What to do after the controller's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AfterAlter {
    /// The answer is to an older proposal, or says to wait.
    Nothing,
    /// The ISR has changed: the high watermark may move.
    Committed,
    /// The proposal is given up.
    Reverted,
    Retry(IsrChange),
}

/// The fetching broker is not a replica of the partition, as far as this broker knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAReplica;

/// The controller did not let a follower into the ISR: its broker is about to stop, or the controller has not heard of it yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Refused {
    /// The registration that was refused; the next one is judged anew.
    broker_epoch: BrokerEpoch,
    times: u32,
    /// When it is proposed again.
    not_before_ms: Millis,
}

/// Pause before a follower that was refused is proposed again; doubled with each refusal.
const REFUSED_FIRST_MS: Millis = 50;
const REFUSED_MAX_MS: Millis = 2_000;

#[derive(Debug)]
pub struct IsrState {
    local: BrokerId,
    leadership: Leadership,
    pending: Option<Pending>,
    refused: BTreeMap<BrokerId, Refused>,
    /// The other replicas, while this broker leads.
    followers: BTreeMap<BrokerId, Follower>,
    /// Log end when this broker became leader: what is below may come from earlier leaders.
    epoch_start: i64,
    last_token: u64,
}

impl IsrState {
    pub fn new(local: BrokerId) -> IsrState {
        IsrState {
            local,
            leadership: Leadership::default(),
            pending: None,
            refused: BTreeMap::new(),
            followers: BTreeMap::new(),
            epoch_start: -1,
            last_token: 0,
        }
    }

    pub fn leadership(&self) -> &Leadership {
        &self.leadership
    }

    pub fn is_leader(&self) -> bool {
        self.leadership.leader == self.local
    }

    /// Log end when this broker became leader; -1 on followers.
    pub fn epoch_start(&self) -> i64 {
        self.epoch_start
    }

    pub fn follower(&self, id: BrokerId) -> Option<&Follower> {
        self.followers.get(&id)
    }

    fn is_replica(&self, id: BrokerId) -> bool {
        self.leadership.replicas.contains(&id)
    }

    /// Takes over leadership in a new epoch. `log_end` is where the epoch begins.
    pub fn lead(&mut self, leadership: Leadership, now_ms: Millis, log_end: i64) {
        let is_new_leader = !self.is_leader();
        self.pending = None;
        self.refused.clear();
        self.epoch_start = log_end;
        // A replica that a reassignment has just taken away counts while it is in the ISR: it can still be elected.
        let members = leadership.replicas.iter().chain(&leadership.isr);
        let others: BTreeSet<&BrokerId> = members.filter(|id| **id != self.local).collect();
        let mut before = std::mem::take(&mut self.followers);
        for id in others {
            let mut follower = before.remove(id).unwrap_or_else(Follower::unknown);
            follower.reset(now_ms, log_end, is_new_leader, leadership.isr.contains(id));
            self.followers.insert(*id, follower);
        }
        self.leadership = leadership;
    }

    /// Takes over what is said of a partition that somebody else leads, or nobody.
    pub fn follow(&mut self, leadership: Leadership) {
        self.pending = None;
        self.refused.clear();
        self.followers.clear();
        self.epoch_start = -1;
        self.leadership = leadership;
    }

    /// The partition leaves this broker.
    pub fn retire(&mut self) {
        let nobody = Leadership { leader: BrokerId::NONE, ..self.leadership.clone() };
        self.follow(nobody);
    }

    /// All that may be in sync, whatever becomes of a proposal.
    pub fn maximal_isr(&self) -> &[BrokerId] {
        match &self.pending {
            Some(pending) if pending.is_expansion => &pending.change.isr,
            _ => &self.leadership.isr,
        }
    }

    /// How many replicas an acks=all append asks for.
    pub fn required(&self, min_isr: usize) -> usize {
        min_isr.max(1).min(self.leadership.replicas.len().max(1))
    }

    /// Notes a follower's fetch, and says whether its log end moved.
    pub fn fetched(&mut self, id: BrokerId, fetch: &FollowerFetch) -> Result<bool, NotAReplica> {
        self.followers.get_mut(&id).map(|follower| follower.fetched(fetch)).ok_or(NotAReplica)
    }

    /// Proposes to take a follower into the ISR, if it is ready for it: it has all that is committed, and all from before this
    /// leader's epoch (KAFKA-7128), and lives.
    pub fn expand(&mut self, id: BrokerId, by: &Circumstances<'_>) -> Option<IsrChange> {
        if !self.is_leader() || self.pending.is_some() || self.leadership.isr.contains(&id) {
            return None;
        }
        let follower = self.followers.get(&id)?;
        let is_ready = follower.log_end >= by.high_watermark && follower.log_end >= self.epoch_start;
        let is_too_early = self.refusal(id).is_some_and(|refused| by.now_ms < refused.not_before_ms);
        if !is_ready || is_too_early || !self.is_replica(id) || !(by.is_alive)(id) {
            return None;
        }
        let mut isr = self.leadership.isr.clone();
        isr.push(id);
        Some(self.propose(isr, true))
    }

    /// Proposes to drop those that have fallen behind.
    pub fn shrink(&mut self, by: &Circumstances<'_>) -> Option<IsrChange> {
        if !self.is_leader() || self.pending.is_some() {
            return None;
        }
        let is_in_sync = |id: &BrokerId| {
            let caught_up = |follower: &Follower| follower.is_caught_up(by.log_end, by.now_ms, by.lag_max_ms);
            *id == self.local || self.followers.get(id).is_some_and(caught_up)
        };
        let isr: Vec<BrokerId> = self.leadership.isr.iter().copied().filter(is_in_sync).collect();
        (isr.len() < self.leadership.isr.len()).then(|| self.propose(isr, false))
    }

    fn propose(&mut self, isr: Vec<BrokerId>, is_expansion: bool) -> IsrChange {
        self.last_token += 1;
        let change = IsrChange {
            token: self.last_token,
            member_epochs: isr.iter().map(|id| self.heard_in(*id)).collect(),
            isr,
            leader_epoch: self.leadership.leader_epoch,
            partition_epoch: self.leadership.partition_epoch,
        };
        self.pending = Some(Pending { change: change.clone(), is_expansion, is_stuck: false });
        change
    }

    fn heard_in(&self, id: BrokerId) -> BrokerEpoch {
        self.followers.get(&id).map_or(BrokerEpoch::UNKNOWN, |follower| follower.broker_epoch)
    }

    /// The refusal that stands for the follower's present registration.
    fn refusal(&self, id: BrokerId) -> Option<&Refused> {
        self.refused.get(&id).filter(|refused| refused.broker_epoch == self.heard_in(id))
    }

    /// Nobody waits for a follower that the controller does not let in, until it is let in.
    fn refuse(&mut self, change: &IsrChange, now_ms: Millis) {
        for (id, broker_epoch) in change.isr.iter().zip(&change.member_epochs) {
            if self.leadership.isr.contains(id) {
                continue;
            }
            let times = self.refusal(*id).map_or(0, |refused| refused.times);
            let pause_ms = (REFUSED_FIRST_MS << times.min(16)).min(REFUSED_MAX_MS);
            let refused = Refused {
                broker_epoch: *broker_epoch,
                times: times.saturating_add(1),
                not_before_ms: now_ms.saturating_add(pause_ms),
            };
            self.refused.insert(*id, refused);
        }
    }

    /// The controller's answer to the proposal with this token.
    pub fn altered(&mut self, token: u64, answer: Result<AlteredPartition, ErrorCode>, now_ms: Millis) -> AfterAlter {
        let Some(pending) = self.pending.as_mut().filter(|pending| pending.change.token == token) else {
            return AfterAlter::Nothing;
        };
        match answer {
            Ok(altered) => {
                let is_ours = altered.leader_epoch == self.leadership.leader_epoch
                    && altered.partition_epoch >= self.leadership.partition_epoch;
                if is_ours { self.commit(altered) } else { AfterAlter::Nothing }
            }
            Err(ErrorCode::IneligibleReplica | ErrorCode::OperationNotAttempted) => {
                let refused = self.pending.take();
                if let Some(Pending { change, .. }) = refused {
                    self.refuse(&change, now_ms);
                }
                AfterAlter::Reverted
            }
            // Another leader, another topic, or a word of the controller that is still on its way.
            Err(
                ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::InvalidUpdateVersion
                | ErrorCode::InvalidRequest,
            ) => {
                pending.is_stuck = true;
                AfterAlter::Nothing
            }
            Err(_) => AfterAlter::Retry(pending.change.clone()),
        }
    }

    fn commit(&mut self, altered: AlteredPartition) -> AfterAlter {
        self.pending = None;
        self.refused.retain(|id, _| !altered.isr.contains(id));
        self.leadership.isr = altered.isr;
        self.leadership.partition_epoch = altered.partition_epoch;
        self.leadership.is_recovering = altered.is_recovering;
        AfterAlter::Committed
    }

    /// What UpdateMetadata says of the partition. It settles a proposal that was refused because the ISR had changed already; Apache
    /// Kafka waits for the next election (KAFKA-2729).
    pub fn told(&mut self, altered: AlteredPartition) -> AfterAlter {
        let is_stuck = self.pending.as_ref().is_some_and(|pending| pending.is_stuck);
        let is_newer = altered.leader == self.local
            && altered.leader_epoch == self.leadership.leader_epoch
            && altered.partition_epoch > self.leadership.partition_epoch;
        if is_stuck && is_newer { self.commit(altered) } else { AfterAlter::Nothing }
    }

    /// Where the high watermark may go; `None` if it stays. It waits for every possible member of the ISR, and for those that are
    /// about to join it: not for those that the controller refuses, as a broker that is stopping.
    pub fn high_watermark(&self, by: &Circumstances<'_>) -> Option<i64> {
        if !self.is_leader() || self.leadership.isr.len() < self.required(by.min_isr) {
            return None;
        }
        let counts = |id: &BrokerId, follower: &Follower| {
            self.maximal_isr().contains(id)
                || (self.is_replica(*id)
                    && self.refusal(*id).is_none()
                    && follower.is_caught_up(by.log_end, by.now_ms, by.lag_max_ms)
                    && (by.is_alive)(*id))
        };
        let slowest = self.followers.iter().filter(|(_, follower)| follower.log_end < by.log_end);
        let slowest = slowest.filter(|(id, follower)| counts(id, follower)).map(|(_, follower)| follower.log_end).min();
        let reached = slowest.unwrap_or(by.log_end);
        (reached > by.high_watermark).then_some(reached)
    }

    /// The smallest log start of the living replicas: what DeleteRecords waits for.
    pub fn low_watermark(&self, own_start: i64, is_alive: &dyn Fn(BrokerId) -> bool) -> i64 {
        let others = self.followers.iter().filter(|(id, _)| is_alive(**id)).map(|(_, follower)| follower.log_start);
        others.fold(own_start, i64::min)
    }

    /// Replicas of the ISR that hold `offset`, this broker first: where a consumer may read it.
    pub fn readable_from(&self, offset: i64) -> Vec<(BrokerId, Follower)> {
        let in_sync = self.followers.iter().filter(|(id, _)| self.leadership.isr.contains(id));
        in_sync
            .filter(|(_, follower)| follower.log_start <= offset && offset <= follower.log_end)
            .map(|(id, follower)| (*id, *follower))
            .collect()
    }
}
