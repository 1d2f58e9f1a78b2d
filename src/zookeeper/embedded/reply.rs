//! Replies as clients read them: length, header and body in one buffer.

use super::codes::{EventType, KeeperCode, XID_NOTIFICATION, op};
use super::jute::JuteWriter;
use super::request::write_multi_header;
use super::sessions::PASSWORD_BYTES;
use super::tree::Outcome;

/// A reply: the body goes out only without an error.
pub fn reply(xid: i32, zxid: i64, code: i32, body: impl FnOnce(&mut JuteWriter)) -> Vec<u8> {
    framed(|to| {
        to.i32(xid).i64(zxid).i32(code);
        if code == KeeperCode::Ok.code() {
            body(to);
        }
    })
}

pub fn no_body(_: &mut JuteWriter) {}

/// A watch event; its header carries no zxid, as up to 3.8.
pub fn notification(event: EventType, path: &str) -> Vec<u8> {
    const SYNC_CONNECTED: i32 = 3;
    reply(XID_NOTIFICATION, -1, 0, |to| {
        to.i32(event as i32).i32(SYNC_CONNECTED).string(path);
    })
}

/// Answer to the handshake; all zeros tell the client that its session is gone.
pub fn connected(timeout_ms: i32, session: i64, password: &[u8; PASSWORD_BYTES], read_only_byte: bool) -> Vec<u8> {
    framed(|to| {
        to.i32(0).i32(timeout_ms).i64(session).buffer(Some(password));
        if read_only_byte {
            to.bool(false);
        }
    })
}

/// The body that a write's outcome gives.
pub fn write_outcome(outcome: &Outcome, to: &mut JuteWriter) {
    match outcome {
        Outcome::Created { op: kind, path, stat } => {
            to.string(path);
            if *kind != op::CREATE {
                stat.write(to);
            }
        }
        Outcome::Stat { stat, .. } => stat.write(to),
        Outcome::Done { .. } => {}
        Outcome::Error(code) => {
            to.i32(*code);
        }
        Outcome::Multi(items) => write_multi(items, to),
    }
}

fn write_multi(items: &[Outcome], to: &mut JuteWriter) {
    for item in items {
        let (kind, code) = match item {
            Outcome::Created { op: op::CREATE, .. } => (op::CREATE, 0),
            Outcome::Created { .. } => (op::CREATE2, 0),
            Outcome::Stat { op, .. } | Outcome::Done { op } => (*op, 0),
            Outcome::Multi(_) => (op::MULTI, 0),
            Outcome::Error(code) => (op::ERROR, *code),
        };
        write_multi_header(to, kind, false, code);
        write_outcome(item, to);
    }
    end_multi(to);
}

pub fn end_multi(to: &mut JuteWriter) {
    write_multi_header(to, -1, true, -1);
}

fn framed(write: impl FnOnce(&mut JuteWriter)) -> Vec<u8> {
    let mut to = JuteWriter::new();
    to.i32(0);
    write(&mut to);
    let mut bytes = to.into_bytes();
    let body_len = u32::try_from(bytes.len() - 4).unwrap_or(u32::MAX);
    if let Some(prefix) = bytes.first_chunk_mut::<4>() {
        *prefix = body_len.to_be_bytes();
    }
    bytes
}
