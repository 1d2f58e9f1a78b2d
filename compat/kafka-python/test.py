"""kafka-python against BOOTSTRAP; as it can be told to speak as an old client, also the old message formats."""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from checks import BOOTSTRAP, check, equal, eventually, main, name
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition, errors
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.structs import OffsetAndMetadata

CODECS = [None, "gzip", "snappy", "lz4", "zstd"]
# How long one poll may take while a group forms: when a poll ends just before the answer to SyncGroup, this client version forgets its
# assignment for good, so the polls must be long against the delays of a busy machine.
JOIN_MS = 1000
admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)


def create(topic, partitions=1, **configs):
    configs = {k.replace("_", "."): v for k, v in configs.items()}
    admin.create_topics(
        {topic: {"num_partitions": partitions, "replication_factor": 1, "configs": configs}}, wait_for_metadata=True
    )
    return topic


def produce(topic, messages, **config):
    """Sends (partition, key, value, headers, timestamp) tuples; the metadata of each in order."""
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, **config)
    futures = [
        producer.send(topic, value=value, key=key, partition=partition, headers=headers or None, timestamp_ms=timestamp)
        for partition, key, value, headers, timestamp in messages
    ]
    producer.flush(60)
    sent = [future.get(30) for future in futures]
    producer.close()
    return sent


def simple(count, partition=0, start=0):
    return [(partition, b"k%d" % i, b"value %d" % i, None, None) for i in range(start, start + count)]


def consumer(group=None, *topics, **config):
    defaults = {"auto_offset_reset": "earliest", "enable_auto_commit": False}
    return KafkaConsumer(*topics, bootstrap_servers=BOOTSTRAP, group_id=group, **{**defaults, **config})


def take(c, count, seconds=30):
    found, end = [], time.monotonic() + seconds
    while len(found) < count:
        if time.monotonic() > end:
            raise AssertionError(f"only {len(found)} of {count} messages")
        for records in c.poll(timeout_ms=200, max_records=count - len(found)).values():
            found.extend(records)
    return found


def read(topic, count, partition=0, **config):
    c = consumer(**config)
    part = TopicPartition(topic, partition)
    c.assign([part])
    c.seek_to_beginning(part)
    try:
        return take(c, count)
    finally:
        c.close()


def fails_with(error_class, action):
    try:
        result = action()
    except error_class:
        return
    raise AssertionError(f"no {error_class.__name__}, but {result}")


@check
def cluster_topics_and_configs_are_described():
    topic = create(name("described"), 3, retention_ms="86400000")
    cluster = admin.describe_cluster()
    equal(len(cluster["brokers"]), 1)
    equal(cluster["controller_id"], cluster["brokers"][0].get("broker_id", cluster["brokers"][0].get("node_id")))
    described = admin.describe_topics([topic])[0]
    equal(sorted(p["partition_index"] for p in described["partitions"]), [0, 1, 2])
    equal({tuple(p["isr_nodes"]) for p in described["partitions"]}, {(cluster["controller_id"],)})
    found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")
    entries = next(iter(found.values()))[topic]
    equal(entries["retention.ms"]["value"], "86400000")
    equal(entries["segment.bytes"]["value"], "1073741824")
    dirs = admin.describe_log_dirs()
    if topic not in str(dirs):
        raise AssertionError(f"the topic is in no log directory: {str(dirs)[:300]}")


@check
def topics_are_created_grown_and_deleted_with_the_right_errors():
    topic = create(name("grown"), 1)
    fails_with(errors.TopicAlreadyExistsError, lambda: create(topic))
    fails_with(errors.InvalidTopicError, lambda: create(name("no/slash")))
    fails_with(errors.InvalidPartitionsError, lambda: admin.create_partitions({topic: 1}))
    fails_with(errors.InvalidConfigurationError, lambda: create(name("config"), segment_bytes="many"))
    fails_with(errors.UnknownTopicOrPartitionError, lambda: admin.delete_topics([name("absent")]))
    admin.create_partitions({topic: 3})
    eventually(lambda: len(admin.describe_topics([topic])[0]["partitions"]) == 3, "three partitions")
    admin.delete_topics([topic])
    eventually(lambda: topic not in admin.list_topics(), "the topic is gone")


@check
def contents_survive_byte_for_byte():
    topic = create(name("contents"))
    sent = [
        (0, b"key", b"value", [("h", b"1"), ("h", b"2"), ("empty", b"")], 1_700_000_000_000),
        (0, None, b"no key", None, 1_700_000_000_001),
        (0, b"no value", None, None, 1_700_000_000_002),
        (0, b"", b"", None, 1_700_000_000_003),
        (0, bytes(range(256)), bytes(range(255, -1, -1)) * 100, [("\u00fcml\u00e4ut", b"\xff\x00")], 1_700_000_000_004),
    ]
    equal([(m.partition, m.offset) for m in produce(topic, sent)], [(0, i) for i in range(5)])
    for message, (_, key, value, headers, timestamp) in zip(read(topic, 5), sent):
        equal((message.key, message.value), (key, value))
        equal(list(message.headers), headers or [])
        equal((message.timestamp, message.timestamp_type), (timestamp, 0))


