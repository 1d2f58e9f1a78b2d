//! Properties that exist only as dynamic broker configs, never in a file.

use super::Property;
use super::table::*;

pub(super) static THROTTLE: &[Property] = properties! {
    "follower.replication.throttled.rate" Long = "9223372036854775807", AtLeast(0), Medium, PerBroker, Acts;
        "Bytes per second of replication that throttled followers on this broker receive."
    "leader.replication.throttled.rate" Long = "9223372036854775807", AtLeast(0), Medium, PerBroker, Acts;
        "Bytes per second of replication that throttled leaders on this broker send."
    "replica.alter.log.dirs.io.max.bytes.per.second" Long = "9223372036854775807",
        AtLeast(0), Medium, PerBroker, Acts;
        "Bytes per second of moves between directories of this broker."
};
