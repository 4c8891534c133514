package millrace.mongo;

import de.bwaldvogel.mongo.backend.aggregation.Aggregation;
import de.bwaldvogel.mongo.bson.BsonTimestamp;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerError;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;

/** One open change stream. Guarded by the backend's one lock. */
final class Stream {
    private static final int EVENT_BYTES_MAX = 16 * 1024 * 1024;
    private static final int BATCH_BYTES_MAX = 16 * 1024 * 1024;

    final long id;
    final String namespace;
    private final ReplicaSet backend;
    private final ChangeLog log;
    private final String database; // null: the whole deployment
    private final String collection; // null: the whole database
    private final String fullDocument;
    private final String before;
    private final boolean split;
    private final Aggregation pipeline; // null: none
    private final Deque<Document> ready = new ArrayDeque<>(); // pieces of an event, and what ends the stream
    private long next; // number of the change to look at
    private Document token; // of the last event given, at first of where it began
    private boolean ended; // an invalidate was given

    Stream(ReplicaSet backend, long id, String database, String collection, List<Document> stages,
           Aggregation pipeline, boolean split) {
        this.backend = backend;
        this.log = backend.log();
        this.id = id;
        this.database = database;
        this.collection = collection;
        this.namespace = (database == null ? "admin" : database) + "."
            + (collection == null ? "$cmd.aggregate" : collection);
        Document options = (Document) stages.get(0).get("$changeStream");
        this.fullDocument = (String) options.getOrDefault("fullDocument", "default");
        this.before = (String) options.getOrDefault("fullDocumentBeforeChange", "off");
        this.pipeline = pipeline;
        this.split = split;
        start(options);
    }

    private void start(Document options) {
        if (options.get("startAfter") != null) {
            token = (Document) options.get("startAfter");
            startBehind(Place.parse(token));
        } else if (options.get("resumeAfter") != null) {
            token = (Document) options.get("resumeAfter");
            Place place = Place.parse(token);
            if (place.kind() == Place.INVALIDATE) {
                throw new MongoServerError(260, "InvalidResumeToken",
                    "Attempting to resume a change stream using 'resumeAfter' is not allowed from an invalidate"
                        + " notification.");
            }
            startBehind(place);
        } else if (options.get("startAtOperationTime") != null) {
            Place place = Place.mark(((BsonTimestamp) options.get("startAtOperationTime")).getValue());
            checkHistory(place.time() - 1);
            token = place.token("");
            next = log.find(place);
        } else {
            token = Place.mark(log.lastTime()).token("");
            next = log.end();
        }
    }

    private void checkHistory(long time) {
        if (Long.compareUnsigned(time, log.floorTime()) < 0) {
            throw new MongoServerError(286, "ChangeStreamHistoryLost",
                "Resume of change stream was not possible, as the resume point may no longer be in the oplog.");
        }
    }

    private void startBehind(Place place) {
        checkHistory(place.index() < 0 ? place.time() - 1 : place.time());
        next = log.find(new Place(place.time(), place.index(), Place.EVENT, 0));
        if (place.index() < 0 || next >= log.end()) {
            return;
        }
        Change change = log.at(next);
        if (change.place().time() != place.time() || change.place().index() != place.index()) {
            return;
        }
        next++;
        if (place.kind() == Place.INVALIDATE) {
            return;
        }
        if (place.fragment() > 0) {
            make(change);
            while (!ready.isEmpty() && Place.parse(ready.peek().get("_id")).fragment() <= place.fragment()) {
                ready.remove();
            }
        } else if (concerns(change) && change.invalidates(database, collection)) {
            ready.add(invalidate(change));
        }
    }

    private boolean concerns(Change change) {
        return database == null || (collection == null ? change.ofDatabase(database)
            : change.touches(database, collection));
    }

    /** What is there, at most count events, 0 for as many as fit, -1 for none. */
    List<Document> take(int count) {
        List<Document> batch = new ArrayList<>();
        int bytes = 0;
        while (!ended && (count == 0 || batch.size() < count)) {
            if (ready.isEmpty() && !advance()) {
                break;
            }
            int size = Change.size(ready.peek());
            if (!batch.isEmpty() && bytes + size > BATCH_BYTES_MAX) {
                break;
            }
            bytes += size;
            Document event = ready.remove();
            token = (Document) event.get("_id");
            ended = "invalidate".equals(event.get("operationType"));
            batch.add(event);
        }
        return batch;
    }

    boolean ended() {
        return ended;
    }

