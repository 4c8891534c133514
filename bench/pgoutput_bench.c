/* bench-pgoutput: decoding rows of ten columns from pgoutput bytes into BSON events, in both forms,
 * against the floor of copying the same bytes and visiting each value. One JSON line.
 *   bench-pgoutput [--rows N] */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "puller/sources/pg_stream.h"
#include "tests/pgoutput.h"

enum { ROUNDS = 5, DISTINCT_ROWS = 1024, COLUMNS = 10 };

struct mr_intake {
    uint64_t events, document_bytes;
    uint8_t copy[4096];
};

/* What the log's intake must do at least: copy the document. */
enum mr_rc mr_intake_emit(struct mr_intake *intake, struct mr_event *event, struct mr_err *err)
{
    (void)err;
    memcpy(intake->copy, event->document.data, event->document.len);
    intake->events++;
    intake->document_bytes += event->document.len;
    return MR_OK;
}

void mr_intake_position(struct mr_intake *intake, const struct mr_position *position)
{
    memcpy(intake->copy, position->bytes, position->len);
}

static const struct pgoutput_column columns[COLUMNS] = {
    {"id", 20, 1},     {"author", 25, 0}, {"status", 25, 0}, {"price", 1700, 0},
    {"count", 23, 0},  {"score", 701, 0}, {"active", 16, 0}, {"created", 1184, 0},
    {"tags", 3802, 0}, {"body", 25, 0}};
static const char tags[] = "{\"color\": \"red\", \"size\": 42, \"list\": [\"a\", \"b\", 3]}";
static const char body[] =
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor";

struct payload {
    uint8_t *data;
    size_t len;
};

static void put_binary(struct pgoutput *out, const void *data, uint32_t len)
{
    pgoutput_u8(out, 'b');
    pgoutput_u32(out, len);
    pgoutput_bytes(out, data, len);
}

static void put_binary_row(struct pgoutput *out, uint64_t id)
{
    uint64_t be_id = __builtin_bswap64(id),
             time = __builtin_bswap64(UINT64_C(848000000000000) + id);
    uint32_t be_count = __builtin_bswap32((uint32_t)id);
    double score = (double)id * 0.37;
    uint64_t bits;
    memcpy(&bits, &score, sizeof bits);
    bits = __builtin_bswap64(bits);
    static const uint8_t price[] = {0, 2, 0, 0, 0, 0, 0, 2, 0, 12, 0x13, 0x88}; /* 12.50 */
    char author[32], jsonb[sizeof tags];
    jsonb[0] = 1;
    memcpy(jsonb + 1, tags, sizeof tags - 1);
    pgoutput_u8(out, 'N');
    pgoutput_u16(out, COLUMNS);
    put_binary(out, &be_id, 8);
    put_binary(out, author, (uint32_t)snprintf(author, sizeof author, "author-%" PRIu64, id));
    put_binary(out, "open", 4);
    put_binary(out, price, sizeof price);
    put_binary(out, &be_count, 4);
    put_binary(out, &bits, 8);
    put_binary(out, "\1", 1);
    put_binary(out, &time, 8);
    put_binary(out, jsonb, sizeof jsonb);
    put_binary(out, body, sizeof body - 1);
}

static void put_text_row(struct pgoutput *out, uint64_t row)
{
    char id[24], author[32], count[24], score[32];
    snprintf(id, sizeof id, "%" PRIu64, row);
    snprintf(author, sizeof author, "author-%" PRIu64, row);
    snprintf(count, sizeof count, "%" PRIu64, row);
    snprintf(score, sizeof score, "%.15g", (double)row * 0.37);
    const char *values[COLUMNS] = {id,    author, "open", "12.50",
                                   count, score,  "t",    "2026-11-21 10:11:12.345678+00",
                                   tags,  body};
    pgoutput_row(out, 'N', values, COLUMNS);
}

