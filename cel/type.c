/* cel/type.c: see cel/type.h. */
#include "cel/type.h"

static const struct {
    struct mr_str name;
    uint8_t param_count;
} kinds[] = {
#define KIND(kind, text, count) [MR_CEL_TYPE_##kind] = {{text, sizeof(text) - 1}, count}
    KIND(DYN, "dyn", 0),
    KIND(NULL, "null_type", 0),
    KIND(BOOL, "bool", 0),
    KIND(INT, "int", 0),
    KIND(UINT, "uint", 0),
    KIND(DOUBLE, "double", 0),
    KIND(STRING, "string", 0),
    KIND(BYTES, "bytes", 0),
    KIND(TIMESTAMP, "google.protobuf.Timestamp", 0),
    KIND(DURATION, "google.protobuf.Duration", 0),
    KIND(IP, "net.IP", 0),
    KIND(CIDR, "net.CIDR", 0),
    KIND(LIST, "list", 1),
    KIND(MAP, "map", 2),
    KIND(OPTIONAL, "optional_type", 1),
    KIND(TYPE, "type", 1),
#undef KIND
};
#define NAMED_COUNT (sizeof kinds / sizeof kinds[0])

#define SIMPLE(of)               \
    {                            \
        .kind = MR_CEL_TYPE_##of \
    }
static const struct mr_cel_type dyn = SIMPLE(DYN);
static const struct mr_cel_type *const dyns[] = {&dyn, &dyn};
static const struct mr_cel_type simple[] = {
    [MR_CEL_TYPE_DYN] = SIMPLE(DYN),
    [MR_CEL_TYPE_NULL] = SIMPLE(NULL),
    [MR_CEL_TYPE_BOOL] = SIMPLE(BOOL),
    [MR_CEL_TYPE_INT] = SIMPLE(INT),
    [MR_CEL_TYPE_UINT] = SIMPLE(UINT),
    [MR_CEL_TYPE_DOUBLE] = SIMPLE(DOUBLE),
    [MR_CEL_TYPE_STRING] = SIMPLE(STRING),
    [MR_CEL_TYPE_BYTES] = SIMPLE(BYTES),
    [MR_CEL_TYPE_TIMESTAMP] = SIMPLE(TIMESTAMP),
    [MR_CEL_TYPE_DURATION] = SIMPLE(DURATION),
    [MR_CEL_TYPE_IP] = SIMPLE(IP),
    [MR_CEL_TYPE_CIDR] = SIMPLE(CIDR),
    [MR_CEL_TYPE_LIST] = {.kind = MR_CEL_TYPE_LIST, .param_count = 1, .height = 1, .params = dyns},
    [MR_CEL_TYPE_MAP] = {.kind = MR_CEL_TYPE_MAP, .param_count = 2, .height = 1, .params = dyns},
    [MR_CEL_TYPE_OPTIONAL] = {.kind = MR_CEL_TYPE_OPTIONAL,
                              .param_count = 1,
                              .height = 1,
                              .params = dyns},
    [MR_CEL_TYPE_TYPE] = SIMPLE(TYPE),
};

const struct mr_cel_type *mr_cel_type_simple(enum mr_cel_type_kind kind)
{
    MR_ASSERT(kind < NAMED_COUNT);
    return &simple[kind];
}

struct mr_str mr_cel_type_kind_name(enum mr_cel_type_kind kind)
{
    MR_ASSERT(kind < NAMED_COUNT);
    return kinds[kind].name;
}

const struct mr_cel_type *mr_cel_type_of(struct mr_cel_arena *arena, enum mr_cel_type_kind kind,
                                         struct mr_str name,
                                         const struct mr_cel_type *const *params,
                                         uint32_t param_count)
{
    MR_ASSERT(param_count <= MR_CEL_TYPE_PARAMS_MAX);
    unsigned height = 0;
    for (uint32_t i = 0; i < param_count; i++) {
        if (!params[i])
            return NULL;
        if (params[i]->height >= height)
            height = params[i]->height + 1u;
    }
    if (height > MR_CEL_TYPE_HEIGHT_MAX)
        return &simple[MR_CEL_TYPE_DYN];
    struct mr_cel_type *type =
        mr_cel_arena_alloc(arena, sizeof *type + param_count * sizeof params[0]);
    if (!type)
        return NULL;
    const struct mr_cel_type **copy = (const struct mr_cel_type **)(type + 1);
    for (uint32_t i = 0; i < param_count; i++)
        copy[i] = params[i];
    *type = (struct mr_cel_type){.kind = (uint8_t)kind,
                                 .param_count = (uint8_t)param_count,
                                 .height = (uint16_t)height,
                                 .params = copy,
                                 .name = name};
    return type;
}

