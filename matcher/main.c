/* millrace-matcher: one shard. The supervisor starts it. */
#include "common/clock.h"
#include "matcher/matcher.h"

static enum mr_rc run(struct mr_process *process, struct mr_err *err)
{
    struct mr_matcher *matcher = NULL;
    enum mr_rc rc = mr_matcher_open(&matcher, process, err);
    if (rc != MR_OK)
        return rc;
    mr_process_ready(process);
    for (;;) {
        uint64_t done, now_ns = mr_clock_ns();
        if (!mr_process_running(process, now_ns))
            break;
        rc = mr_matcher_work(matcher, now_ns, &done, err);
        if (rc != MR_OK)
            break;
        mr_process_idle(process, done, mr_matcher_sleep_ns(matcher), mr_matcher_look, matcher);
    }
    mr_matcher_close(&matcher);
    return rc;
}

int main(int argc, char **argv)
{
    struct mr_process process;
    struct mr_err err = {0};
    enum mr_rc rc = mr_process_open(&process, MR_PROCESS_MATCHER, argc, argv, &err);
    if (rc == MR_OK)
        rc = run(&process, &err);
    return mr_process_close(&process, rc, &err);
}
