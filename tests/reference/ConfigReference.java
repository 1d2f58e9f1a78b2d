// Answers questions about configuration from the Apache Kafka on the class path. One answer a line, fields separated by tabs;
// what is asked for stands on standard input, one question a line, its text in hexadecimal digits.
//
//   tables      broker NAME TYPE DEFAULT VALIDATOR IMPORTANCE UPDATE_MODE INTERNAL
//               throttle NAME TYPE DEFAULT VALIDATOR IMPORTANCE
//               topic NAME TYPE DEFAULT VALIDATOR IMPORTANCE BROKER_SYNONYMS
//   properties  bytes of a properties file -> ok KEY VALUE ..., or error
//   values      a text -> value NAME TEXT for every broker property that accepts it, topic NAME TEXT for every topic property
//   brokers     bytes of a server.properties -> ok NAME=VALUE ..., or error MESSAGE
//
// In fields, everything but printable ASCII, and the backslash, is written as a backslash, u and four digits; null is <null>.
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
import kafka.server.KafkaConfig;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.types.Password;
import org.apache.kafka.storage.internals.log.LogConfig;

public class ConfigReference {
    static final PrintStream OUT = System.out;

    static String text(Object value) {
        if (value == null) return "<null>";
        String text = value instanceof List<?> list ? String.join(",", list.stream().map(String::valueOf).toList())
            : value instanceof Class<?> type ? type.getName()
            : value instanceof Password password ? password.value()
            : value.toString();
        StringBuilder escaped = new StringBuilder();
        for (char c : text.toCharArray())
            escaped.append(c >= ' ' && c <= '~' && c != '\\' ? String.valueOf(c) : String.format("\\u%04x", (int) c));
        return escaped.toString();
    }

    static String row(String kind, ConfigDef.ConfigKey key, String... more) {
        List<String> fields = new ArrayList<>(List.of(kind, key.name, key.type.name(), text(key.defaultValue),
            key.validator == null ? "" : text(key.validator.toString()), key.importance.name()));
        fields.addAll(List.of(more));
        return String.join("\t", fields);
    }

    static void tables() {
        var modes = kafka.server.DynamicBrokerConfig$.MODULE$.dynamicConfigUpdateModes();
        KafkaConfig.configDef().configKeys().values().forEach(key ->
            OUT.println(row("broker", key, modes.getOrDefault(key.name, "read-only"), "" + key.internalConfig)));
        org.apache.kafka.server.config.QuotaConfigs.brokerQuotaConfigs().configKeys().values().forEach(key ->
            OUT.println(row("throttle", key)));
        LogConfig.configDefCopy().configKeys().values().forEach(key -> {
            var synonyms = org.apache.kafka.server.config.ServerTopicConfigSynonyms.ALL_TOPIC_CONFIG_SYNONYMS.get(key.name);
            OUT.println(row("topic", key,
                synonyms == null ? "" : String.join(",", synonyms.stream().map(synonym -> synonym.name()).toList())));
        });
    }

    static void properties(byte[] bytes) throws IOException {
        Properties properties = new Properties();
        try {
            properties.load(new ByteArrayInputStream(bytes));
        } catch (IllegalArgumentException e) {
            OUT.println("error");
            return;
        }
        StringBuilder line = new StringBuilder("ok");
        new TreeMap<>(properties).forEach((key, value) -> line.append('\t').append(text(key)).append('\t').append(text(value)));
        OUT.println(line);
    }

    static void values(String raw) {
        accepted("value", KafkaConfig.configDef(), raw);
        accepted("topic", LogConfig.configDefCopy(), raw);
    }

    static void accepted(String kind, ConfigDef definition, String raw) {
        for (ConfigDef.ConfigKey key : definition.configKeys().values()) {
            if (key.type == ConfigDef.Type.CLASS) continue;
            try {
                Object value = ConfigDef.parseType(key.name, raw, key.type);
                if (key.validator != null) key.validator.ensureValid(key.name, value);
                OUT.println(kind + "\t" + key.name + "\t" + text(value));
            } catch (RuntimeException e) {
                // Not accepted.
            }
        }
    }

    static String endpoints(scala.collection.Seq<kafka.cluster.EndPoint> endpoints) {
        return endpoints.map(endpoint -> endpoint.listenerName().value() + " " + endpoint.securityProtocol() + " "
            + (endpoint.host() == null ? "" : endpoint.host()) + " " + endpoint.port()).mkString(",");
    }

    static void broker(byte[] bytes) throws IOException {
        Properties properties = new Properties();
        properties.load(new ByteArrayInputStream(bytes));
        try {
            KafkaConfig config = KafkaConfig.fromProps(properties, false);
            Map<String, Object> shown = new TreeMap<>(config.extractLogConfigMap());
            LogConfig log = new LogConfig(config.extractLogConfigMap());
            shown.put("(before max)", log.messageTimestampBeforeMaxMs);
            shown.put("(after max)", log.messageTimestampAfterMaxMs);
            shown.put("(broker id)", config.brokerId());
            shown.put("(listeners)", endpoints(config.listeners()));
            shown.put("(advertised)", endpoints(config.effectiveAdvertisedBrokerListeners()));
            shown.put("(inter broker)", config.interBrokerListenerName().value());
            shown.put("(log dirs)", config.logDirs().mkString(","));
            shown.put("(connection timeout)", config.zkConnectionTimeoutMs());
            StringBuilder line = new StringBuilder("ok");
            shown.forEach((name, value) -> line.append('\t').append(name).append('=').append(text(value)));
            OUT.println(line);
        } catch (RuntimeException e) {
            OUT.println("error\t" + text(e.getMessage()));
        }
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments[0].equals("tables")) {
            tables();
            return;
        }
        BufferedReader questions = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = questions.readLine()) != null; ) {
            byte[] bytes = HexFormat.of().parseHex(line);
            switch (arguments[0]) {
                case "properties" -> properties(bytes);
                case "values" -> values(new String(bytes, StandardCharsets.UTF_8));
                case "brokers" -> broker(bytes);
            }
            OUT.println("end");
        }
    }
}
