/* puller/sources/pg_setup.h: what happens between connecting and streaming: checks of server,
 * publication and slot, making what is missing, and reading the catalog. Never blocks. */
#ifndef MR_PULLER_SOURCES_PG_SETUP_H
#define MR_PULLER_SOURCES_PG_SETUP_H
#include "common/config.h"
#include "puller/sources/pg_catalog.h"
#include "puller/sources/pg_conn.h"
#include "puller/sources/pg_position.h"

struct mr_pg_setup {
    /* Given. */
    struct mr_pg_conn *conn;
    const struct mr_config *config;
    struct mr_pg_catalog *catalog;
    const struct mr_pg_position *position;
    bool first_start; /* nothing has ever been read: a missing slot is made and not missed */
    bool stuck;       /* the server cannot decode past the slot's place: treat the slot as lost */
    int own_pid;      /* of our connection before this one; 0 none */
    /* Running. */
    uint32_t step;
    bool sent;
    /* Found. */
    uint64_t system;
    uint32_t timeline;
    uint64_t log_end; /* of what the server has on its disk, or as a standby has replayed */
    bool standby;
    uint64_t sender_timeout_ms; /* 0: the server never times out */
    bool publication_exists, all_tables;
    bool slot_exists, slot_lost;
    char diverged[96]; /* why the server's history is not what was read; empty: it is */
    bool gap;          /* changes between position and gap_to_lsn are lost */
    char gap_cause[128];
    uint64_t gap_to_lsn;
    uint64_t start_lsn; /* of a new or unread slot: where it begins */
    char sql[32768];
};

/* Begin anew on conn; the given members are set by the caller. */
void mr_pg_setup_start(struct mr_pg_setup *setup);
/* MR_OK: ready to stream; MR_AGAIN: wait on the connection; MR_RETRY: not now (slot in use, server
 * starting); MR_USAGE: configuration or rights; MR_FATAL: lost slot, and configured to stop. */
MR_MUST_USE enum mr_rc mr_pg_setup_poll(struct mr_pg_setup *setup, struct mr_err *err);
/* What it waits for: "look for the slot"; static storage. */
const char *mr_pg_setup_doing(const struct mr_pg_setup *setup);
/* It waits for transactions to end, which may take as long as they like. */
bool mr_pg_setup_waits_for_others(const struct mr_pg_setup *setup);
/* The command that begins the stream at lsn, in setup->sql. */
void mr_pg_setup_stream_command(struct mr_pg_setup *setup, uint64_t lsn, bool binary);
#endif
