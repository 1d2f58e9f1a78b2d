//! A raw client of ZooKeeper's protocol: frames as they are, nothing hidden, no retries.

// Each test program compiles this and uses the part that it needs.
#![allow(dead_code, unused_imports)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ottla::zookeeper::embedded::jute::{JuteReader, JuteWriter};

pub use frames::{body, handshake};

#[path = "zookeeper_frames.rs"]
mod frames;

pub struct Raw {
    stream: TcpStream,
    pub session: i64,
    pub password: Vec<u8>,
    pub last_zxid: i64,
}

impl Raw {
    /// A socket on which nothing has been said yet.
    pub fn socket(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        stream.set_nodelay(true).expect("no delay");
        stream
    }

    /// A new session.
    pub fn connect(address: SocketAddr, timeout_ms: i32) -> Self {
        Self::resume(address, timeout_ms, 0, &[0; 16], 0).expect("a session")
    }

    /// `None` if the server closes instead of answering, or answers that the session is gone.
    pub fn resume(address: SocketAddr, timeout_ms: i32, session: i64, password: &[u8], last_zxid: i64) -> Option<Self> {
        let mut stream = Self::socket(address);
        send(&mut stream, &handshake(timeout_ms, session, password, last_zxid));
        let answer = receive(&mut stream)?;
        let mut from = JuteReader::new(&answer);
        from.i32().expect("version");
        from.i32().expect("time-out");
        let session = from.i64().expect("session");
        let password = from.buffer().expect("password").unwrap_or_default().to_vec();
        (session != 0).then_some(Self { stream, session, password, last_zxid })
    }

    pub fn send(&mut self, xid: i32, op: i32, body: &[u8]) {
        let mut to = JuteWriter::new();
        to.i32(xid).i32(op).raw(body);
        send(&mut self.stream, to.as_slice());
    }

    /// The next frame, or `None` at the end of the connection.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let frame = receive(&mut self.stream)?;
        let zxid = frame.get(4..12).and_then(|bytes| bytes.try_into().ok()).map_or(0, i64::from_be_bytes);
        self.last_zxid = self.last_zxid.max(zxid);
        Some(frame)
    }

    /// Sends and reads up to the reply: it, and the notifications before it.
    pub fn call(&mut self, xid: i32, op: i32, body: &[u8]) -> (Vec<Vec<u8>>, Option<Vec<u8>>) {
        self.send(xid, op, body);
        let mut notifications = Vec::new();
        loop {
            match self.receive() {
                Some(frame) if xid_of(&frame) == -1 => notifications.push(frame),
                reply => return (notifications, reply),
            }
        }
    }

    /// The body of a call that must succeed.
    pub fn ask(&mut self, op: i32, body: &[u8]) -> Result<Vec<u8>, i32> {
        let (_, reply) = self.call(1, op, body);
        let reply = reply.expect("a reply");
        match err_of(&reply) {
            0 => Ok(reply[16..].to_vec()),
            err => Err(err),
        }
    }
}

pub fn xid_of(frame: &[u8]) -> i32 {
    i32::from_be_bytes(frame[..4].try_into().expect("a reply header"))
}

pub fn err_of(frame: &[u8]) -> i32 {
    i32::from_be_bytes(frame[12..16].try_into().expect("a reply header"))
}

pub fn send(stream: &mut TcpStream, frame: &[u8]) {
    let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(frame);
    // A server that has closed already shows it by the end of what can be read.
    let _ = stream.write_all(&bytes);
}

pub fn receive(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut len = [0; 4];
    match stream.read_exact(&mut len) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
            panic!("no answer from the server")
        }
        Err(_) => return None,
    }
    let mut frame = vec![0; u32::from_be_bytes(len) as usize];
    stream.read_exact(&mut frame).ok()?;
    Some(frame)
}

/// The answer to a four-letter word; `None` if nobody listens.
pub fn four_letters(address: SocketAddr, word: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    stream.write_all(word.as_bytes()).ok()?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}
