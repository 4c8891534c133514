#include "publisher/sinks/jetstream_durables.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/log.h"
#include "jetstream/subject.h"
#include "proto/json.h"
#include "publisher/sinks/jetstream_file.h"
#include "publisher/spec.h"

static void destroy(struct mr_js_durable *d)
{
    if (!d)
        return;
    free(d->subject);
    free((char *)(uintptr_t)d->end.data);
    free((char *)(uintptr_t)d->spec.data);
    free(d);
}

void mr_js_durables_fini(struct mr_js_durables *all)
{
    for (uint32_t i = 0; i < all->count; i++)
        destroy(all->items[i]);
    free(all->items);
    free(all->free);
    free(all->stored);
    mr_wire_arena_fini(&all->arena);
}

static enum mr_rc make_subject(const struct mr_js_durables *all, struct mr_js_durable *d,
                               const struct mr_sink_durable *from, struct mr_err *err)
{
    char text[MR_JS_SUBJECT_MAX];
    size_t len = 0;
    const char *first = all->config->jetstream_subject.text;
    bool ok = mr_js_text_append(text, sizeof text, &len, mr_str_from(first)) &&
              mr_js_text_append(text, sizeof text, &len, MR_STR(".")) &&
              mr_js_token_append(text, sizeof text, &len, from->gateway) &&
              mr_js_text_append(text, sizeof text, &len, MR_STR(".")) &&
              mr_js_token_append(text, sizeof text, &len, from->subscription_id);
    if (!ok)
        return mr_reject(err, MR_USAGE, "jetstream.subject: a subject of over %d bytes",
                         MR_JS_SUBJECT_MAX - 1);
    d->subject = strdup(text);
    snprintf(d->id_end, sizeof d->id_end, "@%016" PRIx64, mr_js_hash((struct mr_str){text, len}));
    return d->subject ? MR_OK : mr_fail(err, MR_FATAL, "make subject %s", text);
}

static enum mr_rc make(const struct mr_js_durables *all, const struct mr_sink_durable *from,
                       struct mr_js_durable **out, struct mr_err *err)
{
    struct mr_js_durable *d = calloc(1, sizeof *d);
    char *spec = malloc(from->spec.len ? from->spec.len : 1);
    struct mr_json json = {0};
    mr_json_put_raw(&json, MR_STR(",\"gatewayId\":"));
    mr_json_put_string(&json, from->gateway);
    mr_json_put_raw(&json, MR_STR(",\"subscriptionId\":"));
    mr_json_put_string(&json, from->subscription_id);
    mr_json_put_raw(&json, MR_STR("}"));
    if (!d || !spec || json.failed) {
        mr_json_fini(&json);
        free(spec);
        free(d);
        return mr_fail(err, MR_FATAL, "prepare a subscription");
    }
    memcpy(spec, from->spec.data, from->spec.len);
    d->spec = (struct mr_str){spec, from->spec.len};
    d->end = (struct mr_str){json.data, json.len}; /* now ours */
    d->after = from->after;
    d->last = UINT64_MAX;
    enum mr_rc rc = make_subject(all, d, from, err);
    if (rc == MR_OK)
        *out = d;
    else
        destroy(d);
    return rc;
}

static bool has_room(void **items, uint32_t *max, uint32_t count, size_t item_bytes)
{
    if (count < *max)
        return true;
    uint32_t grown = *max ? *max * 2 : 64;
    void *bigger = realloc(*items, grown * item_bytes);
    if (!bigger)
        return false;
    *items = bigger;
    *max = grown;
    return true;
}

/* Every index can go onto the free list, so room for it is made here. */
static enum mr_rc give_index(struct mr_js_durables *all, struct mr_js_durable *d,
                             struct mr_err *err)
{
    if (all->free_count > 0) {
        d->index = all->free[--all->free_count];
        all->items[d->index] = d;
        return MR_OK;
    }
    void *items = all->items, *free_ones = all->free;
    bool ok = has_room(&items, &all->max, all->count, sizeof *all->items);
    all->items = items;
    ok = ok && has_room(&free_ones, &all->free_max, all->count, sizeof *all->free);
    all->free = free_ones;
    if (!ok)
        return mr_fail(err, MR_FATAL, "prepare a subscription");
    d->index = all->count++;
    all->items[d->index] = d;
    return MR_OK;
}

