#include "common/clock.h"
#include "relay/relay.h"

int main(int argc, char **argv)
{
    struct mr_process process;
    struct mr_relay *relay = NULL;
    struct mr_err err = {0};
    enum mr_rc rc = mr_process_open(&process, MR_PROCESS_RELAY, argc, argv, &err);
    if (rc == MR_OK)
        rc = mr_relay_open(&relay, &process, &err);
    if (rc == MR_OK)
        mr_process_ready(&process);
    uint64_t now_ns = mr_clock_ns();
    while (rc == MR_OK && mr_process_running(&process, now_ns)) {
        uint64_t done = 0;
        rc = mr_relay_turn(relay, now_ns, &done, &err);
        if (rc == MR_OK)
            mr_process_idle(&process, done, mr_relay_timeout_ns(relay), mr_relay_look, relay);
        now_ns = mr_clock_ns();
    }
    mr_relay_close(&relay);
    return mr_process_close(&process, rc, &err);
}
