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

/* The addresses of a document's elements hang on each other: each length must be loaded before the
 * next element can be. A branch for each usual length instead of arithmetic lets the processor go
 * on with the length that it has seen at this place in the documents before: those of one
 * collection are alike. BARRIER keeps the compiler from making arithmetic of it again. */
#define MR_CEL_BARRIER(pointer) __asm__("" : "+r"(pointer))

/* Behind the value that starts at "at"; NULL: damaged. Says only how far to go, not that the inside
 * is sound. */
static inline const uint8_t *mr_cel_bson_skip(uint8_t type, const uint8_t *at, const uint8_t *end)
{
    const uint8_t *next;
    int64_t size;
    int32_t len;
    switch (type) {
    case MR_BSON_INT32:
        next = at + 4;
        MR_CEL_BARRIER(next);
        break;
    case MR_BSON_DOUBLE:
    case MR_BSON_INT64:
    case MR_BSON_DATE:
        next = at + 8;
        MR_CEL_BARRIER(next);
        break;
    case MR_BSON_BOOL:
        next = at + 1;
        MR_CEL_BARRIER(next);
        break;
    case MR_BSON_OID:
        next = at + 12;
        MR_CEL_BARRIER(next);
        break;
    case MR_BSON_STRING:
    case MR_BSON_DOCUMENT:
    case MR_BSON_ARRAY:
        if (end - at < 5)
            return NULL;
        memcpy(&len, at, sizeof len);
        if (len < 1)
            return NULL;
        next = at + len + (type == MR_BSON_STRING ? 4 : 0);
        return next >= at + 5 && next <= end ? next : NULL;
    default:
        size = mr_bson_value_size(type, at, end);
        return size < 0 ? NULL : at + size;
    }
    return next <= end ? next : NULL;
}

/* Behind the NUL of the key that starts at "at"; NULL: there is none. */
static inline const uint8_t *mr_cel_key_skip(const uint8_t *at, const uint8_t *end)
{
    if (__builtin_expect(end - at >= 8, 1)) {
        uint64_t word = mr_cel_load64(at);
        uint64_t zeros =
            (word - UINT64_C(0x0101010101010101)) & ~word & UINT64_C(0x8080808080808080);
        switch (zeros != 0 ? __builtin_ctzll(zeros) >> 3 : 8) {
        case 0:
            at += 1;
            MR_CEL_BARRIER(at);
            return at;
        case 1:
            at += 2;
            MR_CEL_BARRIER(at);
            return at;
        case 2:
            at += 3;
            MR_CEL_BARRIER(at);
            return at;
        case 3:
            at += 4;
            MR_CEL_BARRIER(at);
            return at;
        case 4:
            at += 5;
            MR_CEL_BARRIER(at);
            return at;
        case 5:
            at += 6;
            MR_CEL_BARRIER(at);
            return at;
        case 6:
            at += 7;
            MR_CEL_BARRIER(at);
            return at;
        case 7:
            at += 8;
            MR_CEL_BARRIER(at);
            return at;
        default:
            break;
        }
    }
    const uint8_t *nul = memchr(at, 0, (size_t)(end - at));
    return nul ? nul + 1 : NULL;
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
    uint64_t head = key->head, mask = key->mask;
    while (at < end) {
        uint8_t type = *at++;
        const uint8_t *value = mr_cel_key_skip(at, end);
        if (__builtin_expect(!value, 0))
            return MR_CEL_DAMAGED;
        const uint8_t *next = mr_cel_bson_skip(type, value, end);
        if (__builtin_expect(!next, 0))
            return MR_CEL_DAMAGED;
        bool found = __builtin_expect(end - at >= 8, 1)
                         ? ((mr_cel_load64(at) ^ head) & mask) == 0 &&
                               (key->len < 8 || ((size_t)(value - at) == key->len + 1u &&
                                                 memcmp(at, text, key->len) == 0))
                         : (size_t)(value - at) == key->len + 1u && memcmp(at, text, key->len) == 0;
        if (found) {
            *out = (struct mr_bson_value){
                .type = type, .data = value, .len = (uint32_t)(next - value)};
            return MR_CEL_FOUND;
        }
        at = next;
    }
    return MR_CEL_MISSING;
}
#endif
