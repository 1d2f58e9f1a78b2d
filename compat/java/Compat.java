// The Java client against BOOTSTRAP: what its checks share, and running them.

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;

public class Compat {
    static final String BOOTSTRAP = System.getenv("BOOTSTRAP");
    static final String RUN = Integer.toHexString(new Random().nextInt());
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    static final Random RANDOM = new Random();
    static Admin admin;

    interface Body {
        void run() throws Exception;
    }

    static String name(String what) {
        return what + "-" + RUN;
    }

    static void equal(Object got, Object wanted, String what) {
        if (!Objects.deepEquals(got, wanted)) {
            String g = String.valueOf(got), w = String.valueOf(wanted);
            throw new AssertionError(what + ": got " + g.substring(0, Math.min(g.length(), 600)) + ", wanted "
                + w.substring(0, Math.min(w.length(), 600)));
        }
    }

    static void eventually(String what, BooleanSupplier condition) throws Exception {
        for (long end = System.nanoTime() + 30_000_000_000L; System.nanoTime() < end; Thread.sleep(20)) {
            if (condition.getAsBoolean()) return;
        }
        throw new AssertionError("not within 30 s: " + what);
    }

    static void failsWith(Class<? extends Exception> wanted, Future<?> future) throws Exception {
        try {
            future.get(30, TimeUnit.SECONDS);
        } catch (ExecutionException error) {
            equal(error.getCause().getClass().getSimpleName(), wanted.getSimpleName(), error.getCause().getMessage());
            return;
        }
        throw new AssertionError("no " + wanted.getSimpleName());
    }

    static <T> T get(Future<T> future) throws Exception {
        return future.get(30, TimeUnit.SECONDS);
    }

    static String create(String topic, int partitions, String... configs) throws Exception {
        Map<String, String> values = new HashMap<>();
        for (int i = 0; i < configs.length; i += 2) values.put(configs[i], configs[i + 1]);
        get(admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(values))).all());
        return topic;
    }

    static Properties properties(String... entries) {
        Properties p = new Properties();
        p.put("bootstrap.servers", BOOTSTRAP);
        for (int i = 0; i < entries.length; i += 2) p.put(entries[i], entries[i + 1]);
        return p;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static List<ProducerRecord<byte[], byte[]>> simple(String topic, int partition, int start, int count) {
        return IntStream.range(start, start + count)
            .mapToObj(i -> new ProducerRecord<>(topic, partition, bytes("k" + i), bytes("value " + i)))
            .collect(Collectors.toList());
    }

    static List<RecordMetadata> produce(List<ProducerRecord<byte[], byte[]>> records, String... config) throws Exception {
        try (var producer = new KafkaProducer<>(properties(config), new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Future<RecordMetadata>> futures = records.stream().map(producer::send).toList();
            producer.flush();
            List<RecordMetadata> sent = new ArrayList<>();
            for (var future : futures) sent.add(get(future));
            return sent;
        }
    }

    static KafkaConsumer<byte[], byte[]> consumer(String... config) {
        Properties p = properties("auto.offset.reset", "earliest", "enable.auto.commit", "false", "session.timeout.ms", "6000",
            "heartbeat.interval.ms", "300");
        for (int i = 0; i < config.length; i += 2) p.put(config[i], config[i + 1]);
        return new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static List<ConsumerRecord<byte[], byte[]>> take(Consumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> found = new ArrayList<>();
        for (long end = System.nanoTime() + 30_000_000_000L; found.size() < count; ) {
            if (System.nanoTime() > end) throw new AssertionError("only " + found.size() + " of " + count + " records");
            consumer.poll(Duration.ofMillis(200)).forEach(found::add);
        }
        return found;
    }

    static List<ConsumerRecord<byte[], byte[]>> read(String topic, int partition, int count, String... config) {
        try (var consumer = consumer(config)) {
            consumer.assign(List.of(new TopicPartition(topic, partition)));
            return take(consumer, count);
        }
    }

    static void sameValues(List<ConsumerRecord<byte[], byte[]>> got, List<ProducerRecord<byte[], byte[]>> wanted, String what) {
        equal(got.size(), wanted.size(), what + " count");
        for (int i = 0; i < got.size(); i++) {
            equal(new String(got.get(i).value()), new String(wanted.get(i).value()), what + " value " + i);
            equal(got.get(i).offset(), (long) i, what + " offset");
        }
    }

    public static void main(String[] args) throws Exception {
        Map<String, Body> checks = new LinkedHashMap<>();
        Topics.addTo(checks);
        Records.addTo(checks);
        Groups.addTo(checks);
        Transactions.addTo(checks);
        admin = Admin.create(properties());
        int passed = 0, failed = 0;
        for (var check : checks.entrySet()) {
            if (args.length > 0 && !List.of(args).contains(check.getKey())) continue;
            long began = System.nanoTime();
            try {
                check.getValue().run();
                passed++;
                System.out.printf("ok %s (%.1f s)%n", check.getKey(), (System.nanoTime() - began) / 1e9);
            } catch (Throwable problem) {
                failed++;
                System.out.println("FAIL " + check.getKey() + ": " + problem);
                problem.printStackTrace();
            }
        }
        System.out.printf("%d passed, %d failed%n", passed, failed);
        System.exit(failed > 0 || passed == 0 ? 1 : 0);
    }
}
