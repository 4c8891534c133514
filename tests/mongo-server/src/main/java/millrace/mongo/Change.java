package millrace.mongo;

import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.wire.bson.BsonEncoder;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufUtil;
import io.netty.buffer.Unpooled;
import java.time.Instant;

/** One entry of the oplog: what a change event is made of. Members that do not apply are null. */
record Change(Place place, Instant wall, String operation, String database, String collection, Document key,
              Document after, Document before, Document update, Document target, Document session, Long transaction) {

    boolean ofDatabase(String name) {
        return database.equals(name);
    }

    boolean touches(String databaseName, String collectionName) {
        if (!ofDatabase(databaseName)) {
            return target != null && databaseName.equals(target.get("db")) && collectionName.equals(target.get("coll"));
        }
        return collection == null || collection.equals(collectionName)
            || target != null && collectionName.equals(target.get("coll"));
    }

    /** Whether a stream over a collection, or over a database when collectionName is null, ends here. */
    boolean invalidates(String databaseName, String collectionName) {
        switch (operation) {
            case "dropDatabase":
                return true;
            case "drop":
            case "rename":
                return collectionName != null;
            default:
                return false;
        }
    }

    String keyHex() {
        if (key == null) {
            return "";
        }
        ByteBuf buffer = Unpooled.buffer();
        try {
            BsonEncoder.encodeDocument(key, buffer);
            return ByteBufUtil.hexDump(buffer).toUpperCase();
        } finally {
            buffer.release();
        }
    }

    static int size(Document document) {
        ByteBuf buffer = Unpooled.buffer();
        try {
            BsonEncoder.encodeDocument(document, buffer);
            return buffer.writerIndex();
        } finally {
            buffer.release();
        }
    }
}
