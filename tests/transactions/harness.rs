//! A shard with a clock and a log of its own, driven by hand.

use ottla::base::{ErrorCode, ProducerEpoch, ProducerId, TopicPartition};
use ottla::transaction::message::{
    AddRequest, Batch, Effect, EndRequest, Errand, Event, InitRequest, InitResponse, Marker, MarkerOutcome,
    MarkersToken, Now, ReplyToken, Response, WriteToken,
};
use ottla::transaction::records::TransactionRecord;
use ottla::transaction::{TransactionConfig, TransactionShard};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

pub const ID: &str = "t";
pub const TIMEOUT_MS: i32 = 60_000;

pub fn config() -> TransactionConfig {
    TransactionConfig {
        max_timeout_ms: 900_000,
        id_expiration_ms: 7 * 24 * 3_600_000,
        abort_interval_ms: 10_000,
        expiry_interval_ms: 3_600_000,
        marker_retry_ms: 50,
    }
}

pub fn partition(name: &str) -> TopicPartition {
    TopicPartition::new(name, 0)
}

/// Who a producer says it is.
pub type Who = (ProducerId, ProducerEpoch);

pub struct Sent {
    pub token: MarkersToken,
    pub id: Arc<str>,
    pub marker: Marker,
    pub partitions: Vec<TopicPartition>,
}

pub struct Harness {
    pub shard: TransactionShard,
    pub now_ms: i64,
    pub log: Vec<TransactionRecord>,
    pub replies: HashMap<u64, Response>,
    last_token: u64,
    /// Appends wait for `complete`.
    pub hold_appends: bool,
    pub pending: VecDeque<(WriteToken, Batch)>,
    pub sent: VecDeque<Sent>,
    next_producer_id: i64,
}

impl Harness {
    pub fn new() -> Harness {
        let mut harness = Harness {
            shard: TransactionShard::new(Arc::new(config()), 0),
            now_ms: 1_000_000,
            log: Vec::new(),
            replies: HashMap::new(),
            last_token: 0,
            hold_appends: false,
            pending: VecDeque::new(),
            sent: VecDeque::new(),
            next_producer_id: 100,
        };
        harness.load(0);
        harness
    }

    fn now(&self) -> Now {
        Now { monotonic_ms: self.now_ms, wall_ms: self.now_ms }
    }

    /// A coordinator of this epoch takes over from the log.
    pub fn load(&mut self, epoch: i32) {
        let mut shard = TransactionShard::new(Arc::new(config()), epoch);
        for record in &self.log {
            shard.replay(self.now(), record.clone());
        }
        let mut effects = Vec::new();
        std::mem::replace(&mut self.shard, shard).unload(&mut effects);
        self.pending.clear();
        self.sent.clear();
        self.carry_out(effects);
        let mut effects = Vec::new();
        self.shard.finish_loading(self.now(), &mut effects);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply(token, response) => {
                    let before = self.replies.insert(token.0, response);
                    assert!(before.is_none(), "two replies for {token:?}");
                }
                Effect::Append(token, batch) => {
                    self.pending.push_back((token, batch));
                    if !self.hold_appends {
                        self.complete(Ok(()));
                    }
                }
                Effect::Errand(Errand::Allocate(token, request)) => {
                    self.next_producer_id += 1;
                    self.event(Event::Init(token, request, Some(ProducerId(self.next_producer_id))));
                }
                Effect::Errand(Errand::Send(token, id, marker, partitions)) => {
                    self.sent.push_back(Sent { token, id, marker, partitions });
                }
            }
        }
    }

    /// Ends the oldest append.
    pub fn complete(&mut self, result: Result<(), ErrorCode>) {
        let (token, batch) = self.pending.pop_front().expect("an append is under way");
        if result.is_ok() {
            self.log.extend(batch.records);
        }
        self.event(Event::Appended(token, result));
    }

    pub fn event(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.shard.step(self.now(), event, &mut effects);
        self.carry_out(effects);
    }

    fn request(&mut self, make: impl FnOnce(ReplyToken) -> Event) -> u64 {
        self.last_token += 1;
        self.event(make(ReplyToken(self.last_token)));
        self.last_token
    }

    /// Lets time pass, with a tick at every deadline.
    pub fn advance(&mut self, ms: i64) {
        let end = self.now_ms + ms;
        while let Some(next) = self.shard.next_deadline().filter(|next| *next <= end) {
            self.now_ms = self.now_ms.max(next);
            self.event(Event::Tick);
        }
        self.now_ms = end;
    }

    /// Every marker that was sent is written.
    pub fn write_markers(&mut self) {
        while let Some(sent) = self.sent.pop_front() {
            self.answer(sent, MarkerOutcome::Written);
        }
    }

    pub fn answer(&mut self, sent: Sent, outcome: MarkerOutcome) {
        let outcomes = sent.partitions.into_iter().map(|partition| (partition, outcome)).collect();
        self.event(Event::Markers(sent.token, sent.id, outcomes));
    }

    pub fn send_init(&mut self, timeout_ms: i32, expected: Option<Who>) -> u64 {
        let request = InitRequest { id: ID.into(), timeout_ms, expected };
        self.request(|token| Event::Init(token, request, None))
    }

    pub fn init_as(&mut self, expected: Option<Who>) -> InitResponse {
        let token = self.send_init(TIMEOUT_MS, expected);
        self.inited(token)
    }

    pub fn inited(&mut self, token: u64) -> InitResponse {
        match self.replies.remove(&token) {
            Some(Response::Init(response)) => response,
            other => panic!("no answer to InitProducerId but {other:?}"),
        }
    }

    pub fn init(&mut self) -> Who {
        self.init_as(None).expect("a producer id")
    }

    pub fn send_add(&mut self, who: Who, names: &[&str]) -> u64 {
        let request = self.adding(who, names);
        self.request(|token| Event::Add(token, request))
    }

    fn adding(&self, (producer_id, producer_epoch): Who, names: &[&str]) -> AddRequest {
        let partitions = names.iter().map(|name| partition(name)).collect();
        AddRequest { id: ID.into(), producer_id, producer_epoch, partitions }
    }

    pub fn add(&mut self, who: Who, names: &[&str]) -> ErrorCode {
        let token = self.send_add(who, names);
        self.done(token)
    }

    pub fn verify(&self, who: Who, names: &[&str]) -> Vec<ErrorCode> {
        self.shard.verify(&self.adding(who, names))
    }

    pub fn send_end(&mut self, (producer_id, producer_epoch): Who, commit: bool) -> u64 {
        let request = EndRequest { id: ID.into(), producer_id, producer_epoch, commit };
        self.request(|token| Event::End(token, request))
    }

    pub fn end(&mut self, who: Who, commit: bool) -> ErrorCode {
        let token = self.send_end(who, commit);
        self.done(token)
    }

    pub fn done(&mut self, token: u64) -> ErrorCode {
        match self.replies.remove(&token) {
            Some(Response::Done(error)) => error,
            other => panic!("no answer but {other:?}"),
        }
    }

    pub fn is_held(&self, token: u64) -> bool {
        !self.replies.contains_key(&token)
    }

    pub fn status(&self) -> &'static str {
        self.shard.transaction(ID).map_or("none", |transaction| transaction.status().name())
    }

    /// A transaction over `names`, up to before its end.
    pub fn begin(&mut self, names: &[&str]) -> Who {
        let who = self.init();
        assert_eq!(self.add(who, names), ErrorCode::None);
        who
    }
}
