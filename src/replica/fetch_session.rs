//! Incremental fetch sessions (KIP-227, class `FetchSessionCache`): a client that fetches the same partitions again and again
//! sends and gets only what changed.
//!
//! Invariants: a session answers each epoch once, in order; a reply leaves out only partitions whose client already knows all
//! that the reply would say; the number of sessions is bounded.

use crate::base::{ErrorCode, LeaderEpoch, Millis, TopicId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A session idle for this long may be evicted by anyone; a younger one only by nobody.
const EVICTABLE_AFTER_MS: Millis = 120_000;

const FINAL_EPOCH: i32 = -1;
const INITIAL_EPOCH: i32 = 0;
const NO_SESSION: i32 = 0;

/// A partition as a fetch asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// Empty while the id is not known to this broker.
    pub topic: Arc<str>,
    /// Zero below version 13.
    pub topic_id: TopicId,
    pub partition: i32,
    pub current_leader_epoch: LeaderEpoch,
    pub fetch_offset: i64,
    pub last_fetched_epoch: LeaderEpoch,
    /// Log start of a follower; -1 for consumers.
    pub log_start_offset: i64,
    pub max_bytes: i32,
}

/// What identifies a partition within a session: the id from version 13 on, the name before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Id(TopicId, i32),
    Name(Arc<str>, i32),
}

impl Key {
    fn of(topic: &Arc<str>, id: TopicId, partition: i32) -> Key {
        if id.is_zero() { Key::Name(topic.clone(), partition) } else { Key::Id(id, partition) }
    }
}

/// What the request's header says of sessions.
#[derive(Clone, Copy, Debug)]
pub struct SessionRequest {
    pub session_id: i32,
    pub session_epoch: i32,
    pub uses_topic_ids: bool,
    pub from_follower: bool,
}

/// What a reply would say of a partition, as far as it decides whether it is said at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    pub error: ErrorCode,
    pub has_records: bool,
    pub high_watermark: i64,
    pub log_start_offset: i64,
    /// A diverging epoch or a preferred replica.
    pub has_hint: bool,
}

struct Cached {
    partition: FetchPartition,
    order: u64,
    high_watermark: i64,
    log_start_offset: i64,
}

struct Session {
    id: i32,
    /// The next one expected.
    epoch: i32,
    uses_topic_ids: bool,
    privileged: bool,
    created_ms: Millis,
    last_used_ms: Millis,
    cached: HashMap<Key, Cached>,
    /// Partitions in the order in which they are read: those that just got data come last.
    order: BTreeMap<u64, Key>,
    next_order: u64,
}

impl Session {
    fn put(&mut self, partition: FetchPartition) {
        let key = Key::of(&partition.topic, partition.topic_id, partition.partition);
        if let Some(cached) = self.cached.get_mut(&key) {
            cached.partition = partition;
            return;
        }
        let order = self.next_order;
        self.next_order += 1;
        self.order.insert(order, key.clone());
        self.cached.insert(key, Cached { partition, order, high_watermark: -1, log_start_offset: -1 });
    }

    fn forget(&mut self, key: &Key) {
        if let Some(cached) = self.cached.remove(key) {
            self.order.remove(&cached.order);
        }
    }

    /// Whether the reply says anything new of the partition; remembers it if so.
    fn say(&mut self, partition: &FetchPartition, said: Said) -> bool {
        let key = Key::of(&partition.topic, partition.topic_id, partition.partition);
        let next_order = self.next_order;
        let Some(cached) = self.cached.get_mut(&key) else { return true };
        let changed = said.has_records
            || said.has_hint
            || said.error.is_error()
            || cached.high_watermark != said.high_watermark
            || cached.log_start_offset != said.log_start_offset;
        cached.high_watermark = said.high_watermark;
        cached.log_start_offset = said.log_start_offset;
        if said.error.is_error() {
            // So that the first success after an error is said.
            cached.high_watermark = -1;
        }
        if said.has_records {
            self.order.remove(&cached.order);
            cached.order = next_order;
            self.order.insert(next_order, key);
            self.next_order += 1;
        }
        changed
    }

    fn partitions(&self) -> Vec<FetchPartition> {
        self.order.values().filter_map(|key| self.cached.get(key)).map(|cached| cached.partition.clone()).collect()
    }
}

/// How one fetch request relates to a session.
pub enum FetchContext {
    /// No session, and none wanted.
    Sessionless,
    /// All partitions are in the request; a session is to be made of them.
    Full {
        request: SessionRequest,
        partitions: Vec<FetchPartition>,
    },
    Incremental(SessionHandle),
}

pub struct SessionHandle(Arc<Mutex<Session>>);

#[derive(Default)]
struct Sessions {
    by_id: HashMap<i32, Arc<Mutex<Session>>>,
}

/// All sessions of this broker.
pub struct FetchSessionCache {
    slots: usize,
    sessions: Mutex<Sessions>,
}

