package millrace.mongo;

import de.bwaldvogel.mongo.backend.Utils;
import de.bwaldvogel.mongo.backend.aggregation.Aggregation;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerError;
import de.bwaldvogel.mongo.exception.MongoServerException;
import de.bwaldvogel.mongo.oplog.Oplog;
import io.netty.channel.Channel;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/**
 * A replica set of one, in memory: what mongo-java-server does, and on top of it an oplog, change streams,
 * transactions, snapshot reads and faults. One lock makes every command atomic, so that a read knows exactly which
 * cluster time it shows.
 */
final class ReplicaSet extends MemoryBackend {
    private static final Set<String> WRITES = Set.of("insert", "update", "delete");
    private static final long STREAM_IDS = 1L << 40; // cursors of change streams have these, others smaller ones

    private final ReentrantLock lock = new ReentrantLock();
    private final Condition appended = lock.newCondition();
    private final ChangeLog log = new ChangeLog(this);
    private final FailPoint failPoint = new FailPoint();
    private final Map<Long, Stream> streams = new HashMap<>();
    private final Map<String, List<Document>> transactions = new HashMap<>(); // writes that wait for their commit
    private final Set<String> imageNamespaces = new HashSet<>();
    private final AtomicLong streamIds = new AtomicLong(STREAM_IDS);
    private final List<Integer> version;
    private volatile String host = "";

    ReplicaSet(List<Integer> version) {
        this.version = version;
        enableOplog();
    }

    void host(String name) {
        host = name;
    }

    ChangeLog log() {
        return log;
    }

    boolean keepsImages(String namespace) {
        return imageNamespaces.contains(namespace);
    }

    Document document(String database, String collection, Object id) {
        return resolveDatabase(database).resolveCollection(collection, true)
            .handleQueryAsStream(new Document("_id", id)).findFirst().orElseThrow();
    }

    @Override
    protected Oplog createOplog() {
        return log;
    }

    @Override
    public Document handleCommand(Channel channel, String database, String command, Document query) {
        if (command.equals("configureFailPoint")) {
            return failPoint.configure(query);
        }
        if (failPoint.run(command)) {
            channel.close();
            throw new MongoServerException("closed by a fail point");
        }
        lock.lock();
        try {
            Document response = answer(channel, database, command, query);
            appended.signalAll();
            return response.append("operationTime", Place.mark(log.lastTime()).timestamp());
        } finally {
            lock.unlock();
        }
    }

    private Document answer(Channel channel, String database, String command, Document query) {
        switch (command) {
            case "isMaster":
            case "ismaster":
            case "hello":
                return hello(super.handleCommand(channel, database, "ismaster", query));
            case "buildInfo":
            case "buildinfo":
                return ok(new Document("version", Utils.join(version, ".")).append("versionArray", version)
                    .append("maxBsonObjectSize", 16 * 1024 * 1024));
            case "commitTransaction":
                return commit(channel, query);
            case "abortTransaction":
                transactions.remove(transactionOf(query));
                return ok(new Document());
            case "aggregate":
                Stream stream = openStream(database, query);
                return stream == null ? super.handleCommand(channel, database, command, query)
                    : batch(stream, "firstBatch", firstBatchSize((Document) query.get("cursor")));
            case "getMore":
                long id = ((Number) query.get("getMore")).longValue();
                return id <= STREAM_IDS ? super.handleCommand(channel, database, command, query) : getMore(id, query);
            case "killCursors":
                return killCursors(channel, database, query);
            case "dropDatabase":
                return dropAll(channel, database, query);
            case "renameCollection":
                Document renamed = super.handleCommand(channel, database, command, query);
                log.rename((String) query.get("renameCollection"), (String) query.get("to"));
                return renamed;
            case "collMod":
            case "create":
                return withImages(channel, database, command, query);
            case "find":
                return find(channel, database, query);
            case "millraceTrim":
                log.trim(((Number) query.get("millraceTrim")).intValue());
                return ok(new Document());
            case "millraceTick":
                log.tick();
                return ok(new Document());
            default:
                return WRITES.contains(command) && Boolean.FALSE.equals(query.get("autocommit")) ? defer(query)
                    : super.handleCommand(channel, database, command, query);
        }
    }

    private static Document ok(Document response) {
        Utils.markOkay(response);
        return response;
    }

    private Document hello(Document response) {
        response.put("maxWireVersion", version.get(0) >= 7 ? 21 : version.get(0) >= 6 ? 17 : version.get(0) >= 5 ? 13 : 9);
        return response.append("isWritablePrimary", true).append("setName", "rs0").append("setVersion", 1)
            .append("secondary", false).append("hosts", List.of(host)).append("primary", host).append("me", host)
            .append("logicalSessionTimeoutMinutes", 30);
    }

    // Change streams

    /** 0 asks for as many changes as fit; in a first batch it asks for none, which is -1 here. */
    private static int firstBatchSize(Document options) {
        int size = options == null ? 0 : ((Number) options.getOrDefault("batchSize", 0)).intValue();
        return options != null && options.containsKey("batchSize") && size == 0 ? -1 : size;
    }

    private static int batchSize(Document options) {
        return ((Number) options.getOrDefault("batchSize", 0)).intValue();
    }

