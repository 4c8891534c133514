/* Durable subscriptions registered over a stream: one heap object a request, from the queue thread
 * to the pump and, once the pump has done it, back to the stream as an answer. */
#include <stdlib.h>

#include "proto/marker.h"
#include "publisher/sinks/grpc_stream_state.h"
#include "publisher/sinks/wire_register.h"

struct registration {
    struct mr_wire_register wire;
    struct mr_grpc_stream *stream; /* a reference: it is not read on, nor its place given away,
                                    * while too many of its messages wait for the store */
    grpc_slice bytes;              /* the message: strings point into it */
    struct mr_scope *scope;
};

static void destroy(struct registration *r)
{
    mr_wire_register_fini(&r->wire);
    mr_scope_unref(r->scope);
    grpc_slice_unref(r->bytes);
    mr_grpc_stream_unref(r->stream);
    free(r);
}

/* Pump. The control is the first thing in its registration. */
static void done(struct mr_control *control)
{
    struct registration *r = (struct registration *)(void *)control;
    char marker[MR_MARKER_TEXT_MAX];
    if (control->marker != 0)
        r->wire.progress = (struct mr_str){
            marker, mr_marker_format((struct mr_marker){control->log_id, control->marker}, marker)};
    grpc_slice message = grpc_slice_malloc(mr_wire_registered_size(&r->wire));
    mr_wire_put_registered(GRPC_SLICE_START_PTR(message), &r->wire);
    const struct mr_grpc_streams *streams = r->stream->streams;
    streams->answer(streams->answer_context, r->stream->id, message);
    mr_grpc_stream_settle(r->stream, GRPC_SLICE_LENGTH(r->bytes));
    destroy(r);
}

enum mr_rc mr_grpc_registration(struct mr_grpc_stream *s, struct mr_request *request,
                                grpc_slice bytes, struct mr_err *err)
{
    struct registration *r = calloc(1, sizeof *r);
    static_assert(offsetof(struct registration, wire.control) == 0, "done finds it by its control");
    if (!r)
        return mr_reject(err, MR_FATAL, "decode a request: out of memory");
    r->stream = mr_grpc_stream_ref(s);
    r->bytes = grpc_slice_ref(bytes);
    r->scope = mr_scope_ref(s->scope);
    r->wire.control.scope = r->scope;
    r->wire.control.done = done;
    enum mr_rc rc =
        mr_wire_decode_register(request->payload, &s->streams->limits.wire, &r->wire, err);
    if (rc == MR_OK)
        request->control = &r->wire.control;
    else
        destroy(r);
    return rc;
}
