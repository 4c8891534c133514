#include "puller/sources/pg_relation.h"

#include <stdlib.h>

#include "common/doc_hash.h"
#include "proto/event.h"

enum { FLAG_KEY = 1, SLOTS_FIRST = 64 };

void mr_pg_relations_clear(struct mr_pg_relations *relations)
{
    for (size_t i = 0; i < relations->capacity; i++)
        free(relations->slots[i]);
    free(relations->slots);
    *relations = (struct mr_pg_relations){0};
}

static size_t slot_of(const struct mr_pg_relations *relations, uint32_t oid)
{
    size_t mask = relations->capacity - 1;
    size_t at = (oid * UINT32_C(2654435769)) & mask; /* golden ratio: neighbours spread */
    while (relations->slots[at] && relations->slots[at]->oid != oid)
        at = (at + 1) & mask;
    return at;
}

static bool reserve_slot(struct mr_pg_relations *relations)
{
    if (relations->count * 2 < relations->capacity)
        return true;
    struct mr_pg_relations grown = {.capacity =
                                        relations->capacity ? relations->capacity * 2 : SLOTS_FIRST,
                                    .count = relations->count};
    grown.slots = calloc(grown.capacity, sizeof *grown.slots);
    if (!grown.slots)
        return false;
    for (size_t i = 0; i < relations->capacity; i++)
        if (relations->slots[i])
            grown.slots[slot_of(&grown, relations->slots[i]->oid)] = relations->slots[i];
    free(relations->slots);
    *relations = grown;
    return true;
}

const struct mr_pg_relation *mr_pg_relations_find(struct mr_pg_relations *relations, uint32_t oid)
{
    if (relations->last && relations->last->oid == oid)
        return relations->last;
    struct mr_pg_relation *found =
        relations->capacity ? relations->slots[slot_of(relations, oid)] : NULL;
    if (found)
        relations->last = found;
    return found;
}

/* Copy text to *room and move it on. */
static struct mr_str keep(char **room, struct mr_str text)
{
    struct mr_str kept = {*room, text.len};
    memcpy(*room, text.data, text.len);
    *room += text.len;
    return kept;
}

static bool read_columns(struct mr_pg_bytes *in, struct mr_pg_relation *relation, char **room)
{
    for (uint32_t i = 0; i < relation->column_count; i++) {
        struct mr_pg_column *column = &relation->columns[i];
        column->key = (mr_pg_u8(in) & FLAG_KEY) != 0;
        struct mr_str name = mr_pg_name(in);
        column->type_oid = mr_pg_u32(in);
        mr_pg_u32(in); /* type modifier: of no consequence to values */
        if (in->bad)
            return false;
        column->name = keep(room, name);
    }
    return in->at == in->end;
}

/* With REPLICA IDENTITY FULL every column is marked as key; the primary key, where there is one, is
 * what names the row. */
static void narrow_full_key(struct mr_pg_relation *relation, const struct mr_pg_catalog *catalog)
{
    size_t count;
    const struct mr_pg_catalog_key *keys = mr_pg_catalog_keys(catalog, relation->oid, &count);
    size_t found = 0;
    for (uint32_t i = 0; i < relation->column_count; i++)
        for (size_t k = 0; k < count; k++)
            found += mr_str_equal(relation->columns[i].name, mr_str_from(keys[k].column));
    bool has_key = count > 0 && keys[0].column[0] != '\0';
    relation->key_unknown = count == 0 || (has_key && found != count);
    if (!has_key || found != count)
        return; /* no primary key, or it was another one then: the whole row names itself */
    for (uint32_t i = 0; i < relation->column_count; i++) {
        relation->columns[i].key = false;
        for (size_t k = 0; k < count; k++)
            relation->columns[i].key |=
                mr_str_equal(relation->columns[i].name, mr_str_from(keys[k].column));
    }
}

static void resolve_columns(struct mr_pg_relation *relation, const struct mr_pg_catalog *catalog)
{
    if (relation->identity == 'f')
        narrow_full_key(relation, catalog);
    for (uint32_t i = 0; i < relation->column_count; i++) {
        struct mr_pg_column *column = &relation->columns[i];
        if (!mr_pg_catalog_type(catalog, column->type_oid, &column->type))
            relation->unknown_type = column->type_oid;
        relation->key_count += column->key;
        relation->needs_text |=
            column->type.kind == MR_PG_OPAQUE || (column->key && column->type.array);
    }
}

static enum mr_rc install(struct mr_pg_relations *relations, struct mr_pg_relation *relation)
{
    if (!reserve_slot(relations)) {
        free(relation);
        return MR_FATAL;
    }
    size_t slot = slot_of(relations, relation->oid);
    relations->count += relations->slots[slot] == NULL;
    free(relations->slots[slot]);
    relations->slots[slot] = relation;
    relations->last = relation;
    return MR_OK;
}

enum mr_rc mr_pg_relations_take(struct mr_pg_relations *relations, struct mr_str body,
                                const struct mr_pg_catalog *catalog,
                                const struct mr_pg_relation **out, struct mr_err *err)
{
    struct mr_pg_bytes in = mr_pg_bytes_of(body.data, body.len);
    uint32_t oid = mr_pg_u32(&in);
    struct mr_str schema = mr_pg_name(&in), table = mr_pg_name(&in);
    uint8_t identity = mr_pg_u8(&in);
    uint32_t count = mr_pg_u16(&in);
    if (in.bad || count > MR_PG_COLUMNS_MAX || schema.len + table.len + 12 > MR_EVENT_NAME_MAX)
        return mr_reject(err, MR_CORRUPT,
                         "pgoutput message 'R' of %zu bytes: it ends too early or a"
                         " name is too long",
                         body.len);
    /* One block: the struct, its columns, and all names, which are no longer than the message. */
    size_t bytes = sizeof(struct mr_pg_relation) + count * sizeof(struct mr_pg_column);
    struct mr_pg_relation *relation = calloc(1, bytes + body.len + 12);
    if (!relation)
        return mr_fail(err, MR_FATAL, "remember table %.*s", (int)table.len, table.data);
    char *room = (char *)relation + bytes;
    relation->form = mr_doc_hash(body, MR_STR(""), MR_STR(""));
    relation->oid = oid;
    relation->identity = identity;
    relation->column_count = count;
    relation->collection.data = room;
    if (!mr_str_equal(schema, MR_STR("public"))) {
        keep(&room, schema.len ? schema : MR_STR("pg_catalog")); /* sent empty for that one */
        keep(&room, MR_STR("."));
    }
    keep(&room, table);
    relation->collection.len = (size_t)(room - relation->collection.data);
    if (!read_columns(&in, relation, &room)) {
        free(relation);
        return mr_reject(err, MR_CORRUPT,
                         "pgoutput message 'R' of %zu bytes: its columns end too"
                         " early or late",
                         body.len);
    }
    resolve_columns(relation, catalog);
    *out = relation;
    if (install(relations, relation) != MR_OK)
        return mr_fail(err, MR_FATAL, "remember a table");
    return MR_OK;
}
