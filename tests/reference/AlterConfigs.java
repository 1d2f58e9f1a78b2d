// Alters configs one by one and prints how each ends: the question, a tab, and ok or the error's class (or its code) and message.
// Arguments: bootstrap server. Standard input: TYPE:NAME OP KEY VALUE, separated by tabs; OP is SET, DELETE, APPEND, SUBTRACT,
// or REPLACE for the older API; several KEY VALUE pairs of one request follow each other. <null> is null.
import java.io.*;
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.common.config.ConfigResource;

public class AlterConfigs {
    static String text(String value) {
        return value.equals("<null>") ? null : value;
    }

    @SuppressWarnings("deprecation")
    public static void main(String[] arguments) throws Exception {
        BufferedReader questions = new BufferedReader(new InputStreamReader(System.in));
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", arguments[0], "default.api.timeout.ms", "10000", "request.timeout.ms", "5000"))) {
            for (String line; (line = questions.readLine()) != null; ) {
                String[] fields = line.split("\t", -1);
                String[] parts = fields[0].split(":", 2);
                ConfigResource resource = new ConfigResource(ConfigResource.Type.valueOf(parts[0].toUpperCase()), parts[1]);
                List<ConfigEntry> entries = new ArrayList<>();
                for (int i = 2; i + 1 < fields.length; i += 2) entries.add(new ConfigEntry(fields[i], text(fields[i + 1])));
                try {
                    if (fields[1].equals("REPLACE")) {
                        admin.alterConfigs(Map.of(resource, new Config(entries))).all().get();
                    } else {
                        List<AlterConfigOp> ops = new ArrayList<>();
                        entries.forEach(entry -> ops.add(new AlterConfigOp(entry, AlterConfigOp.OpType.valueOf(fields[1]))));
                        admin.incrementalAlterConfigs(Map.of(resource, ops)).all().get();
                    }
                    System.out.println(line + "\tok");
                } catch (java.util.concurrent.ExecutionException e) {
                    System.out.println(line + "\t" + e.getCause().getClass().getSimpleName() + "\t" + e.getCause().getMessage());
                }
            }
        }
    }
}
