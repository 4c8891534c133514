/* puller/sources/ndjson_source.c: events from lines of JSON. docs/ndjson.md */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/bson.h"
#include "common/clock.h"
#include "common/doc_hash.h"
#include "common/log.h"
#include "proto/gap.h"
#include "puller/source.h"
#include "puller/sources/lines.h"
#include "puller/sources/ndjson.h"

enum { POSITION_VERSION = 1, HEAD_MAX = 256, CLOCK_LINES = 64, GAP_BYTES = 256 };

#define POLL_NS MR_NS_PER_MS
#define LOOK_NS (200 * MR_NS_PER_MS) /* at a followed file: is it still the one? */

/* A place in the file, as it lies in the log. The head's hash tells a file that was replaced. */
struct place {
    uint32_t version, head_len;
    uint64_t base;   /* bytes of the files before this one: keeps the source order rising */
    uint64_t offset; /* in this file */
    uint64_t number; /* lines before it */
    uint64_t head_hash;
};
static_assert(sizeof(struct place) == 40, "the position is an ABI");

struct ndjson {
    struct mr_source source;
    struct mr_lines lines;
    struct mr_ndjson_parser *parser;
    struct place place; /* behind the last line taken */
    bool open;
    const char *gap; /* cause of a gap that is to be reported; NULL: none */
};

/* Hash of the file's first bytes, as many as are behind us and at most HEAD_MAX. */
static bool hash_head(const struct ndjson *n, uint32_t len, uint64_t *out)
{
    char head[HEAD_MAX];
    if (len > HEAD_MAX || pread(n->lines.fd, head, len, 0) != (ssize_t)len)
        return false;
    *out = mr_doc_hash(MR_STR(""), MR_STR(""), (struct mr_str){head, len});
    return true;
}

static void state_position(struct ndjson *n, struct mr_intake *intake)
{
    n->place.offset = n->lines.offset;
    n->place.number = n->lines.number;
    uint32_t len = n->place.offset < HEAD_MAX ? (uint32_t)n->place.offset : HEAD_MAX;
    if (n->lines.regular && len != n->place.head_len && hash_head(n, len, &n->place.head_hash))
        n->place.head_len = len;
    struct mr_position position = {.len = sizeof n->place};
    memcpy(position.bytes, &n->place, sizeof n->place);
    mr_intake_position(intake, &position);
}

/* Another file begins under the name, or the same one anew. */
static void begin_file(struct ndjson *n, uint64_t passed)
{
    n->place = (struct place){.version = POSITION_VERSION, .base = n->place.base + passed};
}

static enum mr_rc open_file(struct ndjson *n, struct mr_err *err)
{
    enum mr_rc rc = mr_lines_open(&n->lines, n->place.offset, n->place.number, err);
    if (rc != MR_OK)
        return rc;
    n->open = true;
    mr_gauge(n->source.cell, MR_COUNTER_SOURCE_CONNECTED, 1);
    if (n->place.offset == 0)
        return MR_OK;
    uint64_t hash;
    if (!n->lines.regular) {
        begin_file(n, n->place.offset);
        /* A successor inside one run of the instance: what was read and not logged is gone. */
        if (atomic_load_explicit(&n->source.cell->restarts, memory_order_relaxed) > 0)
            n->gap = "restart while reading a stream";
    } else if (!hash_head(n, n->place.head_len, &hash) || hash != n->place.head_hash ||
               lseek(n->lines.fd, 0, SEEK_END) < (off_t)n->place.offset) {
        n->gap = "file was replaced";
        begin_file(n, n->place.offset);
    } else if (lseek(n->lines.fd, (off_t)n->place.offset, SEEK_SET) < 0) {
        return mr_fail(err, MR_FATAL, "seek in %s", n->lines.path);
    } else {
        return MR_OK;
    }
    mr_log_warn("ndjson", "starts_anew", "path=%s cause=\"%s\"", n->lines.path,
                n->gap ? n->gap : "stream");
    return mr_lines_open(&n->lines, 0, 0, err);
}

