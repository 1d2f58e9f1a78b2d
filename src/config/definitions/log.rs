//! Properties of logs: the `log.*` family and what belongs to it.

use super::Property;
use super::table::*;

pub(super) static LOG: &[Property] = properties! {
    "log.cleaner.backoff.ms" Long = "15000", AtLeast(0), Medium, ClusterWide, Acts;
        "Pause of the cleaner when no log needs it."
    "log.cleaner.dedupe.buffer.size" Long = "134217728", Any, Medium, ClusterWide, Acts;
        "Memory of all cleaner threads for key maps."
    "log.cleaner.delete.retention.ms" Long = "86400000", AtLeast(0), Medium, ClusterWide, Acts;
        "How long a tombstone of a compacted topic stays readable."
    "log.cleaner.enable" Boolean = "true", Any, Medium, ReadOnly, Acts;
        "Compacted topics are cleaned."
    "log.cleaner.io.buffer.load.factor" Double = "0.9", Any, Medium, ClusterWide, Acts;
        "How full a cleaner's key map may become."
    "log.cleaner.io.buffer.size" Int = "524288", AtLeast(0), Medium, ClusterWide, Acts;
        "Memory of all cleaner threads for reading and writing."
    "log.cleaner.io.max.bytes.per.second" Double = "1.7976931348623157E308", Any, Medium, ClusterWide, Acts;
        "Most bytes per second that the cleaner reads and writes."
    "log.cleaner.max.compaction.lag.ms" Long = "9223372036854775807", AtLeast(1), Medium, ClusterWide, Acts;
        "A record is compacted at the latest after this time."
    "log.cleaner.min.cleanable.ratio" Double = "0.5", Ratio(0.0, 1.0), Medium, ClusterWide, Acts;
        "Share of dirty bytes from which a log is cleaned."
    "log.cleaner.min.compaction.lag.ms" Long = "0", AtLeast(0), Medium, ClusterWide, Acts;
        "A record is not compacted before this time."
    "log.cleaner.threads" Int = "1", AtLeast(0), Medium, ClusterWide, Moot;
        "Threads that clean logs: one does here."
    "log.cleanup.policy" List = "delete", ListOf(&["compact", "delete"]), Medium, ClusterWide, Acts;
        "What happens to old segments: delete, compact or both."
    "log.dir" Text = "/tmp/kafka-logs", Any, High, ReadOnly, Acts;
        "Directory of the logs when log.dirs is absent."
    "log.dir.failure.timeout.ms" Long = "30000", AtLeast(1), Low, ReadOnly, Moot;
        "How long a KRaft broker may fail to report a broken directory."
    "log.dirs" Text = null, Any, High, ReadOnly, Acts;
        "Directories of the logs, separated by commas."
    "log.flush.interval.messages" Long = "9223372036854775807", AtLeast(1), High, ClusterWide, Acts;
        "Records after which a log is flushed to disk."
    "log.flush.interval.ms" Long = null, Any, High, ClusterWide, Acts;
        "Time after which a log is flushed to disk; log.flush.scheduler.interval.ms when absent."
    "log.flush.offset.checkpoint.interval.ms" Int = "60000", AtLeast(0), High, ReadOnly, Acts;
        "How often the recovery points are written."
    "log.flush.scheduler.interval.ms" Long = "9223372036854775807", Any, High, ReadOnly, Acts;
        "How often the flusher looks for logs to flush."
    "log.flush.start.offset.checkpoint.interval.ms" Int = "60000", AtLeast(0), High, ReadOnly, Acts;
        "How often the start offsets of logs are written."
    "log.index.interval.bytes" Int = "4096", AtLeast(0), Medium, ClusterWide, Acts;
        "Bytes between two entries of an offset index."
    "log.index.size.max.bytes" Int = "10485760", AtLeast(4), Medium, ClusterWide, Acts;
        "Largest index file."
    "log.message.downconversion.enable" Boolean = "true", Any, Low, ClusterWide, Acts;
        "Old clients get their message format; without it they get an error."
    "log.message.format.version" Text = "3.0-IV1", Version, Medium, ReadOnly, Moot;
        "Message format on disk; without effect since protocol version 3.0."
    "log.message.timestamp.after.max.ms" Long = "9223372036854775807", AtLeast(0), Medium, ClusterWide, Acts;
        "How far a record's timestamp may be ahead of the broker's clock."
    "log.message.timestamp.before.max.ms" Long = "9223372036854775807", AtLeast(0), Medium, ClusterWide, Acts;
        "How far a record's timestamp may be behind the broker's clock."
    "log.message.timestamp.difference.max.ms" Long = "9223372036854775807", AtLeast(0), Medium, ClusterWide, Acts;
        "Older name for both limits of timestamps."
    "log.message.timestamp.type" Text = "CreateTime",
        OneOf(&["CreateTime", "LogAppendTime"]), Medium, ClusterWide, Acts;
        "Records keep the producer's time (CreateTime) or get the broker's (LogAppendTime)."
    "log.preallocate" Boolean = "false", Any, Medium, ClusterWide, Acts;
        "Segment files get their full size when they are created."
    "log.retention.bytes" Long = "-1", Any, High, ClusterWide, Acts;
        "Largest size of a partition before old segments are deleted; -1 sets no limit."
    "log.retention.check.interval.ms" Long = "300000", AtLeast(1), Medium, ReadOnly, Acts;
        "How often the broker looks for segments to delete."
    "log.retention.hours" Int = "168", Any, High, ReadOnly, Acts;
        "Hours a record is kept; the coarsest of the three, used last."
    "log.retention.minutes" Int = null, Any, High, ReadOnly, Acts;
        "Minutes a record is kept; wins over log.retention.hours."
    "log.retention.ms" Long = null, Any, High, ClusterWide, Acts;
        "Milliseconds a record is kept; wins over minutes and hours. -1 keeps for ever."
    "log.roll.hours" Int = "168", AtLeast(1), High, ReadOnly, Acts;
        "Hours after which a new segment is begun, when log.roll.ms is absent."
    "log.roll.jitter.hours" Int = "0", AtLeast(0), High, ReadOnly, Acts;
        "Hours that are taken off the roll time at random, when log.roll.jitter.ms is absent."
    "log.roll.jitter.ms" Long = null, Any, High, ClusterWide, Acts;
        "Milliseconds that are taken off the roll time at random."
    "log.roll.ms" Long = null, Any, High, ClusterWide, Acts;
        "Milliseconds after which a new segment is begun."
    "log.segment.bytes" Int = "1073741824", AtLeast(14), High, ClusterWide, Acts;
        "Size at which a new segment is begun."
    "log.segment.delete.delay.ms" Long = "60000", AtLeast(0), High, ClusterWide, Acts;
        "How long a deleted segment's files stay on disk."
    "min.insync.replicas" Int = "1", AtLeast(1), High, ClusterWide, Acts;
        "In-sync replicas that a write with acks=all needs."
    "num.recovery.threads.per.data.dir" Int = "1", AtLeast(1), High, ClusterWide, Acts;
        "Threads per directory that load and recover logs at start."
    "unclean.leader.election.enable" Boolean = "false", Any, High, ClusterWide, Acts;
        "A replica outside the ISR may become leader, at the price of lost records."
    "delete.records.purgatory.purge.interval.requests" Int = "1", Any, Medium, ReadOnly, Moot;
        "Clean-up interval of waiting DeleteRecords requests."
    "fetch.purgatory.purge.interval.requests" Int = "1000", Any, Medium, ReadOnly, Moot;
        "Clean-up interval of waiting fetch requests."
    "producer.purgatory.purge.interval.requests" Int = "1000", Any, Medium, ReadOnly, Moot;
        "Clean-up interval of waiting produce requests."
};
