/* Lines of JSON as subscriptions and events. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/cel_json.h"
#include "tools/match.h"

enum { FILTERS_MAX = 1024, ITEMS_MAX = 65536 };

struct mr_match_input {
    const char *path;
    char *data; /* the file, mapped, or what standard input gave */
    size_t len, at;
    bool mapped;
    uint64_t line, bad;
    struct mr_cel_json *json;
    struct mr_predicate filters[FILTERS_MAX];
    struct mr_const *items; /* of all lists of a line */
    uint32_t item_count;
};

/* ---- the file ---- */

static enum mr_rc read_all(struct mr_match_input *input, int fd, struct mr_err *err)
{
    size_t capacity = 0;
    for (;;) {
        if (input->len == capacity) {
            capacity = capacity ? capacity * 2 : 1 << 16;
            char *data = realloc(input->data, capacity);
            if (!data)
                return mr_fail(err, MR_FATAL, "read %s: %zu bytes", input->path, capacity);
            input->data = data;
        }
        ssize_t got = read(fd, input->data + input->len, capacity - input->len);
        if (got == 0)
            return MR_OK;
        if (got < 0 && errno != EINTR)
            return mr_fail(err, MR_FATAL, "read %s", input->path);
        input->len += got > 0 ? (size_t)got : 0;
    }
}

static enum mr_rc read_file(struct mr_match_input *input, int fd, struct mr_err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return mr_fail(err, MR_FATAL, "stat %s", input->path);
    if (!S_ISREG(st.st_mode) || st.st_size == 0)
        return read_all(input, fd, err);
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return mr_fail(err, MR_FATAL, "map %s", input->path);
    input->data = data;
    input->len = (size_t)st.st_size;
    input->mapped = true;
    return MR_OK;
}

enum mr_rc mr_match_input_open(struct mr_match_input **out, const char *path, struct mr_err *err)
{
    bool standard = strcmp(path, "-") == 0;
    struct mr_match_input *input = calloc(1, sizeof *input);
    if (!input)
        return mr_fail(err, MR_FATAL, "open %s", path);
    input->path = standard ? "standard input" : path;
    int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    enum mr_rc rc = fd < 0 ? mr_fail(err, MR_USAGE, "open %s", path) : read_file(input, fd, err);
    if (fd >= 0 && !standard)
        close(fd);
    if (rc == MR_OK) {
        input->items = malloc(ITEMS_MAX * sizeof *input->items);
        rc = input->items ? mr_cel_json_create(&input->json, err)
                          : mr_fail(err, MR_FATAL, "open %s", path);
    }
    if (rc != MR_OK)
        mr_match_input_close(&input);
    *out = input;
    return rc;
}

void mr_match_input_close(struct mr_match_input **out)
{
    struct mr_match_input *input = *out;
    if (!input)
        return;
    if (input->mapped)
        munmap(input->data, input->len);
    else
        free(input->data);
    if (input->json)
        mr_cel_json_destroy(&input->json);
    free(input->items);
    free(input);
    *out = NULL;
}

uint64_t mr_match_bad_lines(const struct mr_match_input *input)
{
    return input->bad;
}

/* The next line that is not empty, as BSON. */
static enum mr_rc next_line(struct mr_match_input *input, struct mr_str *bson, struct mr_err *err)
{
    while (input->at < input->len) {
        const char *start = input->data + input->at;
        const char *end = memchr(start, '\n', input->len - input->at);
        size_t len = end ? (size_t)(end - start) : input->len - input->at;
        input->at += len + 1;
        input->line++;
        if (len > 0 && start[len - 1] == '\r')
            len--;
        if (len > 0)
            return mr_cel_json_parse(input->json, (struct mr_str){start, len}, bson, err);
    }
    return MR_AGAIN;
}

static void complain(struct mr_match_input *input, const struct mr_err *err)
{
    input->bad++;
    fprintf(stderr, "%s:%" PRIu64 ": %s\n", input->path, input->line, err->text);
}

/* ---- members ---- */

static enum mr_rc wrong(struct mr_err *err, struct mr_str key, const char *expected)
{
    return mr_reject(err, MR_USAGE, "\"%.*s\": expected %s", (int)key.len, key.data, expected);
}