static struct mr_js_durable_queue *list_of(struct mr_js_durables *all,
                                           enum mr_js_durable_state state)
{
    MR_ASSERT(state != MR_JS_FREE && state != MR_JS_TOLD);
    return state == MR_JS_WAITING   ? &all->waiting
           : state == MR_JS_REFUSED ? &all->refused
                                    : &all->todo;
}

static void queue(struct mr_js_durables *all, struct mr_js_durable *d,
                  enum mr_js_durable_state state)
{
    d->state = state;
    TAILQ_INSERT_TAIL(list_of(all, state), d, todo);
    if (state != MR_JS_WAITING)
        return;
    all->waiting_changed = true;
    if (d->after.sequence < all->waiting_first)
        all->waiting_first = d->after.sequence;
}

static void unqueue(struct mr_js_durables *all, struct mr_js_durable *d)
{
    TAILQ_REMOVE(list_of(all, d->state), d, todo);
    all->waiting_changed |= d->state == MR_JS_WAITING;
}

static void forget(struct mr_js_durables *all, struct mr_js_durable *d)
{
    all->items[d->index] = NULL;
    all->free[all->free_count++] = d->index;
    destroy(d);
}

/* The file. */

static enum mr_rc add_wanted(struct mr_js_durables *all, const struct mr_js_wanted *wanted,
                             struct mr_err *err)
{
    const struct mr_request request = {.subscription_id = wanted->subscription_id,
                                       .database = wanted->database,
                                       .collection = wanted->collection,
                                       .predicates = wanted->predicates,
                                       .predicate_count = wanted->predicate_count,
                                       .cel = wanted->cel};
    struct mr_js_durable *d;
    size_t len;
    void *spec = mr_spec_encode(&request, &len);
    if (!spec)
        return mr_fail(err, MR_FATAL, "prepare a subscription");
    const struct mr_sink_durable from = {.gateway = wanted->gateway_id,
                                         .subscription_id = wanted->subscription_id,
                                         .spec = {spec, len}};
    enum mr_rc rc = make(all, &from, &d, err);
    free(spec);
    if (rc == MR_OK) {
        rc = give_index(all, d, err);
        if (rc != MR_OK)
            destroy(d);
    }
    return rc;
}

static int by_subject(const void *a, const void *b)
{
    const struct mr_js_durable *const *left = a, *const *right = b;
    return strcmp((*left)->subject, (*right)->subject);
}

static enum mr_rc add_file(struct mr_js_durables *all, const char *path, struct mr_err *err)
{
    struct mr_js_wanted_list list = {0};
    enum mr_rc rc = mr_js_wanted_read(path, &list, err);
    for (uint32_t i = 0; rc == MR_OK && i < list.count; i++)
        rc = add_wanted(all, &list.items[i], err);
    mr_js_wanted_fini(&list);
    all->file_count = all->count;
    if (rc != MR_OK || all->count == 0)
        return rc;
    qsort(all->items, all->count, sizeof(struct mr_js_durable *), by_subject);
    for (uint32_t i = 0; i < all->count; i++) {
        all->items[i]->index = i;
        if (i > 0 && by_subject(&all->items[i - 1], &all->items[i]) == 0)
            return mr_reject(err, MR_USAGE, "%s: %s is there twice", path, all->items[i]->subject);
        queue(all, all->items[i], MR_JS_NEW); /* in the order of telling it again */
    }
    return MR_OK;
}

enum mr_rc mr_js_durables_init(struct mr_js_durables *all, const struct mr_config *config,
                               const char *path, struct mr_err *err)
{
    *all = (struct mr_js_durables){.config = config, .waiting_first = UINT64_MAX};
    TAILQ_INIT(&all->todo);
    TAILQ_INIT(&all->refused);
    TAILQ_INIT(&all->waiting);
    return path ? add_file(all, path, err) : MR_OK;
}

/* What the stream holds. */

