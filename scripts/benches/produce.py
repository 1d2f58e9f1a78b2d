"""produce: kafka-producer-perf-test (1 KiB records, acks=all), then kafka-consumer-perf-test: throughput and CPU seconds of the broker

What is consumed lies evenly in its partitions. The stock partitioner fills the partitions of a broker that keeps up by chance, and
those of one that does not evenly; a consumer that has reached the end of one partition while others have more waits there for
fetch.max.wait.ms again and again, with any broker. On such a topic the test would measure those half seconds, so both brokers are
read on the same layout.
"""

import re
import sys

from harness import Broker, cpu_seconds, resident_mib, table


def arguments(parser):
    parser.add_argument("--records", type=int, default=1_000_000)


def create(broker, topic):
    broker.tool("kafka-topics", "--bootstrap-server", broker.bootstrap, "--create", "--topic", topic, "--partitions", 3,
                "--replication-factor", 1)


def fill(broker, topic, count, *properties):
    """What kafka-producer-perf-test said."""
    return broker.tool("kafka-producer-perf-test", "--topic", topic, "--num-records", count, "--record-size", 1024, "--throughput", -1,
                       "--producer-props", f"bootstrap.servers={broker.bootstrap}", "acks=all", *properties)


def measure_produce(kinds, runs, records):
    names = ["produce, MiB/s", "produce, CPU s per GiB", "consume, MiB/s", "consume, CPU s per GiB", "resident after, MiB"]
    found = {kind: {name: [] for name in names} for kind in kinds}
    gib = records * 1024 / 2**30
    for run in range(runs):
        for kind in kinds:
            with Broker(kind) as broker:
                for topic, count in [("warm-up", records // 10), ("bench", records)]:
                    create(broker, topic)
                    before = cpu_seconds(broker.pids)
                    said = fill(broker, topic, count)
                    produced = cpu_seconds(broker.pids) - before
                    speed = float(re.findall(r"\(([\d.]+) MB/sec\)", said)[-1])
                    topic = f"{topic}-even"
                    create(broker, topic)
                    fill(broker, topic, count, "partitioner.class=org.apache.kafka.clients.producer.RoundRobinPartitioner")
                    before = cpu_seconds(broker.pids)
                    said = broker.tool("kafka-consumer-perf-test", "--bootstrap-server", broker.bootstrap, "--topic", topic,
                                       "--messages", count)
                    consumed = cpu_seconds(broker.pids) - before
                    columns = said.strip().splitlines()[-1].split(", ")
                    if int(columns[4]) < count:
                        sys.exit(f"{kind}: only {columns[4]} of {count} records came back")
                # fetch.MB.sec leaves out the time to join the group.
                for name, value in zip(names, [speed, produced / gib, float(columns[8]), consumed / gib, resident_mib(broker.pids)]):
                    found[kind][name].append(value)
            print(f"  run {run + 1} {kind}: {speed:.0f} MiB/s in, {float(columns[8]):.0f} MiB/s out", file=sys.stderr)
    return found


def run(kinds, options):
    table(f"{options.records} records of 1 KiB, acks=all", measure_produce(kinds, options.runs, options.records))