static void make_payloads(struct payload *payloads, bool binary)
{
    static struct pgoutput out;
    for (uint64_t i = 0; i < DISTINCT_ROWS; i++) {
        pgoutput_change(&out, 1000 + i, 'I', 7);
        if (binary)
            put_binary_row(&out, 1000000 + i);
        else
            put_text_row(&out, 1000000 + i);
        payloads[i].data = malloc(out.len);
        payloads[i].len = out.len;
        if (!payloads[i].data)
            abort();
        memcpy(payloads[i].data, out.data, out.len);
    }
}

static void take(struct mr_pg_stream *stream, const uint8_t *data, size_t len,
                 struct mr_intake *intake)
{
    struct mr_err err;
    if (mr_pg_stream_take(stream, data, len, intake, 1, &err) != MR_OK) {
        fprintf(stderr, "bench-pgoutput: %s\n", err.text);
        exit(1);
    }
}

static double decode_seconds(const struct payload *payloads, uint64_t rows, bool binary,
                             struct mr_intake *intake)
{
    static struct pgoutput out;
    struct mr_pg_stream *stream = calloc(1, sizeof *stream);
    struct mr_pg_position position = {.lsn = 1};
    if (!stream)
        abort();
    mr_pg_stream_init(stream, MR_STR("bench"), &position);
    stream->binary = binary;
    pgoutput_begin(&out, 5000, 9);
    take(stream, out.data, out.len, intake);
    pgoutput_relation(&out, 7, "public", "posts", 'd', columns, COLUMNS);
    take(stream, out.data, out.len, intake);
    uint64_t start_ns = mr_clock_ns();
    for (uint64_t i = 0; i < rows; i++)
        take(stream, payloads[i % DISTINCT_ROWS].data, payloads[i % DISTINCT_ROWS].len, intake);
    double seconds = (double)(mr_clock_ns() - start_ns) / 1e9;
    mr_pg_stream_fini(stream);
    free(stream);
    return seconds;
}

/* Copy each payload and look at the form and length of each of its values. */
static double floor_seconds(const struct payload *payloads, uint64_t rows, struct mr_intake *intake)
{
    static struct mr_pg_message message;
    uint64_t start_ns = mr_clock_ns(), sum = 0;
    for (uint64_t i = 0; i < rows; i++) {
        const struct payload *p = &payloads[i % DISTINCT_ROWS];
        memcpy(intake->copy, p->data, p->len);
        if (mr_pg_decode(intake->copy + 25, p->len - 25, &message, NULL) != MR_OK)
            exit(1);
        for (uint32_t c = 0; c < message.new_row.count; c++)
            sum += message.new_row.values[c].len;
    }
    intake->document_bytes += sum & 1; /* keeps the loop */
    return (double)(mr_clock_ns() - start_ns) / 1e9;
}

int main(int argc, char **argv)
{
    uint64_t rows =
        argc == 3 && strcmp(argv[1], "--rows") == 0 ? strtoull(argv[2], NULL, 10) : 500000;
    static struct mr_intake intake;
    static struct payload payloads[2][DISTINCT_ROWS];
    printf("{\"bench\":\"pgoutput\",\"rows\":%" PRIu64 ",\"columns\":%d", rows, COLUMNS);
    for (int binary = 0; binary < 2; binary++) {
        make_payloads(payloads[binary], binary);
        double best = 1e9, best_floor = 1e9;
        for (int round = 0; round < ROUNDS;
             round++) { /* in turns: the machine is not always quiet */
            double seconds = decode_seconds(payloads[binary], rows, binary, &intake);
            double base = floor_seconds(payloads[binary], rows, &intake);
            best = seconds < best ? seconds : best;
            best_floor = base < best_floor ? base : best_floor;
        }
        printf(",\"%s\":{\"payload_bytes\":%zu,\"rows_per_s\":%.0f,\"floor_rows_per_s\":%.0f,"
               "\"ns_per_row\":%.0f}",
               binary ? "binary" : "text", payloads[binary][0].len, (double)rows / best,
               (double)rows / best_floor, best * 1e9 / (double)rows);
    }
    printf(",\"document_bytes\":%" PRIu64 "}\n", intake.document_bytes / intake.events);
    return 0;
}
