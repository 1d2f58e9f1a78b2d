//! Frames of ZooKeeper's protocol as bytes.

use ottla::zookeeper::embedded::jute::JuteWriter;

/// The first frame of a connection.
pub fn handshake(timeout_ms: i32, session: i64, password: &[u8], last_zxid: i64) -> Vec<u8> {
    let mut to = JuteWriter::new();
    to.i32(0).i64(last_zxid).i32(timeout_ms).i64(session).buffer(Some(password)).bool(false);
    to.into_bytes()
}

/// A body from its fields.
pub fn body(write: impl FnOnce(&mut JuteWriter) -> &mut JuteWriter) -> Vec<u8> {
    let mut to = JuteWriter::new();
    write(&mut to);
    to.into_bytes()
}
