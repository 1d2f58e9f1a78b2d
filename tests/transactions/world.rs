//! The world around a coordinator, small enough to be explored: two producers with one transactional id, two partitions with
//! the rules of a leader, a network that delivers in any order, and faults that a budget bounds.

use super::harness::{ID, TIMEOUT_MS, config};
use super::mistake::{self, Mistake};
use ottla::base::{ErrorCode, ProducerEpoch, ProducerId, TopicPartition};
use ottla::transaction::TransactionShard;
use ottla::transaction::message::{
    AddRequest, Batch, Effect, EndRequest, Errand, Event, InitRequest, Marker, MarkerOutcome, MarkersToken, Now,
    ReplyToken, Response, WriteToken,
};
use ottla::transaction::records::TransactionRecord;
use ottla::transaction::state::{Pending, Status};
use std::collections::VecDeque;
use std::sync::Arc;

pub const PARTITIONS: usize = 2;
const PRODUCER_ID: ProducerId = ProducerId(7);

/// How many faults may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Budget {
    pub crashes: u8,
    pub failed_appends: u8,
    pub time_outs: u8,
    /// Markers whose answer is lost.
    pub lost_answers: u8,
    /// Markers that arrive after the coordinator has given them up.
    pub late_markers: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stage {
    Init,
    Add,
    /// To which partition.
    Write(usize),
    End,
    Done,
    /// It heard something final.
    Dead,
}

