//! What `/metrics` says, in Prometheus' text format (version 0.0.4): a snapshot of what the rooms know at this moment.
//!
//! Invariant: a name of a topic or a path is escaped; values are gauges of now unless their name ends in `_total`.

use super::View;
use super::process;
use crate::log::{LogManager, RecoveryLeft};
use crate::replica::{Partition, ReplicaManager};
use std::fmt::{Display, Write as _};
use std::sync::Arc;

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Of `kafka.server:type=KafkaServer,name=BrokerState`.
const STARTING: u8 = 1;
const RECOVERING: u8 = 2;
const RUNNING: u8 = 3;

#[derive(Default)]
struct Page(String);

impl Page {
    /// Begins a metric.
    fn metric(&mut self, name: &'static str, help: &str) -> Metric<'_> {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Metric { page: self, name }
    }
}

struct Metric<'a> {
    page: &'a mut Page,
    name: &'static str,
}

impl Metric<'_> {
    fn is(self, value: impl Display) {
        let _ = writeln!(self.page.0, "{} {value}", self.name);
    }

    fn of(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let _ = writeln!(self.page.0, "{}{{{}}} {value}", self.name, labels.join(","));
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

pub fn render(view: &View) -> String {
    let mut page = Page::default();
    let left = view.logs.get().map(|logs| logs.recovery_left()).unwrap_or_default();
    let state = match view.is_ready() {
        true => RUNNING,
        false if left.iter().any(|(_, left)| left.logs > 0) => RECOVERING,
        false => STARTING,
    };
    page.metric("kafka_server_kafkaserver_brokerstate", "1 starting, 2 recovering logs, 3 running.").is(state);
    if let Some(controller) = view.controller.get() {
        let name = "kafka_controller_kafkacontroller_activecontrollercount";
        page.metric(name, "1 on the broker that is the controller.").is(u8::from(controller.is_active()));
    }
    if let Some(logs) = view.logs.get() {
        of_logs(&mut page, logs, &left);
    }
    if let Some(replicas) = view.replicas.get() {
        of_replicas(&mut page, replicas);
    }
    of_process(&mut page);
    page.0
}

fn of_logs(page: &mut Page, logs: &LogManager, left: &[(std::path::PathBuf, RecoveryLeft)]) {
    let mut each = |name, help, value: &dyn Fn(&RecoveryLeft) -> u64| {
        let mut metric = page.metric(name, help);
        for (dir, left) in left {
            let dir = dir.to_string_lossy();
            metric.of(&[("dir", &*dir)], value(left));
        }
    };
    each("kafka_log_logmanager_remaininglogstorecover", "Logs that are still to be recovered.", &|left| {
        left.logs as u64
    });
    each("kafka_log_logmanager_remainingsegmentstorecover", "Their segments.", &|left| left.segments as u64);
    each("ottla_log_remaining_bytes_to_recover", "Their bytes.", &|left| left.bytes);
    let failed = logs.failed_dirs();
    let mut metric = page.metric("kafka_log_logmanager_logdirectoryoffline", "1 if the directory has failed.");
    for (dir, _) in left {
        let is_offline = failed.contains(dir);
        let dir = dir.to_string_lossy();
        metric.of(&[("logdirectory", &*dir)], u8::from(is_offline));
    }
    page.metric("kafka_log_logmanager_offlinelogdirectorycount", "Log directories that have failed.").is(failed.len());
}

fn of_replicas(page: &mut Page, replicas: &ReplicaManager) {
    let mut all = replicas.all();
    all.sort_by(|one, other| one.topic_partition().cmp(other.topic_partition()));
    let led: Vec<(&Arc<Partition>, usize, usize)> = all
        .iter()
        .filter(|partition| partition.is_leader())
        .map(|partition| {
            let leadership = partition.leadership();
            (partition, leadership.isr.len(), leadership.replicas.len())
        })
        .collect();
    let count = |is: &dyn Fn(&Arc<Partition>) -> bool| all.iter().filter(|partition| is(partition)).count();
    page.metric("kafka_server_replicamanager_partitioncount", "Partitions on this broker.").is(all.len());
    page.metric("kafka_server_replicamanager_leadercount", "Partitions that this broker leads.").is(led.len());
    page.metric("kafka_server_replicamanager_underreplicatedpartitions", "Led partitions with a replica out of sync.")
        .is(led.iter().filter(|(_, isr, replicas)| isr < replicas).count());
    page.metric("kafka_server_replicamanager_underminisrpartitioncount", "Led partitions below min.insync.replicas.")
        .is(count(&|partition| partition.is_under_min_isr()));
    page.metric("kafka_server_replicamanager_offlinereplicacount", "Partitions in log directories that have failed.")
        .is(count(&|partition| partition.is_offline()));
    page.metric("ottla_replica_awaited_partitions", "Partitions that wait for the recovery of their logs.")
        .is(replicas.awaited_count());
    let mut each = |name, help, value: &dyn Fn(usize, usize) -> usize| {
        let mut metric = page.metric(name, help);
        for (partition, isr, replicas) in &led {
            let name = partition.topic_partition();
            let number = name.partition.to_string();
            metric.of(&[("topic", &*name.topic), ("partition", &*number)], value(*isr, *replicas));
        }
    };
    each("kafka_cluster_partition_insyncreplicascount", "In-sync replicas of a led partition.", &|isr, _| isr);
    each("kafka_cluster_partition_replicascount", "Replicas of a led partition.", &|_, replicas| replicas);
}

fn of_process(page: &mut Page) {
    let Some(usage) = process::usage() else { return };
    page.metric("process_cpu_seconds_total", "CPU time of the process.").is(usage.cpu_seconds);
    page.metric("process_resident_memory_bytes", "Resident memory.").is(usage.resident_bytes);
    page.metric("process_virtual_memory_bytes", "Virtual memory.").is(usage.virtual_bytes);
    if let Some(open) = usage.open_files {
        page.metric("process_open_fds", "Open file descriptors.").is(open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_leave_their_quotes() {
        let mut page = Page::default();
        let mut metric = page.metric("a_total", "Help.");
        metric.of(&[("dir", "/a\"} 1\nb\\"), ("topic", "t")], 2);
        assert_eq!(
            page.0,
            "# HELP a_total Help.\n# TYPE a_total counter\na_total{dir=\"/a\\\"} 1\\nb\\\\\",topic=\"t\"} 2\n"
        );
    }

    #[test]
    fn a_broker_that_has_only_begun_has_something_to_show() {
        let text = render(&View::default());
        assert!(text.contains("\nkafka_server_kafkaserver_brokerstate 1\n"), "{text}");
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
    }
}
