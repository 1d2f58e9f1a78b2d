//! One group in memory: its state, members and protocol (class `GroupMetadata`).
//!
//! ```text
//! Empty -> PreparingRebalance -> CompletingRebalance -> Stable        any -> Dead
//!   ^______________|  ^___________________|_______________|
//! ```
//! Invariants, checked by [`Group::check`]: the counters agree with the members; a static instance belongs to one member;
//! the leader is a member; no member and no generation in progress without each other.

use super::consumer_protocol;
use super::member::Member;
use super::message::{JoinedMember, Protocol, ReplyToken, WriteToken};
use super::offsets::Offsets;
use super::records::GroupValue;
use crate::base::Millis;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
    /// Being deleted.
    Dead,
}

impl GroupState {
    /// As DescribeGroups and ListGroups spell it.
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }
}

/// What the join timer of a group in PreparingRebalance stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JoinWait {
    /// The first rebalance of an empty group: waits for others to come, once more for every wave, `remaining_ms` at most.
    Initial { remaining_ms: Millis },
    /// Known members have until the timer to rejoin.
    Rejoin,
}

#[derive(Clone)]
pub struct Group {
    pub id: Arc<str>,
    state: GroupState,
    /// Wall clock; `None` if loaded from a record that does not say.
    pub state_since: Option<Millis>,
    pub generation: i32,
    /// `None`: only used to store offsets.
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub leader: Option<Arc<str>>,
    members: BTreeMap<Arc<str>, Member>,
    static_members: HashMap<Arc<str>, Arc<str>>,
    /// Ids that were given out and have not come back yet.
    pub pending_members: BTreeSet<Arc<str>>,
    /// How many members support a protocol.
    supported: HashMap<Arc<str>, usize>,
    awaiting_join: usize,
    pub join_wait: JoinWait,
    /// Somebody joined during the initial delay, which is worth another wait.
    pub member_added: bool,
    /// Topics of all members of a consumer group; `None` if unknown.
    pub subscribed_topics: Option<BTreeSet<Arc<str>>>,
    /// The assignment of this generation that is being stored.
    pub assignment_write: Option<WriteToken>,
    pub offsets: Offsets,
}

impl Group {
    pub fn new(id: Arc<str>, now: Millis) -> Group {
        Group {
            id,
            state: GroupState::Empty,
            state_since: Some(now),
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: HashMap::new(),
            pending_members: BTreeSet::new(),
            supported: HashMap::new(),
            awaiting_join: 0,
            join_wait: JoinWait::Rejoin,
            member_added: false,
            subscribed_topics: None,
            assignment_write: None,
            offsets: Offsets::default(),
        }
    }

    /// Takes over what a record of the log says; offsets stay.
    pub fn load(&mut self, value: &GroupValue) {
        self.members.clear();
        self.static_members.clear();
        self.supported.clear();
        self.generation = value.generation;
        self.protocol_type = Some(value.protocol_type.clone()).filter(|name| !name.is_empty());
        self.protocol = value.protocol.clone();
        self.state_since = Some(value.state_timestamp).filter(|at| *at >= 0);
        self.state = if value.members.is_empty() { GroupState::Empty } else { GroupState::Stable };
        for member in &value.members {
            self.insert(Member::loaded(member, value.protocol.as_ref()));
        }
        let leader = value.leader.clone().filter(|leader| self.members.contains_key(leader));
        self.leader = leader.or_else(|| self.members.keys().next().cloned());
        self.subscribed_topics = self.compute_subscribed_topics();
    }

    pub fn state(&self) -> GroupState {
        self.state
    }

    pub fn is(&self, state: GroupState) -> bool {
        self.state == state
    }

    pub fn transition(&mut self, state: GroupState, now: Millis) {
        self.state = state;
        self.state_since = Some(now);
    }

    /// Being deleted: nobody may join or commit until that is written. Not a state of its own for retention.
    pub fn mark_dead(&mut self) {
        self.state = GroupState::Dead;
    }

    /// The deletion failed, or left something behind.
    pub fn revive(&mut self) {
        if self.is(GroupState::Dead) {
            self.state = GroupState::Empty;
        }
    }