void mr_js_durables_stored(struct mr_js_durables *all, const struct mr_js_stored *message,
                           uint64_t log_id)
{
    struct mr_marker marker;
    if (mr_marker_parse(mr_str_from(message->position), &marker, NULL) != MR_OK ||
        marker.log_id != log_id)
        return;
    if (all->stored_count == all->stored_max) {
        size_t max = all->stored_max ? all->stored_max * 2 : 256;
        struct mr_js_last *bigger = realloc(all->stored, max * sizeof *bigger);
        if (!bigger) { /* the window of message ids has to do */
            mr_log_warn("jetstream", "not_remembered", "subject=%s why=\"out of memory\"",
                        message->subject);
            return;
        }
        all->stored = bigger;
        all->stored_max = max;
    }
    all->stored[all->stored_count++] =
        (struct mr_js_last){mr_js_hash(mr_str_from(message->subject)), marker.sequence};
}

static int by_hash(const void *a, const void *b)
{
    const struct mr_js_last *left = a, *right = b;
    return (left->subject_hash > right->subject_hash) - (left->subject_hash < right->subject_hash);
}

void mr_js_durables_index(struct mr_js_durables *all)
{
    if (all->stored_count > 0)
        qsort(all->stored, all->stored_count, sizeof *all->stored, by_hash);
}

static uint64_t stored_through(const struct mr_js_durables *all, const char *subject)
{
    const struct mr_js_last key = {mr_js_hash(mr_str_from(subject)), 0};
    const struct mr_js_last *found =
        all->stored_count > 0
            ? bsearch(&key, all->stored, all->stored_count, sizeof *all->stored, by_hash)
            : NULL;
    return found ? found->sequence : 0;
}

/* Durable subscriptions. */

static struct mr_js_durable *of_handle(const struct mr_js_durables *all, uint32_t handle)
{
    MR_ASSERT(handle > 0 && handle <= all->count && all->items[handle - 1]);
    return all->items[handle - 1];
}

static bool in_file(const struct mr_js_durables *all, const struct mr_js_durable *d)
{
    return all->file_count > 0 &&
           bsearch(&d, all->items, all->file_count, sizeof(struct mr_js_durable *), by_subject);
}

enum mr_rc mr_js_durables_begin(struct mr_js_durables *all, const struct mr_sink_durable *durable,
                                uint32_t *handle, struct mr_err *err)
{
    struct mr_js_durable *d;
    enum mr_rc rc = make(all, durable, &d, err);
    if (rc == MR_OK && in_file(all, d))
        rc = mr_reject(err, MR_USAGE, "%s: %s is there already",
                       all->config->jetstream_subscriptions.text, d->subject);
    else if (rc == MR_OK)
        rc = give_index(all, d, err);
    else
        return rc;
    if (rc != MR_OK) {
        destroy(d);
        return rc;
    }
    d->internal = true;
    if (durable->replaces != 0) {
        struct mr_js_durable *old = of_handle(all, durable->replaces);
        old->last = durable->after.sequence;
        old->next = d;
        d->previous = old;
    }
    queue(all, d, d->previous ? MR_JS_WAITING : MR_JS_NEW);
    *handle = d->index + 1;
    return MR_OK;
}

/* Those that it took the place of, and have not ended yet, end with it. */
static void end(struct mr_js_durables *all, struct mr_js_durable *d)
{
    if (d->previous) {
        d->previous->next = NULL;
        end(all, d->previous);
    }
    d->previous = NULL;
    d->last = 0;
    if (d->state == MR_JS_TOLD) {
        queue(all, d, MR_JS_ENDED);
        return;
    }
    unqueue(all, d);
    forget(all, d);
}

void mr_js_durables_end(struct mr_js_durables *all, uint32_t handle)
{
    end(all, of_handle(all, handle));
}

void mr_js_durables_again(struct mr_js_durables *all)
{
    struct mr_js_durable *d, *next;
    for (d = TAILQ_FIRST(&all->todo); d; d = next) {
        next = TAILQ_NEXT(d, todo);
        if (d->state != MR_JS_ENDED)
            continue;
        unqueue(all, d);
        forget(all, d);
    }
    for (uint32_t i = 0; i < all->count; i++)
        if (all->items[i])
            all->items[i]->confirmed = false;
    all->next_again = 0;
}

