// Records through the Java client: producers of every kind, and consumers without a group.

import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.serialization.*;

final class Records extends Compat {
    static void addTo(Map<String, Body> checks) {
        checks.put("contentsSurviveByteForByte", Records::contentsSurviveByteForByte);
        checks.put("everyCodecRoundTripsAndTopicCompressionWins", Records::everyCodecRoundTripsAndTopicCompressionWins);
        checks.put("idempotentProducersKeepOrderAndShareAPartition", Records::idempotentProducersKeepOrderAndShareAPartition);
        checks.put("acksZeroAndOneArrive", Records::acksZeroAndOneArrive);
        checks.put("logAppendTimeIsTheBrokers", Records::logAppendTimeIsTheBrokers);
        checks.put("offsetsAreFoundByTimeAndKind", Records::offsetsAreFoundByTimeAndKind);
        checks.put("seekPauseResumeAndReset", Records::seekPauseResumeAndReset);
        checks.put("aLongPollWakesUpAndMinBytesAreAwaited", Records::aLongPollWakesUpAndMinBytesAreAwaited);
        checks.put("fetchLimitsNeverBlockProgress", Records::fetchLimitsNeverBlockProgress);
        checks.put("largeRecordsPassAndTooLargeOnesAreRefused", Records::largeRecordsPassAndTooLargeOnesAreRefused);
    }

    static void contentsSurviveByteForByte() throws Exception {
        String topic = create(name("contents"), 1);
        byte[] every = new byte[256], large = new byte[50_000];
        for (int i = 0; i < 256; i++) every[i] = (byte) i;
        RANDOM.nextBytes(large);
        long at = 1_700_000_000_000L;
        var first = new ProducerRecord<>(topic, 0, at, bytes("key"), bytes("value"));
        first.headers().add("h", bytes("1")).add("h", bytes("2")).add("null", null).add("empty", new byte[0]);
        List<ProducerRecord<byte[], byte[]>> sent = List.of(first,
            new ProducerRecord<>(topic, 0, at + 1, null, bytes("no key")),
            new ProducerRecord<>(topic, 0, at + 2, bytes("no value"), (byte[]) null),
            new ProducerRecord<>(topic, 0, at + 3, new byte[0], new byte[0]),
            new ProducerRecord<>(topic, 0, at + 4, every, large, List.of(new RecordHeader("\u00fcml\u00e4ut", every))));
        for (String level : List.of("read_uncommitted", "read_committed")) {
            if (level.equals("read_uncommitted")) produce(sent);
            var got = read(topic, 0, 5, "isolation.level", level);
            for (int i = 0; i < 5; i++) {
                equal(got.get(i).key(), sent.get(i).key(), "key " + i);
                equal(got.get(i).value(), sent.get(i).value(), "value " + i);
                equal(got.get(i).headers(), sent.get(i).headers(), "headers " + i);
                equal(got.get(i).timestamp(), sent.get(i).timestamp(), "timestamp " + i);
                equal(got.get(i).timestampType(), TimestampType.CREATE_TIME, "timestamp type");
                equal(got.get(i).leaderEpoch(), Optional.of(0), "leader epoch");
            }
        }
    }

    static void everyCodecRoundTripsAndTopicCompressionWins() throws Exception {
        for (String codec : CODECS) {
            String topic = create(name("codec-" + codec), 1);
            var records = simple(topic, 0, 0, 500);
            produce(records, "compression.type", codec, "linger.ms", "20");
            sameValues(read(topic, 0, 500), records, codec);
            String recoded = create(name("recoded-" + codec), 1, "compression.type", codec.equals("none") ? "uncompressed" : codec);
            var all = new ArrayList<ProducerRecord<byte[], byte[]>>();
            for (String sender : CODECS) {
                var part = simple(recoded, 0, all.size(), 100);
                produce(part, "compression.type", sender, "linger.ms", "20");
                all.addAll(part);
            }
            sameValues(read(recoded, 0, 500), all, "recoded to " + codec);
        }
        String leveled = create(name("leveled"), 1, "compression.type", "gzip", "compression.gzip.level", "9");
        produce(simple(leveled, 0, 0, 10));
        sameValues(read(leveled, 0, 10), simple(leveled, 0, 0, 10), "gzip level 9");
    }

