//! A history: what processes asked for and what they heard, and its form as lines of JSON, one an event, written as it happens. A
//! process that is killed leaves what it had written. There is no broker in here, nor in the judge.

use serde_json::{Value as Json, json};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// A partition of the one topic.
pub type Key = i32;
/// Unique in a history.
pub type Value = u64;

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Ok,
    /// It certainly did not happen.
    Fail,
    /// Nobody knows.
    Info,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Writes and reads inside a transaction.
    Txn,
    /// Reads alone, with a commit of what was read.
    Poll,
    /// A process begins (again) at its committed offsets.
    Assign,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// The offset is known if it was answered.
    Send { key: Key, value: Value, offset: Option<i64> },
    /// What was read of a partition, in order: offsets and values.
    Poll { key: Key, values: Vec<(i64, Value)> },
    /// The process's group shall go on here, if the operation happens.
    Commit { key: Key, offset: i64 },
    /// Where the process's group goes on, -1 at the start.
    Committed { key: Key, offset: i64 },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Op {
    pub process: u32,
    pub kind: Kind,
    pub end: End,
    /// Nanoseconds of one clock of the machine.
    pub begun: u64,
    pub ended: u64,
    pub steps: Vec<Step>,
}

/// Nanoseconds of the clock that all processes of the machine share.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    since.as_nanos() as u64
}

/// Writes a process's history while it happens.
pub struct Recorder(File);

impl Recorder {
    pub fn create(path: &Path) -> Recorder {
        Recorder(File::create_new(path).expect("a new file for a history"))
    }

    fn line(&mut self, line: &Json) {
        // One write: a kill leaves whole lines but for the last.
        self.0.write_all(format!("{line}\n").as_bytes()).expect("a line of history");
    }

    pub fn begin(&mut self, kind: Kind) {
        let name = match kind {
            Kind::Txn => "txn",
            Kind::Poll => "poll",
            Kind::Assign => "assign",
        };
        self.line(&json!({"f": "begin", "kind": name, "at": now()}));
    }

    /// Before the record is sent.
    pub fn sends(&mut self, key: Key, value: Value) {
        self.line(&json!({"f": "send", "key": key, "value": value}));
    }

    /// The record sent last is stored.
    pub fn sent(&mut self, offset: i64) {
        self.line(&json!({"f": "sent", "offset": offset}));
    }

    pub fn polled(&mut self, key: Key, values: &[(i64, Value)]) {
        self.line(&json!({"f": "polled", "key": key, "values": values}));
    }

    /// Before an offset is committed.
    pub fn commits(&mut self, key: Key, offset: i64) {
        self.line(&json!({"f": "commit", "key": key, "offset": offset}));
    }

    pub fn committed(&mut self, key: Key, offset: i64) {
        self.line(&json!({"f": "committed", "key": key, "offset": offset}));
    }

    /// Another request was answered.
    pub fn answered(&mut self, what: &str) {
        self.line(&json!({"f": "answered", "what": what}));
    }

    /// Before anything is asked for that makes the operation happen.
    pub fn asks(&mut self) {
        self.line(&json!({"f": "ask"}));
    }

    pub fn end(&mut self, end: End) {
        let name = match end {
            End::Ok => "ok",
            End::Fail => "fail",
            End::Info => "info",
        };
        self.line(&json!({"f": "end", "end": name, "at": now()}));
    }
}

/// Requests that were answered, in a history as it was written.
pub fn operations(text: &str) -> u64 {
    let answers = ["sent", "polled", "committed", "answered", "end"].map(|name| format!("\"f\":\"{name}\""));
    text.lines().filter(|line| answers.iter().any(|answer| line.contains(answer))).count() as u64
}

fn numbers(json: &Json) -> Option<(i64, Value)> {
    Some((json.get(0)?.as_i64()?, json.get(1)?.as_u64()?))
}

/// The operations of one life of a process. One that has no end failed if nothing was asked for that could have made it happen.
pub fn parse(process: u32, text: &str) -> Vec<Op> {
    let mut ops: Vec<Op> = Vec::new();
    let (mut is_open, mut asked) = (false, false);
    for line in text.lines() {
        // Only the last line can be a part of one.
        let Ok(json) = serde_json::from_str::<Json>(line) else { break };
        let number = |name: &str| json[name].as_i64().unwrap_or(-1);
        let at = json["at"].as_u64().unwrap_or(0);
        let key = number("key") as Key;
        match json["f"].as_str().unwrap_or("") {
            "begin" => {
                let kind = match json["kind"].as_str() {
                    Some("txn") => Kind::Txn,
                    Some("assign") => Kind::Assign,
                    _ => Kind::Poll,
                };
                ops.push(Op { process, kind, end: End::Info, begun: at, ended: u64::MAX, steps: Vec::new() });
                (is_open, asked) = (true, false);
                continue;
            }
            "ask" => asked = true,
            _ => {}
        }
        let Some(op) = ops.last_mut() else { continue };
        match json["f"].as_str().unwrap_or("") {
            "send" => op.steps.push(Step::Send { key, value: json["value"].as_u64().unwrap_or(0), offset: None }),
            "sent" => {
                if let Some(Step::Send { offset, .. }) = op.steps.last_mut() {
                    *offset = Some(number("offset")).filter(|offset| *offset >= 0);
                }
            }
            "polled" => {
                let values = json["values"].as_array().into_iter().flatten().filter_map(numbers).collect();
                op.steps.push(Step::Poll { key, values });
            }
            "commit" => op.steps.push(Step::Commit { key, offset: number("offset") }),
            "committed" => op.steps.push(Step::Committed { key, offset: number("offset") }),
            "end" => {
                op.ended = at;
                op.end = match json["end"].as_str() {
                    Some("ok") => End::Ok,
                    Some("fail") => End::Fail,
                    _ => End::Info,
                };
                is_open = false;
            }
            _ => {}
        }
    }
    if let Some(op) = ops.last_mut().filter(|op| is_open && !asked && op.kind == Kind::Txn) {
        op.end = End::Fail;
    }
    ops
}
