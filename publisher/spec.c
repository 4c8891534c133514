#include "publisher/spec.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/clock.h"
#include "proto/protobuf.h"
#include "proto/streamer_fields.h"

void mr_boot_id(char out[MR_BOOT_ID_BYTES])
{
    memset(out, 0, MR_BOOT_ID_BYTES);
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return; /* no boot is told from another: deadlines go by the monotonic clock alone */
    if (read(fd, out, MR_BOOT_ID_BYTES - 1) < 0)
        memset(out, 0, MR_BOOT_ID_BYTES);
    close(fd);
}

/* What can be configured at most. */
static const struct {
#define SECTION(section, text)
#define OPTION(section, key, type, value, min, max, readers, text) uint64_t section##_##key;
#include "common/options.def"
#undef OPTION
} highest = {
#define OPTION(section, key, type, value, min, max, readers, text) .section##_##key = UINT64_C(max),
#include "common/options.def"
#undef OPTION
#undef SECTION
};

struct mr_wire_limits mr_spec_limits(void)
{
    return (struct mr_wire_limits){.filters_max = (uint32_t)highest.publisher_filters_max,
                                   .value_bytes_max = (uint32_t)highest.publisher_value_bytes_max};
}

void *mr_spec_make(const struct mr_spec *spec, uint32_t *len)
{
    struct mr_spec_head head = spec->head;
    head.version = MR_SPEC_VERSION;
    head.gateway_len = (uint32_t)spec->gateway.len;
    head.subscribe_len = (uint32_t)spec->subscribe.len;
    head.previous_len = (uint32_t)spec->previous.len;
    const struct mr_str parts[] = {
        {(const char *)&head, sizeof head}, spec->gateway, spec->subscribe, spec->previous};
    size_t size = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        size += parts[i].len;
    char *bytes = malloc(size), *at = bytes;
    if (!bytes)
        return NULL;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (parts[i].len > 0)
            memcpy(at, parts[i].data, parts[i].len);
        at += parts[i].len;
    }
    *len = (uint32_t)size;
    return bytes;
}

enum mr_rc mr_spec_read(struct mr_str bytes, struct mr_spec *out, struct mr_err *err)
{
    if (bytes.len < sizeof out->head)
        return mr_reject(err, MR_CORRUPT, "expected a record of at least %zu bytes, got %zu",
                         sizeof out->head, bytes.len);
    memcpy(&out->head, bytes.data, sizeof out->head);
    if (out->head.version != MR_SPEC_VERSION)
        return mr_reject(err, MR_CORRUPT, "expected a record of version %d, got %u",
                         MR_SPEC_VERSION, out->head.version);
    uint64_t len = sizeof out->head + (uint64_t)out->head.gateway_len + out->head.subscribe_len +
                   out->head.previous_len;
    if (len != bytes.len || out->head.gateway_len == 0)
        return mr_reject(err, MR_CORRUPT, "expected a record of %llu bytes, got %zu",
                         (unsigned long long)len, bytes.len);
    const char *at = bytes.data + sizeof out->head;
    out->gateway = (struct mr_str){at, out->head.gateway_len};
    at += out->head.gateway_len;
    out->subscribe = (struct mr_str){at, out->head.subscribe_len};
    out->previous = (struct mr_str){at + out->head.subscribe_len, out->head.previous_len};
    return MR_OK;
}

uint64_t mr_spec_deadline(const char this_boot[MR_BOOT_ID_BYTES], const char boot[MR_BOOT_ID_BYTES],
                          uint64_t deadline_ns, int64_t expires_us, uint64_t ahead_ns)
{
    uint64_t now_ns = mr_clock_ns(), left_ns = 0;
    if (memcmp(boot, this_boot, MR_BOOT_ID_BYTES) == 0) {
        left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    } else {
        int64_t left_us = expires_us - mr_clock_wall_us();
        left_ns = left_us > 0 ? (uint64_t)left_us * MR_NS_PER_US : 0;
    }
    if (left_ns == 0)
        return 0;
    return now_ns + (left_ns < ahead_ns ? left_ns : ahead_ns);
}

static size_t const_size(const struct mr_const *value);

static size_t list_size(const struct mr_const *value)
{
    size_t size = 0;
    for (uint32_t i = 0; i < value->list.count; i++)
        size += mr_pb_bytes_size(MR_FIELD_LIST_VALUES, const_size(&value->list.items[i]));
    return size;
}

