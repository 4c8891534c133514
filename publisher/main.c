#include "common/clock.h"
#include "publisher/fanout.h"
#include "publisher/pump.h"
#include "publisher/rest/rest.h"

#define FANOUT_CLOSE_NS (2 * MR_NS_PER_S)

int main(int argc, char **argv)
{
    struct mr_process process;
    struct mr_pump *pump = NULL;
    struct mr_auth *auth = NULL;
    struct mr_rest *rest = NULL;
    struct mr_fanout *fanout = NULL;
    struct mr_err err = {0};
    enum mr_rc rc = mr_process_open(&process, MR_PROCESS_PUBLISHER, argc, argv, &err);
    if (rc == MR_OK)
        rc = mr_auth_open(&auth, &process.config, &err);
    if (rc == MR_OK)
        rc = mr_fanout_open(&fanout, &process.config, process.board.shm, process.cell, &err);
    if (rc == MR_OK)
        rc = mr_pump_open(&pump, &process,
                          process.config.jetstream_enabled ? &mr_sink_all : &mr_sink_grpc, &err);
    if (rc == MR_OK)
        rc = mr_rest_open(&rest, &process.config, mr_pump_controls(pump), auth, &err);
    uint64_t now_ns = mr_clock_ns();
    while (rc == MR_OK && mr_process_running(&process, now_ns)) {
        uint64_t done = 0;
        rc = mr_pump_turn(pump, now_ns, &done, &err);
        if (rc == MR_OK)
            mr_process_idle(&process, done, mr_pump_timeout_ns(pump), mr_pump_look, pump);
        now_ns = mr_clock_ns();
    }
    mr_rest_stop(rest);
    mr_pump_close(&pump); /* answers what is asked still */
    mr_rest_close(&rest);
    mr_auth_close(&auth);
    mr_fanout_close(&fanout, mr_clock_ns() + FANOUT_CLOSE_NS);
    return mr_process_close(&process, rc, &err);
}
