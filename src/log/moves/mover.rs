//! The threads that carry out moves (class `ReplicaAlterLogDirsManager`, `num.replica.alter.log.dirs.threads`).
//!
//! Invariant: a move is in the hands of one thread at a time; whoever has copied a chunk puts it at the end of the line.

use crate::base::time::monotonic_ms;
use crate::base::{Millis, TopicPartition};
use crate::log::error::LogError;
use crate::log::manager::LogManager;
use crate::log::partition::Log;
use crate::log::progress::Pace;
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// Copied at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// When there is nothing to copy, and the move cannot end yet.
const IDLE_MS: Millis = 10;
/// After an error that may pass, such as a full disk.
const RETRY_AFTER_MS: Millis = 1_000;

pub(in crate::log) struct Moves {
    pub(super) futures: RwLock<HashMap<TopicPartition, Arc<Log>>>,
    /// Where logs that do not exist yet are to be made.
    pub(in crate::log) preferred: Mutex<HashMap<TopicPartition, PathBuf>>,
    /// `replica.alter.log.dirs.io.max.bytes.per.second`
    bytes_per_second: AtomicI64,
    /// The same, of all threads together.
    pace: Pace,
    line: Mutex<VecDeque<Turn>>,
    wake: Condvar,
    is_stopping: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A move that waits for a thread.
struct Turn {
    future: Arc<Log>,
    /// Monotonic: not before.
    due_ms: Millis,
}

impl Default for Moves {
    fn default() -> Moves {
        Moves {
            futures: RwLock::default(),
            preferred: Mutex::default(),
            bytes_per_second: AtomicI64::new(i64::MAX),
            pace: Pace::default(),
            line: Mutex::default(),
            wake: Condvar::new(),
            is_stopping: AtomicBool::new(false),
            threads: Mutex::default(),
        }
    }
}

impl Moves {
    pub fn add(&self, future: Arc<Log>) {
        self.futures.write().insert(future.topic_partition().clone(), Arc::clone(&future));
        self.put(Turn { future, due_ms: monotonic_ms() });
    }

    fn put(&self, turn: Turn) {
        self.line.lock().push_back(turn);
        self.wake.notify_one();
    }

    pub fn futures(&self) -> Vec<Arc<Log>> {
        self.futures.read().values().cloned().collect()
    }

    fn has(&self, future: &Arc<Log>) -> bool {
        self.futures.read().get(future.topic_partition()).is_some_and(|other| Arc::ptr_eq(other, future))
    }

    pub fn limit(&self, bytes_per_second: i64) {
        let limit = bytes_per_second.max(1);
        self.bytes_per_second.store(limit, Ordering::Relaxed);
        self.pace.limit(if limit == i64::MAX { f64::INFINITY } else { limit as f64 });
    }

    pub fn start(&self, manager: &Arc<LogManager>) -> io::Result<()> {
        for _ in 0..manager.config.num_replica_alter_log_dirs_threads.max(1) {
            let (weak, moves) = (Arc::downgrade(manager), Arc::clone(&manager.moves));
            let thread = std::thread::Builder::new().name("log-dir-mover".into());
            self.threads.lock().push(thread.spawn(move || run(&weak, &moves))?);
        }
        Ok(())
    }

    /// Has the threads end soon.
    pub fn end(&self) {
        self.is_stopping.store(true, Ordering::Release);
        // With the lock, so that nobody is between a look and its wait.
        drop(self.line.lock());
        self.wake.notify_all();
        self.pace.wake();
    }

    pub fn stop(&self) {
        self.end();
        for thread in self.threads.lock().drain(..) {
            // It cannot fail but by a panic, which is reported already.
            let _ = thread.join();
        }
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    fn chunk_bytes(&self) -> usize {
        let limit = self.bytes_per_second.load(Ordering::Relaxed);
        usize::try_from(limit).unwrap_or(CHUNK_BYTES).clamp(1, CHUNK_BYTES)
    }

    /// The next move, when there is one that is due; `None`: the broker stops.
    fn next(&self) -> Option<Arc<Log>> {
        let mut line = self.line.lock();
        while !self.is_stopping() {
            let now_ms = monotonic_ms();
            if let Some(at) = line.iter().position(|turn| turn.due_ms <= now_ms) {
                return line.remove(at).map(|turn| turn.future);
            }
            match line.iter().map(|turn| turn.due_ms).min() {
                Some(due_ms) => {
                    self.wake.wait_for(&mut line, Duration::from_millis((due_ms - now_ms).max(1) as u64));
                }
                None => self.wake.wait(&mut line),
            }
        }
        None
    }
}

fn run(manager: &Weak<LogManager>, moves: &Moves) {
    while let Some(future) = moves.next() {
        if !moves.has(&future) {
            continue;
        }
        let Some(strong) = manager.upgrade() else { return };
        let due_ms = match strong.advance(&future) {
            Ok(bytes) => {
                drop(strong);
                moves.pace.spend(bytes as u64, || !moves.is_stopping());
                monotonic_ms() + if bytes == 0 { IDLE_MS } else { 0 }
            }
            Err(error) => {
                strong.stuck(&future, &error);
                monotonic_ms().saturating_add(RETRY_AFTER_MS)
            }
        };
        if moves.has(&future) {
            moves.put(Turn { future, due_ms });
        }
    }
}

impl LogManager {
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
        Ok(copied.bytes)
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
