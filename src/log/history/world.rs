//! The log under test, in a directory of its own, and the ways to stop it: a clean stop, the death of the process at any call that
//! changes a file, and a power cut that takes what was not synced.

use super::check;
use super::model::{Batch, Model, Saved};
use crate::base::TopicPartition;
use crate::config::BrokerConfig;
use crate::log::disk::{Call, faults};
use crate::log::names;
use crate::log::{Log, LogManager, producer_snapshot};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

pub fn partition() -> TopicPartition {
    TopicPartition::new("model", 0)
}

/// Its inode and when that was made: a file system gives the number of a file that is gone to the next one.
type FileId = (u64, Option<SystemTime>);

fn id(file: &fs::Metadata) -> FileId {
    (file.ino(), file.created().ok())
}

/// Sees every call that changes a file before it is done.
#[derive(Default)]
struct Watch {
    /// So many calls from now a picture is taken: what is in the directory when the process dies at that call.
    picture_in: Option<usize>,
    picture: Option<PathBuf>,
    /// Every call is a picture.
    takes_all: bool,
    taken: usize,
    pictures: Vec<PathBuf>,
    /// How much of a file survives a power cut.
    synced: HashMap<FileId, u64>,
}

pub struct Running {
    pub manager: Arc<LogManager>,
    pub log: Arc<Log>,
}

pub struct World {
    _root: tempfile::TempDir,
    pub dir: PathBuf,
    running: Option<Running>,
    watch: Arc<Mutex<Watch>>,
    _fault: faults::Fault,
    pub model: Model,
    is_short_of_memory: bool,
    pub crashes: usize,
    pub passes: usize,
}

pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        match entry.file_type().unwrap().is_dir() {
            true => copy_dir(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

impl World {
    pub fn new(model: Model, is_short_of_memory: bool) -> World {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("0");
        let watch = Arc::new(Mutex::new(Watch::default()));
        let (seen, pictures) = (Arc::clone(&watch), root.path().to_owned());
        let fault = faults::watch(root.path(), move |call, path| see(&mut seen.lock(), &pictures, call, path));
        let mut world = World {
            _root: root,
            dir,
            running: None,
            watch,
            _fault: fault,
            model,
            is_short_of_memory,
            crashes: 0,
            passes: 0,
        };
        world.open();
        world
    }

    pub fn log(&self) -> Arc<Log> {
        Arc::clone(&self.running.as_ref().expect("it runs").log)
    }

    pub fn manager(&self) -> Arc<LogManager> {
        Arc::clone(&self.running.as_ref().expect("it runs").manager)
    }

    /// Starts on the current directory, as it is.
    pub fn open(&mut self) {
        self.running = None;
        let mut broker = BrokerConfig {
            log_dirs: vec![self.dir.clone()],
            producer_id_expiration_ms: i64::MAX,
            ..BrokerConfig::default()
        };
        if self.is_short_of_memory {
            broker.log_cleaner.dedupe_buffer_size = 0;
            broker.log_cleaner.io_buffer_load_factor = 0.1;
        }
        let config = &self.model.config;
        let manager = LogManager::open(&broker, &|_| config.clone()).expect("it starts");
        let log = manager.create(&partition(), None, config.clone()).expect("the log is there");
        self.running = Some(Running { manager, log });
    }

    /// The partition was deleted, and one of that name is made.
    pub fn recreate(&mut self) {
        let manager = self.manager();
        let log = manager.create(&partition(), None, self.model.config.clone()).expect("the log is made");
        self.running = Some(Running { manager, log });
    }

    pub fn stop(&mut self) {
        self.running = None;
    }

    /// What the checkpoint files say.
    pub fn saved(&self) -> Saved {
        let read = |name: &str| {
            let text = fs::read_to_string(self.dir.join(name)).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("model 0 "));
            line.map_or(0, |offset| offset.parse().unwrap())
        };
        Saved { high_watermark: read(names::HIGH_WATERMARKS), start: read(names::LOG_START_OFFSETS) }
    }

    pub fn note_snapshots(&mut self) {
        let list = producer_snapshot::list(&self.dir.join(partition().to_string())).unwrap_or_default();
        let end = self.model.end;
        self.model.snapshots.extend(list.into_iter().filter(|offset| *offset <= end));
    }

    /// Has a picture taken at a later call.
    pub fn arm(&self, calls: usize) {
        let mut watch = self.watch.lock();
        (watch.picture_in, watch.picture) = (Some(calls), None);
    }

    pub fn disarm(&self) -> Option<PathBuf> {
        let mut watch = self.watch.lock();
        watch.picture_in = None;
        watch.picture.take()
    }

    /// Does something and gives a picture of the directory before each call that changed it.
    pub fn pictures_of(&mut self, work: impl FnOnce(&mut World)) -> Vec<PathBuf> {
        self.watch.lock().takes_all = true;
        work(self);
        let mut watch = self.watch.lock();
        watch.takes_all = false;
        std::mem::take(&mut watch.pictures)
    }

    /// The process died, and goes on with this directory.
    pub fn die(&mut self, picture: &Path) {
        self.stop();
        if self.dir != picture {
            let _ = fs::remove_dir_all(&self.dir);
            self.dir = picture.to_owned();
        }
        self.crashes += 1;
    }

    /// Opens the directory after a crash: what is there has to be one of the models, cut as `may_end_at` allows.
    pub fn recover(&mut self, candidates: &[Model], may_end_at: impl Fn(usize, i64) -> bool) -> Result<(), String> {
        // A partition that was deleted is made anew, whatever the files say of it.
        let is_there = self.dir.join(partition().to_string()).exists();
        let saved = if is_there { self.saved() } else { Saved::default() };
        self.open();
        let log = self.log();
        let mut reasons = Vec::new();
        for (at, candidate) in candidates.iter().enumerate() {
            let mut model = candidate.clone();
            let end = log.log_end_offset();
            // The end is where the last batch ends. Of a log that was cut there a pass may have taken that.
            let counts = |batch: &&Batch| !(model.is_cut_into_clean && batch.records.is_empty());
            let is_cut = model.batches.values().rfind(counts).is_some_and(|last| last.last >= end);
            if end > model.end || (is_cut && !may_end_at(at, end)) {
                reasons.push(format!("it ends at {end}, not at {}", model.end));
                continue;
            }
            model.cut(end);
            model.end = end;
            model.reopen(saved, log.first_segment_base());
            adopt_below(&log, &mut model, candidate.start);
            check::forget(&log, &mut model);
            adopt_epochs(&log, &mut model);
            match check::check(&log, &model) {
                Ok(_) => {
                    self.model = model;
                    return Ok(());
                }
                Err(reason) => reasons.push(reason),
            }
        }
        Err(format!("after a crash: {}", reasons.join("; or ")))
    }

    /// The machine lost its power: of what was not synced a part is on the disk, up to some point of the log.
    pub fn cut_power(&mut self, keep: u8, harm: u8) {
        self.stop();
        self.crashes += 1;
        let synced = std::mem::take(&mut self.watch.lock().synced);
        let durable = |path: &Path| {
            let file = fs::metadata(path).unwrap();
            synced.get(&id(&file)).copied().unwrap_or(0).min(file.len())
        };
        let mut files: Vec<PathBuf> =
            fs::read_dir(self.dir.join("model-0")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let is = |path: &PathBuf, kind: &str| path.extension().is_some_and(|end| end == kind);
        let logs: Vec<&PathBuf> = files.iter().filter(|path| is(path, "log")).collect();
        let unsynced: u64 = logs.iter().map(|path| fs::metadata(path).unwrap().len() - durable(path)).sum();
        let mut left = unsynced * u64::from(keep) / 256;
        for path in logs {
            let (len, durable) = (fs::metadata(path).unwrap().len(), durable(path));
            let kept = (len - durable).min(left);
            left -= kept;
            if durable + kept < len {
                cut_file(path, durable + kept, harm);
            }
        }
        for path in files.iter().filter(|path| is(path, "index") || is(path, "timeindex") || is(path, "snapshot")) {
            if durable(path) < fs::metadata(path).unwrap().len() && harm.is_multiple_of(2) {
                cut_file(path, durable(path), harm);
            }
        }
        let mut watch = self.watch.lock();
        for file in files.iter().map(|path| fs::metadata(path).unwrap()) {
            watch.synced.insert(id(&file), file.len());
        }
    }
}

/// What is synced of a file is of its copy too.
fn inherit(synced: &mut HashMap<FileId, u64>, from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let copy = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => inherit(synced, &entry.path(), &copy),
            false => {
                let durable = synced.get(&id(&entry.metadata().unwrap())).copied();
                durable.and_then(|len| synced.insert(id(&fs::metadata(&copy).unwrap()), len));
            }
        }
    }
}

