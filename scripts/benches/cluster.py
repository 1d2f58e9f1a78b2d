"""scripts/bench cluster: three brokers of one kind: time without a leader, acks=all, many topics, fail-over, latency."""

import re
import signal
import statistics
import sys
import time
from pathlib import Path

import harness

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "compat" / "mixed"))
from clusters import Cluster, DriverError, eventually  # noqa: E402

ALL = "1,2,3"


def arguments(flags):
    flags.add_argument("--rounds", type=int, default=5, help="faults of each sort in one cluster")
    flags.add_argument("--cluster-records", type=int, default=500_000, help="records of 1 KiB through three brokers")
    flags.add_argument("--cluster-partitions", type=int, default=5000, help="partitions of the topic that is created; twice as many at the fail-over")
    flags.add_argument("--latency-records", type=int, default=40_000, help="records at 2,000 a second")


def cluster_of(kind):
    """Three brokers as they come: stock session time-outs and lag."""
    settings = {"zookeeper.session.timeout.ms": 18000, "replica.lag.time.max.ms": 30000}
    return Cluster([kind] * 3, overrides=settings, heap="1g" if kind == "kafka" else None)


def pids(cluster):
    return [broker.process.pid for broker in cluster.brokers.values() if broker.alive]


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def leaderless(cluster, rounds):
    """The longest time between two acknowledgements of a producer around each fault, in milliseconds."""
    gaps = {"kill -9 of the leader": [], "kill -9 of the controller": [], "SIGTERM of the leader": []}
    for name, found in gaps.items():
        for round_ in range(rounds):
            topic = f"gap-{len(found)}-{name.split()[-1]}-{name.split()[0].strip('-')}"
            controller = eventually("a controller", cluster.controller)
            others = [number for number in cluster.brokers if number != controller]
            # The leader is not the controller's broker, but where that is what is killed; there it leads as well.
            leader = controller if "controller" in name else others[round_ % 2]
            order = [leader] + [number for number in cluster.brokers if number != leader]
            cluster("create", topic, ",".join(map(str, order)), "min.insync.replicas=2")
            eventually("in sync", lambda: cluster.in_sync(topic))
            cluster("load", topic, 200)
            eventually("records flow", lambda: int(cluster("acked", topic)) > 400)
            before = int(cluster("acked", topic))
            cluster("mark", topic)
            cluster[leader].end(signal.SIGTERM if "SIGTERM" in name else signal.SIGKILL)
            eventually("records flow", lambda: int(cluster("acked", topic)) > before + 400)
            found.append(float(cluster("gap", topic)))
            cluster("stop", topic)
            cluster[leader].start()
            eventually("in sync", lambda: cluster.in_sync(topic))
    return gaps


def throughput(cluster, records):
    """MiB/s and CPU seconds of the brokers, with acks=all over three replicas."""
    for topic, count in (("warm-up", records // 10), ("bench", records)):
        cluster("create", topic, "1,2,3;2,3,1;3,1,2", "min.insync.replicas=2")
        eventually("in sync", lambda: cluster.in_sync(topic))
        before = harness.cpu_seconds(pids(cluster))
        said = cluster.tool("kafka-producer-perf-test", "--topic", topic, "--num-records", count, "--record-size", 1024,
                            "--throughput", -1, "--producer-props", f"bootstrap.servers={cluster.bootstrap}", "acks=all")
        cpu = harness.cpu_seconds(pids(cluster)) - before
    return float(re.findall(r"\(([\d.]+) MB/sec\)", said)[-1]), cpu / (records * 1024 / 2**30)


def latency(cluster, records):
    """End to end at 2,000 records a second: what the producer measures up to the acknowledgement by all, p99 in milliseconds."""
    cluster("create", "latency", "1,2,3;2,3,1;3,1,2", "min.insync.replicas=2")
    eventually("in sync", lambda: cluster.in_sync("latency"))
    return float(cluster("latency", "latency", 2000, records))


def many_partitions(cluster, partitions):
    """Seconds to create a topic until all its partitions are led, and after the controller's death until a topic can be created."""
    spread = ["1,2,3", "2,3,1", "3,1,2"]
    made = lambda count: ";".join(spread[at % 3] for at in range(count))
    began = time.monotonic()
    cluster("create", "many", made(partitions))
    created = time.monotonic() - began
    cluster("create", "more", made(partitions))
    eventually("all in sync", lambda: cluster.in_sync("many") and cluster.in_sync("more"), 600)
    old = eventually("a controller", cluster.controller)
    began = time.monotonic()
    cluster[old].kill()
    eventually("another controller", lambda: cluster.controller() not in (None, old))
    elected = time.monotonic() - began

    def serves():
        try:
            return cluster("create", "after", ",".join(str(number) for number in cluster.brokers if number != old)) is not None
        except DriverError as error:
            if "TopicExists" in str(error):
                return True
    eventually("the new controller serves", serves, 300)
    return created, elected, time.monotonic() - began


def run(kinds, options):
    names = ["kill -9 leader, p50 ms", "kill -9 leader, worst ms", "kill -9 controller, worst", "SIGTERM, worst ms", "acks=all, MiB/s",
             "acks=all, CPU s per GiB", "2,000/s acks=all, p99 ms", "create topic, s", "controller elected, s", "controller serves, s"]
    found = {kind: {name: [] for name in names} for kind in kinds}
    for _ in range(options.runs):
        for kind in kinds:
            with cluster_of(kind) as cluster:
                gaps = leaderless(cluster.connect(), options.rounds)
            with cluster_of(kind) as cluster:
                speed, cpu = throughput(cluster.connect(), options.cluster_records)
                p99 = latency(cluster, options.latency_records)
            with cluster_of(kind) as cluster:
                created, elected, serves = many_partitions(cluster.connect(), options.cluster_partitions)
            killed, office, stopped = gaps.values()
            figures = [statistics.median(killed), percentile(killed, 0.99), percentile(office, 0.99), percentile(stopped, 0.99),
                       speed, cpu, p99, created, elected, serves]
            for name, value in zip(names, figures):
                found[kind][name].append(value)
            print(f"  {kind}: {', '.join(f'{name} {value:.2f}' for name, value in zip(names, figures))}", file=sys.stderr)
    harness.table(
        f"three brokers; {options.rounds} faults of each sort a run, {options.cluster_records} records of 1 KiB, "
        f"{options.cluster_partitions} partitions created, {2 * options.cluster_partitions} at the fail-over", found)
