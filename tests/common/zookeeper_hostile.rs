//! What no client sends: hundreds of malformed frames at a ZooKeeper port.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use crate::raw::{Raw, handshake, send};

/// What the attack leaves open, and how much it sent.
pub struct Held {
    pub frames: usize,
    _half_open: Vec<TcpStream>,
    _sessions: Vec<Raw>,
}

/// Sends everything bad there is; a connection that the server closes is replaced by a new one.
pub fn attack(address: SocketAddr) -> Held {
    let mut random = Random(7);
    let mut held = Held { frames: 0, _half_open: Vec::new(), _sessions: Vec::new() };
    before_the_handshake(address, &mut random, &mut held);
    let mut bodies: Vec<(i32, Vec<u8>)> = Vec::new();
    for op in (-20..30).chain(98..112) {
        bodies.push((op, Vec::new()));
        // A length or a count of 2^31 - 1, of -2 and of one too many in front of little.
        for word in [i32::MAX, -2, 9] {
            bodies.push((op, [word.to_be_bytes().as_slice(), b"/a\0\0\0\0\0\0"].concat()));
            bodies.push((op, [b"\0\0\0\x02/a".as_slice(), &word.to_be_bytes(), &[0xff; 12]].concat()));
        }
        bodies.push((op, random.bytes(40)));
        bodies.push((op, random.bytes(400)));
    }
    let mut session = Raw::connect(address, 4000);
    for (op, body) in bodies {
        // Closing is no attack, and a create could succeed.
        if op == -11 {
            continue;
        }
        held.frames += 1;
        let (_, reply) = session.call(1, op, &body);
        if reply.is_none() || session.call(-2, 11, &[]).1.is_none() {
            session = Raw::connect(address, 4000);
        }
    }
    held._sessions.push(session);
    held
}

fn before_the_handshake(address: SocketAddr, random: &mut Random, held: &mut Held) {
    let good = handshake(4000, 0, &[0; 16], 0);
    let mut openings: Vec<Vec<u8>> = Vec::new();
    for length in [-1, i32::MIN, i32::MAX, 0, 1, 0x10_0000, 0x7fff_0000] {
        openings.push([&length.to_be_bytes(), good.as_slice()].concat());
    }
    for cut in 0..good.len() {
        openings.push([&(cut as u32).to_be_bytes(), &good[..cut]].concat());
    }
    for len in [1, 3, 4, 10, 100, 1000] {
        openings.push(random.bytes(len));
    }
    openings.push(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec());
    openings.push(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec());
    for opening in openings {
        held.frames += 1;
        let mut stream = Raw::socket(address);
        let _ = stream.write_all(&opening);
        held._half_open.push(stream);
    }
    // Whole handshakes, then half a large frame, held open.
    for _ in 0..20 {
        held.frames += 1;
        let mut stream = Raw::socket(address);
        send(&mut stream, &good);
        let _ = stream.write_all(&0xf_0000u32.to_be_bytes());
        let _ = stream.write_all(&[0x55; 64]);
        held._half_open.push(stream);
    }
}

struct Random(u64);

impl Random {
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut byte = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 56) as u8
        };
        (0..len).map(|_| byte()).collect()
    }
}
