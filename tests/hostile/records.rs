//! Record batches that must not get into a log.

use bytes::Bytes;
use ottla::record::compression::Compressor;
use ottla::record::{BatchBuilder, Compression, HEADER_SIZE, crc};

const NOW_MS: i64 = 1_700_000_000_000;

/// A batch as any client sends it.
pub fn honest(records: usize, value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for _ in 0..records {
        builder.append(NOW_MS, None, Some(value), []);
    }
    builder.build().expect("a batch").to_bytes()
}

/// An honest batch with bytes put over it, and the checksum made right again unless the checksum is what is wrong.
fn patched(at: usize, bytes: &[u8], right_crc: bool) -> Bytes {
    let mut batch = honest(3, b"value").to_vec();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    if right_crc {
        seal(&mut batch);
    }
    Bytes::from(batch)
}

fn seal(batch: &mut [u8]) {
    let sum = crc::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&sum.to_be_bytes());
}

/// Name and bytes of each batch that is wrong in its header or its records.
pub fn wrong_batches() -> Vec<(&'static str, Bytes)> {
    let mut wrong = vec![
        ("crc", patched(17, &[1, 2, 3, 4], false)),
        ("flipped byte", patched(HEADER_SIZE + 9, b"V", false)),
        ("magic 3", patched(16, &[3], true)),
        ("magic -1", patched(16, &[0xff], true)),
        ("length 0", patched(8, &[0; 4], false)),
        ("length too small", patched(8, &10i32.to_be_bytes(), false)),
        ("length one too large", patched(8, &200i32.to_be_bytes(), false)),
        ("length huge", patched(8, &i32::MAX.to_be_bytes(), false)),
        ("length negative", patched(8, &(-1i32).to_be_bytes(), false)),
        ("codec 5", patched(21, &[0, 5], true)),
        ("codec 7", patched(21, &[0, 7], true)),
        ("codec gzip, not gzip", patched(21, &[0, 1], true)),
        ("codec snappy, not snappy", patched(21, &[0, 2], true)),
        ("codec lz4, not lz4", patched(21, &[0, 3], true)),
        ("codec zstd, not zstd", patched(21, &[0, 4], true)),
        ("control batch", patched(21, &[0, 0x20], true)),
        ("last offset delta 7", patched(23, &7i32.to_be_bytes(), true)),
        ("last offset delta -1", patched(23, &(-1i32).to_be_bytes(), true)),
        ("last offset delta max", patched(23, &i32::MAX.to_be_bytes(), true)),
        ("base offset", patched(0, &5i64.to_be_bytes(), true)),
    ];
    for (name, count, delta) in [
        ("count 0", 0, -1),
        ("count -1", -1, -2),
        ("count one too few", 2, 1),
        ("count one too many", 4, 3),
        ("count max", i32::MAX, i32::MAX - 1),
    ] {
        let mut batch = honest(3, b"value").to_vec();
        batch[57..61].copy_from_slice(&i32::to_be_bytes(count));
        batch[23..27].copy_from_slice(&i32::to_be_bytes(delta));
        seal(&mut batch);
        wrong.push((name, Bytes::from(batch)));
    }
    let record = HEADER_SIZE;
    for (name, at, bytes) in [
        ("record length max", record, &[0xfe, 0xff, 0xff, 0xff, 0x0f][..]),
        ("record length negative", record, &[0x01]),
        ("record length overlong", record, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("record length too small", record, &[0x04]),
        ("offset delta 50", record + 3, &[100]),
        ("offset delta -1", record + 3, &[0x01]),
        ("key length beyond the record", record + 4, &[0x7e]),
        ("key length -2", record + 4, &[0x03]),
        ("value length beyond the record", record + 5, &[0x7e]),
        ("value length -2", record + 5, &[0x03]),
        ("value length overlong", record + 5, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("header count 60", record + 11, &[120]),
        ("header count -1", record + 11, &[0x01]),
    ] {
        wrong.push((name, patched(at, bytes, true)));
    }
    wrong.push(("half a header", honest(1, b"v").slice(..30)));
    wrong.push(("garbage", Bytes::from_static(&[0xaa; 200])));
    wrong
}

/// One record whose value is zeros, compressed so that the batch is small.
pub fn bomb(codec: Compression, value_bytes: usize) -> Bytes {
    static CHUNK: [u8; 1 << 20] = [0; 1 << 20];
    let mut value_length = Vec::new();
    zigzag(&mut value_length, value_bytes as i64);
    // Attributes, timestamp delta, offset delta, null key.
    let mut record = vec![0, 0, 0, 1];
    record.extend(&value_length);
    let mut head = Vec::new();
    zigzag(&mut head, (record.len() + value_bytes + 1) as i64);
    head.extend(record);
    let mut compressor = Compressor::new(codec, None).expect("compressor");
    compressor.write(&head).expect("compressed");
    for _ in 0..value_bytes >> 20 {
        compressor.write(&CHUNK).expect("compressed");
    }
    compressor.write(&[0]).expect("compressed");
    let payload = compressor.finish().expect("compressed");
    let mut batch = honest(1, b"").slice(..HEADER_SIZE).to_vec();
    batch[22] = codec.id();
    batch.extend(payload);
    let length = (batch.len() - 12) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    seal(&mut batch);
    Bytes::from(batch)
}

fn zigzag(out: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
