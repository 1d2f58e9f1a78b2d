//! ZooKeeper: the embedded server's own state machine, without sockets and disk, and a client's side of its frames.

use super::clock;
use ottla::zookeeper::embedded::codes::{KeeperCode, XID_NOTIFICATION, XID_PING, op};
use ottla::zookeeper::embedded::jute::{JuteError, JuteReader, JuteWriter};
use ottla::zookeeper::embedded::machine::{Effect, Machine, Now, Rules};
use ottla::zookeeper::embedded::tree::Tree;
use ottla::zookeeper::embedded::watches::ConnectionId;
use ottla::zookeeper::{Answer, CreateMode, Operation, Stat, Write, Written, ZkError};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub const SESSION_TIMEOUT_MS: i32 = 2000;
const WALL_MS: i64 = 1_700_000_000_000;
const CHILDREN_CHANGED: i32 = 4;

pub type Frame = Vec<u8>;

pub struct Keeper {
    pub machine: Machine,
    connections: u64,
    inboxes: BTreeMap<ConnectionId, UnboundedSender<Frame>>,
}

/// What a frame from the server is to its client.
pub enum Incoming {
    Changed {
        path: String,
        children: bool,
    },
    Pong,
    /// To the oldest request without one: an error code or a body.
    Reply(Result<Vec<u8>, i32>),
}

fn now() -> Now {
    Now { monotonic_ms: clock::now_ms(), wall_ms: WALL_MS + clock::now_ms() }
}

impl Keeper {
    pub fn new() -> Keeper {
        let rules = Rules {
            tick_ms: 200,
            min_session_timeout_ms: 400,
            max_session_timeout_ms: 60_000,
            extended_types: true,
            super_digest: None,
            entry_bytes_max: 1 << 20,
        };
        Keeper { machine: Machine::new(rules, Tree::fresh(), now()), connections: 0, inboxes: BTreeMap::new() }
    }

    fn run(&mut self, step: impl FnOnce(&mut Machine, &mut Vec<Effect>)) {
        let mut effects = Vec::new();
        step(&mut self.machine, &mut effects);
        for effect in effects {
            match effect {
                Effect::Append { .. } => {}
                Effect::Send { to, frame } => {
                    if let Some(inbox) = self.inboxes.get(&to) {
                        let _ = inbox.send(frame[4..].to_vec());
                    }
                }
                Effect::Close(id) => self.disconnect(id),
            }
        }
    }

    /// A new session: the connection, its id, and what the server sends.
    pub fn connect(&mut self) -> (ConnectionId, i64, UnboundedReceiver<Frame>) {
        self.connections += 1;
        let id = ConnectionId(self.connections);
        let (inbox, mut frames) = unbounded_channel();
        self.inboxes.insert(id, inbox);
        self.machine.accept(id, SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), now());
        let mut hello = JuteWriter::new();
        hello.i32(0).i64(0).i32(SESSION_TIMEOUT_MS).i64(0).buffer(Some(&[0; 16])).bool(false);
        self.run(|machine, effects| machine.connect(id, hello.as_slice(), now(), effects));
        let welcome = frames.try_recv().expect("an answer to the handshake");
        let session = i64::from_be_bytes(welcome[8..16].try_into().expect("a session"));
        (id, session, frames)
    }

    pub fn disconnect(&mut self, id: ConnectionId) {
        self.machine.disconnected(id);
        self.inboxes.remove(&id);
    }

    pub fn ping(&mut self, id: ConnectionId) -> bool {
        self.request(id, &frame(XID_PING, op::PING, |to| to))
    }

    /// Whether the connection is open: nothing answers on one that is not.
    pub fn request(&mut self, id: ConnectionId, frame: &[u8]) -> bool {
        self.run(|machine, effects| machine.request(id, frame, now(), effects));
        self.inboxes.contains_key(&id)
    }

    /// Time passes: sessions end.
    pub fn tick(&mut self) {
        self.run(|machine, effects| machine.tick(now(), effects));
    }

    pub fn version(&self, path: &str) -> Option<i32> {
        Some(self.machine.tree.get(path)?.stat().stored.version)
    }

    pub fn text(&self, path: &str) -> Option<(Vec<u8>, i32)> {
        let node = self.machine.tree.get(path)?;
        Some((node.data.as_ref().map(|data| data.to_vec()).unwrap_or_default(), node.stat().stored.version))
    }
}

fn frame(xid: i32, kind: i32, body: impl FnOnce(&mut JuteWriter) -> &mut JuteWriter) -> Frame {
    let mut to = JuteWriter::new();
    to.i32(xid).i32(kind);
    body(&mut to);
    to.into_bytes()
}

/// An operation as its request.
pub fn encode(operation: &Operation) -> Frame {
    let read = |kind, path: &str, watch| frame(1, kind, |to| to.string(path).bool(watch));
    match operation {
        Operation::Get { path, watch } => read(op::GET_DATA, path, *watch),
        Operation::Exists { path, watch } => read(op::EXISTS, path, *watch),
        Operation::Children { path, watch } => read(op::GET_CHILDREN2, path, *watch),
        Operation::Multi(writes) => frame(1, op::MULTI, |to| {
            for write in writes {
                encode_write(write, to);
            }
            to.i32(-1).bool(true).i32(-1)
        }),
    }
}

