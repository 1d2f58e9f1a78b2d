//! Properties of the broker as a whole: identity, listeners, connections, threads, quotas, metrics.

use super::Property;
use super::table::*;

pub(super) static GENERAL: &[Property] = properties! {
    "advertised.listeners" Text = null, Any, High, PerBroker, Acts;
        "Addresses that clients and brokers are told to connect to; listeners when absent."
    "alter.config.policy.class.name" Class = null, Any, Low, ReadOnly, Unsafe;
        "Java class that may refuse changes of configs."
    "alter.config.policy.kraft.compatibility.enable" Boolean = "false", Any, Low, ReadOnly, Moot;
        "Passes the policy class what KRaft passes it."
    "auto.create.topics.enable" Boolean = "true", Any, High, ReadOnly, Acts;
        "A metadata request for a topic that is absent creates it."
    "auto.include.jmx.reporter" Boolean = "true", Any, Low, ReadOnly, Moot;
        "Adds the JMX metrics reporter of the JVM."
    "background.threads" Int = "10", AtLeast(1), High, ClusterWide, Moot;
        "Threads for background jobs."
    "broker.id" Int = "-1", Any, High, ReadOnly, Acts;
        "Number of this broker in the cluster; -1 takes it from meta.properties or generates one."
    "broker.id.generation.enable" Boolean = "true", Any, Medium, ReadOnly, Acts;
        "Brokers without an id get one from ZooKeeper."
    "broker.rack" Text = null, Any, Medium, ReadOnly, Acts;
        "Rack (or zone) of this broker, for rack-aware assignment of replicas."
    "compression.gzip.level" Int = "-1", GzipLevel, Medium, ClusterWide, Acts;
        "Level when the broker compresses with gzip; -1 is the codec's default."
    "compression.lz4.level" Int = "9", Between(1, 17), Medium, ClusterWide, Acts;
        "Level when the broker compresses with lz4."
    "compression.type" Text = "producer",
        OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), High, ClusterWide, Acts;
        "Codec that batches are stored with; producer keeps what was sent."
    "compression.zstd.level" Int = "3", Between(-131072, 22), Medium, ClusterWide, Acts;
        "Level when the broker compresses with zstd."
    "connections.max.idle.ms" Long = "600000", Any, Medium, ReadOnly, Acts;
        "A connection without requests for this long is closed."
    "control.plane.listener.name" Text = null, Any, High, ReadOnly, Ignored;
        "Listener that carries the controller's requests and nothing else."
    "controlled.shutdown.enable" Boolean = "true", Any, Medium, ReadOnly, Acts;
        "Leadership is handed over before the broker stops."
    "controlled.shutdown.max.retries" Int = "3", Any, Medium, ReadOnly, Acts;
        "Attempts at a controlled shutdown."
    "controlled.shutdown.retry.backoff.ms" Long = "5000", Any, Medium, ReadOnly, Acts;
        "Wait between attempts at a controlled shutdown."
    "controller.socket.timeout.ms" Int = "30000", Any, Medium, ReadOnly, Ignored;
        "Time limit of requests between controller and brokers."
    "create.topic.policy.class.name" Class = null, Any, Low, ReadOnly, Unsafe;
        "Java class that may refuse new topics."
    "delete.topic.enable" Boolean = "true", Any, High, ReadOnly, Acts;
        "Topics can be deleted."
    "early.start.listeners" Text = null, Any, High, ReadOnly, Ignored;
        "Listeners that accept before the authorizer is ready."
    "fetch.max.bytes" Int = "57671680", AtLeast(1024), Medium, ReadOnly, Acts;
        "Most bytes in one fetch response."
    "inter.broker.listener.name" Text = null, Any, Medium, ReadOnly, Acts;
        "Listener that brokers use among themselves."
    "inter.broker.protocol.version" Text = "3.9-IV0", Version, Medium, ReadOnly, Acts;
        "Version that brokers speak to each other, for rolling upgrades."
    "kafka.metrics.polling.interval.secs" Int = "10", AtLeast(1), Low, ReadOnly, Moot;
        "Seconds between two polls of the Yammer metrics reporters."
    "kafka.metrics.reporters" List = "", Any, Low, ReadOnly, Ignored;
        "Java classes that report Yammer metrics."
    "leader.imbalance.check.interval.seconds" Long = "300", AtLeast(1), High, ReadOnly, Acts;
        "Seconds between two checks for preferred leaders."
    "leader.imbalance.per.broker.percentage" Int = "10", Any, High, ReadOnly, Acts;
        "Share of partitions led by another than the preferred broker that triggers elections."
    "auto.leader.rebalance.enable" Boolean = "true", Any, High, ReadOnly, Acts;
        "The controller moves leadership back to preferred replicas."
    "listener.security.protocol.map" Text = "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT",
        Any, Low, PerBroker, Acts;
        "Security protocol of each listener name."
    "listeners" Text = "PLAINTEXT://:9092", Any, High, PerBroker, Acts;
        "Addresses this broker listens on, as NAME://host:port; no host means all interfaces."
    "max.connection.creation.rate" Int = "2147483647", AtLeast(0), Medium, ClusterWide, Ignored;
        "Most new connections per second."
    "max.connections" Int = "2147483647", AtLeast(0), Medium, ClusterWide, Acts;
        "Most connections at a time."
    "max.connections.per.ip" Int = "2147483647", AtLeast(0), Medium, ClusterWide, Acts;
        "Most connections from one address at a time."
    "max.connections.per.ip.overrides" Text = "", Any, Medium, ClusterWide, Ignored;
        "Addresses with a limit of their own, as host:count,...."
    "max.incremental.fetch.session.cache.slots" Int = "1000", AtLeast(0), Medium, ReadOnly, Acts;
        "Most incremental fetch sessions kept."
    "max.request.partition.size.limit" Int = "2000", AtLeast(1), Medium, ReadOnly, Moot;
        "Most partitions in one DescribeTopicPartitions response."
    "message.max.bytes" Int = "1048588", AtLeast(0), High, ClusterWide, Acts;
        "Largest batch that is accepted, after compression."
    "metric.reporters" List = "", Any, Low, ClusterWide, Ignored;
        "Java classes that report metrics."
    "metrics.num.samples" Int = "2", AtLeast(1), Low, ReadOnly, Moot;
        "Samples a metric is computed over."
    "metrics.recording.level" Text = "INFO", Any, Low, ReadOnly, Moot;
        "Detail of the metrics that are recorded."
    "metrics.sample.window.ms" Long = "30000", AtLeast(1), Low, ReadOnly, Moot;
        "Length of one metrics sample."
    "num.io.threads" Int = "8", AtLeast(1), High, ClusterWide, Acts;
        "Threads that handle requests."
    "num.network.threads" Int = "3", AtLeast(1), High, ClusterWide, Acts;
        "Threads that serve connections, for each listener."
    "num.partitions" Int = "1", AtLeast(1), Medium, ReadOnly, Acts;
        "Partitions of a topic that is created without a count."
    "default.replication.factor" Int = "1", Any, Medium, ReadOnly, Acts;
        "Replicas of a topic that is created without a factor."
    "queued.max.request.bytes" Long = "-1", Any, Medium, ReadOnly, Ignored;
        "Bytes of requests that may wait; above it connections are not read. -1 sets no limit."
    "queued.max.requests" Int = "500", AtLeast(1), High, ReadOnly, Moot;
        "Requests that may wait before connections are no longer read."
    "request.timeout.ms" Int = "30000", Any, High, ReadOnly, Acts;
        "How long this broker waits for the answers to its own requests."
    "reserved.broker.max.id" Int = "1000", AtLeast(0), Medium, ReadOnly, Acts;
        "Highest id that may be configured; generated ids start above."
    "security.inter.broker.protocol" Text = "PLAINTEXT",
        OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]), Medium, ReadOnly, Acts;
        "Security protocol among brokers; give this or inter.broker.listener.name."
    "socket.connection.setup.timeout.max.ms" Long = "30000", Any, Medium, ReadOnly, Ignored;
        "Upper limit of the time to set up a connection to another broker."
    "socket.connection.setup.timeout.ms" Long = "10000", Any, Medium, ReadOnly, Ignored;
        "Time to set up a connection to another broker, before back-off."
    "socket.listen.backlog.size" Int = "50", AtLeast(1), Medium, ReadOnly, Acts;
        "Connections that the kernel queues before they are accepted."
    "socket.receive.buffer.bytes" Int = "102400", Any, High, ReadOnly, Acts;
        "SO_RCVBUF of connections; -1 leaves it to the system."
    "socket.request.max.bytes" Int = "104857600", AtLeast(1), High, ReadOnly, Acts;
        "Largest request that is read."
    "socket.send.buffer.bytes" Int = "102400", Any, High, ReadOnly, Acts;
        "SO_SNDBUF of connections; -1 leaves it to the system."
    "telemetry.max.bytes" Int = "1048576", AtLeast(1), Low, ReadOnly, Moot;
        "Largest telemetry payload of a client."
    "client.quota.callback.class" Class = null, Any, Low, ReadOnly, Unsafe;
        "Java class that decides client quotas."
    "controller.quota.window.num" Int = "11", AtLeast(1), Low, ReadOnly, Ignored;
        "Samples kept for quotas on topic changes."
    "controller.quota.window.size.seconds" Int = "1", AtLeast(1), Low, ReadOnly, Ignored;
        "Length of a sample for quotas on topic changes."
    "quota.window.num" Int = "11", AtLeast(1), Low, ReadOnly, Ignored;
        "Samples kept for client quotas."
    "quota.window.size.seconds" Int = "1", AtLeast(1), Low, ReadOnly, Ignored;
        "Length of a sample for client quotas."
};