impl FetchSessionCache {
    /// `slots` is `max.incremental.fetch.session.cache.slots`; 0 turns sessions off.
    pub fn new(slots: usize) -> FetchSessionCache {
        FetchSessionCache { slots, sessions: Mutex::default() }
    }

    pub fn len(&self) -> usize {
        self.sessions.lock().by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Finds out what to read: the request's own partitions, or those of its session with the request's changes. Errors:
    /// FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR.
    pub fn begin(
        &self,
        now: Millis,
        request: SessionRequest,
        partitions: Vec<FetchPartition>,
        forgotten: &[(Arc<str>, TopicId, i32)],
        resolve: impl Fn(TopicId) -> Option<Arc<str>>,
    ) -> Result<(FetchContext, Vec<FetchPartition>), ErrorCode> {
        if request.session_epoch == FINAL_EPOCH || request.session_epoch == INITIAL_EPOCH {
            if request.session_id != NO_SESSION {
                self.sessions.lock().by_id.remove(&request.session_id);
            }
            if request.session_epoch == FINAL_EPOCH {
                return Ok((FetchContext::Sessionless, partitions));
            }
            return Ok((FetchContext::Full { request, partitions: partitions.clone() }, partitions));
        }
        let found = self.sessions.lock().by_id.get(&request.session_id).cloned();
        let handle = found.ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let mut session = handle.lock();
        if session.epoch != request.session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.uses_topic_ids != request.uses_topic_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        for partition in partitions {
            session.put(partition);
        }
        for (topic, id, partition) in forgotten {
            session.forget(&Key::of(topic, *id, *partition));
        }
        session.last_used_ms = now;
        session.epoch = next_epoch(session.epoch);
        for cached in session.cached.values_mut().filter(|cached| cached.partition.topic.is_empty()) {
            cached.partition.topic = resolve(cached.partition.topic_id).unwrap_or_default();
        }
        let all = session.partitions();
        drop(session);
        Ok((FetchContext::Incremental(SessionHandle(handle)), all))
    }

    /// Ends a request: the session id for the reply, and for each of `said`, in the same order, whether the reply contains it.
    pub fn finish(
        &self,
        now: Millis,
        context: &FetchContext,
        said: &[(FetchPartition, Said)],
        random_id: impl FnMut() -> i32,
    ) -> (i32, Vec<bool>) {
        match context {
            FetchContext::Sessionless => (NO_SESSION, vec![true; said.len()]),
            FetchContext::Full { request, partitions } => {
                let id = self.create(now, *request, partitions, said, random_id);
                (id.unwrap_or(NO_SESSION), vec![true; said.len()])
            }
            FetchContext::Incremental(handle) => {
                let mut session = handle.0.lock();
                let contained = said.iter().map(|(partition, said)| session.say(partition, *said)).collect();
                (session.id, contained)
            }
        }
    }

    fn create(
        &self,
        now: Millis,
        request: SessionRequest,
        partitions: &[FetchPartition],
        said: &[(FetchPartition, Said)],
        mut random_id: impl FnMut() -> i32,
    ) -> Option<i32> {
        if self.slots == 0 || partitions.is_empty() {
            return None;
        }
        let mut sessions = self.sessions.lock();
        if sessions.by_id.len() >= self.slots {
            let rank = (request.from_follower, partitions.len());
            let victim = sessions.evictable(now, rank)?;
            sessions.by_id.remove(&victim);
        }
        let id = loop {
            let id = random_id() & i32::MAX;
            if id != NO_SESSION && !sessions.by_id.contains_key(&id) {
                break id;
            }
        };
        let mut session = Session {
            id,
            epoch: next_epoch(INITIAL_EPOCH),
            uses_topic_ids: request.uses_topic_ids,
            privileged: request.from_follower,
            created_ms: now,
            last_used_ms: now,
            cached: HashMap::new(),
            order: BTreeMap::new(),
            next_order: 0,
        };
        for partition in partitions {
            session.put(partition.clone());
        }
        for (partition, said) in said {
            session.say(partition, *said);
        }
        sessions.by_id.insert(id, Arc::new(Mutex::new(session)));
        Some(id)
    }
}

impl Sessions {
    /// The session that makes room for one of the given rank: an idle one, or an old enough one of lower rank.
    fn evictable(&self, now: Millis, rank: (bool, usize)) -> Option<i32> {
        let facts = self.by_id.values().map(|session| {
            let session = session.lock();
            (session.last_used_ms, session.created_ms, (session.privileged, session.cached.len()), session.id)
        });
        let facts: Vec<_> = facts.collect();
        let idle = facts.iter().filter(|fact| now - fact.0 > EVICTABLE_AFTER_MS).min();
        let lesser = facts.iter().filter(|fact| now - fact.1 > EVICTABLE_AFTER_MS && fact.2 < rank);
        idle.or_else(|| lesser.min_by_key(|fact| fact.2)).map(|fact| fact.3)
    }
}

fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(partition: i32, offset: i64) -> FetchPartition {
        FetchPartition {
            topic: "t".into(),
            topic_id: TopicId::ZERO,
            partition,
            current_leader_epoch: LeaderEpoch::NONE,
            fetch_offset: offset,
            last_fetched_epoch: LeaderEpoch::NONE,
            log_start_offset: -1,
            max_bytes: 1,
        }
    }

