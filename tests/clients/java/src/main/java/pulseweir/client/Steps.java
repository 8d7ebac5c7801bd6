package pulseweir.client;

import ca.uhn.fhir.rest.server.exceptions.BaseServerResponseException;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.Callable;

/** What a client saw, one JSON line a step: {"step": name, "saw": ...} or {"step": name, "failed": ...}. */
final class Steps {
    private static final ObjectMapper JSON = new ObjectMapper();

    private Steps() {}

    /** Do one step and print what it gives. One that fails is told, and the next ones still run. */
    static void step(String name, Callable<Object> look) throws JsonProcessingException {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("step", name);
        try {
            line.put("saw", look.call());
        } catch (Exception failure) {
            StringWriter trace = new StringWriter();
            failure.printStackTrace(new PrintWriter(trace));
            line.put("failed", trace.toString());
            if (failure instanceof BaseServerResponseException answered) {
                line.put("answer", answered.getResponseBody());
            }
        }
        System.out.println(JSON.writeValueAsString(line));
    }

    /** The error of something that has to fail; its success is the failure. */
    static <E extends Exception> E refused(Class<E> kind, Callable<?> attempt) throws Exception {
        Object gave;
        try {
            gave = attempt.call();
        } catch (Exception failure) {
            if (kind.isInstance(failure)) {
                return kind.cast(failure);
            }
            throw failure;
        }
        throw new IllegalStateException("went through and gave " + gave);
    }

    /** Named values in their order. */
    static Map<String, Object> saw(Object... namesAndValues) {
        Map<String, Object> found = new LinkedHashMap<>();
        for (int i = 0; i < namesAndValues.length; i += 2) {
            found.put((String) namesAndValues[i], namesAndValues[i + 1]);
        }
        return found;
    }
}
