"""scripts/bench cluster: three brokers of one kind: time without a leader, acks=all, many topics, fail-over, latency."""

import re
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import harness

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "compat" / "mixed"))
from clusters import Cluster, DriverError, eventually  # noqa: E402

LEADER, OFFICE, TERM = "kill -9 leader, ms", "kill -9 controller, ms", "SIGTERM leader, ms"
SPEED, CPU, LATENCY = "acks=all, MiB/s", "acks=all, CPU s per GiB", "2,000/s acks=all, p99 ms"
CREATED, REPLICATED = "create topic, RF 1, s", "create topic, RF 2, s"
ELECTED, SERVES = "controller elected, s", "controller serves, s"
NAMES = [LEADER, OFFICE, TERM, SPEED, CPU, LATENCY, CREATED, REPLICATED, ELECTED, SERVES]
SPREAD = ["1,2,3", "2,3,1", "3,1,2"]


def arguments(flags):
    flags.add_argument("--cluster-runs", type=int, default=1, help="runs of the whole; --runs does not count here")
    flags.add_argument("--rounds", type=int, default=15, help="faults of each sort in one run")
    flags.add_argument("--kafka-rounds", type=int, default=3, help="the same for Apache Kafka, where one costs half a minute")
    flags.add_argument("--cluster-records", type=int, default=500_000, help="records of 1 KiB through three brokers")
    flags.add_argument("--cluster-partitions", type=int, default=5000, help="partitions of the topic that is created; twice as many at the fail-over")
    flags.add_argument("--latency-records", type=int, default=40_000, help="records at 2,000 a second")
    flags.add_argument("--cluster-parts", default="faults,records,partitions", help="which of these to measure")


