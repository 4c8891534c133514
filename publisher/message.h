/* publisher/message.h: an event as messages of streams say it: headers, and JSON. The format is
 * documented in docs/jetstream.md; MR_MESSAGE_FORMAT names it. An event that has no id of its own
 * is best given it first (mr_event_id): each of these would make it again. */
#ifndef MR_PUBLISHER_MESSAGE_H
#define MR_PUBLISHER_MESSAGE_H
#include "proto/event.h"
#include "proto/json.h"
#include "proto/marker.h"

#define MR_MESSAGE_FORMAT        "json/1"
#define MR_MESSAGE_RECORD_FORMAT "record/1"
enum { MR_MESSAGE_HEADERS_MAX = 640, MR_MESSAGE_ID_MAX = 3 * MR_EVENT_ID_MAX };

/* The event's id as a header may have it: control characters and % as %XX. Returns its length;
 * NUL-terminated. */
size_t mr_message_id(const struct mr_event *event, char out[MR_MESSAGE_ID_MAX]);

/* Lines "Name: value\r\n". Return their length. Of the event's place: position, format and trace.
 */
size_t mr_message_place_headers(struct mr_marker marker, const char *format,
                                char out[MR_MESSAGE_HEADERS_MAX]);
/* In front of these, id and operation. */
size_t mr_message_headers(const struct mr_event *event, struct mr_marker marker, const char *format,
                          char out[MR_MESSAGE_HEADERS_MAX]);

/* Behind these: that a payload of so many bytes is left out. */
size_t mr_message_add_omitted(size_t payload_len, char headers[MR_MESSAGE_HEADERS_MAX],
                              size_t headers_len);

/* The event as a JSON object. MR_FULL: no memory; a document that is none is left out as null. */
MR_MUST_USE enum mr_rc mr_message_put_event(struct mr_json *json, const struct mr_event *event);
#endif