static enum mr_rc take_string(const struct mr_bson_element *e, struct mr_str *out,
                              struct mr_err *err)
{
    if (e->value.type != MR_BSON_STRING)
        return wrong(err, e->key, "a string");
    *out = mr_bson_string(&e->value);
    return MR_OK;
}

/* An id: a string, or a whole number as text in buffer. */
static enum mr_rc take_id(const struct mr_bson_element *e, struct mr_str *out, char buffer[32],
                          struct mr_err *err)
{
    if (e->value.type == MR_BSON_STRING || e->value.type == MR_BSON_OID) {
        const struct mr_value value = mr_value_from_bson(&e->value, true);
        *out = mr_value_text(&value, buffer);
        return MR_OK;
    }
    if (e->value.type != MR_BSON_INT32 && e->value.type != MR_BSON_INT64)
        return wrong(err, e->key, "a string or a whole number");
    int64_t number =
        e->value.type == MR_BSON_INT32 ? mr_bson_int32(&e->value) : mr_bson_int64(&e->value);
    *out = (struct mr_str){buffer, (size_t)snprintf(buffer, 32, "%" PRId64, number)};
    return MR_OK;
}

static bool scalar(const struct mr_bson_value *value, struct mr_const *out)
{
    *out = (struct mr_const){.kind = MR_CONST_NULL};
    switch (value->type) {
    case MR_BSON_NULL:
        return true;
    case MR_BSON_BOOL:
        out->kind = MR_CONST_BOOL;
        out->boolean = mr_bson_bool(value);
        return true;
    case MR_BSON_INT32:
    case MR_BSON_INT64:
        out->kind = MR_CONST_INT;
        out->integer = value->type == MR_BSON_INT32 ? mr_bson_int32(value) : mr_bson_int64(value);
        return true;
    case MR_BSON_DOUBLE:
        out->kind = MR_CONST_DOUBLE;
        out->number = mr_bson_double(value);
        return true;
    case MR_BSON_STRING:
        out->kind = MR_CONST_STRING;
        out->string = mr_bson_string(value);
        return true;
    default:
        return false;
    }
}

static enum mr_rc take_value(struct mr_match_input *input, const struct mr_bson_element *e,
                             struct mr_const *out, struct mr_err *err)
{
    static const char expected[] = "null, a bool, a number, a string or a list of these";
    struct mr_bson_iter iter;
    struct mr_bson_element item;
    if (scalar(&e->value, out))
        return MR_OK;
    if (e->value.type != MR_BSON_ARRAY ||
        mr_bson_iter_init(&iter, e->value.data, e->value.len) != MR_OK)
        return wrong(err, e->key, expected);
    *out = (struct mr_const){.kind = MR_CONST_LIST};
    out->list.items = input->items + input->item_count;
    while (mr_bson_iter_next(&iter, &item) == MR_OK) {
        if (input->item_count == ITEMS_MAX)
            return mr_reject(err, MR_USAGE, "more than %d values in lists", ITEMS_MAX);
        if (!scalar(&item.value, &input->items[input->item_count++]))
            return wrong(err, e->key, expected);
        out->list.count++;
    }
    return MR_OK;
}

static enum mr_rc take_filter(struct mr_match_input *input, const struct mr_bson_value *value,
                              struct mr_predicate *out, struct mr_err *err)
{
    struct mr_bson_iter iter;
    struct mr_bson_element e;
    struct mr_str op = {NULL, 0};
    *out = (struct mr_predicate){.op = MR_PRED_EQ};
    if (value->type != MR_BSON_DOCUMENT ||
        mr_bson_iter_init(&iter, value->data, value->len) != MR_OK)
        return mr_reject(err, MR_USAGE, "expected an object with field, op and value");
    enum mr_rc rc = MR_OK;
    while (rc == MR_OK && mr_bson_iter_next(&iter, &e) == MR_OK) {
        if (mr_str_equal(e.key, MR_STR("field")))
            rc = take_string(&e, &out->path, err);
        else if (mr_str_equal(e.key, MR_STR("op")))
            rc = take_string(&e, &op, err);
        else if (mr_str_equal(e.key, MR_STR("value")))
            rc = take_value(input, &e, &out->value, err);
    }
    if (rc != MR_OK)
        return rc;
    if (!mr_predicate_op_parse(op, &out->op))
        return mr_reject(err, MR_USAGE,
                         "op: expected ==, !=, >, >=, <, <=, in or contains, got \"%.*s\"",
                         (int)(op.len < 32 ? op.len : 32), op.data ? op.data : "");
    return out->value.kind ? MR_OK : mr_reject(err, MR_USAGE, "value: expected one, got none");
}

