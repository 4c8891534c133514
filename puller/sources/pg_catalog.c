#include "puller/sources/pg_catalog.h"

#include <stdlib.h>

enum { DOMAIN_DEPTH_MAX = 32 };

/* Room for one more item; NULL: no memory, and the old array stays. */
static bool grow(void **items, size_t count, size_t *capacity, size_t item_bytes)
{
    if (count < *capacity)
        return true;
    size_t wanted = *capacity ? *capacity * 2 : 64;
    void *grown = realloc(*items, wanted * item_bytes);
    if (!grown)
        return false;
    *items = grown;
    *capacity = wanted;
    return true;
}

void mr_pg_catalog_clear(struct mr_pg_catalog *catalog)
{
    catalog->type_count = catalog->key_count = 0;
}

void mr_pg_catalog_fini(struct mr_pg_catalog *catalog)
{
    free(catalog->types);
    free(catalog->keys);
    free(catalog->asked);
    *catalog = (struct mr_pg_catalog){0};
}

bool mr_pg_catalog_add_type(struct mr_pg_catalog *catalog, const struct mr_pg_catalog_type *type)
{
    void *items = catalog->types;
    if (!grow(&items, catalog->type_count, &catalog->type_capacity, sizeof *type))
        return false;
    catalog->types = items;
    catalog->types[catalog->type_count++] = *type;
    return true;
}

bool mr_pg_catalog_add_key(struct mr_pg_catalog *catalog, const struct mr_pg_catalog_key *key)
{
    void *items = catalog->keys;
    if (!grow(&items, catalog->key_count, &catalog->key_capacity, sizeof *key))
        return false;
    catalog->keys = items;
    catalog->keys[catalog->key_count++] = *key;
    return true;
}

static int compare_oids(uint32_t a, uint32_t b)
{
    return (a > b) - (a < b);
}

static int compare_types(const void *a, const void *b)
{
    const struct mr_pg_catalog_type *left = a, *right = b;
    return compare_oids(left->oid, right->oid);
}

static int compare_keys(const void *a, const void *b)
{
    const struct mr_pg_catalog_key *left = a, *right = b;
    return compare_oids(left->relation, right->relation);
}

void mr_pg_catalog_sort(struct mr_pg_catalog *catalog)
{
    if (catalog->type_count)
        qsort(catalog->types, catalog->type_count, sizeof *catalog->types, compare_types);
    if (catalog->key_count)
        qsort(catalog->keys, catalog->key_count, sizeof *catalog->keys, compare_keys);
}

static const struct mr_pg_catalog_type *find_type(const struct mr_pg_catalog *catalog, uint32_t oid)
{
    struct mr_pg_catalog_type wanted = {.oid = oid};
    return catalog->type_count == 0 ? NULL
                                    : bsearch(&wanted, catalog->types, catalog->type_count,
                                              sizeof wanted, compare_types);
}

bool mr_pg_catalog_type(const struct mr_pg_catalog *catalog, uint32_t oid, struct mr_pg_type *out)
{
    bool array = false;
    for (int depth = 0; depth < DOMAIN_DEPTH_MAX; depth++) {
        if (mr_pg_type_builtin(oid, out)) {
            if (array && out->array) /* an array of a domain over an array: no flat elements */
                *out = (struct mr_pg_type){MR_PG_OPAQUE, false};
            out->array |= array;
            return true;
        }
        if (oid < MR_PG_FIRST_USER_OID)
            return true; /* built in, and opaque here: nothing more can be learnt */
        const struct mr_pg_catalog_type *row = find_type(catalog, oid);
        if (!row)
            return false;
        if (row->variety == 'e' || row->variety == 't') {
            *out = (struct mr_pg_type){MR_PG_TEXT, array};
            return true;
        }
        if (row->variety != 'd' && (row->variety != 'A' || array))
            return true;
        array |= row->variety == 'A';
        oid = row->of;
    }
    return true;
}

const struct mr_pg_catalog_key *mr_pg_catalog_keys(const struct mr_pg_catalog *catalog,
                                                   uint32_t relation, size_t *count)
{
    struct mr_pg_catalog_key wanted = {.relation = relation};
    const struct mr_pg_catalog_key *found =
        catalog->key_count == 0
            ? NULL
            : bsearch(&wanted, catalog->keys, catalog->key_count, sizeof wanted, compare_keys);
    *count = 0;
    if (!found)
        return NULL;
    const struct mr_pg_catalog_key *end = catalog->keys + catalog->key_count;
    while (found > catalog->keys && found[-1].relation == relation)
        found--;
    while (found + *count < end && found[*count].relation == relation)
        ++*count;
    return found;
}

bool mr_pg_catalog_ask(struct mr_pg_catalog *catalog, enum mr_pg_object object, uint32_t oid,
                       uint64_t form)
{
    uint64_t wanted = ((uint64_t)object << 32 | oid) ^ form;
    for (size_t i = 0; i < catalog->asked_count; i++)
        if (catalog->asked[i] == wanted)
            return false;
    void *items = catalog->asked;
    if (!grow(&items, catalog->asked_count, &catalog->asked_capacity, sizeof wanted))
        return false;
    catalog->asked = items;
    catalog->asked[catalog->asked_count++] = wanted;
    return true;
}
