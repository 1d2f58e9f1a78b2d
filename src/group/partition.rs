//! One partition of `__consumer_offsets` that this broker coordinates: the pure shard with its clients and appends.
//!
//! Invariant: appends are made in the order in which the shard decided on them, and their ends are told in that order, so
//! that memory goes through the same states as the log. One that ends at once, as without replicas, costs no task.

use super::log::{self, Append, OffsetsLog};
use super::message::{Batch, Effect, Event, Now, ReplyToken, Response, WriteToken};
use super::shard::GroupShard;
use crate::base::time::{monotonic_ms, wall_ms};
use crate::base::{ErrorCode, LeaderEpoch, Millis, ProducerId};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

pub(super) fn now() -> Now {
    Now { monotonic_ms: monotonic_ms(), wall_ms: wall_ms() }
}

/// No tick is due.
pub(super) const NEVER: Millis = Millis::MAX;

enum State {
    /// Markers that were appended meanwhile, and may have been missed by who reads the log.
    Loading {
        ended: Vec<(ProducerId, bool)>,
    },
    Active(Box<Active>),
    /// Loading failed: without its offsets the groups must not start over.
    Broken,
    /// Another broker leads.
    Resigned,
}

struct Active {
    shard: GroupShard,
    waiting: HashMap<ReplyToken, oneshot::Sender<Response>>,
    last_token: u64,
    appends: VecDeque<(WriteToken, Append)>,
    /// A task waits for the first append; ends of later ones must wait for it.
    draining: bool,
    effects: Vec<Effect>,
}

pub(super) struct Partition {
    pub index: i32,
    pub epoch: AtomicI32,
    log: Arc<dyn OffsetsLog>,
    runtime: Handle,
    state: Mutex<State>,
    /// When the shard wants its next tick.
    deadline: AtomicI64,
    /// Wakes the one who ticks, if a deadline comes nearer.
    clock: Arc<Clock>,
}

/// What the ticking task sleeps on.
#[derive(Default)]
pub(super) struct Clock {
    pub wake: Notify,
    pub sleeps_until: AtomicI64,
}

/// Here, or through the channel.
pub(super) enum Outcome {
    Now(Response),
    Later(oneshot::Receiver<Response>),
}

impl Partition {
    pub fn loading(
        index: i32,
        epoch: LeaderEpoch,
        log: Arc<dyn OffsetsLog>,
        runtime: Handle,
        clock: Arc<Clock>,
    ) -> Partition {
        Partition {
            index,
            epoch: AtomicI32::new(epoch.0),
            log,
            runtime,
            state: Mutex::new(State::Loading { ended: Vec::new() }),
            deadline: AtomicI64::new(NEVER),
            clock,
        }
    }

    pub fn deadline(&self) -> Millis {
        self.deadline.load(Ordering::SeqCst)
    }

    /// Loads the log into `shard` and starts to serve. Blocks on the disk.
    pub fn load(self: &Arc<Partition>, mut shard: GroupShard) {
        let started = monotonic_ms();
        let loaded = log::load(&*self.log, self.index, &mut shard, now());
        let mut state = self.state.lock();
        let State::Loading { ended } = &mut *state else { return };
        // One that was read already has nothing to end any more: nobody could commit in between.
        for (producer, commit) in ended.drain(..) {
            shard.replay_marker(producer, commit);
        }
        if let Err(error) = loaded {
            tracing::error!(partition = self.index, %error, "groups of this partition of __consumer_offsets cannot be loaded");
            *state = State::Broken;
            return;
        }
        let (groups, ms) = (shard.groups().count(), monotonic_ms() - started);
        match groups {
            0 => tracing::debug!(partition = self.index, ms, "no groups to load"),
            _ => tracing::info!(partition = self.index, groups, ms, "groups loaded"),
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
            State::Loading { .. } => ErrorCode::CoordinatorLoadInProgress,
            State::Broken => ErrorCode::CoordinatorNotAvailable,
            State::Active(_) | State::Resigned => ErrorCode::NotCoordinator,
        }
    }

    /// Looks at the shard.
    pub fn view<T>(&self, look: impl FnOnce(&GroupShard) -> T) -> Result<T, ErrorCode> {
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

    /// A marker has been appended to this partition.
    pub fn end_transaction(self: &Arc<Partition>, producer: ProducerId, commit: bool) -> Result<Outcome, ErrorCode> {
        if let State::Loading { ended } = &mut *self.state.lock() {
            ended.push((producer, commit));
            return Ok(Outcome::Now(Response::EndTransaction(ErrorCode::None)));
        }
        self.request(|token| Event::EndTransaction(token, producer, commit))
    }

    pub fn is_broken(&self) -> bool {
        matches!(*self.state.lock(), State::Broken)
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
            match effect {
                Effect::Reply(token, response) if Some(token) == own => reply = Some(response),
                Effect::Reply(token, response) => send(&mut active.waiting, token, response),
                Effect::Append(token, batch) => {
                    if let Some(result) = self.append(active, token, batch) {
                        active.shard.step(now(), Event::Appended(token, result), &mut active.effects);
                        queue.extend(active.effects.drain(..));
                    }
                }
            }
        }
        active.effects = queue.into();
        self.set_deadline(active.shard.next_deadline().unwrap_or(NEVER));
        reply
    }

    /// Starts an append; its result if it has one at once and no earlier append is still under way.
    fn append(
        self: &Arc<Partition>,
        active: &mut Active,
        token: WriteToken,
        batch: Arc<Batch>,
    ) -> Option<Result<i64, ErrorCode>> {
        let built = log::to_log(&batch, active.shard.config().compression, wall_ms());
        drop(batch);
        let mut append = match built {
            Ok(batch) => self.log.append(self.index, batch),
            Err(error) => {
                tracing::error!(partition = self.index, %error, "a coordinator record cannot be encoded");
                Box::pin(std::future::ready(Err(ErrorCode::UnknownServerError)))
            }
        };
        if !active.draining {
            if let Poll::Ready(result) = append.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return Some(result);
            }
            active.draining = true;
            self.runtime.spawn(drain(self.clone()));
        }
        active.appends.push_back((token, append));
        None
    }

    fn set_deadline(&self, deadline: Millis) {
        self.deadline.store(deadline, Ordering::SeqCst);
        if deadline < self.clock.sleeps_until.load(Ordering::SeqCst) {
            self.clock.wake.notify_one();
        }
    }

    fn next_append(&self) -> Option<(WriteToken, Append)> {
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

fn send(waiting: &mut HashMap<ReplyToken, oneshot::Sender<Response>>, token: ReplyToken, response: Response) {
    if let Some(sender) = waiting.remove(&token) {
        // The client may be gone.
        let _ = sender.send(response);
    }
}