static enum mr_rc take_filters(struct mr_match_input *input, const struct mr_bson_element *e,
                               struct mr_program_source *out, struct mr_err *err)
{
    struct mr_bson_iter iter;
    struct mr_bson_element item;
    if (e->value.type != MR_BSON_ARRAY ||
        mr_bson_iter_init(&iter, e->value.data, e->value.len) != MR_OK)
        return wrong(err, e->key, "a list of {field, op, value}");
    while (mr_bson_iter_next(&iter, &item) == MR_OK) {
        uint32_t index = out->predicate_count;
        if (index == FILTERS_MAX)
            return mr_reject(err, MR_USAGE, "more than %d filters", FILTERS_MAX);
        enum mr_rc rc = take_filter(input, &item.value, &input->filters[index], err);
        if (rc != MR_OK)
            return mr_err_prefix(err, "filters[%u]", index);
        out->predicate_count++;
    }
    return MR_OK;
}

/* ---- subscriptions ---- */

static enum mr_rc parse_sub(struct mr_match_input *input, struct mr_str bson,
                            struct mr_program_compiler *compiler, struct mr_match_sub *out,
                            struct mr_err *err)
{
    struct mr_program_source source = {.predicates = input->filters};
    struct mr_bson_iter iter;
    struct mr_bson_element e;
    struct mr_str id = {NULL, 0};
    char buffer[32];
    enum mr_rc rc = mr_bson_iter_init(&iter, bson.data, bson.len);
    bool named = false;
    input->item_count = 0;
    while (rc == MR_OK && mr_bson_iter_next(&iter, &e) == MR_OK) {
        if (mr_str_equal(e.key, MR_STR("id"))) {
            rc = take_id(&e, &id, buffer, err);
        } else if (mr_str_equal(e.key, MR_STR("collection"))) {
            rc = take_string(&e, &source.collection, err);
            named = true;
        } else if (mr_str_equal(e.key, MR_STR("database"))) {
            rc = take_string(&e, &source.database, err);
        } else if (mr_str_equal(e.key, MR_STR("filters"))) {
            rc = take_filters(input, &e, &source, err);
        } else if (mr_str_equal(e.key, MR_STR("cel"))) {
            rc = take_string(&e, &source.cel, err);
        }
    }
    if (rc == MR_OK && id.len == 0)
        rc = mr_reject(err, MR_USAGE, "\"id\": expected one, got none");
    if (rc == MR_OK && !named)
        rc = mr_reject(err, MR_USAGE, "\"collection\": expected one, got none");
    if (rc == MR_OK)
        rc = mr_program_compile(compiler, &source, &out->program, &out->len, err);
    if (rc != MR_OK)
        return rc;
    out->id = strndup(id.data, id.len);
    return out->id ? MR_OK : mr_fail(err, MR_FATAL, "keep a subscription");
}

enum mr_rc mr_match_next_sub(struct mr_match_input *input, struct mr_program_compiler *compiler,
                             struct mr_match_sub *out, struct mr_err *err)
{
    for (;;) {
        struct mr_str bson;
        struct mr_err problem = {.rc = MR_OK};
        enum mr_rc rc = next_line(input, &bson, &problem);
        *out = (struct mr_match_sub){0};
        if (rc == MR_OK)
            rc = parse_sub(input, bson, compiler, out, &problem);
        if (rc == MR_OK || rc == MR_AGAIN)
            return rc;
        free(out->program);
        if (rc == MR_FATAL) {
            *err = problem;
            return rc;
        }
        complain(input, &problem);
    }
}

/* ---- events ---- */

struct parsed_event {
    struct mr_str database, collection, id, document;
    char buffer[32];
    bool named, everyone, deleted;
};

static enum mr_rc take_op(const struct mr_bson_element *e, struct parsed_event *out,
                          struct mr_err *err)
{
    static const char *const names[] = {"insert", "update", "replace", "delete", "truncate", "gap"};
    struct mr_str text;
    enum mr_rc rc = take_string(e, &text, err);
    if (rc != MR_OK)
        return rc;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!mr_str_equal(text, mr_str_from(names[i])))
            continue;
        out->deleted = i == 3;
        out->everyone = i >= 4;
        return MR_OK;
    }
    return wrong(err, e->key, "insert, update, replace, delete, truncate or gap");
}

