"""coordinators: 1,000 groups of 3 that commit, the first assignment, loading 1,000,000 offsets, 1,000 transactions/s: CPU and times

The client is scripts/benches/load (Go): raw requests, so that it takes little of the machine that it shares with the broker.
"""

import json
import subprocess
import sys
import time

from harness import SCRIPTS, Broker, cpu_seconds, resident_mib, shell, table

PARTS = ["groups", "first", "loading", "transactions"]


def arguments(parser):
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="which of the measurements")
    parser.add_argument("--groups", type=int, default=1000, help="groups of 3 members")
    parser.add_argument("--seconds", type=int, default=20, help="of commits, and of transactions")
    parser.add_argument("--offsets", type=int, default=1_000_000, help="live offsets to load")
    parser.add_argument("--rate", type=int, default=1000, help="transactions per second")


def load_program():
    program = shell('need go golang-go; echo "$TARGET"') + "/bench-load"
    subprocess.run(["go", "build", "-mod=readonly", "-o", program, "."], cwd=SCRIPTS / "benches" / "load", check=True)
    return program


def load(program, broker, mode, **flags):
    """The answer of a mode of the client, and the broker's CPU seconds in its measured part."""
    given = [f"-{name}={value}" for name, value in flags.items()]
    client = subprocess.Popen([program, mode, f"-bootstrap={broker.bootstrap}", *given], stdout=subprocess.PIPE, text=True)
    line = client.stdout.readline()
    before = cpu_seconds(broker.pids)
    if line == "ready\n":
        line = client.stdout.readline()
    spent = cpu_seconds(broker.pids) - before
    if client.wait() != 0:
        sys.exit(f"{mode} failed against {broker.kind}; its log: {(broker.dir / 'broker.log').read_text()[-3000:]}")
    return json.loads(line), spent


def groups(program, kind, options):
    # Long enough for the three members of a group to come together.
    with Broker(kind, ["group.initial.rebalance.delay.ms=200"]) as broker:
        said, cpu = load(program, broker, "groups", groups=options.groups, seconds=options.seconds)
        return {
            "groups: broker CPU, % of a core": 100 * cpu / options.seconds,
            "groups: 60 commits p99, ms": said["p99"],
            "groups: resident, MiB": resident_mib(broker.pids),
        }


def first(program, kind, options):
    # Ottla's defaults without a properties file; Apache Kafka is given the same, its own delay is 3 s.
    with Broker(kind, ["group.initial.rebalance.delay.ms=0"], file=False) as broker:
        said, _ = load(program, broker, "first")
        return {"assignment on a new broker, ms": said["first"], "assignment later, ms": said["later"]}


def loading(program, kind, options):
    partitions = 100
    count = options.offsets // partitions
    with Broker(kind) as broker:
        load(program, broker, "fill", groups=count, partitions=partitions)
        broker.stop()
        began = time.time_ns()
        broker.start()
        answered = time.time_ns()
        said, _ = load(program, broker, "loaded", groups=count)
        return {
            "loading: exec to answer, s": (answered - began) / 1e9,
            "loading: exec to loaded, s": (said["at"] - began) / 1e9,
            # Of Apache Kafka the new broker alone, as of Ottla: its ZooKeeper went on.
            "loading: CPU s until loaded": cpu_seconds([broker.process.pid]),
            "loading: resident, MiB": resident_mib([broker.process.pid]),
        }


def transactions(program, kind, options):
    with Broker(kind) as broker:
        said, cpu = load(program, broker, "transactions", rate=options.rate, seconds=options.seconds)
        return {
            "transactions/s": said["rate"],
            "EndTxn p50, ms": said["p50"],
            "EndTxn p99, ms": said["p99"],
            "transactions: CPU, % of a core": 100 * cpu * said["rate"] / said["count"],
        }


def run(kinds, options):
    program = load_program()
    found = {kind: {} for kind in kinds}
    measures = {"groups": groups, "first": first, "loading": loading, "transactions": transactions}
    for turn in range(options.runs):
        for part in options.parts:
            for kind in kinds:
                measured = measures[part](program, kind, options)
                for name, value in measured.items():
                    found[kind].setdefault(name, []).append(value)
                print(f"  run {turn + 1} {kind}: {', '.join(f'{name} {value:.1f}' for name, value in measured.items())}", file=sys.stderr)
    sizes = f"{options.groups} groups of 3, {options.offsets} offsets, {options.rate} transactions/s, {options.runs} runs"
    table(f"coordinators: {sizes}", found)
