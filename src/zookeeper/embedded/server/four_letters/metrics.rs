//! Numbers and settings.

use std::fmt::Write as _;
use std::path::Path;

use super::super::rules;
use super::{Context, VERSION};
use crate::base::time::monotonic_ms;

/// The lines that exporters read by name.
pub fn mntr(context: &mut Context<'_>, out: &mut String) -> std::fmt::Result {
    let (counters, machine, tree) = (&context.core.counters, &context.core.machine, &context.core.machine.tree);
    let (open_files, max_files) = open_files();
    let watches = machine.data_watches.len() + machine.child_watches.len();
    let ephemerals: usize = tree.ephemerals().values().map(|paths| paths.len()).sum();
    let lines: [(&str, &dyn std::fmt::Display); 21] = [
        ("version", &VERSION),
        ("server_state", &"standalone"),
        ("ephemerals_count", &ephemerals),
        ("num_alive_connections", &machine.connections().count()),
        ("avg_latency", &counters.average()),
        ("outstanding_requests", &context.core.outstanding()),
        ("znode_count", &(tree.len() + 1)),
        ("global_sessions", &machine.sessions.len()),
        ("non_mtls_remote_conn_count", &0),
        ("last_client_response_size", &-1),
        ("packets_sent", &counters.sent),
        ("packets_received", &counters.received),
        ("max_client_response_size", &-1),
        ("connection_drop_probability", &0.0),
        ("watch_count", &watches),
        ("min_latency", &counters.latency.min_ms()),
        ("max_latency", &counters.latency.max_ms),
        ("max_file_descriptor_count", &max_files),
        ("open_file_descriptor_count", &open_files),
        ("approximate_data_size", &tree.data_bytes()),
        ("uptime", &(monotonic_ms() - context.shared.started_ms)),
    ];
    for (name, value) in lines {
        writeln!(out, "zk_{name}\t{value}")?;
    }
    writeln!(out, "zk_local_sessions\t0\nzk_digest_mismatches_count\t{}", context.shared.digest_mismatches)
}

pub fn conf(context: &mut Context<'_>, out: &mut String) -> std::fmt::Result {
    let config = &context.shared.config;
    let (rules, dir) = (rules(config), config.data_dir.join("version-2"));
    let (logs, snapshots) = sizes(&dir);
    writeln!(out, "clientPort={}\nsecureClientPort=-1", context.shared.port)?;
    writeln!(out, "dataDir={0}\ndataDirSize={snapshots}\ndataLogDir={0}\ndataLogSize={logs}", dir.display())?;
    writeln!(out, "tickTime={}\nmaxClientCnxns={}", config.tick_time_ms, config.max_client_cnxns)?;
    let (min, max) = (rules.min_session_timeout_ms, rules.max_session_timeout_ms);
    writeln!(out, "minSessionTimeout={min}\nmaxSessionTimeout={max}")?;
    writeln!(out, "clientPortListenBacklog=-1\nserverId=0")
}

/// Java's properties have counterparts only in part; clients read the version.
pub fn envi(_: &mut Context<'_>, out: &mut String) -> std::fmt::Result {
    let host = rustix::system::uname();
    let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
    writeln!(out, "Environment:\nzookeeper.version={VERSION}\nhost.name={}", text(host.nodename()))?;
    writeln!(out, "java.version=<NA>\nos.name={}\nos.arch={}", text(host.sysname()), text(host.machine()))?;
    let dir = std::env::current_dir().unwrap_or_default();
    writeln!(out, "os.version={}\nuser.dir={}", text(host.release()), dir.display())
}

pub fn dirs(context: &mut Context<'_>, out: &mut String) -> std::fmt::Result {
    let (logs, snapshots) = sizes(&context.shared.config.data_dir.join("version-2"));
    writeln!(out, "datadir_size: {snapshots}\nlogdir_size: {logs}")
}

/// Bytes in logs and in snapshots.
fn sizes(dir: &Path) -> (u64, u64) {
    let mut sizes = (0, 0);
    for file in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let (name, len) = (file.file_name(), file.metadata().map_or(0, |metadata| metadata.len()));
        let name = name.to_string_lossy();
        sizes.0 += if name.starts_with("log.") { len } else { 0 };
        sizes.1 += if name.starts_with("snapshot.") { len } else { 0 };
    }
    sizes
}

/// Open file descriptors, and how many there may be.
fn open_files() -> (usize, u64) {
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    (open, limit.unwrap_or(u64::MAX))
}
