package millrace.mongo;

import de.bwaldvogel.mongo.bson.BsonTimestamp;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerError;

/**
 * A place in a change stream, and its resume token. Tokens look and sort like MongoDB's: a hexadecimal key string
 * that begins with the cluster time. A high-water mark stands before all events of its cluster time.
 *
 * @param time cluster time, seconds in the upper half
 * @param index of the event among those of its cluster time; -1 for a high-water mark
 * @param kind EVENT, or INVALIDATE for the end of the stream that follows an event
 * @param fragment of an event that was split; 0 for one that was not
 */
record Place(long time, int index, int kind, int fragment) implements Comparable<Place> {
    static final int EVENT = 0;
    static final int INVALIDATE = 1;
    private static final String MARK = "2B0229296E04";

    static Place mark(long time) {
        return new Place(time, -1, EVENT, 0);
    }

    @Override
    public int compareTo(Place other) {
        int byTime = Long.compareUnsigned(time, other.time);
        if (byTime != 0) {
            return byTime;
        }
        int byIndex = Integer.compare(index, other.index);
        if (byIndex != 0) {
            return byIndex;
        }
        return kind != other.kind ? Integer.compare(kind, other.kind) : Integer.compare(fragment, other.fragment);
    }

    BsonTimestamp timestamp() {
        return new BsonTimestamp(time);
    }

    Document token(String documentKey) {
        String start = String.format("82%08X%08X", (int) (time >> 32), (int) time);
        if (index < 0) {
            return new Document("_data", start + MARK);
        }
        return new Document("_data", start + String.format("2B042C%08X29%02X%04X", index, kind, fragment) + documentKey
            + "04");
    }

    static Place parse(Object token) {
        try {
            String data = (String) ((Document) token).get("_data");
            if (!data.startsWith("82")) {
                throw new IllegalArgumentException(data);
            }
            long time = Long.parseUnsignedLong(data.substring(2, 18), 16);
            if (data.startsWith(MARK, 18)) {
                return mark(time);
            }
            return new Place(time, Integer.parseUnsignedInt(data.substring(24, 32), 16),
                Integer.parseInt(data.substring(34, 36), 16), Integer.parseInt(data.substring(36, 40), 16));
        } catch (RuntimeException e) {
            throw new MongoServerError(260, "InvalidResumeToken", "bad resume token: " + token);
        }
    }
}