/// Init, then transactions: partitions, a write to each, commit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Producer {
    pub stage: Stage,
    pub epoch: ProducerEpoch,
    pub transaction: u8,
    transactions: u8,
    partitions: usize,
    /// Of its request to the coordinator, or true for a write.
    token: Option<u64>,
    is_writing: bool,
    pub asked_to_commit: Vec<u8>,
    pub committed: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Value {
    pub producer: usize,
    pub transaction: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Entry {
    Data(Value),
    Marker { commit: bool },
}

/// A leader, by the rules of the log: epochs, coordinator epochs, verification.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Leader {
    log: Vec<Entry>,
    epoch: i16,
    coordinator_epoch: i32,
    is_open: bool,
    /// The question that is open or answered: its number, the producer's epoch, whether the answer was yes.
    verification: Option<(u8, i16, bool)>,
    questions: u8,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Message {
    Write {
        value: Value,
        epoch: i16,
        partition: usize,
    },
    Verify {
        value: Value,
        epoch: i16,
        partition: usize,
        question: u8,
    },
    Verified {
        value: Value,
        epoch: i16,
        partition: usize,
        question: u8,
        error: i16,
    },
    /// Answered or, if it is late, not.
    Marker {
        coordinator: i32,
        token: u64,
        marker: Marker,
        partition: usize,
        is_late: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub enum Action {
    Step(usize),
    Deliver(usize),
    Complete(Append),
    Crash { written: bool },
    Retry,
    TimeOut,
    LoseAnswer(usize),
    Delay(usize),
}

#[derive(Clone, Copy, Debug)]
pub enum Append {
    Written,
    Failed,
    /// It is in the log, but the coordinator hears that it is not.
    Doubtful,
}

#[derive(Clone)]
pub struct World {
    shard: TransactionShard,
    now_ms: i64,
    /// The newest record of the id is all that loading finds.
    log: Option<TransactionRecord>,
    pending: VecDeque<(WriteToken, Batch)>,
    leaders: [Leader; PARTITIONS],
    pub producers: [Producer; 2],
    network: Vec<Message>,
    budget: Budget,
    tokens: u64,
    /// The highest epoch that a producer got.
    given: i16,
    /// What must not happen and did.
    pub fault: Option<String>,
    /// What is done wrong.
    mistake: Option<Mistake>,
}

fn name(partition: usize) -> TopicPartition {
    TopicPartition::new(format!("p{partition}"), 0)
}

fn number(partition: &TopicPartition) -> usize {
    partition.topic[1..].parse().expect("a partition of this world")
}

impl World {
    /// The first producer makes so many transactions, the second one.
    pub fn new(transactions: u8, budget: Budget) -> World {
        let producer = |transactions, partitions| Producer {
            stage: Stage::Init,
            epoch: ProducerEpoch::NONE,
            transaction: 0,
            transactions,
            partitions,
            token: None,
            is_writing: false,
            asked_to_commit: Vec::new(),
            committed: Vec::new(),
        };
        let mut world = World {
            shard: TransactionShard::new(Arc::new(config()), 0),
            now_ms: 1_000,
            log: None,
            pending: VecDeque::new(),
            leaders: Default::default(),
            producers: [producer(transactions, PARTITIONS), producer(1, 1)],
            network: Vec::new(),
            budget,
            tokens: 0,
            given: -1,
            fault: None,
            mistake: None,
        };
        world.leaders.iter_mut().for_each(|leader| leader.epoch = -1);
        world
    }

    pub fn with(mut self, mistake: Mistake) -> World {
        self.mistake = Some(mistake);
        self
    }

    /// What tells states apart, without the numbers of tokens.
    pub fn digest(&self) -> String {
        let transaction = self.shard.transaction(ID).map(|t| {
            let pending = match &t.pending {
                None => "none".into(),
                Some(Pending::Write(_)) => "write".into(),
                Some(Pending::Markers(m)) => format!("{:?} {:?} {}", m.missing, m.failed, m.is_fenced),
            };
            let stored = &t.stored;
            let core = (stored.producer_epoch, stored.status, &stored.partitions, t.previous_epoch, t.fence_failed);
            format!("{core:?} {pending}")
        });
        let status = |record: &TransactionRecord| {
            let value = record.value.as_ref();
            value.map(|v| (v.status, v.producer_epoch, v.partitions.clone()))
        };
        let network: Vec<_> = self
            .network
            .iter()
            .map(|message| match message {
                Message::Marker { coordinator, marker, partition, is_late, .. } => {
                    format!("{coordinator} {marker:?} {partition} {is_late}")
                }
                other => format!("{other:?}"),
            })
            .collect();
        let producers: Vec<_> =
            self.producers.iter().map(|p| Producer { token: p.token.map(|_| 0), ..p.clone() }).collect();
        let pending: Vec<_> = self.pending.iter().flat_map(|(_, batch)| batch.records.iter().map(status)).collect();
        format!(
            "{transaction:?} {:?} {pending:?} {:?} {producers:?} {network:?} {:?} {} {}",
            self.log.as_ref().map(status),
            self.leaders,
            self.budget,
            self.given,
            self.shard.coordinator_epoch(),
        )
    }

    pub fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (at, producer) in self.producers.iter().enumerate() {
            let idle = producer.token.is_none() && !producer.is_writing;
            if idle && !matches!(producer.stage, Stage::Done | Stage::Dead) {
                actions.push(Action::Step(at));
            }
        }
        for (at, message) in self.network.iter().enumerate() {
            actions.push(Action::Deliver(at));
            if let Message::Marker { is_late: false, .. } = message {
                if self.budget.lost_answers > 0 {
                    actions.push(Action::LoseAnswer(at));
                }
                if self.budget.late_markers > 0 {
                    actions.push(Action::Delay(at));
                }
            }
        }
        if !self.pending.is_empty() {
            actions.push(Action::Complete(Append::Written));
            if self.budget.failed_appends > 0 {
                actions.extend([Action::Complete(Append::Failed), Action::Complete(Append::Doubtful)]);
            }
        }
        if self.budget.crashes > 0 {
            actions.push(Action::Crash { written: false });
            if !self.pending.is_empty() {
                actions.push(Action::Crash { written: true });
            }
        }
        let waits_to_retry = self.shard.transaction(ID).is_some_and(|t| {
            matches!(&t.pending, Some(Pending::Markers(m)) if !m.is_fenced && (!m.failed.is_empty() || m.missing.is_empty()))
        });
        if waits_to_retry {
            actions.push(Action::Retry);
        }
        let is_ongoing =
            self.shard.transaction(ID).is_some_and(|t| t.status() == Status::Ongoing && t.pending.is_none());
        if self.budget.time_outs > 0 && is_ongoing {
            actions.push(Action::TimeOut);
        }
        actions
    }

    /// Only faults could still happen.
    pub fn is_at_rest(&self) -> bool {
        self.actions().iter().all(|action| matches!(action, Action::Crash { .. } | Action::TimeOut))
    }

    pub fn act(&mut self, action: Action) {
        match action {
            Action::Step(at) => self.step(at),
            Action::Deliver(at) => {
                let message = self.network.remove(at);
                self.deliver(message);
            }
            Action::Complete(how) => self.complete(how),
            Action::Crash { written } => self.crash(written),
            Action::Retry => {
                self.now_ms = self.shard.next_deadline().map_or(self.now_ms, |next| next.max(self.now_ms));
                self.event(Event::Tick);
            }
            Action::TimeOut => {
                self.budget.time_outs -= 1;
                self.now_ms += i64::from(TIMEOUT_MS) + 20_000;
                self.event(Event::Tick);
            }
            Action::LoseAnswer(at) => {
                self.budget.lost_answers -= 1;
                if let Message::Marker { coordinator, token, marker, partition, .. } = self.network.remove(at) {
                    self.leaders[partition].end(&marker);
                    self.answer(coordinator, token, partition, MarkerOutcome::Failed);
                }
            }
            Action::Delay(at) => {
                self.budget.late_markers -= 1;
                if let Message::Marker { coordinator, token, marker, partition, .. } = self.network.remove(at) {
                    self.post(Message::Marker { coordinator, token, marker, partition, is_late: true });
                    self.answer(coordinator, token, partition, MarkerOutcome::Failed);
                }
            }
        }
        self.judge();
    }

    fn post(&mut self, message: Message) {
        self.network.push(message);
        self.network.sort();
    }

    fn event(&mut self, event: Event) {
        let event = mistake::in_event(self.mistake, &self.shard, event);
        let mut effects = Vec::new();
        self.shard.step(Now { monotonic_ms: self.now_ms, wall_ms: self.now_ms }, event, &mut effects);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply(token, response) => self.reply(token, response),
                Effect::Append(token, batch) => self.pending.push_back((token, batch)),
                Effect::Errand(Errand::Allocate(token, request)) => {
                    self.event(Event::Init(token, request, Some(PRODUCER_ID)));
                }
                Effect::Errand(Errand::Send(token, _, marker, partitions)) => {
                    for partition in partitions {
                        let coordinator = self.shard.coordinator_epoch();
                        let partition = number(&partition);
                        self.post(Message::Marker { coordinator, token: token.0, marker, partition, is_late: false });
                    }
                }
            }
        }
    }

    fn step(&mut self, at: usize) {
        self.tokens += 1;
        let token = ReplyToken(self.tokens);
        let producer = &mut self.producers[at];
        let (epoch, transaction, partitions) = (producer.epoch, producer.transaction, producer.partitions);
        let id: Arc<str> = ID.into();
        let event = match producer.stage {
            Stage::Init => Event::Init(token, InitRequest { id, timeout_ms: TIMEOUT_MS, expected: None }, None),
            Stage::Add => {
                let partitions = (0..partitions).map(name).collect();
                Event::Add(token, AddRequest { id, producer_id: PRODUCER_ID, producer_epoch: epoch, partitions })
            }
            Stage::Write(partition) => {
                producer.is_writing = true;
                let value = Value { producer: at, transaction };
                return self.post(Message::Write { value, epoch: epoch.0, partition });
            }
            Stage::End => {
                if !producer.asked_to_commit.contains(&transaction) {
                    producer.asked_to_commit.push(transaction);
                }
                Event::End(token, EndRequest { id, producer_id: PRODUCER_ID, producer_epoch: epoch, commit: true })
            }
            Stage::Done | Stage::Dead => return,
        };
        producer.token = Some(token.0);
        self.event(event);
    }

    fn reply(&mut self, token: ReplyToken, response: Response) {
        let Some(producer) = self.producers.iter_mut().find(|p| p.token == Some(token.0)) else { return };
        producer.token = None;
        let error = match response {
            Response::Init(Ok((id, epoch))) => {
                assert_eq!(id, PRODUCER_ID);
                producer.epoch = epoch;
                self.given = self.given.max(epoch.0);
                ErrorCode::None
            }
            Response::Init(Err(error)) | Response::Done(error) => error,
        };
        producer.heard(error);
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Write { value, epoch, partition } => {
                let leader = &mut self.leaders[partition];
                if leader.is_open || leader.is_verified(epoch) {
                    return self.append(value, epoch, partition);
                }
                match leader.ask(epoch) {
                    Some(question) => self.post(Message::Verify { value, epoch, partition, question }),
                    None => self.producers[value.producer].wrote(ErrorCode::InvalidProducerEpoch),
                }
            }
            Message::Verify { value, epoch, partition, question } => {
                let request = AddRequest {
                    id: ID.into(),
                    producer_id: PRODUCER_ID,
                    producer_epoch: ProducerEpoch(epoch),
                    partitions: vec![name(partition)],
                };
                let error = self.shard.verify(&request)[0].code();
                self.post(Message::Verified { value, epoch, partition, question, error });
            }
            Message::Verified { value, epoch, partition, question, error } => {
                let leader = &mut self.leaders[partition];
                match leader.verification {
                    Some((asked, of, _)) if asked == question && error == 0 => {
                        leader.verification = Some((asked, of, true));
                    }
                    _ => {}
                }
                let retriable = [ErrorCode::ConcurrentTransactions, ErrorCode::InvalidProducerIdMapping];
                match error {
                    0 if leader.is_open || leader.is_verified(epoch) => self.append(value, epoch, partition),
                    error if retriable.iter().any(|code| code.code() == error) => {
                        self.producers[value.producer].wrote(ErrorCode::NotEnoughReplicas);
                    }
                    _ => self.producers[value.producer].wrote(ErrorCode::InvalidTxnState),
                }
            }
            Message::Marker { coordinator, token, marker, partition, is_late } => {
                let outcome = match mistake::in_marker(self.mistake, marker, partition) {
                    Some(marker) => self.leaders[partition].end(&marker),
                    None => MarkerOutcome::Written,
                };
                if !is_late {
                    self.answer(coordinator, token, partition, outcome);
                }
            }
        }
    }

    fn append(&mut self, value: Value, epoch: i16, partition: usize) {
        let leader = &mut self.leaders[partition];
        if epoch < leader.epoch && self.mistake != Some(Mistake::AnyEpochWrites) {
            return self.producers[value.producer].wrote(ErrorCode::InvalidProducerEpoch);
        }
        if epoch < self.given {
            self.fault = Some(format!("{value:?} of epoch {epoch} is written after epoch {} was given", self.given));
        }
        leader.log.push(Entry::Data(value));
        (leader.epoch, leader.is_open, leader.verification) = (epoch, true, None);
        self.producers[value.producer].wrote(ErrorCode::None);
    }

    fn answer(&mut self, coordinator: i32, token: u64, partition: usize, outcome: MarkerOutcome) {
        if coordinator == self.shard.coordinator_epoch() {
            self.event(Event::Markers(MarkersToken(token), ID.into(), vec![(name(partition), outcome)]));
        }
    }

    fn complete(&mut self, how: Append) {
        let Some((token, batch)) = self.pending.pop_front() else { return };
        let result = match how {
            Append::Written => Ok(()),
            _ => {
                self.budget.failed_appends -= 1;
                Err(ErrorCode::RequestTimedOut)
            }
        };
        let (result, is_written) = mistake::in_append(self.mistake, result, !matches!(how, Append::Failed));
        if is_written {
            self.log = batch.records.last().cloned();
        }
        self.event(Event::Appended(token, result));
    }

    /// Another coordinator loads the log. What was being appended is in it or not; who waits for an answer asks again.
    fn crash(&mut self, written: bool) {
        self.budget.crashes -= 1;
        if let Some((_, batch)) = self.pending.drain(..).next_back().filter(|_| written) {
            self.log = batch.records.last().cloned();
        }
        let mut shard = TransactionShard::new(Arc::new(config()), self.shard.coordinator_epoch() + 1);
        let now = Now { monotonic_ms: self.now_ms, wall_ms: self.now_ms };
        if let Some(record) = &self.log {
            shard.replay(now, mistake::in_loading(self.mistake, record.clone()));
        }
        self.shard = shard;
        self.producers.iter_mut().for_each(|producer| producer.token = None);
        let mut effects = Vec::new();
        if self.mistake != Some(Mistake::DecidedNotResumed) {
            self.shard.finish_loading(now, &mut effects);
        }
        self.carry_out(effects);
    }
}

