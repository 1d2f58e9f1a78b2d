// Members of a group and a transactional producer that live through changes of their coordinators, by commands as Commands.java has them.
// They check while they run: a partition has one owner in a generation, a record is read once, a committed offset is found by whoever
// asks later and never goes back, a producer is never fenced. `stop` checks what is there in the end.

import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;

public class Members {
    static String bootstrap;
    static Admin admin;
    static volatile boolean stopping;
    static final Queue<String> faults = new ConcurrentLinkedQueue<>();
    static final List<Member> members = new ArrayList<>();
    static Transactions transactions;
    static String group, topic;
    static Thread watching;

    /// Owner by generation and partition; reader by partition and offset.
    static final Map<String, String> owners = new ConcurrentHashMap<>(), readers = new ConcurrentHashMap<>();
    static final AtomicLong rebalances = new AtomicLong();
    /// The highest offset of each partition whose commit was answered.
    static final Map<TopicPartition, Long> committed = new ConcurrentHashMap<>();

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[0];
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap, "request.timeout.ms", "10000", "default.api.timeout.ms", "60000"));
        Commands.serve(Members::run);
    }

    static String run(String command, String[] a) throws Exception {
        switch (command) {
            case "group": // GROUP TOPIC MEMBERS
                group = a[0];
                topic = a[1];
                for (int i = 0; i < Integer.parseInt(a[2]); i++) {
                    members.add(new Member("member-" + i));
                }
                members.forEach(Thread::start);
                watching = new Thread(Members::watch, "watching");
                watching.start();
                return "";
            case "producer": // ID TOPIC PARTITIONS
                transactions = new Transactions(a[0], a[1], Integer.parseInt(a[2]));
                transactions.start();
                return "";
            case "status":
                if (!faults.isEmpty()) throw new IllegalStateException(String.join("; ", faults));
                return "owned=" + each(member -> member.owned.size()) + " commits=" + each(member -> member.commits.get())
                    + " generation=" + each(member -> member.generation) + " rebalances=" + rebalances + " transactions="
                    + transactions.committed.size() + " epoch=" + transactions.epoch();
            case "stop":
                return stop();
            default:
                throw new IllegalArgumentException("no command " + command);
        }
    }

    static String each(java.util.function.Function<Member, Object> what) {
        return members.stream().map(member -> "" + what.apply(member)).collect(Collectors.joining(","));
    }

    static class Member extends Thread implements ConsumerRebalanceListener {
        final AtomicLong commits = new AtomicLong();
        final Set<TopicPartition> owned = ConcurrentHashMap.newKeySet();
        volatile int generation = -1;
        Consumer<byte[], byte[]> consumer;

        Member(String name) {
            super(name);
        }

        @Override
        public void run() {
            Map<String, Object> config = new HashMap<>();
            config.put("bootstrap.servers", bootstrap);
            config.put("group.id", group);
            config.put("client.id", getName());
            config.put("auto.offset.reset", "earliest");
            config.put("enable.auto.commit", "false");
            config.put("session.timeout.ms", "40000");
            config.put("heartbeat.interval.ms", "500");
            config.put("metadata.max.age.ms", "5000");
            config.put("request.timeout.ms", "10000");
            config.put("partition.assignment.strategy", RangeAssignor.class.getName());
            try (Consumer<byte[], byte[]> opened = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
                consumer = opened;
                consumer.subscribe(List.of(topic), this);
                while (!stopping) {
                    ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(100));
                    for (ConsumerRecord<byte[], byte[]> record : records) {
                        String before = readers.putIfAbsent(record.partition() + "@" + record.offset(), getName());
                        if (before != null) faults.add(record.partition() + "@" + record.offset() + " is read by " + getName() + " after " + before);
                    }
                    if (records.isEmpty()) continue;
                    Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                    for (TopicPartition partition : records.partitions()) offsets.put(partition, new OffsetAndMetadata(consumer.position(partition)));
                    consumer.commitSync(offsets);
                    offsets.forEach((partition, offset) -> committed.merge(partition, offset.offset(), Math::max));
                    commits.incrementAndGet();
                }
            } catch (Throwable error) {
                faults.add(getName() + ": " + error);
            }
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            owned.clear();
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            owned.clear();
            if (!stopping) faults.add(getName() + " has lost " + partitions);
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            rebalances.incrementAndGet();
            generation = consumer.groupMetadata().generationId();
            owned.addAll(partitions);
            for (TopicPartition partition : partitions) {
                String before = owners.putIfAbsent(generation + " " + partition, getName());
                if (before != null && !before.equals(getName())) {
                    faults.add(partition + " of generation " + generation + " belongs to " + before + " and " + getName());
                }
            }
        }
    }

    /// Looks at the group's offsets all the time, from outside.
    static void watch() {
        Map<TopicPartition, Long> seen = new HashMap<>();
        ListConsumerGroupOffsetsOptions quick = new ListConsumerGroupOffsetsOptions().timeoutMs(5000);
        while (!stopping) {
            Map<TopicPartition, Long> known = new HashMap<>(committed);
            known.forEach((partition, offset) -> seen.merge(partition, offset, Math::max));
            try {
                Map<TopicPartition, OffsetAndMetadata> found = admin.listConsumerGroupOffsets(group, quick).partitionsToOffsetAndMetadata().get();
                for (Map.Entry<TopicPartition, Long> one : seen.entrySet()) {
                    OffsetAndMetadata now = found.get(one.getKey());
                    if (now == null || now.offset() < one.getValue()) {
                        faults.add("committed " + one + " but there is " + now);
                    }
                }
                found.forEach((partition, offset) -> seen.merge(partition, offset.offset(), Math::max));
                Thread.sleep(50);
            } catch (ExecutionException error) {
                // No coordinator for so long: the members say so too.
                if (!(error.getCause() instanceof RetriableException)) faults.add("watching: " + error.getCause());
            } catch (InterruptedException error) {
                return;
            }
        }
    }

    /// One transaction after another: the same number in every partition, and an offset of a group of its own. Each fifth is aborted.
    static class Transactions extends Thread {
        final String id, topic;
        final int partitions;
        final Queue<Long> committed = new ConcurrentLinkedQueue<>();
        final Set<Long> aborted = ConcurrentHashMap.newKeySet();

        Transactions(String id, String topic, int partitions) {
            super("producer");
            this.id = id;
            this.topic = topic;
            this.partitions = partitions;
        }

        @Override
        public void run() {
            Map<String, Object> config = new HashMap<>();
            config.put("bootstrap.servers", bootstrap);
            config.put("transactional.id", id);
            config.put("transaction.timeout.ms", "120000");
            config.put("max.block.ms", "120000");
            config.put("delivery.timeout.ms", "120000");
            config.put("request.timeout.ms", "10000");
            config.put("metadata.max.age.ms", "5000");
            try (Producer<Long, Long> producer = new KafkaProducer<>(config, new LongSerializer(), new LongSerializer())) {
                producer.initTransactions();
                for (long number = 0; !stopping; number++) {
                    producer.beginTransaction();
                    for (int i = 0; i < partitions; i++) producer.send(new ProducerRecord<>(topic, i, number, number));
                    producer.sendOffsetsToTransaction(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(number)), new ConsumerGroupMetadata(id));
                    if (number % 5 == 4) {
                        producer.flush();
                        producer.abortTransaction();
                        aborted.add(number);
                    } else {
                        producer.commitTransaction();
                        committed.add(number);
                    }
                    Thread.sleep(20);
                }
            } catch (Throwable error) {
                faults.add("producer: " + error);
            }
        }

        int epoch() throws Exception {
            // A client that was told of a coordinator that is gone waits for it until its time is over.
            for (int tries = 0; ; tries++) {
                try {
                    DescribeTransactionsOptions quick = new DescribeTransactionsOptions().timeoutMs(5000);
                    return admin.describeTransactions(List.of(id), quick).description(id).get().producerEpoch();
                } catch (ExecutionException error) {
                    // It has not begun yet.
                    if (error.getCause() instanceof TransactionalIdNotFoundException) return -1;
                    if (tries == 10 || !(error.getCause() instanceof RetriableException)) throw error;
                }
            }
        }
    }

    static Consumer<Long, Long> reader() {
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "none", "isolation.level", "read_committed",
            "enable.auto.commit", "false");
        return new KafkaConsumer<>(config, new LongDeserializer(), new LongDeserializer());
    }

    static String stop() throws Exception {
        // What was sent is read to its end first.
        Map<TopicPartition, Long> ends;
        try (Consumer<Long, Long> reader = reader()) {
            ends = reader.endOffsets(reader.partitionsFor(topic).stream().map(p -> new TopicPartition(topic, p.partition())).collect(Collectors.toList()));
        }
        long deadline = System.nanoTime() + 60_000_000_000L;
        while (faults.isEmpty() && ends.entrySet().stream().anyMatch(end -> committed.getOrDefault(end.getKey(), 0L) < end.getValue())) {
            if (System.nanoTime() > deadline) throw new IllegalStateException("committed " + committed + " of " + ends);
            Thread.sleep(50);
        }
        stopping = true;
        for (Member member : members) member.join();
        transactions.join();
        watching.join();
        ends.forEach((partition, end) -> {
            for (long offset = 0; offset < end; offset++) {
                if (!readers.containsKey(partition.partition() + "@" + offset)) faults.add("nobody has read " + partition + "@" + offset);
            }
        });
        List<Long> wanted = new ArrayList<>(transactions.committed);
        try (Consumer<Long, Long> reader = reader()) {
            for (int i = 0; i < transactions.partitions; i++) {
                TopicPartition partition = new TopicPartition(transactions.topic, i);
                reader.assign(List.of(partition));
                reader.seek(partition, 0);
                long end = reader.endOffsets(List.of(partition)).get(partition);
                List<Long> found = new ArrayList<>();
                while (reader.position(partition) < end) {
                    if (System.nanoTime() > deadline + 60_000_000_000L) throw new IllegalStateException("cannot read " + partition + " to its end");
                    for (ConsumerRecord<Long, Long> record : reader.poll(Duration.ofMillis(200))) found.add(record.value());
                }
                if (!found.equals(wanted)) faults.add(partition + " has " + found.size() + " committed numbers, not " + wanted.size());
            }
        }
        OffsetAndMetadata last = admin.listConsumerGroupOffsets(transactions.id).partitionsToOffsetAndMetadata().get().get(new TopicPartition(transactions.topic, 0));
        if (last == null || last.offset() != wanted.get(wanted.size() - 1)) faults.add("the last transaction's offset is " + last);
        if (!faults.isEmpty()) {
            throw new IllegalStateException(faults.size() + " faults: " + faults.stream().limit(5).collect(Collectors.joining("; ")));
        }
        return "read=" + readers.size() + " committed=" + wanted.size() + " aborted=" + transactions.aborted.size() + " rebalances=" + rebalances;
    }
}
