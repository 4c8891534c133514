/* PullerService.Acknowledge: keep a consumer's place, and answer when it is on disk. */
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>

#include "relay/state.h"

struct acknowledgement {
    struct mr_relay *relay;
    struct mr_grpc_call call;
    struct mr_grpc_op read, stored, end, close;
    grpc_byte_buffer *message;
    grpc_slice request; /* what the two below point into */
    struct mr_acknowledge what;
    struct mr_checkpoint_write write;
    int cancelled;
    bool reading, storing, ending, closed;
};

static void let_go(struct acknowledgement *a)
{
    if (!a->closed || a->reading || a->storing || a->ending)
        return;
    grpc_slice_unref(a->request);
    mr_grpc_call_fini(&a->call);
    free(a);
}

static void refuse(struct acknowledgement *a, grpc_status_code status, const char *text)
{
    grpc_slice details = grpc_slice_from_copied_string(text);
    grpc_op op = mr_grpc_op_send_status(status, &details);
    a->ending = true;
    mr_grpc_start(a->call.call, &op, 1, &a->end);
    grpc_slice_unref(details);
}

static void answer(struct acknowledgement *a, const struct mr_checkpoint_value *value)
{
    uint8_t bytes[MR_WIRE_NOTICE_MAX];
    char text[MR_MARKER_TEXT_MAX], head_text[MR_MARKER_TEXT_MAX];
    struct mr_str progress = {NULL, 0}, head = {head_text, 0};
    head.len = mr_marker_format((struct mr_marker){.log_id = mr_relay_log_id(a->relay),
                                                   .sequence = mr_relay_head(a->relay)},
                                head_text);
    if (value && value->log_id != 0) {
        progress.data = text;
        progress.len = mr_marker_format(
            (struct mr_marker){.log_id = value->log_id, .sequence = value->sequence}, text);
    }
    size_t len = mr_wire_put_acknowledged(bytes, progress, value && value->rebuild, head);
    grpc_slice slice = grpc_slice_from_copied_buffer((const char *)bytes, len);
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    grpc_slice details = grpc_empty_slice();
    grpc_op ops[] = {mr_grpc_op_send(message, 0), mr_grpc_op_send_status(GRPC_STATUS_OK, &details)};
    a->ending = true;
    mr_grpc_start(a->call.call, ops, 2, &a->end);
    grpc_byte_buffer_destroy(message);
}

static void store_done(struct mr_checkpoint_write *write)
{
    struct acknowledgement *a = (void *)((char *)write - offsetof(struct acknowledgement, write));
    mr_grpc_nudge(a->call.call, &a->stored);
}

static void stored(void *owner, bool ok)
{
    struct acknowledgement *a = owner;
    (void)ok;
    a->storing = false;
    if (a->write.rc == MR_OK) {
        atomic_fetch_add_explicit(&a->relay->numbers.acknowledged, 1, memory_order_relaxed);
        mr_consumers_acknowledged(a->relay, &a->what, a->write.value.sequence);
        answer(a, &a->write.value);
    } else {
        refuse(a, a->write.rc == MR_RETRY ? GRPC_STATUS_UNAVAILABLE : GRPC_STATUS_INTERNAL,
               a->write.err.text);
    }
    let_go(a);
}

static void tell(struct acknowledgement *a)
{
    struct mr_err err = {.rc = MR_OK};
    struct mr_checkpoint_value value;
    enum mr_rc rc = mr_checkpoints_get(a->relay->checkpoints, &a->write.key, &value, &err);
    if (rc == MR_OK || rc == MR_AGAIN)
        answer(a, rc == MR_OK ? &value : NULL);
    else
        refuse(a, GRPC_STATUS_INTERNAL, err.text);
}

static void begin(struct acknowledgement *a)
{
    struct mr_err err = {.rc = MR_OK};
    struct mr_marker marker = {0, 0};
    enum mr_rc rc = mr_wire_read_acknowledge(mr_grpc_slice_str(&a->request), &a->what, &err);
    if (rc == MR_OK && a->what.progress.len > 0)
        rc = mr_marker_parse(a->what.progress, &marker, &err);
    if (rc == MR_OK && mr_relay_log_id(a->relay) == 0) { /* no marker can be judged or told yet */
        refuse(a, GRPC_STATUS_UNAVAILABLE, "the log is not open yet; try again");
        return;
    }
    if (rc == MR_OK && a->what.progress.len > 0 &&
        (marker.log_id != mr_relay_log_id(a->relay) || marker.sequence > mr_relay_head(a->relay)))
        rc = mr_reject(&err, MR_USAGE, "progress: expected a marker of this log");
    if (rc != MR_OK) {
        refuse(a, GRPC_STATUS_INVALID_ARGUMENT, err.text);
        return;
    }
    mr_checkpoint_key(&a->write.key, a->what.consumer_id, a->what.collection);
    if (a->what.progress.len == 0) {
        tell(a);
        return;
    }
    a->write.change = a->what.rebuilt ? MR_CHECKPOINT_REBUILT : MR_CHECKPOINT_ADVANCE;
    a->write.value =
        (struct mr_checkpoint_value){.log_id = marker.log_id, .sequence = marker.sequence};
    a->write.done = store_done;
    a->storing = true;
    mr_checkpoints_put(a->relay->checkpoints, &a->write);
}

static void got(void *owner, bool ok)
{
    struct acknowledgement *a = owner;
    a->reading = false;
    if (!ok || !a->message) {
        refuse(a, GRPC_STATUS_INVALID_ARGUMENT, "expected one request message, got none");
    } else {
        a->request = mr_grpc_take_bytes(a->message);
        a->message = NULL;
        begin(a);
    }
    let_go(a);
}

static void ended(void *owner, bool ok)
{
    struct acknowledgement *a = owner;
    (void)ok;
    a->ending = false;
    let_go(a);
}

static void closed(void *owner, bool ok)
{
    struct acknowledgement *a = owner;
    (void)ok;
    a->closed = true;
    let_go(a);
}

void mr_acknowledge_begin(struct mr_grpc_call call, void *context)
{
    struct acknowledgement *a = calloc(1, sizeof *a);
    if (!a) {
        mr_grpc_refuse(call, GRPC_STATUS_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    a->relay = context;
    a->call = call;
    a->request = grpc_empty_slice();
    a->read = (struct mr_grpc_op){got, a};
    a->stored = (struct mr_grpc_op){stored, a};
    a->end = (struct mr_grpc_op){ended, a};
    a->close = (struct mr_grpc_op){closed, a};
    grpc_op close = mr_grpc_op_receive_close(&a->cancelled);
    mr_grpc_start(call.call, &close, 1, &a->close);
    a->reading = true;
    grpc_op ops[] = {mr_grpc_op_send_metadata(), mr_grpc_op_receive(&a->message)};
    mr_grpc_start(call.call, ops, 2, &a->read);
}
