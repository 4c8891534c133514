#include "rpc/grpc_reflection.h"

#include <stdio.h>

#include "proto/protobuf.h"

/* Field numbers of descriptor.proto: of FileDescriptorSet, FileDescriptorProto, DescriptorProto and
 * ServiceDescriptorProto. Names are field 1 everywhere. */
enum {
    SET_FILE = 1,
    DESCRIPTOR_NAME = 1,
    FILE_PACKAGE = 2,
    FILE_MESSAGE = 4,
    FILE_ENUM = 5,
    FILE_SERVICE = 6,
    MESSAGE_FIELD = 2,
    MESSAGE_NESTED = 3,
    MESSAGE_ENUM = 4,
    MESSAGE_ONEOF = 8,
    SERVICE_METHOD = 2,
    ENUM_VALUE = 2,
};
/* Of ServerReflectionRequest and ServerReflectionResponse. */
enum {
    REQUEST_HOST = 1,
    REQUEST_FILE = 3,
    REQUEST_SYMBOL = 4,
    REQUEST_EXTENSION = 5,
    REQUEST_EXTENSION_NUMBERS = 6,
    REQUEST_LIST = 7,
    RESPONSE_HOST = 1,
    RESPONSE_ORIGINAL = 2,
    RESPONSE_FILES = 4,
    RESPONSE_LIST = 6,
    RESPONSE_ERROR = 7,
    FILES_FILE = 1,
    LIST_SERVICE = 1,
    SERVICE_NAME = 1,
    ERROR_CODE = 1,
    ERROR_TEXT = 2,
};
enum { NAME_MAX_BYTES = 256, LIST_BYTES_MAX = 1024 };

/* Which repeated field of a descriptor holds children that have names, and what those are. */
enum descriptor { IN_FILE, IN_MESSAGE, IN_ENUM, IN_SERVICE, IN_LEAF };
static const struct child {
    enum descriptor in;
    uint32_t field;
    enum descriptor is;
} children[] = {
    {IN_FILE, FILE_MESSAGE, IN_MESSAGE},      {IN_FILE, FILE_ENUM, IN_ENUM},
    {IN_FILE, FILE_SERVICE, IN_SERVICE},      {IN_MESSAGE, MESSAGE_FIELD, IN_LEAF},
    {IN_MESSAGE, MESSAGE_NESTED, IN_MESSAGE}, {IN_MESSAGE, MESSAGE_ENUM, IN_ENUM},
    {IN_MESSAGE, MESSAGE_ONEOF, IN_LEAF},     {IN_ENUM, ENUM_VALUE, IN_LEAF},
    {IN_SERVICE, SERVICE_METHOD, IN_LEAF},
};

/* The first field of this number that holds bytes; empty when there is none. */
static struct mr_str find_bytes(struct mr_str message, uint32_t number)
{
    struct mr_pb_reader reader = mr_pb_read(message);
    struct mr_pb_field field;
    while (mr_pb_next(&reader, &field)) {
        if (field.number == number && field.type == MR_PB_BYTES)
            return field.bytes;
    }
    return (struct mr_str){NULL, 0};
}

/* Take "name" or "name." from the front of symbol. */
static bool strip(struct mr_str *symbol, struct mr_str name)
{
    if (symbol->len < name.len || memcmp(symbol->data, name.data, name.len) != 0)
        return false;
    if (symbol->len > name.len && symbol->data[name.len] != '.')
        return false;
    size_t taken = symbol->len > name.len ? name.len + 1 : name.len;
    *symbol = (struct mr_str){symbol->data + taken, symbol->len - taken};
    return true;
}

/* Does a descriptor have symbol ("Message.Nested.field") inside? Descends one name at a time. */
static bool declares(struct mr_str descriptor, enum descriptor in, struct mr_str symbol)
{
    struct mr_pb_reader reader = mr_pb_read(descriptor);
    struct mr_pb_field field;
    while (mr_pb_next(&reader, &field)) {
        for (size_t i = 0; i < sizeof children / sizeof children[0]; i++) {
            struct mr_str rest = symbol;
            if (children[i].in != in || children[i].field != field.number ||
                !strip(&rest, find_bytes(field.bytes, DESCRIPTOR_NAME)))
                continue;
            if (rest.len == 0 || declares(field.bytes, children[i].is, rest))
                return true;
        }
    }
    return false;
}

typedef bool file_test(struct mr_str file, struct mr_str wanted);

static bool has_name(struct mr_str file, struct mr_str wanted)
{
    return mr_str_equal(find_bytes(file, DESCRIPTOR_NAME), wanted);
}

static bool has_symbol(struct mr_str file, struct mr_str wanted)
{
    return strip(&wanted, find_bytes(file, FILE_PACKAGE)) && wanted.len > 0 &&
           declares(file, IN_FILE, wanted);
}

static struct mr_pb_reader all_files(void)
{
    return mr_pb_read((struct mr_str){(const char *)mr_descriptors, mr_descriptors_len});
}

static struct mr_str find_file(file_test *test, struct mr_str wanted)
{
    struct mr_pb_reader reader = all_files();
    struct mr_pb_field field;
    while (mr_pb_next(&reader, &field)) {
        if (field.number == SET_FILE && test(field.bytes, wanted))
            return field.bytes;
    }
    return (struct mr_str){NULL, 0};
}