/* What may have been lost is said downstream, to everyone. */
static enum mr_rc emit_gap(struct ndjson *n, struct mr_intake *intake, struct mr_err *err)
{
    uint8_t bytes[GAP_BYTES];
    char from[24];
    snprintf(from, sizeof from, "%" PRIu64, n->place.base);
    struct mr_bson_writer w;
    mr_bson_writer_init_fixed(&w, bytes, sizeof bytes);
    struct mr_event event = {.head = {.op = MR_OP_GAP, .source_order = n->place.base},
                             .document = mr_gap_write(&w, n->gap, from, "")};
    enum mr_rc rc = mr_intake_emit(intake, &event, err);
    if (rc == MR_OK)
        n->gap = NULL;
    return rc;
}

static enum mr_rc look_at_file(struct ndjson *n, struct mr_err *err)
{
    enum mr_lines_change change;
    uint64_t passed = n->lines.offset;
    enum mr_rc rc = mr_lines_look(&n->lines, &change, err);
    if (rc != MR_OK || change == MR_LINES_SAME)
        return rc;
    mr_log_warn("ndjson", change == MR_LINES_ROTATED ? "rotated" : "truncated",
                "path=%s offset=%" PRIu64, n->lines.path, passed);
    if (change == MR_LINES_ROTATED)
        return MR_OK;
    n->gap = "file was truncated";
    begin_file(n, passed);
    return MR_OK;
}

/* The file that was rotated away is read to its end; on with the one that has its name. */
static enum mr_rc next_file(struct ndjson *n, struct mr_err *err)
{
    begin_file(n, n->lines.offset);
    n->open = false;
    enum mr_rc rc = open_file(n, err);
    return rc == MR_AGAIN ? MR_OK : rc;
}

/* A line that is no event: fatal, or counted and passed over. */
static enum mr_rc reject(struct ndjson *n, struct mr_err *err)
{
    enum mr_rc rc = mr_err_prefix(err, "%s:%" PRIu64, n->lines.path, n->lines.number + 1);
    if (strcmp(n->source.config->ndjson_on_bad_line.text, "skip") != 0)
        return rc;
    mr_count(n->source.cell, MR_COUNTER_SOURCE_REJECTED, 1);
    mr_log_warn("ndjson", "line_rejected", "why=\"%s\"", err->text);
    return MR_OK;
}

static struct mr_str without_mark(const struct ndjson *n, struct mr_str line)
{
    bool marked =
        n->lines.offset == 0 && line.len >= 3 && memcmp(line.data, "\xef\xbb\xbf", 3) == 0;
    return marked ? (struct mr_str){line.data + 3, line.len - 3} : line;
}

/* One line. MR_FULL: not taken, shown again next time. */
static enum mr_rc take_line(struct ndjson *n, struct mr_intake *intake, struct mr_err *err)
{
    struct mr_str line;
    enum mr_rc rc = mr_lines_next(&n->lines, &line, err);
    if (rc == MR_OK) {
        struct mr_event event;
        struct mr_str database = mr_str_from(n->source.config->source_database.text);
        rc = mr_ndjson_parse(n->parser, without_mark(n, line), database, &event, err);
        if (rc == MR_OK) {
            event.head.source_order = n->place.base + n->lines.offset + 1;
            rc = mr_intake_emit(intake, &event, err);
        } else if (rc == MR_AGAIN) {
            rc = MR_OK; /* an empty line */
        }
    }
    if (rc == MR_USAGE)
        rc = reject(n, err);
    if (rc != MR_OK)
        return rc;
    mr_lines_done(&n->lines);
    state_position(n, intake);
    return MR_OK;
}

