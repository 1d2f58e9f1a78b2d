//! The session with the ensemble (class `ZooKeeperClient`): a cloneable handle that survives lost connections and sessions.
//!
//! Invariant: one client of the crate per connection of ours to the session, and a generation number per session. Connection
//! loss is waited out and repeated in silence. Only the server says that a session has expired: when the crate gives up by its
//! own clock the same session is resumed first, so that an ensemble that was away costs no registration. Reads go on with the
//! next session; writes that were under way when a session ended fail with [`ZkError::SessionExpired`].

use super::keeper::{OpenError, keep, open};
use super::operation::{Answer, CreateMode, Operation, Stat, Write, Written, ZkError};
use super::submit::{Failure, submit, verify};
use super::watches::Watches;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use zookeeper_client::{Client, SessionState};

/// Requests on the wire at once. The server answers in order, so this only bounds memory.
const IN_FLIGHT_MAX: usize = 1024;

/// How to reach the ensemble.
#[derive(Clone, Debug)]
pub struct ZkConfig {
    /// `host:port,host:port/chroot`.
    pub connect: String,
    pub session_timeout: Duration,
    /// How long the first connection may take.
    pub connection_timeout: Duration,
}

/// What happens to the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionEvent {
    /// The server has dropped the session: ephemeral znodes are gone, watches too. No new session exists yet.
    Expired,
    /// A new session is there.
    Established { generation: u64 },
}

#[derive(Clone)]
pub(super) enum Current {
    Connected {
        client: Client,
        generation: u64,
    },
    /// Between two clients.
    Away,
    Closed,
}

pub(super) struct Shared {
    pub config: ZkConfig,
    pub current: watch::Sender<Current>,
    pub events: broadcast::Sender<SessionEvent>,
}

/// Handle to the session. Clones share it.
#[derive(Clone)]
pub struct Zk {
    shared: Arc<Shared>,
}

impl Zk {
    /// Connects, creates the chroot if it is absent, and keeps a session from then on, on the current tokio runtime.
    pub async fn connect(config: ZkConfig) -> Result<Zk, ZkError> {
        let attempt = tokio::time::timeout(config.connection_timeout, open(&config, None));
        let client = match attempt.await {
            Ok(Ok(client)) => client,
            Ok(Err(OpenError::Fatal(error))) => return Err(error),
            Ok(Err(_)) | Err(_) => {
                let timeout_ms = config.connection_timeout.as_millis();
                return Err(ZkError::ConnectTimeout { connect: config.connect, timeout_ms });
            }
        };
        let current = watch::Sender::new(Current::Connected { client: client.clone(), generation: 1 });
        let shared = Arc::new(Shared { config, current, events: broadcast::Sender::new(64) });
        tokio::spawn(keep(shared.clone(), client));
        Ok(Zk { shared })
    }

    /// Expiry and new sessions from now on.
    pub fn events(&self) -> broadcast::Receiver<SessionEvent> {
        self.shared.events.subscribe()
    }

    /// Number of the session, from 1; `None` between two sessions.
    pub fn generation(&self) -> Option<u64> {
        match &*self.shared.current.borrow() {
            Current::Connected { generation, .. } => Some(*generation),
            _ => None,
        }
    }

    /// The server's id of the session; waits for one.
    pub async fn session_id(&self) -> Result<i64, ZkError> {
        Ok(self.client().await?.0.session_id().0)
    }

    /// Id and password: with them another connection can resume the session, and end it.
    pub async fn session_info(&self) -> Result<zookeeper_client::SessionInfo, ZkError> {
        Ok(self.client().await?.0.session().clone())
    }

    /// Whether requests are answered at the moment.
    pub fn is_connected(&self) -> bool {
        match &*self.shared.current.borrow() {
            Current::Connected { client, .. } => client.state() == SessionState::SyncConnected,
            _ => false,
        }
    }

