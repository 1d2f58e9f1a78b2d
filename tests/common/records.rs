//! Record batches for tests: seeded random ones, and the classes of Apache Kafka 3.9.2 as a judge of them.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use ottla::record::{BatchBuilder, Compression, HEADER_SIZE, ValidationRules};

/// A small deterministic generator (xorshift).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    /// From 0 up to, not including, `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    pub fn bytes(&mut self, max: usize) -> Vec<u8> {
        (0..self.below(max + 1)).map(|_| self.next() as u8).collect()
    }

    fn field(&mut self, max: usize) -> Option<Vec<u8>> {
        if self.once_in(4) { None } else { Some(self.bytes(max)) }
    }

    /// Numbers that break things.
    pub fn number(&mut self) -> i64 {
        let edge = self.pick(&[0, 1, -1, 2, 5, 63, 64, 127, i32::MAX.into(), i32::MIN.into(), i64::MAX, i64::MIN, -2]);
        if self.once_in(3) { self.next() as i64 } else { edge }
    }
}

pub const NOW: i64 = 1_700_000_000_000;

/// A good batch with a few records of all kinds.
pub fn random_batch(dice: &mut Dice, codec: Compression) -> BatchBuilder {
    let mut builder = BatchBuilder::new().compression(codec, None);
    if dice.once_in(3) {
        builder = builder.producer(9, 2, dice.pick(&[0, 5, i32::MAX])).transactional(dice.once_in(2));
    }
    for _ in 0..1 + dice.below(6) {
        let time = NOW + dice.pick(&[0, 0, 1, 7, -3, 10_000_000]);
        let long = if dice.once_in(10) { 5000 } else { 40 };
        let (key, value) = (dice.field(20), dice.field(long));
        let headers: Vec<(Vec<u8>, Option<Vec<u8>>)> =
            (0..dice.pick(&[0, 0, 0, 1, 3])).map(|_| (b"name".to_vec(), dice.field(9))).collect();
        let headers = headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref()));
        builder.append(time, key.as_deref(), value.as_deref(), headers);
    }
    builder
}

/// Puts the right checksum into a batch of format 2.
pub fn mend_crc(batch: &mut [u8]) {
    let crc = ottla::record::crc::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Puts another payload behind the header of a batch of format 2.
pub fn with_payload(batch: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = batch[..HEADER_SIZE].to_vec();
    out.extend_from_slice(payload);
    let length = (out.len() - 12) as i32;
    out[8..12].copy_from_slice(&length.to_be_bytes());
    mend_crc(&mut out);
    out
}

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