static enum mr_rc ndjson_poll(struct mr_source *source, struct mr_intake *intake, uint64_t now_ns,
                              struct mr_err *err)
{
    struct ndjson *n = (struct ndjson *)source;
    enum mr_rc rc = n->open ? MR_OK : open_file(n, err);
    if (rc == MR_OK && n->gap)
        rc = emit_gap(n, intake, err);
    if (rc == MR_AGAIN || rc == MR_FULL)
        return MR_OK;
    for (uint32_t i = 1; rc == MR_OK; i++) {
        rc = take_line(n, intake, err);
        if (i % CLOCK_LINES == 0 && mr_clock_ns() - now_ns > POLL_NS)
            break;
    }
    if (rc == MR_AGAIN && source->config->ndjson_follow && !n->lines.finishing)
        rc = look_at_file(n, err);
    else if (rc == MR_CLOSED && n->lines.finishing)
        rc = next_file(n, err);
    return rc == MR_AGAIN || rc == MR_FULL ? MR_OK : rc;
}

static void ndjson_wait(struct mr_source *source, struct pollfd *fd, uint64_t *wake_ns)
{
    const struct ndjson *n = (const struct ndjson *)source;
    *wake_ns = UINT64_MAX;
    fd->fd = -1;
    fd->events = POLLIN;
    if (n->open && !n->lines.regular)
        fd->fd = n->lines.fd;
    else if (n->open)
        fd->fd = n->lines.notify_fd;
    if (fd->fd < 0 || n->lines.regular)
        *wake_ns = mr_clock_ns() + LOOK_NS;
}

static enum mr_rc ndjson_confirm(struct mr_source *source, const struct mr_position *position,
                                 struct mr_err *err)
{
    struct place place;
    if (position->len != sizeof place)
        return mr_reject(err, MR_CORRUPT, "ndjson: a position of %u bytes", position->len);
    memcpy(&place, position->bytes, sizeof place);
    mr_gauge(source->cell, MR_COUNTER_SOURCE_CONFIRMED, place.base + place.offset);
    return MR_OK;
}

static void ndjson_close(struct mr_source *source)
{
    struct ndjson *n = (struct ndjson *)source;
    mr_lines_fini(&n->lines);
    mr_ndjson_parser_destroy(&n->parser);
    free(n);
}

static enum mr_rc take_position(struct ndjson *n, const struct mr_position *after,
                                struct mr_err *err)
{
    n->place = (struct place){.version = POSITION_VERSION};
    if (after->len == 0)
        return MR_OK;
    if (after->len == sizeof n->place)
        memcpy(&n->place, after->bytes, sizeof n->place);
    if (after->len == sizeof n->place && n->place.version == POSITION_VERSION)
        return MR_OK;
    return mr_reject(err, MR_USAGE,
                     "the log in instance.data_dir was written by another source; give this "
                     "one a directory of its own");
}

static enum mr_rc ndjson_open(struct mr_source **out, const struct mr_config *config,
                              struct mr_cell_shm *cell, const struct mr_position *after,
                              struct mr_err *err)
{
    struct ndjson *n = calloc(1, sizeof *n);
    if (!n)
        return mr_fail(err, MR_FATAL, "allocate the source");
    n->source = (struct mr_source){.ops = &mr_source_ndjson, .config = config, .cell = cell};
    enum mr_rc rc = mr_lines_init(&n->lines, config->ndjson_path.text, config->ndjson_follow,
                                  config->ndjson_line_bytes_max, err);
    if (rc == MR_OK)
        rc = mr_ndjson_parser_create(&n->parser, err);
    if (rc == MR_OK)
        rc = take_position(n, after, err);
    if (rc == MR_OK)
        rc = open_file(n, err); /* now, so that a wrong path is an error at start */
    if (rc != MR_OK && rc != MR_AGAIN) {
        ndjson_close(&n->source);
        return rc;
    }
    *out = &n->source;
    return MR_OK;
}

const struct mr_source_ops mr_source_ndjson = {
    .name = "ndjson",
    .open = ndjson_open,
    .poll = ndjson_poll,
    .wait = ndjson_wait,
    .confirm = ndjson_confirm,
    .close = ndjson_close,
};
