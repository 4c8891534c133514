/* publisher/sinks/jetstream_file.h: the subscriptions that are delivered through JetStream, from a
 * file with one JSON object a line:
 *
 *   {"gatewayId":"g1","subscriptionId":"s1","database":"shop","collection":"orders",
 *    "filters":[{"field":"status","op":"==","value":"open"}]}
 *
 * filters and "cel" (an expression that must hold, too) may be missing; "tenant" is another word
 * for database. Empty lines are passed over. */
#ifndef MR_PUBLISHER_SINKS_JETSTREAM_FILE_H
#define MR_PUBLISHER_SINKS_JETSTREAM_FILE_H
#include "publisher/sink.h"

struct mr_js_wanted {
    struct mr_str gateway_id, subscription_id, database, collection, cel;
    struct mr_predicate *predicates;
    uint32_t predicate_count;
    uint8_t *bytes; /* owned: what the strings point into */
};
struct mr_js_wanted_list {
    struct mr_js_wanted *items;
    uint32_t count, max;
};

/* MR_USAGE: it cannot be read, or a line is none; names file and line. Nothing is kept then. */
MR_MUST_USE enum mr_rc mr_js_wanted_read(const char *path, struct mr_js_wanted_list *out,
                                         struct mr_err *err);
/* One line, appended. */
MR_MUST_USE enum mr_rc mr_js_wanted_parse(struct mr_str line, struct mr_js_wanted_list *list,
                                          struct mr_err *err);
void mr_js_wanted_fini(struct mr_js_wanted_list *list);
#endif
