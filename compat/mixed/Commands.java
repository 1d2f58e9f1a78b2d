// Commands by lines on stdin. Each line is answered by one line that begins with `ok` or `error`; clusters.py has the other end.

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.Arrays;
import java.util.concurrent.ExecutionException;

interface Commands {
    String run(String command, String[] arguments) throws Exception;

    /// Until the end of the input, which ends the process, whatever else runs in it.
    static void serve(Commands commands) throws IOException {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = in.readLine()) != null; ) {
            String answer;
            try {
                String[] words = line.trim().split(" ");
                answer = "ok " + commands.run(words[0], Arrays.copyOfRange(words, 1, words.length));
            } catch (ExecutionException error) {
                answer = "error " + error.getCause();
            } catch (Throwable error) {
                answer = "error " + error;
            }
            System.out.println(answer.replace('\n', ' ').trim());
            System.out.flush();
        }
        Runtime.getRuntime().halt(0);
    }
}
