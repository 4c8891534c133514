/* common/bson.h: BSON (bsonspec.org, version 1.1) read in place and written in place, without a
 * tree and without allocation. */
#ifndef MR_COMMON_BSON_H
#define MR_COMMON_BSON_H
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/str.h"

enum mr_bson_type {
    MR_BSON_DOUBLE = 0x01,
    MR_BSON_STRING = 0x02,
    MR_BSON_DOCUMENT = 0x03,
    MR_BSON_ARRAY = 0x04,
    MR_BSON_BINARY = 0x05,
    MR_BSON_UNDEFINED = 0x06,
    MR_BSON_OID = 0x07,
    MR_BSON_BOOL = 0x08,
    MR_BSON_DATE = 0x09,
    MR_BSON_NULL = 0x0a,
    MR_BSON_REGEX = 0x0b,
    MR_BSON_DBPOINTER = 0x0c,
    MR_BSON_CODE = 0x0d,
    MR_BSON_SYMBOL = 0x0e,
    MR_BSON_CODE_SCOPE = 0x0f,
    MR_BSON_INT32 = 0x10,
    MR_BSON_TIMESTAMP = 0x11,
    MR_BSON_INT64 = 0x12,
    MR_BSON_DECIMAL128 = 0x13,
    MR_BSON_MINKEY = 0xff,
    MR_BSON_MAXKEY = 0x7f
};
enum { MR_BSON_DEPTH_MAX = 100 };

/* One element: its type, key and the bytes of its value (with their own length prefix, as stored).
 */
struct mr_bson_value {
    uint8_t type; /* enum mr_bson_type */
    const uint8_t *data;
    uint32_t len;
};
struct mr_bson_element {
    struct mr_str key;
    struct mr_bson_value value;
};

/* Walk over the elements of one document or array. init checks the length prefix and the last byte
 * against len. next: MR_OK, MR_AGAIN at the end, MR_CORRUPT. Checks each element as it passes it,
 * not what is inside. */
struct mr_bson_iter {
    const uint8_t *at, *end;
};
MR_MUST_USE enum mr_rc mr_bson_iter_init(struct mr_bson_iter *iter, const void *data, size_t len);
MR_MUST_USE enum mr_rc mr_bson_iter_next(struct mr_bson_iter *iter, struct mr_bson_element *out);

/* Bytes that a value of this type takes at "at", which must end by "end"; -1: damaged or of no
 * known type. What the iterator uses; for walkers that read keys in their own way. */
int64_t mr_bson_value_size(uint8_t type, const uint8_t *at, const uint8_t *end);

/* Check a whole document, all levels (at most MR_BSON_DEPTH_MAX), UTF-8 of keys and strings
 * included. */
MR_MUST_USE enum mr_rc mr_bson_validate(const void *data, size_t len);

/* Find a dotted path ("author.id", "items.0.sku"). False: not there, or something on the way is no
 * document or array. */
bool mr_bson_find(const void *data, size_t len, struct mr_str path, struct mr_bson_value *out);

/* Values. The type must be right. Strings and binaries point into the document. */
double mr_bson_double(const struct mr_bson_value *v);
int32_t mr_bson_int32(const struct mr_bson_value *v);
int64_t mr_bson_int64(const struct mr_bson_value *v); /* also DATE (ms) and TIMESTAMP */
bool mr_bson_bool(const struct mr_bson_value *v);
struct mr_str mr_bson_string(const struct mr_bson_value *v); /* also SYMBOL and CODE */

/* Writer into a buffer that grows (malloc) or, when fixed, refuses. Not thread-safe. After any
 * failure ok is false and everything else is ignored: check once at the end. */
struct mr_bson_writer {
    uint8_t *data;
    size_t len, capacity;
    size_t len_max; /* 2^31-1; may be set lower: what would be longer is a failure */
    bool ok, fixed;
    uint32_t depth;
    size_t starts[MR_BSON_DEPTH_MAX];
};
void mr_bson_writer_init(struct mr_bson_writer *w); /* grows */
void mr_bson_writer_init_fixed(struct mr_bson_writer *w, void *data, size_t capacity);
void mr_bson_writer_fini(struct mr_bson_writer *w);
void mr_bson_writer_reset(struct mr_bson_writer *w); /* empty again, buffer kept */
void mr_bson_begin(struct mr_bson_writer *w);        /* the outermost document */
void mr_bson_end(struct mr_bson_writer *w);          /* of the innermost open document or array */
void mr_bson_begin_document(struct mr_bson_writer *w, struct mr_str key);
void mr_bson_begin_array(struct mr_bson_writer *w, struct mr_str key);
void mr_bson_put_double(struct mr_bson_writer *w, struct mr_str key, double value);
void mr_bson_put_int32(struct mr_bson_writer *w, struct mr_str key, int32_t value);
void mr_bson_put_int64(struct mr_bson_writer *w, struct mr_str key, int64_t value);
void mr_bson_put_bool(struct mr_bson_writer *w, struct mr_str key, bool value);
void mr_bson_put_null(struct mr_bson_writer *w, struct mr_str key);
void mr_bson_put_string(struct mr_bson_writer *w, struct mr_str key, struct mr_str value);
void mr_bson_put_date_ms(struct mr_bson_writer *w, struct mr_str key, int64_t ms);
void mr_bson_put_binary(struct mr_bson_writer *w, struct mr_str key, uint8_t subtype,
                        struct mr_str v);
void mr_bson_put_decimal128(struct mr_bson_writer *w, struct mr_str key, uint64_t low,
                            uint64_t high);
/* An element as it was read elsewhere, under another key. */
void mr_bson_put_value(struct mr_bson_writer *w, struct mr_str key,
                       const struct mr_bson_value *value);
struct mr_str mr_bson_bytes(
    const struct mr_bson_writer *w); /* the finished document; {NULL, 0} if !ok */
#endif
