"""aiokafka against BOOTSTRAP."""

import asyncio
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from checks import BOOTSTRAP, check, equal, main, name

CODECS = [None, "gzip", "snappy", "lz4", "zstd"]


class admin:
    """`async with admin() as a` is a started admin client."""

    async def __aenter__(self):
        self.client = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
        await self.client.start()
        return self.client

    async def __aexit__(self, *_):
        await self.client.close()


async def create(topic, partitions=1, **configs):
    configs = {k.replace("_", "."): v for k, v in configs.items()}
    async with admin() as a:
        reply = await a.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)])
        for _, code, message in reply.topic_errors:
            if code:
                raise errors.for_code(code)(message)
    return topic


async def produce(topic, messages, **config):
    """Sends (partition, key, value, headers, timestamp) tuples; the metadata of each in order."""
    async with AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, **config) as producer:
        futures = [
            await producer.send(topic, value, key, partition, timestamp_ms=timestamp, headers=headers)
            for partition, key, value, headers, timestamp in messages
        ]
        return await asyncio.gather(*futures)


def simple(count, partition=0, start=0):
    return [(partition, b"k%d" % i, b"value %d" % i, None, None) for i in range(start, start + count)]


async def take(consumer, count, seconds=30):
    found = []

    async def more():
        while len(found) < count:
            for records in (await consumer.getmany(timeout_ms=200, max_records=count - len(found))).values():
                found.extend(records)

    try:
        await asyncio.wait_for(more(), seconds)
    except asyncio.TimeoutError:
        raise AssertionError(f"only {len(found)} of {count} messages") from None
    return found


def consumer(*topics, **config):
    defaults = {"auto_offset_reset": "earliest", "enable_auto_commit": False}
    return AIOKafkaConsumer(*topics, bootstrap_servers=BOOTSTRAP, **{**defaults, **config})


async def read(topic, count, partition=0, **config):
    async with consumer(**config) as c:
        c.assign([TopicPartition(topic, partition)])
        return await take(c, count)


async def eventually(condition, what, seconds=30):
    for _ in range(seconds * 20):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


@check
async def topics_are_described_grown_and_deleted():
    topic = await create(name("topic"), 2, retention_ms="86400000")
    try:
        await create(topic)
    except errors.TopicAlreadyExistsError:
        pass
    else:
        raise AssertionError("the topic was created twice")
    async with admin() as a:
        equal(len((await a.describe_cluster())["brokers"]), 1)
        equal(len((await a.describe_topics([topic]))[0]["partitions"]), 2)
        reply = (await a.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))[0]
        entries = {entry[0]: entry[1] for entry in reply.resources[0][4]}
        equal(entries["retention.ms"], "86400000")
        await a.create_partitions({topic: NewPartitions(5)})
        for _ in range(100):
            if len((await a.describe_topics([topic]))[0]["partitions"]) == 5:
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError("the topic did not grow")
        equal([code for _, code in (await a.delete_topics([topic])).topic_error_codes], [0])
        for _ in range(100):
            if topic not in await a.list_topics():
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError("the topic is still there")


@check
async def contents_survive_byte_for_byte():
    topic = await create(name("contents"))
    sent = [
        (0, b"key", b"value", [("h", b"1"), ("h", b"2"), ("empty", b"")], 1_700_000_000_000),
        (0, None, b"no key", None, 1_700_000_000_001),
        (0, b"no value", None, None, 1_700_000_000_002),
        (0, bytes(range(256)), bytes(range(255, -1, -1)) * 100, [("\u00fcml\u00e4ut", b"\xff\x00")], 1_700_000_000_003),
    ]
    equal([(m.partition, m.offset) for m in await produce(topic, sent)], [(0, i) for i in range(4)])
    for message, (_, key, value, headers, timestamp) in zip(await read(topic, 4), sent):
        equal((message.key, message.value, list(message.headers)), (key, value, headers or []))
        equal((message.timestamp, message.timestamp_type), (timestamp, 0))


@check
async def every_codec_round_trips_and_topic_compression_wins():
    messages = [(0, b"k%d" % i, b"value %d " % i * 40, None, None) for i in range(300)]
    for codec in CODECS:
        topic = await create(name(f"codec-{codec}"))
        await produce(topic, messages, compression_type=codec, linger_ms=20)
        equal([m.value for m in await read(topic, 300)], [m[2] for m in messages], codec)
        recoded = await create(name(f"recoded-{codec}"), compression_type=codec or "uncompressed")
        for sender in (None, "gzip", "lz4"):
            await produce(recoded, messages[:50], compression_type=sender, linger_ms=20)
        equal([m.value for m in await read(recoded, 150)], [m[2] for m in messages[:50]] * 3, f"recoded to {codec}")


@check
async def idempotent_producer_keeps_order():
    topic = await create(name("idempotent"), 2)
    messages = [(i % 2, None, b"%06d" % i, None, None) for i in range(4000)]
    await produce(topic, messages, enable_idempotence=True, max_batch_size=1000)
    for partition in (0, 1):
        got = [m.value for m in await read(topic, 2000, partition)]
        equal(got, [m[2] for m in messages if m[0] == partition])


@check
async def acks_zero_and_one_arrive():
    topic = await create(name("acks"))
    await produce(topic, simple(50), acks=0)
    equal(len(await read(topic, 50)), 50)
    equal([m.offset for m in await produce(topic, simple(5), acks=1)], list(range(50, 55)))


