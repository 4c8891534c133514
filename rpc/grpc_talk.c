#include "rpc/grpc_talk.h"

#include <stdlib.h>

/* One call. At any time one of read and write is under way, and the wait for its end. */
struct session {
    struct mr_grpc_call call;
    const struct mr_grpc_talk *talk;
    struct mr_grpc_op read, write, end, close;
    grpc_byte_buffer *message;
    int cancelled;
    bool ended, closed; /* the status went out; the call is over */
};

static void let_go(struct session *s)
{
    if (!s->ended || !s->closed)
        return;
    mr_grpc_call_fini(&s->call);
    free(s);
}

static void closed(void *owner, bool ok)
{
    struct session *s = owner;
    (void)ok;
    s->closed = true;
    let_go(s);
}

static void ended(void *owner, bool ok)
{
    struct session *s = owner;
    (void)ok; /* false: the client has gone before the end, which ends it as well */
    s->ended = true;
    let_go(s);
}

static void end(struct session *s, grpc_status_code status, const char *text)
{
    grpc_slice details = grpc_slice_from_copied_string(text);
    grpc_op op = mr_grpc_op_send_status(status, &details);
    mr_grpc_start(s->call.call, &op, 1, &s->end);
    grpc_slice_unref(details);
}

static void read_next(struct session *s)
{
    grpc_op op = mr_grpc_op_receive(&s->message);
    mr_grpc_start(s->call.call, &op, 1, &s->read);
}

static void written(void *owner, bool ok)
{
    struct session *s = owner;
    if (!ok || s->talk->once)
        end(s, GRPC_STATUS_OK, "");
    else
        read_next(s);
}

static void got(void *owner, bool ok)
{
    struct session *s = owner;
    if (!ok || !s->message) {
        if (s->talk->once)
            end(s, GRPC_STATUS_INVALID_ARGUMENT, "expected one request message, got none");
        else
            end(s, GRPC_STATUS_OK, "");
        return;
    }
    grpc_slice bytes = mr_grpc_take_bytes(s->message);
    s->message = NULL;
    struct mr_grpc_answer answer = {.status = GRPC_STATUS_OK, .text = ""};
    answer.message = grpc_empty_slice();
    s->talk->answer(s->talk->context, mr_grpc_slice_str(&bytes), &answer);
    grpc_slice_unref(bytes);
    if (answer.status != GRPC_STATUS_OK) {
        end(s, answer.status, answer.text);
        return;
    }
    grpc_byte_buffer *reply = grpc_raw_byte_buffer_create(&answer.message, 1);
    grpc_slice_unref(answer.message);
    grpc_op op = mr_grpc_op_send(reply, 0);
    mr_grpc_start(s->call.call, &op, 1, &s->write);
    grpc_byte_buffer_destroy(reply);
}

void mr_grpc_talk_begin(struct mr_grpc_call call, const struct mr_grpc_talk *talk)
{
    struct session *s = calloc(1, sizeof *s);
    if (!s) {
        mr_grpc_refuse(call, GRPC_STATUS_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    s->call = call;
    s->talk = talk;
    s->read = (struct mr_grpc_op){got, s};
    s->write = (struct mr_grpc_op){written, s};
    s->end = (struct mr_grpc_op){ended, s};
    s->close = (struct mr_grpc_op){closed, s};
    grpc_op close = mr_grpc_op_receive_close(&s->cancelled);
    mr_grpc_start(call.call, &close, 1, &s->close);
    grpc_op ops[] = {mr_grpc_op_send_metadata(), mr_grpc_op_receive(&s->message)};
    mr_grpc_start(call.call, ops, 2, &s->read);
}
