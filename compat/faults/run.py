#!/usr/bin/env python3
"""Faults of the network, of disks, of ZooKeeper and of controllers, against clusters of three brokers: scripts/faults runs this.

A check gets a cluster of the kinds that it is run with (`kafka`, `ottla`, or both) on an ensemble of three ZooKeeper servers, and makes
its fault while an idempotent producer with acks=all and a consumer are at work. Afterwards every acknowledged record has to be there
once and in order, nobody may have been shown what is gone, all replicas must have the same bytes, and what was seen in ZooKeeper all the
while has to be in order (Znodes.java). The numbers are those of the table of faults that a broker has to get over.
"""

import argparse
import random
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

from ensemble import LAG_SECONDS, SESSION_SECONDS, FaultCluster, eventually
from clusters import DriverError
from report import Report
from test import MIXES, Load, elect

CHECKS = []
# The long form has faults last as long as they may; the short one as long as it takes to see that they are there.
LONG = True


def check(*faults, short=False, **cluster):
    """`short`: it is part of the short form. `cluster`: what it asks of its cluster."""

    def note(function):
        function.faults, function.short, function.cluster = faults, short, cluster
        CHECKS.append(function)
        return function

    return note


def seconds(long, short):
    return long if LONG else short


class Watched(Load):
    """Checked load, with an eye on what ZooKeeper has of its topic."""

    def __init__(self, cluster, topic, **shape):
        super().__init__(cluster, topic, **shape)
        cluster("watch", topic, cluster.zookeeper_address)

    def recovers(self, within=60):
        """After the end of a fault: how long it took until all replicas were in sync and records flowed."""
        began = time.monotonic()
        eventually(f"{self.topic} is in sync after the fault", lambda: self.cluster.in_sync(self.topic), within)
        self.flows()
        return round(time.monotonic() - began, 1)

    def verify(self):
        seen = self.cluster("watched", self.topic)
        self.leader_epochs = int(re.search(r"leader_epochs=(\d+)", seen).group(1))
        self.registered = {int(id): int(count) for id, count in re.findall(r"(\d+):(\d+)", seen.partition("registered=")[2])}
        return f"{super().verify()} {seen}"


def controller(cluster):
    return eventually("a controller", cluster.controller)


def another(cluster, *ids):
    return next(number for number in cluster.brokers if number not in ids)


@check(7)
def one_broker_cannot_reach_the_others(cluster):
    """{1} against {2, 3}, while all see ZooKeeper; the controller first, then another. Nothing is acknowledged by a minority."""
    load, healed = Watched(cluster, "parted"), []
    for number in [controller(cluster)] + seconds([another(cluster, controller(cluster))], []):
        cluster.network.part([f"b{number}"], cluster.all_nodes(number))
        time.sleep(LAG_SECONDS + 5)
        cluster.network.heal()
        healed.append(load.recovers())
    said = load.verify()
    # One shrink and one expansion change no epoch; an election or two may have been needed.
    assert load.leader_epochs <= 12 * len(healed), said
    return f"{said} healed={healed}"


@check(7, 27)
def each_broker_cannot_reach_zookeeper(cluster):
    """Longer than a session: its leaders move, and it comes back as another life of itself, once."""
    load, healed = Watched(cluster, "unseen"), []
    zookeepers = [server.node.name for server in cluster.servers.values()]
    for number in cluster.brokers:
        cluster.network.part([f"b{number}"], zookeepers)
        eventually("its session has expired", lambda: number not in cluster.registered())
        load.flows()
        cluster.network.heal()
        eventually("it is registered again", lambda: number in cluster.registered())
        healed.append(load.recovers())
    said = load.verify()
    assert load.registered == {number: 2 for number in cluster.brokers}, said
    return f"{said} healed={healed}"


@check(27)
def a_session_expires_twice(cluster):
    """KAFKA-9307: the second time right after the broker is back, while it takes over what it has to follow."""
    load, zookeepers = Watched(cluster, "twice"), [server.node.name for server in cluster.servers.values()]
    number = controller(cluster)
    for _ in range(2):
        cluster.network.part([f"b{number}"], zookeepers)
        eventually("its session has expired", lambda: number not in cluster.registered())
        cluster.network.heal()
        eventually("it is registered again", lambda: number in cluster.registered())
    healed = load.recovers()
    # Its coordinators work: a group reads through whatever broker has it.
    cluster.tool("kafka-console-consumer", "--bootstrap-server", cluster.bootstrap, "--topic", "twice", "--group", "readers",
                 "--from-beginning", "--max-messages", 10, "--timeout-ms", 60000)
    said = load.verify()
    assert load.registered[number] == 3, said
    return f"{said} healed={healed}"