fn encode_write(write: &Write, to: &mut JuteWriter) {
    let head = |to: &mut JuteWriter, kind: i32| {
        to.i32(kind).bool(false).i32(-1);
    };
    match write {
        Write::Create { path, data, mode } => {
            head(to, op::CREATE);
            let flags = match mode {
                CreateMode::Persistent => 0,
                CreateMode::Ephemeral => 1,
                CreateMode::PersistentSequential => 2,
            };
            to.string(path).buffer(Some(data)).i32(1).i32(31).string("world").string("anyone").i32(flags);
        }
        Write::Set { path, data, version } => {
            head(to, op::SET_DATA);
            to.string(path).buffer(Some(data)).i32(version.unwrap_or(-1));
        }
        Write::Delete { path, version } => {
            head(to, op::DELETE);
            to.string(path).i32(version.unwrap_or(-1));
        }
        Write::Check { path, version } => {
            head(to, op::CHECK);
            to.string(path).i32(*version);
        }
    }
}

pub fn read_frame(frame: &[u8]) -> Result<Incoming, JuteError> {
    let mut from = JuteReader::new(frame);
    let (xid, _zxid, code) = (from.i32()?, from.i64()?, from.i32()?);
    match xid {
        XID_NOTIFICATION => {
            let (kind, _state) = (from.i32()?, from.i32()?);
            Ok(Incoming::Changed { path: from.string()?, children: kind == CHILDREN_CHANGED })
        }
        XID_PING => Ok(Incoming::Pong),
        _ if code == 0 => Ok(Incoming::Reply(Ok(from.take(from.remaining())?.to_vec()))),
        _ => Ok(Incoming::Reply(Err(code))),
    }
}

fn error(code: i32) -> ZkError {
    match code {
        code if code == KeeperCode::NoNode.code() => ZkError::NoNode,
        code if code == KeeperCode::NodeExists.code() => ZkError::NodeExists,
        code if code == KeeperCode::BadVersion.code() => ZkError::BadVersion,
        code if code == KeeperCode::NotEmpty.code() => ZkError::NotEmpty,
        code if code == KeeperCode::SessionExpired.code() => ZkError::SessionExpired,
        code => ZkError::Other(format!("code {code}")),
    }
}

fn stat(from: &mut JuteReader<'_>) -> Result<Stat, JuteError> {
    let (czxid, mzxid, ctime_ms, _mtime) = (from.i64()?, from.i64()?, from.i64()?, from.i64()?);
    let (version, _cversion, _aversion, owner) = (from.i32()?, from.i32()?, from.i32()?, from.i64()?);
    let (_length, children, _pzxid) = (from.i32()?, from.i32()?, from.i64()?);
    Ok(Stat { czxid, mzxid, ctime_ms, version, owner, children })
}

/// A reply as the answer to its operation.
pub fn decode(operation: &Operation, reply: Result<Vec<u8>, i32>) -> Result<Answer, ZkError> {
    let body = match (operation, reply) {
        (_, Ok(body)) => body,
        (Operation::Exists { .. }, Err(code)) if code == KeeperCode::NoNode.code() => return Ok(Answer::Exists(None)),
        (_, Err(code)) => return Err(error(code)),
    };
    read_answer(operation, &mut JuteReader::new(&body)).expect("the server's replies can be read")
}

fn read_answer(operation: &Operation, from: &mut JuteReader<'_>) -> Result<Result<Answer, ZkError>, JuteError> {
    Ok(Ok(match operation {
        Operation::Get { .. } => Answer::Data(from.buffer()?.unwrap_or_default().to_vec(), stat(from)?),
        Operation::Exists { .. } => Answer::Exists(Some(stat(from)?)),
        Operation::Children { .. } => {
            let names = (0..from.i32()?).map(|_| from.string()).collect::<Result<_, _>>()?;
            Answer::Children(names, stat(from)?)
        }
        Operation::Multi(writes) => return read_multi(writes.len(), from),
    }))
}

fn read_multi(count: usize, from: &mut JuteReader<'_>) -> Result<Result<Answer, ZkError>, JuteError> {
    let mut written = Vec::new();
    let mut refused = None;
    for index in 0..count {
        let (kind, _done, _code) = (from.i32()?, from.bool()?, from.i32()?);
        match kind {
            op::CREATE => written.push(Written::Created(from.string()?)),
            op::SET_DATA => written.push(Written::Set(stat(from)?)),
            op::DELETE => written.push(Written::Deleted),
            op::CHECK => written.push(Written::Checked),
            _ => {
                // Those before the one that failed carry 0, those after it a code of their own.
                let code = from.i32()?;
                if refused.is_none() && code != 0 {
                    refused = Some(ZkError::Multi { index, error: Box::new(error(code)) });
                }
            }
        }
    }
    Ok(match refused {
        Some(refused) => Err(refused),
        None => Ok(Answer::Multi(written)),
    })
}
