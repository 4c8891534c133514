/* proto/gap.h: the document of a gap: {cause, from, to}, the range in the terms of its source. */
#ifndef MR_PROTO_GAP_H
#define MR_PROTO_GAP_H
#include "common/bson.h"

/* Write it into w, which is reset first. The bytes are w's; none: there was no room for them. */
struct mr_str mr_gap_write(struct mr_bson_writer *w, const char *cause, const char *from,
                           const char *to);
#endif
