// Fills a running broker with a little of everything that a partition directory can hold, and prints what a consumer and the
// admin client then see. Used by tests/fixtures/kafka-log-dir.sh.

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.*;

public class WriteLogs {
    static final long START = 1_700_000_000_000L;
    static String bootstrap;

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            Map<String, String> small = Map.of("segment.bytes", "1500", "index.interval.bytes", "200", "retention.ms", "-1");
            topic(admin, "plain", small);
            topic(admin, "codecs", small);
            topic(admin, "stamped", Map.of("message.timestamp.type", "LogAppendTime", "retention.ms", "-1"));
            topic(admin, "transactions", small);
            topic(admin, "trimmed", small);
            topic(admin, "empty", Map.of());
            write("plain", "none", true, 60);
            write("trimmed", "none", false, 60);
            for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) write("codecs", codec, true, 20);
            write("stamped", "none", true, 5);
            transact("committed", true, 0);
            transact("aborted", false, 30);
            transact("again", true, 60);
            admin.deleteRecords(Map.of(new TopicPartition("trimmed", 0), RecordsToDelete.beforeOffset(33))).all().get();
            describe(admin);
        }
    }

    static void topic(Admin admin, String name, Map<String, String> configs) throws Exception {
        admin.createTopics(List.of(new NewTopic(name, 1, (short) 1).configs(configs))).all().get();
    }

    static KafkaProducer<byte[], byte[]> producer(Map<String, Object> settings) {
        Map<String, Object> all = new HashMap<>(settings);
        all.put("bootstrap.servers", bootstrap);
        all.put("linger.ms", 10_000);
        all.put("batch.size", 400);
        return new KafkaProducer<>(all, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static ProducerRecord<byte[], byte[]> record(String topic, int n, long timestamp) {
        byte[] key = n % 3 == 0 ? null : bytes("key-" + n % 7);
        byte[] value = n % 11 == 10 ? null : bytes("value-" + n + "-" + "x".repeat(n % 40));
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, 0, timestamp, key, value);
        if (n % 5 == 0) record.headers().add(new RecordHeader("h", bytes("" + n))).add(new RecordHeader("h", null));
        return record;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static void write(String topic, String codec, boolean idempotent, int count) {
        try (var producer = producer(Map.of("compression.type", codec, "enable.idempotence", idempotent))) {
            for (int n = 0; n < count; n++) producer.send(record(topic, n, START + n * 1000L - (n % 4 == 3 ? 2500 : 0)));
            producer.flush();
        }
    }

    static void transact(String id, boolean commit, int from) {
        try (var producer = producer(Map.of("transactional.id", id))) {
            producer.initTransactions();
            producer.beginTransaction();
            for (int n = from; n < from + 30; n++) producer.send(record("transactions", n, START + n * 1000L));
            producer.flush();
            if (commit) producer.commitTransaction();
            else producer.abortTransaction();
        }
    }

    static void describe(Admin admin) throws Exception {
        for (String topic : List.of("plain", "codecs", "stamped", "transactions", "trimmed", "empty")) {
            TopicPartition partition = new TopicPartition(topic, 0);
            System.out.printf("log %s earliest=%d latest=%d max-timestamp=%d%n", topic, offset(admin, partition, OffsetSpec.earliest()),
                    offset(admin, partition, OffsetSpec.latest()), offset(admin, partition, OffsetSpec.maxTimestamp()));
            for (long delta = -1; delta < 70_000; delta += 7_001)
                System.out.printf("time %s %d=%d%n", topic, START + delta, offset(admin, partition, OffsetSpec.forTimestamp(START + delta)));
            for (String isolation : List.of("read_uncommitted", "read_committed")) consume(partition, isolation);
        }
    }

    static long offset(Admin admin, TopicPartition partition, OffsetSpec spec) throws Exception {
        return admin.listOffsets(Map.of(partition, spec)).partitionResult(partition).get().offset();
    }

    static void consume(TopicPartition partition, String isolation) {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "isolation.level", isolation);
        try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            while (consumer.position(partition) < end)
                for (var record : consumer.poll(Duration.ofMillis(200))) print(isolation, record);
        }
    }

    static void print(String isolation, ConsumerRecord<byte[], byte[]> record) {
        StringBuilder headers = new StringBuilder();
        for (Header header : record.headers()) headers.append(' ').append(header.key()).append('=').append(hex(header.value()));
        System.out.printf("%s %s %d %d %d %s %s%s%n", isolation, record.topic(), record.offset(), record.timestamp(),
                record.leaderEpoch().orElse(-1), hex(record.key()), hex(record.value()), headers);
    }

    static String hex(byte[] bytes) {
        return bytes == null ? "null" : "'" + HexFormat.of().formatHex(bytes);
    }
}
