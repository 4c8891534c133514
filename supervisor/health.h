/* supervisor/health.h: is the instance well? Judged from the board alone. */
#ifndef MR_SUPERVISOR_HEALTH_H
#define MR_SUPERVISOR_HEALTH_H
#include "shm/inspect.h"

enum { MR_HEALTH_CHECKS_MAX = 8 + MR_SHARDS_MAX, MR_HEALTH_DETAIL_MAX = 160 };

struct mr_health_check {
    char name[24]; /* "puller", "matcher-0", "source", ... */
    bool ok;
    char detail[MR_HEALTH_DETAIL_MAX]; /* state, and what the process says it does */
};
struct mr_health {
    uint32_t count;
    struct mr_health_check checks[MR_HEALTH_CHECKS_MAX];
    bool given_up; /* a process will not be restarted any more */
};

/* Look at every process of the current ring set, at the source's connection and at the directive.
 */
void mr_health_look(const struct mr_inspect *inspect, struct mr_health *out);
#endif
