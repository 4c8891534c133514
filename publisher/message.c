#include "publisher/message.h"

#include <stdio.h>

size_t mr_message_id(const struct mr_event *event, char out[MR_MESSAGE_ID_MAX])
{
    char id[MR_EVENT_ID_MAX];
    size_t len = mr_event_id(event, id), at = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)id[i];
        if (byte > ' ' && byte < 0x7f && byte != '%') {
            out[at++] = (char)byte;
            continue;
        }
        out[at++] = '%';
        out[at++] = "0123456789ABCDEF"[byte >> 4];
        out[at++] = "0123456789ABCDEF"[byte & 15];
    }
    out[at] = '\0';
    return at;
}

static char *put(char *at, struct mr_str text)
{
    memcpy(at, text.data, text.len);
    return at + text.len;
}

static char *put_hex(char *at, uint64_t n)
{
    for (int shift = 60; shift >= 0; shift -= 4)
        *at++ = "0123456789abcdef"[n >> shift & 15];
    return at;
}

/* W3C trace context: the event's place is its trace, so that whoever says it again says the same. A
 * trace of zeros is not allowed: sequences begin at 1. */
static char *put_trace(char *at, struct mr_marker marker)
{
    at = put(at, MR_STR("traceparent: 00-"));
    at = put_hex(put_hex(at, marker.log_id), marker.sequence);
    *at++ = '-';
    at = put_hex(at, (marker.log_id ^ marker.sequence * UINT64_C(0x9e3779b97f4a7c15)) | 1);
    return put(at, MR_STR("-00\r\n"));
}

static char *put_place(char *at, struct mr_marker marker, const char *format)
{
    char position[MR_MARKER_TEXT_MAX];
    size_t position_len = mr_marker_format(marker, position);
    at = put(at, MR_STR("Millrace-Position: "));
    at = put(at, (struct mr_str){position, position_len});
    at = put(at, MR_STR("\r\nMillrace-Format: "));
    at = put(put(at, mr_str_from(format)), MR_STR("\r\n"));
    return put_trace(at, marker);
}

size_t mr_message_place_headers(struct mr_marker marker, const char *format,
                                char out[MR_MESSAGE_HEADERS_MAX])
{
    return (size_t)(put_place(out, marker, format) - out);
}

size_t mr_message_headers(const struct mr_event *event, struct mr_marker marker, const char *format,
                          char out[MR_MESSAGE_HEADERS_MAX])
{
    char id[MR_MESSAGE_ID_MAX];
    size_t id_len = mr_message_id(event, id);
    char *at = put(out, MR_STR("Millrace-Event-Id: "));
    at = put(at, (struct mr_str){id, id_len});
    at = put(at, MR_STR("\r\nMillrace-Operation: "));
    at = put(at, mr_str_from(mr_operation_name((enum mr_operation)event->head.op)));
    at = put_place(put(at, MR_STR("\r\n")), marker, format);
    MR_ASSERT(at - out <= MR_MESSAGE_HEADERS_MAX);
    return (size_t)(at - out);
}

size_t mr_message_add_omitted(size_t payload_len, char headers[MR_MESSAGE_HEADERS_MAX],
                              size_t headers_len)
{
    size_t room = MR_MESSAGE_HEADERS_MAX - headers_len;
    int len = snprintf(headers + headers_len, room,
                       "Millrace-Omitted: %zu bytes, over half of the queue\r\n", payload_len);
    MR_ASSERT((size_t)len < room);
    return headers_len + (size_t)len;
}

static void put_text(struct mr_json *json, struct mr_str name, struct mr_str text)
{
    mr_json_put_raw(json, name);
    mr_json_put_string(json, text);
}

static void put_number(struct mr_json *json, struct mr_str name, int64_t n)
{
    mr_json_put_raw(json, name);
    mr_json_put_int(json, n);
}

static void put_document(struct mr_json *json, struct mr_str name, struct mr_str bson)
{
    if (bson.len == 0)
        return;
    mr_json_put_raw(json, name);
    if (mr_json_put_document(json, bson) == MR_CORRUPT)
        mr_json_put_raw(json, MR_STR("null"));
}

enum mr_rc mr_message_put_event(struct mr_json *json, const struct mr_event *event)
{
    char id[MR_EVENT_ID_MAX];
    size_t id_len = mr_event_id(event, id);
    const struct mr_event_head *head = &event->head;
    put_text(json, MR_STR("{\"eventId\":"), (struct mr_str){id, id_len});
    put_text(json, MR_STR(",\"operation\":"),
             mr_str_from(mr_operation_name((enum mr_operation)head->op)));
    put_text(json, MR_STR(",\"database\":"), event->database);
    put_text(json, MR_STR(",\"collection\":"), event->collection);
    put_text(json, MR_STR(",\"documentId\":"), event->document_id);
    put_number(json, MR_STR(",\"timestamp\":"), head->ingest_time_us / 1000);
    if (head->source_time_us != 0)
        put_number(json, MR_STR(",\"sourceTimestampUs\":"), head->source_time_us);
    if (head->transaction != 0)
        put_number(json, MR_STR(",\"transaction\":"), (int64_t)head->transaction);
    if (head->flags & MR_EVENT_SOFT)
        mr_json_put_raw(json, MR_STR(",\"soft\":true"));
    if (head->flags & MR_EVENT_KEY_ONLY)
        mr_json_put_raw(json, MR_STR(",\"keyOnly\":true"));
    if (head->flags & MR_EVENT_SNAPSHOT)
        mr_json_put_raw(json, MR_STR(",\"snapshot\":true"));
    put_document(json, MR_STR(",\"document\":"), event->document);
    put_document(json, MR_STR(",\"update\":"), event->update);
    put_document(json, MR_STR(",\"before\":"), event->before);
    mr_json_put_raw(json, MR_STR("}"));
    return json->failed ? MR_FULL : MR_OK;
}
