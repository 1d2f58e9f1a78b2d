// The Java client against BOOTSTRAP: producers, consumers of every kind, and the admin client.

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.BooleanSupplier;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
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

    static void clusterTopicsAndConfigsAreDescribed() throws Exception {
        String topic = create(name("described"), 3, "cleanup.policy", "compact,delete");
        var cluster = admin.describeCluster(new DescribeClusterOptions().includeAuthorizedOperations(true));
        equal(get(cluster.nodes()).size(), 1, "nodes");
        equal(get(cluster.controller()).id(), get(cluster.nodes()).iterator().next().id(), "controller");
        equal(get(cluster.clusterId()).length(), 22, "length of the cluster id");
        var described = get(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic);
        equal(described.partitions().size(), 3, "partitions");
        equal(described.topicId().equals(Uuid.ZERO_UUID), false, "zero topic id");
        var byId = get(admin.describeTopics(TopicCollection.ofTopicIds(List.of(described.topicId()))).allTopicIds());
        equal(byId.get(described.topicId()).name(), topic, "described by id");
        failsWith(UnknownTopicIdException.class,
            admin.describeTopics(TopicCollection.ofTopicIds(List.of(Uuid.randomUuid()))).allTopicIds());
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var config = get(admin.describeConfigs(List.of(resource),
            new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true)).all()).get(resource);
        equal(config.get("cleanup.policy").value(), "compact,delete", "cleanup.policy");
        equal(config.get("cleanup.policy").source(), ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "source");
        equal(config.get("segment.bytes").source(), ConfigEntry.ConfigSource.DEFAULT_CONFIG, "source");
        equal(config.get("segment.bytes").type(), ConfigEntry.ConfigType.INT, "type");
        equal(config.get("retention.ms").documentation().isEmpty(), false, "no documentation");
        equal(config.get("cleanup.policy").synonyms().stream().map(ConfigEntry.ConfigSynonym::name).toList(),
            List.of("cleanup.policy", "log.cleanup.policy"), "synonyms");
        var broker = new ConfigResource(ConfigResource.Type.BROKER, get(cluster.controller()).idString());
        var settings = get(admin.describeConfigs(List.of(broker)).all()).get(broker);
        equal(settings.get("log.dirs").source(), ConfigEntry.ConfigSource.STATIC_BROKER_CONFIG, "source of log.dirs");
        equal(settings.get("log.retention.hours").value(), "168", "log.retention.hours");
        equal(settings.get("broker.id").isReadOnly(), true, "broker.id is read only");
        equal(settings.entries().size() > 200, true, "more than 200 broker settings");
        var dirs = get(admin.describeLogDirs(List.of(get(cluster.controller()).id())).allDescriptions());
        var dir = dirs.values().iterator().next().values().iterator().next();
        equal(dir.replicaInfos().keySet().stream().filter(p -> p.topic().equals(topic)).count(), 3L, "replicas in the directory");
        equal(dir.totalBytes().isPresent() && dir.usableBytes().isPresent(), true, "sizes of the volume");
    }

    static void topicsAreCreatedGrownAndDeletedWithTheRightErrors() throws Exception {
        String topic = name("grown");
        var created = admin.createTopics(List.of(new NewTopic(topic, Optional.empty(), Optional.empty())));
        get(created.all());
        equal(get(created.numPartitions(topic)), 1, "default partitions");
        equal(get(created.replicationFactor(topic)), 1, "default replication factor");
        equal(get(created.config(topic)).get("compression.type").value(), "producer", "config in the reply");
        failsWith(TopicExistsException.class, admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all());
        failsWith(InvalidTopicException.class, admin.createTopics(List.of(new NewTopic("a/b", 1, (short) 1))).all());
        failsWith(InvalidTopicException.class, admin.createTopics(List.of(new NewTopic("x".repeat(250), 1, (short) 1))).all());
        failsWith(InvalidReplicationFactorException.class, admin.createTopics(List.of(new NewTopic(name("r"), 1, (short) 3))).all());
        failsWith(InvalidPartitionsException.class, admin.createTopics(List.of(new NewTopic(name("p"), 0, (short) 1))).all());
        failsWith(InvalidConfigurationException.class, admin.createTopics(
            List.of(new NewTopic(name("c"), 1, (short) 1).configs(Map.of("no.such.thing", "1")))).all());
        failsWith(InvalidReplicaAssignmentException.class, admin.createTopics(
            List.of(new NewTopic(name("a"), Map.of(0, List.of(0, 0))))).all());
        get(admin.createTopics(List.of(new NewTopic(name("checked"), 1, (short) 1)), new CreateTopicsOptions().validateOnly(true)).all());
        equal(get(admin.listTopics().names()).contains(name("checked")), false, "validateOnly created a topic");
        int node = get(admin.describeCluster().nodes()).iterator().next().id();
        get(admin.createTopics(List.of(new NewTopic(name("assigned"), Map.of(0, List.of(node), 1, List.of(node))))).all());
        failsWith(InvalidPartitionsException.class, admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(1))).all());
        get(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all());
        eventually("three partitions", () -> partitions(topic) == 3);
        var id = get(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic).topicId();
        get(admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all());
        eventually("the topic is gone", () -> partitions(topic) == 0);
        failsWith(UnknownTopicOrPartitionException.class, admin.deleteTopics(List.of(topic)).all());
        eventually("the name can be used again", () -> {
            try {
                create(topic, 2);
                return true;
            } catch (Exception error) {
                return false;
            }
        });
        eventually("two partitions", () -> partitions(topic) == 2);
        equal(get(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic).topicId().equals(id), false, "the same topic id");
    }

    static int partitions(String topic) {
        try {
            return get(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic).partitions().size();
        } catch (Exception absent) {
            return 0;
        }
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

    static void groupSplitsAndResumes(String assignor) throws Exception {
        String topic = create(name("group-" + assignor), 4), group = name("group-" + assignor);
        String[] config = {"group.id", group, "partition.assignment.strategy", "org.apache.kafka.clients.consumer." + assignor};
        var first = consumer(config);
        first.subscribe(List.of(topic));
        eventually("the first member has everything", () -> owned(first) == 4);
        var second = consumer(config);
        second.subscribe(List.of(topic));
        eventually("two partitions each", () -> owned(first) == 2 & owned(second) == 2);
        for (int p = 0; p < 4; p++) produce(simple(topic, p, 0, 50));
        Set<String> seen = new HashSet<>();
        eventually("200 records between two members", () -> {
            for (var consumer : List.of(first, second)) {
                consumer.poll(Duration.ofMillis(50)).forEach(r -> seen.add(r.partition() + "/" + r.offset()));
            }
            return seen.size() == 200;
        });
        first.commitSync();
        second.commitSync();
        var described = get(admin.describeConsumerGroups(List.of(group)).all()).get(group);
        equal(described.state(), ConsumerGroupState.STABLE, "state");
        equal(described.members().stream().mapToInt(m -> m.assignment().topicPartitions().size()).sum(), 4, "assigned partitions");
        second.close();
        eventually("the first member has everything again", () -> owned(first) == 4);
        first.close();
        for (int p = 0; p < 4; p++) produce(simple(topic, p, 50, 1));
        try (var third = consumer(config)) {
            third.subscribe(List.of(topic));
            for (var record : take(third, 4)) equal(record.offset(), 50L, "resumed at the commits");
        }
    }

    static int owned(Consumer<byte[], byte[]> consumer) {
        consumer.poll(Duration.ofMillis(50));
        return consumer.assignment().size();
    }

    static void aRangeGroupRebalances() throws Exception {
        groupSplitsAndResumes("RangeAssignor");
    }

    static void aRoundRobinGroupRebalances() throws Exception {
        groupSplitsAndResumes("RoundRobinAssignor");
    }

    static void aStickyGroupRebalances() throws Exception {
        groupSplitsAndResumes("StickyAssignor");
    }

    static void aCooperativeGroupRebalances() throws Exception {
        groupSplitsAndResumes("CooperativeStickyAssignor");
    }

    static void aStaticMemberComesBackWithoutARebalance() throws Exception {
        String topic = create(name("static"), 2), group = name("static");
        String[] config = {"group.id", group, "group.instance.id", "one"};
        AtomicLong generation = new AtomicLong(-1);
        for (int i = 0; i < 2; i++) {
            var member = consumer(config);
            member.subscribe(List.of(topic));
            eventually("assigned", () -> owned(member) == 2);
            long now = member.groupMetadata().generationId();
            if (i == 1) equal(now, generation.get(), "generation of the member that came back");
            generation.set(now);
            member.close();
        }
        var described = get(admin.describeConsumerGroups(List.of(group)).all()).get(group);
        equal(described.members().iterator().next().groupInstanceId(), Optional.of("one"), "instance");
        get(admin.removeMembersFromConsumerGroup(group,
            new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("one")))).all());
        eventually("the group is empty", () -> state(group) == ConsumerGroupState.EMPTY);
        var fenced = consumer(config);
        fenced.subscribe(List.of(topic));
        eventually("assigned", () -> owned(fenced) == 2);
        try (var other = consumer(config)) {
            other.subscribe(List.of(topic));
            eventually("the second holder of the name is assigned", () -> owned(other) == 2);
            eventually("the first is fenced", () -> {
                try {
                    fenced.commitSync();
                    return false;
                } catch (FencedInstanceIdException expected) {
                    return true;
                } catch (KafkaException other2) {
                    return false;
                }
            });
        }
        fenced.close(Duration.ofSeconds(1));
    }

    static ConsumerGroupState state(String group) {
        try {
            return get(admin.describeConsumerGroups(List.of(group)).all()).get(group).state();
        } catch (Exception error) {
            return ConsumerGroupState.UNKNOWN;
        }
    }

    static void aSilentMemberIsThrownOut() throws Exception {
        String topic = create(name("silent"), 2), group = name("silent");
        String[] config = {"group.id", group, "session.timeout.ms", "2000", "max.poll.interval.ms", "2500"};
        var silent = consumer(config);
        silent.subscribe(List.of(topic));
        eventually("assigned", () -> owned(silent) == 2);
        try (var other = consumer(config)) {
            other.subscribe(List.of(topic));
            eventually("the other has everything, since the silent one never polls", () -> owned(other) == 2);
            try {
                silent.commitSync(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(0)));
                throw new AssertionError("a member that was thrown out committed");
            } catch (CommitFailedException expected) {
                // as it should be
            }
        }
        silent.close(Duration.ofSeconds(1));
    }

    static void autoCommitAndPatternsWork() throws Exception {
        String group = name("auto");
        String topic = create(name("pattern-a"), 1);
        produce(simple(topic, 0, 0, 10));
        try (var consumer = consumer("group.id", group, "enable.auto.commit", "true", "metadata.max.age.ms", "500")) {
            consumer.subscribe(java.util.regex.Pattern.compile("pattern-.-" + RUN));
            take(consumer, 10);
            String late = create(name("pattern-b"), 1);
            produce(simple(late, 0, 0, 10));
            take(consumer, 10);
        }
        var offsets = get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
        equal(offsets.values().stream().map(OffsetAndMetadata::offset).toList(), List.of(10L, 10L), "committed at closing");
    }

    static void groupsAreListedAlteredAndDeleted() throws Exception {
        String topic = create(name("offsets"), 2), group = name("offsets");
        TopicPartition zero = new TopicPartition(topic, 0), one = new TopicPartition(topic, 1);
        get(admin.alterConsumerGroupOffsets(group, Map.of(zero, new OffsetAndMetadata(7, Optional.of(0), "seven"),
            one, new OffsetAndMetadata(8))).all());
        var offsets = get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
        equal(offsets.get(zero), new OffsetAndMetadata(7, Optional.of(0), "seven"), "offset");
        try (var consumer = consumer("group.id", group)) {
            equal(consumer.committed(Set.of(zero, one)).get(one).offset(), 8L, "committed");
        }
        var listed = get(admin.listConsumerGroups(new ListConsumerGroupsOptions().inStates(Set.of(ConsumerGroupState.EMPTY))
            .withTypes(Set.of(GroupType.CLASSIC))).all());
        equal(listed.stream().anyMatch(g -> g.groupId().equals(group) && g.state().equals(Optional.of(ConsumerGroupState.EMPTY))), true, "listed");
        get(admin.deleteConsumerGroupOffsets(group, Set.of(one)).all());
        equal(get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).keySet(), Set.of(zero), "left offsets");
        var member = consumer("group.id", group);
        member.subscribe(List.of(topic));
        eventually("assigned", () -> owned(member) == 2);
        failsWith(GroupNotEmptyException.class, admin.deleteConsumerGroups(List.of(group)).all());
        failsWith(GroupSubscribedToTopicException.class, admin.deleteConsumerGroupOffsets(group, Set.of(zero)).all());
        failsWith(UnknownMemberIdException.class, admin.alterConsumerGroupOffsets(group, Map.of(zero, new OffsetAndMetadata(1))).all());
        member.close();
        get(admin.deleteConsumerGroups(List.of(group)).all());
        failsWith(GroupIdNotFoundException.class, admin.deleteConsumerGroups(List.of(group)).all());
        equal(state(group), ConsumerGroupState.DEAD, "state of an absent group");
    }

    static void recordsAreDeletedFromTheFront() throws Exception {
        String topic = create(name("delete-records"), 1);
        produce(simple(topic, 0, 0, 100));
        var part = new TopicPartition(topic, 0);
        var deleted = admin.deleteRecords(Map.of(part, RecordsToDelete.beforeOffset(60)));
        equal(get(deleted.lowWatermarks().get(part)).lowWatermark(), 60L, "low watermark");
        equal(read(topic, 0, 1).get(0).offset(), 60L, "first offset");
        failsWith(org.apache.kafka.common.errors.OffsetOutOfRangeException.class, admin.deleteRecords(Map.of(part, RecordsToDelete.beforeOffset(101))).all());
        get(admin.deleteRecords(Map.of(part, RecordsToDelete.beforeOffset(-1))).all());
        equal(get(admin.listOffsets(Map.of(part, OffsetSpec.earliest())).all()).get(part).offset(), 100L, "all deleted");
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

    static void compactedTopicsWantKeys() throws Exception {
        String topic = create(name("compacted"), 1, "cleanup.policy", "compact");
        produce(simple(topic, 0, 0, 1));
        try {
            produce(List.of(new ProducerRecord<>(topic, 0, null, bytes("no key"))));
            throw new AssertionError("a record without a key was taken");
        } catch (ExecutionException error) {
            equal(error.getCause().getClass(), InvalidRecordException.class, "error");
        }
    }

    static void aTopicIsCreatedByProducingToIt() throws Exception {
        String topic = name("auto-created");
        equal(produce(List.of(new ProducerRecord<>(topic, bytes("k"), bytes("v")))).get(0).offset(), 0L, "offset");
        equal(read(topic, 0, 1).size(), 1, "records");
        try (var consumer = consumer("allow.auto.create.topics", "false")) {
            equal(consumer.partitionsFor(name("never"), Duration.ofSeconds(5)), List.of(), "partitions of an absent topic");
        }
        equal(get(admin.listTopics(new ListTopicsOptions().listInternal(false)).names()).contains(name("never")), false, "created by asking");
    }

    public static void main(String[] args) throws Exception {
        Map<String, Body> checks = new LinkedHashMap<>();
        checks.put("clusterTopicsAndConfigsAreDescribed", Compat::clusterTopicsAndConfigsAreDescribed);
        checks.put("topicsAreCreatedGrownAndDeletedWithTheRightErrors", Compat::topicsAreCreatedGrownAndDeletedWithTheRightErrors);
        checks.put("contentsSurviveByteForByte", Compat::contentsSurviveByteForByte);
        checks.put("everyCodecRoundTripsAndTopicCompressionWins", Compat::everyCodecRoundTripsAndTopicCompressionWins);
        checks.put("idempotentProducersKeepOrderAndShareAPartition", Compat::idempotentProducersKeepOrderAndShareAPartition);
        checks.put("acksZeroAndOneArrive", Compat::acksZeroAndOneArrive);
        checks.put("logAppendTimeIsTheBrokers", Compat::logAppendTimeIsTheBrokers);
        checks.put("offsetsAreFoundByTimeAndKind", Compat::offsetsAreFoundByTimeAndKind);
        checks.put("seekPauseResumeAndReset", Compat::seekPauseResumeAndReset);
        checks.put("aLongPollWakesUpAndMinBytesAreAwaited", Compat::aLongPollWakesUpAndMinBytesAreAwaited);
        checks.put("fetchLimitsNeverBlockProgress", Compat::fetchLimitsNeverBlockProgress);
        checks.put("aRangeGroupRebalances", Compat::aRangeGroupRebalances);
        checks.put("aRoundRobinGroupRebalances", Compat::aRoundRobinGroupRebalances);
        checks.put("aStickyGroupRebalances", Compat::aStickyGroupRebalances);
        checks.put("aCooperativeGroupRebalances", Compat::aCooperativeGroupRebalances);
        checks.put("aStaticMemberComesBackWithoutARebalance", Compat::aStaticMemberComesBackWithoutARebalance);
        checks.put("aSilentMemberIsThrownOut", Compat::aSilentMemberIsThrownOut);
        checks.put("autoCommitAndPatternsWork", Compat::autoCommitAndPatternsWork);
        checks.put("groupsAreListedAlteredAndDeleted", Compat::groupsAreListedAlteredAndDeleted);
        checks.put("recordsAreDeletedFromTheFront", Compat::recordsAreDeletedFromTheFront);
        checks.put("largeRecordsPassAndTooLargeOnesAreRefused", Compat::largeRecordsPassAndTooLargeOnesAreRefused);
        checks.put("compactedTopicsWantKeys", Compat::compactedTopicsWantKeys);
        checks.put("aTopicIsCreatedByProducingToIt", Compat::aTopicIsCreatedByProducingToIt);
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