@check
def every_codec_round_trips_and_topic_compression_wins():
    messages = [(0, b"k%d" % i, b"value %d " % i * 40, None, None) for i in range(300)]
    for codec in CODECS:
        topic = create(name(f"codec-{codec}"))
        produce(topic, messages, compression_type=codec, linger_ms=20)
        equal([m.value for m in read(topic, 300)], [m[2] for m in messages], codec)
        recoded = create(name(f"recoded-{codec}"), compression_type=codec or "uncompressed")
        for sender in (None, "lz4", "snappy"):
            produce(recoded, messages[:100], compression_type=sender, linger_ms=20)
        equal([m.value for m in read(recoded, 300)], [m[2] for m in messages[:100]] * 3, f"recoded to {codec}")


@check
def old_message_formats_are_converted_both_ways():
    for version in [(0, 8, 2), (0, 9), (0, 10), (0, 10, 1), (0, 11), (1, 0)]:
        label = ".".join(map(str, version))
        # The framing of lz4 before 0.10 had a wrong checksum, which this client does not write.
        for codec in [None, "gzip", "snappy"] + (["lz4"] if version >= (0, 10) else []):
            topic = create(name(f"old-{label}-{codec}"))
            messages = [(0, b"k%d" % i, b"value %d " % i * 10, None, None) for i in range(50)]
            old = {"api_version": version, "enable_idempotence": False} if version < (0, 11) else {"api_version": version}
            sent = produce(topic, messages, compression_type=codec, linger_ms=20, **old)
            equal([m.offset for m in sent], list(range(50)), f"{label} {codec}")
            for reader in [{}, {"api_version": version}]:
                got = read(topic, 50, **reader)
                equal([(m.offset, m.key, m.value) for m in got], [(i, m[1], m[2]) for i, m in enumerate(messages)])
            produce(topic, messages, compression_type=codec, linger_ms=20)
            equal([m.value for m in read(topic, 100, api_version=version)], [m[2] for m in messages] * 2, f"down to {label}")


@check
def idempotent_producer_keeps_order():
    topic = create(name("idempotent"), 2)
    messages = [(i % 2, None, b"%06d" % i, None, None) for i in range(4000)]
    sent = produce(topic, messages, enable_idempotence=True, batch_size=1000)
    equal([m.offset for m in sent if m.partition == 1], list(range(2000)))
    for partition in (0, 1):
        equal([m.value for m in read(topic, 2000, partition)], [m[2] for m in messages if m[0] == partition])


@check
def acks_zero_and_one_arrive():
    topic = create(name("acks"))
    produce(topic, simple(50), acks=0, enable_idempotence=False)
    equal(len(read(topic, 50)), 50)
    equal([m.offset for m in produce(topic, simple(5), acks=1, enable_idempotence=False)], list(range(50, 55)))


@check
def offsets_are_found_by_time_and_kind():
    topic = create(name("times"))
    produce(topic, [(0, None, b"%d" % i, None, 1_700_000_000_000 + i * 1000) for i in range(100)])
    part = TopicPartition(topic, 0)
    c = consumer()
    equal(c.offsets_for_times({part: 1_700_000_050_001})[part].offset, 51)
    equal(c.offsets_for_times({part: 1_700_000_050_000})[part].timestamp, 1_700_000_050_000)
    equal(c.offsets_for_times({part: 1_800_000_000_000})[part], None)
    equal(c.beginning_offsets([part]), {part: 0})
    equal(c.end_offsets([part]), {part: 100})
    c.close()
    for spec, offset in [(OffsetSpec.EARLIEST, 0), (OffsetSpec.LATEST, 100), (OffsetSpec.MAX_TIMESTAMP, 99)]:
        equal(admin.list_partition_offsets({part: spec})[part].offset, offset, str(spec))


@check
def seek_pause_resume_and_reset():
    topic = create(name("seek"), 2)
    produce(topic, simple(100, 0) + simple(100, 1))
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    c = consumer()
    c.assign([zero, one])
    c.seek(zero, 90)
    c.seek(one, 95)
    equal(sorted((m.partition, m.offset) for m in take(c, 15)), [(0, i) for i in range(90, 100)] + [(1, i) for i in range(95, 100)])
    c.pause(zero)
    c.seek(zero, 0)
    c.seek(one, 98)
    equal([(m.partition, m.offset) for m in take(c, 2)], [(1, 98), (1, 99)])
    c.resume(zero)
    equal([(m.partition, m.offset) for m in take(c, 3)], [(0, 0), (0, 1), (0, 2)])
    c.seek(zero, 5000)
    c.pause(one)
    equal(take(c, 1)[0].offset, 0, "reset to the earliest")
    c.close()


