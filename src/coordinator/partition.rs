//! One partition that this broker coordinates: the pure shard with its clients, its appends and its errands.
//!
//! Invariant: appends are made in the order in which the shard decided on them, and their ends are told in that order. What ends
//! at once, as without replicas, costs no task.

use super::answer::{Answer, Held, Kind};
use super::log::{self, Append, CoordinatorLog, LoadError};
use super::shard::{Done, Effect, EffectOf, Now, ReplyToken, Shard, Underway, WriteToken};
use crate::base::time::{monotonic_ms, wall_ms};
use crate::base::{ErrorCode, LeaderEpoch, Millis};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

fn now() -> Now {
    Now { monotonic_ms: monotonic_ms(), wall_ms: wall_ms() }
}

/// No tick is due.
pub(super) const NEVER: Millis = Millis::MAX;

/// What all partitions share.
pub(super) struct Drivers<S: Shard> {
    pub log: Arc<dyn CoordinatorLog>,
    pub hands: S::Hands,
    pub runtime: Handle,
    pub clock: Clock,
}

/// What the ticking task sleeps on.
#[derive(Default)]
pub(super) struct Clock {
    pub wake: Notify,
    pub sleeps_until: AtomicI64,
}

enum State<S: Shard> {
    Loading {
        notes: Vec<S::Note>,
    },
    Active(Box<Active<S>>),
    /// Loading failed, see [`LoadError`].
    Broken,
    /// Another broker leads, or this one leads anew.
    Resigned,
}

struct Active<S: Shard> {
    shard: S,
    waiting: HashMap<ReplyToken, oneshot::Sender<S::Response>>,
    last_token: u64,
    appends: VecDeque<(WriteToken, Append)>,
    /// A task waits for the first append; ends of later ones must wait for it.
    draining: bool,
    effects: Vec<EffectOf<S>>,
}

pub struct Partition<S: Shard> {
    index: i32,
    epoch: LeaderEpoch,
    elected_ms: Millis,
    drivers: Arc<Drivers<S>>,
    state: Mutex<State<S>>,
    /// When the shard wants its next tick.
    deadline: AtomicI64,
}

/// What a future has at once.
fn poll_once<T>(future: &mut Pin<Box<dyn Future<Output = T> + Send>>) -> Option<T> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

impl<S: Shard> Partition<S> {
    pub(super) fn loading(index: i32, epoch: LeaderEpoch, drivers: Arc<Drivers<S>>) -> Partition<S> {
        let state = Mutex::new(State::Loading { notes: Vec::new() });
        Partition { index, epoch, elected_ms: monotonic_ms(), drivers, state, deadline: AtomicI64::new(NEVER) }
    }

    pub(super) fn deadline(&self) -> Millis {
        self.deadline.load(Ordering::SeqCst)
    }

    /// Whether what is in memory still holds when this broker is elected again.
    pub(super) fn outlives(&self, epoch: LeaderEpoch) -> bool {
        let is_broken = matches!(*self.state.lock(), State::Broken);
        !is_broken && (!S::IS_BOUND_TO_EPOCH || self.epoch >= epoch)
    }

    /// Reads the log into `shard`. Blocks on the disk.
    pub(super) fn read(&self, shard: &mut S) -> Result<i64, LoadError> {
        log::load(&*self.drivers.log, self.index, shard, now())
    }

    /// Serves from what was read up to `end`.
    pub(super) async fn serve(self: &Arc<Self>, read: Result<i64, LoadError>, shard: S) {
        let end = match read {
            Ok(end) => end,
            Err(error) => return self.give_up(&error),
        };
        if S::IS_BOUND_TO_EPOCH
            && let Err(error) = self.drivers.log.committed(self.index, end).await
        {
            tracing::debug!(topic = S::TOPIC, partition = self.index, ?error, "no longer leader of a partition");
            return;
        }
        self.activate(shard);
    }

    fn give_up(&self, error: &LoadError) {
        let mut state = self.state.lock();
        if matches!(*state, State::Loading { .. }) {
            tracing::error!(topic = S::TOPIC, partition = self.index, %error, "what this partition coordinates cannot be loaded");
            *state = State::Broken;
        }
    }

