"""Coordinators that move between brokers of either kind, under the members of a group and under a transactional producer."""

from clusters import Driver, DriverError, eventually

GROUP, ID, PARTITIONS, RATE = "team", "buyer", 6, 200


def home(name, count):
    """The partition of an internal topic that a group or a transactional id belongs to."""
    value = 0
    for unit in name:
        value = (31 * value + ord(unit)) & 0xFFFFFFFF
    return abs(value - (1 << 32) if value >= 1 << 31 else value) % count


def leader(cluster, topic, partition):
    try:
        return cluster.state(topic)[partition][0]
    except DriverError:
        # A broker that has just started may not know the topic.
        return None


def known_to_all(cluster, topic):
    """Whether every broker has heard of the topic: a leader that refuses a first record and takes the second one stops its producer."""
    try:
        return all(cluster("configs", topic, broker.address, "retention.ms") for broker in cluster.brokers.values())
    except DriverError:
        return False


def place(cluster, topic, partition, replicas):
    """Has the partition live on these brokers, the first one leading."""
    cluster("reassign", topic, f"{partition}={','.join(map(str, replicas))}")
    eventually("the partition has moved", lambda: cluster("moving") == "0" and cluster.state(topic)[partition][1] == replicas)
    eventually("it is in sync", lambda: cluster.in_sync(topic))

    def leads():
        if leader(cluster, topic, partition) == replicas[0]:
            return True
        try:
            cluster("elect")
        except DriverError as error:
            # The Java client does not look for a new controller here by itself.
            if "NotController" not in str(error):
                raise
    eventually(f"broker {replicas[0]} leads {topic}-{partition}", leads)


def coordinators_move_between_kinds(cluster):
    """
    From a broker of one kind to one of the other and back, by kill -9 and by SIGTERM: members of a group stay what they are, in their
    generation, each record is read once, what was committed is found; a transactional producer goes on with its epoch.
    """
    first = next((number for number, broker in cluster.brokers.items() if broker.kind == "kafka"), 1)
    second = next((number for number, broker in cluster.brokers.items() if broker.kind == "ottla" and number != first), 2)
    third = next(number for number in cluster.brokers if number not in (first, second))
    replicas = [first, second, third]
    spread = ";".join(",".join(str((at + more) % 3 + 1) for more in range(3)) for at in range(PARTITIONS))
    cluster("create", "orders", spread, "min.insync.replicas=2")
    cluster("create", "receipts", spread, "min.insync.replicas=2")
    for topic in ("orders", "receipts"):
        eventually(f"{topic} is in sync and known", lambda: cluster.in_sync(topic) and known_to_all(cluster, topic))
    clients = Driver(cluster.bootstrap, cluster.dir / "members.log", "Members")
    try:
        cluster("load", "orders", RATE)
        clients("group", GROUP, "orders", 3)
        clients("producer", ID, "receipts", PARTITIONS)
        status = lambda: dict(pair.split("=") for pair in clients("status").split())
        eventually("three members share the topic", lambda: status()["owned"] == "2,2,2")

        def flows():
            """Every member has read and committed more, and there are more transactions."""
            before = status()
            counts = lambda now, name: [int(number) for number in now[name].split(",")]
            def more():
                now = status()
                read = all(new >= old + 20 for new, old in zip(counts(now, "commits"), counts(before, "commits")))
                return read and int(now["transactions"]) >= int(before["transactions"]) + 10
            eventually("members and producer go on", more)

        flows()
        coordinated = [("__consumer_offsets", home(GROUP, 6)), ("__transaction_state", home(ID, 6))]
        for topic, partition in coordinated:
            place(cluster, topic, partition, replicas)
        flows()
        stayed = status()
        for way in ("kill", "stop"):
            for gone, heir in ((first, second), (second, first)):
                leaders = lambda: [leader(cluster, topic, partition) for topic, partition in coordinated]
                eventually(f"broker {gone} coordinates", lambda: leaders() == [gone, gone])
                getattr(cluster[gone], way)()
                eventually(f"broker {heir} coordinates", lambda: leaders() == [heir, heir])
                flows()
                cluster[gone].start()
                for topic in ("orders", "receipts", "__consumer_offsets", "__transaction_state"):
                    eventually(f"{topic} is in sync", lambda: cluster.in_sync(topic))
        flows()
        now = status()
        for name in ("generation", "rebalances", "epoch"):
            assert now[name] == stayed[name], f"{name} was {stayed[name]} and is {now[name]}"
        said = cluster("stop", "orders")
        assert " unsent=0 " in said, said
        said = clients("stop")
        cluster.equal_replicas("orders")
        cluster.equal_replicas("receipts")
        return f"{'-'.join(cluster[number].kind for number in (first, second, first, second, first))}: {said}"
    finally:
        clients.close()
