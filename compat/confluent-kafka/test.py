"""confluent-kafka (librdkafka) against BOOTSTRAP."""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from checks import BOOTSTRAP, check, equal, eventually, main, name
from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic, OffsetSpec

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
admin = AdminClient({"bootstrap.servers": BOOTSTRAP})


def done(futures):
    return {key: future.result(30) for key, future in futures.items()}


def create(topic, partitions=1, **config):
    done(admin.create_topics([NewTopic(topic, partitions, 1, config={k.replace("_", "."): v for k, v in config.items()})]))
    return topic


def produce(topic, messages, **config):
    """Sends (partition, key, value, headers, timestamp) tuples and returns the delivered (partition, offset)s."""
    delivered, errors = [], []

    def report(error, message):
        if error:
            errors.append(error)
        else:
            delivered.append((message.partition(), message.offset()))

    producer = Producer({"bootstrap.servers": BOOTSTRAP, "acks": "all", **{k.replace("_", "."): v for k, v in config.items()}})
    for partition, key, value, headers, timestamp in messages:
        producer.produce(topic, value, key, partition, on_delivery=report, headers=headers, timestamp=timestamp)
        producer.poll(0)
    equal(producer.flush(60), 0, "messages left in the queue")
    if errors:
        raise AssertionError(f"delivery failed: {errors[0]}")
    return delivered


def simple(count, partition=0, start=0):
    return [(partition, b"k%d" % i, b"value %d" % i, [], 0) for i in range(start, start + count)]


def consumer(group=None, **config):
    return Consumer(
        {
            "bootstrap.servers": BOOTSTRAP,
            "group.id": group or name("nobody"),
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            **{k.replace("_", "."): v for k, v in config.items()},
        }
    )


def read(topic, count, partition=0, offset=OFFSET_BEGINNING, **config):
    c = consumer(**config)
    c.assign([TopicPartition(topic, partition, offset)])
    try:
        return take(c, count)
    finally:
        c.close()


def take(c, count, seconds=30):
    found, end = [], time.monotonic() + seconds
    while len(found) < count:
        if time.monotonic() > end:
            raise AssertionError(f"only {len(found)} of {count} messages")
        message = c.poll(0.2)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        found.append(message)
    return found


@check
def cluster_and_topics_are_described():
    topic = create(name("described"), 3, cleanup_policy="compact")
    metadata = admin.list_topics(timeout=10)
    equal(sorted(metadata.topics[topic].partitions), [0, 1, 2])
    equal(metadata.topics[topic].partitions[1].replicas, list(metadata.brokers))
    cluster = admin.describe_cluster(request_timeout=10).result()
    equal(len(cluster.nodes), 1)
    equal(cluster.controller.id, cluster.nodes[0].id)
    equal(len(cluster.cluster_id), 22, "length of the cluster id")
    described = done(admin.describe_topics(TopicCollection([topic])))[topic]
    equal(len(described.partitions), 3)
    if str(described.topic_id) == "AAAAAAAAAAAAAAAAAAAAAA":
        raise AssertionError("the topic has no id")
    config = done(admin.describe_configs([ConfigResource("topic", topic)]))
    entries = next(iter(config.values()))
    equal(entries["cleanup.policy"].value, "compact")
    equal(entries["cleanup.policy"].is_default, False)
    equal(entries["retention.ms"].value, "604800000")
    equal(entries["retention.ms"].is_default, True)
    broker = done(admin.describe_configs([ConfigResource("broker", str(cluster.controller.id))]))
    equal(next(iter(broker.values()))["log.segment.bytes"].value, "1073741824")