    static void idempotentProducersKeepOrderAndShareAPartition() throws Exception {
        String topic = create(name("idempotent"), 2);
        var records = new ArrayList<ProducerRecord<byte[], byte[]>>();
        for (int i = 0; i < 20_000; i++) records.add(new ProducerRecord<>(topic, i % 2, null, bytes(String.format("%06d", i))));
        var sent = produce(records, "enable.idempotence", "true", "batch.size", "1000", "max.in.flight.requests.per.connection", "5");
        for (int i = 0; i < sent.size(); i++) equal(sent.get(i).offset(), (long) (i / 2), "offset");
        for (int p = 0; p < 2; p++) {
            var got = read(topic, p, 10_000);
            for (int i = 0; i < got.size(); i++) equal(new String(got.get(i).value()), String.format("%06d", 2 * i + p), "value");
        }
    }

    static void acksZeroAndOneArrive() throws Exception {
        String topic = create(name("acks"), 1);
        produce(simple(topic, 0, 0, 50), "acks", "0", "enable.idempotence", "false");
        read(topic, 0, 50);
        equal(produce(simple(topic, 0, 0, 1), "acks", "1", "enable.idempotence", "false").get(0).offset(), 50L, "offset");
    }

    static void logAppendTimeIsTheBrokers() throws Exception {
        String topic = create(name("append-time"), 1, "message.timestamp.type", "LogAppendTime");
        for (String codec : CODECS) {
            long before = System.currentTimeMillis();
            var sent = produce(List.of(new ProducerRecord<>(topic, 0, 1_000_000_000_000L, null, bytes("x"))), "compression.type", codec);
            equal(sent.get(0).timestamp() >= before - 5000, true, "the time in the reply is the broker's");
        }
        for (var record : read(topic, 0, 5)) {
            equal(record.timestampType(), TimestampType.LOG_APPEND_TIME, "timestamp type");
            equal(record.timestamp() > 1_500_000_000_000L, true, "the broker's time");
        }
        String bounded = create(name("bounded-time"), 1, "message.timestamp.before.max.ms", "1000");
        try {
            produce(List.of(new ProducerRecord<>(bounded, 0, 1_000_000_000_000L, null, bytes("x"))));
            throw new AssertionError("a record from 2001 was taken");
        } catch (ExecutionException error) {
            equal(error.getCause().getClass(), InvalidTimestampException.class, "error");
        }
    }

    static void offsetsAreFoundByTimeAndKind() throws Exception {
        String topic = create(name("times"), 1);
        var records = new ArrayList<ProducerRecord<byte[], byte[]>>();
        for (int i = 0; i < 1000; i++) records.add(new ProducerRecord<>(topic, 0, 1_700_000_000_000L + i * 1000L, null, bytes("v" + i)));
        produce(records, "batch.size", "200", "compression.type", "lz4");
        var part = new TopicPartition(topic, 0);
        try (var consumer = consumer()) {
            for (long[] c : new long[][] {{0, 0}, {1_700_000_500_000L, 500}, {1_700_000_500_001L, 501}, {1_700_000_999_000L, 999}}) {
                equal(consumer.offsetsForTimes(Map.of(part, c[0])).get(part).offset(), c[1], "offset for " + c[0]);
            }
            equal(consumer.offsetsForTimes(Map.of(part, 1_800_000_000_000L)).get(part), null, "offset in the future");
            equal(consumer.beginningOffsets(List.of(part)).get(part), 0L, "beginning");
            equal(consumer.endOffsets(List.of(part)).get(part), 1000L, "end");
            consumer.assign(List.of(part));
            equal(consumer.currentLag(part).isPresent(), false, "lag before a position");
        }
        Map<OffsetSpec, Long> wanted = new LinkedHashMap<>();
        wanted.put(OffsetSpec.earliest(), 0L);
        wanted.put(OffsetSpec.latest(), 1000L);
        wanted.put(OffsetSpec.maxTimestamp(), 999L);
        wanted.put(OffsetSpec.earliestLocal(), 0L);
        wanted.put(OffsetSpec.latestTiered(), -1L);
        wanted.put(OffsetSpec.forTimestamp(1_700_000_000_001L), 1L);
        for (var c : wanted.entrySet()) {
            equal(get(admin.listOffsets(Map.of(part, c.getKey())).all()).get(part).offset(), c.getValue(), c.getKey().getClass().getSimpleName());
        }
        // (an unknown partition is retried by this client until its own time is over, so it is not asked for)
    }

