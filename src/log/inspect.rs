//! What lies in a log directory and what a start would make of it, found without changing anything.
//!
//! Invariant: nothing is written, made, renamed or kept open; the lock of a running broker is looked at and left alone.

use super::checkpoint::{read_epochs, read_offsets};
use super::dir_lock::is_held;
use super::error::LogError;
use super::meta_properties::{MetaProperties, read_meta_properties};
use super::names::{self, DirectoryKind, FileKind, Transit, parse_directory_name, parse_file_name};
use super::partition_metadata;
use super::recovery::first_to_recover;
use crate::base::{TopicId, TopicPartition};
use rustix::fs::{Access, access};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Files in a log directory that are no surprise.
const KNOWN_FILES: [&str; 7] = [
    names::CLEAN_SHUTDOWN,
    names::LOCK,
    names::META_PROPERTIES,
    names::RECOVERY_POINTS,
    names::LOG_START_OFFSETS,
    names::HIGH_WATERMARKS,
    names::CLEANER_OFFSETS,
];

/// What something that was found means for a start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// As it should be, or of no weight.
    Note,
    /// The start goes on; somebody should look.
    Warning,
    /// This directory would be offline, the others not.
    Offline,
    /// The broker would not start.
    Refusal,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub severity: Severity,
    pub text: String,
}

impl Finding {
    pub fn new(severity: Severity, text: impl Into<String>) -> Finding {
        Finding { severity, text: text.into() }
    }
}

#[derive(Clone, Debug)]
pub struct InspectedPartition {
    pub partition: TopicPartition,
    pub path: PathBuf,
    pub topic_id: Option<TopicId>,
    pub size_bytes: u64,
    /// What a start after an unclean stop would read and check.
    pub recovery_bytes: u64,
}

#[derive(Clone, Debug, Default)]
pub struct DirInspection {
    pub path: PathBuf,
    pub meta: Option<MetaProperties>,
    /// The last stop left the marker.
    pub is_clean: bool,
    pub partitions: Vec<InspectedPartition>,
    pub findings: Vec<Finding>,
}

impl DirInspection {
    fn find(&mut self, severity: Severity, text: impl Into<String>) {
        self.findings.push(Finding::new(severity, text));
    }

    pub fn is_offline(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Offline)
    }
}

/// Looks at one directory of `log.dirs`.
pub fn inspect_dir(path: &Path) -> DirInspection {
    let mut found = DirInspection { path: path.to_owned(), ..DirInspection::default() };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            found.find(Severity::Warning, "does not exist; a start would make it");
            return found;
        }
        Err(error) => {
            found.find(Severity::Offline, format!("cannot be read: {error}"));
            return found;
        }
        Ok(metadata) if !metadata.is_dir() => {
            found.find(Severity::Offline, "is not a directory");
            return found;
        }
        Ok(_) => {}
    }
    if let Err(error) = access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        found.find(Severity::Offline, format!("cannot be worked in: {}", io::Error::from(error)));
    }
    if let Err(error) = look_inside(path, &mut found) {
        found.find(Severity::Offline, format!("cannot be read: {error}"));
    }
    found
}

fn look_inside(path: &Path, found: &mut DirInspection) -> io::Result<()> {
    match is_held(path) {
        Ok(false) => {}
        Ok(true) => found.find(
            Severity::Refusal,
            "is in use: a broker (Ottla or Apache Kafka) holds its .lock. Stop it before this one starts",
        ),
        Err(error) => found.find(Severity::Offline, format!(".lock cannot be read: {error}")),
    }
    found.is_clean = path.join(names::CLEAN_SHUTDOWN).try_exists()?;
    match read_meta_properties(path) {
        Ok(None) => found.find(Severity::Note, "has no meta.properties; a start would write one"),
        Ok(meta) => found.meta = meta,
        Err(error) => found.find(Severity::Refusal, without_path(path, &error)),
    }
    let recovery_points = checkpoint(path, names::RECOVERY_POINTS, found);
    for name in [names::LOG_START_OFFSETS, names::HIGH_WATERMARKS, names::CLEANER_OFFSETS] {
        checkpoint(path, name, found);
    }
    let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.file_type()?.is_dir() {
            let is_known = KNOWN_FILES.contains(&name.as_str()) || name.ends_with(".tmp");
            if !is_known {
                found.find(Severity::Note, format!("has a file that no broker wrote: {name}"));
            }
            continue;
        }
        match parse_directory_name(&name) {
            Some(DirectoryKind::Partition(partition)) => {
                let point = recovery_points.get(&partition).copied().unwrap_or(0);
                inspect_partition(entry.path(), partition, point, found)?;
            }
            Some(kind) => aside(&name, &kind, found),
            None => found.find(
                Severity::Refusal,
                format!(
                    "has a directory that is no partition, at which Apache Kafka stops too: {name}. Move it elsewhere"
                ),
            ),
        }
    }
    Ok(())
}