@check
def topics_are_created_grown_and_deleted_with_the_right_errors():
    topic = create(name("grown"), 1)
    for future, code in [
        (admin.create_topics([NewTopic(topic, 1, 1)])[topic], KafkaError.TOPIC_ALREADY_EXISTS),
        (admin.create_topics([NewTopic(name("bad") + "/..", 1, 1)])[name("bad") + "/.."], KafkaError.TOPIC_EXCEPTION),
        (admin.create_topics([NewTopic(name("rf3"), 1, 3)])[name("rf3")], KafkaError.INVALID_REPLICATION_FACTOR),
        (admin.create_topics([NewTopic(name("p0"), 0, 1)])[name("p0")], KafkaError.INVALID_PARTITIONS),
        (
            admin.create_topics([NewTopic(name("cfg"), 1, 1, config={"retention.ms": "soon"})])[name("cfg")],
            KafkaError.INVALID_CONFIG,
        ),
        (admin.create_partitions([NewPartitions(topic, 1)])[topic], KafkaError.INVALID_PARTITIONS),
        (admin.delete_topics([name("absent")])[name("absent")], KafkaError.UNKNOWN_TOPIC_OR_PART),
    ]:
        try:
            future.result(30)
        except KafkaException as error:
            equal(error.args[0].code(), code, str(error))
        else:
            raise AssertionError(f"no error where {code} was due")
    checked = name("only-checked")
    done(admin.create_topics([NewTopic(checked, 2, 1)], validate_only=True))
    equal(checked in admin.list_topics(timeout=10).topics, False, "validate_only created a topic")
    done(admin.create_partitions([NewPartitions(topic, 4)]))
    eventually(lambda: len(admin.list_topics(timeout=10).topics[topic].partitions) == 4, "four partitions")
    done(admin.delete_topics([topic]))
    eventually(lambda: topic not in admin.list_topics(timeout=10).topics, "the topic is gone")
    eventually(lambda: recreated(topic), "the name can be used again")
    equal(len(read_watermarks(topic)), 2)


def recreated(topic):
    """Deleting ends in the background: until then the name is still taken."""
    try:
        create(topic, 2)
    except KafkaException as error:
        equal(error.args[0].code(), KafkaError.TOPIC_ALREADY_EXISTS)
        return False
    return eventually(lambda: topic in admin.list_topics(timeout=10).topics, "the new topic")


def read_watermarks(topic):
    c = consumer()
    try:
        return {
            p: c.get_watermark_offsets(TopicPartition(topic, p), timeout=10)
            for p in c.list_topics(topic, timeout=10).topics[topic].partitions
        }
    finally:
        c.close()


@check
def contents_survive_byte_for_byte():
    topic = create(name("contents"), 2)
    sent = [
        (0, b"key", b"value", [("h", b"1"), ("h", b"2"), ("empty", b""), ("null", None)], 1_700_000_000_000),
        (0, None, b"no key", None, 1_700_000_000_001),
        (0, b"no value", None, None, 1_700_000_000_002),
        (0, b"", b"", None, 1_700_000_000_003),
        (0, bytes(range(256)), bytes(range(255, -1, -1)) * 100, [("\u00fcml\u00e4ut", b"\xff\x00")], 1_700_000_000_004),
    ]
    equal(sorted(produce(topic, sent)), [(0, i) for i in range(5)])
    for (_, key, value, headers, timestamp), message, offset in zip(sent, read(topic, 5), range(5)):
        equal(message.key(), key)
        equal(message.value(), value)
        equal(message.headers() or None, headers or None)
        equal(message.timestamp(), (TIMESTAMP_CREATE_TIME, timestamp))
        equal(message.offset(), offset)
    equal(read_watermarks(topic), {0: (0, 5), 1: (0, 0)})


@check
def every_codec_round_trips_and_topic_compression_wins():
    for codec in CODECS:
        topic = create(name(f"codec-{codec}"))
        messages = [(0, b"k%d" % i, (b"%s %d " % (codec.encode(), i)) * 50, [], 0) for i in range(500)]
        produce(topic, messages, compression_type=codec, linger_ms=20)
        equal([m.value() for m in read(topic, 500)], [m[2] for m in messages], codec)
        recoded = create(name(f"recoded-{codec}"), compression_type="uncompressed" if codec == "none" else codec)
        for sender in ("none", "gzip", "zstd"):
            produce(recoded, messages[:100], compression_type=sender, linger_ms=20)
        equal([m.value() for m in read(recoded, 300)], [m[2] for m in messages[:100]] * 3, f"recoded to {codec}")


