package millrace.mongo;

import de.bwaldvogel.mongo.backend.Cursor;
import de.bwaldvogel.mongo.backend.EmptyCursor;
import de.bwaldvogel.mongo.backend.ValueComparator;
import de.bwaldvogel.mongo.backend.aggregation.Aggregation;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.oplog.Oplog;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * The oplog: all changes in order, found by position in O(log n), and the images that they leave behind. Guarded by
 * the backend's one lock.
 */
final class ChangeLog implements Oplog {
    private final ReplicaSet backend;
    private final List<Change> changes = new ArrayList<>();
    private final Map<String, TreeMap<Object, Document>> images = new HashMap<>();
    private long removed; // changes that are no more; the first in the list has this number
    private long lastTime;
    private long floorTime; // of the last one removed
    private Document session; // of the transaction that is being applied
    private Long transaction;
    private int transactionIndex = -1; // -1: none

    ChangeLog(ReplicaSet backend) {
        this.backend = backend;
        this.lastTime = Instant.now().getEpochSecond() << 32 | 1;
    }

    long lastTime() {
        return lastTime;
    }

    long floorTime() {
        return floorTime;
    }

    long end() {
        return removed + changes.size();
    }

    Change at(long number) {
        return number < removed ? null : changes.get((int) (number - removed));
    }

    /** Number of the first change at or behind a place. */
    long find(Place place) {
        int low = 0;
        int high = changes.size();
        while (low < high) {
            int middle = (low + high) >>> 1;
            if (changes.get(middle).place().compareTo(place) < 0) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        return removed + low;
    }

    /** Forget all but the last `keep` changes, as a capped oplog does. */
    void trim(int keep) {
        int drop = Math.max(changes.size() - keep, 0);
        if (drop > 0) {
            floorTime = changes.get(drop - 1).place().time();
            changes.subList(0, drop).clear();
            removed += drop;
            tick(); // an oplog is never empty: its last entry is what pushed the others out
        }
    }

    /** Time passes without a change, as with the no-op that an idle primary writes. */
    void tick() {
        lastTime = nextTime();
    }

    private long nextTime() {
        return Math.max(lastTime + 1, Instant.now().getEpochSecond() << 32 | 1);
    }

    /** Everything that run() changes is one transaction: one cluster time. */
    void transaction(Document ofSession, Long number, Runnable run) {
        session = ofSession;
        transaction = number;
        transactionIndex = 0;
        lastTime = nextTime();
        try {
            run.run();
        } finally {
            session = null;
            transaction = null;
            transactionIndex = -1;
        }
    }

    private void add(String operation, String database, String collection, Document key, Document after,
                     Document before, Document update, Document target) {
        int index = 0;
        if (transactionIndex >= 0) {
            index = transactionIndex++;
        } else {
            lastTime = nextTime();
        }
        changes.add(new Change(new Place(lastTime, index, Place.EVENT, 0), Instant.now(), operation, database,
            collection, key, after, before, update, target, session, transaction));
    }

    TreeMap<Object, Document> images(String namespace) {
        return images.computeIfAbsent(namespace, name -> new TreeMap<>(ValueComparator.ascWithoutListHandling()));
    }

    private static String databaseOf(String namespace) {
        return namespace.substring(0, namespace.indexOf('.'));
    }

    private static String collectionOf(String namespace) {
        return namespace.substring(namespace.indexOf('.') + 1);
    }

    private static boolean logged(String namespace) {
        String database = databaseOf(namespace);
        return !database.equals("local") && !database.equals("config") && !database.equals("admin")
            && !collectionOf(namespace).startsWith("system.");
    }

    private static Document keyOf(Object id) {
        return new Document("_id", id);
    }

    @Override
    public void handleInsert(String namespace, List<Document> documents) {
        if (!logged(namespace)) {
            return;
        }
        for (Document document : documents) {
            Document image = document.cloneDeeply();
            Object id = image.get("_id");
            images(namespace).put(id, image);
            add("insert", databaseOf(namespace), collectionOf(namespace), keyOf(id), image, null, null, null);
        }
    }

    @Override
    public void handleUpdate(String namespace, Document selector, Document query, List<Object> modifiedIds) {
        if (!logged(namespace)) {
            return;
        }
        boolean replace = query.keySet().stream().noneMatch(name -> name.startsWith("$"));
        for (Object id : modifiedIds) {
            Document after = backend.document(databaseOf(namespace), collectionOf(namespace), id).cloneDeeply();
            Document before = images(namespace).put(id, after);
            Document update = replace ? null : Delta.between(before, after);
            add(replace ? "replace" : "update", databaseOf(namespace), collectionOf(namespace), keyOf(id), after,
                before, update, null);
        }
    }

    @Override
    public void handleDelete(String namespace, Document query, List<Object> deletedIds) {
        if (!logged(namespace)) {
            return;
        }
        for (Object id : deletedIds) {
            Document before = images(namespace).remove(id);
            add("delete", databaseOf(namespace), collectionOf(namespace), keyOf(id), null, before, null, null);
        }
    }

    @Override
    public void handleDropCollection(String namespace) {
        if (!logged(namespace)) {
            return;
        }
        images.remove(namespace);
        add("drop", databaseOf(namespace), collectionOf(namespace), null, null, null, null, null);
    }

    void rename(String from, String to) {
        TreeMap<Object, Document> moved = images.remove(from);
        if (moved != null) {
            images.put(to, moved);
        }
        add("rename", databaseOf(from), collectionOf(from), null, null, null, null,
            new Document("db", databaseOf(to)).append("coll", collectionOf(to)));
    }

    void dropDatabase(String name) {
        add("dropDatabase", name, null, null, null, null, null, null);
    }

    /** Change streams are the backend's own affair: see Stream. */
    @Override
    public Cursor createCursor(Document changeStream, String namespace, Aggregation aggregation) {
        return EmptyCursor.get();
    }
}
