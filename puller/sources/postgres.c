/* The postgres source: logical replication of one database through one slot. What it does when:
 * docs/postgres.md. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/log.h"
#include "puller/sources/backoff.h"
#include "puller/sources/pg_conn.h"
#include "puller/sources/pg_setup.h"
#include "puller/sources/pg_snapshot.h"
#include "puller/sources/pg_stream.h"

#define CONNECT_TIMEOUT_NS (UINT64_C(10) * MR_NS_PER_S)
#define SETUP_TIMEOUT_NS \
    (UINT64_C(60) * MR_NS_PER_S) /* of one answer; creating a slot may take longer */
#define FEEDBACK_NS_MAX    (UINT64_C(10) * MR_NS_PER_S)
#define SILENCE_NS_DEFAULT (UINT64_C(60) * MR_NS_PER_S)
#define SILENCE_NS_MIN     (UINT64_C(1) * MR_NS_PER_S)
#define HEALTHY_NS         (UINT64_C(2) * MR_NS_PER_S)
#define TURN_NS            (UINT64_C(1) * MR_NS_PER_MS)
/* The server sends each row by itself. While rows keep coming they are read this often: else every
 * one of them would wake every process behind us, and on few cores take the server's own time. */
#define PACE_NS      (200 * MR_NS_PER_US)
#define LATE_US      100000 /* a change that waited so long before it was sent has time: more gather */
#define LATE_PACE_NS (500 * MR_NS_PER_US) /* a socket holds no more of small ones */
#define RESOLVE_NS   (UINT64_C(5) * MR_NS_PER_MS)
#define REACH_NS     (UINT64_C(20) * MR_NS_PER_MS) /* between two questions how far the server is */
enum { MESSAGES_PER_CLOCK = 32, STUCK_ATTEMPTS = 2 };

enum pull_state {
    PULL_CONNECT,   /* resolving, connecting, authenticating */
    PULL_PREFLIGHT, /* mr_pg_setup */
    PULL_GAP,       /* a gap is to be reported before anything else */
    PULL_START,     /* START_REPLICATION is sent */
    PULL_STREAM,
    PULL_BACKOFF, /* not connected; until wake_ns */
    PULL_STATE_COUNT
};

struct pg_source {
    struct mr_source base;
    enum pull_state state;
    struct mr_pg_conn *conn;
    struct mr_pg_setup setup;
    struct mr_pg_stream stream;
    struct mr_pg_snapshot snapshot;
    char *database; /* set at the first connect */
    char *payload;  /* the one that the intake had no room for; NULL none */
    size_t payload_len;
    bool ever_connected;
    bool ever_streamed;
    bool more;    /* the last turn ended before the input did */
    bool blocked; /* the last turn ended because the intake is full */
    bool ping_sent;
    bool feedback_due;
    uint32_t attempts;       /* failed ones in a row */
    uint32_t stuck_attempts; /* of them those that say the publication did not exist */
    uint64_t state_since_ns;
    uint64_t wake_ns;     /* of PULL_BACKOFF */
    uint64_t feedback_ns; /* the last feedback */
    uint64_t feedback_every_ns;
    uint64_t silence_ns_max;
    uint64_t polled_ns;
    uint64_t taken_ns;    /* when something was read last */
    uint64_t paced_ns;    /* nothing is read before */
    uint64_t received_ns; /* when the server was last heard, or could not be for a full intake */
    uint64_t durable_lsn; /* confirmed by the puller */
    uint64_t random;
    int server_pid; /* of the last connection */
};

static struct pg_source *of(struct mr_source *source)
{
    return (struct pg_source *)source;
}

static void enter(struct pg_source *s, enum pull_state state, uint64_t now_ns)
{
    s->state = state;
    s->state_since_ns = now_ns;
    mr_gauge(s->base.cell, MR_COUNTER_SOURCE_CONNECTED, state == PULL_STREAM);
}

static void disconnect(struct pg_source *s)
{
    if (s->payload)
        mr_pg_conn_release(s->payload);
    s->payload = NULL;
    mr_pg_conn_close(&s->conn);
    mr_pg_snapshot_stop(&s->snapshot);
    mr_pg_stream_restart(&s->stream);
    s->ping_sent = s->blocked = s->more = false;
}

