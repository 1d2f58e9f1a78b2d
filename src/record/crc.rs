//! The two checksums of record batches. The only file that names the crates which compute them.

use crc_fast::{CrcAlgorithm, Digest};

/// CRC-32C (Castagnoli): record batches of format 2, producer snapshots.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// CRC-32C of the two parts together.
pub fn crc32c_of_parts(first: &[u8], second: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(first);
    digest.update(second);
    digest.finalize() as u32
}

/// CRC-32 (IEEE): message formats 0 and 1.
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_check_values() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        for cut in 0..9 {
            let (first, second) = b"123456789".split_at(cut);
            assert_eq!(crc32c_of_parts(first, second), 0xE306_9283);
        }
    }
}
