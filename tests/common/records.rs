//! Seeded random record batches for tests.

use ottla::record::{BatchBuilder, Compression, HEADER_SIZE};

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