    /** Where a client may go on behind what it was given. */
    Document resumeToken() {
        Document mark = Place.mark(log.lastTime()).token("");
        boolean drained = ready.isEmpty() && next == log.end() && !ended;
        return drained && Place.parse(token).compareTo(Place.parse(mark)) < 0 ? mark : token;
    }

    private boolean advance() {
        while (ready.isEmpty() && next < log.end()) {
            Change change = log.at(next++);
            if (change == null) {
                throw new MongoServerError(136, "CappedPositionLost",
                    "CollectionScan died due to position in capped collection being deleted.");
            }
            if (concerns(change)) {
                make(change);
            }
        }
        return !ready.isEmpty();
    }

    private void make(Change change) {
        Document event = event(change);
        if (pipeline == null || !pipeline.runStages(java.util.stream.Stream.of(event)).isEmpty()) {
            int size = Change.size(event);
            if (size <= EVENT_BYTES_MAX) {
                ready.add(event);
            } else if (split) {
                splitEvent(change, event);
            } else {
                throw new MongoServerError(10334, "BSONObjectTooLarge", "BSONObj size: " + size
                    + " is invalid. Size must be between 0 and 16793600(16MB)");
            }
        }
        if (database != null && change.invalidates(database, collection)) {
            ready.add(invalidate(change));
        }
    }

    private Document event(Change change) {
        Document namespaceOf = new Document("db", change.database()).append("coll", change.collection());
        if (change.collection() == null) {
            namespaceOf.remove("coll");
        }
        Document event = new Document("_id", change.place().token(change.keyHex()))
            .append("operationType", change.operation()).append("clusterTime", change.place().timestamp())
            .append("wallTime", change.wall());
        addImages(change, event);
        event.append("ns", namespaceOf);
        if (change.target() != null) {
            event.append("to", change.target());
        }
        if (change.key() != null) {
            event.append("documentKey", change.key());
        }
        if (change.update() != null) {
            event.append("updateDescription", change.update());
        }
        if (change.transaction() != null) {
            event.append("txnNumber", change.transaction()).append("lsid", change.session());
        }
        return event;
    }

    private void addImages(Change change, Document event) {
        String namespaceOf = change.database() + "." + change.collection();
        boolean images = backend.keepsImages(namespaceOf);
        if (change.update() == null && change.after() != null) {
            event.append("fullDocument", change.after());
        } else if (change.update() != null && fullDocument.equals("updateLookup")) {
            event.append("fullDocument", log.images(namespaceOf).get(change.key().get("_id")));
        } else if (change.update() != null && !fullDocument.equals("default")) {
            event.append("fullDocument", image(change.after(), images, fullDocument, "post-image"));
        }
        if (!before.equals("off") && change.key() != null && !change.operation().equals("insert")) {
            event.append("fullDocumentBeforeChange", image(change.before(), images, before, "pre-image"));
        }
    }

    private static Document image(Document document, boolean kept, String mode, String what) {
        if (!kept && mode.equals("required")) {
            throw new MongoServerError(47, "NoMatchingDocument", "Change stream was configured to require a " + what
                + " for all events, but the " + what + " was not found");
        }
        return kept ? document : null;
    }

    private Document invalidate(Change change) {
        Place place = new Place(change.place().time(), change.place().index(), Place.INVALIDATE, 0);
        return new Document("_id", place.token("")).append("operationType", "invalidate")
            .append("clusterTime", place.timestamp()).append("wallTime", change.wall());
    }

    /** As $changeStreamSplitLargeEvent does it: top-level fields, packed into pieces of up to 16 MiB. */
    private void splitEvent(Change change, Document event) {
        List<Document> pieces = new ArrayList<>();
        Document piece = new Document();
        int bytes = 0;
        for (String name : event.keySet()) {
            if (name.equals("_id")) {
                continue;
            }
            int size = Change.size(new Document(name, event.get(name)));
            if (bytes > 0 && bytes + size > EVENT_BYTES_MAX - 1024) {
                pieces.add(piece);
                piece = new Document();
                bytes = 0;
            }
            piece.append(name, event.get(name));
            bytes += size;
        }
        pieces.add(piece);
        for (int i = 0; i < pieces.size(); i++) {
            Place place = new Place(change.place().time(), change.place().index(), Place.EVENT, i + 1);
            Document whole = new Document("_id", place.token(change.keyHex()))
                .append("splitEvent", new Document("fragment", i + 1).append("of", pieces.size()));
            whole.putAll(pieces.get(i));
            ready.add(whole);
        }
    }
}
