//! The way to the disk: entries queue up, one thread writes them in groups and opens the gate.
//!
//! Invariant: a group is on disk before the gate hears of it. When a write fails the gate stays shut for good and the
//! server stops: nobody can know what of the group survived. Class `SyncRequestProcessor`.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::super::files::folder::Folder;
use super::super::files::writer::{LogWriter, take_snapshot};
use super::super::files::{FileError, log};
use super::super::tree::Tree;

/// What the thread has to do, in order.
enum Work {
    Records { first_zxid: i64, count: u64, bytes: Vec<u8> },
    Snapshot(Box<Tree>),
}

#[derive(Default)]
struct Queue {
    work: Vec<Work>,
    bytes: usize,
    closed: bool,
}

#[derive(Default)]
pub struct Journal {
    queue: Mutex<Queue>,
    ready: Condvar,
}

impl Journal {
    pub fn append(&self, zxid: i64, entry: &[u8]) {
        let mut queue = self.queue.lock();
        queue.bytes += entry.len();
        if let Some(Work::Records { count, bytes, .. }) = queue.work.last_mut() {
            *count += 1;
            log::frame(entry, bytes);
        } else {
            let mut bytes = Vec::new();
            log::frame(entry, &mut bytes);
            queue.work.push(Work::Records { first_zxid: zxid, count: 1, bytes });
        }
    }

    /// Asks for a snapshot between the entries before and those after.
    pub fn snapshot(&self, tree: Tree) {
        self.queue.lock().work.push(Work::Snapshot(Box::new(tree)));
    }

    pub fn wake(&self) {
        self.ready.notify_one();
    }

    /// Bytes that wait to be written.
    pub fn waiting_bytes(&self) -> usize {
        self.queue.lock().bytes
    }

    /// Lets the thread finish what is queued and end.
    pub fn close(&self) {
        self.queue.lock().closed = true;
        self.ready.notify_one();
    }

    fn next(&self) -> Option<Vec<Work>> {
        let mut queue = self.queue.lock();
        while queue.work.is_empty() && !queue.closed {
            self.ready.wait(&mut queue);
        }
        queue.bytes = 0;
        Some(std::mem::take(&mut queue.work)).filter(|work| !work.is_empty())
    }

    /// The thread's whole life; `durable` is told how many entries more are on disk.
    pub fn run(&self, folder: Arc<Folder>, mut log: LogWriter, durable: impl Fn(u64)) -> Result<(), FileError> {
        let mut snapshots = Snapshots { folder, running: None };
        while let Some(work) = self.next() {
            for work in work {
                match work {
                    Work::Records { first_zxid, count, bytes } => {
                        log.append(first_zxid, &bytes)?;
                        durable(count);
                    }
                    Work::Snapshot(tree) => {
                        log.roll()?;
                        snapshots.start(*tree);
                    }
                }
            }
        }
        snapshots.finish();
        log.roll()
    }
}

/// Snapshots are written beside the log, one at a time.
struct Snapshots {
    folder: Arc<Folder>,
    running: Option<std::thread::JoinHandle<()>>,
}

impl Snapshots {
    fn start(&mut self, tree: Tree) {
        if self.running.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        let folder = self.folder.clone();
        let write = move || {
            // Without it the log only gets longer; the next one may succeed.
            if let Err(error) = take_snapshot(&folder, &tree) {
                tracing::error!(%error, "embedded ZooKeeper could not take a snapshot");
            }
        };
        match std::thread::Builder::new().name("zk-snapshot".to_owned()).spawn(write) {
            Ok(thread) => self.running = Some(thread),
            Err(error) => tracing::error!(%error, "embedded ZooKeeper could not start a snapshot"),
        }
    }

    fn finish(&mut self) {
        if let Some(thread) = self.running.take()
            && thread.join().is_err()
        {
            tracing::error!("embedded ZooKeeper: the snapshot thread panicked");
        }
    }
}