static enum mr_rc tell_subscribe(struct mr_js_durables *all, const struct mr_js_durable *d,
                                 struct mr_marker handed, struct mr_request *out)
{
    const struct mr_wire_limits limits = mr_spec_limits();
    struct mr_err err = {0};
    struct mr_marker after = handed;
    if (d->after.log_id == handed.log_id && d->after.sequence > handed.sequence)
        after.sequence = d->after.sequence;
    mr_wire_arena_fini(&all->arena);
    all->arena = (struct mr_wire_arena){0};
    enum mr_rc rc = mr_wire_decode_subscribe(d->spec, &limits, &all->arena, out, &err);
    if (rc != MR_OK) { /* it was encoded here: memory is short */
        mr_log_warn("jetstream", "not_subscribed", "subject=%s why=\"%s\"", d->subject, err.text);
        return MR_AGAIN;
    }
    size_t len = mr_marker_format(after, all->after);
    all->told_index = d->index;
    out->kind = MR_REQUEST_SUBSCRIBE;
    out->subscription_id = (struct mr_str){(const char *)&all->told_index, sizeof all->told_index};
    out->after = (struct mr_str){all->after, len};
    out->internal = d->internal;
    return MR_OK;
}

/* Whoever waited for this place takes it: the one before it ends. They wait in any order: a store
 * tells of them by their ids. */
static void take_over(struct mr_js_durables *all, struct mr_marker handed)
{
    if (!all->waiting_changed && handed.sequence < all->waiting_first)
        return;
    struct mr_js_durable *d, *next;
    uint64_t first = UINT64_MAX;
    for (d = TAILQ_FIRST(&all->waiting); d; d = next) {
        next = TAILQ_NEXT(d, todo);
        if (d->after.log_id == handed.log_id && d->after.sequence > handed.sequence) {
            first = d->after.sequence < first ? d->after.sequence : first;
            continue;
        }
        struct mr_js_durable *old = d->previous;
        unqueue(all, d);
        d->previous = old->next = NULL;
        end(all, old);
        queue(all, d, MR_JS_NEW);
    }
    all->waiting_first = first;
    all->waiting_changed = false;
}

enum mr_rc mr_js_durables_poll(struct mr_js_durables *all, struct mr_marker handed,
                               struct mr_request *out)
{
    if (all->ended)
        forget(all, all->ended);
    all->ended = NULL;
    for (; all->next_again < all->count; all->next_again++) {
        const struct mr_js_durable *d = all->items[all->next_again];
        if (!d || d->state != MR_JS_TOLD)
            continue;
        enum mr_rc rc = tell_subscribe(all, d, handed, out);
        all->next_again += rc == MR_OK;
        return rc;
    }
    take_over(all, handed);
    struct mr_js_durable *d = TAILQ_FIRST(&all->todo);
    if (!d)
        return MR_AGAIN;
    if (d->state == MR_JS_ENDED) {
        all->ended = d;
        all->told_index = d->index;
        *out = (struct mr_request){
            .kind = MR_REQUEST_UNSUBSCRIBE,
            .subscription_id = {(const char *)&all->told_index, sizeof all->told_index}};
    } else {
        uint64_t stored = stored_through(all, d->subject);
        d->through = stored > d->through ? stored : d->through; /* it may have been told before */
        if (tell_subscribe(all, d, handed, out) != MR_OK)
            return MR_AGAIN;
        d->state = MR_JS_TOLD;
    }
    TAILQ_REMOVE(&all->todo, d, todo);
    return MR_OK;
}

void mr_js_durables_refused(struct mr_js_durables *all, struct mr_js_durable *durable)
{
    MR_ASSERT(durable->state == MR_JS_TOLD);
    queue(all, durable, MR_JS_REFUSED);
}

void mr_js_durables_retry(struct mr_js_durables *all)
{
    struct mr_js_durable *d;
    while ((d = TAILQ_FIRST(&all->refused)) != NULL) {
        unqueue(all, d);
        queue(all, d, MR_JS_NEW);
    }
}

bool mr_js_durables_behind(const struct mr_js_durables *all)
{
    return !TAILQ_EMPTY(&all->todo) || !TAILQ_EMPTY(&all->refused) || all->next_again < all->count;
}

uint64_t mr_js_durables_limit(const struct mr_js_durables *all, uint64_t through)
{
    return all->waiting_first < through ? all->waiting_first : through;
}

struct mr_js_durable *mr_js_durables_find(const struct mr_js_durables *all, struct mr_str id)
{
    uint32_t index;
    MR_ASSERT(id.len == sizeof index);
    memcpy(&index, id.data, sizeof index);
    MR_ASSERT(index < all->count);
    return all->items[index];
}
