//! The sender's side: a request in, its answer or an error out.

use super::connection::Versions;
use super::error::PeerError;
use super::link::{Job, Link};
use crate::wire::{self, RequestMessage, WireError, codec, guard, header};
use bytes::{Bytes, BytesMut};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerConfig {
    pub client_id: String,
    pub connect_timeout: Duration,
    /// From writing a request to its answer.
    pub request_timeout: Duration,
    /// Pause after a failed attempt to connect; doubled with each, up to the second.
    pub reconnect_backoff: Duration,
    pub reconnect_backoff_max: Duration,
    pub frame_bytes_max: usize,
}

impl PeerConfig {
    pub fn new(client_id: impl Into<String>) -> PeerConfig {
        PeerConfig {
            client_id: client_id.into(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            frame_bytes_max: 100 << 20,
        }
    }
}

/// The way to one broker's address. Dropping it closes the connection.
pub struct Peer {
    jobs: mpsc::UnboundedSender<Job>,
    config: PeerConfig,
    host: String,
    port: u16,
    versions: Arc<parking_lot::RwLock<Versions>>,
    correlation_id: AtomicI32,
}

impl Peer {
    /// Starts the task that serves it, on the current runtime; it connects at the first request.
    pub fn new(config: PeerConfig, host: impl Into<String>, port: u16) -> Peer {
        let (jobs, received) = mpsc::unbounded_channel();
        let (host, versions) = (host.into(), Arc::default());
        let link = Link::new(config.clone(), host.clone(), port, Arc::clone(&versions));
        tokio::spawn(link.run(received));
        Peer { jobs, config, host, port, versions, correlation_id: AtomicI32::new(0) }
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Highest version of an API that the peer supports; `None` before the first connection, and if it has no such API.
    pub fn max_version(&self, api_key: i16) -> Option<i16> {
        self.versions.read().get(&api_key).map(|range| *range.end())
    }

    /// The highest version that both sides support. Connects if there was no connection yet.
    pub async fn negotiate(&self, api_key: i16, ours: RangeInclusive<i16>) -> Result<i16, PeerError> {
        if self.versions.read().is_empty() {
            self.submit(api_key, 0, 0, Bytes::new()).await?;
        }
        let theirs = self.versions.read().get(&api_key).cloned();
        let common = theirs.map(|theirs| (*theirs.end()).min(*ours.end())).filter(|common| common >= ours.start());
        let (address, version) = (self.address(), *ours.start());
        common.ok_or(PeerError::UnsupportedVersion { address, api_key, version })
    }

    /// Sends a request at `version` and returns the decoded answer.
    pub async fn send<R: RequestMessage>(&self, version: i16, request: &R) -> Result<R::Response, PeerError> {
        let put_body = |frame: &mut BytesMut| codec::encode_into(frame, request, version);
        let body = self.exchange(R::KEY, version, put_body).await?;
        let checked = guard::check_response(R::KEY, version, &body).and_then(|()| wire::decode(body, version));
        checked.map_err(|error| self.malformed(&error))
    }

    /// As [`send`](Self::send) with a body that is encoded already, and returns the body of the answer, which the caller checks.
    pub async fn send_bytes(&self, api_key: i16, version: i16, body: &[u8]) -> Result<Bytes, PeerError> {
        let put_body = |frame: &mut BytesMut| {
            frame.extend_from_slice(body);
            Ok(())
        };
        self.exchange(api_key, version, put_body).await
    }

    async fn exchange(
        &self,
        api_key: i16,
        version: i16,
        put_body: impl FnOnce(&mut BytesMut) -> Result<(), WireError>,
    ) -> Result<Bytes, PeerError> {
        let correlation_id = self.correlation_id.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        let frame = header::request_frame(api_key, version, correlation_id, &self.config.client_id, put_body)?;
        self.submit(api_key, version, correlation_id, frame).await
    }

    async fn submit(&self, api_key: i16, version: i16, correlation_id: i32, frame: Bytes) -> Result<Bytes, PeerError> {
        let (answer, answered) = oneshot::channel();
        let gone = || PeerError::Disconnected { address: self.address(), reason: "this broker is stopping".into() };
        let job = Job { api_key, version, correlation_id, frame, answer };
        self.jobs.send(job).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn malformed(&self, error: &WireError) -> PeerError {
        PeerError::Malformed { address: self.address(), reason: error.to_string() }
    }
}
