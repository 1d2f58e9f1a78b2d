"""A member of a group in kafka-python: member.py BOOTSTRAP GROUP TOPIC. Prints `partition offset value` of what it reads; ends at SIGTERM."""

import signal
import sys

from kafka import KafkaConsumer
from kafka.coordinator.assignors.range import RangePartitionAssignor

bootstrap, group, topic = sys.argv[1:]
ends = []
signal.signal(signal.SIGTERM, lambda *_: ends.append(True))
consumer = KafkaConsumer(
    topic,
    bootstrap_servers=bootstrap,
    client_id="kafka-python",
    group_id=group,
    auto_offset_reset="earliest",
    enable_auto_commit=False,
    session_timeout_ms=30000,
    partition_assignment_strategy=[RangePartitionAssignor],
)
while not ends:
    for records in consumer.poll(timeout_ms=200).values():
        for record in records:
            print(record.partition, record.offset, record.value.decode(), flush=True)
        consumer.commit()
consumer.close()
