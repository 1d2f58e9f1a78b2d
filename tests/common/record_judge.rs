//! The record classes of Apache Kafka 3.9.2 as a judge for tests.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use ottla::record::ValidationRules;

/// Apache Kafka's own classes, behind a pipe (`tests/reference/RecordReference.java`).
pub struct Reference {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Drop for Reference {
    /// It ends when its input does.
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.wait();
    }
}

impl Reference {
    pub fn start() -> Reference {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let libs = std::env::var_os("OTTLA_KAFKA_LIBS").map_or(root.join("target/kafka-3.9.2/libs"), PathBuf::from);
        assert!(
            libs.join("kafka-clients-3.9.2.jar").exists(),
            "no jars of Apache Kafka 3.9.2 in {}: run `scripts/kafka libs` once, or name their folder in OTTLA_KAFKA_LIBS",
            libs.display()
        );
        let mut child = Command::new("java")
            .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(format!("{}/*", libs.display()))
            .arg(root.join("tests/reference/RecordReference.java"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("java runs");
        let stdout = BufReader::new(child.stdout.take().expect("pipe"));
        Reference { stdin: child.stdin.take(), child, stdout }
    }

    pub fn ask(&mut self, question: &str, bytes: &[u8]) -> String {
        let stdin = self.stdin.as_mut().expect("it has not ended");
        writeln!(stdin, "{question} {}", hex(bytes)).expect("the reference reads");
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).expect("the reference answers");
        assert!(answer.ends_with('\n'), "the reference ended at: {question}");
        answer.trim_end().to_owned()
    }

    /// What Kafka reads in the batches.
    pub fn dump(&mut self, bytes: &[u8]) -> String {
        self.ask("dump", bytes)
    }

    pub fn down_convert(&mut self, magic: i8, from_offset: i64, bytes: &[u8]) -> Vec<u8> {
        unhex(&self.ask(&format!("down {magic} {from_offset}"), bytes))
    }

    /// What Kafka would append, or the name of its error and the records to blame.
    pub fn validate(&mut self, rules: &ValidationRules, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let codec = rules.target_codec.map_or("producer", |(codec, _)| codec.name());
        let answer = self.ask(
            &format!(
                "validate {} {} {} {codec} {} {} {} {} {}",
                rules.produce_version,
                rules.max_message_bytes,
                rules.segment_bytes,
                rules.log_append_time,
                rules.now_ms,
                rules.timestamp_before_max_ms,
                rules.timestamp_after_max_ms,
                rules.compacted
            ),
            bytes,
        );
        match answer.strip_prefix("OK") {
            Some(hex) => Ok(unhex(hex.trim())),
            None => Err(answer),
        }
    }
}

pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16).unwrap_or_else(|| panic!("not hex: {text}"))).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}
