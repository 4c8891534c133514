package millrace.mongo;

import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerError;
import de.bwaldvogel.mongo.wire.BsonConstants;
import de.bwaldvogel.mongo.wire.bson.BsonEncoder;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * Reads by _id in order, as over the index that every collection has. Like in MongoDB, {$gt: x} finds values of x's
 * own kind only.
 */
final class Ranges {
    private static final Map<String, Integer> KINDS = Map.ofEntries(Map.entry("minKey", 0), Map.entry("null", 1),
        Map.entry("number", 2), Map.entry("string", 3), Map.entry("symbol", 3), Map.entry("object", 4),
        Map.entry("array", 5), Map.entry("binData", 6), Map.entry("objectId", 7), Map.entry("bool", 8),
        Map.entry("date", 9), Map.entry("timestamp", 10), Map.entry("regex", 11), Map.entry("dbPointer", 12),
        Map.entry("javascript", 13), Map.entry("javascriptWithScope", 14), Map.entry("maxKey", 15));

    private final TreeMap<Object, Document> documents;

    Ranges(TreeMap<Object, Document> documents) {
        this.documents = documents;
    }

    List<Document> find(Document filter, int limit) {
        List<Document> wanted = conditions(filter);
        Collection<Document> range = documents.values();
        if (wanted.size() > 0 && isBound(wanted.get(0))) { // what comes before it is in no other condition
            range = documents.tailMap(boundOf(wanted.get(0))).values();
        }
        List<Document> found = new ArrayList<>();
        for (Document document : range) {
            Object id = document.get("_id");
            if (!wanted.isEmpty() && wanted.stream().noneMatch(condition -> meets(id, condition))) {
                continue;
            }
            found.add(document);
            if (found.size() == limit) {
                break;
            }
        }
        return found;
    }

    /** What _id must meet, one of them: of {}, {_id: CONDITION} and {$or: [{_id: CONDITION}, ...]}. */
    private static List<Document> conditions(Document filter) {
        List<Document> conditions = new ArrayList<>();
        if (filter == null || filter.isEmpty()) {
            return conditions;
        }
        Collection<?> parts = filter.containsKey("$or") ? (Collection<?>) filter.get("$or") : List.of(filter);
        for (Object part : parts) {
            Document byId = (Document) ((Document) part).get("_id");
            if (filter.size() > 1 || byId == null || ((Document) part).size() > 1) {
                throw new MongoServerError(2, "BadValue", "snapshot reads here know only filters on _id, got " + filter);
            }
            conditions.add(byId);
        }
        return conditions;
    }

    private static boolean isBound(Document condition) {
        return condition.containsKey("$gt") || condition.containsKey("$gte");
    }

    private static Object boundOf(Document condition) {
        return condition.containsKey("$gt") ? condition.get("$gt") : condition.get("$gte");
    }

    private boolean meets(Object id, Document condition) {
        if (!isBound(condition)) {
            return isOf(id, condition.get("$type"));
        }
        Object bound = boundOf(condition);
        int order = documents.comparator().compare(id, bound);
        return kindOf(id) == kindOf(bound) && (order > 0 || order == 0 && condition.containsKey("$gte"));
    }

    private static boolean isOf(Object id, Object types) {
        List<?> names = types instanceof List ? (List<?>) types : List.of(types);
        return names.stream().anyMatch(name -> KINDS.get(name) == kindOf(id));
    }

    private static int kindOf(Object value) {
        switch (BsonEncoder.determineType(value)) {
            case BsonConstants.TYPE_MIN_KEY:
                return 0;
            case BsonConstants.TYPE_NULL:
                return 1;
            case BsonConstants.TYPE_DOUBLE:
            case BsonConstants.TYPE_INT32:
            case BsonConstants.TYPE_INT64:
            case BsonConstants.TYPE_DECIMAL128:
                return 2;
            case BsonConstants.TYPE_UTF8_STRING:
                return 3;
            case BsonConstants.TYPE_EMBEDDED_DOCUMENT:
                return 4;
            case BsonConstants.TYPE_ARRAY:
                return 5;
            case BsonConstants.TYPE_DATA:
                return 6;
            case BsonConstants.TYPE_OBJECT_ID:
                return 7;
            case BsonConstants.TYPE_BOOLEAN:
                return 8;
            case BsonConstants.TYPE_UTC_DATETIME:
                return 9;
            case BsonConstants.TYPE_TIMESTAMP:
                return 10;
            case BsonConstants.TYPE_REGEX:
                return 11;
            case BsonConstants.TYPE_JAVASCRIPT_CODE:
                return 13;
            case BsonConstants.TYPE_JAVASCRIPT_CODE_WITH_SCOPE:
                return 14;
            default:
                return 15;
        }
    }
}
