#include "publisher/fanout_message.h"

#include "jetstream/subject.h"

static enum mr_rc put_json(struct mr_fanout_message *m, struct mr_marker marker)
{
    char position[MR_MARKER_TEXT_MAX];
    mr_json_reset(&m->json);
    mr_json_put_raw(&m->json, MR_STR("{\"version\":1,\"position\":\""));
    mr_json_put_raw(&m->json, (struct mr_str){position, mr_marker_format(marker, position)});
    mr_json_put_raw(&m->json, MR_STR("\",\"event\":"));
    enum mr_rc rc = mr_message_put_event(&m->json, &m->event);
    mr_json_put_raw(&m->json, MR_STR("}"));
    return m->json.failed ? MR_FULL : rc;
}

enum mr_rc mr_fanout_encode(struct mr_fanout_message *m, const struct mr_config *config,
                            uint64_t log_id, const struct mr_log_record *record,
                            struct mr_js_message *out)
{
    bool json = strcmp(config->query_jetstream_format.text, "json") == 0;
    enum mr_rc rc = mr_event_decode(record->data, record->len, &m->event);
    if (rc != MR_OK)
        return rc;
    m->event.event_id = (struct mr_str){m->event_id, mr_event_id(&m->event, m->event_id)};
    struct mr_marker marker = {.log_id = log_id, .sequence = record->sequence};
    size_t subject_len = 0;
    bool ok =
        mr_js_text_append(m->subject, sizeof m->subject, &subject_len, MR_STR(MR_FANOUT_SUBJECT)) &&
        mr_js_token_append(m->subject, sizeof m->subject, &subject_len, m->event.collection);
    MR_ASSERT(ok); /* a token is bounded */
    if (json && (rc = put_json(m, marker)) != MR_OK)
        return rc;
    out->tag = record->sequence;
    out->subject = (struct mr_str){m->subject, subject_len};
    out->id = (struct mr_str){m->id, mr_message_id(&m->event, m->id)};
    out->headers = (struct mr_str){
        m->headers, mr_message_place_headers(
                        marker, json ? MR_MESSAGE_FORMAT : MR_MESSAGE_RECORD_FORMAT, m->headers)};
    out->payload = json ? (struct mr_str){m->json.data, m->json.len}
                        : (struct mr_str){record->data, record->len};
    out->payload_end = (struct mr_str){NULL, 0};
    return MR_OK;
}
