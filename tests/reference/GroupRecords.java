// Writes records of __consumer_offsets in every version, as Apache Kafka's own classes encode them.
// scripts/kafka libs names the folder of the jars. The output is tests/fixtures/group-records-3.9.2.txt.
//   java -cp "$(scripts/kafka libs)/*" tests/reference/GroupRecords.java

import java.nio.ByteBuffer;
import java.util.List;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.coordinator.group.generated.GroupMetadataKey;
import org.apache.kafka.coordinator.group.generated.GroupMetadataValue;
import org.apache.kafka.coordinator.group.generated.OffsetCommitKey;
import org.apache.kafka.coordinator.group.generated.OffsetCommitValue;

public class GroupRecords {
    static void print(String name, int version, Message message) {
        ByteBuffer bytes = MessageUtil.toVersionPrefixedByteBuffer((short) version, message);
        StringBuilder hex = new StringBuilder();
        while (bytes.hasRemaining()) {
            hex.append(String.format("%02x", bytes.get()));
        }
        System.out.println(name + " " + version + " " + hex);
    }

    static GroupMetadataValue.MemberMetadata member(int version, String id, String instance) {
        GroupMetadataValue.MemberMetadata member = new GroupMetadataValue.MemberMetadata()
            .setMemberId(id)
            .setClientId("client")
            .setClientHost("/127.0.0.1")
            .setSessionTimeout(45000)
            .setSubscription(new byte[] {0, 3, 0, 0, 0, 1})
            .setAssignment(new byte[] {9, 8, 7});
        if (version >= 1) member.setRebalanceTimeout(300000);
        if (version >= 3) member.setGroupInstanceId(instance);
        return member;
    }

    public static void main(String[] args) {
        for (int version = 0; version <= 1; version++) {
            print("offset-key", version, new OffsetCommitKey().setGroup("größe").setTopic("orders").setPartition(7));
        }
        print("group-key", 2, new GroupMetadataKey().setGroup("größe"));
        for (int version = 0; version <= 4; version++) {
            OffsetCommitValue value = new OffsetCommitValue().setOffset(1234567890123L).setMetadata("note").setCommitTimestamp(1700000000000L);
            if (version >= 3) value.setLeaderEpoch(5);
            if (version == 1) value.setExpireTimestamp(1700000600000L);
            print("offset-value", version, value);
        }
        for (int version = 0; version <= 4; version++) {
            GroupMetadataValue stable = new GroupMetadataValue()
                .setProtocolType("consumer").setGeneration(42).setProtocol("range").setLeader("m-1")
                .setMembers(List.of(member(version, "m-1", "instance"), member(version, "m-2", null)));
            if (version >= 2) stable.setCurrentStateTimestamp(1700000000000L);
            print("stable-value", version, stable);
            GroupMetadataValue empty = new GroupMetadataValue().setProtocolType("consumer").setGeneration(43);
            if (version >= 2) empty.setCurrentStateTimestamp(1700000000001L);
            print("empty-value", version, empty);
        }
    }
}
