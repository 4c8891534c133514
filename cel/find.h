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

/* Behind the value that starts at "at", which may lie behind the end; NULL: damaged. Says only how
 * far to go, not that the inside is sound. */
static inline const uint8_t *mr_cel_bson_skip(uint8_t type, const uint8_t *at, const uint8_t *end)
{
    const uint8_t *next;
    int64_t size, left = end - at;
    uint32_t len;
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
        if (left < 5)
            return NULL;
        memcpy(&len, at, sizeof len);
        return len - 1 <= (uint64_t)left - 5 ? at + 4 + len : NULL;
    case MR_BSON_DOCUMENT:
    case MR_BSON_ARRAY:
        if (left < 5)
            return NULL;
        memcpy(&len, at, sizeof len);
        return len >= 5 && len <= (uint64_t)left ? at + len : NULL;
    default:
        size = left < 0 ? -1 : mr_bson_value_size(type, at, end);
        return size < 0 ? NULL : at + size;
    }
    return next <= end ? next : NULL;
}

/* The first NUL of eight bytes: its place's top bit is the lowest one that is set; 0: there is
 * none.
 */
static inline uint64_t mr_cel_nul_of(uint64_t word)
{
    return (word - UINT64_C(0x0101010101010101)) & ~word & UINT64_C(0x8080808080808080);
}

#define MR_CEL_BEHIND(count) \
    do {                     \
        at += count;         \
        MR_CEL_BARRIER(at);  \
        return at;           \
    } while (0)
/* Behind the NUL that mr_cel_nul_of has found in the bytes at "at". */
static inline const uint8_t *mr_cel_nul_skip(const uint8_t *at, uint64_t nul)
{
    if ((uint32_t)nul == 0) {
        if (nul & UINT64_C(0x8000000000))
            MR_CEL_BEHIND(5);
        if (nul & UINT64_C(0x800000000000))
            MR_CEL_BEHIND(6);
        if (nul & UINT64_C(0x80000000000000))
            MR_CEL_BEHIND(7);
        MR_CEL_BEHIND(8);
    }
    if (nul & 0x8080) {
        if (nul & 0x80)
            MR_CEL_BEHIND(1);
        MR_CEL_BEHIND(2);
    }
    if (nul & 0x800000)
        MR_CEL_BEHIND(3);
    MR_CEL_BEHIND(4);
}
#undef MR_CEL_BEHIND

/* Behind the NUL of the key that starts at "at". end: the document's own NUL, which counts as a
 * key's where there is no other: then the result lies behind it. */
static inline const uint8_t *mr_cel_key_skip(const uint8_t *at, const uint8_t *end)
{
    for (; __builtin_expect(end - at >= 7, 1); at += 8) {
        uint64_t nul = mr_cel_nul_of(mr_cel_load64(at));
        if (__builtin_expect(nul != 0, 1))
            return mr_cel_nul_skip(at, nul);
    }
    while (at < end && *at != 0)
        at++;
    return at + 1;
}

/* Whether the key at "at" is this text, and ends before the document does. */
static inline bool mr_cel_key_is(const uint8_t *at, const uint8_t *end, const char *text,
                                 size_t len)
{
    return (size_t)(end - at) > len && at[len] == 0 && memcmp(at, text, len) == 0;
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
    const uint64_t head = key->head, mask = key->mask;
    const size_t key_len = key->len;
    for (;;) {
        const uint8_t *value;
        if (__builtin_expect(end - at >= 8, 1)) { /* a type and a key's first eight bytes */
            uint64_t word = mr_cel_load64(at + 1), nul = mr_cel_nul_of(word);
            if (__builtin_expect(((word ^ head) & mask) == 0, 0) &&
                (key_len < 8 || mr_cel_key_is(at + 1, end, text, key_len)))
                break;
            value = __builtin_expect(nul != 0, 1) ? mr_cel_nul_skip(at + 1, nul)
                                                  : mr_cel_key_skip(at + 9, end);
        } else if (at >= end) {
            return MR_CEL_MISSING;
        } else if (mr_cel_key_is(at + 1, end, text, key_len)) {
            break;
        } else {
            value = mr_cel_key_skip(at + 1, end);
        }
        at = mr_cel_bson_skip(*at, value, end);
        if (__builtin_expect(!at, 0))
            return MR_CEL_DAMAGED;
    }
    const uint8_t *value = at + key_len + 2, *next = mr_cel_bson_skip(*at, value, end);
    if (__builtin_expect(!next, 0))
        return MR_CEL_DAMAGED;
    *out = (struct mr_bson_value){.type = *at, .data = value, .len = (uint32_t)(next - value)};
    return MR_CEL_FOUND;
}
#endif
