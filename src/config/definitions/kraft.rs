//! Properties that only KRaft servers act on; a ZooKeeper-mode broker accepts them in its file.

use super::Property;
use super::table::*;

pub(super) static KRAFT: &[Property] = properties! {
    "broker.heartbeat.interval.ms" Int = "2000", Any, Medium, ReadOnly, Moot;
        "Interval of a broker's heartbeats to a KRaft controller."
    "broker.session.timeout.ms" Int = "9000", Any, Medium, ReadOnly, Moot;
        "A KRaft controller fences a broker that is silent for this long."
    "controller.listener.names" Text = null, Any, High, ReadOnly, Moot;
        "Listeners of KRaft controllers."
    "controller.quorum.append.linger.ms" Int = "25", Any, Medium, ReadOnly, Moot;
        "Batching time of a KRaft leader's writes."
    "controller.quorum.bootstrap.servers" List = "", NonEmptyList, High, ReadOnly, Moot;
        "KRaft controllers to begin with."
    "controller.quorum.election.backoff.max.ms" Int = "1000", Any, High, ReadOnly, Moot;
        "Longest pause between KRaft elections."
    "controller.quorum.election.timeout.ms" Int = "1000", Any, High, ReadOnly, Moot;
        "Time without a KRaft leader before an election."
    "controller.quorum.fetch.timeout.ms" Int = "2000", Any, High, ReadOnly, Moot;
        "Time without a KRaft fetch before an election."
    "controller.quorum.request.timeout.ms" Int = "2000", Any, Medium, ReadOnly, Moot;
        "Time limit of requests among KRaft controllers."
    "controller.quorum.retry.backoff.ms" Int = "20", Any, Low, ReadOnly, Moot;
        "Pause before a request among KRaft controllers is sent again."
    "controller.quorum.voters" List = "", NonEmptyList, High, ReadOnly, Moot;
        "Voters of the KRaft quorum."
    "eligible.leader.replicas.enable" Boolean = "false", Any, High, ReadOnly, Moot;
        "KRaft keeps replicas that may lead without loss."
    "initial.broker.registration.timeout.ms" Int = "60000", Any, Medium, ReadOnly, Moot;
        "Longest wait of a broker for its registration with KRaft."
    "metadata.log.dir" Text = null, Any, High, ReadOnly, Moot;
        "Directory of the KRaft metadata log."
    "metadata.log.max.record.bytes.between.snapshots" Long = "20971520", AtLeast(1), High, ReadOnly, Moot;
        "Bytes of KRaft metadata between two snapshots."
    "metadata.log.max.snapshot.interval.ms" Long = "3600000", AtLeast(0), High, ReadOnly, Moot;
        "Longest time between two KRaft snapshots."
    "metadata.log.segment.bytes" Int = "1073741824", AtLeast(12), High, ReadOnly, Moot;
        "Segment size of the KRaft metadata log."
    "metadata.log.segment.ms" Long = "604800000", Any, High, ReadOnly, Moot;
        "Segment age of the KRaft metadata log."
    "metadata.max.idle.interval.ms" Int = "500", AtLeast(0), Low, ReadOnly, Moot;
        "How often an idle KRaft controller writes a no-op."
    "metadata.max.retention.bytes" Long = "104857600", Any, High, ReadOnly, Moot;
        "Size of KRaft metadata before old snapshots are deleted."
    "metadata.max.retention.ms" Long = "604800000", Any, High, ReadOnly, Moot;
        "Age at which KRaft snapshots are deleted."
    "node.id" Int = "-1", Any, High, ReadOnly, Acts;
        "Other name of broker.id; both must agree when both are set."
    "process.roles" List = "", ListOf(&["broker", "controller"]), High, ReadOnly, Unsafe;
        "Roles of a KRaft server; must be absent in ZooKeeper mode."
    "sasl.mechanism.controller.protocol" Text = "GSSAPI", Any, High, ReadOnly, Moot;
        "SASL mechanism to KRaft controllers."
};