def group_splits_and_resumes(assignor):
    label = assignor.__name__
    topic, group = create(name(label), 4), name(label)

    def member():
        # Now and then this client sends no more heartbeats after two rebalances in quick succession, with Apache Kafka as often as
        # with Ottla. A session that outlasts the check keeps that out of it.
        return consumer(
            group, topic, partition_assignment_strategy=[assignor], session_timeout_ms=30000, heartbeat_interval_ms=300
        )

    first = member()
    eventually(lambda: (first.poll(JOIN_MS), len(first.assignment()) == 4)[1], "the first member has everything")
    second = member()

    def settled():
        for m in (first, second):
            m.poll(JOIN_MS)
        owned = [{p.partition for p in m.assignment()} for m in (first, second)]
        return len(owned[0]) == len(owned[1]) == 2 and owned[0] | owned[1] == {0, 1, 2, 3}

    eventually(settled, "two partitions each")
    produce(topic, [m for p in range(4) for m in simple(20, p)])
    seen = set()
    # After a cooperative rebalance this client version stops fetching the partitions that a member keeps: there only the
    # assignments are checked, and the commits begin at zero.
    keeps_fetching = assignor is not CooperativeStickyAssignor

    def drained():
        for m in (first, second):
            for records in m.poll(50).values():
                seen.update((r.partition, r.offset) for r in records)
        return len(seen) == 80

    if keeps_fetching:
        eventually(drained, "all messages between two members")
        first.commit()
        second.commit()
    described = admin.describe_groups([group])[group]
    equal(described["group_state"], "Stable")
    equal(len(described["members"]), 2)
    second.close()
    eventually(lambda: (first.poll(JOIN_MS), len(first.assignment()) == 4)[1], "the first member has everything again")
    first.close()
    produce(topic, [m for p in range(4) for m in simple(1, p)])
    third = member()
    wanted = [(p, i) for p in range(4) for i in range(20 if keeps_fetching else 0, 21)]
    equal(sorted((m.partition, m.offset) for m in take(third, len(wanted))), wanted, "resumed at the commits")
    third.close()


@check
def a_range_group_rebalances_and_resumes():
    group_splits_and_resumes(RangePartitionAssignor)


@check
def a_round_robin_group_rebalances_and_resumes():
    group_splits_and_resumes(RoundRobinPartitionAssignor)


@check
def a_cooperative_group_rebalances_and_resumes():
    group_splits_and_resumes(CooperativeStickyAssignor)


@check
def groups_of_old_clients_work():
    for version in [(0, 9), (0, 10, 1), (0, 11), (1, 0)]:
        label = ".".join(map(str, version))
        topic, group = create(name(f"group-{label}"), 2), name(f"old-{label}")
        produce(topic, simple(10, 0) + simple(10, 1))
        old = {"api_version": version}
        c = consumer(group, topic, session_timeout_ms=6000, heartbeat_interval_ms=300, **old)
        equal(len(take(c, 20)), 20, label)
        c.commit()
        equal(c.committed(TopicPartition(topic, 0)), 10, label)
        c.close()
        produce(topic, simple(1, 1))
        c = consumer(group, topic, session_timeout_ms=6000, heartbeat_interval_ms=300, **old)
        equal([(m.partition, m.offset) for m in take(c, 1)], [(1, 10)], label)
        c.close()


@check
def groups_are_listed_altered_and_deleted():
    topic, group = create(name("offsets"), 2), name("offsets")
    produce(topic, simple(20))
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    c = consumer(group)
    c.assign([zero, one])
    c.commit({zero: OffsetAndMetadata(7, "seven", -1), one: OffsetAndMetadata(0, "", -1)})
    equal(c.committed(zero, metadata=True).metadata, "seven")
    c.close()
    equal(group in [g["group_id"] for g in admin.list_groups()], True, "the group is listed")
    found = admin.list_group_offsets([group])[group]
    equal({p.partition: o.offset for p, o in found.items()}, {0: 7, 1: 0})
    admin.alter_group_offsets(group, {zero: OffsetAndMetadata(3, "", -1)})
    equal(admin.list_group_offsets({group: [zero]})[group][zero].offset, 3)
    admin.delete_group_offsets(group, [one])
    equal([p.partition for p in admin.list_group_offsets([group])[group]], [0])
    admin.delete_groups([group])
    equal(group in [g["group_id"] for g in admin.list_groups()], False, "the group is gone")


@check
def records_are_deleted_from_the_front():
    topic = create(name("delete-records"))
    produce(topic, simple(100))
    part = TopicPartition(topic, 0)
    admin.delete_records({part: 60})
    equal(read(topic, 1)[0].offset, 60)
    c = consumer()
    equal((c.beginning_offsets([part])[part], c.end_offsets([part])[part]), (60, 100))
    c.close()


@check
def a_large_message_passes_and_too_large_a_one_is_refused():
    topic = create(name("large"), max_message_bytes="4000000")
    big = os.urandom(3_000_000)
    produce(topic, [(0, None, big, None, None)], max_request_size=5_000_000)
    equal(read(topic, 1, max_partition_fetch_bytes=1000)[0].value == big, True)
    small = create(name("small"), max_message_bytes="1000")
    fails_with(errors.MessageSizeTooLargeError, lambda: produce(small, [(0, None, os.urandom(5000), None, None)]))


@check
def a_topic_is_created_by_producing_to_it():
    topic = name("auto-created")
    equal(produce(topic, [(None, b"k", b"v", None, None)])[0].offset, 0)
    equal(read(topic, 1)[0].value, b"v")


main()
