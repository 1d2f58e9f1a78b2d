"""log: starts and stops with thousands of partitions, recovery of unflushed data after kill -9, CPU of compaction"""

import re
import resource
import signal
import socket
import struct
import sys
import time

from harness import Broker, cpu_seconds, resident_mib, table

BATCH_RECORDS = 900
VALUE = b"v" * 1000
UNKNOWN_TOPIC_OR_PARTITION = 3


def arguments(parser):
    parser.add_argument("--partitions", type=int, default=5_000)
    parser.add_argument("--unflushed-mib", type=int, default=4_096, help="data after the recovery point when the broker is killed")
    parser.add_argument("--compact-mib", type=int, default=2_048)
    parser.add_argument("--log-parts", default="partitions,recovery,compaction")


# ---- a client that is small enough to send much and wait little


def varint(number):
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def crc_table():
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        yield byte


TABLE = list(crc_table())


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[crc & 0xFF ^ byte]
    return crc ^ 0xFFFFFFFF


def batch(records, timestamp):
    """A record batch of (key or None, value)."""
    body = bytearray()
    for at, (key, value) in enumerate(records):
        record = b"\0" + varint(0) + varint(at) + (varint(-1) if key is None else varint(len(key)) + key) + varint(len(value)) + value + varint(0)
        body += varint(len(record)) + record
    counted = struct.pack(">hiqqqhii", 0, len(records) - 1, timestamp, timestamp, -1, -1, -1, len(records)) + bytes(body)
    return struct.pack(">qiibI", 0, len(counted) + 9, 0, 2, crc32c(counted)) + counted


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


class Client:
    def __init__(self, bootstrap):
        host, port = bootstrap.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=120)

    def call(self, key, version, *body):
        head = struct.pack(">hhi", key, version, 1) + string("bench")
        size = len(head) + sum(map(len, body))
        self.socket.sendall(struct.pack(">i", size) + head)
        for part in body:
            self.socket.sendall(part)
        return self.read(struct.unpack(">i", self.read(4))[0])[4:]

    def read(self, size):
        parts = bytearray()
        while len(parts) < size:
            more = self.socket.recv(min(size - len(parts), 1 << 20))
            if not more:
                raise OSError("closed")
            parts += more
        return bytes(parts)

    def produce(self, topic, batches):
        """Sends one batch to each of the partitions."""
        body = [struct.pack(">hhii", -1, 1, 60_000, 1), string(topic), struct.pack(">i", len(batches))]
        for partition, records in batches.items():
            body += [struct.pack(">ii", partition, len(records)), records]
        for _ in range(600):
            errors = set(self.errors(self.call(0, 3, *body), topic, ">ihqq"))
            if not errors - {0}:
                return
            # A broker that has just started may know its logs before it knows its topics.
            if not errors <= {0, UNKNOWN_TOPIC_OR_PARTITION}:
                break
            time.sleep(0.1)
        sys.exit(f"produce failed: {errors}")

    def end_offsets(self, topic, count):
        """Error codes of asking every partition for its end: all 0 when all are served."""
        body = struct.pack(">ii", -1, 1) + string(topic) + struct.pack(">i", count)
        body += b"".join(struct.pack(">iq", partition, -1) for partition in range(count))
        return self.errors(self.call(2, 1, body), topic, ">ihqq")

    @staticmethod
    def errors(reply, topic, layout):
        at = 4 + 2 + len(topic)
        count = struct.unpack_from(">i", reply, at)[0]
        size = struct.calcsize(layout)
        return [struct.unpack_from(layout, reply, at + 4 + size * n)[1] for n in range(count)]


def await_served(broker, topic, count):
    """Waits until every partition says where it ends."""
    for _ in range(60_000):
        try:
            if not any(Client(broker.bootstrap).end_offsets(topic, count)):
                return time.monotonic()
        except OSError:
            pass
        time.sleep(0.02)
    sys.exit(f"{broker.kind}: not all partitions are served")


def start_again(broker, topic, count):
    """Seconds from exec until every partition is served."""
    began = time.monotonic()
    broker.start()
    return await_served(broker, topic, count) - began