    pub(super) fn activate(self: &Arc<Self>, mut shard: S) {
        let mut state = self.state.lock();
        let State::Loading { notes } = &mut *state else { return };
        notes.drain(..).for_each(|note| shard.replay_note(note));
        if !shard.is_empty() {
            let ms = monotonic_ms() - self.elected_ms;
            tracing::info!(topic = S::TOPIC, partition = self.index, entries = shard.len(), ms, "loaded");
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
    pub(super) fn resign(&self) {
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

    fn unavailable(state: &State<S>) -> ErrorCode {
        match state {
            State::Loading { .. } => ErrorCode::CoordinatorLoadInProgress,
            State::Broken => ErrorCode::CoordinatorNotAvailable,
            State::Active(_) | State::Resigned => ErrorCode::NotCoordinator,
        }
    }

    /// Looks at the shard.
    pub fn view<T>(&self, look: impl FnOnce(&S) -> T) -> Result<T, ErrorCode> {
        match &*self.state.lock() {
            State::Active(active) => Ok(look(&active.shard)),
            other => Err(Self::unavailable(other)),
        }
    }

    /// Hands a request to the shard.
    pub fn ask<T: Kind<S::Response>>(
        self: &Arc<Self>,
        make: impl FnOnce(ReplyToken) -> S::Event,
        failed: impl Fn(ErrorCode) -> T,
    ) -> Answer<T, S::Response> {
        let mut state = self.state.lock();
        let State::Active(active) = &mut *state else { return Answer::Now(failed(Self::unavailable(&state))) };
        active.last_token += 1;
        let token = ReplyToken(active.last_token);
        active.shard.step(now(), make(token), &mut active.effects);
        match self.settle(active, Some(token)) {
            Some(response) => Answer::Now(T::of(response).unwrap_or_else(|| failed(ErrorCode::UnknownServerError))),
            None => {
                let (sender, receiver) = oneshot::channel();
                active.waiting.insert(token, sender);
                Answer::Later(Held { receiver, gone: failed(ErrorCode::NotCoordinator) })
            }
        }
    }

    /// Something happened that nobody waits for.
    pub fn tell(self: &Arc<Self>, event: S::Event) {
        if let State::Active(active) = &mut *self.state.lock() {
            active.shard.step(now(), event, &mut active.effects);
            self.settle(active, None);
        }
    }

    /// Remembers something until the log has been read. Returns whether it is being read.
    pub fn note_while_loading(&self, note: S::Note) -> bool {
        match &mut *self.state.lock() {
            State::Loading { notes } => {
                notes.push(note);
                true
            }
            _ => false,
        }
    }

    /// Carries out what the shard wants until it wants nothing more. Returns the reply for `own`, if it is among it.
    fn settle(self: &Arc<Self>, active: &mut Active<S>, own: Option<ReplyToken>) -> Option<S::Response> {
        let mut reply = None;
        let mut queue = VecDeque::from(std::mem::take(&mut active.effects));
        while let Some(effect) = queue.pop_front() {
            let mut events = Vec::new();
            match effect {
                Effect::Reply(token, response) if Some(token) == own => reply = Some(response),
                Effect::Reply(token, response) => send(&mut active.waiting, token, response),
                Effect::Append(token, batch) => {
                    events.extend(self.append(active, token, batch).map(|result| S::appended(token, result)));
                }
                Effect::Errand(errand) => {
                    for done in self.run(errand) {
                        match done {
                            Done::Event(event) => events.push(event),
                            Done::Reply(token, response) => queue.push_back(Effect::Reply(token, response)),
                        }
                    }
                }
            }
            for event in events {
                active.shard.step(now(), event, &mut active.effects);
                queue.extend(active.effects.drain(..));
            }
        }
        active.effects = queue.into();
        self.set_deadline(active.shard.next_deadline().unwrap_or(NEVER));
        reply
    }

    /// Starts an append; its result if it has one at once and no earlier append is still under way.
    fn append(
        self: &Arc<Self>,
        active: &mut Active<S>,
        token: WriteToken,
        batch: S::Batch,
    ) -> Option<Result<i64, ErrorCode>> {
        let timeout = active.shard.append_timeout(&batch);
        let built = active.shard.to_log(&batch, wall_ms());
        drop(batch);
        let mut append = match built {
            Ok(batch) => {
                let epoch = S::IS_BOUND_TO_EPOCH.then_some(self.epoch);
                self.drivers.log.append(self.index, epoch, batch, timeout)
            }
            Err(error) => {
                tracing::error!(topic = S::TOPIC, partition = self.index, %error, "a record cannot be encoded");
                Box::pin(std::future::ready(Err(ErrorCode::UnknownServerError)))
            }
        };
        if !active.draining {
            if let Some(result) = poll_once(&mut append) {
                return Some(result);
            }
            active.draining = true;
            self.drivers.runtime.spawn(drain(self.clone()));
        }
        active.appends.push_back((token, append));
        None
    }

    /// Starts an errand. What is done of it at once is returned.
    fn run(self: &Arc<Self>, errand: S::Errand) -> Vec<Done<S>> {
        let mut done = Vec::new();
        for mut part in S::run(&self.drivers.hands, errand) {
            match poll_once(&mut part) {
                Some(result) => done.push(result),
                None => drop(self.drivers.runtime.spawn(finish(self.clone(), part))),
            }
        }
        done
    }

    fn reply(&self, token: ReplyToken, response: S::Response) {
        if let State::Active(active) = &mut *self.state.lock() {
            send(&mut active.waiting, token, response);
        }
    }

    fn set_deadline(&self, deadline: Millis) {
        self.deadline.store(deadline, Ordering::SeqCst);
        if deadline < self.drivers.clock.sleeps_until.load(Ordering::SeqCst) {
            self.drivers.clock.wake.notify_one();
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
async fn drain<S: Shard>(partition: Arc<Partition<S>>) {
    while let Some((token, append)) = partition.next_append() {
        let result = append.await;
        partition.tell(S::appended(token, result));
    }
}

async fn finish<S: Shard>(partition: Arc<Partition<S>>, part: Underway<S>) {
    match part.await {
        Done::Event(event) => partition.tell(event),
        Done::Reply(token, response) => partition.reply(token, response),
    }
}

fn send<R>(waiting: &mut HashMap<ReplyToken, oneshot::Sender<R>>, token: ReplyToken, response: R) {
    if let Some(sender) = waiting.remove(&token) {
        // The client may be gone.
        let _ = sender.send(response);
    }
}
