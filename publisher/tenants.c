#include <stdlib.h>

#include "common/doc_hash.h"
#include "publisher/subscriptions.h"

enum { TENANT_BUCKETS = 1024 };

bool mr_tenants_init(struct mr_subscriptions *table)
{
    table->tenant_buckets = calloc(TENANT_BUCKETS, sizeof(struct mr_tenant *));
    return table->tenant_buckets != NULL;
}

void mr_tenants_fini(struct mr_subscriptions *table)
{
    if (table->tenant_buckets)
        for (uint32_t i = 0; i < TENANT_BUCKETS; i++)
            MR_ASSERT(!table->tenant_buckets[i]);
    free(table->tenant_buckets);
}

static struct mr_tenant **find(const struct mr_subscriptions *table, struct mr_str database)
{
    uint64_t hash = mr_doc_hash(database, MR_STR(""), MR_STR(""));
    struct mr_tenant **link = &table->tenant_buckets[hash % TENANT_BUCKETS];
    while (*link && !mr_str_equal((*link)->name, database))
        link = &(*link)->hash_next;
    return link;
}

uint32_t mr_tenant_count(const struct mr_subscriptions *table, struct mr_str database)
{
    const struct mr_tenant *tenant = *find(table, database);
    return tenant ? tenant->subscription_count : 0;
}

enum mr_rc mr_tenant_join(struct mr_subscriptions *table, struct mr_subscription *s,
                          struct mr_str database, struct mr_err *err)
{
    MR_ASSERT(!s->tenant);
    struct mr_tenant **link = find(table, database);
    if (!*link) {
        struct mr_tenant *tenant = malloc(sizeof *tenant + database.len);
        if (!tenant)
            return mr_reject(err, MR_RETRY, "out of memory, try again");
        char *name = (char *)(tenant + 1);
        if (database.len > 0)
            memcpy(name, database.data, database.len);
        *tenant = (struct mr_tenant){.name = {name, database.len}};
        *link = tenant;
    }
    s->tenant = *link;
    s->tenant->subscription_count++;
    return MR_OK;
}

void mr_tenant_leave(struct mr_subscriptions *table, struct mr_subscription *s)
{
    if (!s->tenant)
        return;
    MR_ASSERT(s->tenant->subscription_count > 0);
    if (--s->tenant->subscription_count == 0) {
        struct mr_tenant **link = find(table, s->tenant->name);
        struct mr_tenant *tenant = *link;
        *link = tenant->hash_next;
        free(tenant);
    }
    s->tenant = NULL;
}