/* What ends a connection: wait and come back, or give up. */
static enum mr_rc fail(struct pg_source *s, enum mr_rc rc, uint64_t now_ns, struct mr_err *err)
{
    bool streamed = s->state == PULL_STREAM;
    if (streamed && now_ns - s->state_since_ns >= HEALTHY_NS)
        s->attempts = 0;
    /* What was right once may be wrong for a while: a password being changed, a pg_hba.conf edited.
     */
    bool connecting = s->state == PULL_CONNECT || s->snapshot.state == MR_PG_SNAPSHOT_CONNECT;
    if (rc == MR_USAGE && s->ever_streamed && connecting)
        rc = MR_RETRY;
    if (rc == MR_CORRUPT)
        rc = MR_FATAL;
    bool reload = s->stream.reload && rc == MR_RETRY;
    disconnect(s);
    if (reload) {
        mr_log_info("postgres", "reload", "why=\"%s\"", err->text);
        s->wake_ns = now_ns;
        enter(s, PULL_BACKOFF, now_ns);
        return MR_OK;
    }
    if (rc != MR_RETRY) {
        mr_cell_say(s->base.cell, "postgres: %s", err->text);
        enter(s, PULL_BACKOFF, now_ns);
        err->rc = rc;
        return rc;
    }
    s->attempts++;
    uint64_t wait_ns = mr_source_backoff_ns(s->base.config, s->attempts, &s->random);
    s->wake_ns = now_ns + wait_ns;
    mr_log_warn("postgres", "reconnect", "attempt=%" PRIu32 " wait_ms=%" PRIu64 " why=\"%s\"",
                s->attempts, wait_ns / MR_NS_PER_MS, err->text);
    mr_cell_say(s->base.cell, "postgres: waiting %" PRIu64 " ms, attempt %" PRIu32 ": %s",
                wait_ns / MR_NS_PER_MS, s->attempts, err->text);
    enter(s, PULL_BACKOFF, now_ns);
    return MR_OK;
}

static bool name_valid(const char *name, bool slot)
{
    size_t len = strlen(name);
    return len >= 1 && len <= 63 &&
           (!slot || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == len);
}

static enum mr_rc check_config(const struct mr_config *config, struct mr_err *err)
{
    if (!config->postgres_url.text[0])
        return mr_reject(err, MR_USAGE,
                         "postgres.url: is empty; give a libpq connection string or URI");
    if (!name_valid(config->postgres_slot.text, true))
        return mr_reject(err, MR_USAGE,
                         "postgres.slot: \"%s\" is no slot name: 1 to 63 of a-z, 0-9, _",
                         config->postgres_slot.text);
    if (!name_valid(config->postgres_publication.text, false))
        return mr_reject(err, MR_USAGE,
                         "postgres.publication: expected a name of 1 to 63 bytes, got"
                         " \"%s\"",
                         config->postgres_publication.text);
    return mr_pg_conn_check(config->postgres_url.text, err);
}

static void pg_close(struct mr_source *source)
{
    struct pg_source *s = of(source);
    disconnect(s);
    mr_pg_stream_fini(&s->stream);
    free(s->database);
    free(s);
}

static enum mr_rc pg_open(struct mr_source **out, const struct mr_config *config,
                          struct mr_cell_shm *cell, const struct mr_position *after,
                          struct mr_err *err)
{
    struct mr_pg_position position = {0};
    enum mr_rc rc = check_config(config, err);
    if (rc == MR_OK && after->len > 0)
        rc = mr_pg_position_decode(after, &position, err);
    if (rc != MR_OK)
        return rc;
    struct pg_source *s = calloc(1, sizeof *s);
    if (!s)
        return mr_fail(err, MR_FATAL, "open the postgres source");
    s->base = (struct mr_source){&mr_source_postgres, config, cell};
    mr_pg_stream_init(&s->stream, MR_STR(""), &position);
    s->setup.config = config;
    s->setup.catalog = &s->stream.catalog;
    s->setup.position = &s->stream.position;
    s->setup.first_start = after->len == 0;
    s->snapshot.config = config;
    s->snapshot.stream = &s->stream;
    s->snapshot.cell = cell;
    s->random = mr_clock_ns() | 1;
    s->state = PULL_BACKOFF; /* wake_ns is 0: connect at the first poll */
    *out = &s->base;
    return MR_OK;
}