    pub fn can_rebalance(&self) -> bool {
        matches!(self.state, GroupState::Empty | GroupState::CompletingRebalance | GroupState::Stable)
    }

    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.members.values_mut()
    }

    pub fn member(&self, id: &str) -> Option<&Member> {
        self.members.get(id)
    }

    pub fn member_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.members.get_mut(id)
    }

    pub fn has(&self, id: &str) -> bool {
        self.members.contains_key(id)
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    pub fn static_member(&self, instance_id: &str) -> Option<&Arc<str>> {
        self.static_members.get(instance_id)
    }

    pub fn awaiting_join(&self) -> usize {
        self.awaiting_join
    }

    pub fn all_members_joined(&self) -> bool {
        self.members.len() == self.awaiting_join && self.pending_members.is_empty()
    }

    pub fn all_members_synced(&self) -> bool {
        self.members.values().all(|member| !member.pending_sync)
    }

    pub fn is_consumer_group(&self) -> bool {
        self.protocol_type.as_deref() == Some(consumer_protocol::PROTOCOL_TYPE)
    }

    /// An unknown subscription counts as subscribed to everything.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        self.subscribed_topics.as_ref().is_none_or(|topics| topics.contains(topic))
    }

    /// The longest rebalance time-out of all members.
    pub fn rebalance_timeout_ms(&self) -> Millis {
        self.members.values().map(|member| Millis::from(member.rebalance_timeout_ms)).max().unwrap_or(0)
    }

    fn insert(&mut self, member: Member) {
        self.remove(&member.id);
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member.id.clone());
        }
        self.count_protocols(&member.protocols, true);
        self.awaiting_join += usize::from(member.is_awaiting_join());
        self.pending_members.remove(&member.id);
        self.members.insert(member.id.clone(), member);
    }

    /// Adds a member that joins; the first one leads and says which type of protocol this group speaks.
    pub fn add(&mut self, member: Member, protocol_type: &Arc<str>) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.clone());
        }
        self.leader.get_or_insert_with(|| member.id.clone());
        self.insert(member);
    }

    /// Takes a member out, with the requests that it still waits for.
    pub fn remove(&mut self, id: &str) -> Option<Member> {
        self.pending_members.remove(id);
        let member = self.members.remove(id)?;
        self.count_protocols(&member.protocols, false);
        self.awaiting_join -= usize::from(member.is_awaiting_join());
        if let Some(instance_id) = &member.instance_id
            && self.static_members.get(instance_id).is_some_and(|holder| **holder == *id)
        {
            self.static_members.remove(instance_id);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Gives a static member a new id. `false` if there is no such member.
    pub fn replace_static(&mut self, old_id: &str, new_id: &Arc<str>) -> bool {
        let Some(mut member) = self.members.remove(old_id) else { return false };
        member.id = new_id.clone();
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), new_id.clone());
        }
        if self.is_leader(old_id) {
            self.leader = Some(new_id.clone());
        }
        self.members.insert(new_id.clone(), member);
        true
    }

    /// Replaces what a member said when it joined before.
    pub fn update(&mut self, id: &str, protocols: Vec<Protocol>, rebalance_timeout_ms: i32, session_timeout_ms: i32) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.rebalance_timeout_ms = rebalance_timeout_ms;
        member.session_timeout_ms = session_timeout_ms;
        let old = std::mem::replace(&mut member.protocols, protocols.clone());
        self.count_protocols(&old, false);
        self.count_protocols(&protocols, true);
    }

    /// Holds a join; returns the one that was held before.
    pub fn hold_join(&mut self, id: &str, token: ReplyToken) -> Option<ReplyToken> {
        let Some(member) = self.members.get_mut(id) else { return Some(token) };
        let before = member.awaiting_join.replace(token);
        self.awaiting_join += usize::from(before.is_none());
        before
    }

    pub fn take_join(&mut self, id: &str) -> Option<ReplyToken> {
        let token = self.members.get_mut(id)?.awaiting_join.take()?;
        self.awaiting_join -= 1;
        Some(token)
    }

    pub fn take_sync(&mut self, id: &str) -> Option<ReplyToken> {
        self.members.get_mut(id)?.awaiting_sync.take()
    }

    fn count_protocols(&mut self, protocols: &[Protocol], add: bool) {
        // A name that a member lists twice counts once.
        for name in protocols.iter().map(|protocol| &protocol.name).collect::<BTreeSet<_>>() {
            let count = self.supported.entry(name.clone()).or_default();
            *count = if add { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.supported.remove(name);
            }
        }
    }

    /// Whether a member with these protocols can be part of the group: it shares one with all present members.
    pub fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.is(GroupState::Empty) {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| self.supported_by_all(&protocol.name))
    }

    fn supported_by_all(&self, protocol: &str) -> bool {
        self.supported.get(protocol).copied().unwrap_or(0) == self.members.len()
    }

    /// Each member votes for the first of its protocols that all support; most votes win, then the first by name.
    pub fn select_protocol(&self) -> Option<Arc<str>> {
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote = member.protocols.iter().find(|protocol| self.supported_by_all(&protocol.name));
            if let Some(vote) = vote {
                *votes.entry(&vote.name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    /// Keeps the leader if it rejoined, else elects a member that did. `false`: nobody rejoined.
    pub fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = self.leader.as_ref().and_then(|leader| self.members.get(leader)) else { return false };
        if leader.is_awaiting_join() {
            return true;
        }
        match self.members.values().find(|member| member.is_awaiting_join()) {
            Some(joined) => {
                self.leader = Some(joined.id.clone());
                true
            }
            None => false,
        }
    }

    /// Starts the next generation: of the members that are there, or empty.
    pub fn next_generation(&mut self, now: Millis) {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.assignment_write = None;
        self.member_added = false;
        for member in self.members.values_mut() {
            member.pending_sync = false;
        }
        let state = if self.members.is_empty() { GroupState::Empty } else { GroupState::CompletingRebalance };
        self.protocol = self.select_protocol();
        self.subscribed_topics = self.compute_subscribed_topics();
        self.transition(state, now);
    }

    fn compute_subscribed_topics(&self) -> Option<BTreeSet<Arc<str>>> {
        if !self.is_consumer_group() {
            return None;
        }
        let Some(protocol) = self.protocol.as_deref().filter(|_| !self.members.is_empty()) else {
            return self.members.is_empty().then(BTreeSet::new);
        };
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(consumer_protocol::subscribed_topics(&member.metadata(protocol))?);
        }
        Some(topics)
    }

    /// All members with their metadata of the chosen protocol, for the leader to assign.
    pub fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or("");
        self.members.values().map(|member| member.joined(protocol)).collect()
    }

    /// The group as a record, with assignments from `assignment`.
    pub fn to_value(&self, assignment: impl Fn(&Member) -> Bytes) -> GroupValue {
        let protocol = self.protocol.as_deref().unwrap_or("");
        GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_else(|| "".into()),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp: self.state_since.unwrap_or(-1),
            members: self.members.values().map(|member| member.to_value(protocol, assignment(member))).collect(),
        }
    }

    /// Nothing refers to this group and nothing of it was ever stored.
    pub fn is_void(&self) -> bool {
        self.is(GroupState::Empty)
            && self.generation == 0
            && self.members.is_empty()
            && self.pending_members.is_empty()
            && self.offsets.is_empty()
    }

    /// The invariants; panics when one is broken. For tests and simulators.
    pub fn check(&self) {
        let awaiting = self.members.values().filter(|member| member.is_awaiting_join()).count();
        assert_eq!(awaiting, self.awaiting_join, "joins held");
        let mut supported: HashMap<Arc<str>, usize> = HashMap::new();
        for member in self.members.values() {
            for name in member.protocols.iter().map(|protocol| protocol.name.clone()).collect::<BTreeSet<_>>() {
                *supported.entry(name).or_default() += 1;
            }
            if let Some(instance_id) = &member.instance_id {
                assert_eq!(self.static_members.get(instance_id), Some(&member.id), "instance {instance_id}");
            }
            assert!(!self.pending_members.contains(&member.id), "{} is pending and a member", member.id);
        }
        assert_eq!(supported, self.supported, "protocol counts");
        assert_eq!(self.static_members.len(), self.members.values().filter(|member| member.is_static()).count());
        assert_eq!(self.leader.is_none(), self.members.is_empty(), "a leader if and only if there are members");
        assert!(self.leader.as_ref().is_none_or(|leader| self.members.contains_key(leader)), "the leader is a member");
        match self.state {
            GroupState::Empty => assert!(self.members.is_empty()),
            GroupState::Stable | GroupState::CompletingRebalance => assert!(!self.members.is_empty()),
            GroupState::PreparingRebalance | GroupState::Dead => {}
        }
    }
}
