#include "puller/sources/pg_types.h"

#include <stdlib.h>

#include "puller/sources/pg_array.h"
#include "puller/sources/pg_scalar.h"

struct builtin {
    uint32_t oid, array_oid;
    uint8_t kind;
};

/* Object ids of pg_type that every server has alike (catalog file pg_type.dat). Sorted by neither:
 * looked up once a column and relation. */
static const struct builtin builtins[] = {
    {16, 1000, MR_PG_BOOL},       {17, 1001, MR_PG_BYTEA},       {18, 1002, MR_PG_TEXT},
    {19, 1003, MR_PG_TEXT},       {20, 1016, MR_PG_INT8},        {21, 1005, MR_PG_INT2},
    {23, 1007, MR_PG_INT4},       {25, 1009, MR_PG_TEXT},        {26, 1028, MR_PG_OID},
    {28, 1011, MR_PG_OID},        {114, 199, MR_PG_JSON},        {142, 143, MR_PG_TEXT},
    {700, 1021, MR_PG_FLOAT4},    {701, 1022, MR_PG_FLOAT8},     {705, 0, MR_PG_TEXT},
    {1042, 1014, MR_PG_TEXT},     {1043, 1015, MR_PG_TEXT},      {1082, 1182, MR_PG_DATE},
    {1083, 1183, MR_PG_TIME},     {1114, 1115, MR_PG_TIMESTAMP}, {1184, 1185, MR_PG_TIMESTAMPTZ},
    {1186, 1187, MR_PG_INTERVAL}, {1266, 1270, MR_PG_TIMETZ},    {1700, 1231, MR_PG_NUMERIC},
    {2950, 2951, MR_PG_UUID},     {3802, 3807, MR_PG_JSONB},
};

bool mr_pg_type_builtin(uint32_t oid, struct mr_pg_type *out)
{
    for (size_t i = 0; i < sizeof builtins / sizeof *builtins; i++) {
        if (builtins[i].oid == oid || (builtins[i].array_oid == oid && oid != 0)) {
            *out = (struct mr_pg_type){builtins[i].kind, builtins[i].oid != oid};
            return true;
        }
    }
    *out = (struct mr_pg_type){MR_PG_OPAQUE, false};
    return false;
}

char *mr_pg_scratch_reserve(struct mr_pg_scratch *scratch, size_t len)
{
    if (len <= scratch->capacity && scratch->data)
        return scratch->data;
    size_t capacity = scratch->capacity ? scratch->capacity : 4096;
    while (capacity < len)
        capacity *= 2;
    char *data = realloc(scratch->data, capacity);
    if (!data)
        return NULL;
    scratch->data = data;
    scratch->capacity = capacity;
    return data;
}

void mr_pg_scratch_fini(struct mr_pg_scratch *scratch)
{
    free(scratch->data);
    *scratch = (struct mr_pg_scratch){NULL, 0};
}

enum mr_rc mr_pg_put(struct mr_bson_writer *w, struct mr_str key, struct mr_pg_type type,
                     const struct mr_pg_value *value, struct mr_pg_scratch *scratch)
{
    switch (value->form) {
    case MR_PG_FORM_NULL:
        mr_bson_put_null(w, key);
        return MR_OK;
    case MR_PG_FORM_TEXT:
        return type.array ? mr_pg_array_put_text(w, key, type, value, scratch)
                          : mr_pg_scalar_put_text(w, key, type.kind, value, scratch);
    case MR_PG_FORM_BINARY:
        return type.array ? mr_pg_array_put_binary(w, key, type, value, scratch)
                          : mr_pg_scalar_put_binary(w, key, type.kind, value, scratch);
    default:
        return MR_OK; /* absent or unchanged: no field */
    }
}

enum mr_rc mr_pg_text(struct mr_pg_type type, const struct mr_pg_value *value,
                      struct mr_pg_scratch *scratch, struct mr_str *out)
{
    if (value->form == MR_PG_FORM_TEXT ||
        (value->form == MR_PG_FORM_BINARY && type.kind == MR_PG_TEXT && !type.array)) {
        *out = (struct mr_str){(const char *)value->data, value->len};
        return MR_OK;
    }
    *out = (struct mr_str){"", 0};
    if (value->form != MR_PG_FORM_BINARY)
        return MR_OK;
    return type.array ? MR_CORRUPT : mr_pg_scalar_text(type.kind, value, scratch, out);
}
