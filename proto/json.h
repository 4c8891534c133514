/* proto/json.h: BSON as JSON text, as subscribers see it: keys in document order, and of each type
 *
 *   int32, int64    all digits            date        RFC 3339, UTC, zeros at the fraction's end
 * cut double          shortest text that    ObjectId    24 hex digits reads back the same;
 * decimal128  string ("1.50", "1E+6", "NaN") 1.0 is 1; NaN and     binary
 * {"Subtype":n,"Data":"base64"} infinities are null   timestamp   {"T":seconds,"I":increment}
 *   string, symbol, code  string          regex       {"Pattern":s,"Options":s}
 *   bool, null      true, false, null     DBPointer   {"DB":s,"Pointer":hex}
 *   undefined       null                  code with scope  {"Code":s,"Scope":{}}
 *   document, array                       min and max key  {}
 *
 * NaN as null loses that one value; the alternative, JSON having no spelling for it, would be to
 * lose the event. Dates outside the years 0 to 9999 get a sign and six digits, as ECMAScript reads
 * them. In strings < > & and U+2028, U+2029 are escaped, so that the text may stand inside HTML or
 * a script; bytes that are no UTF-8 become U+FFFD. */
#ifndef MR_PROTO_JSON_H
#define MR_PROTO_JSON_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/str.h"

/* Text that grows (malloc). Not thread-safe. Zeroed is empty. After a failed allocation failed is
 * set and everything else is ignored: check once at the end. */
struct mr_json {
    char *data; /* not NUL-terminated */
    size_t len, capacity;
    bool failed;
};

void mr_json_fini(struct mr_json *json);
static inline void mr_json_reset(struct mr_json *json) /* empty again, room kept */
{
    json->len = 0;
    json->failed = false;
}

/* Append a BSON document. MR_CORRUPT: it is none, or is nested deeper than MR_BSON_DEPTH_MAX;
 * MR_FULL: no memory. After either what was appended is cut off again. */
MR_MUST_USE enum mr_rc mr_json_put_document(struct mr_json *json, struct mr_str bson);

/* Parts, for texts around documents. */
void mr_json_put_raw(struct mr_json *json, struct mr_str text);
void mr_json_put_string(struct mr_json *json, struct mr_str text); /* quoted and escaped */
void mr_json_put_int(struct mr_json *json, int64_t value);
void mr_json_put_double(struct mr_json *json, double value);
#endif