/* Members of a oneof are written even when they are zero: that is how they are told apart. */
static size_t const_size(const struct mr_const *value)
{
    switch (value->kind) {
    case MR_CONST_STRING:
        return mr_pb_bytes_size(MR_FIELD_VALUE_STRING, value->string.len);
    case MR_CONST_INT:
        return 1 + mr_pb_varint_size((uint64_t)value->integer);
    case MR_CONST_DOUBLE:
        return 1 + sizeof(double);
    case MR_CONST_BOOL:
        return 2;
    case MR_CONST_LIST:
        return mr_pb_bytes_size(MR_FIELD_VALUE_LIST, list_size(value));
    case MR_CONST_NULL:
    case MR_CONST_DATE:
        break;
    }
    return 0;
}

static uint8_t *put_const(uint8_t *at, const struct mr_const *value)
{
    switch (value->kind) {
    case MR_CONST_STRING:
        return mr_pb_put_bytes(at, MR_FIELD_VALUE_STRING, value->string);
    case MR_CONST_INT:
        at = mr_pb_put_varint(at, mr_pb_tag(MR_FIELD_VALUE_INT, MR_PB_VARINT));
        return mr_pb_put_varint(at, (uint64_t)value->integer);
    case MR_CONST_DOUBLE:
        at = mr_pb_put_varint(at, mr_pb_tag(MR_FIELD_VALUE_DOUBLE, MR_PB_FIXED64));
        memcpy(at, &value->number, sizeof value->number);
        return at + sizeof value->number;
    case MR_CONST_BOOL:
        at = mr_pb_put_varint(at, mr_pb_tag(MR_FIELD_VALUE_BOOL, MR_PB_VARINT));
        return mr_pb_put_varint(at, value->boolean);
    case MR_CONST_LIST:
        at = mr_pb_put_head(at, MR_FIELD_VALUE_LIST, list_size(value));
        for (uint32_t i = 0; i < value->list.count; i++) {
            const struct mr_const *item = &value->list.items[i];
            at = put_const(mr_pb_put_head(at, MR_FIELD_LIST_VALUES, const_size(item)), item);
        }
        return at;
    case MR_CONST_NULL:
    case MR_CONST_DATE:
        break;
    }
    return at;
}

static size_t filter_size(const struct mr_predicate *predicate)
{
    return mr_pb_text_size(MR_FIELD_FILTER_FIELD, predicate->path) +
           mr_pb_text_size(MR_FIELD_FILTER_OP, mr_str_from(mr_predicate_op_name(predicate->op))) +
           mr_pb_bytes_size(MR_FIELD_FILTER_VALUE, const_size(&predicate->value));
}

void *mr_spec_encode(const struct mr_request *request, size_t *len)
{
    *len = mr_pb_text_size(MR_FIELD_SUBSCRIBE_ID, request->subscription_id) +
           mr_pb_text_size(MR_FIELD_SUBSCRIBE_COLLECTION, request->collection) +
           mr_pb_text_size(MR_FIELD_SUBSCRIBE_DATABASE, request->database) +
           mr_pb_text_size(MR_FIELD_SUBSCRIBE_CEL, request->cel) +
           mr_pb_number_size(MR_FIELD_SUBSCRIBE_TRANSITIONS, request->transitions);
    for (uint32_t i = 0; i < request->predicate_count; i++)
        *len += mr_pb_bytes_size(MR_FIELD_SUBSCRIBE_FILTERS, filter_size(&request->predicates[i]));
    uint8_t *bytes = malloc(*len ? *len : 1), *at = bytes;
    if (!bytes)
        return NULL;
    at = mr_pb_put_text(at, MR_FIELD_SUBSCRIBE_ID, request->subscription_id);
    at = mr_pb_put_text(at, MR_FIELD_SUBSCRIBE_COLLECTION, request->collection);
    for (uint32_t i = 0; i < request->predicate_count; i++) {
        const struct mr_predicate *p = &request->predicates[i];
        at = mr_pb_put_head(at, MR_FIELD_SUBSCRIBE_FILTERS, filter_size(p));
        at = mr_pb_put_text(at, MR_FIELD_FILTER_FIELD, p->path);
        at = mr_pb_put_text(at, MR_FIELD_FILTER_OP, mr_str_from(mr_predicate_op_name(p->op)));
        at = mr_pb_put_head(at, MR_FIELD_FILTER_VALUE, const_size(&p->value));
        at = put_const(at, &p->value);
    }
    at = mr_pb_put_text(at, MR_FIELD_SUBSCRIBE_DATABASE, request->database);
    at = mr_pb_put_text(at, MR_FIELD_SUBSCRIBE_CEL, request->cel);
    at = mr_pb_put_number(at, MR_FIELD_SUBSCRIBE_TRANSITIONS, request->transitions);
    MR_ASSERT((size_t)(at - bytes) == *len);
    return bytes;
}
