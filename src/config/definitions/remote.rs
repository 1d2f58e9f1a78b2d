//! Properties of tiered storage, which a broker without `remote.log.storage.system.enable` does not look at.

use super::Property;
use super::table::*;

pub(super) static REMOTE: &[Property] = properties! {
    "log.local.retention.bytes" Long = "-2", AtLeast(-2), Medium, ClusterWide, Moot;
        "Bytes of a tiered partition that stay on local disks."
    "log.local.retention.ms" Long = "-2", AtLeast(-2), Medium, ClusterWide, Moot;
        "Time that records of a tiered partition stay on local disks."
    "remote.fetch.max.wait.ms" Int = "500", AtLeast(1), Medium, ClusterWide, Moot;
        "Longest wait for a read from remote storage."
    "remote.log.index.file.cache.total.size.bytes" Long = "1073741824", AtLeast(1), Low, ClusterWide, Moot;
        "Local cache of remote index files."
    "remote.log.manager.copier.thread.pool.size" Int = "-1", PositiveOr(-1), Medium, ReadOnly, Moot;
        "Threads that copy segments to remote storage."
    "remote.log.manager.copy.max.bytes.per.second" Long = "9223372036854775807", AtLeast(1), Medium, ClusterWide, Moot;
        "Most bytes per second copied to remote storage."
    "remote.log.manager.copy.quota.window.num" Int = "11", AtLeast(1), Medium, ReadOnly, Moot;
        "Samples kept for the copy quota."
    "remote.log.manager.copy.quota.window.size.seconds" Int = "1", AtLeast(1), Medium, ReadOnly, Moot;
        "Length of a sample for the copy quota."
    "remote.log.manager.expiration.thread.pool.size" Int = "-1", PositiveOr(-1), Medium, ReadOnly, Moot;
        "Threads that delete expired remote segments."
    "remote.log.manager.fetch.max.bytes.per.second" Long = "9223372036854775807", AtLeast(1), Medium, ClusterWide, Moot;
        "Most bytes per second read from remote storage."
    "remote.log.manager.fetch.quota.window.num" Int = "11", AtLeast(1), Medium, ReadOnly, Moot;
        "Samples kept for the fetch quota."
    "remote.log.manager.fetch.quota.window.size.seconds" Int = "1", AtLeast(1), Medium, ReadOnly, Moot;
        "Length of a sample for the fetch quota."
    "remote.log.manager.task.interval.ms" Long = "30000", AtLeast(1), Low, ReadOnly, Moot;
        "How often remote log tasks run."
    "remote.log.manager.thread.pool.size" Int = "10", AtLeast(1), Medium, ReadOnly, Moot;
        "Threads of remote log tasks."
    "remote.log.metadata.custom.metadata.max.bytes" Int = "128", AtLeast(0), Low, ReadOnly, Moot;
        "Largest custom metadata of a remote segment."
    "remote.log.metadata.manager.class.name" Text = "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager",
        NonEmpty, Medium, ReadOnly, Moot;
        "Java class that keeps metadata of remote segments."
    "remote.log.metadata.manager.class.path" Text = null, Any, Medium, ReadOnly, Moot;
        "Class path of that class."
    "remote.log.metadata.manager.impl.prefix" Text = "rlmm.config.", NonEmpty, Medium, ReadOnly, Moot;
        "Prefix of the properties handed to that class."
    "remote.log.metadata.manager.listener.name" Text = null, NonEmpty, Medium, ReadOnly, Moot;
        "Listener that class connects to."
    "remote.log.reader.max.pending.tasks" Int = "100", AtLeast(1), Medium, ReadOnly, Moot;
        "Remote reads that may wait."
    "remote.log.reader.threads" Int = "10", AtLeast(1), Medium, ReadOnly, Moot;
        "Threads that read from remote storage."
    "remote.log.storage.manager.class.name" Text = null, NonEmpty, Medium, ReadOnly, Moot;
        "Java class that stores remote segments."
    "remote.log.storage.manager.class.path" Text = null, Any, Medium, ReadOnly, Moot;
        "Class path of the storage class."
    "remote.log.storage.manager.impl.prefix" Text = "rsm.config.", NonEmpty, Medium, ReadOnly, Moot;
        "Prefix of the properties handed to the storage class."
    "remote.log.storage.system.enable" Boolean = "false", Any, Medium, ReadOnly, Unsafe;
        "Tiered storage: old segments move to remote storage."
};
