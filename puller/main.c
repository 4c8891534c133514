/* millrace-puller: one source, its log, the event rings. Started by the supervisor. */
#include "puller/puller.h"

int main(int argc, char **argv)
{
    struct mr_process process;
    struct mr_puller *puller = NULL;
    struct mr_err err = {.rc = MR_OK};
    enum mr_rc rc = mr_process_open(&process, MR_PROCESS_PULLER, argc, argv, &err);
    if (rc == MR_OK)
        rc = mr_puller_open(&puller, &process, &err);
    if (rc == MR_OK) {
        mr_process_ready(&process);
        rc = mr_puller_run(puller, &err);
    }
    if (puller)
        mr_puller_close(&puller);
    return mr_process_close(&process, rc, &err);
}
