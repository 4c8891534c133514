#include "publisher/subscriptions.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/doc_hash.h"

enum { GATEWAY_BUCKETS = 1024, BUCKETS_MIN = 1024, NAME_MAX_BYTES = 40 };

/* Durable ones hang by their id alone, which is theirs whatever the gateway. */
static uint32_t bucket_of(const struct mr_subscriptions *table, mr_gateway_id gateway,
                          struct mr_str client_id)
{
    if (gateway & MR_GATEWAY_NAMED)
        gateway = MR_GATEWAY_NAMED;
    struct mr_str id = {(const char *)&gateway, sizeof gateway};
    return (uint32_t)mr_doc_hash(id, client_id, MR_STR("")) & (table->bucket_count - 1);
}

enum mr_rc mr_subscriptions_init(struct mr_subscriptions *table, uint32_t use_base,
                                 struct mr_err *err)
{
    *table = (struct mr_subscriptions){.use_base = use_base, .bucket_count = BUCKETS_MIN};
    TAILQ_INIT(&table->gateways);
    table->chunks = calloc(MR_SLOTS_MAX / MR_CHUNK_SLOTS, sizeof(struct mr_subscription *));
    table->buckets = calloc(table->bucket_count, sizeof *table->buckets);
    table->gateway_buckets = calloc(GATEWAY_BUCKETS, sizeof(struct mr_gateway *));
    table->name_buckets = calloc(GATEWAY_BUCKETS, sizeof(struct mr_gateway *));
    if (!table->chunks || !table->buckets || !table->gateway_buckets || !table->name_buckets ||
        !mr_tenants_init(table)) {
        mr_subscriptions_fini(table);
        return mr_fail(err, MR_FATAL, "make the table of subscriptions");
    }
    return MR_OK;
}

void mr_subscriptions_fini(struct mr_subscriptions *table)
{
    while (!TAILQ_EMPTY(&table->gateways)) {
        struct mr_gateway *gateway = TAILQ_FIRST(&table->gateways);
        while (!TAILQ_EMPTY(&gateway->subscriptions))
            mr_subscription_remove(table, TAILQ_FIRST(&gateway->subscriptions));
        if (gateway->bound)
            gateway->bound->bound = NULL;
        gateway->bound = NULL;
        mr_gateway_remove(table, gateway);
    }
    mr_tenants_fini(table);
    if (table->chunks)
        for (uint32_t i = 0; i < MR_SLOTS_MAX / MR_CHUNK_SLOTS; i++)
            free(table->chunks[i]);
    free(table->chunks);
    free(table->buckets);
    free(table->gateway_buckets);
    free(table->name_buckets);
    *table = (struct mr_subscriptions){0};
}

enum mr_rc mr_gateway_add(struct mr_subscriptions *table, mr_gateway_id id, struct mr_gateway **out,
                          struct mr_err *err)
{
    MR_ASSERT(!mr_gateway_find(table, id));
    struct mr_gateway *gateway = calloc(1, sizeof *gateway);
    if (!gateway)
        return mr_fail(err, MR_FATAL, "add gateway %" PRIu64, id);
    gateway->id = gateway->stream = id;
    TAILQ_INIT(&gateway->subscriptions);
    TAILQ_INIT(&gateway->catchups);
    struct mr_gateway **bucket = &table->gateway_buckets[id % GATEWAY_BUCKETS];
    gateway->hash_next = *bucket;
    *bucket = gateway;
    TAILQ_INSERT_TAIL(&table->gateways, gateway, all);
    table->gateway_count += (id & MR_GATEWAY_NAMED) == 0;
    *out = gateway;
    return MR_OK;
}

void mr_gateway_set_own(struct mr_subscriptions *table, struct mr_gateway *gateway)
{
    MR_ASSERT(!gateway->own && gateway->name.len == 0);
    gateway->own = true;
    table->gateway_count--;
}

static struct mr_gateway **name_bucket(const struct mr_subscriptions *table, struct mr_str name)
{
    return &table->name_buckets[mr_doc_hash(name, MR_STR(""), MR_STR("")) % GATEWAY_BUCKETS];
}

