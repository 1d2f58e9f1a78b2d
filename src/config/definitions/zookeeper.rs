//! Properties of the ZooKeeper client, and Ottla's own: the ZooKeeper server inside.

use super::Property;
use super::table::*;

pub(super) static ZOOKEEPER: &[Property] = properties! {
    "zookeeper.clientCnxnSocket" Text = null, Any, Medium, ReadOnly, Moot;
        "Java class of the ZooKeeper client's socket."
    "zookeeper.connect" Text = null, Any, High, ReadOnly, Acts;
        "ZooKeeper servers as host:port,.../chroot; absent starts the one inside."
    "zookeeper.connection.timeout.ms" Int = null, Any, High, ReadOnly, Acts;
        "How long the first connection may take; the session timeout when absent."
    "zookeeper.max.in.flight.requests" Int = "10", AtLeast(1), High, ReadOnly, Moot;
        "Requests to ZooKeeper that may be under way."
    "zookeeper.metadata.migration.enable" Boolean = "false", Any, High, ReadOnly, Unsafe;
        "Prepares this broker for the migration to KRaft."
    "zookeeper.session.timeout.ms" Int = "18000", Any, High, ReadOnly, Acts;
        "ZooKeeper session timeout."
    "zookeeper.set.acl" Boolean = "false", Any, High, ReadOnly, Acts;
        "Znodes get ACLs that only brokers may write."
    "zookeeper.ssl.cipher.suites" List = null, Any, Low, ReadOnly, Acts;
        "Cipher suites of TLS to ZooKeeper."
    "zookeeper.ssl.client.enable" Boolean = "false", Any, Medium, ReadOnly, Acts;
        "TLS to ZooKeeper."
    "zookeeper.ssl.crl.enable" Boolean = "false", Any, Low, ReadOnly, Unsafe;
        "Certificates of ZooKeeper are checked against revocation lists."
    "zookeeper.ssl.enabled.protocols" List = null, Any, Low, ReadOnly, Acts;
        "TLS versions for ZooKeeper."
    "zookeeper.ssl.endpoint.identification.algorithm" Text = "HTTPS", Any, Low, ReadOnly, Acts;
        "How the name in ZooKeeper's certificate is checked."
    "zookeeper.ssl.keystore.location" Text = null, Any, Medium, ReadOnly, Acts;
        "File of the keystore for ZooKeeper."
    "zookeeper.ssl.keystore.password" Password = null, Any, Medium, ReadOnly, Acts;
        "Password of the keystore for ZooKeeper."
    "zookeeper.ssl.keystore.type" Text = null, Any, Medium, ReadOnly, Moot;
        "Format of the keystore for ZooKeeper."
    "zookeeper.ssl.ocsp.enable" Boolean = "false", Any, Low, ReadOnly, Unsafe;
        "Certificates of ZooKeeper are checked with OCSP."
    "zookeeper.ssl.protocol" Text = "TLSv1.2", Any, Low, ReadOnly, Moot;
        "TLS version that the negotiation with ZooKeeper begins with."
    "zookeeper.ssl.truststore.location" Text = null, Any, Medium, ReadOnly, Acts;
        "File of the truststore for ZooKeeper."
    "zookeeper.ssl.truststore.password" Password = null, Any, Medium, ReadOnly, Acts;
        "Password of the truststore for ZooKeeper."
    "zookeeper.ssl.truststore.type" Text = null, Any, Medium, ReadOnly, Moot;
        "Format of the truststore for ZooKeeper."
};

/// What Ottla adds to Kafka's properties of ZooKeeper.
pub(super) static EMBEDDED: &[Property] = properties! {
    "zookeeper.embedded.port" Int = "2181", Between(0, 65535), High, ReadOnly, Acts;
        "Port of the ZooKeeper server inside; 0 takes a free one."
    "zookeeper.embedded.address" Text = "127.0.0.1", NonEmpty, High, ReadOnly, Acts;
        "Address the ZooKeeper server inside listens on."
    "zookeeper.embedded.data.dir" Text = "/tmp/zookeeper", NonEmpty, High, ReadOnly, Acts;
        "Directory of the ZooKeeper server inside, in ZooKeeper's own file format."
};