static enum mr_rc begin_connect(struct pg_source *s, uint64_t now_ns, struct mr_err *err)
{
    if (s->ever_connected)
        mr_count(s->base.cell, MR_COUNTER_SOURCE_RECONNECTS, 1);
    else
        mr_cell_say(s->base.cell, "postgres: connecting");
    enter(s, PULL_CONNECT, now_ns);
    enum mr_rc rc = mr_pg_conn_open(&s->conn, s->base.config->postgres_url.text, err);
    return rc == MR_OK ? MR_OK : fail(s, rc, now_ns, err);
}

static enum mr_rc work_connect(struct pg_source *s, uint64_t now_ns, struct mr_err *err)
{
    enum mr_rc rc = mr_pg_conn_poll(s->conn, err);
    if (rc == MR_AGAIN && now_ns - s->state_since_ns > CONNECT_TIMEOUT_NS)
        rc = mr_reject(err, MR_RETRY, "connect to PostgreSQL: no answer in %" PRIu64 " s",
                       (uint64_t)(CONNECT_TIMEOUT_NS / MR_NS_PER_S));
    if (rc == MR_AGAIN)
        return MR_OK;
    if (rc != MR_OK)
        return fail(s, rc, now_ns, err);
    if (!s->database) {
        s->database = strdup(mr_pg_conn_database(s->conn));
        if (!s->database)
            return fail(s, mr_fail(err, MR_FATAL, "connect to PostgreSQL"), now_ns, err);
        s->stream.builder.database = mr_str_from(s->database);
    }
    s->ever_connected = true;
    s->setup.conn = s->conn;
    s->setup.own_pid = s->server_pid;
    s->setup.stuck = s->stuck_attempts >= STUCK_ATTEMPTS;
    s->server_pid = mr_pg_conn_server_pid(s->conn);
    mr_pg_setup_start(&s->setup);
    enter(s, PULL_PREFLIGHT, now_ns);
    return MR_OK;
}

static enum mr_rc work_preflight(struct pg_source *s, uint64_t now_ns, struct mr_err *err)
{
    uint32_t step = s->setup.step;
    enum mr_rc rc = mr_pg_setup_poll(&s->setup, err);
    if (s->setup.step != step)
        s->state_since_ns = now_ns;
    if (rc == MR_AGAIN && !mr_pg_setup_waits_for_others(&s->setup) &&
        now_ns - s->state_since_ns > SETUP_TIMEOUT_NS)
        rc = mr_reject(err, MR_RETRY, "%s: no answer in %" PRIu64 " s",
                       mr_pg_setup_doing(&s->setup), (uint64_t)(SETUP_TIMEOUT_NS / MR_NS_PER_S));
    if (rc == MR_AGAIN) {
        if (s->setup.step != step)
            mr_cell_say(s->base.cell, "postgres: %s", mr_pg_setup_doing(&s->setup));
        return MR_OK;
    }
    if (rc != MR_OK)
        return fail(s, rc, now_ns, err);
    s->stream.position.system = s->setup.system;
    /* A standby may be promoted, and go on with another timeline, without a word to us. */
    s->stream.position.timeline = s->setup.standby ? 0 : s->setup.timeline;
    enter(s, PULL_GAP, now_ns);
    return MR_OK;
}

/* Say what is lost, if anything is, and then where reading begins; both become durable before the
 * server is told anything. */
static enum mr_rc work_gap(struct pg_source *s, struct mr_intake *intake, uint64_t now_ns,
                           struct mr_err *err)
{
    struct mr_pg_stream *stream = &s->stream;
    if (s->setup.gap) {
        if (strcmp(s->base.config->source_on_unresumable.text, "snapshot") == 0)
            stream->position.place = (struct mr_pg_place){.running = true};
        enum mr_rc rc =
            mr_pg_stream_gap(stream, s->setup.gap_cause, s->setup.gap_to_lsn, intake, err);
        s->blocked = rc == MR_FULL;
        if (rc != MR_OK)
            return rc == MR_FULL ? MR_OK : rc;
        s->setup.gap = false;
        s->stuck_attempts = 0;
        s->durable_lsn = 0; /* of the era before, and perhaps not even of this server's log */
    } else if (s->setup.first_start) {
        stream->position.lsn = s->setup.start_lsn;
        stream->position.place.running = strcmp(s->base.config->source_start.text, "snapshot") == 0;
        mr_pg_stream_state_position(stream, intake, true, now_ns);
    }
    s->setup.first_start = false;
    stream->binary = s->base.config->postgres_binary && !stream->text_only;
    mr_pg_setup_stream_command(&s->setup, stream->position.lsn, stream->binary);
    enter(s, PULL_START, now_ns);
    enum mr_rc rc = mr_pg_conn_send(s->conn, s->setup.sql, err);
    return rc == MR_OK ? MR_OK : fail(s, rc, now_ns, err);
}

