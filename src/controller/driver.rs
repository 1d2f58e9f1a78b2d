//! Runs the controller machine: ZooKeeper, channels, timers and the clock.

use super::channel::{ChannelManager, Channels};
use super::commands::{Command, CommandReply};
use super::event::UncleanChange;
use super::machine::{Controller, Effect, Event, Settings};
use crate::base::time::{monotonic_ms, wall_ms};
use crate::base::{BrokerEpoch, BrokerId, ControllerEpoch, TopicId};
use crate::zookeeper::{SessionEvent, Watches, Zk};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// Who is the controller, as this broker knows from ZooKeeper.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ControllerState {
    pub broker: Option<BrokerId>,
    /// Set while this broker is the controller.
    pub active: Option<ControllerEpoch>,
}

pub(super) enum Input {
    Command(Command, oneshot::Sender<CommandReply>),
    Unclean(UncleanChange),
    Stop(oneshot::Sender<()>),
}

pub(super) struct Driver {
    machine: Controller,
    zk: Zk,
    watches: Arc<Watches>,
    channels: ChannelManager,
    events: mpsc::UnboundedSender<Event>,
    state: watch::Sender<ControllerState>,
    replies: HashMap<u64, oneshot::Sender<CommandReply>>,
    last_token: u64,
    /// When this broker last won an election.
    elected: Instant,
}

/// Where events come from.
pub(super) struct Sources {
    pub inputs: mpsc::UnboundedReceiver<Input>,
    pub sessions: broadcast::Receiver<SessionEvent>,
    /// The broker's epoch: changes when it has registered in a new session.
    pub registrations: watch::Receiver<BrokerEpoch>,
}

impl Driver {
    pub fn spawn(
        zk: Zk,
        settings: Settings,
        channels: Arc<dyn Channels>,
        sources: Sources,
        state: watch::Sender<ControllerState>,
    ) {
        let (events, received) = mpsc::unbounded_channel();
        let (changed, changes) = mpsc::unbounded_channel();
        let driver = Driver {
            machine: Controller::new(settings, Box::new(TopicId::random)),
            zk,
            watches: Arc::new(Watches::new(changed)),
            channels: ChannelManager::new(channels, events.clone()),
            events,
            state,
            replies: HashMap::new(),
            last_token: 0,
            elected: Instant::now(),
        };
        tokio::spawn(driver.run(received, changes, sources));
    }

    async fn run(
        mut self,
        mut received: mpsc::UnboundedReceiver<Event>,
        mut changes: mpsc::UnboundedReceiver<crate::zookeeper::Changed>,
        mut sources: Sources,
    ) {
        sources.registrations.mark_changed();
        loop {
            let event = tokio::select! {
                biased;
                session = sources.sessions.recv() => match session {
                    Ok(SessionEvent::Expired) | Err(broadcast::error::RecvError::Lagged(_)) => Event::SessionExpired,
                    Ok(SessionEvent::Established { .. }) => continue,
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                registered = sources.registrations.changed() => match registered {
                    Ok(()) => match self.zk.session_id().await {
                        Ok(id) => Event::Session { id },
                        Err(_) => return,
                    },
                    Err(_) => return,
                },
                Some(event) = received.recv() => event,
                Some(changed) = changes.recv() => Event::Changed { path: changed.path, children: changed.children },
                input = sources.inputs.recv() => match input {
                    Some(Input::Command(command, reply)) => {
                        self.last_token += 1;
                        self.replies.insert(self.last_token, reply);
                        Event::Command { token: self.last_token, command }
                    }
                    Some(Input::Unclean(change)) => Event::Unclean(change),
                    Some(Input::Stop(done)) => {
                        self.step(Event::Stop);
                        let _ = done.send(());
                        return;
                    }
                    None => return,
                },
            };
            self.step(event);
        }
    }

    fn step(&mut self, event: Event) {
        for effect in self.machine.step(monotonic_ms(), wall_ms(), event) {
            self.apply(effect);
        }
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Zk { token, operations } => {
                let (zk, watches, events) = (self.zk.clone(), self.watches.clone(), self.events.clone());
                tokio::spawn(async move {
                    let answers = zk.run(&operations, Some(&watches)).await;
                    let _ = events.send(Event::Zk { token, answers });
                });
            }
            Effect::OpenChannel { broker, info } => self.channels.open(broker, &info),
            Effect::CloseChannel { broker } => self.channels.close(broker),
            Effect::Send { broker, request } => self.channels.send(broker, request),
            Effect::Timer { timer, at } => {
                let wait = Duration::from_millis(u64::try_from(at - monotonic_ms()).unwrap_or(0));
                let events = self.events.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    let _ = events.send(Event::Timer(timer));
                });
            }
            Effect::Reply { token, reply } => {
                if let Some(waiting) = self.replies.remove(&token) {
                    let _ = waiting.send(reply);
                }
            }
            Effect::Controller { broker, active } => {
                let next = ControllerState { broker, active };
                let changed = self.state.send_if_modified(|state| {
                    let changed = *state != next;
                    *state = next;
                    changed
                });
                if changed {
                    match active {
                        Some(epoch) => {
                            self.elected = Instant::now();
                            tracing::info!(%epoch, "this broker is the controller");
                        }
                        None => tracing::info!(controller = ?broker.map(|id| id.0), "controller"),
                    }
                }
            }
            Effect::TakenOver { brokers, partitions, leaderless } => {
                let took_ms = self.elected.elapsed().as_millis() as u64;
                tracing::info!(brokers, partitions, leaderless, took_ms, "the controller has taken over");
            }
            Effect::ClearWatches => self.watches.clear(),
            Effect::Warn(text) => tracing::warn!("{text}"),
        }
    }
}
