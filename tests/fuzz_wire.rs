//! Random and mutated frames against everything that reads them: no panic, and what is accepted says the same thing twice.
//!
//! `OTTLA_FUZZ_ITERATIONS` sets how many a decoder gets, `OTTLA_FUZZ_SEED` where they begin; a failure names its own seed.

mod vectors;

use bytes::{BufMut, Bytes, BytesMut};
use ottla::wire::fetch::FetchRequest;
use ottla::wire::frame::Connection;
use ottla::wire::produce::ProduceRequest;
use ottla::wire::schema::Direction;
use ottla::wire::{Request, header};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use vectors::Vector;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

fn fuzz(mut one: impl FnMut(&mut StdRng)) {
    let first = setting("OTTLA_FUZZ_SEED", 0);
    for seed in first..first + setting("OTTLA_FUZZ_ITERATIONS", 20_000) {
        let named = NameSeed(seed);
        one(&mut StdRng::seed_from_u64(seed));
        std::mem::forget(named);
    }
}

/// Says which seed it was when a panic passes by.
struct NameSeed(u64);

impl Drop for NameSeed {
    fn drop(&mut self) {
        eprintln!("OTTLA_FUZZ_SEED={} OTTLA_FUZZ_ITERATIONS=1 repeats it", self.0);
    }
}

fn random_bytes(random: &mut StdRng, most: usize) -> Vec<u8> {
    let length = random.random_range(0..=most);
    (0..length).map(|_| random.random()).collect()
}

/// Bytes that decoders stumble over, put over, into or instead of what is there.
fn mutate(random: &mut StdRng, bytes: &mut Vec<u8>) {
    const AWKWARD: &[&[u8]] =
        &[&[0xff], &[0], &[0x80], &[0x7f, 0xff, 0xff, 0xff], &[0xff; 4], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0x80; 6]];
    for _ in 0..random.random_range(1..=4) {
        let at = random.random_range(0..=bytes.len());
        let end = (at + random.random_range(0..=8)).min(bytes.len());
        match random.random_range(0..4) {
            0 => bytes.truncate(at),
            1 => drop(bytes.splice(at..end, random_bytes(random, 8))),
            2 => drop(bytes.splice(at..end, AWKWARD[random.random_range(0..AWKWARD.len())].iter().copied())),
            _ => drop(bytes.splice(at..at, AWKWARD[random.random_range(0..AWKWARD.len())].iter().copied())),
        }
    }
}

/// A body as it is accepted: decoding it, encoding it and decoding that again come to the same bytes.
fn check_body(vector: &Vector, body: Bytes) {
    let Ok(again) = vector.round_trip(body.clone()) else { return };
    let twice = vector.round_trip(again.clone()).unwrap_or_else(|error| panic!("{}: {error}: {body:?}", vector.name()));
    assert_eq!(again, twice, "{}: {body:?}", vector.name());
}

fn check_hot_codecs(vector: &Vector, body: &Bytes) {
    let (ours, key) = match (vector.api_key, vector.direction) {
        (0, Direction::Request) => (ProduceRequest::read(body, vector.version).is_ok(), "Produce"),
        (1, Direction::Request) => (FetchRequest::read(body, vector.version).is_ok(), "Fetch"),
        _ => return,
    };
    let theirs = vector.round_trip(body.clone()).is_ok();
    assert_eq!(ours, theirs, "{key} version {}: the two codecs disagree about {body:?}", vector.version);
}

#[test]
fn mutated_bodies() {
    let vectors = vectors::all();
    fuzz(|random| {
        let vector = &vectors[random.random_range(0..vectors.len())];
        let mut body = vector.body.to_vec();
        mutate(random, &mut body);
        check_body(vector, Bytes::from(body));
    });
}

#[test]
fn random_bodies() {
    let vectors = vectors::all();
    fuzz(|random| {
        let vector = &vectors[random.random_range(0..vectors.len())];
        check_body(vector, Bytes::from(random_bytes(random, 100)));
    });
}

#[test]
fn the_hot_codecs_refuse_what_the_generated_ones_refuse() {
    let vectors = vectors::all();
    let hot: Vec<&Vector> =
        vectors.iter().filter(|one| one.api_key <= 1 && one.direction == Direction::Request).collect();
    fuzz(|random| {
        let vector = hot[random.random_range(0..hot.len())];
        let mut body = vector.body.to_vec();
        mutate(random, &mut body);
        check_hot_codecs(vector, &Bytes::from(body));
    });
}

/// A whole frame without its length: header and body of a vector, mutated.
#[test]
fn mutated_frames() {
    let vectors = vectors::all();
    let connection = Arc::new(Connection {
        id: 0,
        listener: "PLAINTEXT".into(),
        client_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        principal: "User:ANONYMOUS".into(),
    });
    fuzz(|random| {
        let vector = &vectors[random.random_range(0..vectors.len())];
        let mut frame = BytesMut::new();
        frame.put_i16(vector.api_key);
        frame.put_i16(vector.version);
        frame.put_i32(random.random());
        frame.put_slice(b"\0\x04fuzz");
        frame.put_slice(&[0][..usize::from(vector.flexible)]);
        frame.put_slice(&vector.body);
        let mut frame = frame.to_vec();
        mutate(random, &mut frame);
        if let Ok(request) = header::parse(Bytes::from(frame), &connection, &mut None) {
            check_request(&vectors, &request);
        }
    });
}

/// Decodes a request as its own key and version say.
fn check_request(vectors: &[Vector], request: &Request) {
    let key_and_version = (request.header.api_key, request.header.version);
    let found =
        vectors.iter().find(|one| one.direction == Direction::Request && (one.api_key, one.version) == key_and_version);
    if let Some(vector) = found {
        check_body(vector, request.body.clone());
        check_hot_codecs(vector, &request.body);
    }
}