static uint64_t at_least(uint64_t value, uint64_t least)
{
    return value > least ? value : least;
}

static enum mr_rc work_start(struct pg_source *s, uint64_t now_ns, struct mr_err *err)
{
    struct mr_pg_result *result = NULL;
    enum mr_rc rc = mr_pg_conn_take(s->conn, &result, err);
    if (rc == MR_AGAIN && now_ns - s->state_since_ns > SETUP_TIMEOUT_NS)
        rc = mr_reject(err, MR_RETRY, "START_REPLICATION: no answer in %" PRIu64 " s",
                       (uint64_t)(SETUP_TIMEOUT_NS / MR_NS_PER_S));
    if (rc == MR_AGAIN)
        return MR_OK;
    if (rc == MR_OK && !mr_pg_result_streams(result))
        rc = mr_reject(err, MR_RETRY, "START_REPLICATION: the server did not begin a stream");
    mr_pg_result_free(&result);
    if (rc != MR_OK)
        return fail(s, rc, now_ns, err);
    uint64_t timeout_ns = s->setup.sender_timeout_ms * MR_NS_PER_MS;
    s->silence_ns_max = timeout_ns == 0 || timeout_ns > SILENCE_NS_DEFAULT
                            ? SILENCE_NS_DEFAULT
                            : at_least(timeout_ns, SILENCE_NS_MIN);
    s->feedback_every_ns = timeout_ns == 0 || timeout_ns / 3 > FEEDBACK_NS_MAX
                               ? FEEDBACK_NS_MAX
                               : at_least(timeout_ns / 3, 1);
    s->received_ns = s->polled_ns = now_ns;
    s->feedback_due = true;
    s->ever_streamed = true;
    enter(s, PULL_STREAM, now_ns);
    mr_cell_say(s->base.cell, "postgres: streaming");
    mr_log_info("postgres", "streaming", "slot=%s from=%s binary=%d server_version=%d",
                s->base.config->postgres_slot.text, mr_pg_lsn_format(s->stream.position.lsn).text,
                s->stream.binary, mr_pg_conn_server_version(s->conn));
    return MR_OK;
}

/* Tell the server what is durable: when asked, when that moved, and always well within its timeout,
 * whether the intake takes anything or not. */
static enum mr_rc send_feedback(struct pg_source *s, uint64_t now_ns, struct mr_err *err)
{
    bool quiet = !s->blocked && now_ns - s->received_ns > s->silence_ns_max / 2;
    /* An idle server says how far it is when it is asked: a snapshot waits for that. */
    bool asks = s->snapshot.state == MR_PG_SNAPSHOT_REACH && now_ns - s->feedback_ns >= REACH_NS;
    bool ping = (quiet && !s->ping_sent) || asks;
    if (!s->feedback_due && !s->stream.reply_wanted && !ping &&
        now_ns - s->feedback_ns < s->feedback_every_ns)
        return mr_pg_conn_flush(s->conn, err);
    uint8_t payload[MR_PG_FEEDBACK_BYTES];
    mr_pg_stream_feedback(&s->stream, s->durable_lsn, ping, mr_clock_wall_us(), payload);
    s->feedback_ns = now_ns;
    s->feedback_due = s->stream.reply_wanted = false;
    s->ping_sent |= ping;
    return mr_pg_conn_put(s->conn, payload, sizeof payload, err);
}

/* Something was read and nothing is left. What comes after a silence is not held up. */
static void pace(struct pg_source *s, uint64_t now_ns)
{
    uint64_t pace_ns = s->stream.waited_us > LATE_US ? LATE_PACE_NS : PACE_NS;
    s->paced_ns = now_ns - s->taken_ns < 2 * pace_ns ? now_ns + pace_ns : 0;
    s->taken_ns = now_ns;
}

