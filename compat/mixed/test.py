#!/usr/bin/env python3
"""Clusters of several brokers under faults, pure and mixed: scripts/mixed runs this.

A check gets a cluster of the kinds that it is run with (`kafka`, `ottla`, or both), does what it says with load on it, and then
every acknowledged record has to be there once, and all replicas have to have the same bytes.
"""

import argparse
import sys
import time
from pathlib import Path

from clusters import Cluster, DriverError, eventually
from failover import coordinators_move_between_kinds

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from report import Report  # noqa: E402

RATE = 200
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def rotated(brokers, partitions, replicas):
    """Assignments that spread leaders: 1,2,3;2,3,1;..."""
    ids = sorted(brokers)
    return ";".join(",".join(str(ids[(at + more) % len(ids)]) for more in range(replicas)) for at in range(partitions))


class Load:
    """Checked load on a new topic: rf 3, min.insync.replicas 2."""

    def __init__(self, cluster, topic, partitions=6, replicas=3):
        self.cluster, self.topic = cluster, topic
        cluster("create", topic, rotated(cluster.brokers, partitions, replicas), f"min.insync.replicas={replicas - 1}")
        eventually(f"{topic} is in sync", lambda: cluster.in_sync(topic))
        cluster("load", topic, RATE)
        self.flows()

    def flows(self, count=100):
        """Waits until so many more records are acknowledged."""
        before = int(self.cluster("acked", self.topic))
        eventually("records are acknowledged", lambda: int(self.cluster("acked", self.topic)) >= before + count)

    def settled(self):
        """All replicas are back, and records flow."""
        eventually(f"{self.topic} is in sync", lambda: self.cluster.in_sync(self.topic))
        self.flows()

    def verify(self):
        said = self.cluster("stop", self.topic)
        assert " unsent=0 " in said, said
        self.cluster.equal_replicas(self.topic)
        return said


def controllers(cluster):
    """The brokers in an order in which one of each kind is the controller: makes it so, and gives each."""
    for kind in sorted({broker.kind for broker in cluster.brokers.values()}):
        while cluster[eventually("a controller", cluster.controller)].kind != kind:
            now = cluster.controller()
            cluster[now].stop()
            eventually("another controller", lambda: cluster.controller() not in (None, now))
            cluster[now].start()
        yield eventually("a controller", cluster.controller)


def elect(cluster):
    """Preferred election. The Java client does not look for a new controller here by itself."""
    def elected():
        try:
            return cluster("elect") or "0"
        except DriverError as error:
            if "NotController" not in str(error):
                raise
    eventually("preferred leaders are elected", elected)


@check
def the_example_user_logs(cluster):
    """Issue: P0 on 1,2, P1 on 2,3, P2 on 3,1; broker 1 stops and returns; the controller is killed."""
    tool = lambda name, *arguments, **more: cluster.tool(name, "--bootstrap-server", cluster.bootstrap, *arguments, **more)
    said = tool("kafka-topics", "--create", "--topic", "too-many", "--partitions", 1, "--replication-factor", 4, fails=True)
    assert "InvalidReplicationFactorException" in said, said
    tool("kafka-topics", "--create", "--topic", "user-logs", "--replica-assignment", "1:2,2:3,3:1")
    eventually("all in sync", lambda: cluster.in_sync("user-logs"))
    leaders = lambda: [cluster.state("user-logs")[partition][0] for partition in range(3)]
    assert leaders() == [1, 2, 3], leaders()
    said = tool("kafka-topics", "--describe", "--topic", "user-logs")
    assert "ReplicationFactor: 2" in said and "Leader: 3\tReplicas: 3,1" in said, said

    def pass_on(words):
        tool("kafka-console-producer", "--topic", "user-logs", "--producer-property", "acks=all", input="".join(f"{word}\n" for word in words))
        got = tool("kafka-console-consumer", "--topic", "user-logs", "--group", "readers", "--from-beginning",
                   "--max-messages", len(words), "--timeout-ms", 60000)
        assert sorted(got.split()) == sorted(words), got

    pass_on([f"first-{number}" for number in range(50)])
    cluster[1].stop()
    eventually("2 leads P0 and 3 leads P2", lambda: leaders() == [2, 2, 3])
    pass_on([f"without-1-{number}" for number in range(50)])
    cluster[1].start()
    eventually("1 has caught up", lambda: cluster.in_sync("user-logs"))
    tool("kafka-leader-election", "--election-type", "preferred", "--all-topic-partitions")
    eventually("1 leads P0 again", lambda: leaders() == [1, 2, 3])
    old = cluster.controller()
    cluster[old].kill()
    eventually("another controller", lambda: cluster.controller() not in (None, old))
    pass_on([f"after-controller-{number}" for number in range(50)])
    cluster[old].start()
    cluster.equal_replicas("user-logs")