/* Write ListServiceResponse; returns its length. */
static size_t list_services(uint8_t *out)
{
    uint8_t *at = out;
    struct mr_pb_reader files = all_files();
    struct mr_pb_field file, service;
    while (mr_pb_next(&files, &file)) {
        struct mr_str package = find_bytes(file.bytes, FILE_PACKAGE);
        struct mr_pb_reader reader = mr_pb_read(file.bytes);
        while (mr_pb_next(&reader, &service)) {
            if (service.number != FILE_SERVICE)
                continue;
            struct mr_str name = find_bytes(service.bytes, DESCRIPTOR_NAME);
            char full[NAME_MAX_BYTES];
            int len = snprintf(full, sizeof full, "%.*s.%.*s", (int)package.len, package.data,
                               (int)name.len, name.data);
            MR_ASSERT(len > 0 && (size_t)len < sizeof full); /* our own names */
            struct mr_str text = {full, (size_t)len};
            MR_ASSERT((size_t)(at - out) + text.len + 8 < LIST_BYTES_MAX);
            at = mr_pb_put_head(at, LIST_SERVICE, mr_pb_text_size(SERVICE_NAME, text));
            at = mr_pb_put_text(at, SERVICE_NAME, text);
        }
    }
    return (size_t)(at - out);
}

/* A response: host and request repeated, then the part that answers: one bytes field in another. */
static void respond(struct mr_str request, uint32_t part, struct mr_str body,
                    struct mr_grpc_answer *out)
{
    struct mr_str host = find_bytes(request, REQUEST_HOST);
    size_t size = mr_pb_text_size(RESPONSE_HOST, host) +
                  mr_pb_bytes_size(RESPONSE_ORIGINAL, request.len) +
                  mr_pb_bytes_size(part, body.len);
    out->message = grpc_slice_malloc(size);
    uint8_t *at = GRPC_SLICE_START_PTR(out->message);
    at = mr_pb_put_text(at, RESPONSE_HOST, host);
    at = mr_pb_put_bytes(at, RESPONSE_ORIGINAL, request);
    at = mr_pb_put_bytes(at, part, body);
    MR_ASSERT(at == GRPC_SLICE_END_PTR(out->message));
}

static void respond_file(struct mr_str request, struct mr_str file, struct mr_grpc_answer *out)
{
    grpc_slice body = grpc_slice_malloc(mr_pb_bytes_size(FILES_FILE, file.len));
    mr_pb_put_bytes(GRPC_SLICE_START_PTR(body), FILES_FILE, file);
    respond(request, RESPONSE_FILES, mr_grpc_slice_str(&body), out);
    grpc_slice_unref(body);
}

static void respond_error(struct mr_str request, grpc_status_code code, struct mr_str text,
                          struct mr_grpc_answer *out)
{
    uint8_t body[512];
    uint8_t *at = mr_pb_put_number(body, ERROR_CODE, (uint64_t)code);
    at = mr_pb_put_text(at, ERROR_TEXT, text);
    respond(request, RESPONSE_ERROR, (struct mr_str){(const char *)body, (size_t)(at - body)}, out);
}

static void respond_lookup(struct mr_str request, file_test *test, struct mr_str wanted,
                           struct mr_grpc_answer *out)
{
    struct mr_str file = find_file(test, wanted);
    if (file.len > 0) {
        respond_file(request, file, out);
        return;
    }
    char text[256];
    int len = snprintf(text, sizeof text, "%s \"%.*s\" is not known here",
                       test == has_name ? "file" : "symbol",
                       (int)(wanted.len < 128 ? wanted.len : 128), wanted.data);
    respond_error(request, GRPC_STATUS_NOT_FOUND, (struct mr_str){text, (size_t)len}, out);
}

void mr_grpc_reflection_answer(void *context, struct mr_str request, struct mr_grpc_answer *out)
{
    (void)context;
    struct mr_pb_reader reader = mr_pb_read(request);
    struct mr_pb_field field, ask = {0};
    while (mr_pb_next(&reader, &field)) {
        if (field.number >= REQUEST_FILE && field.number <= REQUEST_LIST &&
            field.type == MR_PB_BYTES)
            ask = field; /* the last of a oneof wins */
    }
    uint8_t list[LIST_BYTES_MAX];
    if (reader.problem) {
        out->status = GRPC_STATUS_INVALID_ARGUMENT;
        snprintf(out->buffer, sizeof out->buffer, "expected a ServerReflectionRequest, but %s",
                 reader.problem);
        out->text = out->buffer;
    } else if (ask.number == REQUEST_LIST) {
        struct mr_str body = {(const char *)list, list_services(list)};
        respond(request, RESPONSE_LIST, body, out);
    } else if (ask.number == REQUEST_FILE) {
        respond_lookup(request, has_name, ask.bytes, out);
    } else if (ask.number == REQUEST_SYMBOL) {
        respond_lookup(request, has_symbol, ask.bytes, out);
    } else if (ask.number == 0) {
        respond_error(request, GRPC_STATUS_INVALID_ARGUMENT,
                      MR_STR("message_request: expected one of its fields, none is set"), out);
    } else {
        respond_error(request, GRPC_STATUS_NOT_FOUND, MR_STR("there are no extensions here"), out);
    }
}

void mr_grpc_reflection(struct mr_grpc_call call, void *context)
{
    static const struct mr_grpc_talk talk = {.answer = mr_grpc_reflection_answer};
    (void)context;
    mr_grpc_talk_begin(call, &talk);
}
