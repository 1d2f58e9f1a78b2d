//! Properties of a topic, each with the broker properties that give its default, the one that wins first.

use super::Property;
use super::table::*;

pub(super) static TOPIC: &[Property] = topic_properties! {
    "cleanup.policy" List = "delete", ListOf(&["compact", "delete"]), Medium, Acts, ["log.cleanup.policy"];
        "What happens to old segments: delete, compact or both."
    "compression.gzip.level" Int = "-1", GzipLevel, Medium, Acts, ["compression.gzip.level"];
        "Level when the broker compresses with gzip; -1 is the codec's default."
    "compression.lz4.level" Int = "9", Between(1, 17), Medium, Acts, ["compression.lz4.level"];
        "Level when the broker compresses with lz4."
    "compression.type" Text = "producer",
        OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), Medium, Acts, ["compression.type"];
        "Codec that batches are stored with; producer keeps what was sent."
    "compression.zstd.level" Int = "3", Between(-131072, 22), Medium, Acts, ["compression.zstd.level"];
        "Level when the broker compresses with zstd."
    "delete.retention.ms" Long = "86400000", AtLeast(0), Medium, Acts, ["log.cleaner.delete.retention.ms"];
        "How long a tombstone of a compacted topic stays readable."
    "file.delete.delay.ms" Long = "60000", AtLeast(0), Medium, Acts, ["log.segment.delete.delay.ms"];
        "How long a deleted segment's files stay on disk."
    "flush.messages" Long = "9223372036854775807", AtLeast(1), Medium, Acts, ["log.flush.interval.messages"];
        "Records after which the log is flushed to disk."
    "flush.ms" Long = "9223372036854775807",
        AtLeast(0), Medium, Acts, ["log.flush.interval.ms", "log.flush.scheduler.interval.ms"];
        "Time after which the log is flushed to disk."
    "follower.replication.throttled.replicas" List = "", Replicas, Medium, Acts, [];
        "Replicas whose replication is throttled on the follower's side, as partition:broker,... or *."
    "index.interval.bytes" Int = "4096", AtLeast(0), Medium, Acts, ["log.index.interval.bytes"];
        "Bytes between two entries of an offset index."
    "leader.replication.throttled.replicas" List = "", Replicas, Medium, Acts, [];
        "Replicas whose replication is throttled on the leader's side, as partition:broker,... or *."
    "local.retention.bytes" Long = "-2", AtLeast(-2), Medium, Moot, ["log.local.retention.bytes"];
        "Bytes of a tiered partition that stay on local disks; -2 is retention.bytes."
    "local.retention.ms" Long = "-2", AtLeast(-2), Medium, Moot, ["log.local.retention.ms"];
        "Time that records of a tiered partition stay on local disks; -2 is retention.ms."
    "max.compaction.lag.ms" Long = "9223372036854775807",
        AtLeast(1), Medium, Acts, ["log.cleaner.max.compaction.lag.ms"];
        "A record is compacted at the latest after this time."
    "max.message.bytes" Int = "1048588", AtLeast(0), Medium, Acts, ["message.max.bytes"];
        "Largest batch that is accepted, after compression."
    "message.downconversion.enable" Boolean = "true", Any, Low, Acts, ["log.message.downconversion.enable"];
        "Old clients get their message format; without it they get an error."
    "message.format.version" Text = "3.0-IV1", Version, Medium, Moot, ["log.message.format.version"];
        "Message format on disk; without effect since protocol version 3.0."
    "message.timestamp.after.max.ms" Long = "9223372036854775807",
        AtLeast(0), Medium, Acts, ["log.message.timestamp.after.max.ms"];
        "How far a record's timestamp may be ahead of the broker's clock."
    "message.timestamp.before.max.ms" Long = "9223372036854775807",
        AtLeast(0), Medium, Acts, ["log.message.timestamp.before.max.ms"];
        "How far a record's timestamp may be behind the broker's clock."
    "message.timestamp.difference.max.ms" Long = "9223372036854775807",
        AtLeast(0), Medium, Acts, ["log.message.timestamp.difference.max.ms"];
        "Older name for both limits of timestamps."
    "message.timestamp.type" Text = "CreateTime",
        OneOf(&["CreateTime", "LogAppendTime"]), Medium, Acts, ["log.message.timestamp.type"];
        "Records keep the producer's time (CreateTime) or get the broker's (LogAppendTime)."
    "min.cleanable.dirty.ratio" Double = "0.5", Ratio(0.0, 1.0), Medium, Acts, ["log.cleaner.min.cleanable.ratio"];
        "Share of dirty bytes from which the log is cleaned."
    "min.compaction.lag.ms" Long = "0", AtLeast(0), Medium, Acts, ["log.cleaner.min.compaction.lag.ms"];
        "A record is not compacted before this time."
    "min.insync.replicas" Int = "1", AtLeast(1), Medium, Acts, ["min.insync.replicas"];
        "In-sync replicas that a write with acks=all needs."
    "preallocate" Boolean = "false", Any, Medium, Acts, ["log.preallocate"];
        "Segment files get their full size when they are created."
    "remote.log.copy.disable" Boolean = "false", Any, Medium, Moot, [];
        "No more segments of a tiered topic are copied."
    "remote.log.delete.on.disable" Boolean = "false", Any, Medium, Moot, [];
        "Remote segments are deleted when tiered storage is turned off."
    "remote.storage.enable" Boolean = "false", Any, Medium, Unsafe, [];
        "Old segments of the topic move to remote storage."
    "retention.bytes" Long = "-1", Any, Medium, Acts, ["log.retention.bytes"];
        "Largest size of a partition before old segments are deleted; -1 sets no limit."
    "retention.ms" Long = "604800000",
        AtLeast(-1), Medium, Acts, ["log.retention.ms", "log.retention.minutes", "log.retention.hours"];
        "How long a record is kept; -1 keeps for ever."
    "segment.bytes" Int = "1073741824", AtLeast(14), Medium, Acts, ["log.segment.bytes"];
        "Size at which a new segment is begun."
    "segment.index.bytes" Int = "10485760", AtLeast(4), Medium, Acts, ["log.index.size.max.bytes"];
        "Largest index file."
    "segment.jitter.ms" Long = "0", AtLeast(0), Medium, Acts, ["log.roll.jitter.ms", "log.roll.jitter.hours"];
        "Milliseconds that are taken off segment.ms at random."
    "segment.ms" Long = "604800000", AtLeast(1), Medium, Acts, ["log.roll.ms", "log.roll.hours"];
        "Time after which a new segment is begun."
    "unclean.leader.election.enable" Boolean = "false", Any, Medium, Acts, ["unclean.leader.election.enable"];
        "A replica outside the ISR may become leader, at the price of lost records."
};
