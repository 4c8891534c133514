/* tools/cel_json.h: JSON text, MongoDB's extended forms included, as BSON: by libbson, which only
 * this module sees. */
#ifndef MR_TOOLS_CEL_JSON_H
#define MR_TOOLS_CEL_JSON_H
#include "common/err.h"
#include "common/str.h"

struct mr_cel_json; /* not thread-safe */

MR_MUST_USE enum mr_rc mr_cel_json_create(struct mr_cel_json **out, struct mr_err *err);
void mr_cel_json_destroy(struct mr_cel_json **json);
/* One object. A whole number beyond 64 bits becomes a double. *bson: valid (mr_bson_validate),
 * borrowed until the next call. MR_USAGE: it is none. */
MR_MUST_USE enum mr_rc mr_cel_json_parse(struct mr_cel_json *json, struct mr_str text,
                                         struct mr_str *bson, struct mr_err *err);
#endif
