//! Versions of the inter-broker protocol and the message format (`MetadataVersion`).

/// All that Apache Kafka 3.9.2 knows, oldest first.
pub const ALL: &[&str] = &[
    "0.8.0",
    "0.8.1",
    "0.8.2",
    "0.9.0",
    "0.10.0-IV0",
    "0.10.0-IV1",
    "0.10.1-IV0",
    "0.10.1-IV1",
    "0.10.1-IV2",
    "0.10.2-IV0",
    "0.11.0-IV0",
    "0.11.0-IV1",
    "0.11.0-IV2",
    "1.0-IV0",
    "1.1-IV0",
    "2.0-IV0",
    "2.0-IV1",
    "2.1-IV0",
    "2.1-IV1",
    "2.1-IV2",
    "2.2-IV0",
    "2.2-IV1",
    "2.3-IV0",
    "2.3-IV1",
    "2.4-IV0",
    "2.4-IV1",
    "2.5-IV0",
    "2.6-IV0",
    "2.7-IV0",
    "2.7-IV1",
    "2.7-IV2",
    "2.8-IV0",
    "2.8-IV1",
    "3.0-IV0",
    "3.0-IV1",
    "3.1-IV0",
    "3.2-IV0",
    "3.3-IV0",
    "3.3-IV1",
    "3.3-IV2",
    "3.3-IV3",
    "3.4-IV0",
    "3.5-IV0",
    "3.5-IV1",
    "3.5-IV2",
    "3.6-IV0",
    "3.6-IV1",
    "3.6-IV2",
    "3.7-IV0",
    "3.7-IV1",
    "3.7-IV2",
    "3.7-IV3",
    "3.7-IV4",
    "3.8-IV0",
    "3.9-IV0",
    "4.0-IV0",
    "4.0-IV1",
];

/// The newest of a 3.9 broker in ZooKeeper mode.
pub const LATEST: &str = "3.9-IV0";

/// The release of a version, as `3.9` or `0.10.2`: what is before `-IV`, without a patch number.
fn release(version: &str) -> String {
    let digits = version.split('-').next().unwrap_or(version);
    let parts = if version.starts_with("0.") { 3 } else { 2 };
    digits.split('.').take(parts).collect::<Vec<_>>().join(".")
}

/// Whether `text` is a version: one of [`ALL`], or a release of theirs with or without a patch number (`3.9`, `3.9.2`).
pub fn is_known(text: &str) -> bool {
    ALL.contains(&text) || (!text.contains('-') && ALL.iter().any(|version| release(version) == release(text)))
}

#[cfg(test)]
mod tests {
    use super::is_known;

    #[test]
    fn versions_and_releases_are_known() {
        for text in ["3.9-IV0", "3.9", "3.9.2", "0.10.2", "0.10.2.1", "0.8.0", "2.8-IV1"] {
            assert!(is_known(text), "{text}");
        }
        for text in ["", "3", "5.0", "3.9-IV7", "0.10.9", "x", "3.9-"] {
            assert!(!is_known(text), "{text}");
        }
    }
}