class Bench:
    """One run of everything with one kind of broker."""

    def __init__(self, kind, options, folder):
        self.kind, self.options, self.folder = kind, options, folder
        self.rounds = options.rounds if kind == "ottla" else options.kafka_rounds
        self.found = {name: [] for name in NAMES}

    def cluster(self):
        """Three brokers as they come: stock session time-outs and lag. What they leave behind stays until the end: a file system that has
        just lost a hundred thousand files makes new ones slowly, and it is not the next cluster's fault."""
        settings = {"zookeeper.session.timeout.ms": 18000, "replica.lag.time.max.ms": 30000}
        folder = tempfile.mkdtemp(prefix=f"{self.kind}.", dir=self.folder)
        return Cluster([self.kind] * 3, overrides=settings, heap="1g" if self.kind == "kafka" else None, folder=folder)

    def note(self, name, value):
        self.found[name].append(value)
        print(f"  {self.kind}: {name} {value:.2f}", file=sys.stderr, flush=True)

    def run(self):
        parts = self.options.cluster_parts.split(",")
        # The many files come first.
        for name, part in (("partitions", self.many_partitions), ("faults", self.faults), ("records", self.records)):
            if name in parts:
                with self.cluster() as cluster:
                    part(cluster.connect())
        return self.found

    def faults(self, cluster):
        for name in (LEADER, OFFICE, TERM):
            for number in range(self.rounds):
                self.note(name, self.leaderless(cluster, name, number))

    def leaderless(self, cluster, name, number):
        """The longest time between two acknowledgements of a producer around a fault, in milliseconds."""
        topic = f"gap-{NAMES.index(name)}-{number}"
        controller = eventually("a controller", cluster.controller)
        others = [broker for broker in cluster.brokers if broker != controller]
        # The leader is not the controller's broker, but where that is what is killed; there it leads as well.
        leader = controller if name == OFFICE else others[number % 2]
        order = [leader] + [broker for broker in cluster.brokers if broker != leader]
        cluster("create", topic, ",".join(map(str, order)), "min.insync.replicas=2")
        eventually("in sync", lambda: cluster.in_sync(topic))
        cluster("load", topic, 200)
        eventually("records flow", lambda: int(cluster("acked", topic)) > 300)
        before = int(cluster("acked", topic))
        cluster("mark", topic)
        cluster[leader].end(signal.SIGTERM if name == TERM else signal.SIGKILL)
        eventually("records flow", lambda: int(cluster("acked", topic)) > before + 300)
        gap = float(cluster("gap", topic))
        cluster("stop", topic)
        cluster[leader].start()
        eventually("in sync", lambda: cluster.in_sync(topic))
        return gap

    def records(self, cluster):
        count = self.options.cluster_records
        # The first topic warms everybody up.
        for topic, records in (("warm-up", count // 10), ("bench", count)):
            cluster("create", topic, ";".join(SPREAD), "min.insync.replicas=2")
            eventually("in sync", lambda: cluster.in_sync(topic))
            before = harness.cpu_seconds(self.pids(cluster))
            said = cluster.tool("kafka-producer-perf-test", "--topic", topic, "--num-records", records, "--record-size", 1024,
                                "--throughput", -1, "--producer-props", f"bootstrap.servers={cluster.bootstrap}", "acks=all")
            cpu = harness.cpu_seconds(self.pids(cluster)) - before
        self.note(SPEED, float(re.findall(r"\(([\d.]+) MB/sec\)", said)[-1]))
        self.note(CPU, cpu / (count * 1024 / 2**30))
        cluster("create", "latency", ";".join(SPREAD), "min.insync.replicas=2")
        eventually("in sync", lambda: cluster.in_sync("latency"))
        self.note(LATENCY, float(cluster("latency", "latency", 2000, self.options.latency_records)))

    @staticmethod
    def pids(cluster):
        return [broker.process.pid for broker in cluster.brokers.values() if broker.alive]

    def many_partitions(self, cluster):
        """Seconds to create a topic until all its partitions are led, and from the controller's death until a topic can be created."""
        count = self.options.cluster_partitions
        for name, topic, replicas in ((CREATED, "many", 1), (REPLICATED, "more", 2)):
            assigned = ";".join(",".join(SPREAD[at % 3].split(",")[:replicas]) for at in range(count))
            began = time.monotonic()
            cluster("create", topic, assigned)
            self.note(name, time.monotonic() - began)
            eventually("all in sync", lambda: cluster.in_sync(topic), 600)
        old = eventually("a controller", cluster.controller)
        began = time.monotonic()
        cluster[old].kill()
        eventually("another controller", lambda: cluster.controller() not in (None, old))
        self.note(ELECTED, time.monotonic() - began)

        def serves():
            try:
                replicas = ",".join(str(number) for number in cluster.brokers if number != old)
                return cluster("create", "after", replicas) is not None
            except DriverError as error:
                return "TopicExists" in str(error)
        eventually("the new controller serves", serves, 300)
        self.note(SERVES, time.monotonic() - began)


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def judge(found):
    """What was to be reached, and whether it was; what is relative only where both kinds were measured."""
    ottla, kafka = found.get("ottla"), found.get("kafka")
    if not ottla:
        return
    at_most = [
        (LEADER, "p50", statistics.median, 200), (LEADER, "p99", lambda values: percentile(values, 0.99), 1000),
        (OFFICE, "p99", lambda values: percentile(values, 0.99), 1500), (TERM, "p99", lambda values: percentile(values, 0.99), 150),
        (CREATED, "median", statistics.median, 4), (SERVES, "median", statistics.median, 2),
    ]
    for name, what, of, limit in at_most:
        if ottla[name]:
            value = of(ottla[name])
            print(f"{'met   ' if value <= limit else 'MISSED'} {name}: {what} {value:.2f}, at most {limit} wanted")
    for name, holds, wanted in ((SPEED, lambda ratio: ratio >= 2, "at least 2"), (CPU, lambda ratio: ratio <= 0.25, "at most 0.25"),
                                (LATENCY, lambda ratio: ratio <= 0.5, "at most 0.5")):
        if kafka and ottla[name] and kafka[name]:
            ratio = statistics.median(ottla[name]) / statistics.median(kafka[name])
            print(f"{'met   ' if holds(ratio) else 'MISSED'} {name}: {ratio:.3f} of Apache Kafka's, {wanted} wanted")


def run(kinds, options):
    began = time.monotonic()
    found = {kind: {name: [] for name in NAMES} for kind in kinds}
    folder = tempfile.mkdtemp(prefix="ottla-bench-cluster.")
    try:
        for _ in range(options.cluster_runs):
            for kind in kinds:
                for name, values in Bench(kind, options, folder).run().items():
                    found[kind][name] += values
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    measured = {kind: {name: values for name, values in rows.items() if values} for kind, rows in found.items()}
    rounds = ", ".join(f"{len(rows[LEADER])} of each sort for {kind}" for kind, rows in found.items())
    harness.table(
        f"three brokers; faults: {rounds}; {options.cluster_records} records of 1 KiB; topics of {options.cluster_partitions} partitions, "
        f"{2 * options.cluster_partitions} partitions at the fail-over; {time.monotonic() - began:.0f} s in all", measured)
    judge(found)