@check
def idempotent_producer_keeps_order_and_counts():
    topic = create(name("idempotent"), 2)
    messages = [(i % 2, None, b"%06d" % i, [], 0) for i in range(20_000)]
    delivered = produce(topic, messages, enable_idempotence=True, linger_ms=2, batch_num_messages=100)
    equal(len(delivered), 20_000)
    for partition in (0, 1):
        got = [m.value() for m in read(topic, 10_000, partition)]
        equal(got, [m[2] for m in messages if m[0] == partition], f"partition {partition}")


@check
def acks_zero_and_one_arrive():
    topic = create(name("acks"))
    produce(topic, simple(100), acks="0")
    eventually(lambda: read_watermarks(topic)[0] == (0, 100), "100 messages sent with acks=0")
    equal(sorted(produce(topic, simple(10), acks="1")), [(0, 100 + i) for i in range(10)])


@check
def log_append_time_is_the_brokers():
    topic = create(name("append-time"), message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    produce(topic, [(0, None, b"x", [], 1_000_000_000_000)] * 3, compression_type="lz4")
    for message in read(topic, 3):
        kind, timestamp = message.timestamp()
        equal(kind, TIMESTAMP_LOG_APPEND_TIME)
        equal(before - 5000 <= timestamp <= before + 60_000, True, f"{timestamp} is near {before}")


@check
def offsets_are_found_by_time_and_kind():
    topic = create(name("times"))
    produce(topic, [(0, None, b"%d" % i, [], 1_700_000_000_000 + i * 1000) for i in range(100)], linger_ms=0)
    c = consumer()
    for timestamp, wanted in [(0, 0), (1_700_000_050_000, 50), (1_700_000_050_001, 51), (1_800_000_000_000, -1)]:
        found = c.offsets_for_times([TopicPartition(topic, 0, timestamp)], timeout=10)[0]
        equal(found.error, None)
        equal(found.offset, wanted, f"offset for {timestamp}")
    c.close()
    part = TopicPartition(topic, 0)
    for spec, wanted in [(OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 100), (OffsetSpec.max_timestamp(), 99)]:
        result = done(admin.list_offsets({part: spec}, isolation_level=IsolationLevel.READ_COMMITTED))[part]
        equal(result.offset, wanted, str(spec))


@check
def seek_pause_and_resume():
    topic = create(name("seek"), 2)
    produce(topic, simple(100, 0) + simple(100, 1))
    c = consumer()
    c.assign([TopicPartition(topic, 0, 90), TopicPartition(topic, 1, 95)])
    equal(sorted((m.partition(), m.offset()) for m in take(c, 15)), [(0, i) for i in range(90, 100)] + [(1, i) for i in range(95, 100)])
    c.pause([TopicPartition(topic, 0)])
    c.seek(TopicPartition(topic, 1, 97))
    produce(topic, simple(5, 0))
    equal([(m.partition(), m.offset()) for m in take(c, 3)], [(1, 97), (1, 98), (1, 99)])
    c.resume([TopicPartition(topic, 0)])
    equal([(m.partition(), m.offset()) for m in take(c, 5)], [(0, 100 + i) for i in range(5)])
    c.close()


@check
def an_offset_out_of_range_resets():
    topic = create(name("range"))
    produce(topic, simple(10))
    equal(take_from(topic, 1000, "earliest"), 0)
    c = consumer(auto_offset_reset="error")
    c.assign([TopicPartition(topic, 0, 1000)])
    error = eventually(lambda: next((m.error() for m in [c.poll(0.2)] if m and m.error()), None), "an error")
    equal(error.code() in (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET), True, str(error))
    c.close()


def take_from(topic, offset, reset):
    c = consumer(auto_offset_reset=reset)
    c.assign([TopicPartition(topic, 0, offset)])
    try:
        return take(c, 1)[0].offset()
    finally:
        c.close()


@check
def large_messages_pass_and_too_large_ones_are_refused():
    topic = create(name("large"), max_message_bytes="6000000")
    big = os.urandom(5_000_000)
    produce(topic, [(0, None, big, [], 0), (0, None, b"after", [], 0)], message_max_bytes=8_000_000)
    got = read(topic, 2, fetch_message_max_bytes=1000, max_partition_fetch_bytes=1000)
    equal([m.value() == big for m in got], [True, False])
    small = create(name("small"), max_message_bytes="1000")
    try:
        produce(small, [(0, None, os.urandom(5000), [], 0)])
    except AssertionError as error:
        equal("Message size too large" in str(error) or "too large" in str(error), True, str(error))
    else:
        raise AssertionError("a message above max.message.bytes was taken")


def grouped(assignor, group, topic, **config):
    c = consumer(group, partition_assignment_strategy=assignor, session_timeout_ms=6000, heartbeat_interval_ms=500, **config)
    c.subscribe([topic])
    return c


def group_splits_and_recovers(assignor):
    topic, group = create(name(f"group-{assignor}"), 4), name(f"group-{assignor}")
    first = grouped(assignor, group, topic)
    eventually(lambda: (first.poll(0.1), len(first.assignment()) == 4)[1], "the first member has everything")
    second = grouped(assignor, group, topic)
    members = [first, second]

    def settled():
        for member in members:
            member.poll(0.1)
        owned = [{p.partition for p in member.assignment()} for member in members]
        return len(owned[0]) == len(owned[1]) == 2 and owned[0] | owned[1] == {0, 1, 2, 3}

    eventually(settled, "two partitions each")
    produce(topic, [m for p in range(4) for m in simple(50, p)])
    seen = set()

    def drained():
        for member in members:
            message = member.poll(0.05)
            if message and not message.error():
                seen.add((message.partition(), message.offset()))
        return len(seen) == 200

    eventually(drained, "all 200 messages between two members")
    for member in members:
        member.commit(asynchronous=False)
    described = done(admin.describe_consumer_groups([group]))[group]
    equal(described.state.name, "STABLE")
    equal(len(described.members), 2)
    equal(sorted(p.partition for m in described.members for p in m.assignment.topic_partitions), [0, 1, 2, 3])
    second.close()
    eventually(lambda: (first.poll(0.1), len(first.assignment()) == 4)[1], "the first member has everything again")
    first.close()
    third = grouped(assignor, group, topic)
    produce(topic, [m for p in range(4) for m in simple(1, p)])
    equal(sorted((m.partition(), m.offset()) for m in take(third, 4)), [(p, 50) for p in range(4)], "resumed at the commits")
    third.close()


@check
def an_eager_group_rebalances_and_resumes():
    group_splits_and_recovers("range")


@check
def a_round_robin_group_rebalances_and_resumes():
    group_splits_and_recovers("roundrobin")


@check
def a_cooperative_group_rebalances_and_resumes():
    group_splits_and_recovers("cooperative-sticky")


@check
def a_static_member_keeps_its_place():
    topic, group = create(name("static"), 2), name("static")
    first = grouped("range", group, topic, group_instance_id="one")
    eventually(lambda: (first.poll(0.1), len(first.assignment()) == 2)[1], "assigned")
    first.close()  # a static member does not leave
    described = done(admin.describe_consumer_groups([group]))[group]
    equal([m.group_instance_id for m in described.members], ["one"])
    again = grouped("range", group, topic, group_instance_id="one")
    eventually(lambda: (again.poll(0.1), len(again.assignment()) == 2)[1], "assigned again")
    again.close()
    eventually(
        lambda: done(admin.describe_consumer_groups([group]))[group].state.name == "EMPTY",
        "the session of the static member ends",
    )


@check
def groups_are_listed_altered_and_deleted():
    topic, group = create(name("offsets"), 2), name("offsets")
    produce(topic, simple(20, 0) + simple(20, 1))
    c = consumer(group)
    c.assign([TopicPartition(topic, 0), TopicPartition(topic, 1)])
    c.commit(offsets=[TopicPartition(topic, 0, 7, metadata="seven"), TopicPartition(topic, 1, 8)], asynchronous=False)
    committed = c.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], timeout=10)
    equal([(p.offset, p.metadata or "") for p in committed], [(7, "seven"), (8, "")])
    c.close()
    listed = admin.list_consumer_groups(request_timeout=10).result()
    equal(listed.errors, [])
    equal(group in [g.group_id for g in listed.valid], True, "the group is listed")
    offsets = done(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))[group]
    equal(sorted((p.partition, p.offset) for p in offsets.topic_partitions), [(0, 7), (1, 8)])
    done(admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 3)])]))
    c = consumer(group)
    equal([p.offset for p in c.committed([TopicPartition(topic, 0)], timeout=10)], [3])
    c.close()
    done(admin.delete_consumer_groups([group]))
    equal(group in [g.group_id for g in admin.list_consumer_groups(request_timeout=10).result().valid], False)
    try:
        done(admin.delete_consumer_groups([name("absent")]))
    except KafkaException as error:
        equal(error.args[0].code(), KafkaError.GROUP_ID_NOT_FOUND)


