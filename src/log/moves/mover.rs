//! The thread that carries out moves.

use crate::base::TopicPartition;
use crate::log::error::LogError;
use crate::log::manager::LogManager;
use crate::log::partition::Log;
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// Copied at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// After an error that may pass, such as a full disk.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(in crate::log) struct Moves {
    pub(super) futures: RwLock<HashMap<TopicPartition, Arc<Log>>>,
    /// Where logs that do not exist yet are to be made.
    pub(in crate::log) preferred: Mutex<HashMap<TopicPartition, PathBuf>>,
    /// `replica.alter.log.dirs.io.max.bytes.per.second`
    bytes_per_second: AtomicI64,
    signal: Mutex<Signal>,
    wake: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Signal {
    is_stopping: bool,
    has_news: bool,
}

/// What a round has done.
#[derive(Default)]
struct Round {
    bytes: usize,
    /// Some move cannot go on now.
    has_stuck: bool,
}

impl Moves {
    pub fn new(futures: HashMap<TopicPartition, Arc<Log>>) -> Moves {
        Moves {
            futures: RwLock::new(futures),
            preferred: Mutex::default(),
            bytes_per_second: AtomicI64::new(i64::MAX),
            signal: Mutex::default(),
            wake: Condvar::new(),
            thread: Mutex::default(),
        }
    }

    pub(super) fn add(&self, future: Arc<Log>) {
        self.futures.write().insert(future.topic_partition().clone(), future);
        self.signal.lock().has_news = true;
        self.wake.notify_all();
    }

    pub fn futures(&self) -> Vec<Arc<Log>> {
        self.futures.read().values().cloned().collect()
    }

    pub fn limit(&self, bytes_per_second: i64) {
        self.bytes_per_second.store(bytes_per_second.max(1), Ordering::Relaxed);
    }

    pub fn start(&self, manager: &Arc<LogManager>) -> io::Result<()> {
        let weak = Arc::downgrade(manager);
        let thread = std::thread::Builder::new().name("log-dir-mover".into()).spawn(move || run(&weak))?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    pub fn stop(&self) {
        self.signal.lock().is_stopping = true;
        self.wake.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            // It cannot fail but by a panic, which is reported already.
            let _ = thread.join();
        }
    }

    fn chunk_bytes(&self) -> usize {
        let limit = self.bytes_per_second.load(Ordering::Relaxed);
        usize::try_from(limit).unwrap_or(CHUNK_BYTES).clamp(1, CHUNK_BYTES)
    }

    /// Until there is something to do. `false`: the broker stops.
    fn wait(&self, round: &Round) -> bool {
        let mut signal = self.signal.lock();
        let limit = self.bytes_per_second.load(Ordering::Relaxed);
        if signal.is_stopping {
            return false;
        }
        if round.has_stuck && round.bytes == 0 {
            self.wake.wait_for(&mut signal, RETRY_AFTER);
        } else if round.bytes > 0 && limit < i64::MAX {
            let pause = Duration::from_secs_f64(round.bytes as f64 / limit as f64);
            self.wake.wait_for(&mut signal, pause);
        } else if round.bytes == 0 && !signal.has_news && self.futures.read().is_empty() {
            self.wake.wait(&mut signal);
        }
        signal.has_news = false;
        !signal.is_stopping
    }
}

fn run(manager: &Weak<LogManager>) {
    loop {
        let Some(strong) = manager.upgrade() else { return };
        let round = strong.move_round();
        let moves = Arc::clone(&strong.moves);
        drop(strong);
        if !moves.wait(&round) {
            return;
        }
    }
}

impl LogManager {
    /// A chunk of each replica that is being moved.
    fn move_round(&self) -> Round {
        let mut round = Round::default();
        let futures: Vec<Arc<Log>> = self.moves.futures.read().values().cloned().collect();
        for future in futures {
            match self.advance(&future) {
                Ok(bytes) => round.bytes += bytes,
                Err(error) => {
                    round.has_stuck = true;
                    self.stuck(&future, &error);
                }
            }
        }
        round
    }

    /// Copies some, or finishes. Gives the bytes copied.
    fn advance(&self, future: &Arc<Log>) -> Result<usize, LogError> {
        let partition = future.topic_partition();
        let Some(current) = self.log(partition) else {
            return Err(LogError::Closed(partition.clone()));
        };
        let copied = current.copy_to(future, self.moves.chunk_bytes())?;
        if copied.is_nearly_complete {
            future.flush()?;
            self.finish_move(&current, future)?;
        }
        Ok(copied.bytes.max(1))
    }

    /// A full disk is waited for; without one of its directories, or its partition, a move is over.
    fn stuck(&self, future: &Arc<Log>, error: &LogError) {
        let partition = future.topic_partition();
        tracing::warn!(%partition, %error, "replica cannot be moved on");
        let is_over = future.log_dir().is_offline()
            || self.log(partition).is_none_or(|current| current.is_closed() || current.log_dir().is_offline());
        if is_over || future.is_closed() {
            let mut futures = self.moves.futures.write();
            if futures.get(partition).is_some_and(|other| Arc::ptr_eq(other, future)) {
                futures.remove(partition);
            }
        }
    }
}
