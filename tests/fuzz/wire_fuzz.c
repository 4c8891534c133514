/* Any bytes from a gateway: reading them must stay inside them, and what is taken for a request
 * must keep every limit; the same bytes as a message to the client. */
#include <stdint.h>
#include <stdlib.h>

#include "publisher/sinks/wire.h"
#include "tools/client/encode.h"

static const struct mr_wire_limits limits = {.filters_max = 8, .value_bytes_max = 256};
static volatile uint64_t sink;

static void touch(struct mr_str text)
{
    for (size_t i = 0; i < text.len; i++)
        sink += (unsigned char)text.data[i];
}

static void touch_const(const struct mr_const *value, bool in_list)
{
    if (value->kind == MR_CONST_STRING) {
        MR_ASSERT(value->string.len <= limits.value_bytes_max);
        touch(value->string);
    } else if (value->kind == MR_CONST_LIST) {
        MR_ASSERT(!in_list && value->list.count <= MR_WIRE_LIST_MAX);
        for (uint32_t i = 0; i < value->list.count; i++)
            touch_const(&value->list.items[i], true);
    } else {
        MR_ASSERT(value->kind == MR_CONST_BOOL || value->kind == MR_CONST_INT ||
                  value->kind == MR_CONST_DOUBLE);
    }
}

static void on_delivery(void *context, const struct mr_client_delivery *d)
{
    (void)context;
    for (uint32_t i = 0; i < d->count; i++)
        touch(d->subscription_ids[i]);
    touch(d->progress);
    touch(d->event_id);
    touch(d->document_json);
}

static void on_response(void *context, const struct mr_client_response *r)
{
    (void)context;
    touch(r->subscription_id);
    touch(r->error);
}

static void check_request(const struct mr_request *r)
{
    MR_ASSERT(r->predicate_count <= limits.filters_max);
    MR_ASSERT(r->problem.len == 0 || r->predicate_count == 0);
    touch(r->subscription_id);
    touch(r->database);
    touch(r->collection);
    touch(r->after);
    touch(r->problem);
    for (uint32_t i = 0; i < r->predicate_count; i++) {
        MR_ASSERT(r->predicates[i].path.len > 0);
        touch(r->predicates[i].path);
        touch_const(&r->predicates[i].value, false);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mr_client_ids ids;
    const struct mr_client_handlers handlers = {.delivery = on_delivery, .response = on_response};
    struct mr_str bytes = {(const char *)data, size};
    struct mr_wire_arena arena = {0};
    struct mr_request request;
    struct mr_err err = {0};
    enum mr_rc rc = mr_wire_decode(bytes, &limits, &arena, &request, &err);
    MR_ASSERT(rc == MR_OK || (rc == MR_CORRUPT && err.text[0]));
    if (rc == MR_OK)
        check_request(&request);
    mr_wire_arena_fini(&arena);
    rc = mr_client_dispatch(bytes, &handlers, &ids, &err);
    MR_ASSERT(rc == MR_OK || rc == MR_CORRUPT);
    return 0;
}