@check
def records_are_deleted_from_the_front():
    topic = create(name("delete-records"))
    produce(topic, simple(100))
    part = TopicPartition(topic, 0, 60)
    result = done(admin.delete_records([part]))
    equal([r.low_watermark for r in result.values()], [60])
    equal(read_watermarks(topic)[0], (60, 100))
    equal(read(topic, 1)[0].offset(), 60)


@check
def a_long_poll_wakes_up_for_one_message():
    topic = create(name("long-poll"))
    c = consumer(fetch_wait_max_ms=10_000, fetch_min_bytes=1)
    c.assign([TopicPartition(topic, 0, 0)])
    equal(c.poll(1.0), None)
    produce(topic, simple(1))
    equal(take(c, 1, seconds=8)[0].offset(), 0)
    c.close()


@check
def a_topic_is_created_by_producing_to_it():
    topic = name("auto-created")
    equal(produce(topic, [(-1, b"k", b"v", [], 0)]), [(0, 0)])
    equal(read(topic, 1)[0].value(), b"v")


def committed(topic):
    """Values up to where a reader of committed messages may read."""
    c = consumer(isolation_level="read_committed", enable_partition_eof=True)
    c.assign([TopicPartition(topic, 0, 0)])
    found = []
    while True:
        message = c.poll(10)
        if message is None or (message.error() and message.error().code() == KafkaError._PARTITION_EOF):
            c.close()
            return found
        if message.error():
            raise KafkaException(message.error())
        found.append(message.value().decode())