impl Producer {
    fn heard(&mut self, error: ErrorCode) {
        match error {
            ErrorCode::None => self.advance(),
            ErrorCode::ConcurrentTransactions | ErrorCode::CoordinatorNotAvailable | ErrorCode::NotCoordinator => {}
            _ => self.stage = Stage::Dead,
        }
    }

    fn wrote(&mut self, error: ErrorCode) {
        self.is_writing = false;
        match error {
            ErrorCode::None => self.advance(),
            ErrorCode::NotEnoughReplicas => {}
            _ => self.stage = Stage::Dead,
        }
    }

    fn advance(&mut self) {
        self.stage = match self.stage {
            Stage::Init => Stage::Add,
            Stage::Add => Stage::Write(0),
            Stage::Write(at) if at + 1 < self.partitions => Stage::Write(at + 1),
            Stage::Write(_) => Stage::End,
            Stage::End => {
                self.committed.push(self.transaction);
                self.transaction += 1;
                if self.transaction < self.transactions { Stage::Add } else { Stage::Done }
            }
            end => end,
        };
    }
}

impl Leader {
    fn is_verified(&self, epoch: i16) -> bool {
        self.verification.is_some_and(|(_, of, yes)| of == epoch && yes)
    }

    fn ask(&mut self, epoch: i16) -> Option<u8> {
        match self.verification {
            Some((question, of, _)) if of == epoch => Some(question),
            Some((_, of, _)) if of > epoch => None,
            _ => {
                self.questions += 1;
                self.verification = Some((self.questions, epoch, false));
                Some(self.questions)
            }
        }
    }

