//! Versions of the inter-broker protocol and the message format (class `MetadataVersion`).
//!
//! Brokers speak to each other at the versions that `inter.broker.protocol.version` gives, without asking what the other side
//! supports: an operator keeps it low until every broker of a rolling upgrade runs the new release.

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

/// The oldest that Ottla can speak to other brokers: since then leaders ask the controller for ISR changes.
pub const OLDEST_SUPPORTED: &str = "2.8-IV0";

/// `inter.broker.protocol.version`: which version of which request goes to other brokers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct InterBrokerProtocol {
    /// Index in [`ALL`].
    at: usize,
}

fn index(version: &str) -> usize {
    ALL.iter().position(|known| *known == version).unwrap_or(usize::MAX)
}

impl InterBrokerProtocol {
    /// What `text` means - a release is its last version - if it is one of [`OLDEST_SUPPORTED`] to [`LATEST`].
    pub fn parse(text: &str) -> Option<InterBrokerProtocol> {
        let is_meant = |version: &&str| *version == text || (!text.contains('-') && release(version) == release(text));
        let at = ALL.iter().rposition(is_meant)?;
        (index(OLDEST_SUPPORTED)..=index(LATEST)).contains(&at).then_some(InterBrokerProtocol { at })
    }

    fn ladder(self, steps: &[(&str, i16)], otherwise: i16) -> i16 {
        steps.iter().find(|(version, _)| self.at >= index(version)).map_or(otherwise, |(_, number)| *number)
    }

    pub fn leader_and_isr(self) -> i16 {
        self.ladder(&[("3.4-IV0", 7), ("3.2-IV0", 6), ("2.8-IV1", 5)], 4)
    }

    pub fn update_metadata(self) -> i16 {
        self.ladder(&[("3.4-IV0", 8), ("2.8-IV1", 7)], 6)
    }

    pub fn stop_replica(self) -> i16 {
        self.ladder(&[("3.4-IV0", 4)], 3)
    }

    pub fn fetch(self) -> i16 {
        self.ladder(&[("3.9-IV0", 17), ("3.7-IV4", 16), ("3.5-IV1", 15), ("3.5-IV0", 14), ("3.1-IV0", 13)], 12)
    }

    pub fn list_offsets(self) -> i16 {
        self.ladder(&[("3.9-IV0", 9), ("3.5-IV0", 8), ("3.0-IV1", 7)], 6)
    }

    pub fn offset_for_leader_epoch(self) -> i16 {
        4
    }

    pub fn write_txn_markers(self) -> i16 {
        1
    }

    /// Whether the controller hands out blocks of producer ids (KIP-730); before, each broker takes them from ZooKeeper itself.
    pub fn asks_controller_for_producer_ids(self) -> bool {
        self.at >= index("3.0-IV0")
    }

    /// Whether an unclean leader is written down as recovering (KIP-704).
    pub fn knows_leader_recovery(self) -> bool {
        self.at >= index("3.2-IV0")
    }
}

impl Default for InterBrokerProtocol {
    fn default() -> InterBrokerProtocol {
        InterBrokerProtocol { at: index(LATEST) }
    }
}

impl std::fmt::Display for InterBrokerProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(ALL.get(self.at).unwrap_or(&LATEST))
    }
}

#[cfg(test)]
mod tests {
    use super::{InterBrokerProtocol, is_known};

    /// As `MetadataVersion` of 3.9.2 says.
    #[test]
    fn requests_have_the_versions_of_the_protocol() {
        for (text, meant, versions) in [
            ("3.9", "3.9-IV0", [7, 8, 4, 17, 9]),
            ("3.9.2", "3.9-IV0", [7, 8, 4, 17, 9]),
            ("3.7", "3.7-IV4", [7, 8, 4, 16, 8]),
            ("3.7-IV3", "3.7-IV3", [7, 8, 4, 15, 8]),
            ("3.5-IV0", "3.5-IV0", [7, 8, 4, 14, 8]),
            ("3.4", "3.4-IV0", [7, 8, 4, 13, 7]),
            ("3.2", "3.2-IV0", [6, 7, 3, 13, 7]),
            ("3.1", "3.1-IV0", [5, 7, 3, 13, 7]),
            ("3.0-IV0", "3.0-IV0", [5, 7, 3, 12, 6]),
            ("2.8-IV0", "2.8-IV0", [4, 6, 3, 12, 6]),
        ] {
            let protocol = InterBrokerProtocol::parse(text).unwrap_or_else(|| panic!("{text}"));
            let found = [
                protocol.leader_and_isr(),
                protocol.update_metadata(),
                protocol.stop_replica(),
                protocol.fetch(),
                protocol.list_offsets(),
            ];
            assert_eq!((protocol.to_string().as_str(), found), (meant, versions), "{text}");
        }
        for text in ["2.7", "2.7-IV2", "0.10.2", "4.0", "4.0-IV1", "", "x"] {
            assert_eq!(InterBrokerProtocol::parse(text), None, "{text}");
        }
    }

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
