// What a cluster writes into ZooKeeper, seen through the ensemble ten times a second: epochs only grow, a leader is in its ISR, an ISR is
// within the replicas, and nobody writes with an older controller's epoch than the one before it.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.*;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.stream.Collectors;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

class Znodes {
    private static final ObjectMapper JSON = new ObjectMapper();

    /** A partition as its state znode had it last. */
    private record State(int version, int leader, int leaderEpoch, int controllerEpoch) {}

    private final String connect, topic;
    private final Queue<String> faults = new ConcurrentLinkedQueue<>();
    private final Map<String, State> states = new TreeMap<>();
    private final Map<String, Long> registrations = new TreeMap<>();
    private final Map<String, Integer> timesRegistered = new TreeMap<>();
    private final Thread watching;
    private int controllerEpoch = -1, samples, leaders;
    private volatile boolean stopping;

    Znodes(String connect, String topic) {
        this.connect = connect;
        this.topic = topic;
        watching = new Thread(this::watch, "znodes");
        watching.start();
    }

    private void watch() {
        ZooKeeper zookeeper = null;
        while (!stopping) {
            try {
                Thread.sleep(100);
                if (zookeeper == null || !zookeeper.getState().isAlive()) {
                    zookeeper = new ZooKeeper(connect, 10_000, event -> { });
                    // A server of another session may be behind the last one.
                    zookeeper.sync("/", (code, path, context) -> { }, null);
                }
                sample(zookeeper);
                samples++;
            } catch (KeeperException error) {
                // No quorum, or a topic that is being made: there is nothing to see.
            } catch (Exception error) {
                faults.add("znodes: " + error);
                return;
            }
        }
        try {
            zookeeper.close();
        } catch (Exception error) {
            // It ends anyway.
        }
    }

    private void sample(ZooKeeper zookeeper) throws Exception {
        int epoch = Integer.parseInt(new String(zookeeper.getData("/controller_epoch", false, null)));
        if (epoch < controllerEpoch) faults.add("/controller_epoch " + epoch + " after " + controllerEpoch);
        controllerEpoch = epoch;
        for (String broker : zookeeper.getChildren("/brokers/ids", false)) {
            Stat stat = zookeeper.exists("/brokers/ids/" + broker, false);
            if (stat == null) continue;
            Long before = registrations.put(broker, stat.getCzxid());
            if (before == null || before != stat.getCzxid()) timesRegistered.merge(broker, 1, Integer::sum);
            if (before != null && before > stat.getCzxid()) faults.add("broker " + broker + " has an older epoch than before");
        }
        String path = "/brokers/topics/" + topic;
        for (String partition : zookeeper.getChildren(path + "/partitions", false)) {
            Set<Integer> replicas = replicas(zookeeper, path, partition);
            Stat stat = new Stat();
            JsonNode json = JSON.readTree(zookeeper.getData(path + "/partitions/" + partition + "/state", false, stat));
            // A move that ends between the looks takes replicas away.
            replicas.addAll(replicas(zookeeper, path, partition));
            judge(partition, replicas, numbers(json.get("isr")),
                new State(stat.getVersion(), json.get("leader").asInt(), json.get("leader_epoch").asInt(), json.get("controller_epoch").asInt()));
        }
    }

    private void judge(String partition, Set<Integer> replicas, Set<Integer> isr, State now) {
        String what = topic + "-" + partition + " " + now + " isr " + isr;
        if (now.leader >= 0 && !isr.contains(now.leader)) faults.add(what + ": the leader is not in the ISR");
        if (!replicas.containsAll(isr)) faults.add(what + ": the ISR goes beyond the replicas " + replicas);
        State before = states.put(partition, now);
        if (before == null) return;
        if (now.version < before.version || now.leaderEpoch < before.leaderEpoch || now.controllerEpoch < before.controllerEpoch) {
            faults.add(what + " after " + before);
        }
        if (now.leader != before.leader && now.leaderEpoch == before.leaderEpoch) faults.add(what + ": two leaders of one epoch, after " + before);
        if (now.leaderEpoch != before.leaderEpoch) leaders++;
    }

    private static Set<Integer> replicas(ZooKeeper zookeeper, String path, String partition) throws Exception {
        JsonNode json = JSON.readTree(zookeeper.getData(path, false, null));
        return numbers(json.get("partitions").get(partition));
    }

    private static Set<Integer> numbers(JsonNode list) {
        Set<Integer> found = new TreeSet<>();
        list.forEach(one -> found.add(one.asInt()));
        return found;
    }

    /** How often the leader epoch of some partition was seen to move, and how often each broker has registered. */
    String stop() throws Exception {
        stopping = true;
        watching.join();
        if (!faults.isEmpty()) {
            throw new IllegalStateException(faults.size() + " faults in znodes: " + faults.stream().limit(5).collect(Collectors.joining("; ")));
        }
        String registered = timesRegistered.entrySet().stream().map(one -> one.getKey() + ":" + one.getValue()).collect(Collectors.joining(","));
        return "samples=" + samples + " leader_epochs=" + leaders + " registered=" + registered;
    }
}