@check(7)
def brokers_cannot_reach_each_other(cluster):
    """All see ZooKeeper and the clients, nobody another broker: nothing can be committed, and nothing is."""
    load = Watched(cluster, "lonely")
    for number in cluster.brokers:
        cluster.network.part([f"b{number}"], cluster.all_nodes(number))
    time.sleep(LAG_SECONDS + 5)
    before = int(cluster("acked", "lonely"))
    time.sleep(2)
    assert int(cluster("acked", "lonely")) == before, "acknowledged by one replica alone"
    cluster.network.heal()
    return f"healed={load.recovers()} {load.verify()}"


@check(8, short=True)
def a_ring_of_one_way_cuts(cluster):
    """What 1 sends to 2 is lost, and so on around; what comes back is not, and ZooKeeper hears all."""
    load = Watched(cluster, "ring")
    for number in cluster.brokers:
        cluster.network.cut(f"b{number}", f"b{number % 3 + 1}")
    time.sleep(LAG_SECONDS + 5)
    cluster.network.heal()
    said = f"healed={load.recovers()} {load.verify()}"
    assert load.leader_epochs <= 12, said
    return said


@check(8)
def one_way_cuts(cluster):
    """Each broker in turn does not hear one other, which hears it. KAFKA-2729: no ISR is stuck afterwards."""
    load, healed = Watched(cluster, "deaf"), []
    for number in cluster.brokers:
        cluster.network.cut(f"b{number}", f"b{number % 3 + 1}")
        time.sleep(LAG_SECONDS + 5)
        load.flows()
        cluster.network.heal()
        healed.append(load.recovers())
    said = load.verify()
    assert load.leader_epochs <= 12 * len(healed), said
    return f"{said} healed={healed}"


@check(8)
def one_broker_is_the_bridge(cluster):
    """1 and 3 do not hear each other; 2 hears both."""
    load = Watched(cluster, "bridge")
    cluster.network.part(["b1"], ["b3"])
    time.sleep(LAG_SECONDS + 5)
    load.flows()
    cluster.network.heal()
    said = f"healed={load.recovers()} {load.verify()}"
    assert load.leader_epochs <= 12, said
    return said


HALF_OPEN = """
import socket, sys, time
held = [socket.create_connection((host, 9092)) for host in sys.argv[1:] for _ in range(100)]
print("open", flush=True)
time.sleep(600)
"""


@check(12, overrides={"connections.max.idle.ms": 20000})
def resets_half_open_connections_and_small_packets(cluster):
    """Afterwards each broker has as many descriptors as before."""
    stranger = cluster.network.add("c1")
    load = Watched(cluster, "reset")
    load.settled()
    time.sleep(seconds(20, 5))
    before = {number: cluster.descriptors(number) for number in cluster.brokers}
    # Connections of a client that is gone without a word.
    hosts = [cluster.node(number).address for number in cluster.brokers]
    client = subprocess.Popen([*stranger.inside, sys.executable, "-c", HALF_OPEN, *hosts], stdout=subprocess.PIPE, text=True)
    assert client.stdout.readline() == "open\n"
    cluster.network.part(["c1"], cluster.all_nodes())
    client.kill()
    client.wait()
    held = {number: cluster.descriptors(number) for number in cluster.brokers}
    assert all(held[number] >= before[number] + 90 for number in held), (before, held)
    for _ in range(seconds(30, 6)):
        for number in cluster.brokers:
            cluster.node(number).reset_connections()
        time.sleep(0.5)
    for number in cluster.brokers:
        cluster.network.refuse(f"b{number % 3 + 1}", f"b{number}")
    time.sleep(seconds(8, 3))
    cluster.network.heal()
    load.recovers()
    cluster.node(2).set_mtu(576)
    cluster.node(2).reset_connections()
    load.flows(seconds(1000, 200))
    small = load.recovers()
    cluster.node(2).set_mtu(1500)
    load.flows()
    load.recovers()
    now = {}

    def as_before():
        now.update({number: cluster.descriptors(number) for number in cluster.brokers})
        return all(now[number] <= before[number] + 5 for number in now)

    eventually(f"descriptors are as before ({before}, {held})", as_before, 90)
    # New segments and new connections of the others may have come, and that is all.
    return f"descriptors before={before} half_open={held} after={now} small_packets={small} {load.verify()}"


