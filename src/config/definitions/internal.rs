//! Properties that Kafka keeps internal: settable, not described to clients.

use super::Property;
use super::table::*;

pub(super) static INTERNAL: &[Property] = properties! {
    "group.consumer.migration.policy" Text = "disabled",
        AnyCaseOf(&["DISABLED", "DOWNGRADE", "UPGRADE", "BIDIRECTIONAL"]), Medium, ReadOnly, Moot;
        "Conversion between classic and new consumer groups."
    "group.coordinator.new.enable" Boolean = "false", Any, Medium, ReadOnly, Moot;
        "Uses the new group coordinator, which needs KRaft."
    "group.share.enable" Boolean = "false", Any, Medium, ReadOnly, Moot;
        "Share groups, which need KRaft."
    "log.initial.task.delay.ms" Long = "30000", AtLeast(0), Low, ReadOnly, Ignored;
        "Delay of the first run of the log manager's tasks."
    "metadata.log.segment.min.bytes" Int = "8388608", AtLeast(12), High, ReadOnly, Moot;
        "Smallest segment size of the KRaft metadata log."
    "producer.id.expiration.check.interval.ms" Int = "600000", AtLeast(1), Low, ReadOnly, Acts;
        "How often expired producer ids are looked for."
    "remote.log.manager.task.retry.backoff.max.ms" Long = "30000", AtLeast(1), Low, ReadOnly, Moot;
        "Longest pause of a failed remote log task."
    "remote.log.manager.task.retry.backoff.ms" Long = "500", AtLeast(1), Low, ReadOnly, Moot;
        "First pause of a failed remote log task."
    "remote.log.manager.task.retry.jitter" Double = "0.2", Ratio(0.0, 0.5), Low, ReadOnly, Moot;
        "Random share of the pause of a failed remote log task."
    "server.max.startup.time.ms" Long = "9223372036854775807", AtLeast(0), Medium, ReadOnly, Moot;
        "Longest start of a KRaft server."
    "unclean.leader.election.interval.ms" Long = "300000", AtLeast(1), Medium, ReadOnly, Moot;
        "How often a KRaft controller tries unclean elections."
    "unstable.api.versions.enable" Boolean = "false", Any, High, ReadOnly, Moot;
        "Offers versions of APIs that are not final."
    "unstable.feature.versions.enable" Boolean = "false", Any, High, ReadOnly, Moot;
        "Offers feature versions that are not final."
    "zookeeper.metadata.migration.min.batch.size" Int = "200", AtLeast(1), Medium, ReadOnly, Moot;
        "Batch size of the migration to KRaft."
};
