//! The console: how the broker is, over HTTP, for those who look after it. Off unless `console.port` is set.
//!
//! `/healthz` answers 200 when the broker answers its clients, 503 before; `/metrics` is Prometheus' text format. A metric that
//! Apache Kafka has carries the name that its JMX exporter gives it, so that dashboards and alerts go on.
//!
//! Invariant: whoever asks sees counts and names, and changes nothing; it cannot hold up the broker, nor make it remember anything.

mod http;
mod metrics;
mod process;

use crate::config::BrokerConfig;
use crate::controller::ControllerHandle;
use crate::log::LogManager;
use crate::replica::ReplicaManager;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// The console cannot listen: one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("the console cannot listen on {host}:{port}: {source}; check console.address and console.port")]
pub struct ConsoleError {
    pub host: String,
    pub port: u16,
    pub source: io::Error,
}

/// What there is to be seen. A start puts in its parts as they come.
#[derive(Default)]
pub struct View {
    pub logs: OnceLock<Arc<LogManager>>,
    pub replicas: OnceLock<Arc<ReplicaManager>>,
    pub controller: OnceLock<ControllerHandle>,
    is_ready: AtomicBool,
}

impl View {
    /// Clients are answered from now on, or no longer.
    pub fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Ordering::Release);
    }

    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }
}

/// Answers until it is dropped.
pub struct Console {
    address: SocketAddr,
    task: AbortHandle,
}

impl Console {
    /// `None` if nobody asked for one.
    pub fn start(config: &BrokerConfig, view: Arc<View>, runtime: &Handle) -> Result<Option<Console>, ConsoleError> {
        let Some(port) = config.console_port else { return Ok(None) };
        let host = config.console_address.clone();
        let failed = |source| ConsoleError { host: host.clone(), port, source };
        let socket = std::net::TcpListener::bind((host.as_str(), port)).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let socket = {
            let _on_runtime = runtime.enter();
            TcpListener::from_std(socket).map_err(failed)?
        };
        let address = socket.local_addr().map_err(failed)?;
        let task = runtime.spawn(http::serve(socket, move |path| answer(&view, path)));
        Ok(Some(Console { address, task: task.abort_handle() }))
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(view: &View, path: &str) -> http::Answer {
    match path {
        "/healthz" if view.is_ready() => http::Answer::text(http::OK, "ready\n"),
        "/healthz" => http::Answer::text(http::UNAVAILABLE, "not ready\n"),
        "/metrics" => {
            http::Answer { status: http::OK, content_type: metrics::CONTENT_TYPE, body: metrics::render(view) }
        }
        _ => http::Answer::text(http::NOT_FOUND, "/metrics or /healthz\n"),
    }
}