    /// Ends the session, which removes its ephemeral znodes. Every later call fails with [`ZkError::Closed`].
    pub async fn close(&self) {
        let last = self.shared.current.send_replace(Current::Closed);
        if let Current::Connected { client, .. } = last {
            let mut state = client.state_watcher();
            drop(client);
            let closed = async { while !state.state().is_terminated() && !state.changed().await.is_terminated() {} };
            let _ = tokio::time::timeout(Duration::from_secs(2), closed).await;
        }
    }

    async fn client(&self) -> Result<(Client, u64), ZkError> {
        let mut current = self.shared.current.subscribe();
        loop {
            match &*current.borrow_and_update() {
                Current::Connected { client, generation } => return Ok((client.clone(), *generation)),
                Current::Closed => return Err(ZkError::Closed),
                Current::Away => {}
            }
            if current.changed().await.is_err() {
                return Err(ZkError::Closed);
            }
        }
    }

    /// Runs independent operations: they are sent at once, in order, and answered in order.
    pub async fn run(&self, operations: &[Operation], watches: Option<&Watches>) -> Vec<Result<Answer, ZkError>> {
        let mut answers: Vec<Option<Result<Answer, ZkError>>> = vec![None; operations.len()];
        let mut todo: Vec<usize> = (0..operations.len()).collect();
        let mut first_generation = None;
        while !todo.is_empty() {
            let (client, generation) = match self.client().await {
                Ok(found) => found,
                Err(error) => {
                    todo.iter().for_each(|&at| answers[at] = Some(Err(error.clone())));
                    break;
                }
            };
            let repeated = first_generation.is_some();
            if *first_generation.get_or_insert(generation) != generation {
                todo.retain(|&at| {
                    let read = operations[at].is_read();
                    if !read {
                        answers[at] = Some(Err(ZkError::SessionExpired));
                    }
                    read
                });
            }
            let mut lost = Vec::new();
            for window in todo.chunks(IN_FLIGHT_MAX) {
                let sent: Vec<_> = window.iter().map(|&at| (at, submit(&client, &operations[at]))).collect();
                for (at, answer) in sent {
                    match settle(&client, &operations[at], answer.await, repeated, watches).await {
                        Ok(answer) => answers[at] = Some(answer),
                        Err(()) => lost.push(at),
                    }
                }
            }
            todo = lost;
            if !todo.is_empty() {
                self.wait_after_loss(&client).await;
            }
        }
        answers.into_iter().map(|answer| answer.unwrap_or(Err(ZkError::Closed))).collect()
    }

    /// Until the connection is back, or the client at hand has given up.
    async fn wait_after_loss(&self, client: &Client) {
        let mut state = client.state_watcher();
        let mut current = self.shared.current.subscribe();
        loop {
            match client.state() {
                SessionState::SyncConnected | SessionState::ConnectedReadOnly => return,
                SessionState::Disconnected => {
                    state.changed().await;
                }
                _ => break,
            }
        }
        // The keeper replaces a client that has ended; until then `current` still shows it.
        let ended = client.session_id();
        let replaced = |current: &Current| match current {
            Current::Connected { client: now, .. } => now.session_id() != ended || !now.state().is_terminated(),
            Current::Away => false,
            Current::Closed => true,
        };
        let _ = current.wait_for(replaced).await;
    }

    async fn one(&self, operation: Operation) -> Result<Answer, ZkError> {
        self.run(std::slice::from_ref(&operation), None).await.pop().unwrap_or(Err(ZkError::Closed))
    }

    /// `None` if there is no such znode.
    pub async fn get(&self, path: &str) -> Result<Option<(Vec<u8>, Stat)>, ZkError> {
        match self.one(Operation::get(path)).await {
            Ok(Answer::Data(data, stat)) => Ok(Some((data, stat))),
            Err(ZkError::NoNode) => Ok(None),
            other => unexpected(other),
        }
    }

    pub async fn exists(&self, path: &str) -> Result<Option<Stat>, ZkError> {
        match self.one(Operation::exists(path)).await {
            Ok(Answer::Exists(stat)) => Ok(stat),
            other => unexpected(other),
        }
    }

