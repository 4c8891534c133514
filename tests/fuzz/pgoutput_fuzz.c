/* Bytes of a server -> the stream: begins in a transaction with two tables described, so that rows
 * of every type and both forms are reached. Input: payloads, each with two bytes of length before
 * it. */
#include <stdlib.h>

#include "puller/sources/pg_stream.h"
#include "tests/pgoutput.h"

struct mr_intake {
    uint64_t calls;
};

enum mr_rc mr_intake_emit(struct mr_intake *intake, struct mr_event *event, struct mr_err *err)
{
    (void)err;
    const struct mr_str parts[] = {event->document, event->update, event->before};
    for (int i = 0; i < 3; i++) /* whatever comes in, what goes out is BSON */
        if (parts[i].len != 0 && mr_bson_validate(parts[i].data, parts[i].len) != MR_OK)
            abort();
    return intake->calls++ % 3 == 2 ? MR_FULL : MR_OK;
}

void mr_intake_position(struct mr_intake *intake, const struct mr_position *position)
{
    (void)intake;
    (void)position;
}

static const uint32_t types[] = {16,   17,   20,   21,   23,   25,   700,  701,
                                 1082, 1083, 1114, 1184, 1186, 1266, 1700, 2950,
                                 114,  3802, 1007, 1009, 1231, 1185, 199,  16999};
enum { TYPE_COUNT = sizeof types / sizeof *types };

static struct mr_err err;

static void describe(struct mr_pg_stream *stream, struct mr_intake *intake, uint32_t oid,
                     char identity)
{
    static struct pgoutput out;
    static struct pgoutput_column columns[TYPE_COUNT];
    for (int i = 0; i < TYPE_COUNT; i++)
        columns[i] = (struct pgoutput_column){"c", types[i], identity == 'f' || i % 5 == 2};
    pgoutput_relation(&out, oid, oid == 1 ? "public" : "other", "t", identity, columns, TYPE_COUNT);
    for (int i = 0; i < 3; i++) /* what is new to the catalog is asked for once each */
        if (mr_pg_stream_take(stream, out.data, out.len, intake, 1, &err) == MR_OK)
            break;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct pgoutput out;
    struct mr_pg_stream *stream = calloc(1, sizeof *stream);
    struct mr_intake intake = {0};
    struct mr_pg_position position = {.lsn = 1};
    if (!stream)
        return 0;
    mr_pg_stream_init(stream, MR_STR("db"), &position);
    pgoutput_begin(&out, 100, 5);
    enum mr_rc rc = mr_pg_stream_take(stream, out.data, out.len, &intake, 1, &err);
    describe(stream, &intake, 1, 'd');
    describe(stream, &intake, 2, 'f');
    while (rc == MR_OK && size >= 2) {
        size_t len = (size_t)data[0] | (size_t)data[1] << 8;
        data += 2;
        size -= 2;
        len = len > size ? size : len;
        do
            rc = mr_pg_stream_take(stream, data, len, &intake, 2, &err);
        while (rc == MR_FULL);
        data += len;
        size -= len;
    }
    mr_pg_stream_fini(stream);
    free(stream);
    return 0;
}