    @SuppressWarnings("unchecked")
    private Stream openStream(String database, Document query) {
        List<Document> stages = new ArrayList<>((List<Document>) query.get("pipeline"));
        if (stages.isEmpty() || !stages.get(0).containsKey("$changeStream")) {
            return null;
        }
        boolean split = stages.get(stages.size() - 1).containsKey("$changeStreamSplitLargeEvent");
        if (split && version.get(0) < 6) {
            throw new MongoServerError(40324, "Unrecognized pipeline stage name: '$changeStreamSplitLargeEvent'");
        }
        List<Document> rest = stages.subList(1, stages.size() - (split ? 1 : 0));
        Aggregation pipeline = rest.isEmpty() ? null : Aggregation.fromPipeline(rest, null, null, null, null);
        boolean deployment = Utils.isTrue(((Document) stages.get(0).get("$changeStream")).get("allChangesForCluster"));
        Object target = query.get("aggregate");
        Stream stream = new Stream(this, streamIds.incrementAndGet(), deployment ? null : database,
            target instanceof String ? (String) target : null, stages, pipeline, split);
        streams.put(stream.id, stream);
        return stream;
    }

    private Document batch(Stream stream, String name, int count) {
        Document cursor = new Document(name, stream.take(count)).append("postBatchResumeToken", stream.resumeToken())
            .append("ns", stream.namespace);
        if (stream.ended()) {
            streams.remove(stream.id);
        }
        return ok(new Document("cursor", cursor.append("id", stream.ended() ? 0L : stream.id)));
    }

    private Document getMore(long id, Document query) {
        long left = TimeUnit.MILLISECONDS.toNanos(((Number) query.getOrDefault("maxTimeMS", 1000)).longValue());
        while (true) {
            Stream stream = streams.get(id);
            if (stream == null) {
                throw new MongoServerError(43, "CursorNotFound", "cursor id " + id + " not found");
            }
            Document response = batch(stream, "nextBatch", batchSize(query));
            List<?> events = (List<?>) ((Document) response.get("cursor")).get("nextBatch");
            if (!events.isEmpty() || left <= 0) {
                return response;
            }
            try {
                left = appended.awaitNanos(left);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                return response;
            }
        }
    }

    private Document killCursors(Channel channel, String database, Document query) {
        for (Object id : (List<?>) query.get("cursors")) {
            streams.remove(((Number) id).longValue());
        }
        return super.handleCommand(channel, database, "killCursors", query);
    }

    // Writes

    private static String transactionOf(Document query) {
        return query.get("lsid") + "/" + query.get("txnNumber");
    }

    private Document defer(Document query) {
        transactions.computeIfAbsent(transactionOf(query), name -> new ArrayList<>()).add(query);
        List<?> writes = (List<?>) query.getOrDefault("documents", query.getOrDefault("updates", query.get("deletes")));
        return ok(new Document("n", writes.size()).append("nModified", writes.size()));
    }

    private Document commit(Channel channel, Document query) {
        List<Document> writes = transactions.remove(transactionOf(query));
        if (writes != null) {
            Number number = (Number) query.get("txnNumber");
            log.transaction((Document) query.get("lsid"), number.longValue(), () -> {
                for (Document write : writes) {
                    String command = write.keySet().iterator().next();
                    super.handleCommand(channel, (String) write.get("$db"), command, write);
                }
            });
        }
        return ok(new Document());
    }

    private Document dropAll(Channel channel, String database, Document query) {
        boolean existed = listDatabaseNames().contains(database);
        Document response = super.handleCommand(channel, database, "dropDatabase", query);
        if (existed) {
            log.dropDatabase(database);
        }
        return response;
    }

    private Document withImages(Channel channel, String database, String command, Document query) {
        Document images = (Document) query.get("changeStreamPreAndPostImages");
        String namespace = database + "." + query.get(command);
        if (images != null && Utils.isTrue(images.get("enabled"))) {
            imageNamespaces.add(namespace);
        } else if (images != null) {
            imageNamespaces.remove(namespace);
        }
        return command.equals("collMod") ? ok(new Document()) : super.handleCommand(channel, database, command, query);
    }

    // Reads

    private Document find(Channel channel, String database, Document query) {
        String collection = (String) query.get("find");
        if (database.equals("local") && collection.equals("oplog.rs")) {
            Document first = log.end() > 0 && log.floorTime() == 0 ? log.at(0) == null ? null
                : new Document("ts", log.at(0).place().timestamp()) : null;
            return cursor(database + "." + collection, first == null ? List.of() : List.of(first));
        }
        Document concern = (Document) query.get("readConcern");
        if (concern == null || !"snapshot".equals(concern.get("level"))) {
            return super.handleCommand(channel, database, "find", query);
        }
        if (version.get(0) < 5) {
            throw new MongoServerError(72, "InvalidOptions", "read concern level snapshot is only valid in a transaction");
        }
        String namespace = database + "." + collection;
        List<Document> found = new Ranges(log.images(namespace)).find((Document) query.get("filter"),
            ((Number) query.getOrDefault("limit", 0)).intValue());
        Document response = cursor(namespace, found);
        ((Document) response.get("cursor")).append("atClusterTime", Place.mark(log.lastTime()).timestamp());
        return response;
    }

    private static Document cursor(String namespace, List<Document> documents) {
        return ok(new Document("cursor",
            new Document("firstBatch", documents).append("id", 0L).append("ns", namespace)));
    }
}
