package millrace.mongo;

import de.bwaldvogel.mongo.bson.Document;
import java.util.ArrayList;
import java.util.List;

/** The update description: what changed between two images of a document. */
final class Delta {
    private final Document updated = new Document();
    private final List<Object> removed = new ArrayList<>();
    private final List<Object> truncated = new ArrayList<>();

    static Document between(Document before, Document after) {
        Delta delta = new Delta();
        delta.documents("", before, after);
        return new Document("updatedFields", delta.updated).append("removedFields", delta.removed)
            .append("truncatedArrays", delta.truncated);
    }

    private static boolean same(Object a, Object b) {
        if (a == null || b == null) {
            return a == b;
        }
        if (a.getClass() != b.getClass()) {
            return false;
        }
        return a.equals(b);
    }

    private void documents(String path, Document before, Document after) {
        for (String name : before.keySet()) {
            if (!after.containsKey(name)) {
                removed.add(path + name);
            }
        }
        for (String name : after.keySet()) {
            if (!before.containsKey(name)) {
                updated.put(path + name, after.get(name));
            } else {
                values(path + name, before.get(name), after.get(name));
            }
        }
    }

    private void values(String path, Object before, Object after) {
        if (same(before, after)) {
            return;
        }
        if (before instanceof Document && after instanceof Document) {
            documents(path + ".", (Document) before, (Document) after);
        } else if (before instanceof List && after instanceof List) {
            arrays(path, (List<?>) before, (List<?>) after);
        } else {
            updated.put(path, after);
        }
    }

    private void arrays(String path, List<?> before, List<?> after) {
        if (after.size() < before.size()) {
            truncated.add(new Document("field", path).append("newSize", after.size()));
        }
        for (int i = 0; i < after.size(); i++) {
            if (i >= before.size()) {
                updated.put(path + "." + i, after.get(i));
            } else {
                values(path + "." + i, before.get(i), after.get(i));
            }
        }
    }

    private Delta() {
    }
}
