#include "publisher/control.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"

static const struct {
    const char *name;
    unsigned status;
} rows[MR_CONTROL_CODE_COUNT] = {
    [MR_CONTROL_OK] = {"OK", 200},
#define CODE(symbol, status, text) [MR_CONTROL_##symbol] = {#symbol, status},
#include "publisher/control_codes.def"
#undef CODE
};

const char *mr_control_code_name(enum mr_control_code code)
{
    return rows[code].name;
}

unsigned mr_control_code_status(enum mr_control_code code)
{
    return rows[code].status;
}

void mr_control_fini(struct mr_control *control)
{
    for (uint32_t i = 0; i < control->item_count; i++) {
        free(control->items[i].text);
        control->items[i].text = NULL;
    }
    mr_json_fini(&control->body);
}

void mr_control_fail(struct mr_control *control, enum mr_control_code code, const char *fmt, ...)
{
    if (control->code != MR_CONTROL_OK)
        return;
    control->code = code;
    va_list args;
    va_start(args, fmt);
    vsnprintf(control->text, sizeof control->text, fmt, args);
    va_end(args);
}

void mr_control_queue_init(struct mr_control_queue *queue, struct mr_doorbell_shm *bell)
{
    pthread_mutex_init(&queue->lock, NULL);
    STAILQ_INIT(&queue->list);
    queue->bell = bell;
}

void mr_control_queue_fini(struct mr_control_queue *queue)
{
    MR_ASSERT(STAILQ_EMPTY(&queue->list));
    pthread_mutex_destroy(&queue->lock);
}

static void refuse(struct mr_control *control)
{
    mr_control_fail(control, MR_CONTROL_UNAVAILABLE, "the publisher is stopping, try again");
    control->done(control);
}

void mr_control_put(struct mr_control_queue *queue, struct mr_control *control)
{
    pthread_mutex_lock(&queue->lock);
    bool closed = queue->closed;
    if (!closed) {
        control->arrived_ns = mr_clock_ns();
        STAILQ_INSERT_TAIL(&queue->list, control, next);
        atomic_fetch_add_explicit(&queue->count, 1, memory_order_release);
    }
    pthread_mutex_unlock(&queue->lock);
    if (closed)
        refuse(control);
    else
        mr_doorbell_ring(queue->bell);
}

struct mr_control *mr_control_take(struct mr_control_queue *queue)
{
    if (!mr_control_waiting(queue))
        return NULL;
    pthread_mutex_lock(&queue->lock);
    struct mr_control *control = STAILQ_FIRST(&queue->list);
    if (control) {
        STAILQ_REMOVE_HEAD(&queue->list, next);
        atomic_fetch_sub_explicit(&queue->count, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&queue->lock);
    return control;
}

bool mr_control_waiting(const struct mr_control_queue *queue)
{
    return atomic_load_explicit(&queue->count, memory_order_acquire) > 0;
}

uint64_t mr_control_waiting_since_ns(struct mr_control_queue *queue)
{
    if (!mr_control_waiting(queue))
        return UINT64_MAX;
    pthread_mutex_lock(&queue->lock);
    const struct mr_control *control = STAILQ_FIRST(&queue->list);
    uint64_t since_ns = control ? control->arrived_ns : UINT64_MAX;
    pthread_mutex_unlock(&queue->lock);
    return since_ns;
}

void mr_control_close(struct mr_control_queue *queue)
{
    struct mr_control *control;
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    pthread_mutex_unlock(&queue->lock);
    while ((control = mr_control_take(queue)) != NULL)
        refuse(control);
}