    fn end(&mut self, marker: &Marker) -> MarkerOutcome {
        if marker.producer_epoch.0 < self.epoch || marker.coordinator_epoch < self.coordinator_epoch {
            return MarkerOutcome::Fenced;
        }
        self.log.push(Entry::Marker { commit: marker.commit });
        (self.epoch, self.coordinator_epoch) = (marker.producer_epoch.0, marker.coordinator_epoch);
        (self.is_open, self.verification) = (false, None);
        MarkerOutcome::Written
    }

    /// Values that a reader of committed records sees, and those that were aborted.
    fn fates(&self) -> (Vec<Value>, Vec<Value>) {
        let (mut seen, mut aborted, mut open) = (Vec::new(), Vec::new(), Vec::new());
        for entry in &self.log {
            match entry {
                Entry::Data(value) => open.push(*value),
                Entry::Marker { commit: true } => seen.append(&mut open),
                Entry::Marker { commit: false } => aborted.append(&mut open),
            }
        }
        (seen, aborted)
    }
}

impl World {
    fn judge(&mut self) {
        let fates: Vec<_> = self.leaders.iter().map(Leader::fates).collect();
        let seen: Vec<Value> = fates.iter().flat_map(|(seen, _)| seen.clone()).collect();
        let aborted: Vec<Value> = fates.iter().flat_map(|(_, aborted)| aborted.clone()).collect();
        let mut fault = |what: String| {
            self.fault.get_or_insert(what);
        };
        for value in &seen {
            if aborted.contains(value) {
                fault(format!("{value:?} is committed in one partition and aborted in another"));
            }
            if !self.producers[value.producer].asked_to_commit.contains(&value.transaction) {
                fault(format!("{value:?} is seen, and nobody asked to commit it"));
            }
        }
        let transaction = self.shard.transaction(ID).filter(|t| t.pending.is_none());
        if transaction.is_some_and(|t| matches!(t.status(), Status::PrepareCommit | Status::PrepareAbort)) {
            fault("what was decided is finished by nobody".into());
        }
        for (at, producer) in self.producers.iter().enumerate() {
            for transaction in &producer.committed {
                let value = Value { producer: at, transaction: *transaction };
                if aborted.contains(&value) {
                    fault(format!("{value:?} was committed, and is aborted"));
                }
            }
        }
        if self.is_at_rest() {
            self.judge_at_rest(&fates);
        }
    }

    fn judge_at_rest(&mut self, fates: &[(Vec<Value>, Vec<Value>)]) {
        for (at, producer) in self.producers.iter().enumerate() {
            for transaction in &producer.committed {
                let value = Value { producer: at, transaction: *transaction };
                let missing = fates.iter().take(producer.partitions).position(|(seen, _)| !seen.contains(&value));
                if let Some(partition) = missing {
                    self.fault.get_or_insert(format!("{value:?} was committed, and is not in partition {partition}"));
                }
            }
        }
        let is_ongoing = self.shard.transaction(ID).is_some_and(|t| t.status() == Status::Ongoing);
        if self.leaders.iter().any(|leader| leader.is_open) && !is_ongoing {
            self.fault
                .get_or_insert("a transaction hangs: it is open in a partition and ended for the coordinator".into());
        }
    }
}
