//! The one thing the coordinator reads of a consumer's metadata: the topics that it subscribed to (class `ConsumerProtocol`).
//!
//! Version 0 is a prefix of all versions: i16 version, array of topic strings. Whatever follows is the assignor's business.

use crate::wire::coordinator_record::FieldReader;
use std::collections::BTreeSet;
use std::sync::Arc;

/// `protocol_type` of consumers.
pub const PROTOCOL_TYPE: &str = "consumer";

/// Topics of a subscription; `None` if the bytes are no consumer subscription.
pub fn subscribed_topics(metadata: &[u8]) -> Option<BTreeSet<Arc<str>>> {
    const TOPIC_BYTES_MIN: usize = 2;
    let mut reader = FieldReader::new(metadata);
    if reader.i16("version").ok()? < 0 {
        return None;
    }
    let count = reader.count("topics", TOPIC_BYTES_MIN).ok()?;
    (0..count).map(|_| reader.string("topic").ok().map(Arc::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_and_nonsense_is_none() {
        let cases: &[(&[u8], Option<&[&str]>)] = &[
            (&[0, 0, 0, 0, 0, 1, 0, 1, b'a'], Some(&["a"])),
            (&[0, 3, 0, 0, 0, 2, 0, 1, b'b', 0, 1, b'a', 0, 0, 0, 0, 9, 9], Some(&["a", "b"])),
            (&[0, 0, 0, 0, 0, 0], Some(&[])),
            (&[0xff, 0xff, 0, 0, 0, 0], None),
            (&[0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 1, b'a'], None),
            (&[0, 0, 0, 0, 0, 1, 0, 5, b'a'], None),
            (b"range", None),
            (&[], None),
        ];
        for (bytes, expected) in cases {
            let expected = expected.map(|topics| topics.iter().map(|topic| Arc::from(*topic)).collect());
            assert_eq!(subscribed_topics(bytes), expected, "{bytes:?}");
        }
    }
}
