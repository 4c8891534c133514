#include "jetstream/streams.h"

#include <inttypes.h>
#include <nats/nats.h>
#include <stdio.h>

enum {
    NEXT_MS = 5000,
    /* The server keeps each id for so long and its garbage collector goes through them all: the two
     * minutes of its default make its pauses twice as long at 10,000 messages a second. What each
     * message expects to follow keeps doubles out by itself; ids help with what is on its way when
     * a connection breaks. */
    DEDUPLICATE_S = 2,
};
#define NS_PER_S INT64_C(1000000000)

static enum mr_rc context(struct mr_js_link *link, jsCtx **out, struct mr_err *err)
{
    natsStatus s = natsConnection_JetStream(out, mr_js_link_control(link), NULL);
    return s == NATS_OK ? MR_OK : mr_js_refused(err, "prepare", "requests to JetStream", s, 0);
}

static enum mr_rc refuse(struct mr_err *err, const char *name, const char *setting, int64_t has,
                         int64_t wanted)
{
    return mr_reject(err, MR_USAGE,
                     "stream %s: exists with another %s, %" PRId64 " in place of %" PRId64
                     ": change it, or name another stream",
                     name, setting, has, wanted);
}

static enum mr_rc check(const struct mr_js_stream *stream, const jsStreamConfig *has,
                        struct mr_err *err)
{
    if (has->SubjectsLen != 1 || strcmp(has->Subjects[0], stream->subject) != 0)
        return mr_reject(err, MR_USAGE,
                         "stream %s: exists with other subjects, %s%s in place of %s: change them, "
                         "or name another stream",
                         stream->name, has->SubjectsLen > 0 ? has->Subjects[0] : "none",
                         has->SubjectsLen > 1 ? ", ..." : "", stream->subject);
    if (has->Storage != js_FileStorage)
        return refuse(err, stream->name, "storage", (int64_t)has->Storage, (int64_t)js_FileStorage);
    if (has->Retention != js_LimitsPolicy)
        return refuse(err, stream->name, "retention policy", (int64_t)has->Retention,
                      (int64_t)js_LimitsPolicy);
    if (has->Discard != js_DiscardOld)
        return refuse(err, stream->name, "discard policy", (int64_t)has->Discard,
                      (int64_t)js_DiscardOld);
    if (has->MaxAge != (int64_t)stream->retention_ns)
        return refuse(err, stream->name, "max_age", has->MaxAge, (int64_t)stream->retention_ns);
    if (has->Replicas != (int64_t)stream->replicas)
        return refuse(err, stream->name, "number of replicas", has->Replicas,
                      (int64_t)stream->replicas);
    if (has->NoAck || has->Sealed || has->MaxMsgsPerSubject > 0)
        return mr_reject(err, MR_USAGE,
                         "stream %s: exists with no_ack, sealed or max_msgs_per_subject: name "
                         "another stream",
                         stream->name);
    return MR_OK;
}

/* Which stream has the subject is what its operator needs to know. */
static enum mr_rc refuse_overlap(jsCtx *js, const struct mr_js_stream *stream, struct mr_err *err)
{
    jsOptions options;
    jsStreamNamesList *names = NULL;
    jsErrCode code = 0;
    jsOptions_Init(&options);
    options.Stream.Info.SubjectsFilter = stream->subject;
    bool known = js_StreamNames(&names, js, &options, &code) == NATS_OK && names->Count > 0;
    enum mr_rc rc = mr_reject(err, MR_USAGE,
                              "stream %s: its subject %s belongs to stream %s: delete that one, or "
                              "give it other subjects",
                              stream->name, stream->subject, known ? names->List[0] : "(unknown)");
    jsStreamNamesList_Destroy(names);
    return rc;
}

static enum mr_rc create(jsCtx *js, const struct mr_js_stream *stream, jsStreamInfo **out,
                         struct mr_err *err)
{
    jsStreamConfig config;
    jsErrCode code = 0;
    const char *subjects[] = {stream->subject};
    jsStreamConfig_Init(&config);
    config.Name = stream->name;
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.Storage = js_FileStorage;
    config.Discard = js_DiscardOld;
    config.MaxAge = (int64_t)stream->retention_ns;
    config.Replicas = (int64_t)stream->replicas;
    config.Duplicates = DEDUPLICATE_S * NS_PER_S;
    if (config.MaxAge < config.Duplicates)
        config.Duplicates = config.MaxAge;
    natsStatus s = js_AddStream(out, js, &config, NULL, &code);
    if (s != NATS_OK && code == JSStreamSubjectOverlapErr)
        return refuse_overlap(js, stream, err);
    return s == NATS_OK ? MR_OK : mr_js_refused(err, "create stream", stream->name, s, code);
}

static enum mr_rc open_consumer(jsCtx *js, const struct mr_js_stream *stream, struct mr_err *err)
{
    jsConsumerInfo *info = NULL;
    jsErrCode code = 0;
    natsStatus s = js_GetConsumerInfo(&info, js, stream->name, stream->consumer, NULL, &code);
    if (s != NATS_OK && code == JSConsumerNotFoundErr) {
        jsConsumerConfig config;
        jsConsumerConfig_Init(&config);
        config.Durable = stream->consumer;
        config.AckPolicy = js_AckExplicit;
        config.AckWait = (int64_t)stream->ack_wait_ns;
        config.MaxAckPending = (int64_t)stream->max_ack_pending;
        s = js_AddConsumer(&info, js, stream->name, &config, NULL, &code);
    }
    if (s != NATS_OK && s != NATS_NOT_FOUND)
        return mr_js_refused(err, "open consumer", stream->consumer, s, code);
    jsConsumerInfo_Destroy(info);
    return s == NATS_OK ? MR_OK : mr_js_refused(err, "open consumer", stream->consumer, s, code);
}

