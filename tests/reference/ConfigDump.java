// Prints the configuration tables of the Apache Kafka on the class path, one property a line, fields separated by tabs:
//   broker NAME TYPE DEFAULT VALIDATOR IMPORTANCE UPDATE_MODE INTERNAL
//   topic NAME TYPE DEFAULT VALIDATOR IMPORTANCE BROKER_SYNONYMS
// Backslash, tab and line feed in a field are written as \\, \t and \n; an absent default is <none>, null is <null>.
import java.util.*;
import org.apache.kafka.common.config.ConfigDef;

public class ConfigDump {
    static String text(Object value) {
        if (value == null) return "<null>";
        if (value == ConfigDef.NO_DEFAULT_VALUE) return "<none>";
        String text = value instanceof List<?> list ? String.join(",", list.stream().map(String::valueOf).toList())
            : value instanceof Class<?> type ? type.getName()
            : value instanceof org.apache.kafka.common.config.types.Password password ? password.value()
            : value.toString();
        return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r");
    }

    static String row(String kind, ConfigDef.ConfigKey key, String... more) {
        List<String> fields = new ArrayList<>(List.of(kind, key.name, key.type.name(), text(key.defaultValue),
            key.validator == null ? "" : text(key.validator.toString()), key.importance.name()));
        fields.addAll(List.of(more));
        return String.join("\t", fields);
    }

    public static void main(String[] arguments) {
        Map<String, String> modes = new HashMap<>();
        modes.putAll(kafka.server.DynamicBrokerConfig$.MODULE$.dynamicConfigUpdateModes());
        new TreeMap<>(kafka.server.KafkaConfig.configDef().configKeys()).values().forEach(key ->
            System.out.println(row("broker", key, modes.getOrDefault(key.name, "read-only"), "" + key.internalConfig)));
        new TreeMap<>(org.apache.kafka.server.config.QuotaConfigs.brokerQuotaConfigs().configKeys()).values().forEach(key ->
            System.out.println(row("throttle", key)));
        new TreeMap<>(org.apache.kafka.storage.internals.log.LogConfig.configDefCopy().configKeys()).values().forEach(key -> {
            var synonyms = org.apache.kafka.server.config.ServerTopicConfigSynonyms.ALL_TOPIC_CONFIG_SYNONYMS.get(key.name);
            System.out.println(row("topic", key,
                synonyms == null ? "" : String.join(",", synonyms.stream().map(synonym -> synonym.name()).toList())));
        });
    }
}
