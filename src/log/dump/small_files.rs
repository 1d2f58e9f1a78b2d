//! Producer snapshots, checkpoints, and the other small files of a log directory. Kafka's tool knows only the snapshots.

use super::Dump;
use crate::log::checkpoint::{read_epochs, read_offsets};
use crate::log::{meta_properties, names, partition_metadata, producer_snapshot};
use std::fs;
use std::io;
use std::path::Path;

/// Files that go by a name of their own.
pub const NAMES: [&str; 8] = [
    names::LEADER_EPOCHS,
    names::RECOVERY_POINTS,
    names::LOG_START_OFFSETS,
    names::HIGH_WATERMARKS,
    names::CLEANER_OFFSETS,
    names::PARTITION_METADATA,
    names::META_PROPERTIES,
    names::CLEAN_SHUTDOWN,
];

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

impl Dump<'_> {
    pub(super) fn producer_snapshot(&mut self, path: &Path) -> io::Result<()> {
        let bytes = fs::read(path)?;
        if let Some((stored, computed)) = producer_snapshot::checksums(&bytes)
            && stored != computed
        {
            return self.problem(format!(
                "Snapshot is corrupt (CRC is no longer valid). Stored crc: {stored}. Computed crc: {computed}"
            ));
        }
        for entry in producer_snapshot::decode(&bytes).map_err(invalid)? {
            let open = match entry.transaction_first_offset {
                Some(first) => format!("OptionalLong[{first}]"),
                None => "OptionalLong.empty".to_owned(),
            };
            write!(
                self.out,
                "producerId: {} producerEpoch: {} coordinatorEpoch: {} currentTxnFirstOffset: {open} lastTimestamp: {} ",
                entry.id, entry.epoch, entry.coordinator_epoch, entry.last_timestamp
            )?;
            if let Some(batch) = entry.last_batch() {
                write!(
                    self.out,
                    "firstSequence: {} lastSequence: {} lastOffset: {} offsetDelta: {} timestamp: {}",
                    batch.first_sequence(),
                    batch.last_sequence,
                    batch.last_offset,
                    batch.offset_delta,
                    batch.timestamp
                )?;
            }
            writeln!(self.out)?;
        }
        Ok(())
    }

    pub(super) fn small_file(&mut self, path: &Path, name: &str) -> io::Result<()> {
        // The readers take a file that is not there for an empty one.
        fs::metadata(path)?;
        match name {
            names::LEADER_EPOCHS => {
                for (epoch, start) in read_epochs(path).map_err(|error| invalid(reason(path, &error)))? {
                    writeln!(self.out, "epoch: {epoch} startOffset: {start}")?;
                }
            }
            names::PARTITION_METADATA | names::META_PROPERTIES => return self.identity(path, name),
            names::CLEAN_SHUTDOWN => writeln!(self.out, "clean shutdown: {}", fs::read_to_string(path)?.trim_end())?,
            _ => {
                for (log, offset) in read_offsets(path).map_err(|error| invalid(reason(path, &error)))? {
                    writeln!(self.out, "topic: {} partition: {} offset: {offset}", log.topic, log.partition)?;
                }
            }
        }
        Ok(())
    }

    fn identity(&mut self, path: &Path, name: &str) -> io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new(""));
        if name == names::PARTITION_METADATA {
            let id = partition_metadata::read(dir).map_err(|error| invalid(reason(path, &error)))?;
            return id.map_or(Ok(()), |id| writeln!(self.out, "version: 0 topicId: {id}"));
        }
        let meta = meta_properties::read_meta_properties(dir).map_err(|error| invalid(reason(path, &error)))?;
        let meta = meta.unwrap_or_default();
        let id = meta.broker_id.map_or_else(|| "none".to_owned(), |id| id.to_string());
        write!(self.out, "version: 0 brokerId: {id} clusterId: {}", meta.cluster_id.as_deref().unwrap_or("none"))?;
        for (key, value) in &meta.other {
            write!(self.out, " {key}: {value}")?;
        }
        writeln!(self.out)
    }
}

/// The error without the path, which is said anyway.
fn reason(path: &Path, error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    text.strip_prefix(&format!("{}: ", path.display())).map(str::to_owned).unwrap_or(text)
}