@check(17, short=True, disks=True)
def the_power_of_one_broker_is_cut(cluster):
    """Its last writes are gone, and it fetches them anew; two others live."""
    load, lost = Watched(cluster, "dark"), []
    for number in list(cluster.brokers) if LONG else [controller(cluster)]:
        load.flows(seconds(1000, 400))
        size = sum(len(cluster.log_bytes(number, "dark", partition)) for partition in range(6))
        cluster.power_cut(number)
        load.flows()
        cluster.disks[number].mount()
        left = sum(len(cluster.log_bytes(number, "dark", partition)) for partition in range(6))
        lost.append(f"{left}/{size}")
        assert left < size, "the power cut has cost nothing: it shows nothing"
        cluster[number].start()
        load.recovers(120)
    return f"kept_bytes={','.join(lost)} {load.verify()}"


@check(28, short=True)
def zookeeper_servers_die(cluster):
    """A follower, then the leader, then the quorum for longer than any session: records flow, and nobody ends."""
    load = Watched(cluster, "orphaned")
    follower = next(server for server in cluster.servers.values() if server is not cluster.zookeeper_leader())
    for server in [follower, cluster.zookeeper_leader()]:
        server.kill()
        load.flows()
        server.start()
        cluster.ensemble_serves()
        eventually("all are registered", lambda: cluster.registered() == set(cluster.brokers))
    leader = cluster.zookeeper_leader()
    down = [leader, next(server for server in cluster.servers.values() if server is not leader)]
    for server in down:
        server.kill()
    end = time.monotonic() + seconds(120, 10)
    while time.monotonic() < end:
        load.flows()
        time.sleep(1)
    assert all(broker.alive for broker in cluster.brokers.values())
    for server in down:
        server.start()
    cluster.ensemble_serves()
    eventually("all are registered", lambda: cluster.registered() == set(cluster.brokers))
    healed = load.recovers()
    cluster("create", "afterwards", "1,2,3")
    eventually("a new topic is in sync", lambda: cluster.in_sync("afterwards"))
    return f"healed={healed} {load.verify()}"


@contextmanager
def in_background(disturb, pause):
    """Does it again and again until the block is left."""
    over, trouble = threading.Event(), []

    def loop():
        while not over.wait(pause()):
            try:
                disturb()
            except Exception as error:  # told at the end
                trouble.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if trouble:
        raise trouble[0]


@check(29)
def zookeeper_stalls_and_connections_to_it_break(cluster):
    """Its leader stops for five seconds now and then, and connections break in the middle of multis: nothing is done twice or not at all."""
    load, dice = Watched(cluster, "stalled"), random.Random(29)

    def break_connections():
        for number in cluster.brokers:
            if dice.random() < 0.5:
                cluster.node(number).reset_connections("dport", "=", ":2181")

    work = Administration(cluster)
    with in_background(break_connections, lambda: dice.uniform(0.3, 1.5)):
        for _ in range(seconds(3, 1)):
            work.round(lambda: None)
        # An ISR that shrinks and grows meanwhile.
        number = another(cluster, controller(cluster))
        cluster.network.part([f"b{number}"], cluster.all_nodes(number))
        time.sleep(LAG_SECONDS + 5)
        cluster.network.heal()
        load.recovers()
    for _ in range(seconds(4, 2)):
        server = cluster.zookeeper_leader()
        server.freeze()
        time.sleep(5)
        server.thaw()
        cluster.ensemble_serves()
    eventually("all are registered", lambda: cluster.registered() == set(cluster.brokers))
    healed = load.recovers()
    work.round(lambda: None)
    return f"healed={healed} {work.verify()} {load.verify()}"


