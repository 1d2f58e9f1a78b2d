//! Variable-length integers of record format 2: zigzag, seven bits a byte, low bits first (class `ByteUtils`).
//!
//! Bits beyond the type's width in the last byte are dropped, as Kafka drops them.

/// Most bytes an `i32` takes.
pub const VARINT_MAX: usize = 5;
/// Most bytes an `i64` takes.
pub const VARLONG_MAX: usize = 10;

/// Reads an `i32` at `*at` and moves `*at` behind it. `None` if the bytes end first or it is longer than five bytes.
#[inline]
pub fn read_varint(bytes: &[u8], at: &mut usize) -> Option<i32> {
    let first = *bytes.get(*at)?;
    if first < 0x80 {
        *at += 1;
        return Some(unzigzag(u32::from(first)));
    }
    let mut value = u32::from(first & 0x7f);
    for step in 1..VARINT_MAX {
        let byte = *bytes.get(*at + step)?;
        value |= u32::from(byte & 0x7f) << (7 * step);
        if byte < 0x80 {
            *at += step + 1;
            return Some(unzigzag(value));
        }
    }
    None
}

/// Reads an `i64`; see [`read_varint`].
#[inline]
pub fn read_varlong(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut value = 0u64;
    for step in 0..VARLONG_MAX {
        let byte = *bytes.get(*at + step)?;
        value |= u64::from(byte & 0x7f) << (7 * step);
        if byte < 0x80 {
            *at += step + 1;
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

fn unzigzag(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

pub fn write_varint(out: &mut Vec<u8>, value: i32) {
    write_varlong(out, i64::from(value));
}

pub fn write_varlong(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Bytes that `write_varlong` (and, for the same value, `write_varint`) takes.
pub fn varlong_size(value: i64) -> usize {
    let bits = 64 - (((value << 1) ^ (value >> 63)) as u64 | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for shift in 0..64 {
            for value in
                [1i64 << shift, (1i64 << shift).wrapping_sub(1), -(1i64 << shift.min(62)), i64::MIN, i64::MAX, 0, -1]
            {
                let mut bytes = Vec::new();
                write_varlong(&mut bytes, value);
                assert_eq!(bytes.len(), varlong_size(value), "{value}");
                let mut at = 0;
                assert_eq!(read_varlong(&bytes, &mut at), Some(value));
                assert_eq!(at, bytes.len());
                for cut in 0..bytes.len() {
                    assert_eq!(read_varlong(&bytes[..cut], &mut 0), None);
                }
                if let Ok(small) = i32::try_from(value) {
                    let mut at = 0;
                    assert_eq!(read_varint(&bytes, &mut at), Some(small));
                    assert_eq!(at, bytes.len());
                }
            }
        }
    }

    #[test]
    fn overlong_numbers_are_refused() {
        assert_eq!(read_varint(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x01], &mut 0), None);
        assert_eq!(read_varlong(&[0xff; 12], &mut 0), None);
        assert_eq!(read_varint(&[0xff, 0xff, 0xff, 0xff, 0xff], &mut 0), None);
    }

    #[test]
    fn known_bytes() {
        for (bytes, value) in [
            (&[0u8][..], 0),
            (&[1], -1),
            (&[2], 1),
            (&[0x7e], 63),
            (&[0x80, 0x01], 64),
            (&[0xff, 0xff, 0xff, 0xff, 0x0f], i32::MIN),
        ] {
            assert_eq!(read_varint(bytes, &mut 0), Some(value));
        }
    }
}