def create(broker, topic, partitions, *configs):
    settings = [word for config in configs for word in ("--config", config)]
    patience = broker.dir / "patience.properties"
    patience.write_text("request.timeout.ms=300000\ndefault.api.timeout.ms=300000\n")
    broker.tool("kafka-topics", "--bootstrap-server", broker.bootstrap, "--command-config", patience, "--create", "--topic", topic,
                "--partitions", partitions, "--replication-factor", 1, *settings)
    await_served(broker, topic, partitions)


def add(found, kind, name, value):
    found.setdefault(kind, {}).setdefault(name, []).append(value)
    print(f"  {kind}: {name}: {value:.2f}", file=sys.stderr)


def measure_partitions(found, kind, count):
    records = batch([(None, b"one")], int(time.time() * 1000))
    touch = lambda broker: Client(broker.bootstrap).produce("many", {partition: records for partition in range(count)})
    with Broker(kind) as broker:
        create(broker, "many", count)
        touch(broker)
        add(found, kind, "clean stop, all written, s", broker.stop())
        add(found, kind, "clean start, s", start_again(broker, "many", count))
        add(found, kind, "resident, MiB", resident_mib(broker.pids))
        add(found, kind, "clean stop, none written, s", broker.stop())
        start_again(broker, "many", count)
        touch(broker)
        broker.stop(signal.SIGKILL)
        add(found, kind, "start after kill -9, s", start_again(broker, "many", count))


def measure_recovery(found, kind, mib):
    partitions = 8
    records = batch([(None, VALUE)] * BATCH_RECORDS, int(time.time() * 1000))
    # No roll, and so no flush.
    with Broker(kind, ["log.segment.bytes=2147483647"]) as broker:
        create(broker, "unflushed", partitions)
        client = Client(broker.bootstrap)
        for _ in range(max(mib * 2**20 // (len(records) * partitions), 1)):
            client.produce("unflushed", {partition: records for partition in range(partitions)})
        broker.stop(signal.SIGKILL)
        add(found, kind, "recovery, s", start_again(broker, "unflushed", partitions))
        add(found, kind, "recovery, CPU s", cpu_seconds([broker.process.pid]))


def measure_compaction(found, kind, mib):
    keyed = [batch([(b"key %d" % (n * BATCH_RECORDS + at), VALUE) for at in range(BATCH_RECORDS)], int(time.time() * 1000)) for n in range(40)]
    with Broker(kind, ["log.cleaner.backoff.ms=500", "log.initial.task.delay.ms=500"]) as broker:
        create(broker, "compacted", 1, "segment.bytes=67108864")
        client = Client(broker.bootstrap)
        count = max(mib * 2**20 // len(keyed[0]), 200)
        for n in range(count):
            client.produce("compacted", {0: keyed[n % len(keyed)]})
        # Writing back is not what is measured.
        time.sleep(3)
        before = cpu_seconds([broker.process.pid])
        began = time.monotonic()
        broker.tool("kafka-configs", "--bootstrap-server", broker.bootstrap, "--alter", "--topic", "compacted", "--add-config",
                    "cleanup.policy=compact,min.cleanable.dirty.ratio=0.01")
        # All but the active segment, which is smaller than this.
        goal = (count - 75) * BATCH_RECORDS
        while cleaned(broker) < goal:
            if time.monotonic() - began > 900:
                sys.exit(f"{kind}: nothing is compacted")
            time.sleep(0.1)
        gb = count * len(keyed[0]) / 1e9
        add(found, kind, "compaction, CPU s per GB", (cpu_seconds([broker.process.pid]) - before) / gb)
        add(found, kind, "compaction, s per GB", (time.monotonic() - began) / gb)


def cleaned(broker):
    try:
        text = (broker.dir / "logs" / "cleaner-offset-checkpoint").read_text()
    except OSError:
        return 0
    return int((re.search(r"^compacted 0 (\d+)$", text, re.M) or [0, 0])[1])


def run(kinds, options):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    parts = {
        "partitions": (lambda found, kind: measure_partitions(found, kind, options.partitions), f"{options.partitions} partitions"),
        "recovery": (lambda found, kind: measure_recovery(found, kind, options.unflushed_mib), f"{options.unflushed_mib} MiB unflushed"),
        "compaction": (lambda found, kind: measure_compaction(found, kind, options.compact_mib), f"{options.compact_mib} MiB compacted"),
    }
    for part in options.log_parts.split(","):
        measure, title = parts[part]
        found = {}
        for _ in range(options.runs):
            for kind in kinds:
                measure(found, kind)
        table(title, found)