const struct mr_cel_type *mr_cel_type_list(struct mr_cel_arena *arena,
                                           const struct mr_cel_type *element)
{
    if (element == &simple[MR_CEL_TYPE_DYN])
        return &simple[MR_CEL_TYPE_LIST];
    return mr_cel_type_of(arena, MR_CEL_TYPE_LIST, (struct mr_str){NULL, 0}, &element, 1);
}

const struct mr_cel_type *mr_cel_type_map(struct mr_cel_arena *arena, const struct mr_cel_type *key,
                                          const struct mr_cel_type *value)
{
    const struct mr_cel_type *params[] = {key, value};
    return mr_cel_type_of(arena, MR_CEL_TYPE_MAP, (struct mr_str){NULL, 0}, params, 2);
}

const struct mr_cel_type *mr_cel_type_optional(struct mr_cel_arena *arena,
                                               const struct mr_cel_type *value)
{
    return mr_cel_type_of(arena, MR_CEL_TYPE_OPTIONAL, (struct mr_str){NULL, 0}, &value, 1);
}

const struct mr_cel_type *mr_cel_type_type(struct mr_cel_arena *arena,
                                           const struct mr_cel_type *type)
{
    return mr_cel_type_of(arena, MR_CEL_TYPE_TYPE, (struct mr_str){NULL, 0}, &type, 1);
}

bool mr_cel_type_equal(const struct mr_cel_type *a, const struct mr_cel_type *b)
{
    if (a == b)
        return true;
    if (a->kind != b->kind || a->param_count != b->param_count || a->variable != b->variable ||
        !mr_str_equal(a->name, b->name))
        return false;
    for (uint32_t i = 0; i < a->param_count; i++)
        if (!mr_cel_type_equal(a->params[i], b->params[i]))
            return false;
    return true;
}

/* Text of bounded size; what does not fit is dropped. */
struct out {
    char *text;
    size_t size, len;
};

static void put(struct out *out, struct mr_str bytes)
{
    size_t room = out->size - 1 - out->len;
    size_t len = bytes.len < room ? bytes.len : room;
    memcpy(out->text + out->len, bytes.data, len);
    out->len += len;
}

static void print(struct out *out, const struct mr_cel_type *type)
{
    if (out->len + 1 >= out->size)
        return; /* a type can be larger than any memory: its parts are shared */
    if (type->kind == MR_CEL_TYPE_VARIABLE)
        put(out, MR_STR("dyn"));
    else
        put(out, type->kind < NAMED_COUNT ? kinds[type->kind].name : type->name);
    for (uint32_t i = 0; i < type->param_count; i++) {
        put(out, i == 0 ? MR_STR("(") : MR_STR(", "));
        print(out, type->params[i]);
    }
    if (type->param_count > 0)
        put(out, MR_STR(")"));
}

size_t mr_cel_type_print(const struct mr_cel_type *type, char *text, size_t size)
{
    MR_ASSERT(size > 0);
    struct out out = {text, size, 0};
    print(&out, type);
    text[out.len] = 0;
    return out.len;
}

enum { READ_DEPTH_MAX = 16 };
struct reader {
    struct mr_str text;
    size_t at;
    unsigned depth;
    struct mr_cel_arena *arena;
    struct mr_err *err;
};

static void skip_spaces(struct reader *r)
{
    while (r->at < r->text.len && r->text.data[r->at] == ' ')
        r->at++;
}

static bool take_if(struct reader *r, char c)
{
    skip_spaces(r);
    if (r->at >= r->text.len || r->text.data[r->at] != c)
        return false;
    r->at++;
    return true;
}

static struct mr_str take_name(struct reader *r)
{
    skip_spaces(r);
    size_t start = r->at;
    for (; r->at < r->text.len; r->at++) {
        char c = r->text.data[r->at];
        if (c == ' ' || c == '(' || c == ')' || c == ',')
            break;
    }
    return (struct mr_str){r->text.data + start, r->at - start};
}

