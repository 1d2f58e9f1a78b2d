//! Logs that are not there yet: after an unclean stop the large ones are recovered in the background, while the others serve
//! (class `LogManager.loadLogs`, which serves nothing before it has all of them).
//!
//! Invariants: a log is put among the loaded ones before it leaves the unready ones, so whoever asks for the unready ones first
//! finds it here or there; of an unready log nothing is made anew, and its checkpointed offsets are written again as they were; a
//! directory with an unready log is never marked as cleanly shut down.

use super::background::Background;
use super::error::LogError;
use super::load::LoadOptions;
use super::log_dir::LogDir;
use super::manager::LogManager;
use super::moves::reconcile;
use super::open::{FoundLog, LogKey, THREADS_MAX};
use super::partition::Log;
use super::partition_metadata;
use super::progress::{Pace, RecoveryLeft};
use crate::base::topic_name::{CONSUMER_OFFSETS, TRANSACTION_STATE};
use crate::base::{TopicId, TopicPartition};
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

/// Why a partition that lies on this broker cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unready {
    /// It can soon.
    Recovering { topic_id: Option<TopicId> },
    /// Not before somebody mends it, or its directory.
    Refused,
}

enum Phase {
    Waiting,
    Running,
    /// The log contradicts itself.
    Refused {
        path: PathBuf,
        reason: String,
    },
}

struct Entry {
    found: Arc<FoundLog>,
    phase: Phase,
    topic_id: Option<TopicId>,
}

impl Entry {
    fn new(found: Arc<FoundLog>, phase: Phase) -> Entry {
        let topic_id = partition_metadata::read(&found.path).unwrap_or(None);
        Entry { found, phase, topic_id }
    }

    fn refused(found: Arc<FoundLog>, error: LogError) -> Entry {
        Entry::new(found, refusal(error))
    }

    fn is_recovering(&self) -> bool {
        !matches!(self.phase, Phase::Refused { .. }) && !self.found.dir.is_offline()
    }
}

fn refusal(error: LogError) -> Phase {
    match error {
        LogError::Corrupt { path, reason } => Phase::Refused { path, reason },
        error => Phase::Refused { path: PathBuf::new(), reason: error.to_string() },
    }
}

struct Queue {
    dir: Arc<LogDir>,
    waiting: VecDeque<LogKey>,
}

type OnRecovered = Arc<dyn Fn(&TopicPartition) + Send + Sync>;

#[derive(Default)]
struct State {
    unready: HashMap<LogKey, Entry>,
    /// One for each directory: a slow disk keeps no other waiting.
    queues: Vec<Queue>,
    /// Loaded copies of replicas, whose logs are not loaded.
    futures: HashMap<TopicPartition, Arc<Log>>,
    is_stopping: bool,
    on_recovered: Option<OnRecovered>,
}

