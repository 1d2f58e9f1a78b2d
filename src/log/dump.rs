//! What is in the files of a log directory, as text (class `DumpLogSegments`, the tool `kafka-dump-log`).
//!
//! Where Kafka's tool has words for it, the words are Kafka's, so that scripts that read them go on working. Different on purpose:
//! - checkpoints, `partition.metadata`, `meta.properties` and files that wait for removal (`.deleted`, `.swap`, ..) are shown too;
//! - a file that cannot be read to its end is told of, and the next one follows: no stack trace, and the answer is "problems found";
//! - an index of nothing but preallocated zeros, or one whose entries point outside its log, is shown instead of ending the run;
//! - a transaction index with unknown versions or a torn last entry is told of;
//! - partitions in transaction records keep the order that they have in the record.
//!
//! Invariant: files are opened for reading only, and nothing is made or changed.

mod coordinator;
mod indexes;
mod json;
mod records;
mod small_files;

use super::names::{self, FileKind, parse_file_name};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What the records of a log are taken for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Decoder {
    /// UTF-8 text.
    #[default]
    Text,
    /// Records of `__consumer_offsets`.
    Offsets,
    /// Records of `__transaction_state`.
    Transactions,
}

/// The flags of `kafka-dump-log`.
#[derive(Clone, Debug)]
pub struct DumpOptions {
    pub print_data_log: bool,
    pub deep_iteration: bool,
    pub skip_record_metadata: bool,
    pub index_sanity_check: bool,
    pub verify_index_only: bool,
    /// Batches beyond so many bytes of a log are left out.
    pub max_bytes: u64,
    pub decoder: Decoder,
}

impl Default for DumpOptions {
    fn default() -> DumpOptions {
        DumpOptions {
            print_data_log: false,
            deep_iteration: false,
            skip_record_metadata: false,
            index_sanity_check: false,
            verify_index_only: false,
            max_bytes: u64::MAX,
            decoder: Decoder::Text,
        }
    }
}

/// Two numbers that should agree, or follow one another.
type Pair = (i64, i64);

/// What does not fit together, told at the end as Kafka's tool does.
#[derive(Default)]
struct Findings {
    index_mismatches: Vec<(PathBuf, Vec<Pair>)>,
    time_mismatches: Vec<(PathBuf, Vec<Pair>)>,
    times_out_of_order: Vec<(PathBuf, Vec<Pair>)>,
    /// One list a file, which Kafka's words do not name.
    offsets_not_found: Vec<Vec<Pair>>,
    gaps: Vec<(PathBuf, Vec<Pair>)>,
}

/// One run of the tool.
struct Dump<'a> {
    options: &'a DumpOptions,
    out: &'a mut dyn Write,
    problems: &'a mut dyn Write,
    findings: Findings,
    is_sound: bool,
}

/// Writes what is in the files to `out`, and what is wrong with them to `problems`. `true`: nothing is wrong.
pub fn dump(
    files: &[PathBuf],
    options: &DumpOptions,
    out: &mut dyn Write,
    problems: &mut dyn Write,
) -> io::Result<bool> {
    let mut dump = Dump { options, out, problems, findings: Findings::default(), is_sound: true };
    for file in files {
        dump.file(file)?;
    }
    dump.tell_findings()?;
    dump.out.flush()?;
    Ok(dump.is_sound)
}

impl Dump<'_> {
    fn file(&mut self, path: &Path) -> io::Result<()> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let numbered = parse_file_name(name);
        let is_small = small_files::NAMES.contains(&name);
        if numbered.is_none() && !is_small {
            return self.problem(format!("Ignoring unknown file {}", path.display()));
        }
        writeln!(self.out, "Dumping {}", path.display())?;
        let outcome = match numbered {
            Some((base, FileKind::Log, _)) => self.log(path, base),
            Some((base, FileKind::OffsetIndex, _)) => self.offset_index(path, base),
            Some((base, FileKind::TimeIndex, _)) => self.time_index(path, base),
            Some((_, FileKind::TransactionIndex, _)) => self.transaction_index(path),
            Some((_, FileKind::ProducerSnapshot, _)) => self.producer_snapshot(path),
            None => self.small_file(path, name),
        };
        match outcome {
            // Nobody reads on: that is no fault of the file.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(error),
            Err(error) => self.problem(format!("{}: {error}", path.display())),
            Ok(()) => Ok(()),
        }
    }

    fn problem(&mut self, line: String) -> io::Result<()> {
        self.is_sound = false;
        self.out.flush()?;
        writeln!(self.problems, "{line}")
    }

    fn tell_findings(&mut self) -> io::Result<()> {
        let findings = std::mem::take(&mut self.findings);
        let groups = [
            ("Mismatches in :", "Index offset: ", ", log offset: ", findings.index_mismatches),
            ("Found timestamp mismatch in :", "Index timestamp: ", ", log timestamp: ", findings.time_mismatches),
            (
                "Found out of order timestamp in :",
                "Index timestamp: ",
                ", Previously indexed timestamp: ",
                findings.times_out_of_order,
            ),
        ];
        for (title, first, second, files) in groups {
            for (path, pairs) in files {
                self.problem(format!("{title}{}", path.display()))?;
                for (a, b) in pairs {
                    self.problem(format!("  {first}{a}{second}{b}"))?;
                }
            }
        }
        for pairs in findings.offsets_not_found {
            self.problem("The following indexed offsets are not found in the log.".to_owned())?;
            for (indexed, found) in pairs {
                self.problem(format!("Indexed offset: {indexed}, found log offset: {found}"))?;
            }
        }
        for (path, pairs) in findings.gaps {
            self.problem(format!("Non-consecutive offsets in {}", path.display()))?;
            for (a, b) in pairs {
                self.problem(format!("  {a} is followed by {b}"))?;
            }
        }
        Ok(())
    }
}

/// As it is named where Kafka's tool gives the whole path.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn file_name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// The file of another kind that belongs to the same segment.
fn sibling(path: &Path, base_offset: i64, kind: names::FileKind) -> PathBuf {
    path.with_file_name(kind.file_name(base_offset))
}
