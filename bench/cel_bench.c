/* bench-cel [rounds]: CEL on one core, JSON on standard output: what one evaluation of a typical
 * filter costs over a document read in place, what compiling and loading it costs, and 100,000
 * different filters. bench/cel runs the same filters over the same document through other
 * implementations. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cel/cel.h"

enum { ROUNDS_DEFAULT = 7, FILTERS = 8, MANY = 100000, ARENA_BYTES = 1 << 16, EVALS = 200000 };

static const char *const filters[FILTERS] = {
    "doc.status == \"active\" && doc.price > 100.0",
    "doc.tags.exists(t, t == \"go\")",
    "doc.user.name.startsWith(\"al\")",
    "doc.n in [1,2,3,5,8]",
    "has(doc.a.b) && doc.a.b.c == 3",
    "doc.title.matches(\"^h.*o$\")",
    "size(doc.items) > 3 && doc.items[0].sku == \"x\"",
    "timestamp(doc.at) > timestamp(\"2024-01-01T00:00:00Z\")",
};

/* This thread's own time: other programs on the machine do not count. */
static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "bench-cel: %s\n", what);
    exit(1);
}

static struct mr_str document(struct mr_bson_writer *w)
{
    static const char *const tags[] = {"c", "rust", "go", "zig"};
    char index[2] = "0";
    mr_bson_writer_init(w);
    mr_bson_begin(w);
    mr_bson_put_string(w, MR_STR("_id"), MR_STR("65a1b2c3d4e5f60718293a4b"));
    mr_bson_put_string(w, MR_STR("status"), MR_STR("active"));
    mr_bson_put_double(w, MR_STR("price"), 149.5);
    mr_bson_put_int64(w, MR_STR("n"), 5);
    mr_bson_put_string(w, MR_STR("title"), MR_STR("hello"));
    mr_bson_begin_document(w, MR_STR("user"));
    mr_bson_put_string(w, MR_STR("id"), MR_STR("u-1001"));
    mr_bson_put_string(w, MR_STR("name"), MR_STR("alice"));
    mr_bson_end(w);
    mr_bson_begin_array(w, MR_STR("tags"));
    for (int i = 0; i < 4; i++, index[0]++)
        mr_bson_put_string(w, mr_str_from(index), mr_str_from(tags[i]));
    mr_bson_end(w);
    mr_bson_begin_array(w, MR_STR("items"));
    index[0] = '0';
    for (int i = 0; i < 5; i++, index[0]++) {
        mr_bson_begin_document(w, mr_str_from(index));
        mr_bson_put_string(w, MR_STR("sku"), i == 0 ? MR_STR("x") : MR_STR("y"));
        mr_bson_put_int64(w, MR_STR("qty"), i);
        mr_bson_end(w);
    }
    mr_bson_end(w);
    mr_bson_begin_document(w, MR_STR("a"));
    mr_bson_begin_document(w, MR_STR("b"));
    mr_bson_put_int64(w, MR_STR("c"), 3);
    mr_bson_end(w);
    mr_bson_end(w);
    mr_bson_put_string(w, MR_STR("at"), MR_STR("2024-06-01T12:30:00Z"));
    mr_bson_put_bool(w, MR_STR("deleted"), false);
    mr_bson_put_string(w, MR_STR("note"), MR_STR("a text of some length that no filter reads"));
    mr_bson_end(w);
    return mr_bson_bytes(w);
}

static int by_size(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, by_size);
    return values[count / 2];
}

struct bench {
    struct mr_cel_env *env;
    struct mr_cel_arena scratch, arena;
    struct mr_cel_val variables[1];
    int rounds;
    uint64_t scratch_peak_bytes;
};

static struct mr_cel_compiled compile(struct bench *b, struct mr_str source)
{
    struct mr_cel_diag diag;
    struct mr_cel_front front = {b->env, &mr_cel_limits_default, &b->scratch, &diag,
                                 MR_CEL_STRIPPED};
    struct mr_cel_compiled out;
    mr_cel_arena_reset(&b->scratch);
    if (mr_cel_compile(&front, source, &out) != MR_OK)
        die(diag.text);
    uint64_t used = mr_cel_arena_used(&b->scratch);
    if (used > b->scratch_peak_bytes)
        b->scratch_peak_bytes = used;
    return out;
}

static struct mr_cel_program load(const struct mr_cel_compiled *compiled)
{
    struct mr_err err;
    struct mr_cel_program program;
    if (mr_cel_load(compiled->bytes, compiled->len, &program, &err) != MR_OK)
        die(err.text);
    return program;
}

static double eval_ns(struct bench *b, const struct mr_cel_program *program)
{
    double rounds[64];
    for (int round = 0; round < b->rounds; round++) {
        uint64_t start = cpu_ns(), matches = 0;
        for (int i = 0; i < EVALS; i++) {
            struct mr_cel_run run = {
                .variables = b->variables, .variable_count = 1, .arena = &b->arena};
            mr_cel_arena_reset(&b->arena);
            struct mr_cel_val v = mr_cel_eval(program, &run);
            matches += v.kind == MR_CEL_BOOL && v.boolean;
        }
        if (matches != EVALS)
            die("a filter does not match");
        rounds[round] = (double)(cpu_ns() - start) / EVALS;
    }
    return median(rounds, b->rounds);
}

