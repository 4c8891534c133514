#include "proto/gap.h"

struct mr_str mr_gap_write(struct mr_bson_writer *w, const char *cause, const char *from,
                           const char *to)
{
    mr_bson_writer_reset(w);
    mr_bson_begin(w);
    mr_bson_put_string(w, MR_STR("cause"), mr_str_from(cause));
    mr_bson_put_string(w, MR_STR("from"), mr_str_from(from));
    mr_bson_put_string(w, MR_STR("to"), mr_str_from(to));
    mr_bson_end(w);
    return mr_bson_bytes(w);
}