enum mr_rc mr_gateway_add_named(struct mr_subscriptions *table, struct mr_str name,
                                struct mr_gateway **out, struct mr_err *err)
{
    MR_ASSERT(name.len > 0 && !mr_gateway_named(table, name));
    char *copy = malloc(name.len);
    if (!copy)
        return mr_fail(err, MR_FATAL, "add a gateway");
    struct mr_gateway *gateway;
    enum mr_rc rc = mr_gateway_add(table, MR_GATEWAY_NAMED | ++table->next_name_id, &gateway, err);
    if (rc != MR_OK) {
        free(copy);
        return rc;
    }
    memcpy(copy, name.data, name.len);
    gateway->name = (struct mr_str){copy, name.len};
    gateway->stream = 0;
    struct mr_gateway **bucket = name_bucket(table, name);
    gateway->name_next = *bucket;
    *bucket = gateway;
    *out = gateway;
    return MR_OK;
}

struct mr_gateway *mr_gateway_named(const struct mr_subscriptions *table, struct mr_str name)
{
    struct mr_gateway *gateway = *name_bucket(table, name);
    while (gateway && !mr_str_equal(gateway->name, name))
        gateway = gateway->name_next;
    return gateway;
}

static void unlink_name(struct mr_subscriptions *table, struct mr_gateway *gateway)
{
    struct mr_gateway **link = name_bucket(table, gateway->name);
    while (*link != gateway)
        link = &(*link)->name_next;
    *link = gateway->name_next;
    free((char *)(uintptr_t)gateway->name.data);
}

struct mr_gateway *mr_gateway_find(const struct mr_subscriptions *table, mr_gateway_id id)
{
    struct mr_gateway *gateway = table->gateway_buckets[id % GATEWAY_BUCKETS];
    while (gateway && gateway->id != id)
        gateway = gateway->hash_next;
    return gateway;
}

void mr_gateway_remove(struct mr_subscriptions *table, struct mr_gateway *gateway)
{
    MR_ASSERT_SLOW(TAILQ_EMPTY(&gateway->catchups));
    MR_ASSERT(gateway->subscription_count == 0 && gateway->hit_count == 0 && !gateway->bound);
    if (gateway->name.len > 0)
        unlink_name(table, gateway);
    struct mr_gateway **link = &table->gateway_buckets[gateway->id % GATEWAY_BUCKETS];
    while (*link != gateway)
        link = &(*link)->hash_next;
    *link = gateway->hash_next;
    TAILQ_REMOVE(&table->gateways, gateway, all);
    table->gateway_count -= (gateway->id & MR_GATEWAY_NAMED) == 0 && !gateway->own;
    free(gateway->hits);
    free(gateway);
}

static void link_bucket(struct mr_subscriptions *table, struct mr_subscription *s)
{
    uint32_t *bucket = &table->buckets[bucket_of(table, s->gateway->id, s->client_id)];
    s->hash_next = *bucket;
    *bucket = s->slot + 1;
}

/* Twice as many buckets. Without memory for them the chains get longer, that is all. */
static void grow_buckets(struct mr_subscriptions *table)
{
    uint32_t *buckets = calloc((size_t)table->bucket_count * 2, sizeof *buckets);
    if (!buckets)
        return;
    free(table->buckets);
    table->buckets = buckets;
    table->bucket_count *= 2;
    for (uint32_t slot = 0; slot < table->slot_count; slot++) {
        struct mr_subscription *s = mr_subscription_at(table, slot);
        if (s->state != MR_SUB_FREE)
            link_bucket(table, s);
    }
}

static struct mr_subscription *take_slot(struct mr_subscriptions *table)
{
    if (table->free_first != 0) {
        struct mr_subscription *s = mr_subscription_at(table, table->free_first - 1);
        table->free_first = s->hash_next;
        if (table->free_first == 0)
            table->free_last = 0;
        return s;
    }
    if (table->slot_count == MR_SLOTS_MAX)
        return NULL;
    struct mr_subscription **chunk = &table->chunks[table->slot_count / MR_CHUNK_SLOTS];
    if (!*chunk)
        *chunk = calloc(MR_CHUNK_SLOTS, sizeof **chunk);
    if (!*chunk)
        return NULL;
    struct mr_subscription *s = &(*chunk)[table->slot_count % MR_CHUNK_SLOTS];
    s->slot = table->slot_count++;
    s->use = table->use_base;
    return s;
}

static void give_slot(struct mr_subscriptions *table, struct mr_subscription *s)
{
    uint32_t slot = s->slot, use = s->use + 1;
    *s = (struct mr_subscription){.slot = slot, .use = use};
    if (table->free_last != 0)
        mr_subscription_at(table, table->free_last - 1)->hash_next = slot + 1;
    else
        table->free_first = slot + 1;
    table->free_last = slot + 1;
}

