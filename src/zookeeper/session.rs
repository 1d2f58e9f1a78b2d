//! The session with the ensemble (class `ZooKeeperClient`): a cloneable handle that survives lost connections and sessions.
//!
//! Invariant: connection loss is waited out and repeated in silence. Only the server says that a session has expired. Reads go
//! on with the next session; writes that were under way when a session ended fail with [`ZkError::SessionExpired`].

use super::client::SessionKey;
use super::client::link::{Failure, Link};
use super::client::tls::TlsClient;
use super::keeper::{self, Opened};
use super::operation::{Answer, CreateMode, Operation, Stat, Write, Written, ZkError};
use super::watches::Watches;
use crate::config::BrokerConfig;
use crate::config::jaas::Login;
use crate::config::zookeeper::ZookeeperSecurity;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// Requests on the wire at once. The server answers in order, so this only bounds memory.
const IN_FLIGHT_MAX: usize = 1024;

/// How long the server may take to confirm the end of a session.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// How to reach the ensemble.
#[derive(Clone, Debug)]
pub struct ZkConfig {
    /// `host:port,host:port/chroot`.
    pub connect: String,
    pub session_timeout: Duration,
    /// How long the first connection may take.
    pub connection_timeout: Duration,
    pub security: ZkSecurity,
}

/// Who both sides are, and for whom znodes are.
#[derive(Clone, Debug, Default)]
pub struct ZkSecurity {
    pub tls: Option<TlsClient>,
    pub sasl: Option<Login>,
    /// `zookeeper.set.acl`
    pub secure_acls: bool,
}

impl ZkSecurity {
    /// Opens the stores that the configuration names.
    pub fn open(config: &ZookeeperSecurity) -> Result<ZkSecurity, ZkError> {
        let tls = config.tls.clone().map(TlsClient::new).transpose()?;
        Ok(ZkSecurity { tls, sasl: config.login.clone(), secure_acls: config.set_acl })
    }
}

impl ZkConfig {
    /// What the broker is configured with, for these servers.
    pub fn of(config: &BrokerConfig, connect: String) -> Result<ZkConfig, ZkError> {
        let millis = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        Ok(ZkConfig {
            connect,
            session_timeout: millis(config.zookeeper_session_timeout_ms),
            connection_timeout: millis(config.zookeeper_connection_timeout_ms),
            security: ZkSecurity::open(&config.zookeeper_security)?,
        })
    }
}

impl Default for ZkConfig {
    /// Kafka's time-outs.
    fn default() -> ZkConfig {
        let timeout = Duration::from_secs(18);
        let connect = "localhost:2181".to_owned();
        ZkConfig { connect, session_timeout: timeout, connection_timeout: timeout, security: ZkSecurity::default() }
    }
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
        link: Link,
        key: SessionKey,
        generation: u64,
    },
    /// Between two connections.
    Away,
    Closed,
}

pub(super) struct Shared {
    pub current: watch::Sender<Current>,
    pub events: broadcast::Sender<SessionEvent>,
}

impl Shared {
    fn of(opened: &Opened) -> Shared {
        let current = Current::Connected { link: opened.link.clone(), key: opened.key.clone(), generation: 1 };
        Shared { current: watch::Sender::new(current), events: broadcast::Sender::new(64) }
    }
}

/// Handle to the session. Clones share it.
#[derive(Clone)]
pub struct Zk {
    shared: Arc<Shared>,
}

impl Zk {
    /// Connects, creates the chroot if it is absent, and keeps a session from then on, on the current tokio runtime.
    pub async fn connect(config: ZkConfig) -> Result<Zk, ZkError> {
        let (keeper, opened) = keeper::first(config).await?;
        let shared = Arc::new(Shared::of(&opened));
        tokio::spawn(keeper.keep(shared.clone(), opened));
        Ok(Zk { shared })
    }

    /// Keeps a session whose connection the caller has.
    #[cfg(test)]
    pub(super) async fn hold(keeper: keeper::Keeper, opened: Opened) {
        let shared = Arc::new(Shared::of(&opened));
        keeper.keep(shared, opened).await;
    }