/* Take payloads until there are none, the intake is full or the turn is over. */
static enum mr_rc pump(struct pg_source *s, struct mr_intake *intake, uint64_t now_ns,
                       struct mr_err *err)
{
    uint64_t clock_ns = now_ns;
    s->more = s->blocked = false;
    for (uint32_t n = 0;; n++) {
        if (n % MESSAGES_PER_CLOCK == MESSAGES_PER_CLOCK - 1) {
            clock_ns = mr_clock_ns();
            s->more = clock_ns - now_ns >= TURN_NS;
            if (s->more)
                break;
        }
        if (!s->payload) {
            enum mr_rc rc = mr_pg_conn_next(s->conn, &s->payload, &s->payload_len, err);
            if (rc == MR_AGAIN && n > 0)
                pace(s, clock_ns);
            if (rc != MR_OK)
                return rc;
            s->received_ns = clock_ns;
            s->ping_sent = false;
        }
        if (mr_pg_snapshot_reached(&s->snapshot, s->payload, s->payload_len))
            return MR_OK;
        enum mr_rc rc =
            mr_pg_stream_take(&s->stream, s->payload, s->payload_len, intake, clock_ns, err);
        if (rc == MR_FULL) {
            /* Not reading is our doing: the server's silence begins when we read again. */
            s->received_ns = clock_ns;
            s->blocked = true;
            break;
        }
        mr_pg_conn_release(s->payload);
        s->payload = NULL;
        if (rc != MR_OK)
            return rc;
    }
    return MR_OK;
}

/* While rows are read the stream is held, which is our doing and not the server's silence. */
static enum mr_rc work_snapshot(struct pg_source *s, struct mr_intake *intake, uint64_t now_ns,
                                bool held, struct mr_err *err)
{
    if (!s->stream.position.place.running)
        return MR_OK;
    if (held) {
        s->received_ns = now_ns;
        s->more = s->blocked = false;
    }
    enum mr_rc rc = mr_pg_snapshot_poll(&s->snapshot, intake, now_ns, err);
    if (rc != MR_FULL)
        return rc;
    s->blocked = true;
    return MR_OK;
}

static enum mr_rc work_stream(struct pg_source *s, struct mr_intake *intake, uint64_t now_ns,
                              struct mr_err *err)
{
    /* Not polled for long: a pause of ours, which says nothing about the server. */
    if (now_ns - s->polled_ns > s->silence_ns_max / 2 + MR_NS_PER_S)
        s->received_ns = now_ns;
    s->polled_ns = now_ns;
    enum mr_rc rc = MR_AGAIN;
    bool held = mr_pg_snapshot_holds(&s->snapshot);
    if (!held && (now_ns >= s->paced_ns || s->blocked))
        rc = pump(s, intake, now_ns, err);
    if (rc == MR_OK || rc == MR_AGAIN)
        rc = work_snapshot(s, intake, now_ns, held, err);
    if (rc == MR_OK || rc == MR_AGAIN) {
        mr_pg_stream_state_position(&s->stream, intake, false, now_ns);
        rc = send_feedback(s, now_ns, err);
    }
    if (rc == MR_OK && !s->blocked && now_ns > s->received_ns &&
        now_ns - s->received_ns > s->silence_ns_max)
        rc = mr_reject(err, MR_RETRY,
                       "replication stream: nothing heard of the server for %" PRIu64 " s",
                       (now_ns - s->received_ns) / MR_NS_PER_S);
    if (rc == MR_OK)
        return MR_OK;
    const char *state = mr_pg_conn_sqlstate(s->conn);
    s->stuck_attempts = strcmp(state, "42704") == 0 ? s->stuck_attempts + 1 : 0;
    return fail(s, rc, now_ns, err);
}

static enum mr_rc pg_poll(struct mr_source *source, struct mr_intake *intake, uint64_t now_ns,
                          struct mr_err *err)
{
    struct pg_source *s = of(source);
    enum pull_state before;
    enum mr_rc rc = MR_OK;
    do { /* go on while states pass: each answers at once or waits */
        before = s->state;
        switch (s->state) {
        case PULL_BACKOFF:
            if (now_ns >= s->wake_ns)
                rc = begin_connect(s, now_ns, err);
            break;
        case PULL_CONNECT:
            rc = work_connect(s, now_ns, err);
            break;
        case PULL_PREFLIGHT:
            rc = work_preflight(s, now_ns, err);
            break;
        case PULL_GAP:
            rc = work_gap(s, intake, now_ns, err);
            break;
        case PULL_START:
            rc = work_start(s, now_ns, err);
            break;
        case PULL_STREAM:
            rc = work_stream(s, intake, now_ns, err);
            break;
        case PULL_STATE_COUNT:
            MR_ASSERT(false);
        }
    } while (rc == MR_OK && s->state != before && s->state != PULL_BACKOFF);
    mr_gauge(s->base.cell, MR_COUNTER_SOURCE_POSITION, s->stream.position.lsn);
    return rc;
}

