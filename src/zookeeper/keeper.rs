//! Keeps a session: opens connections to the ensemble, one after the other, for as long as the handle is open.
//!
//! Invariant: only the server says that a session has expired; until then it is resumed, however long the ensemble was away.
//! A new session begins only after that.

use super::client::SessionKey;
use super::client::codec::{self, Naming, code};
use super::client::connection::{Connection, End, OpenError, Session, within};
use super::client::endpoints::ConnectString;
use super::client::link::{Link, Request};
use super::embedded::codes::op;
use super::embedded::jute::JuteWriter;
use super::operation::ZkError;
use super::session::{Current, SessionEvent, Shared, ZkConfig};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Between two rounds over all servers.
const RETRY_AFTER: Duration = Duration::from_millis(200);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);

/// How long one server may take to answer; the next one is tried then.
const SERVER_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// How to find the ensemble, and the session with it.
pub struct Keeper {
    config: ZkConfig,
    servers: Vec<(String, u16)>,
    next_server: usize,
    naming: Arc<Naming>,
    session: Session,
    connections: u64,
}

/// A connection that is ready for its task.
pub struct Opened {
    connection: Connection,
    requests: mpsc::UnboundedReceiver<Request>,
    pub link: Link,
    pub key: SessionKey,
}

impl Keeper {
    pub fn new(config: ZkConfig) -> Result<Keeper, ZkError> {
        let connect = ConnectString::parse(&config.connect)?;
        let session = Session::new(config.session_timeout);
        let servers = connect.shuffled();
        let naming = Arc::new(Naming { chroot: connect.chroot, secure: config.security.secure_acls });
        Ok(Keeper { config, servers, next_server: 0, naming, session, connections: 0 })
    }

    /// The same session again, from its key: to end what a process that has died left behind.
    pub fn resuming(config: ZkConfig, key: SessionKey) -> Result<Keeper, ZkError> {
        let mut keeper = Keeper::new(config)?;
        keeper.session.key = key;
        Ok(keeper)
    }

    /// Tries each server once.
    pub async fn open(&mut self) -> Result<Opened, OpenError> {
        let share = self.config.session_timeout / u32::try_from(self.servers.len()).unwrap_or(u32::MAX).max(1);
        let mut last = OpenError::Again("there is no server".into());
        for _ in 0..self.servers.len() {
            self.next_server = (self.next_server + 1) % self.servers.len();
            let Some(server) = self.servers.get(self.next_server).cloned() else { break };
            let attempt = Connection::open(&self.config, &server, &mut self.session);
            match within(share.max(SERVER_TIMEOUT_MIN), attempt).await {
                Ok(mut connection) => {
                    self.make_chroot(&mut connection).await?;
                    return Ok(self.opened(connection));
                }
                Err(OpenError::Again(reason)) => {
                    tracing::debug!(server = %server.0, port = server.1, reason, "no connection to ZooKeeper");
                    last = OpenError::Again(reason);
                }
                Err(other) => return Err(other),
            }
        }
        Err(last)
    }

    fn opened(&mut self, connection: Connection) -> Opened {
        self.connections += 1;
        let (sender, requests) = mpsc::unbounded_channel();
        let key = self.session.key.clone();
        let link = Link { number: self.connections, session: key.id, naming: self.naming.clone(), requests: sender };
        Opened { connection, requests, link, key }
    }

    /// Creates the chroot at the first connection, if it is absent.
    async fn make_chroot(&mut self, connection: &mut Connection) -> Result<(), OpenError> {
        let chroot = &self.naming.chroot;
        if self.connections > 0 || chroot.is_empty() {
            return Ok(());
        }
        let mut exists = JuteWriter::new();
        exists.string(chroot).bool(false);
        if connection.call(op::EXISTS, exists.as_slice()).await?.code == code::OK {
            return Ok(());
        }
        let naming = Naming { chroot: String::new(), secure: self.naming.secure };
        let ends = chroot.match_indices('/').skip(1).map(|(at, _)| at).chain([chroot.len()]);
        for path in ends.filter_map(|end| chroot.get(..end)) {
            match connection.call(op::CREATE, &codec::create(path, &naming)).await?.code {
                code::OK | code::NODE_EXISTS => {}
                error => {
                    let reason = format!("its chroot cannot be created: error {error} at {path}");
                    let connect = self.config.connect.clone();
                    return Err(OpenError::Fatal(ZkError::ConnectString { connect, reason }));
                }
            }
        }
        Ok(())
    }

