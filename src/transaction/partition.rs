//! One partition of `__transaction_state` that this broker coordinates: the pure shard with its clients, appends and markers.
//!
//! Invariant: appends are made in the order in which the shard decided on them, and their ends are told in that order, so that
//! memory goes through the same states as the log. What ends at once, as without replicas, costs no task.

use super::log::{self, Committed, LoadError, TransactionsLog};
use super::markers::{Delivery, MarkerSender};
use super::message::{Batch, Effect, Event, InitRequest, Marker, MarkersToken, Now, ReplyToken, Response, WriteToken};
use super::producer_ids::ProducerIdManager;
use super::shard::TransactionShard;
use crate::base::time::{monotonic_ms, wall_ms};
use crate::base::{ErrorCode, LeaderEpoch, Millis, ProducerId, TopicPartition};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

pub(super) fn now() -> Now {
    Now { monotonic_ms: monotonic_ms(), wall_ms: wall_ms() }
}

/// No tick is due.
pub(super) const NEVER: Millis = Millis::MAX;

/// What all partitions share.
pub(super) struct Drivers {
    pub log: Arc<dyn TransactionsLog>,
    pub markers: Arc<dyn MarkerSender>,
    pub producer_ids: Arc<ProducerIdManager>,
    pub runtime: Handle,
    pub clock: Clock,
}

/// What the ticking task sleeps on.
#[derive(Default)]
pub(super) struct Clock {
    pub wake: Notify,
    pub sleeps_until: AtomicI64,
}

enum State {
    Loading,
    Active(Box<Active>),
    /// Loading failed: without its records transactions would be torn.
    Broken,
    /// Another broker leads, or this one leads anew.
    Resigned,
}

struct Active {
    shard: TransactionShard,
    waiting: HashMap<ReplyToken, oneshot::Sender<Response>>,
    last_token: u64,
    appends: VecDeque<(WriteToken, Committed)>,
    /// A task waits for the first append; ends of later ones must wait for it.
    draining: bool,
    effects: Vec<Effect>,
}

pub(super) struct Partition {
    pub index: i32,
    pub epoch: LeaderEpoch,
    drivers: Arc<Drivers>,
    state: Mutex<State>,
    /// When the shard wants its next tick.
    deadline: AtomicI64,
}

/// Here, or through the channel.
pub(super) enum Outcome {
    Now(Response),
    Later(oneshot::Receiver<Response>),
}

/// What a future has at once.
fn poll_once<T>(future: &mut Pin<Box<dyn Future<Output = T> + Send>>) -> Option<T> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

impl Partition {
    pub fn loading(index: i32, epoch: LeaderEpoch, drivers: Arc<Drivers>) -> Partition {
        let deadline = AtomicI64::new(NEVER);
        Partition { index, epoch, drivers, state: Mutex::new(State::Loading), deadline }
    }

    pub fn deadline(&self) -> Millis {
        self.deadline.load(Ordering::SeqCst)
    }

    /// Reads the log into `shard`. Blocks on the disk.
    pub fn read(&self, shard: &mut TransactionShard) -> Result<i64, LoadError> {
        log::load(&*self.drivers.log, self.index, shard, now())
    }

    /// Serves from what was read up to `end`, once all in-sync replicas have it: until then another leader could be elected that does not
    /// know a decision, and its markers must not be out by then.
    pub async fn serve(self: &Arc<Partition>, read: Result<i64, LoadError>, shard: TransactionShard) {
        let end = match read {
            Ok(end) => end,
            Err(error) => return self.give_up(&error),
        };
        if let Err(error) = self.drivers.log.committed(self.index, end).await {
            tracing::debug!(partition = self.index, ?error, "no longer leader of a partition of __transaction_state");
            return;
        }
        self.activate(shard);
    }

    fn give_up(&self, error: &LoadError) {
        let mut state = self.state.lock();
        if matches!(*state, State::Loading) {
            tracing::error!(partition = self.index, %error, "transactions of this partition of __transaction_state cannot be loaded");
            *state = State::Broken;
        }
    }

