//! Adler-32, the checksum of ZooKeeper's files.

const MODULUS: u32 = 65_521;
/// So many bytes can be summed before 32 bits overflow.
const CHUNK: usize = 5552;

#[derive(Clone, Copy, Debug)]
pub struct Adler32 {
    a: u32,
    b: u32,
}

impl Adler32 {
    pub fn new() -> Self {
        Self { a: 1, b: 0 }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(CHUNK) {
            for byte in chunk {
                self.a += u32::from(*byte);
                self.b += self.a;
            }
            self.a %= MODULUS;
            self.b %= MODULUS;
        }
    }

    /// As the files hold it: in a long, the high half zero.
    pub fn value(self) -> i64 {
        i64::from(self.b << 16 | self.a)
    }

    pub fn of(bytes: &[u8]) -> i64 {
        let mut sum = Self::new();
        sum.update(bytes);
        sum.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums() {
        assert_eq!(Adler32::of(b""), 1);
        assert_eq!(Adler32::of(b"Wikipedia"), 0x11e6_0398);
        assert_eq!(Adler32::of(&vec![0xff; 100_000]), i64::from(naive(&vec![0xff; 100_000])));
    }

    fn naive(bytes: &[u8]) -> u32 {
        let (mut a, mut b) = (1u64, 0u64);
        for byte in bytes {
            a = (a + u64::from(*byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        (b << 16 | a) as u32
    }
}