pub(super) struct Recoveries {
    state: Mutex<State>,
    /// A recovery has ended.
    ended: Condvar,
    pace: Arc<Pace>,
    background: Arc<Background>,
    /// `num.recovery.threads.per.data.dir`
    threads_per_dir: usize,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Recoveries {
    pub fn new(
        later: Vec<Arc<FoundLog>>,
        refused: Vec<(Arc<FoundLog>, LogError)>,
        futures: HashMap<TopicPartition, Arc<Log>>,
        pace: Arc<Pace>,
        background: Arc<Background>,
        threads_per_dir: i32,
    ) -> Recoveries {
        let mut state = State { futures, ..State::default() };
        let mut later = later;
        // What others need first, then what takes least: most partitions are there soon.
        later.sort_by_cached_key(|found| {
            let LogKey { partition, is_future } = &found.key;
            let is_internal = matches!(&*partition.topic, CONSUMER_OFFSETS | TRANSACTION_STATE);
            (*is_future, !is_internal, found.options.progress.left().1)
        });
        for found in later {
            let queue = match state.queues.iter_mut().find(|queue| Arc::ptr_eq(&queue.dir, &found.dir)) {
                Some(queue) => queue,
                None => {
                    state.queues.push(Queue { dir: Arc::clone(&found.dir), waiting: VecDeque::new() });
                    let Some(last) = state.queues.last_mut() else { continue };
                    last
                }
            };
            queue.waiting.push_back(found.key.clone());
            state.unready.insert(found.key.clone(), Entry::new(found, Phase::Waiting));
        }
        for (found, error) in refused {
            state.unready.insert(found.key.clone(), Entry::refused(found, error));
        }
        Recoveries {
            state: Mutex::new(state),
            ended: Condvar::new(),
            pace,
            background,
            threads_per_dir: usize::try_from(threads_per_dir).unwrap_or(1).max(1),
            threads: Mutex::default(),
        }
    }

    /// Why the partition cannot be used, if that is so.
    pub fn unready(&self, partition: &TopicPartition) -> Option<Unready> {
        let key = LogKey { partition: partition.clone(), is_future: false };
        let state = self.state.lock();
        let entry = state.unready.get(&key)?;
        Some(match entry.is_recovering() {
            true => Unready::Recovering { topic_id: entry.topic_id },
            false => Unready::Refused,
        })
    }

    /// The same as an error.
    pub fn check_ready(&self, partition: &TopicPartition) -> Result<(), LogError> {
        let key = LogKey { partition: partition.clone(), is_future: false };
        match self.state.lock().unready.get(&key) {
            None => Ok(()),
            Some(entry) if entry.found.dir.is_offline() => entry.found.dir.check_online(),
            Some(Entry { phase: Phase::Refused { path, reason }, .. }) => Err(LogError::corrupt(path, reason)),
            Some(_) => Err(LogError::Recovering(partition.clone())),
        }
    }

    /// Unready logs of a directory, with what was known of them before.
    pub fn in_dir<T>(&self, dir: &Arc<LogDir>, of: impl Fn(&FoundLog) -> Option<T>) -> Vec<(LogKey, T)> {
        let state = self.state.lock();
        let here = state.unready.values().filter(|entry| Arc::ptr_eq(&entry.found.dir, dir));
        here.filter_map(|entry| Some((entry.found.key.clone(), of(&entry.found)?))).collect()
    }

    /// The offsets that checkpoints had for the unready logs of a directory.
    pub fn checkpointed(
        &self,
        dir: &Arc<LogDir>,
        of: impl Fn(&LoadOptions) -> Option<i64>,
    ) -> Vec<(TopicPartition, i64)> {
        let found = self.in_dir(dir, |found| of(&found.options));
        found.into_iter().map(|(key, offset)| (key.partition, offset)).collect()
    }

    pub fn left(&self, dir: &Arc<LogDir>) -> RecoveryLeft {
        let state = self.state.lock();
        let here = |entry: &&Entry| Arc::ptr_eq(&entry.found.dir, dir) && entry.is_recovering();
        state.unready.values().filter(here).fold(RecoveryLeft::default(), |sum, entry| {
            let (segments, bytes) = entry.found.options.progress.left();
            RecoveryLeft { logs: sum.logs + 1, segments: sum.segments + segments, bytes: sum.bytes + bytes }
        })
    }

    /// Copies that wait for their logs.
    pub fn waiting_futures(&self) -> Vec<Arc<Log>> {
        self.state.lock().futures.values().cloned().collect()
    }

    pub fn take_future(&self, partition: &TopicPartition) -> Option<Arc<Log>> {
        self.state.lock().futures.remove(partition)
    }

    /// Calls the recovery of a partition off, and forgets it: what is returned is nobody's any more.
    pub fn take_out(&self, partition: &TopicPartition) -> Vec<Arc<FoundLog>> {
        let keys = [false, true].map(|is_future| LogKey { partition: partition.clone(), is_future });
        let mut state = self.state.lock();
        for entry in keys.iter().filter_map(|key| state.unready.get(key)) {
            entry.found.options.progress.cancel();
        }
        let is_running = |state: &State| {
            keys.iter().any(|key| state.unready.get(key).is_some_and(|entry| matches!(entry.phase, Phase::Running)))
        };
        while is_running(&state) {
            self.ended.wait(&mut state);
        }
        keys.iter().filter_map(|key| state.unready.remove(key)).map(|entry| entry.found).collect()
    }

    /// The next log of a directory to be recovered.
    fn next(&self, queue: usize) -> Option<Arc<FoundLog>> {
        let mut state = self.state.lock();
        let State { unready, queues, is_stopping, .. } = &mut *state;
        let queue = queues.get_mut(queue)?;
        loop {
            if *is_stopping || queue.dir.is_offline() {
                return None;
            }
            let key = queue.waiting.pop_front()?;
            if let Some(entry) = unready.get_mut(&key)
                && matches!(entry.phase, Phase::Waiting)
            {
                entry.phase = Phase::Running;
                return Some(Arc::clone(&entry.found));
            }
        }
    }

    /// Numbers of the queues, one for each thread that is worth having.
    fn shares(&self) -> Vec<usize> {
        let state = self.state.lock();
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
        let each = self.threads_per_dir.max(processors.div_ceil(state.queues.len().max(1))).min(THREADS_MAX);
        let queues = state.queues.iter().enumerate();
        queues.flat_map(|(at, queue)| std::iter::repeat_n(at, each.min(queue.waiting.len()))).collect()
    }

    fn call_off(&self) {
        let mut state = self.state.lock();
        state.is_stopping = true;
        state.unready.values().for_each(|entry| entry.found.options.progress.cancel());
    }

    /// No more recoveries. Afterwards the directories of those that did not come to an end are incomplete.
    pub fn stop(&self) {
        self.call_off();
        for thread in self.threads.lock().drain(..) {
            // It cannot fail but by a panic, which is reported already.
            let _ = thread.join();
        }
        let state = self.state.lock();
        for entry in state.unready.values().filter(|entry| entry.is_recovering()) {
            entry.found.dir.set_incomplete();
        }
    }
}

impl Drop for LogManager {
    fn drop(&mut self) {
        // Threads that hold no manager find out.
        self.recoveries.call_off();
        self.moves.end();
    }
}

fn run(recoveries: &Recoveries, manager: &Weak<LogManager>, queue: usize) {
    while let Some(found) = recoveries.next(queue) {
        let loaded = found.load(&recoveries.background);
        let Some(manager) = manager.upgrade() else { return };
        manager.recovered(&found, loaded);
    }
}

impl LogManager {
    /// Why a partition that lies on this broker cannot be used, if that is so. To be asked before [`LogManager::log`].
    pub fn unready(&self, partition: &TopicPartition) -> Option<Unready> {
        self.recoveries.unready(partition)
    }