    /// Expiry and new sessions from now on.
    pub fn events(&self) -> broadcast::Receiver<SessionEvent> {
        self.shared.events.subscribe()
    }

    /// The server's id of the session; waits for one.
    pub async fn session_id(&self) -> Result<i64, ZkError> {
        Ok(self.link().await?.0.session)
    }

    /// Id and password: with them another connection can resume the session, and end it.
    pub async fn session_key(&self) -> Result<SessionKey, ZkError> {
        let mut current = self.shared.current.subscribe();
        let usable = |current: &Current| !matches!(current, Current::Away);
        match current.wait_for(usable).await.map(|current| current.clone()) {
            Ok(Current::Connected { key, .. }) => Ok(key),
            _ => Err(ZkError::Closed),
        }
    }

    /// Whether there is a connection at the moment.
    pub fn is_connected(&self) -> bool {
        matches!(&*self.shared.current.borrow(), Current::Connected { .. })
    }

    /// Ends the session, which removes its ephemeral znodes. Every later call fails with [`ZkError::Closed`]. Whether the server
    /// has confirmed it.
    pub async fn close(&self) -> bool {
        match self.shared.current.send_replace(Current::Closed) {
            Current::Connected { link, .. } => {
                tokio::time::timeout(CLOSE_WITHIN, link.close_session()).await.unwrap_or(false)
            }
            _ => false,
        }
    }

    async fn link(&self) -> Result<(Link, u64), ZkError> {
        self.link_after(0).await
    }

    /// The current connection, if it is a later one than this; else the next.
    async fn link_after(&self, lost: u64) -> Result<(Link, u64), ZkError> {
        let mut current = self.shared.current.subscribe();
        let usable = |current: &Current| match current {
            Current::Connected { link, .. } => link.number > lost,
            Current::Away => false,
            Current::Closed => true,
        };
        match current.wait_for(usable).await.map(|current| current.clone()) {
            Ok(Current::Connected { link, generation, .. }) => Ok((link, generation)),
            _ => Err(ZkError::Closed),
        }
    }

    /// Runs independent operations: they are sent at once, in order, and answered in order.
    pub async fn run(&self, operations: &[Operation], watches: Option<&Watches>) -> Vec<Result<Answer, ZkError>> {
        let mut answers: Vec<Option<Result<Answer, ZkError>>> = vec![None; operations.len()];
        let mut todo: Vec<usize> = (0..operations.len()).collect();
        let (mut first_generation, mut lost_link) = (None, 0);
        while !todo.is_empty() {
            let (link, generation) = match self.link_after(lost_link).await {
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
                let sent: Vec<_> = window.iter().map(|&at| (at, link.submit(&operations[at], watches))).collect();
                for (at, answer) in sent {
                    match settle(&link, &operations[at], answer.await, repeated).await {
                        Ok(answer) => answers[at] = Some(answer),
                        Err(()) => lost.push(at),
                    }
                }
            }
            todo = lost;
            lost_link = link.number;
        }
        answers.into_iter().map(|answer| answer.unwrap_or(Err(ZkError::Closed))).collect()
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
    link: &Link,
    operation: &Operation,
    outcome: Result<Answer, Failure>,
    repeated: bool,
) -> Result<Result<Answer, ZkError>, ()> {
    match (outcome, operation) {
        (Ok(answer), _) => Ok(Ok(answer)),
        (Err(Failure::Lost), _) => Err(()),
        (Err(Failure::Answered(error)), Operation::Multi(writes)) if repeated => match link.verify(writes).await {
            Ok(Some(answer)) => Ok(Ok(answer)),
            Ok(None) => Ok(Err(error)),
            Err(Failure::Lost) => Err(()),
            Err(Failure::Answered(other)) => Ok(Err(other)),
        },
        (Err(Failure::Answered(error)), _) => Ok(Err(error)),
    }
}
