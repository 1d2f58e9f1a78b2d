//! The driver: listeners, timers, and the lock around the machine.
//!
//! Invariant: a frame leaves only through the gate, which opens when every log entry before it is on disk.
//! Classes `NIOServerCnxnFactory`, `SyncRequestProcessor`.

mod connection;
mod core;
mod four_letters;
mod journal;
mod outbox;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::core::Core;
use self::journal::Journal;
use super::files::folder::Folder;
use super::files::recovery::{self, Recovered};
use super::files::writer::LogWriter;
use super::machine::{Machine, Now, Rules};
use super::{EmbeddedConfig, EmbeddedError, FileError, JUTE_MAX_BUFFER};
use crate::base::Millis;
use crate::base::time::{monotonic_ms, wall_ms};

/// After a start that replayed more than this, a snapshot spares the next one the same work.
const REPLAYED_MAX: u64 = 10_000;

/// A running server. Dropping it stops it; `shutdown` also waits.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    tasks: TaskTracker,
    writer: Option<std::thread::JoinHandle<()>>,
}

/// What all tasks share.
struct Shared {
    config: EmbeddedConfig,
    core: Mutex<Core>,
    journal: Arc<Journal>,
    /// Rung when a deadline may have come closer.
    timer: Notify,
    /// Rung when the disk caught up.
    written: Notify,
    stop: CancellationToken,
    failure: Mutex<Option<FileError>>,
    port: u16,
    started_ms: Millis,
    digest_mismatches: u64,
}