    static void seekPauseResumeAndReset() throws Exception {
        String topic = create(name("seek"), 2);
        produce(simple(topic, 0, 0, 100));
        produce(simple(topic, 1, 0, 100));
        TopicPartition zero = new TopicPartition(topic, 0), one = new TopicPartition(topic, 1);
        try (var consumer = consumer()) {
            consumer.assign(List.of(zero, one));
            consumer.seek(zero, 95);
            consumer.seek(one, new OffsetAndMetadata(97, Optional.of(0), ""));
            equal(take(consumer, 8).size(), 8, "the ends of both");
            consumer.pause(List.of(zero));
            consumer.seek(zero, 0);
            consumer.seek(one, 99);
            equal(take(consumer, 1).get(0).partition(), 1, "only the partition that is not paused");
            consumer.resume(List.of(zero));
            equal(take(consumer, 100).get(0).offset(), 0L, "resumed");
            consumer.seek(zero, 5000);
            equal(take(consumer, 1).get(0).offset(), 0L, "reset to the earliest");
        }
        try (var consumer = consumer("auto.offset.reset", "none")) {
            consumer.assign(List.of(zero));
            consumer.seek(zero, 5000);
            eventually("an error", () -> {
                try {
                    consumer.poll(Duration.ofMillis(100));
                    return false;
                } catch (org.apache.kafka.clients.consumer.OffsetOutOfRangeException expected) {
                    return expected.offsetOutOfRangePartitions().equals(Map.of(zero, 5000L));
                }
            });
        }
    }

    static void aLongPollWakesUpAndMinBytesAreAwaited() throws Exception {
        String topic = create(name("long-poll"), 1);
        try (var consumer = consumer("fetch.max.wait.ms", "5000")) {
            consumer.assign(List.of(new TopicPartition(topic, 0)));
            equal(consumer.poll(Duration.ofMillis(500)).count(), 0, "nothing yet");
            produce(simple(topic, 0, 0, 1));
            equal(consumer.poll(Duration.ofSeconds(4)).count(), 1, "woken before the wait is over");
        }
        try (var consumer = consumer("fetch.max.wait.ms", "1500", "fetch.min.bytes", "100000")) {
            consumer.assign(List.of(new TopicPartition(topic, 0)));
            long began = System.nanoTime();
            take(consumer, 1);
            equal(System.nanoTime() - began > 1_000_000_000L, true, "the wait for fetch.min.bytes");
        }
    }

    static void fetchLimitsNeverBlockProgress() throws Exception {
        String topic = create(name("limits"), 4);
        byte[] value = new byte[10_000];
        for (int p = 0; p < 4; p++) {
            int partition = p;
            produce(IntStream.range(0, 20).mapToObj(i -> new ProducerRecord<byte[], byte[]>(topic, partition, null, value)).toList(),
                "batch.size", "0");
        }
        try (var consumer = consumer("max.partition.fetch.bytes", "1", "fetch.max.bytes", "1", "max.poll.records", "7")) {
            consumer.assign(IntStream.range(0, 4).mapToObj(p -> new TopicPartition(topic, p)).toList());
            equal(take(consumer, 80).stream().collect(Collectors.groupingBy(ConsumerRecord::partition, Collectors.counting())),
                Map.of(0, 20L, 1, 20L, 2, 20L, 3, 20L), "records of each partition");
        }
    }

    static void largeRecordsPassAndTooLargeOnesAreRefused() throws Exception {
        String topic = create(name("large"), 1, "max.message.bytes", "20000000");
        byte[] big = new byte[15_000_000];
        RANDOM.nextBytes(big);
        produce(List.of(new ProducerRecord<>(topic, 0, null, big), new ProducerRecord<>(topic, 0, null, bytes("after"))),
            "max.request.size", "20000000", "buffer.memory", "50000000");
        var got = read(topic, 0, 2, "max.partition.fetch.bytes", "1000");
        equal(Arrays.equals(got.get(0).value(), big), true, "contents");
        String small = create(name("small"), 1, "max.message.bytes", "1000");
        try {
            produce(List.of(new ProducerRecord<>(small, 0, null, Arrays.copyOf(big, 5000))));
            throw new AssertionError("a record above max.message.bytes was taken");
        } catch (ExecutionException error) {
            equal(error.getCause().getClass(), RecordTooLargeException.class, "error");
        }
    }
}
