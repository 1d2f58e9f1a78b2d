//! The limit of open files, which connections and segments share.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one, as the JVM does for Apache Kafka: a shell's usual 1,024 is soon too few.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(limit = ?limit.current, "the limit of open files cannot be raised: {error}");
    }
}
