//! A shard with a clock and a log of its own, driven by hand.

use crate::mistake::{self, Mistake};
use bytes::Bytes;
use ottla::base::ErrorCode;
use ottla::group::message::{
    Batch, CommitRequest, CommitTopic, Effect, Event, FetchTopics, HeartbeatRequest, JoinRequest, JoinResponse,
    LeaveRequest, LeavingMember, Now, OffsetDeleteRequest, Protocol, ReplyToken, Response, SyncRequest, SyncResponse,
    WriteToken,
};
use ottla::group::records::{CoordinatorRecord, OffsetValue};
use ottla::group::{GroupConfig, GroupShard};
use ottla::record::Compression;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

pub const GROUP: &str = "g";
pub const SESSION_MS: i32 = 10_000;
pub const REBALANCE_MS: i32 = 60_000;

pub fn config() -> GroupConfig {
    GroupConfig {
        min_session_timeout_ms: 6_000,
        max_session_timeout_ms: 1_800_000,
        initial_rebalance_delay_ms: 3_000,
        max_size: usize::MAX,
        offset_metadata_max_bytes: 16,
        offsets_retention_ms: 7 * 24 * 3600 * 1000,
        offsets_retention_check_interval_ms: 600_000,
        commit_timeout_ms: 5_000,
        compression: Compression::None,
    }
}

/// What a member says when it joins; tests change what they are about.
#[derive(Clone)]
pub struct Joining {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub protocols: Vec<(String, Bytes)>,
    pub protocol_type: String,
    pub session_ms: i32,
    pub rebalance_ms: i32,
    pub require_known_id: bool,
    pub skip_assignment: bool,
    /// The id that the driver draws; counted if empty.
    pub new_id: String,
}

impl Joining {
    /// A dynamic member of a consumer group that has no id yet, as old clients join: without the second round for the id.
    pub fn new() -> Joining {
        Joining {
            member_id: String::new(),
            instance_id: None,
            protocols: vec![("range".into(), subscription(&["t"]))],
            protocol_type: "consumer".into(),
            session_ms: SESSION_MS,
            rebalance_ms: REBALANCE_MS,
            require_known_id: false,
            skip_assignment: false,
            new_id: String::new(),
        }
    }

    pub fn id(member_id: &str) -> Joining {
        Joining { member_id: member_id.into(), ..Joining::new() }
    }

    pub fn instance(instance_id: &str) -> Joining {
        Joining { instance_id: Some(instance_id.into()), ..Joining::new() }
    }

    pub fn protocols(mut self, names: &[&str]) -> Joining {
        self.protocols = names.iter().map(|name| (name.to_string(), subscription(&["t"]))).collect();
        self
    }
}

/// A consumer subscription of version 0.
pub fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 0, 0, 0, 0, topics.len() as u8];
    for topic in topics {
        bytes.extend([0, topic.len() as u8]);
        bytes.extend(topic.as_bytes());
    }
    bytes.extend([0xff, 0xff, 0xff, 0xff]);
    bytes.into()
}

#[derive(Clone)]
pub struct Harness {
    pub shard: GroupShard,
    pub now_ms: i64,
    /// What has been appended, with offsets.
    pub log: Vec<(i64, CoordinatorRecord)>,
    next_offset: i64,
    replies: HashMap<u64, Response>,
    last_token: u64,
    /// Appends wait for `complete`.
    pub hold_appends: bool,
    pub pending: VecDeque<(WriteToken, Arc<Batch>)>,
    ids: u32,
    config: GroupConfig,
    /// What this coordinator does wrong.
    pub mistake: Option<Mistake>,
}

impl Harness {
    pub fn new() -> Harness {
        Harness::with(config())
    }