    /// Empty if there is no such znode.
    pub async fn children(&self, path: &str) -> Result<Vec<String>, ZkError> {
        match self.one(Operation::children(path)).await {
            Ok(Answer::Children(children, _)) => Ok(children),
            Err(ZkError::NoNode) => Ok(Vec::new()),
            other => unexpected(other),
        }
    }

    /// All writes or none.
    pub async fn multi(&self, writes: Vec<Write>) -> Result<Vec<Written>, ZkError> {
        match self.one(Operation::Multi(writes)).await {
            Ok(Answer::Multi(written)) => Ok(written),
            other => unexpected(other),
        }
    }

    async fn write(&self, write: Write) -> Result<Written, ZkError> {
        let mut written = self.multi(vec![write]).await.map_err(ZkError::flatten)?;
        written.pop().ok_or_else(|| ZkError::Other("a write was not answered".into()))
    }

    /// Creates one znode and returns its path, which for a sequential one ends in its number.
    pub async fn create(&self, path: &str, data: &[u8], mode: CreateMode) -> Result<String, ZkError> {
        match self.write(Write::Create { path: path.into(), data: data.into(), mode }).await? {
            Written::Created(path) => Ok(path),
            _ => Err(ZkError::Other("a create was answered with something else".into())),
        }
    }

    /// Creates a persistent znode and the parents that it lacks.
    pub async fn create_with_parents(&self, path: &str, data: &[u8]) -> Result<(), ZkError> {
        match self.create(path, data, CreateMode::Persistent).await {
            Err(ZkError::NoNode) => {}
            other => return other.map(|_| ()),
        }
        for (at, _) in path.match_indices('/').skip(1) {
            match self.create(&path[..at], b"", CreateMode::Persistent).await {
                Ok(_) | Err(ZkError::NodeExists) => {}
                Err(error) => return Err(error),
            }
        }
        self.create(path, data, CreateMode::Persistent).await.map(|_| ())
    }

    /// A version of `None` matches any.
    pub async fn set(&self, path: &str, data: &[u8], version: Option<i32>) -> Result<Stat, ZkError> {
        match self.write(Write::set(path, data, version)).await? {
            Written::Set(stat) => Ok(stat),
            _ => Err(ZkError::Other("a set was answered with something else".into())),
        }
    }

    /// Fine if the znode is gone already.
    pub async fn delete(&self, path: &str, version: Option<i32>) -> Result<(), ZkError> {
        match self.write(Write::delete(path, version)).await {
            Ok(_) | Err(ZkError::NoNode) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn unexpected<T>(answer: Result<Answer, ZkError>) -> Result<T, ZkError> {
    match answer {
        Err(error) => Err(error),
        Ok(_) => Err(ZkError::Other("a request was answered with something else".into())),
    }
}

/// Makes an answer of what came back; `Err` when the operation has to be sent again.
async fn settle(
    client: &Client,
    operation: &Operation,
    outcome: Result<(Answer, Option<zookeeper_client::OneshotWatcher>), Failure>,
    repeated: bool,
    watches: Option<&Watches>,
) -> Result<Result<Answer, ZkError>, ()> {
    match outcome {
        Ok((answer, watcher)) => {
            if let (Some(watches), Some(watcher)) = (watches, watcher) {
                watches.arm(operation, watcher);
            }
            Ok(Ok(answer))
        }
        Err(Failure::Lost) => Err(()),
        Err(Failure::Answered(error)) => match operation {
            Operation::Multi(writes) if repeated => match verify(client, writes, client.session_id().0).await {
                Ok(Some(answer)) => Ok(Ok(answer)),
                Ok(None) => Ok(Err(error)),
                Err(Failure::Lost) => Err(()),
                Err(Failure::Answered(other)) => Ok(Err(other)),
            },
            _ => Ok(Err(error)),
        },
    }
}