@check
async def seek_pause_and_times():
    topic = await create(name("seek"), 2)
    stamped = [(1, None, b"%d" % i, None, 1_700_000_000_000 + i) for i in range(50)]
    await produce(topic, simple(50) + stamped)
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    async with consumer() as c:
        c.assign([zero, one])
        equal(await c.beginning_offsets([zero, one]), {zero: 0, one: 0})
        equal(await c.end_offsets([zero, one]), {zero: 50, one: 50})
        equal((await c.offsets_for_times({one: 1_700_000_000_020}))[one].offset, 20)
        equal((await c.offsets_for_times({one: 1_800_000_000_000}))[one], None)
        c.seek(zero, 45)
        c.seek(one, 48)
        equal(sorted((m.partition, m.offset) for m in await take(c, 7)), [(0, i) for i in range(45, 50)] + [(1, 48), (1, 49)])
        c.pause(zero)
        c.seek(zero, 0)
        c.seek(one, 49)
        equal([(m.partition, m.offset) for m in await take(c, 1)], [(1, 49)])
        c.resume(zero)
        equal([(m.partition, m.offset) for m in await take(c, 2)], [(0, 0), (0, 1)])


class Assigned(ConsumerRebalanceListener):
    """Remembers how often partitions were given out."""

    count = 0

    async def on_partitions_revoked(self, revoked):
        pass

    async def on_partitions_assigned(self, assigned):
        self.count += 1


async def group_splits_and_resumes(assignor):
    topic, group = await create(name(f"group-{assignor.name}"), 4), name(f"group-{assignor.name}")

    def member(listener=None):
        c = consumer(
            group_id=group, partition_assignment_strategy=[assignor], session_timeout_ms=6000, heartbeat_interval_ms=300
        )
        c.subscribe([topic], listener=listener or Assigned())
        return c

    listener = Assigned()
    first = member(listener)
    await first.start()
    await eventually(lambda: len(first.assignment()) == 4, "the first member has everything")
    second = member()
    await second.start()
    await eventually(lambda: (len(first.assignment()), len(second.assignment())) == (2, 2), "two partitions each")
    equal({p.partition for p in first.assignment() | second.assignment()}, {0, 1, 2, 3})
    await produce(topic, [m for p in range(4) for m in simple(20, p)])
    got = await asyncio.gather(take(first, 40), take(second, 40))
    equal(sorted((m.partition, m.offset) for part in got for m in part), [(p, i) for p in range(4) for i in range(20)])
    await first.commit()
    await second.commit()
    await second.stop()
    await eventually(lambda: len(first.assignment()) == 4, "the first member has everything again")
    equal(listener.count >= 3, True, "three assignments")
    await first.stop()
    await produce(topic, [m for p in range(4) for m in simple(1, p)])
    third = member()
    await third.start()
    equal(sorted((m.partition, m.offset) for m in await take(third, 4)), [(p, 20) for p in range(4)])
    await third.stop()


@check
async def a_range_group_rebalances_and_resumes():
    await group_splits_and_resumes(RangePartitionAssignor)


@check
async def a_round_robin_group_rebalances_and_resumes():
    await group_splits_and_resumes(RoundRobinPartitionAssignor)


@check
async def a_sticky_group_rebalances_and_resumes():
    await group_splits_and_resumes(StickyPartitionAssignor)


@check
async def a_static_member_comes_back():
    topic, group = await create(name("static"), 2), name("static")
    for _ in range(2):
        c = consumer(topic, group_id=group, group_instance_id="one", session_timeout_ms=6000, heartbeat_interval_ms=300)
        await c.start()
        await eventually(lambda: len(c.assignment()) == 2, "assigned")
        await c.stop()


@check
async def groups_are_listed_and_described():
    topic, group = await create(name("offsets")), name("offsets")
    await produce(topic, simple(10))
    async with consumer(topic, group_id=group) as c:
        await take(c, 10)
        await c.commit({TopicPartition(topic, 0): (7, "seven")})
        equal(await c.committed(TopicPartition(topic, 0)), 7)
        async with admin() as a:
            equal(group in [g[0] for g in await a.list_consumer_groups()], True, "the group is listed")
            described = (await a.describe_consumer_groups([group]))[0].groups[0]
            equal((described[1], described[2], described[3]), (group, "Stable", "consumer"))
            found = await a.list_consumer_group_offsets(group)
            equal([(o.offset, o.metadata) for o in found.values()], [(7, "seven")])


@check
async def records_are_deleted_from_the_front():
    topic = await create(name("delete-records"))
    await produce(topic, simple(100))
    part = TopicPartition(topic, 0)
    async with admin() as a:
        equal(await a.delete_records({part: RecordsToDelete(60)}), {part: 60})
    equal((await read(topic, 1))[0].offset, 60)


@check
async def a_large_message_passes_and_too_large_a_one_is_refused():
    topic = await create(name("large"), max_message_bytes="4000000")
    big = os.urandom(3_000_000)
    await produce(topic, [(0, None, big, None, None)], max_request_size=5_000_000)
    equal((await read(topic, 1, max_partition_fetch_bytes=1000))[0].value == big, True)
    small = await create(name("small"), max_message_bytes="1000")
    try:
        await produce(small, [(0, None, os.urandom(5000), None, None)])
    except errors.MessageSizeTooLargeError:
        pass
    else:
        raise AssertionError("a message above max.message.bytes was taken")


@check
async def a_long_poll_wakes_up_and_auto_creation_works():
    topic = name("auto-created")
    await produce(topic, [(None, b"k", b"v", None, None)])
    async with consumer(fetch_max_wait_ms=10_000) as c:
        c.assign([TopicPartition(topic, 0)])
        await take(c, 1)
        waiting = asyncio.create_task(take(c, 1, seconds=8))
        await asyncio.sleep(0.5)
        await produce(topic, simple(1))
        equal((await waiting)[0].offset, 1)


main()