    pub fn activate(self: &Arc<Partition>, shard: TransactionShard) {
        let mut state = self.state.lock();
        if !matches!(*state, State::Loading) {
            return;
        }
        let ids = shard.transactions().count();
        if ids > 0 {
            tracing::info!(partition = self.index, ids, "transactions loaded");
        }
        let mut active = Box::new(Active {
            shard,
            waiting: HashMap::new(),
            last_token: 0,
            appends: VecDeque::new(),
            draining: false,
            effects: Vec::new(),
        });
        active.shard.finish_loading(now(), &mut active.effects);
        self.settle(&mut active, None);
        *state = State::Active(active);
    }

    /// Another broker leads: whoever waits is sent to it.
    pub fn resign(&self) {
        let state = std::mem::replace(&mut *self.state.lock(), State::Resigned);
        self.deadline.store(NEVER, Ordering::SeqCst);
        let State::Active(mut active) = state else { return };
        let mut effects = std::mem::take(&mut active.effects);
        active.shard.unload(&mut effects);
        for effect in effects {
            if let Effect::Reply(token, response) = effect {
                send(&mut active.waiting, token, response);
            }
        }
    }

    fn unavailable(state: &State) -> ErrorCode {
        match state {
            State::Loading => ErrorCode::CoordinatorLoadInProgress,
            State::Broken => ErrorCode::CoordinatorNotAvailable,
            State::Active(_) | State::Resigned => ErrorCode::NotCoordinator,
        }
    }

    /// Looks at the shard.
    pub fn view<T>(&self, look: impl FnOnce(&TransactionShard) -> T) -> Result<T, ErrorCode> {
        match &*self.state.lock() {
            State::Active(active) => Ok(look(&active.shard)),
            other => Err(Partition::unavailable(other)),
        }
    }

    /// Hands a request to the shard.
    pub fn request(self: &Arc<Partition>, make: impl FnOnce(ReplyToken) -> Event) -> Result<Outcome, ErrorCode> {
        let mut state = self.state.lock();
        let State::Active(active) = &mut *state else { return Err(Partition::unavailable(&state)) };
        active.last_token += 1;
        let token = ReplyToken(active.last_token);
        active.shard.step(now(), make(token), &mut active.effects);
        Ok(match self.settle(active, Some(token)) {
            Some(response) => Outcome::Now(response),
            None => {
                let (sender, receiver) = oneshot::channel();
                active.waiting.insert(token, sender);
                Outcome::Later(receiver)
            }
        })
    }

    /// Something happened that nobody waits for.
    pub fn tell(self: &Arc<Partition>, event: Event) {
        if let State::Active(active) = &mut *self.state.lock() {
            active.shard.step(now(), event, &mut active.effects);
            self.settle(active, None);
        }
    }

    /// Carries out what the shard wants until it wants nothing more. Returns the reply for `own`, if it is among it.
    fn settle(self: &Arc<Partition>, active: &mut Active, own: Option<ReplyToken>) -> Option<Response> {
        let mut reply = None;
        let mut queue = VecDeque::from(std::mem::take(&mut active.effects));
        while let Some(effect) = queue.pop_front() {
            let events = match effect {
                Effect::Reply(token, response) if Some(token) == own => {
                    reply = Some(response);
                    continue;
                }
                Effect::Reply(token, response) => {
                    send(&mut active.waiting, token, response);
                    continue;
                }
                Effect::Append(token, batch) => self.append(active, token, &batch).into_iter().collect(),
                Effect::Allocate(token, request) => match self.allocate(token, request) {
                    Some(Ok(event)) => vec![event],
                    Some(Err(error)) => {
                        queue.push_back(Effect::Reply(token, Response::Init(Err(error))));
                        continue;
                    }
                    None => continue,
                },
                Effect::Send(token, id, marker, partitions) => self.send_markers(token, &id, marker, partitions),
            };
            for event in events {
                active.shard.step(now(), event, &mut active.effects);
                queue.extend(active.effects.drain(..));
            }
        }
        self.set_deadline(active.shard.next_deadline().unwrap_or(NEVER));
        reply
    }

