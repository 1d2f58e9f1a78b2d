//! All transactional ids of one partition of `__transaction_state`: the pure core of the coordinator (classes
//! `TransactionCoordinator` and `TransactionStateManager`).
//!
//! Invariant: what a new coordinator must know changes only when a record is replayed ([`TransactionShard::replay`]), whether it
//! comes from the log or was appended a moment ago; replies are held until then. The one exception is the epoch of a producer
//! that is being fenced: it counts from the decision on, and if the record of it is lost, nobody has seen the new epoch.

use super::message::{
    Batch, Effect, Errand, Event, Marker, MarkerOutcome, MarkersToken, Now, ReplyToken, Response, WriteToken,
};
use super::records::{TransactionRecord, TransactionValue};
use super::state::{Markers, Pending, Status, Transaction};
use super::{add, end, expiry, init};
use crate::base::{ErrorCode, Millis, ProducerEpoch, ProducerId, TimerQueue, TopicPartition};
use crate::coordinator::Writes;
use std::collections::HashMap;
use std::sync::Arc;

/// Settings of the coordinator, by the names of the properties.
#[derive(Clone, Debug)]
pub struct TransactionConfig {
    pub max_timeout_ms: i32,
    pub id_expiration_ms: Millis,
    pub abort_interval_ms: Millis,
    pub expiry_interval_ms: Millis,
    /// Pause before markers that could not be written are sent again.
    pub marker_retry_ms: Millis,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum TimerKey {
    /// Transactions time out.
    TimeOuts,
    /// Ids expire.
    Expiry,
    /// Markers are sent again, or the end of a transaction is written again.
    Markers(Arc<str>),
}

/// Who waits for a decision.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Asker {
    Client(ReplyToken),
    /// An InitProducerId that found a transaction under way. It is told to come again.
    Init(ReplyToken),
    TimeOut,
}

/// What an append is for: decides what happens when it ends.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    Init { reply: ReplyToken, previous_id: ProducerId, previous_epoch: ProducerEpoch },
    Add { reply: ReplyToken },
    Decide { asker: Asker },
    Complete,
    Expire,
}

/// One step's view of the shard beside the transaction at hand.
pub(super) struct Step<'a> {
    pub now: Now,
    pub config: &'a TransactionConfig,
    pub timers: &'a mut TimerQueue<TimerKey>,
    coordinator_epoch: i32,
    writes: &'a mut Writes<Batch, Purpose>,
    effects: &'a mut Vec<Effect>,
}

impl Step<'_> {
    pub fn init(&mut self, token: ReplyToken, response: Result<(ProducerId, ProducerEpoch), ErrorCode>) {
        self.effects.push(Effect::Reply(token, Response::Init(response)));
    }

    pub fn done(&mut self, token: ReplyToken, error: ErrorCode) {
        self.effects.push(Effect::Reply(token, Response::Done(error)));
    }

    pub fn errand(&mut self, errand: Errand) {
        self.effects.push(Effect::Errand(errand));
    }

    pub fn append(&mut self, records: Vec<TransactionRecord>, timeout_ms: i32, purpose: Purpose) -> WriteToken {
        let batch = Batch { records, timeout_ms: timeout_ms.into() };
        let token = self.writes.begin(batch.clone(), purpose);
        self.effects.push(Effect::Append(token, batch));
        token
    }

    /// Writes a new state of an id; until that ended nothing else changes.
    pub fn store(&mut self, id: &Arc<str>, transaction: &mut Transaction, value: TransactionValue, purpose: Purpose) {
        let timeout_ms = value.timeout_ms;
        let record = TransactionRecord { id: id.clone(), value: Some(value) };
        transaction.pending = Some(Pending::Write(self.append(vec![record], timeout_ms, purpose)));
    }

    /// Sends markers to all partitions of a decided transaction.
    fn begin_markers(&mut self, id: &Arc<str>, transaction: &mut Transaction) {
        let token = MarkersToken(self.writes.next_token());
        let missing = transaction.stored.partitions.clone();
        let partitions = missing.iter().cloned().collect();
        let markers = Markers { token, missing, failed: Default::default(), is_fenced: false };
        transaction.pending = Some(Pending::Markers(markers));
        self.send(id, transaction, token, partitions);
    }

    /// Sends markers, or writes the end if none is missing.
    pub fn send(
        &mut self,
        id: &Arc<str>,
        transaction: &mut Transaction,
        token: MarkersToken,
        partitions: Vec<TopicPartition>,
    ) {
        let Some(commit) = transaction.status().decision() else { return };
        if partitions.is_empty() {
            return end::complete(self, id, transaction, commit);
        }
        let marker = Marker {
            producer_id: transaction.stored.producer_id,
            producer_epoch: transaction.stored.producer_epoch,
            commit,
            coordinator_epoch: self.coordinator_epoch,
        };
        self.errand(Errand::Send(token, id.clone(), marker, partitions));
    }

    pub fn retry_markers(&mut self, id: &Arc<str>) {
        let at = self.now.monotonic_ms.saturating_add(self.config.marker_retry_ms);
        self.timers.schedule(TimerKey::Markers(id.clone()), at);
    }
}