@check
def kill_9_of_every_broker(cluster):
    load = Load(cluster, "killed")
    for number in cluster.brokers:
        cluster[number].kill()
        load.flows()
        cluster[number].start()
        load.settled()
    return load.verify()


@check
def a_rolling_restart(cluster):
    load = Load(cluster, "rolled")
    gaps = []
    for number in cluster.brokers:
        cluster("mark", "rolled")
        assert cluster[number].stop() is not None
        load.flows()
        gaps.append(f"{cluster[number].kind} {cluster('gap', 'rolled')} ms")
        cluster[number].start()
        load.settled()
        elect(cluster)
    return f"{load.verify()} ({', '.join(gaps)})"


@check
def each_kind_as_controller(cluster):
    """Topics, configs, partitions, reassignments and elections under a controller of each kind, and its death."""
    load = Load(cluster, "office")
    for turn, controller in enumerate(controllers(cluster)):
        topic = f"under-{cluster[controller].kind}"
        cluster("create", topic, "1,2;2,3", "retention.ms=1000000")
        eventually("in sync", lambda: cluster.in_sync(topic))
        def shows(value):
            try:
                return all(cluster("configs", topic, broker.address, "retention.ms") == value for broker in cluster.brokers.values())
            except DriverError as error:
                # A broker hears of a topic a little later than the one that created it.
                if "UnknownTopicOrPartition" not in str(error):
                    raise
        eventually("all brokers know the config", lambda: shows("1000000"))
        cluster("config", topic, "retention.ms=2000000")
        eventually("all brokers know the new config", lambda: shows("2000000"))
        cluster("partitions", topic, 4)
        eventually("four partitions", lambda: len(cluster.state(topic)) == 4 and cluster.in_sync(topic))
        cluster("delete", topic)
        eventually("deleted", lambda: topic not in cluster("topics").split())
        folders = lambda: [path for broker in cluster.brokers.values() for path in broker.log_dir.glob(f"{topic}-*")]
        eventually("no folder of the topic is left but those that wait to be removed",
                   lambda: all(path.name.endswith("-delete") for path in folders()))
        # Leaders move away and back.
        moved = {at: replicas[1:] + replicas[:1] for at, (_, replicas, _) in cluster.state("office").items()}
        cluster("reassign", "office", *(f"{at}={','.join(map(str, replicas))}" for at, replicas in moved.items()))
        eventually("nothing moves", lambda: cluster("moving") == "0")
        elect(cluster)
        eventually("the preferred leaders lead",
                   lambda: all(leader == replicas[0] for leader, replicas, _ in cluster.state("office").values()))
        load.settled()
        cluster[controller].kill()
        eventually("another controller", lambda: cluster.controller() not in (None, controller))
        load.flows()
        cluster[controller].start()
        load.settled()
    return load.verify()


@check
def reassignment_from_one_broker_to_another_and_back(cluster):
    """A topic on two brokers moves to the third and back, so that in a mixed cluster both kinds copy from each other."""
    load = Load(cluster, "moved", partitions=3, replicas=2)
    home = {at: replicas for at, (_, replicas, _) in cluster.state("moved").items()}
    third = {at: next(number for number in cluster.brokers if number not in replicas) for at, replicas in home.items()}
    for target in ({at: [third[at], replicas[0]] for at, replicas in home.items()}, home,
                   {at: [replicas[1], third[at]] for at, replicas in home.items()}, home):
        cluster("reassign", "moved", *(f"{at}={','.join(map(str, replicas))}" for at, replicas in target.items()))
        arrived = lambda: {at: replicas for at, (_, replicas, _) in cluster.state("moved").items()} == target
        eventually("the partitions have moved", lambda: cluster("moving") == "0" and arrived() and cluster.in_sync("moved"))
        load.flows()
    return load.verify()