/// Directories that are no partition in use.
fn aside(name: &str, kind: &DirectoryKind, found: &mut DirInspection) {
    let (severity, text) = match kind {
        DirectoryKind::Delete => (Severity::Note, "waits for removal"),
        DirectoryKind::Future(_) => {
            (Severity::Note, "is a replica on its way between two directories; the move goes on")
        }
        DirectoryKind::Stray => {
            (Severity::Warning, "was set aside since the cluster did not know it; it is left as it is")
        }
        DirectoryKind::Partition(_) | DirectoryKind::Known => return,
    };
    found.find(severity, format!("{name} {text}"));
}

fn without_path(path: &Path, error: &LogError) -> String {
    error.to_string().replace(&format!("{}/", path.display()), "")
}

fn checkpoint(dir: &Path, name: &str, found: &mut DirInspection) -> BTreeMap<TopicPartition, i64> {
    match read_offsets(&dir.join(name)) {
        Ok(entries) => entries.into_iter().collect(),
        Err(error) => {
            found.find(Severity::Warning, format!("{}; it counts as empty", without_path(dir, &error)));
            BTreeMap::new()
        }
    }
}

fn inspect_partition(
    path: PathBuf,
    partition: TopicPartition,
    recovery_point: i64,
    found: &mut DirInspection,
) -> io::Result<()> {
    let mut files = PartitionFiles::default();
    for entry in fs::read_dir(&path)? {
        let entry = entry?;
        let Some((offset, kind, transit)) = entry.file_name().to_str().and_then(parse_file_name) else { continue };
        match transit {
            Transit::None if kind == FileKind::Log => {
                files.logs.insert(offset, entry.metadata()?.len());
            }
            Transit::None => {
                files.others.insert((kind, offset));
            }
            Transit::Deleted | Transit::Cleaned | Transit::Swap => files.leftovers += 1,
        }
    }
    let topic_id = match partition_metadata::read(&path) {
        Ok(id) => id,
        Err(error) => {
            found.find(Severity::Refusal, without_path(&found.path.clone(), &error));
            None
        }
    };
    let epochs = read_epochs(&path.join(names::LEADER_EPOCHS));
    if let Err(error) = &epochs {
        let text = format!("{}; they are read from the log again", without_path(&found.path.clone(), error));
        found.find(Severity::Warning, text);
    }
    files.tell(&path, &partition, found)?;
    let point = if epochs.is_ok() { recovery_point } else { 0 };
    let bases: Vec<i64> = files.logs.keys().copied().collect();
    let is_checked = !found.is_clean || epochs.is_err();
    let first = if is_checked { first_to_recover(&bases, point) } else { bases.len() };
    found.partitions.push(InspectedPartition {
        partition,
        path,
        topic_id,
        size_bytes: files.logs.values().sum(),
        recovery_bytes: files.logs.values().skip(first).sum(),
    });
    Ok(())
}

/// What the names in a partition directory say.
#[derive(Default)]
struct PartitionFiles {
    /// Sizes by base offset.
    logs: BTreeMap<i64, u64>,
    others: BTreeSet<(FileKind, i64)>,
    leftovers: usize,
}

impl PartitionFiles {
    fn tell(&self, path: &Path, partition: &TopicPartition, found: &mut DirInspection) -> io::Result<()> {
        let mut old_formats = BTreeSet::new();
        for (&base, &size) in self.logs.iter().filter(|(_, size)| **size > 0) {
            match magic(&path.join(FileKind::Log.file_name(base)), size)? {
                Some(2) => {}
                Some(magic @ 0..=1) => {
                    old_formats.insert(magic);
                }
                _ => found.find(
                    Severity::Warning,
                    format!("{partition}: segment {base} does not begin with a batch; it would be cut there"),
                ),
            }
            for kind in [FileKind::OffsetIndex, FileKind::TimeIndex] {
                if !self.others.contains(&(kind, base)) {
                    let name = kind.file_name(base);
                    found.find(Severity::Note, format!("{partition}: {name} is missing and would be built again"));
                }
            }
        }
        if !old_formats.is_empty() {
            let formats: Vec<String> = old_formats.iter().map(u8::to_string).collect();
            let formats = formats.join(" and ");
            found.find(
                Severity::Note,
                format!("{partition}: has records of message format {formats}, which are served"),
            );
        }
        if self.leftovers > 0 {
            let text = format!("{partition}: {} files of an unfinished deletion or compaction", self.leftovers);
            found.find(Severity::Note, text);
        }
        Ok(())
    }
}

/// The format of the first batch; `None` if there is none.
fn magic(path: &Path, size: u64) -> io::Result<Option<u8>> {
    const PREFIX: usize = 17;
    if size < PREFIX as u64 {
        return Ok(None);
    }
    let mut prefix = [0; PREFIX];
    File::open(path)?.read_exact_at(&mut prefix, 0)?;
    let [_, _, _, _, _, _, _, _, rest @ ..] = prefix;
    let is_empty = rest[..4] == [0; 4];
    Ok(prefix.last().copied().filter(|_| !is_empty))
}
