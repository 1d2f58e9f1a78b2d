"""A member that lives through the change of its broker: member.py BOOTSTRAP GROUP TOPIC [INSTANCE].

Prints `assigned PARTITIONS`, `revoked`, and `PARTITION OFFSET` of what it reads; ends at SIGTERM. Commits what it reads.
"""

import signal
import sys

from confluent_kafka import Consumer

bootstrap, group, topic = sys.argv[1:4]
ends = []
signal.signal(signal.SIGTERM, lambda *_: ends.append(True))
settings = {
    "bootstrap.servers": bootstrap,
    "client.id": "survivor",
    "group.id": group,
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "session.timeout.ms": 60000,
    "heartbeat.interval.ms": 500,
    "reconnect.backoff.max.ms": 500,
}
if len(sys.argv) > 4:
    settings["group.instance.id"] = sys.argv[4]
consumer = Consumer(settings)
consumer.subscribe(
    [topic],
    on_assign=lambda _, parts: print("assigned", *sorted(part.partition for part in parts), flush=True),
    on_revoke=lambda *_: print("revoked", flush=True),
)
while not ends:
    message = consumer.poll(0.2)
    if message is None or message.error():
        continue
    print(message.partition(), message.offset(), flush=True)
    while not ends:
        try:
            consumer.commit(message=message, asynchronous=False)
            break
        except Exception as error:  # the broker is away
            print(error, file=sys.stderr, flush=True)
consumer.close()