    pub fn with(config: GroupConfig) -> Harness {
        let mut harness = Harness {
            shard: GroupShard::new(Arc::new(config.clone())),
            now_ms: 1_000_000,
            log: Vec::new(),
            next_offset: 0,
            replies: HashMap::new(),
            last_token: 0,
            hold_appends: false,
            pending: VecDeque::new(),
            ids: 0,
            config,
            mistake: None,
        };
        let mut effects = Vec::new();
        harness.shard.finish_loading(harness.now(), &mut effects);
        harness.carry_out(effects);
        harness
    }

    /// The same clocks for both: tests need no difference.
    pub fn now(&self) -> Now {
        Now { monotonic_ms: self.now_ms, wall_ms: self.now_ms }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply(token, response) => {
                    // A request that is answered at once is the newest one.
                    let is_late = token.0 < self.last_token;
                    let Some(response) = mistake::in_answer(self.mistake, response, is_late) else { continue };
                    let before = self.replies.insert(token.0, response);
                    assert!(before.is_none(), "two replies for {token:?}");
                }
                Effect::Append(token, batch) => {
                    self.pending.push_back((token, batch));
                    if !self.hold_appends {
                        self.complete(Ok(()));
                    }
                }
            }
        }
        self.shard.groups().for_each(|group| group.check());
    }

    /// Ends the oldest append.
    pub fn complete(&mut self, result: Result<(), ErrorCode>) {
        let (token, batch) = self.pending.pop_front().expect("an append is under way");
        let (result, is_written) = mistake::in_append(self.mistake, result);
        let result = result.map(|()| self.next_offset);
        if let Ok(offset) = result {
            for (offset, record) in (offset..).zip(&batch.records) {
                if is_written {
                    self.log.push((offset, record.clone()));
                }
                self.next_offset = offset + 1;
            }
        }
        drop(batch);
        self.event(Event::Appended(token, result));
    }

    /// Ends the oldest append with an error, although its records are in the log.
    pub fn complete_unheard(&mut self, error: ErrorCode) {
        let (token, batch) = self.pending.pop_front().expect("an append is under way");
        for record in &batch.records {
            self.log.push((self.next_offset, record.clone()));
            self.next_offset += 1;
        }
        self.event(Event::Appended(token, Err(error)));
    }

    pub fn event(&mut self, event: Event) {
        let event = mistake::in_event(self.mistake, &self.shard, event);
        let mut effects = Vec::new();
        self.shard.step(self.now(), event, &mut effects);
        self.carry_out(effects);
    }

    fn request(&mut self, make: impl FnOnce(ReplyToken) -> Event) -> u64 {
        self.last_token += 1;
        let token = self.last_token;
        self.event(make(ReplyToken(token)));
        token
    }

    /// Lets time pass, with a tick at every deadline.
    pub fn advance(&mut self, ms: i64) {
        let end = self.now_ms + ms;
        let has_timers = self.mistake != Some(Mistake::TimersStop);
        while let Some(next) = self.shard.next_deadline().filter(|next| has_timers && *next <= end) {
            self.now_ms = self.now_ms.max(next);
            self.event(Event::Tick);
        }
        self.now_ms = end;
    }

    /// What another coordinator reads from the log.
    pub fn loaded(&self) -> GroupShard {
        let mut shard = GroupShard::new(Arc::new(self.config.clone()));
        for (offset, record) in mistake::in_loading(self.mistake, &self.log).iter() {
            shard.replay(self.now(), record.clone(), *offset, None);
        }
        shard
    }

    /// Another coordinator takes over from the log.
    pub fn reload(&mut self) {
        let shard = self.loaded();
        let old = std::mem::replace(&mut self.shard, shard);
        let mut effects = Vec::new();
        old.unload(&mut effects);
        self.pending.clear();
        self.carry_out(effects);
        if self.mistake == Some(Mistake::LoadingNeverEnds) {
            return;
        }
        let mut effects = Vec::new();
        self.shard.finish_loading(self.now(), &mut effects);
        self.carry_out(effects);
    }

    pub fn take(&mut self, token: u64) -> Option<Response> {
        self.replies.remove(&token)
    }

    pub fn is_held(&self, token: u64) -> bool {
        !self.replies.contains_key(&token)
    }

    pub fn send_join(&mut self, joining: Joining) -> u64 {
        self.ids += 1;
        let new_member_id = match joining.new_id.as_str() {
            "" => format!("m{}", self.ids),
            drawn => drawn.to_owned(),
        };
        let protocols = joining.protocols.iter();
        let request = JoinRequest {
            group: GROUP.into(),
            member_id: joining.member_id.as_str().into(),
            instance_id: joining.instance_id.as_deref().map(Arc::from),
            new_member_id: new_member_id.into(),
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: joining.session_ms,
            rebalance_timeout_ms: joining.rebalance_ms,
            protocol_type: joining.protocol_type.as_str().into(),
            protocols: protocols
                .map(|(name, metadata)| Protocol { name: name.as_str().into(), metadata: metadata.clone() })
                .collect(),
            require_known_member_id: joining.require_known_id,
            supports_skip_assignment: joining.skip_assignment,
        };
        self.request(|token| Event::Join(token, request))
    }

    pub fn joined(&mut self, token: u64) -> JoinResponse {
        match self.take(token) {
            Some(Response::Join(response)) => response,
            other => panic!("no join reply but {other:?}"),
        }
    }

    pub fn send_sync(&mut self, member: &str, generation: i32, assignments: &[(&str, &str)]) -> u64 {
        let request = SyncRequest {
            group: GROUP.into(),
            generation,
            member_id: member.into(),
            instance_id: None,
            protocol_type: None,
            protocol: None,
            assignments: assignments
                .iter()
                .map(|(member, assignment)| (Arc::from(*member), Bytes::copy_from_slice(assignment.as_bytes())))
                .collect(),
        };
        self.request(|token| Event::Sync(token, request))
    }

    pub fn synced(&mut self, token: u64) -> SyncResponse {
        match self.take(token) {
            Some(Response::Sync(response)) => response,
            other => panic!("no sync reply but {other:?}"),
        }
    }

    pub fn heartbeat(&mut self, member: &str, generation: i32) -> ErrorCode {
        self.heartbeat_as(member, None, generation)
    }

    pub fn heartbeat_as(&mut self, member: &str, instance: Option<&str>, generation: i32) -> ErrorCode {
        let request = HeartbeatRequest {
            group: GROUP.into(),
            generation,
            member_id: member.into(),
            instance_id: instance.map(Arc::from),
        };
        let token = self.request(|token| Event::Heartbeat(token, request));
        match self.take(token) {
            Some(Response::Heartbeat(error)) => error,
            other => panic!("no heartbeat reply but {other:?}"),
        }
    }

    /// Members by id and instance; an empty id is an administrator's removal.
    pub fn leave(&mut self, members: &[(&str, Option<&str>)]) -> Vec<ErrorCode> {
        let members = members
            .iter()
            .map(|(id, instance)| LeavingMember { member_id: (*id).into(), instance_id: instance.map(Arc::from) })
            .collect();
        let token = self.request(|token| Event::Leave(token, LeaveRequest { group: GROUP.into(), members }));
        match self.take(token) {
            Some(Response::Leave(response)) => {
                assert_eq!(response.error, ErrorCode::None);
                response.members
            }
            other => panic!("no leave reply but {other:?}"),
        }
    }

    pub fn send_commit(&mut self, member: &str, generation: i32, offsets: &[(&str, i32, i64)]) -> u64 {
        let values = offsets.iter().map(|(topic, partition, offset)| (*topic, *partition, self.value(*offset)));
        let values: Vec<_> = values.collect();
        self.send_commit_values(member, generation, values)
    }

    pub fn value(&self, offset: i64) -> OffsetValue {
        OffsetValue {
            offset,
            leader_epoch: -1,
            metadata: "".into(),
            commit_timestamp: self.now_ms,
            expire_timestamp: None,
        }
    }

    pub fn send_commit_values(&mut self, member: &str, generation: i32, values: Vec<(&str, i32, OffsetValue)>) -> u64 {
        let topics = values
            .into_iter()
            .map(|(topic, partition, value)| CommitTopic { topic: topic.into(), partitions: vec![(partition, value)] })
            .collect();
        let request = CommitRequest {
            group: GROUP.into(),
            generation,
            member_id: member.into(),
            instance_id: None,
            topics,
            transaction: None,
        };
        self.request(|token| Event::Commit(token, request))
    }

    pub fn committed(&mut self, token: u64) -> Vec<ErrorCode> {
        match self.take(token) {
            Some(Response::Commit(response)) => response.errors,
            other => panic!("no commit reply but {other:?}"),
        }
    }

    pub fn commit(&mut self, member: &str, generation: i32, offsets: &[(&str, i32, i64)]) -> Vec<ErrorCode> {
        let token = self.send_commit(member, generation, offsets);
        self.committed(token)
    }

    pub fn delete_group(&mut self) -> ErrorCode {
        let token = self.request(|token| Event::DeleteGroup(token, GROUP.into()));
        match self.take(token) {
            Some(Response::DeleteGroup(error)) => error,
            other => panic!("no reply but {other:?}"),
        }
    }

    pub fn delete_offsets(&mut self, partitions: &[(&str, i32)]) -> (ErrorCode, Vec<ErrorCode>) {
        let partitions = partitions.iter().map(|(topic, partition)| (Arc::from(*topic), *partition)).collect();
        let request = OffsetDeleteRequest { group: GROUP.into(), partitions };
        let token = self.request(|token| Event::OffsetDelete(token, request));
        match self.take(token) {
            Some(Response::OffsetDelete(response)) => (response.error, response.partitions),
            other => panic!("no reply but {other:?}"),
        }
    }

    /// All committed offsets.
    pub fn offsets(&self) -> BTreeMap<(String, i32), i64> {
        let fetched = self.shard.fetch_offsets(GROUP, &FetchTopics::All, false);
        let offsets = fetched.topics.iter().flat_map(|(topic, offsets)| offsets.iter().map(move |o| (topic, o)));
        offsets.map(|(topic, offset)| ((topic.to_string(), offset.partition), offset.offset)).collect()
    }

    pub fn state(&self) -> &'static str {
        self.shard.group(GROUP).map_or("Dead", |group| group.state().name())
    }

    pub fn members(&self) -> Vec<String> {
        self.shard.group(GROUP).map_or(Vec::new(), |group| group.members().map(|m| m.id.to_string()).collect())
    }

    /// A stable group of dynamic members, made in one rebalance. Returns their ids, the leader first, and the generation.
    pub fn stable(&mut self, joining: &[Joining]) -> (Vec<String>, i32) {
        let tokens: Vec<u64> = joining.iter().map(|joining| self.send_join(joining.clone())).collect();
        while tokens.iter().any(|token| self.is_held(*token)) {
            self.advance(1_000);
        }
        let joined: Vec<JoinResponse> = tokens.iter().map(|token| self.joined(*token)).collect();
        let leader = joined[0].leader.to_string();
        let mut ids: Vec<String> = joined.iter().map(|joined| joined.member_id.to_string()).collect();
        ids.sort_by_key(|id| *id != leader);
        let assignments: Vec<(String, String)> = ids.iter().map(|id| (id.clone(), format!("a-{id}"))).collect();
        let assignments: Vec<(&str, &str)> = assignments.iter().map(|(id, a)| (id.as_str(), a.as_str())).collect();
        let generation = joined[0].generation;
        for id in &ids {
            let given = if *id == leader { assignments.as_slice() } else { &[] };
            let token = self.send_sync(id, generation, given);
            if !self.is_held(token) {
                assert_eq!(self.synced(token).assignment, format!("a-{id}"));
            }
        }
        assert_eq!(self.state(), "Stable");
        (ids, generation)
    }
}
