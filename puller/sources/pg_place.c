#include "puller/sources/pg_place.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { OID_INT8 = 20, OID_INT2 = 21, OID_INT4 = 23, DIGITS_MAX = 24 };

bool mr_pg_place_whole(const struct mr_pg_relation *relation)
{
    return relation->identity == 'f' && relation->key_count == relation->column_count;
}

bool mr_pg_place_numeric(const struct mr_pg_relation *relation)
{
    if (relation->key_count != 1 || mr_pg_place_whole(relation))
        return false;
    for (uint32_t i = 0; i < relation->column_count; i++)
        if (relation->columns[i].key)
            return relation->columns[i].type_oid == OID_INT8 ||
                   relation->columns[i].type_oid == OID_INT2 ||
                   relation->columns[i].type_oid == OID_INT4;
    return false;
}

/* What is no number was the id of a row when the table had another key. Rows are other documents
 * since: all of them are behind it. */
static long long number_of(struct mr_str id)
{
    char digits[DIGITS_MAX] = "", *end;
    memcpy(digits, id.data, id.len < sizeof digits ? id.len : sizeof digits - 1);
    long long number = strtoll(digits, &end, 10);
    bool whole = id.len < sizeof digits && end != digits && *end == '\0';
    return whole ? number : LLONG_MIN;
}

long long mr_pg_place_number(const struct mr_pg_place *place)
{
    return number_of((struct mr_str){place->id, place->id_len});
}

/* The part of an id that decides about its order. All that is longer comes behind it. */
static struct mr_str ordered_part(struct mr_str id)
{
    return (struct mr_str){id.data,
                           id.len < MR_PG_PLACE_ORDER_BYTES ? id.len : MR_PG_PLACE_ORDER_BYTES};
}

static int order_of(struct mr_str a, struct mr_str b)
{
    int order = mr_str_compare(ordered_part(a), ordered_part(b));
    if (order != 0)
        return order;
    return (a.len > MR_PG_PLACE_ORDER_BYTES) - (b.len > MR_PG_PLACE_ORDER_BYTES);
}

bool mr_pg_place_alike(const struct mr_pg_place *place, const struct mr_pg_relation *relation,
                       struct mr_str id)
{
    return (place->state == MR_PG_PLACE_ROW || place->state == MR_PG_PLACE_ALIKE) &&
           place->id_len > MR_PG_PLACE_ORDER_BYTES &&
           mr_str_equal(relation->collection,
                        (struct mr_str){place->collection, place->collection_len}) &&
           order_of(id, (struct mr_str){place->id, place->id_len}) == 0;
}

bool mr_pg_place_ahead(const struct mr_pg_place *place, const struct mr_pg_relation *relation,
                       struct mr_str id)
{
    if (!place->running || relation->key_count == 0)
        return false;
    struct mr_str taken = {place->collection, place->collection_len};
    int order = mr_str_compare(relation->collection, taken);
    if (order != 0)
        return order > 0;
    if (place->state == MR_PG_PLACE_NONE || place->state == MR_PG_PLACE_TABLE)
        return place->state == MR_PG_PLACE_NONE;
    if (!id.data)
        return false;
    struct mr_str last = {place->id, place->id_len};
    if (mr_pg_place_numeric(relation))
        return number_of(id) > mr_pg_place_number(place);
    return order_of(id, last) > 0;
}

static void set_collection(struct mr_pg_place *place, struct mr_str collection)
{
    MR_ASSERT(collection.len <= sizeof place->collection);
    memcpy(place->collection, collection.data, collection.len);
    place->collection_len = (uint16_t)collection.len;
}

void mr_pg_place_pass(struct mr_pg_place *place, struct mr_str collection, struct mr_str id)
{
    MR_ASSERT(id.len <= sizeof place->id);
    set_collection(place, collection);
    memcpy(place->id, id.data, id.len);
    place->id_len = (uint16_t)id.len;
    place->state = MR_PG_PLACE_ROW;
}

void mr_pg_place_pass_table(struct mr_pg_place *place, struct mr_str collection)
{
    set_collection(place, collection);
    place->id_len = 0;
    place->state = MR_PG_PLACE_TABLE;
}
