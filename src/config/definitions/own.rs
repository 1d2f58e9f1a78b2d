//! Properties that Ottla adds to Kafka's, besides those of the ZooKeeper server inside.

use super::Property;
use super::table::*;

pub(super) static OWN: &[Property] = properties! {
    "console.port" Int = null, Between(0, 65535), Medium, ReadOnly, Acts;
        "Port of /metrics and /healthz over HTTP; absent: there is no console."
    "console.address" Text = "127.0.0.1", NonEmpty, Medium, ReadOnly, Acts;
        "Address the console listens on."
    "log.recovery.io.max.bytes.per.second" Double = "1.7976931348623157E308", Any, Medium, ClusterWide, Acts;
        "Most bytes per second that are read for the recovery of logs in the background, while others serve."
};