struct mr_subscription *mr_subscription_find(const struct mr_subscriptions *table,
                                             const struct mr_gateway *gateway,
                                             struct mr_str client_id)
{
    uint32_t link = table->buckets[bucket_of(table, gateway->id, client_id)];
    while (link != 0) {
        struct mr_subscription *s = mr_subscription_at(table, link - 1);
        if (s->gateway == gateway && mr_str_equal(s->client_id, client_id))
            return s;
        link = s->hash_next;
    }
    return NULL;
}

struct mr_subscription *mr_subscription_find_durable(const struct mr_subscriptions *table,
                                                     struct mr_str id)
{
    uint32_t link = table->buckets[bucket_of(table, MR_GATEWAY_NAMED, id)];
    while (link != 0) {
        struct mr_subscription *s = mr_subscription_at(table, link - 1);
        if (s->lease && mr_str_equal(s->client_id, id))
            return s;
        link = s->hash_next;
    }
    return NULL;
}

/* A name for who gave none; a client may have chosen the very same one before. */
static struct mr_str make_name(const struct mr_subscriptions *table,
                               const struct mr_gateway *gateway, const struct mr_subscription *s,
                               char out[NAME_MAX_BYTES])
{
    for (uint32_t attempt = 0;; attempt++) {
        int len = snprintf(out, NAME_MAX_BYTES, "auto-%08" PRIx32 "%08" PRIx32 "-%" PRIu32, s->use,
                           s->slot, attempt);
        struct mr_str name = {out, (size_t)len};
        if (!mr_subscription_find(table, gateway, name))
            return name;
    }
}

enum mr_rc mr_subscription_add(struct mr_subscriptions *table, struct mr_gateway *gateway,
                               struct mr_str client_id, struct mr_subscription **out)
{
    if (client_id.len > 0 && mr_subscription_find(table, gateway, client_id))
        return MR_USAGE;
    struct mr_subscription *s = take_slot(table);
    if (!s)
        return MR_FULL;
    char made[NAME_MAX_BYTES];
    if (client_id.len == 0)
        client_id = make_name(table, gateway, s, made);
    char *name = malloc(client_id.len);
    if (!name) {
        give_slot(table, s);
        return MR_FULL;
    }
    memcpy(name, client_id.data, client_id.len);
    s->client_id = (struct mr_str){name, client_id.len};
    s->gateway = gateway;
    s->order = table->next_order++;
    s->state = MR_SUB_ANNOUNCED;
    s->active_after = UINT64_MAX;
    link_bucket(table, s);
    TAILQ_INSERT_TAIL(&gateway->subscriptions, s, of_gateway);
    gateway->subscription_count++;
    if (++table->count > table->bucket_count)
        grow_buckets(table);
    *out = s;
    return MR_OK;
}

void mr_subscription_set_internal(struct mr_subscriptions *table, struct mr_subscription *s)
{
    MR_ASSERT(!s->internal && !s->tenant);
    s->internal = true;
    s->gateway->internal_count++;
    table->internal_count++;
}

static void unlink_bucket(struct mr_subscriptions *table, struct mr_subscription *s)
{
    uint32_t *link = &table->buckets[bucket_of(table, s->gateway->id, s->client_id)];
    while (*link != s->slot + 1)
        link = &mr_subscription_at(table, *link - 1)->hash_next;
    *link = s->hash_next;
}

void mr_subscription_swap_ids(struct mr_subscriptions *table, struct mr_subscription *a,
                              struct mr_subscription *b)
{
    MR_ASSERT(a->gateway == b->gateway);
    unlink_bucket(table, a);
    unlink_bucket(table, b);
    struct mr_str id = a->client_id;
    a->client_id = b->client_id;
    b->client_id = id;
    link_bucket(table, a);
    link_bucket(table, b);
}

void mr_subscription_remove(struct mr_subscriptions *table, struct mr_subscription *s)
{
    MR_ASSERT(s->state != MR_SUB_FREE && table->count > 0);
    unlink_bucket(table, s);
    mr_tenant_leave(table, s);
    TAILQ_REMOVE(&s->gateway->subscriptions, s, of_gateway);
    s->gateway->subscription_count--;
    s->gateway->internal_count -= s->internal;
    table->internal_count -= s->internal;
    free((char *)(uintptr_t)s->client_id.data);
    free(s->record);
    if (s->lease)
        free(s->lease->record);
    free(s->lease);
    give_slot(table, s);
    table->count--;
}
