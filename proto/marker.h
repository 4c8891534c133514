/* proto/marker.h: the opaque progress marker that leaves the pipeline: a place in one log.
 * Text: base64url without padding of {version 1, log id, sequence}. */
#ifndef MR_PROTO_MARKER_H
#define MR_PROTO_MARKER_H
#include <stdint.h>

#include "common/err.h"
#include "common/str.h"

struct mr_marker {
    uint64_t log_id;
    uint64_t sequence; /* everything through this one has been seen */
};
enum { MR_MARKER_TEXT_MAX = 32 };
size_t mr_marker_format(struct mr_marker marker,
                        char out[MR_MARKER_TEXT_MAX]); /* returns its length */
MR_MUST_USE enum mr_rc mr_marker_parse(struct mr_str text, struct mr_marker *out,
                                       struct mr_err *err);
#endif