class Administration:
    """The works of an admin, each finished whatever happens to the controller meanwhile."""

    def __init__(self, cluster):
        self.cluster, self.topics, self.ids, self.rounds = cluster, {}, set(), 0

    def until(self, what, wish, done):
        """Asks again until it is done; an error may hide a success, and `done` knows."""

        def attempt():
            try:
                if done():
                    return True
                wish()
            except DriverError as error:
                self.last = error
            return False

        try:
            eventually(what, attempt, 150)
        except AssertionError as error:
            raise AssertionError(f"{error}; the last error was {getattr(self, 'last', None)}") from None

    def wished(self, wish):
        """Asked for once; the answer may be an error, or get lost."""
        try:
            wish()
        except DriverError as error:
            self.last = error

    def knows(self, topic, value):
        """Whether all brokers that live have this retention time."""
        living = [broker for broker in self.cluster.brokers.values() if broker.alive]
        return all(self.cluster("configs", topic, broker.address, "retention.ms") == value for broker in living)

    def round(self, disturb, between=lambda: None):
        """One work of each kind; `disturb` happens at about the time of each, `between` when it has been asked for once."""
        self.rounds += 1
        name = f"made-{self.rounds}"
        cluster, state = self.cluster, lambda: self.cluster.state(name)
        works = [
            ("the topic is made", lambda: cluster("create", name, "1,2,3;2,3,1", "retention.ms=1000000"),
             lambda: name in cluster("topics").split() and self.knows(name, "1000000")),
            ("partitions are added", lambda: cluster("partitions", name, 4), lambda: len(state()) == 4),
            ("the config is changed", lambda: cluster("config", name, "retention.ms=2000000"),
             lambda: self.knows(name, "2000000")),
            ("partitions have moved", lambda: cluster("reassign", name, "0=3,1", "1=1,2"),
             lambda: cluster("moving") == "0" and state()[0][1] == [3, 1] and state()[1][1] == [1, 2]),
        ]
        for what, wish, done in works:
            disturb()
            self.wished(wish)
            between()
            self.until(f"{what}: {name}", wish, done)
        eventually("all in sync", lambda: cluster.in_sync(name))
        disturb()
        elect(cluster)
        between()
        self.until("preferred leaders lead", lambda: elect(cluster),
                   lambda: all(leader == replicas[0] for leader, replicas, _ in state().values()))
        self.topics[name] = {partition: replicas for partition, (_, replicas, _) in state().items()}
        self.same_ids(name)
        self.delete(f"gone-{self.rounds}", disturb, between)

    def delete(self, name, disturb, between):
        """A topic goes, and another one takes its name."""
        cluster = self.cluster
        self.until("the topic is made", lambda: cluster("create", name, "1,2,3;2,3,1"),
                   lambda: name in cluster("topics").split() and cluster.in_sync(name))
        self.same_ids(name)
        disturb()
        self.wished(lambda: cluster("delete", name))
        between()
        self.until("the topic is gone", lambda: cluster("delete", name), lambda: name not in cluster("topics").split())
        eventually(f"the folders of {name} are gone", lambda: not self.folders(name))
        self.until("the topic is made again", lambda: cluster("create", name, "3,2,1"),
                   lambda: name in cluster("topics").split() and cluster.in_sync(name))
        self.topics[name] = {0: [3, 2, 1]}
        self.same_ids(name)

    def folders(self, topic):
        found = [path for broker in self.cluster.brokers.values() for path in broker.log_dir.glob(f"{topic}-*")]
        return [path for path in found if not path.name.endswith("-delete")]

    def same_ids(self, topic):
        """All replicas of a topic know it by the same id, which no topic had before."""

        def ids():
            files = [path / "partition.metadata" for path in self.folders(topic)]
            return {re.search("topic_id: *(.+)", path.read_text()).group(1) for path in files if path.exists()}

        eventually(f"{topic} has one id: {ids()}", lambda: len(ids()) == 1, 30)
        (id,) = ids()
        assert id not in self.ids, f"{topic} has the id of another topic"
        self.ids.add(id)

    def verify(self):
        """What was wished is there, and no folder of anything else."""
        for topic, wanted in self.topics.items():
            eventually(f"{topic} is in sync", lambda: self.cluster.in_sync(topic))
            found = {partition: replicas for partition, (_, replicas, _) in self.cluster.state(topic).items()}
            assert found == wanted, (topic, found, wanted)
        wanted = {(number, f"{topic}-{partition}") for topic, partitions in self.topics.items()
                  for partition, replicas in partitions.items() for number in replicas}

        def there():
            return {(number, path.name) for number, broker in self.cluster.brokers.items()
                    for path in [*broker.log_dir.glob("made-*"), *broker.log_dir.glob("gone-*")] if not path.name.endswith("-delete")}

        # A replica that a move has taken away is told so once, before the assignment without it is written, and nobody waits for its
        # answer: when the controller dies just then, it keeps its folder. By its order Apache Kafka may
        # leave one too; it was not seen to.
        moved = {(number, f"{topic}-{partition}") for topic in self.topics if topic.startswith("made-")
                 for number, partition in ((2, 0), (3, 1))}
        eventually("every replica has its folder, and there is no other", lambda: wanted <= there() <= wanted | moved, 60)
        return f"left_by_moves={len(there() - wanted)}"