/// The coordinator of one partition.
#[derive(Clone)]
pub struct TransactionShard {
    config: Arc<TransactionConfig>,
    coordinator_epoch: i32,
    transactions: HashMap<Arc<str>, Transaction>,
    timers: TimerQueue<TimerKey>,
    writes: Writes<Batch, Purpose>,
}

impl TransactionShard {
    /// A shard that is about to be loaded: [`replay`](TransactionShard::replay) the log, then
    /// [`finish_loading`](TransactionShard::finish_loading). `coordinator_epoch` is the leader epoch of the partition.
    pub fn new(config: Arc<TransactionConfig>, coordinator_epoch: i32) -> TransactionShard {
        TransactionShard {
            config,
            coordinator_epoch,
            transactions: HashMap::new(),
            timers: TimerQueue::new(),
            writes: Writes::default(),
        }
    }

    pub fn transactions(&self) -> impl Iterator<Item = (&Arc<str>, &Transaction)> {
        self.transactions.iter()
    }

    pub fn transaction(&self, id: &str) -> Option<&Transaction> {
        self.transactions.get(id)
    }

    pub fn coordinator_epoch(&self) -> i32 {
        self.coordinator_epoch
    }

    /// When the next `Tick` is due.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.timers.next_deadline()
    }

    pub fn step(&mut self, now: Now, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Init(token, request, allocated) => {
                let mut is_new = false;
                if !self.transactions.contains_key(&request.id)
                    && let Some(producer_id) = allocated
                {
                    is_new = true;
                    let transaction = Transaction::new(producer_id, request.timeout_ms, now.wall_ms);
                    self.transactions.insert(request.id.clone(), transaction);
                }
                let id = request.id.clone();
                let (mut step, transactions) = self.split(now, effects);
                init::init(&mut step, transactions.get_mut(&id), token, request, allocated);
                if is_new && transactions.get(&id).is_some_and(|new| new.pending.is_none()) {
                    transactions.remove(&id);
                }
            }
            Event::Add(token, request) => {
                let (mut step, transactions) = self.split(now, effects);
                add::add(&mut step, transactions.get_mut(&request.id), token, request);
            }
            Event::End(token, request) => {
                let (mut step, transactions) = self.split(now, effects);
                end::end(&mut step, transactions.get_mut(&request.id), token, &request);
            }
            Event::Appended(token, result) => self.appended(now, effects, token, result),
            Event::Markers(token, id, outcomes) => self.with(now, effects, &id, |step, transaction| {
                end::markers_answered(step, &id, transaction, token, &outcomes);
            }),
            Event::Tick => self.tick(now, effects),
        }
    }

    fn split<'a>(
        &'a mut self,
        now: Now,
        effects: &'a mut Vec<Effect>,
    ) -> (Step<'a>, &'a mut HashMap<Arc<str>, Transaction>) {
        let step = Step {
            now,
            config: &self.config,
            timers: &mut self.timers,
            coordinator_epoch: self.coordinator_epoch,
            writes: &mut self.writes,
            effects,
        };
        (step, &mut self.transactions)
    }

    fn with(
        &mut self,
        now: Now,
        effects: &mut Vec<Effect>,
        id: &str,
        work: impl FnOnce(&mut Step<'_>, &mut Transaction),
    ) {
        let (mut step, transactions) = self.split(now, effects);
        if let Some(transaction) = transactions.get_mut(id) {
            work(&mut step, transaction);
        }
    }

    fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while let Some(key) = self.timers.pop_due(now.monotonic_ms) {
            match key {
                TimerKey::TimeOuts => {
                    let (mut step, transactions) = self.split(now, effects);
                    expiry::abort_timed_out(&mut step, transactions);
                    if transactions.values().any(|transaction| transaction.status() == Status::Ongoing) {
                        self.schedule(TimerKey::TimeOuts, now);
                    }
                }
                TimerKey::Expiry => {
                    let (mut step, transactions) = self.split(now, effects);
                    expiry::expire_ids(&mut step, transactions);
                    if !transactions.is_empty() {
                        self.schedule(TimerKey::Expiry, now);
                    }
                }
                TimerKey::Markers(id) => {
                    self.with(now, effects, &id, |step, transaction| end::try_again(step, &id, transaction));
                }
            }
        }
    }

    /// Sweeps of all partitions of a broker fall together, so that an idle one wakes rarely.
    fn schedule(&mut self, key: TimerKey, now: Now) {
        let interval_ms = match key {
            TimerKey::TimeOuts => self.config.abort_interval_ms,
            _ => self.config.expiry_interval_ms,
        };
        let interval_ms = interval_ms.max(1);
        let at = (now.monotonic_ms.div_euclid(interval_ms).saturating_add(1)).saturating_mul(interval_ms);
        self.timers.schedule(key, at);
    }

    /// Applies a record.
    pub fn replay(&mut self, now: Now, record: TransactionRecord) {
        let Some(value) = record.value else {
            self.transactions.remove(&record.id);
            return;
        };
        let transaction = self
            .transactions
            .entry(record.id)
            .or_insert_with(|| Transaction::new(value.producer_id, value.timeout_ms, value.last_update_ms));
        match value.status {
            Status::Ongoing => {
                if transaction.deadline.is_none() {
                    // Of a transaction of an earlier coordinator some time has passed already.
                    let timeout_ms = Millis::from(value.timeout_ms);
                    let passed_ms = now.wall_ms.saturating_sub(value.start_ms).clamp(0, timeout_ms.max(0));
                    transaction.deadline = Some(now.monotonic_ms.saturating_add(timeout_ms - passed_ms));
                }
            }
            _ => transaction.deadline = None,
        }
        let is_ongoing = value.status == Status::Ongoing;
        transaction.stored = value;
        transaction.fence_failed = false;
        if is_ongoing && self.timers.deadline(&TimerKey::TimeOuts).is_none() {
            self.schedule(TimerKey::TimeOuts, now);
        }
        if self.timers.deadline(&TimerKey::Expiry).is_none() {
            self.schedule(TimerKey::Expiry, now);
        }
    }

    /// The whole log has been replayed: decided transactions go on, and requests are served.
    pub fn finish_loading(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let (mut step, transactions) = self.split(now, effects);
        for (id, transaction) in transactions {
            if transaction.status().decision().is_some() {
                step.begin_markers(id, transaction);
            }
        }
    }

    fn appended(&mut self, now: Now, effects: &mut Vec<Effect>, token: WriteToken, result: Result<(), ErrorCode>) {
        let Some((batch, purpose)) = self.writes.end(token) else { return };
        let error = result.err().map(store_error);
        let ids: Vec<Arc<str>> = batch.records.iter().map(|record| record.id.clone()).collect();
        if error.is_none() {
            for record in batch.records {
                self.replay(now, record);
            }
        }
        for id in &ids {
            self.with(now, effects, id, |_, transaction| transaction.pending = None);
        }
        let code = error.unwrap_or(ErrorCode::None);
        let (mut step, transactions) = self.split(now, effects);
        let Some((id, transaction)) = ids.first().and_then(|id| Some((id, transactions.get_mut(id)?))) else { return };
        match purpose {
            Purpose::Init { reply, previous_id, previous_epoch } => match error {
                None => {
                    (transaction.previous_id, transaction.previous_epoch) = (previous_id, previous_epoch);
                    step.init(reply, Ok((transaction.stored.producer_id, transaction.stored.producer_epoch)));
                }
                Some(error) => {
                    step.init(reply, Err(error));
                    if !transaction.is_stored() {
                        transactions.remove(id);
                    }
                }
            },
            Purpose::Add { reply } => step.done(reply, code),
            Purpose::Decide { asker } => {
                match asker {
                    Asker::Client(reply) => step.done(reply, code),
                    Asker::Init(reply) => step.init(reply, Err(error.unwrap_or(ErrorCode::ConcurrentTransactions))),
                    Asker::TimeOut => {}
                }
                match error {
                    None => step.begin_markers(id, transaction),
                    Some(_) => transaction.fence_failed |= !matches!(asker, Asker::Client(_)),
                }
            }
            Purpose::Complete if error.is_some() => end::complete_later(&mut step, id, transaction),
            Purpose::Complete | Purpose::Expire => {}
        }
    }

    /// The partition has another leader now: nobody here can answer those who wait.
    pub fn unload(self, effects: &mut Vec<Effect>) {
        const GONE: ErrorCode = ErrorCode::NotCoordinator;
        for purpose in self.writes.abandon() {
            let (token, response) = match purpose {
                Purpose::Init { reply, .. } => (reply, Response::Init(Err(GONE))),
                Purpose::Add { reply } => (reply, Response::Done(GONE)),
                Purpose::Decide { asker: Asker::Client(reply) } => (reply, Response::Done(GONE)),
                Purpose::Decide { asker: Asker::Init(reply) } => (reply, Response::Init(Err(GONE))),
                Purpose::Decide { asker: Asker::TimeOut } | Purpose::Complete | Purpose::Expire => continue,
            };
            effects.push(Effect::Reply(token, response));
        }
    }
}

/// Takes what a leader said of its partition out of what is missing. Returns whether the partition has to be tried again.
pub(super) fn note_outcome(markers: &mut Markers, partition: &TopicPartition, outcome: MarkerOutcome) -> bool {
    match outcome {
        MarkerOutcome::Written | MarkerOutcome::Gone => {
            markers.missing.remove(partition);
            false
        }
        MarkerOutcome::Failed => {
            markers.missing.contains(partition) && {
                markers.failed.insert(partition.clone());
                true
            }
        }
        MarkerOutcome::Fenced => {
            markers.is_fenced = true;
            false
        }
    }
}

/// What a client sees when its state cannot be stored: something that makes it retry where it helps.
fn store_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => ErrorCode::UnknownServerError,
        other => other,
    }
}