enum mr_rc mr_js_stream_open(struct mr_js_link *link, const struct mr_js_stream *stream,
                             uint64_t *last, struct mr_err *err)
{
    jsCtx *js = NULL;
    jsStreamInfo *info = NULL;
    jsErrCode code = 0;
    enum mr_rc rc = context(link, &js, err);
    if (rc != MR_OK)
        return rc;
    natsStatus s = js_GetStreamInfo(&info, js, stream->name, NULL, &code);
    if (s == NATS_OK)
        rc = check(stream, info->Config, err);
    else if (code != JSStreamNotFoundErr && s != NATS_NOT_FOUND)
        rc = mr_js_refused(err, "find stream", stream->name, s, code);
    else if (!stream->create)
        rc = mr_reject(err, MR_USAGE, "stream %s: missing, and not to be created here",
                       stream->name);
    else
        rc = create(js, stream, &info, err);
    if (rc == MR_OK && stream->consumer)
        rc = open_consumer(js, stream, err);
    if (rc == MR_OK)
        *last = info->State.LastSeq;
    jsStreamInfo_Destroy(info);
    jsCtx_Destroy(js);
    return rc;
}

static void copy_header(natsMsg *message, const char *name, char *out, size_t size)
{
    const char *value = NULL;
    if (natsMsgHeader_Get(message, name, &value) != NATS_OK)
        value = NULL;
    snprintf(out, size, "%s", value ? value : "");
}

static void describe(natsMsg *message, struct mr_js_stored *out)
{
    snprintf(out->subject, sizeof out->subject, "%s", natsMsg_GetSubject(message));
    copy_header(message, "Nats-Msg-Id", out->id, sizeof out->id);
    copy_header(message, "Millrace-Position", out->position, sizeof out->position);
}

enum mr_rc mr_js_stream_message(struct mr_js_link *link, const char *stream, uint64_t sequence,
                                struct mr_js_stored *out, struct mr_err *err)
{
    jsCtx *js = NULL;
    natsMsg *message = NULL;
    jsErrCode code = 0;
    enum mr_rc rc = context(link, &js, err);
    if (rc != MR_OK)
        return rc;
    natsStatus s = js_GetMsg(&message, js, stream, sequence, NULL, &code);
    if (s == NATS_OK) {
        describe(message, out);
        out->stream_sequence = sequence;
    } else {
        bool missing = s == NATS_NOT_FOUND || code == JSNoMessageFoundErr;
        rc = mr_js_refused(err, "read back stream", stream, s, code);
        rc = missing ? MR_AGAIN : rc;
    }
    natsMsg_Destroy(message);
    jsCtx_Destroy(js);
    return rc;
}

/* How many messages the consumer will bring. */
static natsStatus count_expected(natsSubscription *sub, uint64_t *out)
{
    jsConsumerInfo *info = NULL;
    natsStatus s = natsSubscription_GetConsumerInfo(&info, sub, NULL, NULL);
    if (s == NATS_OK)
        *out = info->Delivered.Consumer + info->NumPending;
    jsConsumerInfo_Destroy(info);
    return s;
}

static natsStatus visit_all(natsSubscription *sub, mr_js_visit *visit, void *visitor)
{
    static _Thread_local struct mr_js_stored stored; /* large */
    uint64_t expected = 0;
    natsStatus s = natsSubscription_SetPendingLimits(sub, -1, -1);
    if (s == NATS_OK)
        s = count_expected(sub, &expected);
    for (uint64_t i = 0; s == NATS_OK && i < expected; i++) {
        natsMsg *message = NULL;
        jsMsgMetaData *meta = NULL;
        s = natsSubscription_NextMsg(&message, sub, NEXT_MS);
        if (s == NATS_OK)
            s = natsMsg_GetMetaData(&meta, message);
        if (s == NATS_OK) {
            describe(message, &stored);
            stored.stream_sequence = meta->Sequence.Stream;
            visit(visitor, &stored);
        }
        jsMsgMetaData_Destroy(meta);
        natsMsg_Destroy(message);
    }
    return s;
}

enum mr_rc mr_js_stream_last_of_each(struct mr_js_link *link, const char *stream,
                                     const char *subject, mr_js_visit *visit, void *visitor,
                                     struct mr_err *err)
{
    jsCtx *js = NULL;
    natsSubscription *sub = NULL;
    jsErrCode code = 0;
    jsSubOptions options;
    enum mr_rc rc = context(link, &js, err);
    if (rc != MR_OK)
        return rc;
    jsSubOptions_Init(&options);
    options.Stream = stream;
    options.Config.DeliverPolicy = js_DeliverLastPerSubject;
    options.Config.AckPolicy = js_AckNone;
    options.Config.HeadersOnly = true;
    natsStatus s = js_SubscribeSync(&sub, js, subject, NULL, &options, &code);
    if (s == NATS_OK)
        s = visit_all(sub, visit, visitor);
    if (s != NATS_OK)
        rc = mr_js_refused(err, "read back the last messages of stream", stream, s, code);
    if (sub)
        natsSubscription_Unsubscribe(sub); /* also ends the consumer */
    natsSubscription_Destroy(sub);
    jsCtx_Destroy(js);
    return rc;
}
