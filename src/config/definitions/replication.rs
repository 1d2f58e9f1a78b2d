//! Properties of replication.

use super::Property;
use super::table::*;

pub(super) static REPLICATION: &[Property] = properties! {
    "alter.log.dirs.replication.quota.window.num" Int = "11", AtLeast(1), Low, ReadOnly, Ignored;
        "Samples kept for the quota on moves between directories."
    "alter.log.dirs.replication.quota.window.size.seconds" Int = "1", AtLeast(1), Low, ReadOnly, Ignored;
        "Length of a sample for the quota on moves between directories."
    "num.replica.alter.log.dirs.threads" Int = null, Any, High, ReadOnly, Acts;
        "Threads that move replicas between directories."
    "num.replica.fetchers" Int = "1", Any, High, ClusterWide, Acts;
        "Connections to each leader that this broker follows."
    "replica.fetch.backoff.ms" Int = "1000", AtLeast(0), Medium, ReadOnly, Acts;
        "Pause of a follower after a failed fetch."
    "replica.fetch.max.bytes" Int = "1048576", AtLeast(0), Medium, ReadOnly, Acts;
        "Bytes a follower asks for per partition."
    "replica.fetch.min.bytes" Int = "1", Any, High, ReadOnly, Acts;
        "Fewest bytes a follower waits for."
    "replica.fetch.response.max.bytes" Int = "10485760", AtLeast(0), Medium, ReadOnly, Acts;
        "Bytes a follower asks for in one fetch."
    "replica.fetch.wait.max.ms" Int = "500", Any, High, ReadOnly, Acts;
        "How long a follower's fetch may wait for data."
    "replica.high.watermark.checkpoint.interval.ms" Long = "5000", Any, High, ReadOnly, Acts;
        "How often high watermarks are written."
    "replica.lag.time.max.ms" Long = "30000", Any, High, ReadOnly, Acts;
        "A follower behind for longer than this leaves the ISR."
    "replica.selector.class" Text = null, Any, Medium, ReadOnly, Acts;
        "Java class that chooses the replica a consumer reads from."
    "replica.socket.receive.buffer.bytes" Int = "65536", Any, High, ReadOnly, Ignored;
        "SO_RCVBUF of connections to leaders."
    "replica.socket.timeout.ms" Int = "30000", Any, High, ReadOnly, Acts;
        "Time limit of a follower's requests."
    "replication.quota.window.num" Int = "11", AtLeast(1), Low, ReadOnly, Acts;
        "Samples kept for replication quotas."
    "replication.quota.window.size.seconds" Int = "1", AtLeast(1), Low, ReadOnly, Acts;
        "Length of a sample for replication quotas."
};