    /// Tells `on_recovered` of every partition whose recovery comes to an end, good or bad, from now on.
    pub fn on_recovered(&self, on_recovered: impl Fn(&TopicPartition) + Send + Sync + 'static) {
        self.recoveries.state.lock().on_recovered = Some(Arc::new(on_recovered));
    }

    /// What is left to be recovered in each directory.
    pub fn recovery_left(&self) -> Vec<(PathBuf, RecoveryLeft)> {
        self.dirs.iter().map(|dir| (dir.path().to_owned(), self.recoveries.left(dir))).collect()
    }

    /// Partitions whose own logs are still being recovered.
    pub fn recovering(&self) -> Vec<TopicPartition> {
        let state = self.recoveries.state.lock();
        let recovering = state.unready.iter().filter(|(key, entry)| !key.is_future && entry.is_recovering());
        recovering.map(|(key, _)| key.partition.clone()).collect()
    }

    /// `log.recovery.io.max.bytes.per.second`; 0 is no limit.
    pub fn limit_recovery(&self, bytes_per_second: f64) {
        self.recoveries.pace.limit(bytes_per_second);
    }

    /// Recovers what is left, and returns when that is done.
    pub(super) fn recover_all(&self) {
        std::thread::scope(|scope| {
            for queue in self.recoveries.shares() {
                scope.spawn(move || {
                    while let Some(found) = self.recoveries.next(queue) {
                        self.recovered(&found, found.load(&self.recoveries.background));
                    }
                });
            }
        });
    }

