// Consumer groups of the Java client.

import java.time.Duration;
import java.util.*;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;

final class Groups extends Compat {
    static void addTo(Map<String, Body> checks) {
        checks.put("aRangeGroupRebalances", Groups::aRangeGroupRebalances);
        checks.put("aRoundRobinGroupRebalances", Groups::aRoundRobinGroupRebalances);
        checks.put("aStickyGroupRebalances", Groups::aStickyGroupRebalances);
        checks.put("aCooperativeGroupRebalances", Groups::aCooperativeGroupRebalances);
        checks.put("aStaticMemberComesBackWithoutARebalance", Groups::aStaticMemberComesBackWithoutARebalance);
        checks.put("aSilentMemberIsThrownOut", Groups::aSilentMemberIsThrownOut);
        checks.put("autoCommitAndPatternsWork", Groups::autoCommitAndPatternsWork);
        checks.put("groupsAreListedAlteredAndDeleted", Groups::groupsAreListedAlteredAndDeleted);
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
}
