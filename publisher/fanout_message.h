/* publisher/fanout_message.h: an event of the log as the fan-out's message, and the stream that it
 * belongs to. */
#ifndef MR_PUBLISHER_FANOUT_MESSAGE_H
#define MR_PUBLISHER_FANOUT_MESSAGE_H
#include "common/config.h"
#include "jetstream/outbox.h"
#include "log/log.h"
#include "publisher/message.h"

#define MR_FANOUT_SUBJECT "query.index."

/* Scratch of one message; zeroed is empty. */
struct mr_fanout_message {
    struct mr_event event;
    struct mr_json json;
    char subject[MR_JS_SUBJECT_MAX + 1], headers[MR_MESSAGE_HEADERS_MAX], id[MR_MESSAGE_ID_MAX];
    char event_id[MR_EVENT_ID_MAX];
};

/* Decode a record and say it; out's strings point into scratch and record. lane is left alone.
 * MR_CORRUPT: it is no event; MR_FULL: no memory. */
MR_MUST_USE enum mr_rc mr_fanout_encode(struct mr_fanout_message *scratch,
                                        const struct mr_config *config, uint64_t log_id,
                                        const struct mr_log_record *record,
                                        struct mr_js_message *out);
#endif
