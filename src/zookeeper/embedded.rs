//! The ZooKeeper server inside: tree, jute, sessions, files.