    fn said(records: bool, high_watermark: i64) -> Said {
        Said { error: ErrorCode::None, has_records: records, high_watermark, log_start_offset: 0, has_hint: false }
    }

    fn request(id: i32, epoch: i32) -> SessionRequest {
        SessionRequest { session_id: id, session_epoch: epoch, uses_topic_ids: false, from_follower: false }
    }

    fn open(cache: &FetchSessionCache, now: Millis, partitions: i32) -> i32 {
        let all = (0..partitions).map(|partition| wanted(partition, 0)).collect();
        let (context, read) = cache.begin(now, request(0, 0), all, &[], |_| None).expect("full fetch");
        let said: Vec<_> = read.into_iter().map(|partition| (partition, said(false, 5))).collect();
        let mut next = now as i32;
        let (id, contained) = cache.finish(now, &context, &said, || {
            next += 1;
            next
        });
        assert!(contained.iter().all(|one| *one));
        id
    }

    #[test]
    fn an_incremental_reply_says_only_what_changed_and_moves_data_to_the_end() {
        let cache = FetchSessionCache::new(10);
        let id = open(&cache, 0, 3);
        let (context, read) = cache.begin(1, request(id, 1), vec![], &[], |_| None).expect("known session");
        let numbers: Vec<i32> = read.iter().map(|partition| partition.partition).collect();
        assert_eq!(numbers, [0, 1, 2]);
        let reply = [(wanted(0, 0), said(true, 5)), (wanted(1, 0), said(false, 5)), (wanted(2, 0), said(false, 6))];
        assert_eq!(cache.finish(1, &context, &reply, || 0), (id, vec![true, false, true]));
        let (_, read) = cache.begin(2, request(id, 2), vec![], &[], |_| None).expect("known session");
        let numbers: Vec<i32> = read.iter().map(|partition| partition.partition).collect();
        assert_eq!(numbers, [1, 2, 0]);
    }

    #[test]
    fn an_error_makes_the_next_success_be_said() {
        let cache = FetchSessionCache::new(10);
        let id = open(&cache, 0, 1);
        let failed = Said { error: ErrorCode::NotLeaderOrFollower, ..said(false, 5) };
        let (context, _) = cache.begin(1, request(id, 1), vec![], &[], |_| None).expect("known session");
        assert_eq!(cache.finish(1, &context, &[(wanted(0, 0), failed)], || 0).1, [true]);
        let (context, _) = cache.begin(2, request(id, 2), vec![], &[], |_| None).expect("known session");
        assert_eq!(cache.finish(2, &context, &[(wanted(0, 0), said(false, 5))], || 0).1, [true]);
    }

    #[test]
    fn epochs_ids_and_topic_ids_are_checked() {
        let cache = FetchSessionCache::new(10);
        let id = open(&cache, 0, 1);
        let begin = |request| cache.begin(1, request, vec![], &[], |_| None).map(|_| ()).err();
        assert_eq!(begin(request(id + 1, 1)), Some(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(begin(request(id, 2)), Some(ErrorCode::InvalidFetchSessionEpoch));
        let with_ids = SessionRequest { uses_topic_ids: true, ..request(id, 1) };
        assert_eq!(begin(with_ids), Some(ErrorCode::FetchSessionTopicIdError));
        assert_eq!(begin(request(id, 1)), None);
        assert_eq!(begin(request(id, -1)), None);
        assert_eq!(begin(request(id, 2)), Some(ErrorCode::FetchSessionIdNotFound));
    }

    #[test]
    fn forgotten_partitions_are_not_read() {
        let cache = FetchSessionCache::new(10);
        let id = open(&cache, 0, 2);
        let forgotten = [(Arc::from("t"), TopicId::ZERO, 0)];
        let (_, read) =
            cache.begin(1, request(id, 1), vec![wanted(1, 9)], &forgotten, |_| None).expect("known session");
        assert_eq!(read, [wanted(1, 9)]);
    }

    #[test]
    fn sessions_are_bounded_and_only_old_ones_make_room() {
        let cache = FetchSessionCache::new(2);
        assert!(open(&cache, 0, 1) != 0 && open(&cache, 1, 1) != 0);
        assert_eq!(open(&cache, 2, 1), NO_SESSION);
        assert!(open(&cache, EVICTABLE_AFTER_MS + 1, 1) != 0);
        assert_eq!(cache.len(), 2);
        assert_eq!(next_epoch(i32::MAX), 1);
    }
}