static double compile_ns(struct bench *b, struct mr_str source)
{
    double rounds[64];
    enum { TIMES = 2000 };
    for (int round = 0; round < b->rounds; round++) {
        uint64_t start = cpu_ns();
        for (int i = 0; i < TIMES; i++)
            free(compile(b, source).bytes);
        rounds[round] = (double)(cpu_ns() - start) / TIMES;
    }
    return median(rounds, b->rounds);
}

static double load_ns(struct bench *b, const struct mr_cel_compiled *compiled)
{
    double rounds[64];
    enum { TIMES = 2000 };
    for (int round = 0; round < b->rounds; round++) {
        uint64_t start = cpu_ns();
        for (int i = 0; i < TIMES; i++) {
            struct mr_cel_program program = load(compiled);
            mr_cel_unload(&program);
        }
        rounds[round] = (double)(cpu_ns() - start) / TIMES;
    }
    return median(rounds, b->rounds);
}

static void print_filter(struct bench *b, int index)
{
    struct mr_str source = mr_str_from(filters[index]);
    struct mr_cel_compiled compiled = compile(b, source);
    struct mr_cel_program program = load(&compiled);
    printf("%s\n    {\"filter\": \"", index > 0 ? "," : "");
    for (const char *at = filters[index]; *at; at++)
        printf(*at == '"' ? "\\\"" : "%c", *at);
    printf("\", \"eval_ns\": %.1f, ", eval_ns(b, &program));
    printf("\"compile_ns\": %.0f, \"load_ns\": %.0f, \"bytes\": %u}", compile_ns(b, source),
           load_ns(b, &compiled), compiled.len);
    mr_cel_unload(&program);
    free(compiled.bytes);
}

/* The filters without a regular expression in turn, with other constants each. */
static size_t vary(char *out, size_t size, int i)
{
    switch (i % 7) {
    case 0:
        return (size_t)snprintf(out, size, "doc.status == \"active%d\" && doc.price > %d.5", i, i);
    case 1:
        return (size_t)snprintf(out, size, "doc.tags.exists(t, t == \"go%d\")", i);
    case 2:
        return (size_t)snprintf(out, size, "doc.user.name.startsWith(\"al%d\")", i);
    case 3:
        return (size_t)snprintf(out, size, "doc.n in [%d,2,3,5,8]", i);
    case 4:
        return (size_t)snprintf(out, size, "has(doc.a.b) && doc.a.b.c == %d", i);
    case 5:
        return (size_t)snprintf(out, size, "size(doc.items) > 3 && doc.items[0].sku == \"x%d\"", i);
    default:
        return (size_t)snprintf(
            out, size, "timestamp(doc.at) > timestamp(\"2024-01-01T00:00:00Z\") && doc.n > %d", i);
    }
}

static void print_many(struct bench *b)
{
    struct mr_cel_compiled *compiled = calloc(MANY, sizeof *compiled);
    struct mr_cel_program *programs = calloc(MANY, sizeof *programs);
    if (!compiled || !programs)
        die("no memory");
    char text[160];
    uint64_t bytes = 0, start = cpu_ns();
    for (int i = 0; i < MANY; i++)
        compiled[i] = compile(b, (struct mr_str){text, vary(text, sizeof text, i)});
    uint64_t middle = cpu_ns();
    for (int i = 0; i < MANY; i++) {
        programs[i] = load(&compiled[i]);
        bytes += compiled[i].len;
    }
    uint64_t end = cpu_ns();
    printf("  \"many\": {\"filters\": %d, \"compile_s\": %.3f, \"load_s\": %.3f, \"bytes_each\": "
           "%.0f},\n",
           MANY, (double)(middle - start) / 1e9, (double)(end - middle) / 1e9,
           (double)bytes / MANY);
    for (int i = 0; i < MANY; i++) {
        mr_cel_unload(&programs[i]);
        free(compiled[i].bytes);
    }
    free(programs);
    free(compiled);
}

int main(int argc, char **argv)
{
    struct bench b = {.rounds = argc > 1 ? atoi(argv[1]) : ROUNDS_DEFAULT};
    if (b.rounds < 1 || b.rounds > 64)
        die("rounds: 1 to 64");
    struct mr_err err;
    if (mr_cel_env_create(MR_CEL_LIBRARIES_DEFAULT, &b.env, &err) != MR_OK ||
        mr_cel_env_add_variable(b.env, MR_STR("doc"), MR_STR("dyn"), &err) != MR_OK)
        die(err.text);
    static _Alignas(8) uint8_t bytes[ARENA_BYTES];
    mr_cel_arena_init(&b.arena, bytes, sizeof bytes, sizeof bytes); /* never asks the heap */
    mr_cel_arena_init(&b.scratch, NULL, 0, mr_cel_limits_default.compile_bytes_max);
    struct mr_bson_writer w;
    struct mr_str doc = document(&w);
    b.variables[0] = mr_cel_document(doc.data, (uint32_t)doc.len);
    printf("{\n  \"document_bytes\": %zu,\n", doc.len);
    print_many(&b);
    printf("  \"filters\": [");
    for (int i = 0; i < FILTERS; i++)
        print_filter(&b, i);
    printf("\n  ],\n  \"compile_peak_bytes\": %llu\n}\n", (unsigned long long)b.scratch_peak_bytes);
    mr_bson_writer_fini(&w);
    mr_cel_arena_fini(&b.scratch);
    mr_cel_env_destroy(&b.env);
    return 0;
}