    /// Keeps the session, and begins the next when it has expired, until the handle is closed.
    pub async fn keep(mut self, shared: Arc<Shared>, mut opened: Opened) {
        let mut generation = 1;
        loop {
            let Opened { connection, mut requests, .. } = opened;
            match connection.serve(&mut self.session, &mut requests).await {
                End::Closed => return,
                End::Lost(reason) => tracing::warn!(reason, "connection to ZooKeeper lost"),
            }
            if !replace(&shared, Current::Away) {
                return;
            }
            // Whoever waits for an answer sees that it is lost, and sends again with the next connection.
            drop(requests);
            let Some(next) = self.reopen(&shared, &mut generation).await else { return };
            opened = next;
        }
    }

    /// Resumes the session, or opens the next one, for as long as it takes. `None` when the handle was closed.
    async fn reopen(&mut self, shared: &Shared, generation: &mut u64) -> Option<Opened> {
        let (mut resumed, mut pause) = (true, RETRY_AFTER);
        loop {
            if matches!(*shared.current.borrow(), Current::Closed) {
                return None;
            }
            match self.open().await {
                Ok(opened) => {
                    *generation += u64::from(!resumed);
                    let current = Current::Connected {
                        link: opened.link.clone(),
                        key: opened.key.clone(),
                        generation: *generation,
                    };
                    if !replace(shared, current) {
                        return None;
                    }
                    tracing::info!(session = format!("{:#x}", opened.key.id), resumed, "connected to ZooKeeper again");
                    if !resumed {
                        let _ = shared.events.send(SessionEvent::Established { generation: *generation });
                    }
                    return Some(opened);
                }
                Err(OpenError::Expired) => {
                    tracing::warn!(session = format!("{:#x}", self.session.key.id), "ZooKeeper session expired");
                    self.session.key = SessionKey::NONE;
                    self.session.watches.fire_all();
                    let _ = shared.events.send(SessionEvent::Expired);
                    resumed = false;
                    continue;
                }
                Err(OpenError::Again(reason)) => tracing::debug!(reason, "no ZooKeeper server answers"),
                Err(OpenError::Fatal(error)) => tracing::error!(%error, "no ZooKeeper session; trying on"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_AFTER_MAX);
        }
    }
}

/// Sets the current connection unless the handle was closed meanwhile.
fn replace(shared: &Shared, next: Current) -> bool {
    shared.current.send_if_modified(|current| {
        let open = !matches!(current, Current::Closed);
        if open {
            *current = next;
        }
        open
    })
}

/// Opens a first connection, for at most `connection_timeout`.
pub async fn first(config: ZkConfig) -> Result<(Keeper, Opened), ZkError> {
    let mut keeper = Keeper::new(config)?;
    let (connect, limit) = (keeper.config.connect.clone(), keeper.config.connection_timeout);
    let rounds = async {
        loop {
            match keeper.open().await {
                Ok(opened) => return Ok(opened),
                Err(OpenError::Fatal(error)) => return Err(error),
                // A new session cannot have expired; a server that says so is not one to stay with.
                Err(_) => tokio::time::sleep(RETRY_AFTER).await,
            }
        }
    };
    let opened = tokio::time::timeout(limit, rounds).await;
    let opened = opened.map_err(|_| ZkError::ConnectTimeout { connect, timeout_ms: limit.as_millis() })??;
    Ok((keeper, opened))
}

/// How the end of a session came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    Now,
    /// The server does not know it: it was closed, or has expired.
    Before,
}

/// Ends the session of somebody else who knew its key, which removes its ephemeral znodes at once. Tries for as long as the
/// session can live.
pub async fn end_session(config: ZkConfig, key: SessionKey) -> Result<Ended, ZkError> {
    let limit = config.session_timeout * 2;
    let (connect, timeout_ms) = (config.connect.clone(), limit.as_millis());
    let attempts = async {
        loop {
            let mut keeper = Keeper::resuming(config.clone(), key.clone())?;
            match keeper.open().await {
                Ok(Opened { connection, mut requests, link, .. }) => {
                    let closing = tokio::spawn(async move { link.close_session().await });
                    connection.serve(&mut keeper.session, &mut requests).await;
                    // A request that was not sent any more is not waited for.
                    drop(requests);
                    if closing.await.unwrap_or(false) {
                        return Ok(Ended::Now);
                    }
                }
                Err(OpenError::Expired) => return Ok(Ended::Before),
                Err(OpenError::Fatal(error)) => return Err(error),
                Err(OpenError::Again(_)) => {}
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(limit, attempts).await.unwrap_or(Err(ZkError::ConnectTimeout { connect, timeout_ms }))
}
