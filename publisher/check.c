#include <inttypes.h>

#include "proto/match.h"
#include "publisher/pump_state.h"

static enum mr_rc check_len(const struct mr_pump *pump, struct mr_str text, const char *what,
                            struct mr_err *err)
{
    uint64_t max = pump->config->publisher_value_bytes_max;
    if (text.len <= max)
        return MR_OK;
    return mr_reject(err, MR_USAGE,
                     "%s: %zu bytes, at most %" PRIu64 " (publisher.value_bytes_max)", what,
                     text.len, max);
}

/* Subscriptions of whoever this gateway is: those of its stream and those of its name. */
static uint64_t held(const struct mr_gateway *gateway)
{
    uint64_t count = gateway->subscription_count - gateway->internal_count;
    return gateway->bound ? count + gateway->bound->subscription_count : count;
}

static enum mr_rc check_held(const struct mr_config *config, const struct mr_gateway *gateway,
                             enum mr_control_code *code, struct mr_err *err)
{
    if (held(gateway) < config->publisher_subscriptions_per_gateway_max)
        return MR_OK;
    *code = MR_CONTROL_GATEWAY_QUOTA_EXCEEDED;
    return mr_reject(err, MR_USAGE,
                     "too many subscriptions of this gateway, at most %" PRIu64
                     " (publisher.subscriptions_per_gateway_max)",
                     config->publisher_subscriptions_per_gateway_max);
}

enum mr_rc mr_pump_check_quotas(const struct mr_pump *pump, const struct mr_gateway *gateway,
                                struct mr_str database, enum mr_control_code *code,
                                struct mr_err *err)
{
    const struct mr_config *config = pump->config;
    if (gateway && gateway->over_limit) {
        *code = MR_CONTROL_GATEWAY_QUOTA_EXCEEDED;
        return mr_reject(err, MR_USAGE,
                         "too many gateways, at most %" PRIu64 " (publisher.gateways_max)",
                         config->publisher_gateways_max);
    }
    if (gateway && gateway->own) /* nobody may take the places of what is to miss nothing */
        return check_held(config, gateway, code, err);
    if (pump->table.count - pump->table.internal_count >= config->publisher_subscriptions_max) {
        *code = MR_CONTROL_GLOBAL_QUOTA_EXCEEDED;
        return mr_reject(err, MR_USAGE,
                         "too many subscriptions, at most %" PRIu64
                         " (publisher.subscriptions_max)",
                         config->publisher_subscriptions_max);
    }
    enum mr_rc rc = gateway ? check_held(config, gateway, code, err) : MR_OK;
    if (rc != MR_OK)
        return rc;
    if (mr_tenant_count(&pump->table, database) >=
        config->publisher_subscriptions_per_database_max) {
        *code = MR_CONTROL_TENANT_QUOTA_EXCEEDED;
        return mr_reject(err, MR_USAGE,
                         "too many subscriptions of this database, at most %" PRIu64
                         " (publisher.subscriptions_per_database_max)",
                         config->publisher_subscriptions_per_database_max);
    }
    return MR_OK;
}

static enum mr_rc check_filter(const struct mr_pump *pump, const struct mr_predicate *predicate,
                               struct mr_err *err)
{
    enum mr_rc rc = check_len(pump, predicate->path, "field", err);
    if (rc == MR_OK && predicate->value.kind == MR_CONST_STRING)
        rc = check_len(pump, predicate->value.string, "value", err);
    if (rc != MR_OK || predicate->value.kind != MR_CONST_LIST)
        return rc;
    /* A list is one value: its strings count in sum, and each item as much as a number. */
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < predicate->value.list.count; i++) {
        const struct mr_const *item = &predicate->value.list.items[i];
        bytes += item->kind == MR_CONST_STRING ? item->string.len : sizeof(int64_t);
    }
    return check_len(pump, (struct mr_str){"", bytes}, "value", err);
}

static enum mr_rc check_filters(const struct mr_pump *pump, const struct mr_request *request,
                                struct mr_err *err)
{
    if (request->predicate_count > pump->config->publisher_filters_max)
        return mr_reject(err, MR_USAGE,
                         "%" PRIu32 " filters, at most %" PRIu64 " (publisher.filters_max)",
                         request->predicate_count, pump->config->publisher_filters_max);
    for (uint32_t i = 0; i < request->predicate_count; i++) {
        enum mr_rc rc = check_filter(pump, &request->predicates[i], err);
        if (rc != MR_OK)
            return mr_err_prefix(err, "filters[%" PRIu32 "]", i);
    }
    return MR_OK;
}

enum mr_rc mr_pump_check(const struct mr_pump *pump, const struct mr_request *request,
                         enum mr_control_code *code, struct mr_err *err)
{
    *code = MR_CONTROL_INVALID_FILTER;
    if (request->problem.len > 0)
        return mr_reject(err, MR_USAGE, "%.*s", (int)request->problem.len, request->problem.data);
    if (!mr_scope_allows(request->scope, request->database, request->collection)) {
        *code = MR_CONTROL_FORBIDDEN;
        return mr_reject(err, MR_USAGE, "the token does not reach this database and collection");
    }
    if (request->internal) /* of a durable one, which was accepted when it came */
        return MR_OK;
    *code = MR_CONTROL_INVALID_REQUEST;
    enum mr_rc rc = check_len(pump, request->subscription_id, "subscription_id", err);
    if (rc == MR_OK)
        rc = check_len(pump, request->database, "database", err);
    if (rc == MR_OK)
        rc = check_len(pump, request->collection, "collection", err);
    if (rc != MR_OK)
        return rc;
    *code = MR_CONTROL_INVALID_FILTER;
    return check_filters(pump, request, err);
}

bool mr_durable_reaches(const struct mr_scope *scope, const struct mr_subscription *s)
{
    struct mr_program program;
    const struct mr_subscribe_head *head = s->record;
    if (!scope)
        return true;
    if (mr_program_load(head + 1, s->record_len - sizeof *head, &program) != MR_OK)
        return false;
    return mr_scope_allows(scope, program.database, program.collection) &&
           (s->gateway->name.len == 0 || mr_scope_speaks_for(scope, s->gateway->name));
}
