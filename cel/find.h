/* cel/find.h: find a key in a BSON document: the evaluator's most frequent work, so it compares
 * eight bytes at a time and passes fixed sizes and strings without a call. Checks every length
 * against the document's end. */
#ifndef MR_CEL_FIND_H
#define MR_CEL_FIND_H
#include "cel/bytecode.h"

/* Pad bytes behind a document's end are never read: the last elements are compared byte by byte. */
static inline uint64_t mr_cel_load64(const void *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static inline struct mr_cel_path_key mr_cel_path_key(struct mr_str text)
{
    struct mr_cel_path_key key = {.len = (uint32_t)text.len};
    size_t head = text.len < 8 ? text.len : 8;
    memcpy(&key.head, text.data, head);
    key.mask = head == 8 ? UINT64_MAX : ~(UINT64_MAX << 8 << (8 * head)); /* with the NUL */
    if (head == 7)
        key.mask = UINT64_MAX;
    return key;
}

/* Bytes of a value of this type; -1: damaged. Says only how far to go, not that the inside is
 * sound. */
static inline int64_t mr_cel_bson_size(uint8_t type, const uint8_t *at, const uint8_t *end)
{
    static const uint8_t fixed[32] = {
        [MR_BSON_DOUBLE] = 9,     [MR_BSON_UNDEFINED] = 1, [MR_BSON_OID] = 13,
        [MR_BSON_BOOL] = 2,       [MR_BSON_DATE] = 9,      [MR_BSON_NULL] = 1,
        [MR_BSON_INT32] = 5,      [MR_BSON_TIMESTAMP] = 9, [MR_BSON_INT64] = 9,
        [MR_BSON_DECIMAL128] = 17};
    if (type < 32 && fixed[type] != 0)
        return fixed[type] - 1 <= end - at ? fixed[type] - 1 : -1;
    if (type < MR_BSON_STRING || type > MR_BSON_ARRAY || end - at < 5)
        return mr_bson_value_size(type, at, end);
    int32_t len;
    memcpy(&len, at, sizeof len);
    int64_t size = type == MR_BSON_STRING ? (int64_t)len + 4 : len;
    return len >= 1 && size >= 5 && size <= end - at ? size : -1;
}

enum mr_cel_found { MR_CEL_FOUND, MR_CEL_MISSING, MR_CEL_DAMAGED };
/* text: the key's bytes. out->data is inside of the document. */
static inline enum mr_cel_found mr_cel_find(const uint8_t *bson, uint32_t len,
                                            const struct mr_cel_path_key *key, const char *text,
                                            struct mr_bson_value *out)
{
    if (len < 5)
        return MR_CEL_DAMAGED;
    const uint8_t *at = bson + 4, *end = bson + len - 1; /* the document's own NUL */
    while (at < end) {
        uint8_t type = *at++;
        const uint8_t *value;
        bool found;
        if (__builtin_expect(end - at >= 8, 1)) {
            uint64_t word = mr_cel_load64(at);
            found = ((word ^ key->head) & key->mask) == 0;
            if (found && key->len < 8) {
                value = at + key->len + 1;
            } else {
                uint64_t zeros =
                    (word - UINT64_C(0x0101010101010101)) & ~word & UINT64_C(0x8080808080808080);
                if (zeros != 0) {
                    value = at + (__builtin_ctzll(zeros) >> 3) + 1;
                    found = false;
                } else {
                    const uint8_t *nul = memchr(at + 8, 0, (size_t)(end - at - 8));
                    if (!nul)
                        return MR_CEL_DAMAGED;
                    found =
                        found && (size_t)(nul - at) == key->len && memcmp(at, text, key->len) == 0;
                    value = nul + 1;
                }
            }
        } else {
            const uint8_t *nul = memchr(at, 0, (size_t)(end - at));
            if (!nul)
                return MR_CEL_DAMAGED;
            found = (size_t)(nul - at) == key->len && memcmp(at, text, key->len) == 0;
            value = nul + 1;
        }
        int64_t size = mr_cel_bson_size(type, value, end);
        if (__builtin_expect(size < 0, 0))
            return MR_CEL_DAMAGED;
        if (found) {
            *out = (struct mr_bson_value){.type = type, .data = value, .len = (uint32_t)size};
            return MR_CEL_FOUND;
        }
        at = value + size;
    }
    return MR_CEL_MISSING;
}
#endif