/* Without an id of its own, the document's _id is it. */
static void id_from_document(struct parsed_event *out)
{
    struct mr_bson_value value;
    if (out->id.len > 0 ||
        !mr_bson_find(out->document.data, out->document.len, MR_STR("_id"), &value))
        return;
    const struct mr_bson_element e = {.key = MR_STR("_id"), .value = value};
    if (take_id(&e, &out->id, out->buffer, NULL) != MR_OK)
        out->id = (struct mr_str){NULL, 0};
}

static enum mr_rc parse_event(struct mr_str bson, struct parsed_event *out, struct mr_err *err)
{
    struct mr_bson_iter iter;
    struct mr_bson_element e;
    enum mr_rc rc = mr_bson_iter_init(&iter, bson.data, bson.len);
    while (rc == MR_OK && mr_bson_iter_next(&iter, &e) == MR_OK) {
        if (mr_str_equal(e.key, MR_STR("collection"))) {
            rc = take_string(&e, &out->collection, err);
            out->named = true;
        } else if (mr_str_equal(e.key, MR_STR("database"))) {
            rc = take_string(&e, &out->database, err);
        } else if (mr_str_equal(e.key, MR_STR("id"))) {
            rc = take_id(&e, &out->id, out->buffer, err);
        } else if (mr_str_equal(e.key, MR_STR("op"))) {
            rc = take_op(&e, out, err);
        } else if (mr_str_equal(e.key, MR_STR("doc"))) {
            if (e.value.type != MR_BSON_DOCUMENT)
                return wrong(err, e.key, "an object");
            out->document = (struct mr_str){(const char *)e.value.data, e.value.len};
        }
    }
    if (rc != MR_OK)
        return rc;
    if (!out->named)
        return mr_reject(err, MR_USAGE, "\"collection\": expected one, got none");
    if (out->document.len == 0 && !out->deleted && !out->everyone)
        return mr_reject(err, MR_USAGE, "\"doc\": expected one, got none");
    id_from_document(out);
    return MR_OK;
}

static enum mr_rc keep_event(const struct parsed_event *in, struct mr_match_event *out,
                             struct mr_err *err)
{
    const struct mr_str parts[] = {in->database, in->collection, in->id, in->document};
    char *at = malloc(in->database.len + in->collection.len + in->id.len + in->document.len + 1);
    if (!at)
        return mr_fail(err, MR_FATAL, "keep an event");
    *out = (struct mr_match_event){.names = at,
                                   .database_len = (uint32_t)in->database.len,
                                   .collection_len = (uint32_t)in->collection.len,
                                   .id_len = (uint32_t)in->id.len,
                                   .document_len = (uint32_t)in->document.len,
                                   .everyone = in->everyone};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (parts[i].len)
            memcpy(at, parts[i].data, parts[i].len);
        at += parts[i].len;
    }
    return MR_OK;
}

enum mr_rc mr_match_next_event(struct mr_match_input *input, struct mr_match_event *out,
                               struct mr_err *err)
{
    for (;;) {
        struct mr_str bson;
        struct mr_err problem = {.rc = MR_OK};
        struct parsed_event parsed = {.named = false};
        enum mr_rc rc = next_line(input, &bson, &problem);
        if (rc == MR_OK)
            rc = parse_event(bson, &parsed, &problem);
        if (rc == MR_OK)
            return keep_event(&parsed, out, err);
        if (rc == MR_AGAIN)
            return rc;
        if (rc == MR_FATAL) {
            *err = problem;
            return rc;
        }
        complain(input, &problem);
    }
}

struct mr_engine_event mr_match_event_view(const struct mr_match_event *event)
{
    const char *at = event->names;
    struct mr_engine_event view = {.everyone = event->everyone};
    view.database = (struct mr_str){at, event->database_len};
    at += event->database_len;
    view.collection = (struct mr_str){at, event->collection_len};
    at += event->collection_len;
    view.document_id = (struct mr_str){at, event->id_len};
    at += event->id_len;
    view.document = (struct mr_str){at, event->document_len};
    return view;
}
