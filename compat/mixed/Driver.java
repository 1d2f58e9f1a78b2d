// One JVM for a whole run: admin commands and checked load, as Commands.java has it. Load is a producer (acks=all, idempotent) and a
// consumer that reads along; `stop` checks what they saw: every acknowledged record is there once, in order, where it was acknowledged,
// and nobody was shown what is not there any more.

import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.*;

public class Driver {
    static String bootstrap;
    static Admin admin, patient;
    static final Map<String, Load> loads = new HashMap<>();
    static final Map<String, Znodes> watched = new HashMap<>();

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[0];
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap, "request.timeout.ms", "15000", "default.api.timeout.ms", "60000"));
        patient = Admin.create(Map.of("bootstrap.servers", bootstrap, "request.timeout.ms", "180000", "default.api.timeout.ms", "180000"));
        Commands.serve(Driver::run);
    }

    static String run(String command, String[] a) throws Exception {
        switch (command) {
            case "create": { // TOPIC 1,2;2,3 key=value...
                Map<Integer, List<Integer>> assignment = new TreeMap<>();
                for (String replicas : a[1].split(";")) assignment.put(assignment.size(), ids(replicas));
                Map<String, String> configs = new HashMap<>();
                for (int i = 2; i < a.length; i++) configs.put(a[i].split("=", 2)[0], a[i].split("=", 2)[1]);
                // Thousands of partitions take their time; the broker is told the time-out of a request.
                Admin asked = assignment.size() > 100 ? patient : admin;
                asked.createTopics(List.of(new NewTopic(a[0], assignment).configs(configs))).all().get();
                return "";
            }
            case "delete":
                admin.deleteTopics(List.of(a[0])).all().get();
                return "";
            case "topics":
                return admin.listTopics(new ListTopicsOptions().listInternal(true)).names().get().stream().sorted().collect(Collectors.joining(" "));
            case "state": { // partition:leader:replicas:isr
                List<TopicPartitionInfo> partitions = admin.describeTopics(List.of(a[0])).allTopicNames().get().get(a[0]).partitions();
                return partitions.stream().map(p -> p.partition() + ":" + (p.leader() == null ? -1 : p.leader().id()) + ":"
                    + names(p.replicas()) + ":" + names(p.isr())).collect(Collectors.joining(" "));
            }
            case "brokers": {
                DescribeClusterResult cluster = admin.describeCluster();
                return cluster.nodes().get().stream().map(n -> "" + n.id()).sorted().collect(Collectors.joining(","));
            }
            case "partitions":
                admin.createPartitions(Map.of(a[0], NewPartitions.increaseTo(Integer.parseInt(a[1])))).all().get();
                return "";
            case "reassign": { // TOPIC 0=1,2 1=2,3
                Map<TopicPartition, Optional<NewPartitionReassignment>> wishes = new HashMap<>();
                for (int i = 1; i < a.length; i++) {
                    String[] pair = a[i].split("=");
                    wishes.put(new TopicPartition(a[0], Integer.parseInt(pair[0])),
                        pair[1].equals("cancel") ? Optional.empty() : Optional.of(new NewPartitionReassignment(ids(pair[1]))));
                }
                admin.alterPartitionReassignments(wishes).all().get();
                return "";
            }
            case "moving":
                return "" + admin.listPartitionReassignments().reassignments().get().size();
            case "elect": {
                // A client that asked the old controller does not look for the new one by itself.
                try (Admin fresh = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
                    Map<TopicPartition, Optional<Throwable>> outcome = fresh.electLeaders(ElectionType.PREFERRED, null).partitions().get();
                    return "" + outcome.values().stream().filter(Optional::isEmpty).count();
                }
            }
            case "config": { // TOPIC key=value
                ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, a[0]);
                String[] pair = a[1].split("=", 2);
                admin.incrementalAlterConfigs(Map.of(topic, List.of(new AlterConfigOp(new ConfigEntry(pair[0], pair[1]), AlterConfigOp.OpType.SET)))).all().get();
                return "";
            }
            case "configs": { // TOPIC BROKER key: the value as that broker knows it
                // The broker may have been killed.
                Map<String, Object> one = Map.of("bootstrap.servers", a[1], "request.timeout.ms", "5000", "default.api.timeout.ms", "10000");
                try (Admin other = Admin.create(one)) {
                    ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, a[0]);
                    return other.describeConfigs(List.of(topic)).all().get().get(topic).get(a[2]).value();
                }
            }
            case "load": // TOPIC RECORDS_PER_SECOND
                loads.put(a[0], new Load(a[0], Integer.parseInt(a[1])));
                return "";
            case "mark": // forgets the longest gap
                loads.get(a[0]).longestGapMs.set(0);
                return "";
            case "gap": // longest time without an acknowledgement since the mark, this moment included
                return "" + loads.get(a[0]).gap();
            case "acked":
                return "" + loads.get(a[0]).acked.size();
            case "watch": // TOPIC ZOOKEEPER: looks at the znodes of the topic, until `watched`
                watched.put(a[0], new Znodes(a[1], a[0]));
                return "";
            case "watched":
                return watched.remove(a[0]).stop();
            case "latency": // TOPIC RECORDS_PER_SECOND RECORDS: from send to poll, 99th percentile in ms
                return latency(a[0], Integer.parseInt(a[1]), Integer.parseInt(a[2]));
            case "stop":
                return loads.remove(a[0]).stop();
            default:
                throw new IllegalArgumentException("no command " + command);
        }
    }

    static String latency(String topic, int perSecond, int records) throws Exception {
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "acks", "all", "linger.ms", "0");
        Load reader = new Load(topic);
        long[] nanos = new long[records];
        try (Producer<Long, Long> producer = new KafkaProducer<>(config, new LongSerializer(), new LongSerializer());
             Consumer<Long, Long> consumer = reader.consumer()) {
            Thread sending = new Thread(() -> {
                long began = System.nanoTime();
                for (int i = 0; i < records; i++) {
                    for (long left; (left = began + i * 1_000_000_000L / perSecond - System.nanoTime()) > 0; ) {
                        java.util.concurrent.locks.LockSupport.parkNanos(left);
                    }
                    producer.send(new ProducerRecord<>(topic, i % reader.partitions, (long) i, System.nanoTime()));
                }
            });
            sending.start();
            for (int seen = 0; seen < records; ) {
                for (ConsumerRecord<Long, Long> record : consumer.poll(Duration.ofSeconds(60))) {
                    nanos[(int) (long) record.key()] = System.nanoTime() - record.value();
                    seen++;
                }
            }
        }
        // The first fifth warms everybody up.
        long[] warm = Arrays.copyOfRange(nanos, records / 5, records);
        Arrays.sort(warm);
        return "" + warm[(int) (warm.length * 0.99)] / 1e6;
    }

    static List<Integer> ids(String text) {
        return Arrays.stream(text.split(",")).map(Integer::valueOf).collect(Collectors.toList());
    }

    static String names(Collection<Node> nodes) {
        return nodes.stream().map(n -> "" + n.id()).collect(Collectors.joining(","));
    }

    record Acked(int partition, long offset, long number) {}

    static class Load {
        final String topic;
        final Queue<Acked> acked = new ConcurrentLinkedQueue<>();
        final Queue<String> faults = new ConcurrentLinkedQueue<>();
        final Map<String, Long> shown = new ConcurrentHashMap<>();
        final AtomicLong longestGapMs = new AtomicLong(), lastAck = new AtomicLong(System.nanoTime()), unsent = new AtomicLong();
        final Thread producing, reading;
        volatile boolean stopping, producerDone;
        int partitions;

        /// Only what a consumer needs.
        Load(String topic) throws Exception {
            this.topic = topic;
            partitions = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size();
            producing = null;
            reading = null;
        }

        Load(String topic, int perSecond) throws Exception {
            this.topic = topic;
            partitions = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size();
            // Every leader answers already: a first record that is refused where the second one is taken is what idempotent producers
            // do not get over.
            Map<TopicPartition, OffsetSpec> ends = new HashMap<>();
            for (int i = 0; i < partitions; i++) ends.put(new TopicPartition(topic, i), OffsetSpec.latest());
            for (int tries = 0; ; tries++) {
                try {
                    admin.listOffsets(ends).all().get();
                    break;
                } catch (ExecutionException error) {
                    // Some broker has not heard of the topic yet.
                    if (tries > 100) throw error;
                    Thread.sleep(100);
                }
            }
            producing = new Thread(() -> produce(perSecond), "producing");
            reading = new Thread(this::read, "reading");
            producing.start();
            reading.start();
        }

        long gap() {
            long open = (System.nanoTime() - lastAck.get()) / 1_000_000;
            return Math.max(open, longestGapMs.get());
        }

        void produce(int perSecond) {
            Map<String, Object> config = new HashMap<>();
            config.put("bootstrap.servers", bootstrap);
            config.put("acks", "all");
            config.put("enable.idempotence", "true");
            config.put("linger.ms", "0");
            config.put("delivery.timeout.ms", "120000");
            config.put("request.timeout.ms", "15000");
            config.put("metadata.max.age.ms", "10000");
            config.put("max.block.ms", "120000");
            try (Producer<Long, Long> producer = new KafkaProducer<>(config, new LongSerializer(), new LongSerializer())) {
                long number = 0, began = System.nanoTime();
                while (!stopping) {
                    long due = began + number * 1_000_000_000L / perSecond;
                    for (long left; (left = due - System.nanoTime()) > 0; ) TimeUnit.NANOSECONDS.sleep(left);
                    long own = number++;
                    int partition = (int) (own % partitions);
                    try {
                        producer.send(new ProducerRecord<>(topic, partition, own, own), (metadata, error) -> {
                            if (error != null) {
                                unsent.incrementAndGet();
                                return;
                            }
                            long now = System.nanoTime(), gap = (now - lastAck.getAndSet(now)) / 1_000_000;
                            longestGapMs.accumulateAndGet(gap, Math::max);
                            acked.add(new Acked(partition, metadata.offset(), own));
                        });
                    } catch (KafkaException error) {
                        unsent.incrementAndGet();
                    }
                }
                producer.flush();
            } catch (Throwable error) {
                faults.add("producer: " + error);
            }
            producerDone = true;
        }

        Consumer<Long, Long> consumer() {
            Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "none",
                "metadata.max.age.ms", "10000", "enable.auto.commit", "false");
            Consumer<Long, Long> consumer = new KafkaConsumer<>(config, new LongDeserializer(), new LongDeserializer());
            List<TopicPartition> all = new ArrayList<>();
            for (int i = 0; i < partitions; i++) all.add(new TopicPartition(topic, i));
            consumer.assign(all);
            all.forEach(partition -> consumer.seek(partition, 0));
            return consumer;
        }

        /// Reads along: what was shown once must stay.
        void read() {
            try (Consumer<Long, Long> consumer = consumer()) {
                while (!producerDone) {
                    for (ConsumerRecord<Long, Long> record : consumer.poll(Duration.ofMillis(200))) {
                        Long before = shown.put(record.partition() + "-" + record.offset(), record.value());
                        if (before != null) faults.add("shown twice: " + record.partition() + "-" + record.offset());
                    }
                }
            } catch (Throwable error) {
                faults.add("consumer: " + error);
            }
        }

        String stop() throws Exception {
            stopping = true;
            producing.join();
            reading.join();
            Map<String, Long> there = new HashMap<>();
            Map<Integer, Long> last = new HashMap<>();
            try (Consumer<Long, Long> consumer = consumer()) {
                Map<TopicPartition, Long> ends = consumer.endOffsets(consumer.assignment());
                long deadline = System.nanoTime() + 60_000_000_000L;
                while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
                    if (System.nanoTime() > deadline) throw new IllegalStateException("cannot read to the end: " + ends);
                    for (ConsumerRecord<Long, Long> record : consumer.poll(Duration.ofMillis(200))) {
                        there.put(record.partition() + "-" + record.offset(), record.value());
                        Long before = last.put(record.partition(), record.value());
                        if (before != null && before >= record.value()) {
                            faults.add("out of order or twice: " + record.value() + " after " + before + " in partition " + record.partition());
                        }
                    }
                }
            }
            for (Acked one : acked) {
                Long found = there.get(one.partition + "-" + one.offset);
                if (found == null || found != one.number) {
                    faults.add("acknowledged " + one + " but there is " + found);
                }
            }
            for (Map.Entry<String, Long> one : shown.entrySet()) {
                if (!one.getValue().equals(there.get(one.getKey()))) faults.add("was shown and is gone: " + one);
            }
            if (acked.isEmpty()) faults.add("nothing was acknowledged");
            if (!faults.isEmpty()) {
                throw new IllegalStateException(faults.size() + " faults: " + faults.stream().limit(5).collect(Collectors.joining("; ")));
            }
            return "acked=" + acked.size() + " unsent=" + unsent + " longest_gap_ms=" + longestGapMs;
        }
    }
}
