// Prints what a broker answers to DescribeConfigs, with synonyms: one config a line, fields separated by tabs, sorted.
//   resource TYPE NAME
//   NAME VALUE SOURCE SENSITIVE READ_ONLY TYPE SYNONYM=VALUE@SOURCE ...
// Arguments: bootstrap server, then TYPE:NAME ... (topic:t, broker:0, broker: for the defaults of all brokers).
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.common.config.ConfigResource;

public class DescribeConfigs {
    public static void main(String[] arguments) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", arguments[0]))) {
            for (String argument : Arrays.asList(arguments).subList(1, arguments.length)) {
                String[] parts = argument.split(":", 2);
                ConfigResource resource = new ConfigResource(ConfigResource.Type.valueOf(parts[0].toUpperCase()), parts[1]);
                System.out.println("resource\t" + parts[0] + "\t" + parts[1]);
                try {
                    Config config = admin.describeConfigs(List.of(resource), new DescribeConfigsOptions().includeSynonyms(true))
                        .all().get().get(resource);
                    TreeMap<String, String> lines = new TreeMap<>();
                    for (ConfigEntry entry : config.entries()) lines.put(entry.name(), line(entry));
                    lines.values().forEach(System.out::println);
                } catch (java.util.concurrent.ExecutionException e) {
                    System.out.println("error\t" + e.getCause().getClass().getSimpleName());
                }
            }
        }
    }

    static String line(ConfigEntry entry) {
        List<String> fields = new ArrayList<>(List.of(entry.name(), "" + entry.value(), entry.source().name(),
            "" + entry.isSensitive(), "" + entry.isReadOnly(), entry.type().name()));
        entry.synonyms().forEach(synonym -> fields.add(synonym.name() + "=" + synonym.value() + "@" + synonym.source().name()));
        return String.join("\t", fields);
    }
}
