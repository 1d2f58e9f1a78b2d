"""A transaction over the change of its broker: transaction.py BOOTSTRAP GROUP TOPIC OFFSET FILE.

Sends one record and commits OFFSET for GROUP inside a transaction, prints `open`, and commits it when FILE is there (`done`).
"""

import os
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

bootstrap, group, topic, offset, file = sys.argv[1:]
producer = Producer(
    {"bootstrap.servers": bootstrap, "transactional.id": group, "transaction.timeout.ms": 600000, "reconnect.backoff.max.ms": 500}
)
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
producer.init_transactions(60)
producer.begin_transaction()
producer.produce(topic, offset.encode(), partition=0)
producer.flush(60)
producer.send_offsets_to_transaction([TopicPartition(topic, 0, int(offset))], consumer.consumer_group_metadata(), 60)
print("open", flush=True)
while not os.path.exists(file):
    time.sleep(0.1)
while True:
    try:
        producer.commit_transaction(60)
        break
    except KafkaException as error:
        if not error.args[0].retriable():
            raise
print("done", flush=True)
