/* A changed configuration, taken over while events flow: docs/design.md, "Reload". */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "supervisor/supervisor.h"

#define GRACE_NS (5 * MR_NS_PER_S)

/* One of logging.level's choices; the check has seen to that. */
static enum mr_log_level level_of(const struct mr_config *config)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    uint32_t level = 0;
    while (strcmp(names[level], config->logging_level.text) != 0)
        level++;
    return (enum mr_log_level)level;
}

void mr_reload_logging(struct mr_supervisor *s)
{
    enum mr_log_level level = level_of(&s->config);
    bool json = strcmp(s->config.logging_format.text, "json") == 0;
    atomic_store_explicit(&s->board.shm->log_level, level, memory_order_relaxed);
    mr_log_setup(level, json ? MR_LOG_JSON : MR_LOG_TEXT, "supervisor");
}

/* The first changed key that only a new instance can take over. */
static const char *fixed_key(const struct mr_config *from, const struct mr_config *to)
{
    size_t count;
    const struct mr_config_row *rows = mr_config_rows(&count);
    for (size_t i = 0; i < count; i++)
        if ((rows[i].readers & MR_CONFIG_READER_SUPERVISOR) &&
            mr_config_row_differs(&rows[i], from, to))
            return rows[i].path;
    return NULL;
}

static enum mr_rc take_over(struct mr_supervisor *s, const struct mr_config *next,
                            struct mr_err *err)
{
    const char *fixed = fixed_key(&s->loaded, next);
    if (fixed)
        return mr_reject(err, MR_USAGE,
                         "%s: cannot change while the instance runs; stop it and start it again",
                         fixed);
    if (mr_segments_journal_bytes(next) > s->journal_bytes)
        return mr_reject(err, MR_USAGE,
                         "publisher.subscriptions_max: cannot rise to %" PRIu64
                         " while the instance runs, whose journals were made for fewer; stop it "
                         "and start it again",
                         next->publisher_subscriptions_max);
    uint64_t shards = s->config.matcher_shards;
    enum mr_rc rc = mr_supervisor_check_stdin(next, err);
    if (rc == MR_OK)
        rc = mr_children_configure(&s->children, next, err);
    if (rc != MR_OK)
        return rc;
    uint32_t readers = mr_config_changed_readers(&s->loaded, next) | s->reload.left;
    s->reload = (struct mr_reload){.readers = readers, .next_cell = 1};
    s->reloaded = true;
    s->config = *next;
    s->config.matcher_shards = shards; /* scale decides; see the end of the reload */
    mr_reload_logging(s);
    return MR_OK;
}

void mr_reload_begin(struct mr_supervisor *s, uint32_t client, uint64_t now_ns)
{
    struct mr_err err = {0};
    s->task = MR_TASK_RELOAD;
    s->task_client = client;
    if (s->was_ready) /* before that the service manager waits for the first READY, and still does
                       */
        mr_notify_send(&s->notify, "RELOADING=1\nMONOTONIC_USEC=%llu",
                       (unsigned long long)(now_ns / MR_NS_PER_US));
    struct mr_config *next = malloc(sizeof *next);
    enum mr_rc rc = next ? mr_config_load(s->source, next, &err)
                         : mr_reject(&err, MR_FATAL, "reload: out of memory");
    if (rc == MR_OK)
        rc = take_over(s, next, &err);
    if (rc != MR_OK) {
        mr_err_prefix(&err, "nothing changed");
        mr_supervisor_finish_task(s, &err, "reload");
    }
    free(next);
}

/* Its MR_CONFIG_READER_* bit when it reads a key that has changed; else 0. */
static uint32_t reads_change(const struct mr_supervisor *s, const struct mr_child *child)
{
    static const uint32_t readers[MR_PROCESS_KIND_COUNT] = {
        [MR_PROCESS_SUPERVISOR] = MR_CONFIG_READER_SUPERVISOR,
        [MR_PROCESS_PULLER] = MR_CONFIG_READER_PULLER,
        [MR_PROCESS_PUBLISHER] = MR_CONFIG_READER_PUBLISHER,
        [MR_PROCESS_MATCHER] = MR_CONFIG_READER_MATCHER,
        [MR_PROCESS_RELAY] = MR_CONFIG_READER_RELAY,
    };
    return child->life != MR_CHILD_NONE ? readers[child->kind] & s->reload.readers : 0;
}

/* A process does not come up with the new configuration: end here, so that another reload can
 * correct it. Those behind it have been left as they were, which the next one makes good. */
static void give_in(struct mr_supervisor *s, const struct mr_child *child)
{
    struct mr_err err = {0};
    char name[32];
    bool again = child->life != MR_CHILD_GIVEN_UP;
    uint64_t shards = s->loaded.matcher_shards;
    mr_child_name(child, name);
    mr_reject(&err, again ? MR_RETRY : MR_USAGE,
              "%s does not start with the new configuration: %.200s%s", name,
              s->board.shm->cells[child->cell].panic, again ? "; it is tried again" : "");
    s->loaded = s->config; /* so that the next reload sees what it corrects */
    s->loaded.matcher_shards = shards;
    for (uint32_t i = s->reload.next_cell; i < MR_BOARD_CELLS; i++)
        s->reload.left |= reads_change(s, &s->children.child[i]);
    mr_supervisor_finish_task(s, &err, "reload");
}

/* All have been replaced. A number of shards that the file changed is the last step, for which all
 * have to run. */
static void finish(struct mr_supervisor *s, uint64_t now_ns)
{
    struct mr_config *next = malloc(sizeof *next);
    struct mr_err err = {0};
    uint64_t before = s->loaded.matcher_shards, shards = before;
    if (next && mr_config_load(s->source, next, &err) == MR_OK)
        shards = next->matcher_shards;
    free(next);
    s->loaded = s->config;
    bool scales = shards != before && shards != s->config.matcher_shards;
    if (scales && !s->was_ready && !mr_children_running(&s->children, MR_KIND_ALL)) {
        s->loaded.matcher_shards = before;
        mr_reject(&err, MR_RETRY,
                  "configuration taken over but for matcher.shards: not all processes have been "
                  "ready yet; reload again when they have");
        mr_supervisor_finish_task(s, &err, "reload");
        return;
    }
    s->loaded.matcher_shards = shards;
    if (scales) {
        if (s->was_ready)
            mr_notify_send(&s->notify, "READY=1\nSTATUS=scaling");
        mr_scale_begin(s, (uint32_t)shards, s->task_client, now_ns);
    } else {
        mr_supervisor_finish_task(s, NULL, "configuration taken over");
    }
}

void mr_reload_work(struct mr_supervisor *s, uint64_t now_ns)
{
    struct mr_reload *reload = &s->reload;
    while (reload->next_cell < MR_BOARD_CELLS) {
        struct mr_child *child = &s->children.child[reload->next_cell];
        if (!reload->waiting && (child->life == MR_CHILD_GIVEN_UP || reads_change(s, child))) {
            mr_child_stop(&s->children, reload->next_cell, GRACE_NS, true);
            reload->waiting = true;
        }
        if (reload->waiting && (child->life == MR_CHILD_GIVEN_UP || mr_child_failing(child))) {
            give_in(s, child);
            return;
        }
        if (reload->waiting && child->life != MR_CHILD_RUNNING)
            return; /* one after the other */
        reload->waiting = false;
        reload->next_cell++;
    }
    finish(s, now_ns);
}