@check
def transactions_are_seen_whole_or_not_at_all():
    source, topic, group = create(name("tx-source")), create(name("tx")), name("tx")
    produce(source, simple(10))
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "transactional.id": name("tx")})
    producer.init_transactions(30)
    reader = consumer(group=group, isolation_level="read_committed")
    reader.subscribe([source])
    messages = take(reader, 10)
    for values, offset, commit in [(["a", "b"], 3, True), (["lost"], 7, False), (["c"], 5, True)]:
        producer.begin_transaction()
        for value in values:
            producer.produce(topic, value)
        producer.send_offsets_to_transaction([TopicPartition(source, 0, offset)], reader.consumer_group_metadata(), 30)
        producer.commit_transaction(30) if commit else producer.abort_transaction(30)
    equal(len(messages), 10)
    eventually(lambda: committed(topic) == ["a", "b", "c"], "the committed messages")
    equal([p.offset for p in reader.committed([TopicPartition(source, 0)], timeout=30)], [5])
    reader.close()
    fenced = Producer({"bootstrap.servers": BOOTSTRAP, "transactional.id": name("tx")})
    fenced.init_transactions(30)
    try:
        producer.begin_transaction()
        producer.produce(topic, "late")
        producer.commit_transaction(30)
    except KafkaException as error:
        equal(error.args[0].code() in (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED), True, str(error))
    else:
        raise AssertionError("a fenced producer committed")
    equal(committed(topic), ["a", "b", "c"])


main()
