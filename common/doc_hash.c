#include "common/doc_hash.h"

#define XXH_STATIC_LINKING_ONLY /* for the streaming state on the stack */
#include <xxhash.h>

enum { SHORT_MAX = 512 };

static size_t put(char *out, struct mr_str part)
{
    if (part.len > 0)
        memcpy(out, part.data, part.len);
    out[part.len] = 0;
    return part.len + 1;
}

static void feed(XXH3_state_t *state, struct mr_str part)
{
    if (part.len > 0)
        (void)XXH3_64bits_update(state, part.data, part.len); /* fails on NULL alone */
    (void)XXH3_64bits_update(state, "", 1);
}

uint64_t mr_doc_hash(struct mr_str database, struct mr_str collection, struct mr_str document_id)
{
    /* Names are short: one run over a copy is several times faster than a streaming state. */
    if (database.len + collection.len + document_id.len + 3 <= SHORT_MAX) {
        char bytes[SHORT_MAX];
        size_t len = put(bytes, database);
        len += put(bytes + len, collection);
        len += put(bytes + len, document_id);
        return XXH3_64bits(bytes, len);
    }
    XXH3_state_t state;
    (void)XXH3_64bits_reset(&state);
    feed(&state, database);
    feed(&state, collection);
    feed(&state, document_id);
    return XXH3_64bits_digest(&state);
}