@check
def brokers_are_replaced_in_place_while_the_cluster_serves(cluster):
    load = Load(cluster, "replaced")
    kinds = {number: broker.kind for number, broker in cluster.brokers.items()}
    if len(set(kinds.values())) == 1 and "kafka" in kinds.values():
        # Against Apache Kafka alone this is a restart.
        other = {"kafka": "kafka"}
    else:
        other = {"kafka": "ottla", "ottla": "kafka"}
    # Back again after kill -9: the other kind recovers what it finds.
    for end in ("stop", "kill"):
        for broker in cluster.brokers.values():
            getattr(broker, end)()
            broker.kind = other[broker.kind]
            broker.start()
            load.settled()
    assert kinds == {number: broker.kind for number, broker in cluster.brokers.items()}
    return load.verify()


@check
def pauses(cluster):
    """SIGSTOP of a leader and of the controller for longer than their sessions: no zombie acknowledges or writes anything."""
    load = Load(cluster, "paused")
    for number in {cluster.controller(), next(number for number in cluster.brokers if number != cluster.controller())}:
        cluster[number].freeze()
        eventually("its session has expired", lambda: number not in cluster.registered())
        load.flows()
        cluster[number].thaw()
        eventually("it is registered again", lambda: number in cluster.registered())
        load.settled()
    return load.verify()


@check
def zookeeper_is_away(cluster):
    """Longer than every session: producing and consuming go on, and afterwards nobody is stuck."""
    load = Load(cluster, "headless")
    import signal
    cluster.zookeeper.process.send_signal(signal.SIGSTOP)
    for _ in range(10):
        load.flows()
        time.sleep(1)
    cluster.zookeeper.process.send_signal(signal.SIGCONT)
    eventually("all are registered", lambda: cluster.registered() == set(cluster.brokers))
    load.settled()
    cluster("create", "after-zookeeper", "1,2,3")
    eventually("a new topic is in sync", lambda: cluster.in_sync("after-zookeeper"))
    return load.verify()


@check
def all_at_once(cluster):
    """kill -9 of all brokers together: what was acknowledged is in the page cache of each."""
    load = Load(cluster, "all")
    for broker in cluster.brokers.values():
        broker.process.kill()
    for broker in cluster.brokers.values():
        broker.kill()
    for broker in cluster.brokers.values():
        broker.launch()
    for broker in cluster.brokers.values():
        broker.ready()
    load.settled()
    return load.verify()


check(coordinators_move_between_kinds)

MIXES = {
    "kafka": ["kafka", "kafka", "kafka"],
    "ottla": ["ottla", "ottla", "ottla"],
    "mixed": ["kafka", "ottla", "ottla"],
    "mixed2": ["ottla", "kafka", "kafka"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", default="ottla,mixed,mixed2", help=f"of {', '.join(MIXES)}; separated by commas")
    parser.add_argument("--keep", action="store_true", help="leave the folders of the clusters")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("checks", nargs="*")
    options = parser.parse_args()
    if options.list:
        return print("\n".join(function.__name__ for function in CHECKS))
    unknown = set(options.checks) - {function.__name__ for function in CHECKS} | set(options.clusters.split(",")) - set(MIXES)
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}")
    report = Report()
    for mix in options.clusters.split(","):
        for function in CHECKS:
            if options.checks and function.__name__ not in options.checks:
                continue

            def body():
                with Cluster(MIXES[mix], keep=options.keep) as cluster:
                    return function(cluster.connect())

            report.run(f"{mix}: {function.__name__}", body)
    sys.exit(report.end())


if __name__ == "__main__":
    main()
