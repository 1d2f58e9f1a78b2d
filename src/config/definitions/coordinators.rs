//! Properties of the group and the transaction coordinator.

use super::Property;
use super::table::*;

pub(super) static COORDINATORS: &[Property] = properties! {
    "group.consumer.assignors" List = "org.apache.kafka.coordinator.group.assignor.UniformAssignor,org.apache.kafka.coordinator.group.assignor.RangeAssignor",
        Any, Medium, ReadOnly, Moot;
        "Server-side assignors of the new consumer groups, which need KRaft."
    "group.consumer.heartbeat.interval.ms" Int = "5000", AtLeast(1), Medium, ReadOnly, Moot;
        "Heartbeat interval of members of new consumer groups."
    "group.consumer.max.heartbeat.interval.ms" Int = "15000", AtLeast(1), Medium, ReadOnly, Moot;
        "Longest heartbeat interval of new consumer groups."
    "group.consumer.max.session.timeout.ms" Int = "60000", AtLeast(1), Medium, ReadOnly, Moot;
        "Longest session timeout of new consumer groups."
    "group.consumer.max.size" Int = "2147483647", AtLeast(1), Medium, ReadOnly, Moot;
        "Most members of a new consumer group."
    "group.consumer.min.heartbeat.interval.ms" Int = "5000", AtLeast(1), Medium, ReadOnly, Moot;
        "Shortest heartbeat interval of new consumer groups."
    "group.consumer.min.session.timeout.ms" Int = "45000", AtLeast(1), Medium, ReadOnly, Moot;
        "Shortest session timeout of new consumer groups."
    "group.consumer.session.timeout.ms" Int = "45000", AtLeast(1), Medium, ReadOnly, Moot;
        "Session timeout of members of new consumer groups."
    "group.coordinator.append.linger.ms" Int = "10", AtLeast(0), Medium, ReadOnly, Moot;
        "Batching time of the new coordinator's writes."
    "group.coordinator.rebalance.protocols" List = "classic",
        ListOf(&["consumer", "classic", "share", "unknown"]), Medium, ReadOnly, Ignored;
        "Rebalance protocols that are offered; ZooKeeper mode has classic only."
    "group.coordinator.threads" Int = "1", AtLeast(1), Medium, ReadOnly, Moot;
        "Threads of the new group coordinator."
    "group.initial.rebalance.delay.ms" Int = "3000", Any, Medium, ReadOnly, Acts;
        "How long a new group waits for more members before its first rebalance."
    "group.max.session.timeout.ms" Int = "1800000", Any, Medium, ReadOnly, Acts;
        "Longest session timeout a member may ask for."
    "group.max.size" Int = "2147483647", AtLeast(1), Medium, ReadOnly, Acts;
        "Most members of a group."
    "group.min.session.timeout.ms" Int = "6000", Any, Medium, ReadOnly, Acts;
        "Shortest session timeout a member may ask for."
    "group.share.delivery.count.limit" Int = "5", Between(2, 10), Medium, ReadOnly, Moot;
        "Deliveries of a record in a share group."
    "group.share.heartbeat.interval.ms" Int = "5000", AtLeast(1), Medium, ReadOnly, Moot;
        "Heartbeat interval of members of share groups."
    "group.share.max.groups" Short = "10", Between(1, 100), Medium, ReadOnly, Moot;
        "Most share groups."
    "group.share.max.heartbeat.interval.ms" Int = "15000", AtLeast(1), Medium, ReadOnly, Moot;
        "Longest heartbeat interval of share groups."
    "group.share.max.record.lock.duration.ms" Int = "60000", Between(30000, 3600000), Medium, ReadOnly, Moot;
        "Longest lock on a record of a share group."
    "group.share.max.session.timeout.ms" Int = "60000", AtLeast(1), Medium, ReadOnly, Moot;
        "Longest session timeout of share groups."
    "group.share.max.size" Short = "200", Between(10, 1000), Medium, ReadOnly, Moot;
        "Most members of a share group."
    "group.share.min.heartbeat.interval.ms" Int = "5000", AtLeast(1), Medium, ReadOnly, Moot;
        "Shortest heartbeat interval of share groups."
    "group.share.min.record.lock.duration.ms" Int = "15000", Between(1000, 30000), Medium, ReadOnly, Moot;
        "Shortest lock on a record of a share group."
    "group.share.min.session.timeout.ms" Int = "45000", AtLeast(1), Medium, ReadOnly, Moot;
        "Shortest session timeout of share groups."
    "group.share.partition.max.record.locks" Int = "200", Between(100, 10000), Medium, ReadOnly, Moot;
        "Records of a partition that may be locked at a time."
    "group.share.record.lock.duration.ms" Int = "30000", Between(1000, 60000), Medium, ReadOnly, Moot;
        "How long a record of a share group stays locked."
    "group.share.session.timeout.ms" Int = "45000", AtLeast(1), Medium, ReadOnly, Moot;
        "Session timeout of members of share groups."
    "offset.metadata.max.bytes" Int = "4096", Any, High, ReadOnly, Acts;
        "Largest metadata string in an offset commit."
    "offsets.commit.required.acks" Short = "-1", Any, High, ReadOnly, Moot;
        "Acks an offset commit waits for; -1, all in-sync replicas, is always used."
    "offsets.commit.timeout.ms" Int = "5000", AtLeast(1), High, ReadOnly, Acts;
        "How long an offset commit waits for its replicas."
    "offsets.load.buffer.size" Int = "5242880", AtLeast(1), High, ReadOnly, Moot;
        "Read size when groups are loaded."
    "offsets.retention.check.interval.ms" Long = "600000", AtLeast(1), High, ReadOnly, Acts;
        "How often expired offsets are looked for."
    "offsets.retention.minutes" Int = "10080", AtLeast(1), High, ReadOnly, Acts;
        "How long offsets of an empty group are kept."
    "offsets.topic.compression.codec" Int = "0", Any, High, ReadOnly, Acts;
        "Codec of what the coordinator writes: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd."
    "offsets.topic.num.partitions" Int = "50", AtLeast(1), High, ReadOnly, Acts;
        "Partitions of the offsets topic."
    "offsets.topic.replication.factor" Short = "3", AtLeast(1), High, ReadOnly, Acts;
        "Replicas of the offsets topic."
    "offsets.topic.segment.bytes" Int = "104857600", AtLeast(1), High, ReadOnly, Acts;
        "Segment size of the offsets topic."
    "producer.id.expiration.ms" Int = "86400000", AtLeast(1), Low, ClusterWide, Acts;
        "Idempotent producers that are silent for this long are forgotten."
    "transaction.abort.timed.out.transaction.cleanup.interval.ms" Int = "10000", AtLeast(1), Low, ReadOnly, Acts;
        "How often transactions that timed out are aborted."
    "transaction.max.timeout.ms" Int = "900000", AtLeast(1), High, ReadOnly, Acts;
        "Longest time-out a transactional producer may ask for."
    "transaction.partition.verification.enable" Boolean = "true", Any, Low, ClusterWide, Acts;
        "Partitions check with the coordinator that a transaction is under way."
    "transaction.remove.expired.transaction.cleanup.interval.ms" Int = "3600000", AtLeast(1), Low, ReadOnly, Acts;
        "How often expired transactional ids are removed."
    "transaction.state.log.load.buffer.size" Int = "5242880", AtLeast(1), High, ReadOnly, Moot;
        "Read size when transactions are loaded."
    "transaction.state.log.min.isr" Int = "2", AtLeast(1), High, ReadOnly, Acts;
        "min.insync.replicas of the transaction topic."
    "transaction.state.log.num.partitions" Int = "50", AtLeast(1), High, ReadOnly, Acts;
        "Partitions of the transaction topic."
    "transaction.state.log.replication.factor" Short = "3", AtLeast(1), High, ReadOnly, Acts;
        "Replicas of the transaction topic."
    "transaction.state.log.segment.bytes" Int = "104857600", AtLeast(1), High, ReadOnly, Acts;
        "Segment size of the transaction topic."
    "transactional.id.expiration.ms" Int = "604800000", AtLeast(1), High, ReadOnly, Acts;
        "Transactional ids that are silent for this long are forgotten."
};