/* The kind that a name means; OPAQUE: none. */
static enum mr_cel_type_kind kind_of(struct mr_str name)
{
    static const struct {
        struct mr_str name;
        enum mr_cel_type_kind kind;
    } others[] = {
        {{"timestamp", 9}, MR_CEL_TYPE_TIMESTAMP}, {{"duration", 8}, MR_CEL_TYPE_DURATION},
        {{"null", 4}, MR_CEL_TYPE_NULL},           {{"any", 3}, MR_CEL_TYPE_DYN},
        {{"optional", 8}, MR_CEL_TYPE_OPTIONAL},   {{"google.protobuf.Any", 19}, MR_CEL_TYPE_DYN},
    };
    for (unsigned i = 0; i < NAMED_COUNT; i++)
        if (mr_str_equal(kinds[i].name, name))
            return (enum mr_cel_type_kind)i;
    for (unsigned i = 0; i < sizeof others / sizeof others[0]; i++)
        if (mr_str_equal(others[i].name, name))
            return others[i].kind;
    if (name.len == 1 && name.data[0] >= 'A' && name.data[0] <= 'Z')
        return MR_CEL_TYPE_PARAM;
    return MR_CEL_TYPE_OPAQUE;
}

static enum mr_rc read_type(struct reader *r, const struct mr_cel_type **out);

static enum mr_rc read_params(struct reader *r, const struct mr_cel_type **params, uint32_t *count)
{
    *count = 0;
    if (!take_if(r, '('))
        return MR_OK;
    do {
        if (*count == MR_CEL_TYPE_PARAMS_MAX)
            return mr_reject(r->err, MR_USAGE, "type %.*s: more than %d parameters",
                             (int)r->text.len, r->text.data, MR_CEL_TYPE_PARAMS_MAX);
        enum mr_rc rc = read_type(r, &params[*count]);
        if (rc != MR_OK)
            return rc;
        ++*count;
    } while (take_if(r, ','));
    if (!take_if(r, ')'))
        return mr_reject(r->err, MR_USAGE, "type %.*s: expected , or ) at offset %zu",
                         (int)r->text.len, r->text.data, r->at);
    return MR_OK;
}

static enum mr_rc read_type(struct reader *r, const struct mr_cel_type **out)
{
    const struct mr_cel_type *params[MR_CEL_TYPE_PARAMS_MAX];
    uint32_t count;
    if (r->depth == READ_DEPTH_MAX)
        return mr_reject(r->err, MR_USAGE, "type %.*s: more than %d types inside each other",
                         (int)r->text.len, r->text.data, READ_DEPTH_MAX);
    struct mr_str name = take_name(r);
    if (name.len == 0)
        return mr_reject(r->err, MR_USAGE, "type %.*s: expected a type at offset %zu",
                         (int)r->text.len, r->text.data, r->at);
    enum mr_cel_type_kind kind = kind_of(name);
    r->depth++;
    enum mr_rc rc = read_params(r, params, &count);
    r->depth--;
    if (rc != MR_OK)
        return rc;
    bool bare = count == 0 && kind < NAMED_COUNT;
    if (kind < NAMED_COUNT && !bare && count != kinds[kind].param_count)
        return mr_reject(r->err, MR_USAGE, "type %.*s: %.*s takes %u parameters, got %u",
                         (int)r->text.len, r->text.data, (int)name.len, name.data,
                         kinds[kind].param_count, count);
    if (kind < NAMED_COUNT)
        name = (struct mr_str){NULL, 0};
    *out = bare ? mr_cel_type_simple(kind) : mr_cel_type_of(r->arena, kind, name, params, count);
    return *out ? MR_OK
                : mr_reject(r->err, MR_FULL, "no memory for type %.*s", (int)r->text.len,
                            r->text.data);
}

enum mr_rc mr_cel_type_parse(struct mr_str text, struct mr_cel_arena *arena,
                             const struct mr_cel_type **out, struct mr_err *err)
{
    struct reader r = {.text = text, .arena = arena, .err = err};
    if (text.len > 4096)
        return mr_reject(err, MR_USAGE, "a type of %zu bytes: at most 4096", text.len);
    enum mr_rc rc = read_type(&r, out);
    skip_spaces(&r);
    if (rc == MR_OK && r.at < text.len)
        return mr_reject(err, MR_USAGE, "type %.*s: expected the end at offset %zu", (int)text.len,
                         text.data, r.at);
    return rc;
}
