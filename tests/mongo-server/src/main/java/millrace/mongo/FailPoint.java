package millrace.mongo;

import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerError;
import java.util.List;

/** The failCommand fail point, as MongoDB with enableTestCommands=1 has it. */
final class FailPoint {
    private List<?> commands = List.of();
    private Document data = new Document();
    private long times; // left
    private long skip; // let pass before
    private long struck; // over all fail points

    /** {configureFailPoint: "failCommand", mode: "off" | "alwaysOn" | {times, skip}, data: {...}}. */
    synchronized Document configure(Document command) {
        Object mode = command.get("mode");
        data = (Document) command.getOrDefault("data", new Document());
        commands = (List<?>) data.getOrDefault("failCommands", List.of());
        skip = 0;
        if (mode instanceof Document) {
            skip = ((Number) ((Document) mode).getOrDefault("skip", 0)).longValue();
            times = ((Number) ((Document) mode).getOrDefault("times", Long.MAX_VALUE)).longValue();
        } else {
            times = "alwaysOn".equals(mode) ? Long.MAX_VALUE : 0;
        }
        return new Document("count", struck).append("ok", 1.0);
    }

    private synchronized Document strike(String command) {
        if (times <= 0 || !commands.contains(command) || skip-- > 0) {
            return null;
        }
        times--;
        struck++;
        return data;
    }

    /** Returns whether the connection is to be closed. */
    boolean run(String command) {
        Document what = strike(command);
        if (what == null) {
            return false;
        }
        if (Boolean.TRUE.equals(what.get("blockConnection"))) {
            sleep(((Number) what.getOrDefault("blockTimeMS", 0)).longValue());
        }
        if (what.containsKey("errorCode")) {
            throw new MongoServerError(((Number) what.get("errorCode")).intValue(), "Failing command via 'failCommand'"
                + " failpoint");
        }
        return Boolean.TRUE.equals(what.get("closeConnection"));
    }

    private static void sleep(long ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