    /// Recovers one of those that are left, and says whether there was one.
    pub fn recover_next(&self) -> bool {
        let queues = self.recoveries.state.lock().queues.len();
        let Some(found) = (0..queues).find_map(|queue| self.recoveries.next(queue)) else { return false };
        self.recovered(&found, found.load(&self.recoveries.background));
        true
    }

    /// All of them, in the background.
    pub(super) fn start_recovery(self: &Arc<LogManager>) -> io::Result<()> {
        let shares = self.recoveries.shares();
        for (dir, left) in self.recovery_left().into_iter().filter(|(_, left)| left.logs > 0) {
            let RecoveryLeft { logs, segments, bytes } = left;
            let dir = dir.display();
            tracing::info!(%dir, logs, segments, bytes, "no clean shutdown: recovering these while the others serve");
        }
        for queue in shares {
            let (recoveries, manager) = (Arc::clone(&self.recoveries), Arc::downgrade(self));
            let thread = std::thread::Builder::new().name("log-recovery".into());
            self.recoveries.threads.lock().push(thread.spawn(move || run(&recoveries, &manager, queue))?);
        }
        Ok(())
    }

    fn recovered(&self, found: &Arc<FoundLog>, outcome: Result<Arc<Log>, LogError>) {
        let LogKey { partition, is_future } = &found.key;
        let mut state = self.recoveries.state.lock();
        match outcome {
            Ok(log) if !found.options.progress.is_cancelled() => {
                match is_future {
                    true => drop(state.futures.insert(partition.clone(), log)),
                    false => drop(self.logs.write().insert(partition.clone(), log)),
                }
                state.unready.remove(&found.key);
            }
            // Whoever called it off takes it out, or stops the broker.
            Ok(_) | Err(LogError::CalledOff { .. }) => set_phase(&mut state, found, Phase::Waiting),
            Err(error) => {
                if let LogError::Storage { path, source } = &error {
                    found.dir.set_offline(&format!("{}: {source}", path.display()));
                } else {
                    tracing::error!(log = %partition, %error, "partition is refused; the others go on without it");
                    found.dir.set_incomplete();
                }
                set_phase(&mut state, found, refusal(error));
            }
        }
        let on_recovered = state.on_recovered.clone();
        self.recoveries.ended.notify_all();
        let is_last = !state.is_stopping && !state.unready.values().any(Entry::is_recovering);
        drop(state);
        if is_last {
            tracing::info!("recovery is complete");
        }
        self.match_future(partition);
        if let Some(on_recovered) = on_recovered.filter(|_| !is_future) {
            on_recovered(partition);
        }
    }

    /// A copy goes on from where it agrees with its log, when both are there.
    pub(super) fn match_future(&self, partition: &TopicPartition) {
        let _changing = self.changing.lock();
        let Some(current) = self.log(partition) else { return };
        let Some(future) = self.recoveries.take_future(partition) else { return };
        match reconcile(&current, &future) {
            Ok(()) => self.moves.add(future),
            Err(error) => {
                tracing::error!(%partition, dir = %future.dir().display(), %error, "copy of a replica is left as it is");
            }
        }
    }

    /// For the log, every now and then.
    pub(super) fn report_recovery(&self) {
        for (dir, left) in self.recovery_left().into_iter().filter(|(_, left)| left.logs > 0) {
            let RecoveryLeft { logs, segments, bytes } = left;
            tracing::info!(dir = %dir.display(), logs, segments, bytes, "recovering: this is left");
        }
    }
}

fn set_phase(state: &mut State, found: &FoundLog, phase: Phase) {
    if let Some(entry) = state.unready.get_mut(&found.key) {
        entry.phase = phase;
    }
}
