//! The same for the port of the ZooKeeper inside: frames that no honest client of it sends.

use crate::frames::Hostile;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const EXISTS: i32 = 3;
const OPERATIONS: &[i32] = &[
    -11,
    -10,
    -1,
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    11,
    12,
    13,
    14,
    15,
    16,
    17,
    18,
    19,
    20,
    21,
    22,
    23,
    99,
    100,
    101,
    102,
    103,
    104,
    105,
    106,
    107,
    1000,
    i32::MAX,
    i32::MIN,
];

fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as i32).to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

fn connect(timeout_ms: i32, session: i64, password: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 4 + 8];
    body.extend(timeout_ms.to_be_bytes());
    body.extend(session.to_be_bytes());
    body.extend((password.len() as i32).to_be_bytes());
    body.extend_from_slice(password);
    body.push(0);
    framed(&body)
}

fn request(operation: i32, body: &[u8]) -> Vec<u8> {
    let mut whole = 1i32.to_be_bytes().to_vec();
    whole.extend(operation.to_be_bytes());
    whole.extend_from_slice(body);
    framed(&whole)
}

/// What to send on connections of their own.
pub fn all() -> Vec<Hostile> {
    let mut random = StdRng::seed_from_u64(3);
    let mut all = Vec::new();
    let mut add = |name: String, bytes: Vec<u8>| all.push(Hostile { name, bytes });
    for length in [0, -1, i32::MIN, i32::MAX, 1 << 20, 100 << 20, 1, 43] {
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend([0xff; 60]);
        add(format!("ZooKeeper: length {length}"), bytes);
    }
    for (timeout_ms, session, password) in
        [(-1, 0, &[0; 16][..]), (i32::MAX, 0, &[]), (30_000, 77, &[1; 16]), (30_000, -1, &[7; 300])]
    {
        add(format!("ZooKeeper: session {session} for {timeout_ms} ms"), connect(timeout_ms, session, password));
    }
    for password_length in [i32::MAX, -2, i32::MIN, 1000] {
        let mut bytes = connect(30_000, 0, &[0; 16]);
        bytes[4 + 24..4 + 28].copy_from_slice(&password_length.to_be_bytes());
        add(format!("ZooKeeper: password of {password_length} bytes"), bytes);
    }
    for operation in OPERATIONS {
        for awkward in
            [&[][..], &[0x7f, 0xff, 0xff, 0xff], &[0xff; 40], &[0; 40], &[0, 0, 0, 1, b'/', 0x7f, 0xff, 0xff, 0xff]]
        {
            let mut bytes = connect(30_000, 0, &[0; 16]);
            bytes.extend(request(*operation, awkward));
            add(format!("ZooKeeper: operation {operation} with {awkward:?}"), bytes);
        }
        for _ in 0..3 {
            let noise: Vec<u8> = (0..random.random_range(1..100)).map(|_| random.random()).collect();
            let mut bytes = connect(30_000, 0, &[0; 16]);
            bytes.extend(request(*operation, &noise));
            add(format!("ZooKeeper: operation {operation} with noise"), bytes);
        }
    }
    for path in ["", "a", "//", "/a/", "/../etc", "/a//b", "/\0", "/\u{fffe}"] {
        let mut body = (path.len() as i32).to_be_bytes().to_vec();
        body.extend_from_slice(path.as_bytes());
        // No data, one ACL: all, world, anyone; persistent.
        body.extend([0xff; 4]);
        body.extend(b"\0\0\0\x01\0\0\0\x1f\0\0\0\x05world\0\0\0\x06anyone\0\0\0\0");
        let mut bytes = connect(30_000, 0, &[0; 16]);
        bytes.extend(request(1, &body));
        add(format!("ZooKeeper: create {path:?}"), bytes);
    }
    all
}

/// An honest session of the ZooKeeper inside.
pub struct Session(TcpStream);

impl Session {
    pub fn open(port: u16) -> io::Result<Session> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(&connect(30_000, 0, &[0; 16]))?;
        let mut session = Session(stream);
        session.read()?;
        Ok(session)
    }

    /// Whether a znode is there, as the error of `exists` says.
    pub fn exists(&mut self, path: &str) -> io::Result<bool> {
        let mut body = (path.len() as i32).to_be_bytes().to_vec();
        body.extend_from_slice(path.as_bytes());
        body.push(0);
        self.0.write_all(&request(EXISTS, &body))?;
        let reply = self.read()?;
        let error = reply.get(12..16).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
        match error {
            Some(0) => Ok(true),
            Some(-101) => Ok(false),
            other => Err(io::Error::other(format!("exists {path}: {other:?}"))),
        }
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).map_err(io::Error::other)?];
        self.0.read_exact(&mut frame)?;
        Ok(frame)
    }
}
