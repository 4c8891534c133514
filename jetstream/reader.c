#include "jetstream/reader.h"

#include <nats/nats.h>
#include <stdlib.h>

struct mr_js_reader {
    natsConnection *connection;
    jsCtx *js;
    natsSubscription *sub;
    natsMsg *message; /* given out last */
    struct mr_js_range range;
};

static enum mr_rc look_at(struct mr_js_reader *reader, const char *stream, struct mr_err *err)
{
    jsStreamInfo *info = NULL;
    jsErrCode code = 0;
    natsStatus s = natsConnection_JetStream(&reader->js, reader->connection, NULL);
    if (s == NATS_OK)
        s = js_GetStreamInfo(&info, reader->js, stream, NULL, &code);
    if (s != NATS_OK)
        return mr_js_refused(err, "find stream", stream, s, code);
    const jsStreamState *state = &info->State;
    reader->range.last = state->LastSeq;
    reader->range.first = state->Msgs > 0 ? state->FirstSeq : state->LastSeq + 1;
    reader->range.created_ns = info->Created;
    jsStreamInfo_Destroy(info);
    return MR_OK;
}

static enum mr_rc subscribe(struct mr_js_reader *reader, const char *stream, uint64_t after,
                            struct mr_err *err)
{
    jsSubOptions options;
    jsErrCode code = 0;
    jsSubOptions_Init(&options);
    options.Stream = stream;
    options.Ordered = true;
    options.Config.DeliverPolicy = js_DeliverByStartSequence;
    options.Config.OptStartSeq = after + 1;
    natsStatus s = js_SubscribeSync(&reader->sub, reader->js, ">", NULL, &options, &code);
    return s == NATS_OK ? MR_OK : mr_js_refused(err, "read stream", stream, s, code);
}

enum mr_rc mr_js_reader_open(struct mr_js_reader **out, const struct mr_js_options *options,
                             const char *stream, uint64_t after, struct mr_err *err)
{
    struct mr_js_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return mr_fail(err, MR_FATAL, "allocate a reader of stream %s", stream);
    enum mr_rc rc = mr_js_connect(&reader->connection, options, err);
    if (rc == MR_OK)
        rc = look_at(reader, stream, err);
    if (rc == MR_OK)
        rc = subscribe(reader, stream, after, err);
    if (rc != MR_OK)
        mr_js_reader_close(&reader);
    *out = reader;
    return rc;
}

void mr_js_reader_close(struct mr_js_reader **out)
{
    struct mr_js_reader *reader = *out;
    if (!reader)
        return;
    natsMsg_Destroy(reader->message);
    if (reader->sub)
        natsSubscription_Unsubscribe(reader->sub); /* also ends the consumer */
    natsSubscription_Destroy(reader->sub);
    jsCtx_Destroy(reader->js);
    mr_js_disconnect(&reader->connection);
    free(reader);
    *out = NULL;
}

struct mr_js_range mr_js_reader_range(const struct mr_js_reader *reader)
{
    return reader->range;
}

static struct mr_str header(natsMsg *message, const char *name)
{
    const char *value = NULL;
    return natsMsgHeader_Get(message, name, &value) == NATS_OK ? mr_str_from(value)
                                                               : (struct mr_str){NULL, 0};
}

static natsStatus sequence_of(natsMsg *message, uint64_t *out)
{
    jsMsgMetaData *meta = NULL;
    natsStatus s = natsMsg_GetMetaData(&meta, message);
    if (s == NATS_OK)
        *out = meta->Sequence.Stream;
    jsMsgMetaData_Destroy(meta);
    return s;
}

enum mr_rc mr_js_reader_next(struct mr_js_reader *reader, int timeout_ms,
                             struct mr_js_received *out, struct mr_err *err)
{
    natsMsg_Destroy(reader->message);
    reader->message = NULL;
    natsStatus s = natsSubscription_NextMsg(&reader->message, reader->sub, timeout_ms);
    if (s == NATS_TIMEOUT && !natsConnection_IsClosed(reader->connection))
        return MR_AGAIN;
    if (s == NATS_OK)
        s = sequence_of(reader->message, &out->stream_sequence);
    if (s != NATS_OK)
        return mr_js_refused(err, "read", "stream", s, 0);
    out->subject = mr_str_from(natsMsg_GetSubject(reader->message));
    out->payload = (struct mr_str){natsMsg_GetData(reader->message),
                                   (size_t)natsMsg_GetDataLength(reader->message)};
    out->id = header(reader->message, "Nats-Msg-Id");
    out->position = header(reader->message, "Millrace-Position");
    out->format = header(reader->message, "Millrace-Format");
    return MR_OK;
}