    /// Starts an append; its end if that is known at once and no earlier append is still under way.
    fn append(self: &Arc<Partition>, active: &mut Active, token: WriteToken, batch: &Batch) -> Option<Event> {
        let timeout = Duration::from_millis(batch.timeout_ms.max(0) as u64);
        let mut append = match log::to_log(batch, wall_ms()) {
            Ok(batch) => self.drivers.log.append(self.index, self.epoch, batch, timeout),
            Err(error) => {
                tracing::error!(partition = self.index, %error, "a transaction record cannot be encoded");
                Box::pin(std::future::ready(Err(ErrorCode::UnknownServerError)))
            }
        };
        if !active.draining {
            if let Some(result) = poll_once(&mut append) {
                return Some(Event::Appended(token, result));
            }
            active.draining = true;
            self.drivers.runtime.spawn(drain(self.clone()));
        }
        active.appends.push_back((token, append));
        None
    }

    /// Gets a producer id for a request: now, or the request comes back later.
    fn allocate(self: &Arc<Partition>, token: ReplyToken, request: InitRequest) -> Option<Result<Event, ErrorCode>> {
        let ids = self.drivers.producer_ids.clone();
        let mut next: Pin<Box<dyn Future<Output = Result<ProducerId, ErrorCode>> + Send>> =
            Box::pin(async move { ids.next().await });
        if let Some(allocated) = poll_once(&mut next) {
            return Some(allocated.map(|id| Event::Init(token, request, Some(id))));
        }
        let partition = self.clone();
        self.drivers.runtime.spawn(async move {
            match next.await {
                Ok(id) => partition.tell(Event::Init(token, request, Some(id))),
                Err(error) => partition.refuse(token, error),
            }
        });
        None
    }

    fn refuse(&self, token: ReplyToken, error: ErrorCode) {
        if let State::Active(active) = &mut *self.state.lock() {
            send(&mut active.waiting, token, Response::Init(Err(error)));
        }
    }

    /// Sends markers off. What is known of them at once, as from partitions of this broker, is returned.
    fn send_markers(
        self: &Arc<Partition>,
        token: MarkersToken,
        id: &Arc<str>,
        marker: Marker,
        partitions: Vec<TopicPartition>,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        for mut delivery in self.drivers.markers.send(marker, partitions) {
            match poll_once(&mut delivery) {
                Some(outcomes) => events.push(Event::Markers(token, id.clone(), outcomes)),
                None => {
                    let (partition, id) = (self.clone(), id.clone());
                    self.drivers.runtime.spawn(deliver(partition, token, id, delivery));
                }
            }
        }
        events
    }

    fn set_deadline(&self, deadline: Millis) {
        self.deadline.store(deadline, Ordering::SeqCst);
        if deadline < self.drivers.clock.sleeps_until.load(Ordering::SeqCst) {
            self.drivers.clock.wake.notify_one();
        }
    }

    fn next_append(&self) -> Option<(WriteToken, Committed)> {
        let mut state = self.state.lock();
        let State::Active(active) = &mut *state else { return None };
        let next = active.appends.pop_front();
        active.draining = next.is_some();
        next
    }
}

/// Waits for appends one after the other.
async fn drain(partition: Arc<Partition>) {
    while let Some((token, append)) = partition.next_append() {
        let result = append.await;
        partition.tell(Event::Appended(token, result));
    }
}

async fn deliver(partition: Arc<Partition>, token: MarkersToken, id: Arc<str>, delivery: Delivery) {
    let outcomes = delivery.await;
    partition.tell(Event::Markers(token, id, outcomes));
}

fn send(waiting: &mut HashMap<ReplyToken, oneshot::Sender<Response>>, token: ReplyToken, response: Response) {
    if let Some(sender) = waiting.remove(&token) {
        // The client may be gone.
        let _ = sender.send(response);
    }
}