impl Server {
    /// Loads the folder, listens, and serves on the current runtime.
    pub async fn start(config: EmbeddedConfig) -> Result<Self, EmbeddedError> {
        let rules = rules(&config);
        let (folder, recovered) = load(&config, rules.entry_bytes_max).await?;
        let listeners = listen(&config).await?;
        let address = listeners.iter().find_map(|listener| listener.local_addr().ok());
        let address = address.ok_or_else(|| listen_error(&config, io::ErrorKind::AddrNotAvailable.into()))?;
        let Recovered { tree, tail, replayed, digest_mismatches, changed } = recovered;
        let log = LogWriter::new(folder.dir(), tail)?;
        let journal = Arc::new(Journal::default());
        let mut core = Core::new(Machine::new(rules, tree, now()), journal.clone(), config.snap_count, replayed);
        if changed || replayed > REPLAYED_MAX {
            core.snapshot();
        }
        let shared = Arc::new(Shared {
            config,
            core: Mutex::new(core),
            journal,
            timer: Notify::new(),
            written: Notify::new(),
            stop: CancellationToken::new(),
            failure: Mutex::new(None),
            port: address.port(),
            started_ms: monotonic_ms(),
            digest_mismatches,
        });
        let writer = Some(start_writer(shared.clone(), folder, log)?);
        let tasks = TaskTracker::new();
        for listener in listeners {
            tasks.spawn(accept_loop(shared.clone(), listener, tasks.clone()));
        }
        tasks.spawn(timer_loop(shared.clone()));
        tasks.close();
        Ok(Self { shared, address, tasks, writer })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Returns when the disk failed and the server therefore stopped; never otherwise.
    pub async fn failed(&self) -> EmbeddedError {
        self.shared.stop.cancelled().await;
        if let Some(error) = self.shared.failure.lock().take() {
            return error.into();
        }
        std::future::pending().await
    }

    /// Stops serving. Sessions stay in the folder and go on when the server comes back.
    pub async fn shutdown(mut self) {
        self.shared.stop.cancel();
        self.tasks.wait().await;
        self.shared.journal.close();
        if let Some(writer) = self.writer.take() {
            let joined = tokio::task::spawn_blocking(move || writer.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("embedded ZooKeeper: the writer thread panicked");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.shared.journal.close();
    }
}

impl Shared {
    /// Waits until the disk has caught up enough to take more.
    async fn uncongested(&self) {
        loop {
            let written = self.written.notified();
            tokio::pin!(written);
            written.as_mut().enable();
            if !self.core.lock().is_congested() {
                return;
            }
            written.await;
        }
    }
}

/// Locks and reads the folder, off the runtime's own threads.
async fn load(config: &EmbeddedConfig, entry_bytes_max: usize) -> Result<(Folder, Recovered), EmbeddedError> {
    let data_dir = config.data_dir.clone();
    let load = move || {
        let folder = Folder::open(&data_dir)?;
        let recovered = recovery::recover(&folder, entry_bytes_max)?;
        Ok((folder, recovered))
    };
    tokio::task::spawn_blocking(load).await.map_err(|error| EmbeddedError::Thread(io::Error::other(error)))?
}

fn start_writer(
    shared: Arc<Shared>,
    folder: Folder,
    log: LogWriter,
) -> Result<std::thread::JoinHandle<()>, EmbeddedError> {
    let run = move || {
        let durable = |count| {
            shared.core.lock().durable(count);
            shared.written.notify_waiters();
        };
        if let Err(error) = shared.journal.run(Arc::new(folder), log, durable) {
            tracing::error!(%error, "embedded ZooKeeper cannot write and stops");
            *shared.failure.lock() = Some(error);
            shared.stop.cancel();
        }
    };
    std::thread::Builder::new().name("zk-log".to_owned()).spawn(run).map_err(EmbeddedError::Thread)
}

fn now() -> Now {
    Now { monotonic_ms: monotonic_ms(), wall_ms: wall_ms() }
}

fn rules(config: &EmbeddedConfig) -> Rules {
    let tick_ms = i64::try_from(config.tick_time_ms).unwrap_or(i64::MAX).max(1);
    let or_ticks = |set: Option<u32>, ticks: i64| {
        let timeout_ms = set.map_or(tick_ms.saturating_mul(ticks), i64::from);
        i32::try_from(timeout_ms).unwrap_or(i32::MAX)
    };
    Rules {
        tick_ms,
        min_session_timeout_ms: or_ticks(config.min_session_timeout_ms, 2),
        max_session_timeout_ms: or_ticks(config.max_session_timeout_ms, 20),
        extended_types: config.extended_types_enabled,
        super_digest: config.super_digest.clone(),
        entry_bytes_max: config.jute_max_buffer.max(JUTE_MAX_BUFFER).saturating_mul(2),
    }
}

/// Listens on every address of the name, so that `localhost` means both families.
async fn listen(config: &EmbeddedConfig) -> Result<Vec<TcpListener>, EmbeddedError> {
    let resolved = tokio::net::lookup_host((config.address.as_str(), config.port)).await;
    let mut addresses: Vec<SocketAddr> = resolved.map_err(|source| listen_error(config, source))?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    let mut listeners = Vec::new();
    let mut failed = None;
    let mut port = config.port;
    for mut address in addresses {
        address.set_port(port);
        match TcpListener::bind(address).await {
            Ok(listener) => {
                port = listener.local_addr().map_or(port, |address| address.port());
                listeners.push(listener);
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && config.port != 0 => {
                return Err(EmbeddedError::PortInUse { address: address.to_string() });
            }
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if listeners.is_empty() => Err(listen_error(config, error)),
        _ => Ok(listeners),
    }
}

fn listen_error(config: &EmbeddedConfig, source: io::Error) -> EmbeddedError {
    EmbeddedError::Listen { address: format!("{}:{}", config.address, config.port), source }
}

async fn accept_loop(shared: Arc<Shared>, listener: TcpListener, tasks: TaskTracker) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => start_connection(&shared, stream, peer, &tasks),
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to be freed instead of spinning.
                tracing::warn!(%error, "embedded ZooKeeper cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn start_connection(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr, tasks: &TaskTracker) {
    let limit = shared.config.max_client_cnxns;
    let Some((id, outbox)) = shared.core.lock().accept(peer, limit, now()) else {
        tracing::warn!(%peer, limit, "too many connections from this address");
        return;
    };
    tasks.spawn(connection::serve(shared.clone(), id, outbox, stream));
}

/// Sleeps until something is due; without sessions it sleeps for good.
async fn timer_loop(shared: Arc<Shared>) {
    loop {
        let deadline = shared.core.lock().next_deadline();
        let due = async {
            match deadline {
                Some(at) => {
                    let wait_ms = u64::try_from(at - monotonic_ms()).unwrap_or(0);
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => shared.core.lock().tick(now()),
            () = shared.timer.notified() => {}
            () = shared.stop.cancelled() => return,
        }
    }
}