@check(30, 1)
def controllers_are_killed_at_work(cluster):
    """At the time of every work of an admin: the next controller finishes it, or leaves it to be asked for again."""
    load, work, dice, killed = Watched(cluster, "governed"), Administration(cluster), random.Random(30), []

    def kill_soon():
        number = controller(cluster)
        killed.append(number)
        timer = threading.Timer(dice.uniform(0, seconds(0.5, 0.3)), cluster[number].kill)
        timer.start()
        killed.append(timer)

    def bring_back():
        timer, number = killed.pop(), killed.pop()
        timer.join()
        cluster[number].start()
        load.settled()
        kills.append(number)

    kills = []
    for _ in range(seconds(2, 1)):
        work.round(kill_soon, bring_back)
    return f"kills={len(kills)} {work.verify()} {load.verify()}"


@check(1, 2, 4)
def brokers_bounce(cluster):
    """Each of them again and again, by SIGTERM or kill -9, and back after a moment: nobody has the epoch of an earlier life."""
    load, dice, lives = Watched(cluster, "bounced"), random.Random(4), {number: 1 for number in cluster.brokers}
    for _ in range(seconds(5, 1)):
        for number in dice.sample(list(cluster.brokers), 3):
            time.sleep(dice.uniform(0, 2))
            dice.choice([cluster[number].stop, cluster[number].kill])()
            time.sleep(dice.uniform(0, 1))
            cluster[number].start()
            lives[number] += 1
            load.recovers()
    said = load.verify()
    assert load.registered == lives, (said, lives)
    return said


@check(5, 6)
def pauses_around_the_session_timeout(cluster):
    """A leader and the controller stop for less than a session, and for a little more: no new life in the first case, one in the second."""
    load, lives = Watched(cluster, "paused"), {number: 1 for number in cluster.brokers}
    for number in (controller(cluster), another(cluster, controller(cluster))):
        for pause in (0.1, 1, SESSION_SECONDS / 2):
            cluster[number].freeze()
            time.sleep(pause)
            cluster[number].thaw()
            load.recovers()
        cluster[number].freeze()
        eventually("its session has expired", lambda: number not in cluster.registered())
        load.flows()
        cluster[number].thaw()
        eventually("it is registered again", lambda: number in cluster.registered())
        lives[number] += 1
        load.recovers()
    said = load.verify()
    assert load.registered == lives, (said, lives)
    return said


def main():
    global LONG
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", default="ottla,mixed,mixed2", help=f"of {', '.join(MIXES)}; separated by commas")
    parser.add_argument("--short", action="store_true", help="less of each fault, and of the checks those that show the most")
    parser.add_argument("--keep", action="store_true", help="leave the folders of the clusters")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("checks", nargs="*")
    options = parser.parse_args()
    if options.list:
        return print("\n".join(f"{function.__name__}: {', '.join(map(str, function.faults))}" for function in CHECKS))
    unknown = set(options.checks) - {function.__name__ for function in CHECKS} | set(options.clusters.split(",")) - set(MIXES)
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}")
    LONG = not options.short
    report = Report()
    for mix in options.clusters.split(","):
        for function in CHECKS:
            if function.__name__ not in options.checks if options.checks else options.short and not function.short:
                continue

            def body():
                with FaultCluster(MIXES[mix], keep=options.keep, **function.cluster) as cluster:
                    return function(cluster.connect())

            report.run(f"{mix}: {function.__name__} (faults {', '.join(map(str, function.faults))})", body)
    sys.exit(report.end())


if __name__ == "__main__":
    main()
