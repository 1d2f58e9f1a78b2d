// Fills a broker with everything that a log directory can hold, and tells all that is in it: what one kind of broker wrote is compared
// with what the other kind serves from the same directories.
//
//   Handover describe                  prints every record, offset and group
//   Handover write PHASE                adds to everything, then does the same
//   Handover legacy DIR                 puts message formats 0 and 1 into an empty partition directory (no broker needed)
//   Handover through FILE               an idempotent producer that goes on until the file is there, then prints how much it sent
//   Handover came                       prints the values that came through

import java.io.IOException;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.*;
import org.apache.kafka.common.serialization.*;

public class Handover {
    static final String BOOTSTRAP = System.getenv("BOOTSTRAP");
    static final long START = 1_700_000_000_000L;
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    static Admin admin;

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "legacy" -> legacy(Path.of(args[1]));
            case "through" -> through(Path.of(args[1]));
            case "came" -> came();
            default -> {
                admin = Admin.create(Map.of("bootstrap.servers", BOOTSTRAP));
                if (args[0].equals("write")) write(Integer.parseInt(args[1]));
                describe();
            }
        }
        OUT.flush();
        // Without closing anything: an open transaction stays open.
        Runtime.getRuntime().halt(0);
    }

    // ---- writing

    static void write(int phase) throws Exception {
        if (phase == 1) createTopics();
        for (int at = 0; at < CODECS.size(); at++) codecs(CODECS.get(at), phase, (phase + at) % 2 == 0);
        send("stamped", 1, Map.of(), 10, phase);
        send("trimmed", 1, Map.of(), 60, phase);
        TopicPartition trimmed = new TopicPartition("trimmed", 0);
        admin.deleteRecords(Map.of(trimmed, RecordsToDelete.beforeOffset(60L * phase - 27))).all().get();
        compacted("compacted", phase);
        compacted("both", phase);
        groups(phase);
        transactions(phase);
    }

    static void createTopics() throws Exception {
        Map<String, String> small = Map.of("segment.bytes", "1500", "index.interval.bytes", "200", "retention.ms", "-1");
        Map<String, String> compact = Map.of("cleanup.policy", "compact", "segment.bytes", "4000", "min.cleanable.dirty.ratio", "0.01",
            "index.interval.bytes", "300");
        Map<String, String> both = new HashMap<>(compact);
        both.put("cleanup.policy", "compact,delete");
        List<NewTopic> topics = new ArrayList<>();
        for (String codec : CODECS) topics.add(new NewTopic("codec-" + codec, 3, (short) 1).configs(small));
        topics.add(new NewTopic("stamped", 1, (short) 1).configs(Map.of("message.timestamp.type", "LogAppendTime", "retention.ms", "-1")));
        topics.add(new NewTopic("trimmed", 1, (short) 1).configs(small));
        topics.add(new NewTopic("transactions", 2, (short) 1).configs(small));
        topics.add(new NewTopic("compacted", 2, (short) 1).configs(compact));
        topics.add(new NewTopic("both", 1, (short) 1).configs(both));
        topics.add(new NewTopic("old", 1, (short) 1).configs(Map.of("retention.ms", "-1")));
        topics.add(new NewTopic("empty", 2, (short) 1));
        topics.add(new NewTopic("through", 1, (short) 1).configs(Map.of("segment.bytes", "20000", "retention.ms", "-1")));
        admin.createTopics(topics).all().get();
    }

    static KafkaProducer<byte[], byte[]> producer(Map<String, ?> settings) {
        Map<String, Object> all = new HashMap<>(Map.of("bootstrap.servers", BOOTSTRAP, "linger.ms", 10_000, "batch.size", 400));
        all.putAll(settings);
        return new KafkaProducer<>(all, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static ProducerRecord<byte[], byte[]> record(String topic, int partition, int n, long timestamp) {
        byte[] key = n % 3 == 0 ? null : bytes("key-" + n % 7);
        byte[] value = n % 11 == 10 ? null : n % 13 == 12 ? new byte[0] : bytes("value-" + n + "-" + "x".repeat(n % 40));
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, partition, timestamp, key, value);
        if (n % 5 == 0) record.headers().add(new RecordHeader("h", bytes("" + n))).add(new RecordHeader("h", null)).add(new RecordHeader("é", new byte[0]));
        return record;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static void send(String topic, int partitions, Map<String, ?> settings, int count, int phase) throws Exception {
        try (var producer = producer(settings)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int n = phase * 1000; n < phase * 1000 + count; n++) {
                // Times go back now and then.
                sent.add(producer.send(record(topic, n % partitions, n, START + n * 1000L - (n % 4 == 3 ? 2500 : 0))));
            }
            producer.flush();
            for (var future : sent) future.get();
        }
    }

    static void codecs(String codec, int phase, boolean isIdempotent) throws Exception {
        send("codec-" + codec, 3, Map.of("compression.type", codec, "enable.idempotence", isIdempotent), 90, phase);
    }

    static void compacted(String topic, int phase) throws Exception {
        int partitions = topic.equals("both") ? 1 : 2;
        try (var producer = producer(Map.of("compression.type", CODECS.get(phase % 5)))) {
            for (int n = 0; n < 300; n++) {
                byte[] key = bytes("key " + (n * 7 + phase) % 40);
                byte[] value = n % 19 == 18 ? null : bytes("phase " + phase + " " + n + " " + "y".repeat(n % 60));
                var record = new ProducerRecord<>(topic, n % partitions, System.currentTimeMillis(), key, value);
                record.headers().add("n", bytes("" + n));
                producer.send(record);
            }
            producer.flush();
        }
    }

    static void groups(int phase) throws Exception {
        TopicPartition one = new TopicPartition("codec-none", 0), two = new TopicPartition("codec-zstd", 2);
        try (var consumer = consumer(Map.of("group.id", "committed"))) {
            consumer.commitSync(Map.of(one, new OffsetAndMetadata(phase * 3L, Optional.of(phase), "metadata " + phase + " é"),
                two, new OffsetAndMetadata(phase * 2L)));
        }
        // A static member that does not say goodbye: the group stays as it is.
        var settings = Map.<String, Object>of("group.id", "stable", "group.instance.id", "instance", "session.timeout.ms", 900_000,
            "auto.offset.reset", "earliest", "client.id", "the client", "max.poll.records", 7 * phase);
        try (var consumer = consumer(settings)) {
            consumer.subscribe(List.of("codec-gzip"));
            while (consumer.poll(Duration.ofMillis(100)).isEmpty()) {}
            consumer.commitSync();
        }
        try (var consumer = consumer(Map.of("group.id", "empty", "auto.offset.reset", "earliest", "max.poll.records", 5))) {
            consumer.subscribe(List.of("codec-lz4"));
            while (consumer.poll(Duration.ofMillis(100)).isEmpty()) {}
            consumer.commitSync();
        }
    }

    static void transactions(int phase) throws Exception {
        transact("committed", phase, true);
        transact("aborted", phase, false);
        // One is left open and found again.
        var open = producer(Map.of("transactional.id", "open", "transaction.timeout.ms", 900_000));
        open.initTransactions();
        open.beginTransaction();
        for (int n = 0; n < 5; n++) open.send(record("transactions", 1, phase * 1000 + n, START + n));
        open.flush();
    }

    static void transact(String id, int phase, boolean commit) throws Exception {
        try (var producer = producer(Map.of("transactional.id", id, "compression.type", CODECS.get(phase % 5)))) {
            producer.initTransactions();
            for (int round = 0; round < 3; round++) {
                producer.beginTransaction();
                for (int n = 0; n < 20; n++) producer.send(record("transactions", n % 2, phase * 1000 + round * 20 + n, START + n));
                var offset = new OffsetAndMetadata(phase * 100 + round, "in transaction " + id);
                producer.sendOffsetsToTransaction(Map.of(new TopicPartition("transactions", 0), offset), new ConsumerGroupMetadata("in-" + id));
                producer.flush();
                if (commit) producer.commitTransaction();
                else producer.abortTransaction();
            }
        }
    }

    static void through(Path stop) throws Exception {
        // One request at a time: a producer snapshot remembers one batch of a producer, so that only the last one is known again.
        var settings = Map.of("enable.idempotence", true, "max.in.flight.requests.per.connection", 1, "linger.ms", 2, "delivery.timeout.ms", 600_000, "max.block.ms", 600_000,
            "request.timeout.ms", 5_000, "reconnect.backoff.max.ms", 500);
        try (var producer = producer(settings)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int n = 0; !Files.exists(stop); n++) {
                sent.add(producer.send(new ProducerRecord<>("through", 0, bytes("" + n), bytes("" + n))));
                Thread.sleep(5);
            }
            producer.flush();
            for (var future : sent) future.get();
            OUT.println(sent.size());
        }
    }

    static void came() {
        var partition = new TopicPartition("through", 0);
        try (var consumer = consumer(Map.of())) {
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            while (consumer.position(partition) < end) {
                for (var record : consumer.poll(Duration.ofMillis(100))) OUT.println(new String(record.value(), StandardCharsets.UTF_8));
            }
        }
    }

    // ---- formats 0 and 1

    static void legacy(Path dir) throws IOException {
        for (String suffix : List.of(".index", ".timeindex", ".txnindex", ".snapshot")) Files.deleteIfExists(dir.resolve("0".repeat(20) + suffix));
        long offset = 0;
        var options = Set.of(StandardOpenOption.WRITE, StandardOpenOption.TRUNCATE_EXISTING);
        try (FileChannel file = FileChannel.open(dir.resolve("0".repeat(20) + ".log"), options)) {
            for (int n = 0; n < 40; n++) {
                byte magic = (byte) (n < 20 ? 0 : 1);
                var codec = Compression.of(CompressionType.forName(CODECS.get(n % 4))).build();
                var time = magic == 0 ? TimestampType.NO_TIMESTAMP_TYPE : TimestampType.CREATE_TIME;
                var builder = MemoryRecords.builder(ByteBuffer.allocate(4096), magic, codec, time, offset);
                for (int i = 0; i < 3; i++, offset++) {
                    builder.append(magic == 0 ? -1 : START + offset * 10, offset % 5 == 0 ? null : bytes("key " + offset), bytes("old value " + offset));
                }
                ByteBuffer bytes = builder.build().buffer();
                while (bytes.hasRemaining()) file.write(bytes);
            }
        }
    }

    // ---- telling

    static KafkaConsumer<byte[], byte[]> consumer(Map<String, ?> settings) {
        Map<String, Object> all = new HashMap<>(Map.of("bootstrap.servers", BOOTSTRAP, "enable.auto.commit", false));
        all.putAll(settings);
        return new KafkaConsumer<>(all, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static void describe() throws Exception {
        var names = new TreeSet<>(admin.listTopics().names().get());
        var resources = names.stream().map(name -> new ConfigResource(ConfigResource.Type.TOPIC, name)).toList();
        Set<String> compacted = admin.describeConfigs(resources).all().get().entrySet().stream()
            .filter(entry -> entry.getValue().get("cleanup.policy").value().contains("compact"))
            .map(entry -> entry.getKey().name()).collect(Collectors.toSet());
        var descriptions = admin.describeTopics(names).allTopicNames().get();
        List<TopicPartition> partitions = new ArrayList<>();
        for (String name : names) {
            var description = descriptions.get(name);
            OUT.printf("topic %s %s %d%n", name, description.topicId(), description.partitions().size());
            // What is being written to all the time is counted at the end.
            if (name.equals("through")) continue;
            for (var info : description.partitions()) partitions.add(new TopicPartition(name, info.partition()));
        }
        offsets(partitions, compacted);
        for (String isolation : List.of("read_uncommitted", "read_committed")) consume(partitions, compacted, isolation);
        describeGroups();
    }

    static void offsets(List<TopicPartition> partitions, Set<String> compacted) throws Exception {
        Map<String, OffsetSpec> specs = new TreeMap<>();
        specs.put("earliest", OffsetSpec.earliest());
        specs.put("latest", OffsetSpec.latest());
        specs.put("largest", OffsetSpec.maxTimestamp());
        for (long delta = 0; delta < 5_000_000; delta += 333_333) specs.put("+" + delta, OffsetSpec.forTimestamp(START + delta));
        for (var spec : specs.entrySet()) {
            boolean isTime = !List.of("earliest", "latest").contains(spec.getKey());
            // Kafka finds nothing by time where the log start lies inside the segment that has it.
            var asked = partitions.stream().filter(p -> !isTime || !(compacted.contains(p.topic()) || p.topic().equals("trimmed")));
            var found = admin.listOffsets(asked.collect(Collectors.toMap(p -> p, p -> spec.getValue()))).all().get();
            for (var partition : partitions) {
                var info = found.get(partition);
                if (info != null) OUT.printf("%s %s %d %d%n", spec.getKey(), partition, info.offset(), info.timestamp());
            }
        }
    }

    /** Every record; of compacted topics the newest of each key, since the rest may go at any time. */
    static void consume(List<TopicPartition> partitions, Set<String> compacted, String isolation) {
        Map<TopicPartition, Map<String, String>> found = new LinkedHashMap<>();
        try (var consumer = consumer(Map.of("isolation.level", isolation, "check.crcs", true))) {
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            var ends = consumer.endOffsets(partitions);
            while (partitions.stream().anyMatch(partition -> consumer.position(partition) < ends.get(partition))) {
                for (var record : consumer.poll(Duration.ofMillis(100))) {
                    var partition = new TopicPartition(record.topic(), record.partition());
                    String key = compacted.contains(record.topic()) ? hex(record.key()) : "" + record.offset();
                    found.computeIfAbsent(partition, p -> new LinkedHashMap<>()).put(key, line(record));
                }
            }
            for (var partition : partitions) {
                OUT.printf("%s %s end %d%n", isolation, partition, ends.get(partition));
                for (String line : new TreeSet<>(found.getOrDefault(partition, Map.of()).values())) OUT.println(isolation + " " + partition + " " + line);
            }
        }
    }

    static String line(ConsumerRecord<byte[], byte[]> record) {
        StringBuilder headers = new StringBuilder();
        for (Header header : record.headers()) headers.append(' ').append(header.key()).append('=').append(hex(header.value()));
        return String.format("%06d %s %d epoch %d %s %s%s", record.offset(), record.timestampType(), record.timestamp(),
            record.leaderEpoch().orElse(-1), hex(record.key()), hex(record.value()), headers);
    }

    static String hex(byte[] bytes) {
        return bytes == null ? "null" : "'" + HexFormat.of().formatHex(bytes);
    }

    static void describeGroups() throws Exception {
        var ids = admin.listConsumerGroups().all().get().stream().map(ConsumerGroupListing::groupId).collect(Collectors.toCollection(TreeSet::new));
        var groups = admin.describeConsumerGroups(ids).all().get();
        for (String id : ids) {
            var group = groups.get(id);
            var offsets = new TreeMap<String, Object>();
            admin.listConsumerGroupOffsets(id).partitionsToOffsetAndMetadata().get().forEach((p, offset) -> offsets.put(p.toString(), offset));
            // One whose only commits were aborted is in memory alone.
            if (offsets.isEmpty() && group.members().isEmpty()) continue;
            OUT.printf("group %s %s %s simple=%s%n", id, group.state(), group.partitionAssignor(), group.isSimpleConsumerGroup());
            for (var member : group.members()) {
                OUT.printf("member %s %s %s %s %s %s%n", id, member.groupInstanceId(), member.consumerId(), member.clientId(), member.host(),
                    new TreeSet<>(member.assignment().topicPartitions().stream().map(Object::toString).toList()));
            }
            offsets.forEach((partition, offset) -> OUT.printf("offset %s %s %s%n", id, partition, offset));
        }
    }
}
