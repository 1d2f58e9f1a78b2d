//! SIGTERM and SIGINT: the first asks for a clean stop, the second ends the process at once.

use super::BrokerError;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Exit code of a process that a second signal has ended.
const ENDED_BY_SIGNAL: i32 = 130;

const FILE_SIZE_LIMIT: i32 = rustix::process::Signal::XFSZ.as_raw();

pub struct Signals {
    first: oneshot::Receiver<()>,
}

/// Listens from now on, so that a signal during start-up is not lost.
pub fn listen() -> Result<Signals, BrokerError> {
    let terminate = signal(SignalKind::terminate()).map_err(BrokerError::Runtime)?;
    let interrupt = signal(SignalKind::interrupt()).map_err(BrokerError::Runtime)?;
    // A file that may grow no further (`ulimit -f`) is an error of one write, not the end of the process.
    let _handled_from_now_on = signal(SignalKind::from_raw(FILE_SIZE_LIMIT)).map_err(BrokerError::Runtime)?;
    let (sender, first) = oneshot::channel();
    tokio::spawn(watch(terminate, interrupt, sender));
    Ok(Signals { first })
}

impl Signals {
    pub async fn first(self) {
        // The sender lives as long as the runtime.
        let _ = self.first.await;
    }
}

async fn watch(mut terminate: Signal, mut interrupt: Signal, first: oneshot::Sender<()>) {
    next(&mut terminate, &mut interrupt).await;
    let _ = first.send(());
    next(&mut terminate, &mut interrupt).await;
    tracing::warn!("second signal: ending at once; the next start recovers the logs");
    std::process::exit(ENDED_BY_SIGNAL);
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