static uint64_t least_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Two connections, one descriptor: that of the one that is read; the other is looked at soon. */
static void wait_for_snapshot(struct pg_source *s, struct pollfd *fd, uint64_t *wake_ns)
{
    enum mr_pg_snapshot_state state = s->snapshot.state;
    if (mr_pg_snapshot_holds(&s->snapshot))
        mr_pg_conn_wait(s->snapshot.conn, fd);
    *wake_ns = least_of(*wake_ns, mr_clock_ns() + RESOLVE_NS);
    if (state == MR_PG_SNAPSHOT_OFF || state == MR_PG_SNAPSHOT_ROWS ||
        (state == MR_PG_SNAPSHOT_TABLE && s->snapshot.sql[0] == '\0'))
        *wake_ns = 0;
}

static void pg_wait(struct mr_source *source, struct pollfd *fd, uint64_t *wake_ns)
{
    struct pg_source *s = of(source);
    *fd = (struct pollfd){.fd = -1};
    *wake_ns = s->wake_ns;
    if (s->state == PULL_BACKOFF)
        return;
    mr_pg_conn_wait(s->conn, fd);
    *wake_ns = s->state_since_ns + CONNECT_TIMEOUT_NS;
    if (s->state == PULL_CONNECT && fd->fd < 0)
        *wake_ns = mr_clock_ns() + RESOLVE_NS;
    if (s->state == PULL_PREFLIGHT || s->state == PULL_START)
        *wake_ns = s->state_since_ns + SETUP_TIMEOUT_NS;
    if (s->state == PULL_STREAM) {
        *wake_ns =
            least_of(s->feedback_ns + s->feedback_every_ns, s->received_ns + s->silence_ns_max / 2);
        if (s->stream.position.lsn != s->stream.position_stated_lsn)
            *wake_ns = least_of(*wake_ns, s->stream.position_stated_ns + MR_NS_PER_S);
    }
    if (s->blocked) { /* readable bytes are of no use now; the caller knows when there is room */
        fd->events &= (short)~POLLIN;
        if (s->state == PULL_GAP)
            *wake_ns = UINT64_MAX;
    }
    if (s->state == PULL_STREAM && !s->blocked && s->paced_ns > mr_clock_ns()) {
        fd->fd = -1;
        *wake_ns = s->paced_ns;
    }
    if (s->stream.position.place.running && s->state == PULL_STREAM && !s->blocked)
        wait_for_snapshot(s, fd, wake_ns);
    if (s->more)
        *wake_ns = 0;
}

/* Only what is durable is acknowledged: a slot that is ahead of the log then means that somebody
 * else has moved it. */
static enum mr_rc pg_confirm(struct mr_source *source, const struct mr_position *position,
                             struct mr_err *err)
{
    struct pg_source *s = of(source);
    struct mr_pg_position confirmed;
    if (position->len == 0)
        return MR_OK;
    enum mr_rc rc = mr_pg_position_decode(position, &confirmed, err);
    if (rc != MR_OK)
        return rc;
    if (confirmed.era == s->stream.position.era && confirmed.lsn > s->durable_lsn) {
        s->durable_lsn = confirmed.lsn;
        s->feedback_due = true;
        mr_gauge(s->base.cell, MR_COUNTER_SOURCE_CONFIRMED, confirmed.lsn);
    }
    /* Also when nothing moved: while the puller drains or is paused this is the only call there is,
     * and the server wants to hear of us. */
    if (s->state != PULL_STREAM)
        return MR_OK;
    uint64_t now_ns = mr_clock_ns();
    rc = send_feedback(s, now_ns, err);
    return rc == MR_OK ? MR_OK : fail(s, rc, now_ns, err);
}

const struct mr_source_ops mr_source_postgres = {.name = "postgres",
                                                 .open = pg_open,
                                                 .poll = pg_poll,
                                                 .wait = pg_wait,
                                                 .confirm = pg_confirm,
                                                 .close = pg_close};
