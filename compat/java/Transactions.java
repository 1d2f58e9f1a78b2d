// Transactions: the producer, readers of committed records, offsets inside transactions, fencing, and what administrators see.

import java.time.Duration;
import java.util.*;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;

final class Transactions extends Compat {
    static void addTo(Map<String, Body> checks) {
        checks.put("transactionsAreSeenWholeOrNotAtAll", Transactions::transactionsAreSeenWholeOrNotAtAll);
        checks.put("consumedOffsetsCountWithTheTransaction", Transactions::consumedOffsetsCountWithTheTransaction);
        checks.put("aNewInstanceFencesTheOldOne", Transactions::aNewInstanceFencesTheOldOne);
        checks.put("aTransactionThatTakesTooLongIsAborted", Transactions::aTransactionThatTakesTooLongIsAborted);
        checks.put("administratorsSeeAndEndTransactions", Transactions::administratorsSeeAndEndTransactions);
        checks.put("anOpenTransactionHidesWhatIsBehindIt", Transactions::anOpenTransactionHidesWhatIsBehindIt);
        checks.put("manyTransactionsInARow", Transactions::manyTransactionsInARow);
    }

    static KafkaProducer<byte[], byte[]> producer(String id, String... config) {
        Properties p = properties("transactional.id", id, "max.block.ms", "60000");
        for (int i = 0; i < config.length; i += 2) p.put(config[i], config[i + 1]);
        return new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static void send(KafkaProducer<byte[], byte[]> producer, String topic, int partition, String... values) throws Exception {
        for (String value : values) get(producer.send(new ProducerRecord<>(topic, partition, null, bytes(value))));
    }

    /** Values that a reader of committed records finds up to the end of what it may see. */
    static List<String> committed(String topic, int partition) {
        TopicPartition tp = new TopicPartition(topic, partition);
        try (var consumer = consumer("isolation.level", "read_committed")) {
            consumer.assign(List.of(tp));
            consumer.seekToBeginning(List.of(tp));
            long end = consumer.endOffsets(List.of(tp)).get(tp);
            List<String> values = new ArrayList<>();
            while (consumer.position(tp) < end) {
                for (var record : consumer.poll(Duration.ofMillis(100))) values.add(new String(record.value()));
            }
            return values;
        }
    }

    static void eventuallyCommitted(String topic, int partition, List<String> wanted) throws Exception {
        // Markers are written after the answer.
        eventually(topic + "-" + partition + " has " + wanted, () -> committed(topic, partition).equals(wanted));
    }

    static void transactionsAreSeenWholeOrNotAtAll() throws Exception {
        String topic = create(name("whole"), 2);
        try (var producer = producer(name("whole"))) {
            producer.initTransactions();
            producer.beginTransaction();
            send(producer, topic, 0, "a", "b");
            send(producer, topic, 1, "c");
            equal(committed(topic, 0), List.of(), "before the commit");
            producer.commitTransaction();
            producer.beginTransaction();
            send(producer, topic, 0, "lost");
            send(producer, topic, 1, "lost");
            producer.abortTransaction();
            producer.beginTransaction();
            producer.commitTransaction();
            producer.beginTransaction();
            send(producer, topic, 0, "d");
            producer.commitTransaction();
        }
        eventuallyCommitted(topic, 0, List.of("a", "b", "d"));
        eventuallyCommitted(topic, 1, List.of("c"));
        var all = read(topic, 0, 4).stream().map(record -> new String(record.value())).collect(Collectors.toList());
        equal(all, List.of("a", "b", "lost", "d"), "who reads everything");
    }

    static void consumedOffsetsCountWithTheTransaction() throws Exception {
        String from = create(name("from"), 1), to = create(name("to"), 1), group = name("copies");
        produce(simple(from, 0, 0, 100));
        TopicPartition tp = new TopicPartition(from, 0);
        try (var producer = producer(name("copies")); var consumer = consumer("group.id", group, "isolation.level", "read_committed")) {
            producer.initTransactions();
            consumer.subscribe(List.of(from));
            int round = 0;
            for (long done = 0; done < 100; round++) {
                var records = consumer.poll(Duration.ofMillis(500)).records(tp);
                if (records.isEmpty()) continue;
                records = records.subList(0, Math.min(10, records.size()));
                producer.beginTransaction();
                for (var record : records) producer.send(new ProducerRecord<>(to, 0, record.key(), record.value()));
                long next = records.get(records.size() - 1).offset() + 1;
                producer.sendOffsetsToTransaction(Map.of(tp, new OffsetAndMetadata(next)), consumer.groupMetadata());
                if (round % 3 == 1) {
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                    done = next;
                }
                // From where the group is, as after a restart: what an aborted transaction committed does not count.
                long wanted = done;
                OffsetAndMetadata at = consumer.committed(Set.of(tp)).get(tp);
                equal(at == null ? 0 : at.offset(), wanted, "committed offset");
                consumer.seek(tp, wanted);
            }
        }
        eventuallyCommitted(to, 0, simple(from, 0, 0, 100).stream().map(r -> new String(r.value())).collect(Collectors.toList()));
    }

    static void aNewInstanceFencesTheOldOne() throws Exception {
        String topic = create(name("fenced"), 1);
        try (var old = producer(name("fenced")); var young = producer(name("fenced"))) {
            old.initTransactions();
            old.beginTransaction();
            send(old, topic, 0, "lost");
            young.initTransactions();
            young.beginTransaction();
            send(young, topic, 0, "kept");
            try {
                old.commitTransaction();
                throw new AssertionError("a fenced producer committed");
            } catch (ProducerFencedException | InvalidProducerEpochException expected) {
            }
            young.commitTransaction();
        }
        eventuallyCommitted(topic, 0, List.of("kept"));
        try (var producer = producer(name("fenced"))) {
            producer.initTransactions();
            get(admin.fenceProducers(List.of(name("fenced"))).all());
            producer.beginTransaction();
            try {
                producer.send(new ProducerRecord<>(topic, 0, null, bytes("lost")));
                producer.commitTransaction();
                throw new AssertionError("a producer that the administrator fenced committed");
            } catch (ProducerFencedException | InvalidProducerEpochException expected) {
            }
        }
        eventuallyCommitted(topic, 0, List.of("kept"));
    }

    static void aTransactionThatTakesTooLongIsAborted() throws Exception {
        String topic = create(name("slow"), 1), id = name("slow");
        try (var producer = producer(id, "transaction.timeout.ms", "1000")) {
            producer.initTransactions();
            producer.beginTransaction();
            send(producer, topic, 0, "lost");
            eventually("the abort", () -> {
                try {
                    return get(admin.describeTransactions(List.of(id)).description(id)).state() == TransactionState.COMPLETE_ABORT;
                } catch (Exception error) {
                    throw new AssertionError(error);
                }
            });
            try {
                producer.commitTransaction();
                throw new AssertionError("committed after the abort");
            } catch (ProducerFencedException | InvalidProducerEpochException expected) {
            }
        }
        eventuallyCommitted(topic, 0, List.of());
    }

    static void administratorsSeeAndEndTransactions() throws Exception {
        String topic = create(name("seen"), 2), id = name("seen");
        TopicPartition tp = new TopicPartition(topic, 1);
        try (var producer = producer(id, "transaction.timeout.ms", "45000")) {
            producer.initTransactions();
            equal(get(admin.describeTransactions(List.of(id)).description(id)).state(), TransactionState.EMPTY, "before it begins");
            producer.beginTransaction();
            send(producer, topic, 1, "lost");
            TransactionDescription seen = get(admin.describeTransactions(List.of(id)).description(id));
            equal(seen.state(), TransactionState.ONGOING, "state");
            equal(seen.topicPartitions(), Set.of(tp), "partitions");
            equal(seen.transactionTimeoutMs(), 45000L, "time-out");
            equal(seen.producerEpoch(), 0, "epoch");
            var listed = get(admin.listTransactions(new ListTransactionsOptions().filterProducerIds(Set.of(seen.producerId()))).all());
            equal(listed.stream().map(TransactionListing::transactionalId).collect(Collectors.toList()), List.of(id), "listed");
            var others = get(admin.listTransactions(new ListTransactionsOptions().filterStates(Set.of(TransactionState.COMPLETE_ABORT))
                .filterProducerIds(Set.of(seen.producerId()))).all());
            equal(others.size(), 0, "of another state");
            ProducerState open = get(admin.describeProducers(List.of(tp)).partitionResult(tp)).activeProducers().get(0);
            equal(open.currentTransactionStartOffset(), OptionalLong.of(0), "where it began");
            equal(open.producerId(), seen.producerId(), "producer id");
            get(admin.abortTransaction(new AbortTransactionSpec(tp, open.producerId(), (short) open.producerEpoch(),
                open.coordinatorEpoch().orElse(0))).all());
            open = get(admin.describeProducers(List.of(tp)).partitionResult(tp)).activeProducers().get(0);
            equal(open.currentTransactionStartOffset(), OptionalLong.empty(), "ended by hand");
        }
        failsWith(TransactionalIdNotFoundException.class, admin.describeTransactions(List.of(name("nobody"))).description(name("nobody")));
    }

    static void anOpenTransactionHidesWhatIsBehindIt() throws Exception {
        String topic = create(name("hidden"), 1);
        TopicPartition tp = new TopicPartition(topic, 0);
        try (var producer = producer(name("hidden"))) {
            producer.initTransactions();
            produce(simple(topic, 0, 0, 1));
            producer.beginTransaction();
            send(producer, topic, 0, "open");
            produce(simple(topic, 0, 1, 1));
            equal(committed(topic, 0), List.of("value 0"), "up to the open transaction");
            try (var consumer = consumer("isolation.level", "read_committed"); var other = consumer()) {
                equal(consumer.endOffsets(List.of(tp)).get(tp), 1L, "end for committed records");
                equal(other.endOffsets(List.of(tp)).get(tp), 3L, "end");
            }
            producer.commitTransaction();
        }
        eventuallyCommitted(topic, 0, List.of("value 0", "open", "value 1"));
    }

    static void manyTransactionsInARow() throws Exception {
        String topic = create(name("many"), 3);
        List<List<String>> wanted = List.of(new ArrayList<>(), new ArrayList<>(), new ArrayList<>());
        for (String codec : CODECS) {
            try (var producer = producer(name("many"), "compression.type", codec, "linger.ms", "1")) {
                producer.initTransactions();
                for (int i = 0; i < 40; i++) {
                    boolean commits = i % 4 != 3;
                    producer.beginTransaction();
                    for (int partition = 0; partition < 3; partition++) {
                        for (int n = 0; n < 5; n++) {
                            String value = codec + " " + i + " " + n;
                            producer.send(new ProducerRecord<>(topic, partition, null, bytes(value)));
                            if (commits) wanted.get(partition).add(value);
                        }
                    }
                    if (commits) producer.commitTransaction();
                    else producer.abortTransaction();
                }
            }
        }
        for (int partition = 0; partition < 3; partition++) eventuallyCommitted(topic, partition, wanted.get(partition));
    }
}