/// A file ends there, or has zeros from there on.
fn cut_file(path: &Path, len: u64, harm: u8) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let whole = file.metadata().unwrap().len();
    file.set_len(len).unwrap();
    if harm % 4 > 1 && len > 0 {
        file.set_len(whole).unwrap();
    }
}

fn see(watch: &mut Watch, root: &Path, call: Call, path: &Path) {
    if call == Call::Sync
        && let Ok(file) = fs::metadata(path)
        && file.is_file()
    {
        watch.synced.insert(id(&file), file.len());
    }
    let is_due = match &mut watch.picture_in {
        Some(0) => true,
        Some(calls) => {
            *calls -= 1;
            false
        }
        None => false,
    };
    if !is_due && !watch.takes_all {
        return;
    }
    // All calls are below one numbered directory.
    let Some(current) = path.strip_prefix(root).ok().and_then(|below| below.components().next()) else { return };
    watch.taken += 1;
    let picture = root.join(watch.taken.to_string());
    copy_dir(&root.join(current), &picture);
    inherit(&mut watch.synced, &root.join(current), &picture);
    if is_due {
        watch.picture_in = None;
        watch.picture = Some(picture);
    } else {
        watch.pictures.push(picture);
    }
}

/// Where an epoch began that a log start had moved is only known again of what was recovered. What is known has to be right.
fn adopt_epochs(log: &Log, model: &mut Model) {
    let epochs = log.epochs.read();
    let is_right = |base: i64, epoch: i32| epochs.epoch_at(base).is_none_or(|known| known.0 == epoch);
    // A batch that compaction took tells nobody when its epoch began.
    let written = model.batches.values().filter(|batch| batch.base >= model.start && !batch.records.is_empty());
    let is_all_right = written.into_iter().all(|batch| is_right(batch.base, batch.leader_epoch));
    let is_known = model.epochs.iter().all(|(epoch, _)| epochs.entries().iter().any(|(known, _)| known == epoch));
    if is_all_right && is_known {
        model.epochs = epochs.entries().to_vec();
    }
}

/// What compaction did below the log start nobody saw. When a crash forgets the log start, what is there must have been written.
fn adopt_below(log: &Log, model: &mut Model, known_from: i64) {
    if model.start >= known_from {
        return;
    }
    let Ok(found) = super::reader::read(log) else { return };
    for batch in model.batches.values_mut().filter(|batch| batch.last < known_from && batch.last >= model.start) {
        let there = found.iter().find(|found| found.batch.base == batch.base).map(|found| &found.batch);
        batch.records.retain(|record| there.is_some_and(|there| there.records.contains(record)));
        batch.horizon = there.and_then(|there| there.horizon);
    }
}
