// Topics and what administrators do with them, through the Java client.

import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;

final class Topics extends Compat {
    static void addTo(Map<String, Body> checks) {
        checks.put("clusterTopicsAndConfigsAreDescribed", Topics::clusterTopicsAndConfigsAreDescribed);
        checks.put("topicsAreCreatedGrownAndDeletedWithTheRightErrors", Topics::topicsAreCreatedGrownAndDeletedWithTheRightErrors);
        checks.put("recordsAreDeletedFromTheFront", Topics::recordsAreDeletedFromTheFront);
        checks.put("compactedTopicsWantKeys", Topics::compactedTopicsWantKeys);
        checks.put("aTopicIsCreatedByProducingToIt", Topics::aTopicIsCreatedByProducingToIt);
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
}
