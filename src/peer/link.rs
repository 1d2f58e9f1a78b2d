//! The task behind a [`super::Peer`]: it connects when there is something to send, and pairs answers with requests.
//!
//! Invariant: answers come in the order of requests. One that is late, or carries another correlation id, ends the connection, and
//! with it every request that was on its way.

use super::connection::{Connection, Io, Versions};
use super::error::PeerError;
use super::sender::PeerConfig;
use crate::wire::header;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Requests are taken from the queue while fewer bytes than this wait to be written.
const OUTGOING_BYTES_MAX: usize = 1 << 20;

/// A request on its way to the task.
pub(super) struct Job {
    pub api_key: i16,
    pub version: i16,
    pub correlation_id: i32,
    /// The whole frame; empty if only the versions are asked for.
    pub frame: Bytes,
    pub answer: oneshot::Sender<Result<Bytes, PeerError>>,
}

struct InFlight {
    job: Job,
    deadline: Instant,
}

pub(super) struct Link {
    pub config: PeerConfig,
    pub host: String,
    pub port: u16,
    pub versions: Arc<parking_lot::RwLock<Versions>>,
    backoff: Duration,
    not_before: Instant,
}

impl Link {
    pub fn new(config: PeerConfig, host: String, port: u16, versions: Arc<parking_lot::RwLock<Versions>>) -> Link {
        let backoff = config.reconnect_backoff;
        Link { config, host, port, versions, backoff, not_before: Instant::now() }
    }

    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Runs until the peer is dropped.
    pub async fn run(mut self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        let mut first = None;
        loop {
            let Some(job) = (match first.take() {
                Some(job) => Some(job),
                None => jobs.recv().await,
            }) else {
                return;
            };
            if job.answer.is_closed() {
                continue;
            }
            tokio::time::sleep_until(self.not_before).await;
            match self.connect().await {
                Ok(connection) => first = self.serve(connection, job, &mut jobs).await,
                Err(error) => {
                    let _ = job.answer.send(Err(error.clone()));
                    // They would have made the same attempt.
                    while let Ok(job) = jobs.try_recv() {
                        let _ = job.answer.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    async fn connect(&mut self) -> Result<Connection, PeerError> {
        let open = Connection::open(&self.host, self.port, &self.config.client_id, self.config.frame_bytes_max);
        let opened = match tokio::time::timeout(self.config.connect_timeout, open).await {
            Ok(opened) => opened,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time")),
        };
        match opened {
            Ok((connection, versions)) => {
                *self.versions.write() = versions;
                self.backoff = self.config.reconnect_backoff;
                Ok(connection)
            }
            Err(error) => {
                self.not_before = Instant::now() + self.backoff;
                self.backoff = (self.backoff * 2).min(self.config.reconnect_backoff_max);
                Err(self.broken(&error))
            }
        }
    }

    fn broken(&self, error: &io::Error) -> PeerError {
        let (address, reason) = (self.address(), error.to_string());
        match error.kind() {
            io::ErrorKind::InvalidData => PeerError::Malformed { address, reason },
            _ => PeerError::Disconnected { address, reason },
        }
    }

    /// Serves one connection until it ends. Returns a request that was taken from the queue but not written.
    async fn serve(
        &mut self,
        mut connection: Connection,
        first: Job,
        jobs: &mut mpsc::UnboundedReceiver<Job>,
    ) -> Option<Job> {
        let mut flying: VecDeque<InFlight> = VecDeque::new();
        self.launch(first, &mut connection, &mut flying);
        loop {
            let deadline = flying.front().map(|oldest| oldest.deadline);
            let may_take = connection.unwritten() < OUTGOING_BYTES_MAX;
            tokio::select! {
                biased;
                done = connection.io() => match done {
                    Ok(Io::Written) => {}
                    Ok(Io::Frame(frame)) => {
                        if let Err(error) = self.land(frame, &mut flying) {
                            self.crash(flying, error);
                            return None;
                        }
                    }
                    Err(error) => {
                        self.crash(flying, self.broken(&error));
                        return None;
                    }
                },
                job = jobs.recv(), if may_take => match job {
                    Some(job) => self.launch(job, &mut connection, &mut flying),
                    None => return None,
                },
                () = at(deadline) => {
                    let timeout_ms = self.config.request_timeout.as_millis() as u64;
                    self.crash(flying, PeerError::TimedOut { address: self.address(), timeout_ms });
                    return None;
                }
            }
        }
    }

    fn launch(&self, job: Job, connection: &mut Connection, flying: &mut VecDeque<InFlight>) {
        if job.answer.is_closed() {
            return;
        }
        if job.frame.is_empty() {
            let _ = job.answer.send(Ok(Bytes::new()));
            return;
        }
        let Job { api_key, version, .. } = job;
        if !self.versions.read().get(&api_key).is_some_and(|range| range.contains(&version)) {
            let error = PeerError::UnsupportedVersion { address: self.address(), api_key, version };
            let _ = job.answer.send(Err(error));
            return;
        }
        connection.put(&job.frame);
        let deadline = Instant::now() + self.config.request_timeout;
        flying.push_back(InFlight { job: Job { frame: Bytes::new(), ..job }, deadline });
    }

    /// Hands an answer to whoever waits for it.
    fn land(&self, frame: Bytes, flying: &mut VecDeque<InFlight>) -> Result<(), PeerError> {
        let malformed = |reason: String| PeerError::Malformed { address: self.address(), reason };
        let Some(InFlight { job, .. }) = flying.front() else {
            return Err(malformed("an answer to nothing".into()));
        };
        let (correlation_id, body) =
            header::parse_response(frame, job.api_key, job.version).map_err(|error| malformed(error.to_string()))?;
        if correlation_id != job.correlation_id {
            let reason = format!("correlation id {correlation_id} instead of {}", job.correlation_id);
            return Err(malformed(reason));
        }
        if let Some(InFlight { job, .. }) = flying.pop_front() {
            let _ = job.answer.send(Ok(body));
        }
        Ok(())
    }

    /// The connection is over: the oldest request hears why, the others that it is.
    fn crash(&self, flying: VecDeque<InFlight>, error: PeerError) {
        let others = match &error {
            PeerError::Disconnected { .. } => error.clone(),
            other => PeerError::Disconnected { address: self.address(), reason: other.to_string() },
        };
        let mut error = Some(error);
        for InFlight { job, .. } in flying {
            let _ = job.answer.send(Err(error.take().unwrap_or_else(|| others.clone())));
        }
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
