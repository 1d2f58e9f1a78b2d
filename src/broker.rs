//! The life of the broker: start-up in the order of Kafka's own, service, shutdown (class `KafkaServer`).
//!
//! Two runtimes: `control` has the ZooKeeper server and session, the controller and everything else that must not wait for a
//! disk; `data` has the connections. Invariant: a broker is registered before it answers, and its logs are closed before its
//! registration ends.

pub mod check;
mod coordinator_log;
mod coordinators;
mod descriptors;
mod dynamic_configs;
mod gate;
pub mod guardian;
mod identity;
mod local_channel;
mod marker_channels;
mod markers;
mod remote_channel;
mod replication;
mod shutdown;
mod signals;
mod start;

pub use start::BrokerError;

use crate::config::BrokerConfig;
use std::time::Instant;
use tokio::runtime::{Builder, Runtime};

/// Runs a broker until SIGTERM or SIGINT.
pub fn run(config: BrokerConfig) -> Result<(), BrokerError> {
    let began = Instant::now();
    descriptors::raise_limit();
    let data_threads = std::thread::available_parallelism().map_or(2, usize::from);
    let control = runtime("control", 1)?;
    let data = runtime("data", data_threads.max(2))?;
    let result = control.block_on(async {
        let signals = signals::listen()?;
        let running = start::start(config, data.handle()).await?;
        tracing::info!(after_ms = began.elapsed().as_millis() as u64, "ready: {}", running.summary());
        let ended = tokio::select! {
            () = signals.first() => Ok(()),
            error = running.failed() => Err(error),
        };
        tracing::info!("stopping");
        running.stop().await;
        ended
    });
    data.shutdown_background();
    control.shutdown_background();
    result
}

fn runtime(name: &'static str, threads: usize) -> Result<Runtime, BrokerError> {
    let runtime = Builder::new_multi_thread().worker_threads(threads).thread_name(name).enable_all().build();
    runtime.map_err(BrokerError::Runtime)
}
