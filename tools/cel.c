/* millrace-cel: check and evaluate an expression of the Common Expression Language, offline. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cel/regex.h"
#include "cel/utf8.h"
#include "tools/cel_batch.h"
#include "tools/cel_case.h"
#include "tools/cel_json.h"
#include "tools/cel_value.h"
#include "tools/format.h"

static const char usage_text[] =
    "usage: millrace cel EXPRESSION [--doc FILE|JSON|-] [--explain|--disassemble|--time]\n"
    "       millrace cel --ndjson [--line-buffered]\n"
    "\n"
    "Prints the value of EXPRESSION, in which doc is the document, or says what is wrong with it.\n"
    "\n"
    "  --doc FILE|JSON|-  a JSON object (MongoDB's extended forms are understood), a file that\n"
    "                     holds one, or - for standard input\n"
    "  --explain          the value of each part of the expression\n"
    "  --disassemble      the program that it becomes\n"
    "  --time             how long compiling and evaluating take\n"
    "  --ndjson           answer the cases on standard input, one a line\n"
    "  --line-buffered    with --ndjson: write each answer at once\n"
    "\n"
    "Exit codes: 0 a value, 1 an error, 2 wrong usage.\n";

enum { EXIT_ERROR = 1, EVAL_BYTES_MAX = 4 << 20, DOC_BYTES_MAX = 64 << 20 };

struct options {
    const char *expr, *doc;
    bool explain, disassemble, time, ndjson, line_buffered;
};

static int usage(const char *why, const char *what)
{
    fprintf(stderr, "millrace-cel: %s%s\n%s", why, what, usage_text);
    return MR_EXIT_USAGE;
}

/* -1: go on; else exit with it. */
static int parse_options(int argc, char **argv, struct options *out)
{
    enum { DOC = 256, EXPLAIN, DISASSEMBLE, TIME, NDJSON, LINE_BUFFERED };
    static const struct option known[] = {
        {"doc", required_argument, NULL, DOC},
        {"explain", no_argument, NULL, EXPLAIN},
        {"disassemble", no_argument, NULL, DISASSEMBLE},
        {"time", no_argument, NULL, TIME},
        {"ndjson", no_argument, NULL, NDJSON},
        {"line-buffered", no_argument, NULL, LINE_BUFFERED},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    for (int option; (option = getopt_long(argc, argv, ":h", known, NULL)) != -1;) {
        switch (option) {
        case 'h':
            fputs(usage_text, stdout);
            return MR_EXIT_DONE;
        case DOC:
            out->doc = optarg;
            break;
        case EXPLAIN:
            out->explain = true;
            break;
        case DISASSEMBLE:
            out->disassemble = true;
            break;
        case TIME:
            out->time = true;
            break;
        case NDJSON:
            out->ndjson = true;
            break;
        case LINE_BUFFERED:
            out->line_buffered = true;
            break;
        case ':':
            return usage("a value is missing behind ", argv[optind - 1]);
        default:
            return usage("unknown option ", argv[optind - 1]);
        }
    }
    if (out->ndjson)
        return optind == argc ? -1 : usage("no expression goes with ", "--ndjson");
    if (optind == argc)
        return usage("an expression is missing", "");
    if (optind + 1 < argc)
        return usage("one expression at a time: what about ", argv[optind + 1]);
    out->expr = argv[optind];
    return -1;
}

static enum mr_rc read_all(FILE *file, const char *name, char **out, size_t *len,
                           struct mr_err *err)
{
    size_t size = 0, count;
    char *text = NULL;
    *len = 0;
    do {
        if (size - *len < 4096) {
            size = size > 0 ? size * 2 : 65536;
            char *grown = size > DOC_BYTES_MAX ? NULL : realloc(text, size);
            if (!grown) {
                free(text);
                return mr_reject(err, MR_USAGE, "%s: more than %d bytes", name, DOC_BYTES_MAX);
            }
            text = grown;
        }
        count = fread(text + *len, 1, size - *len, file);
        *len += count;
    } while (count > 0);
    *out = text;
    return ferror(file) ? mr_fail(err, MR_USAGE, "read %s", name) : MR_OK;
}

/* What --doc names. *out: malloc'd. */
static enum mr_rc read_doc(const char *doc, char **out, size_t *len, struct mr_err *err)
{
    const char *first = doc + strspn(doc, " \t\r\n");
    if (*first == '{') {
        *out = strdup(doc);
        *len = strlen(doc);
        return *out ? MR_OK : mr_fail(err, MR_FATAL, "allocate a document");
    }
    if (strcmp(doc, "-") == 0)
        return read_all(stdin, "standard input", out, len, err);
    FILE *file = fopen(doc, "re");
    if (!file)
        return mr_fail(err, MR_USAGE, "open document %s", doc);
    enum mr_rc rc = read_all(file, doc, out, len, err);
    fclose(file);
    return rc;
}

/* One expression over one document. */
struct session {
    struct mr_cel_json *reader;
    struct mr_cel_bench *bench;
    struct mr_cel_regex_cache *regex;
    char *doc_text;
    struct mr_cel_arena compile_arena, eval_arena;
    struct mr_cel_case c;
    const struct mr_cel_env *env;
    struct mr_cel_front front;
    struct mr_cel_diag diag;
    struct mr_cel_program program;
    struct mr_cel_compiled compiled;
    struct mr_cel_ctx ctx;
    const struct mr_cel_val *variables;
    struct mr_json out;
};

static enum mr_rc open_session(struct session *s, const struct options *options, struct mr_err *err)
{
    static const struct mr_cel_regex_limits regex_limits = MR_CEL_REGEX_LIMITS_DEFAULT;
    mr_cel_arena_init(&s->compile_arena, NULL, 0, mr_cel_limits_default.compile_bytes_max);
    mr_cel_arena_init(&s->eval_arena, NULL, 0, EVAL_BYTES_MAX);
    s->ctx.arena = &s->eval_arena;
    mr_cel_ctx_start(&s->ctx, UINT64_MAX);
    enum mr_rc rc = mr_cel_json_create(&s->reader, err);
    if (rc == MR_OK)
        rc = mr_cel_bench_create(&s->bench, err);
    if (rc == MR_OK && mr_cel_regex_cache_create(&regex_limits, &s->regex) != MR_CEL_REGEX_OK)
        rc = mr_fail(err, MR_FATAL, "allocate a cache of patterns");
    s->c.expr = mr_str_from(options->expr);
    if (rc == MR_OK && options->doc) {
        size_t len;
        struct mr_str bson;
        rc = read_doc(options->doc, &s->doc_text, &len, err);
        if (rc == MR_OK)
            rc = mr_cel_json_parse(s->reader, (struct mr_str){s->doc_text, len}, &bson, err);
        if (rc == MR_OK)
            s->c.doc = (struct mr_bson_value){MR_BSON_DOCUMENT, (const uint8_t *)bson.data,
                                              (uint32_t)bson.len};
        else
            mr_err_prefix(err, "document");
    }
    if (rc == MR_OK)
        rc = mr_cel_bench_env(s->bench, &s->c, &s->env, err);
    if (rc == MR_OK)
        rc = mr_cel_bench_variables(&s->ctx, s->env, &s->c, &s->variables, err);
    s->front = (struct mr_cel_front){.env = s->env,
                                     .limits = &mr_cel_limits_default,
                                     .arena = &s->compile_arena,
                                     .diag = &s->diag};
    return rc;
}

static void close_session(struct session *s)
{
    mr_cel_unload(&s->program);
    free(s->compiled.bytes);
    if (s->regex)
        mr_cel_regex_cache_destroy(&s->regex);
    mr_cel_bench_destroy(&s->bench);
    mr_cel_json_destroy(&s->reader);
    mr_cel_arena_fini(&s->compile_arena);
    mr_cel_arena_fini(&s->eval_arena);
    mr_json_fini(&s->out);
    free(s->doc_text);
}

static int show_diag(const struct mr_cel_diag *diag, struct mr_str source)
{
    char text[2048];
    mr_cel_diag_render(diag, source, text, sizeof text);
    fflush(stdout);
    fputs(text, stderr);
    return EXIT_ERROR;
}

/* Where a line and a column, in code points, are in a text; both from 1. */
static uint32_t offset_at(struct mr_str text, uint32_t line, uint32_t column)
{
    size_t at = 0;
    for (; line > 1 && at < text.len; at++)
        line -= text.data[at] == '\n';
    while (column > 1 && at < text.len) {
        mr_cel_utf8_next(text, &at);
        column--;
    }
    return (uint32_t)at;
}

/* An error of the evaluation, shown like one of the compilation. */
static int show_error(const struct session *s, struct mr_cel_val error)
{
    struct mr_str detail = mr_cel_error_detail(error);
    struct mr_cel_diag diag;
    uint32_t line, column;
    bool placed = mr_cel_program_place(&s->program, error, &line, &column);
    mr_cel_diag_set(&diag, s->c.expr, placed ? offset_at(s->c.expr, line, column) : 0, 1,
                    MR_CEL_STAGE_CHECK, "%s%s%.*s", mr_cel_code_text(error.aux),
                    detail.len > 0 ? ": " : "", (int)detail.len, detail.data);
    if (placed)
        return show_diag(&diag, s->c.expr);
    fprintf(stderr, "%s\n", diag.text);
    return EXIT_ERROR;
}

static struct mr_cel_run new_run(const struct session *s, struct mr_cel_arena *arena)
{
    return (struct mr_cel_run){.variables = s->variables,
                               .variable_count = mr_cel_env_variable_count(s->env),
                               .arena = arena,
                               .regex = s->regex};
}

static int show_value(struct session *s)
{
    struct mr_cel_run run = new_run(s, &s->eval_arena);
    struct mr_cel_val value = mr_cel_eval(&s->program, &run);
    if (value.kind == MR_CEL_ERROR)
        return show_error(s, value);
    if (!mr_cel_value_write(&s->out, &s->ctx, value, MR_CEL_VALUE_PLAIN, DOC_BYTES_MAX)) {
        fprintf(stderr, "the value's text is longer than %d bytes\n", DOC_BYTES_MAX);
        return EXIT_ERROR;
    }
    mr_json_put_raw(&s->out, MR_STR("\n"));
    return fwrite(s->out.data, 1, s->out.len, stdout) == s->out.len ? MR_EXIT_DONE : EXIT_ERROR;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

enum { TIMED_NS = 200000000 };

static double time_compile(struct session *s)
{
    uint64_t start = now_ns(), end, turns = 0;
    do {
        struct mr_cel_compiled compiled;
        mr_cel_arena_reset(&s->compile_arena);
        if (mr_cel_compile(&s->front, s->c.expr, &compiled) == MR_OK)
            free(compiled.bytes);
        turns++;
    } while ((end = now_ns()) - start < TIMED_NS);
    return (double)(end - start) / (double)turns;
}

static double time_eval(struct session *s)
{
    struct mr_cel_arena arena; /* the variables stay in the other one */
    mr_cel_arena_init(&arena, NULL, 0, EVAL_BYTES_MAX);
    uint64_t start = now_ns(), end, turns = 0;
    do {
        for (int i = 0; i < 64; i++, turns++) {
            struct mr_cel_run run = new_run(s, &arena);
            mr_cel_arena_reset(&arena);
            (void)mr_cel_eval(&s->program, &run);
        }
    } while ((end = now_ns()) - start < TIMED_NS);
    mr_cel_arena_fini(&arena);
    return (double)(end - start) / (double)turns;
}

static int show_times(struct session *s)
{
    char compile[32], eval[32];
    int code = show_value(s);
    double eval_ns = time_eval(s), compile_ns = time_compile(s);
    printf("compile   %s\nevaluate  %s\nprogram   %u bytes\n", mr_format_time(compile, compile_ns),
           mr_format_time(eval, eval_ns), s->compiled.len);
    return code;
}

static int show_text(struct mr_str text)
{
    return fwrite(text.data, 1, text.len, stdout) == text.len ? MR_EXIT_DONE : EXIT_ERROR;
}

static int show_explanation(struct session *s)
{
    struct mr_cel_run run = new_run(s, &s->eval_arena);
    struct mr_str text;
    mr_cel_arena_reset(&s->compile_arena);
    enum mr_rc rc = mr_cel_explain(&s->front, s->c.expr, &run, &text);
    if (rc == MR_USAGE)
        return show_diag(&s->diag, s->c.expr);
    if (rc == MR_OK)
        return show_text(text);
    fprintf(stderr, "millrace-cel: explain: %s\n", mr_rc_name(rc));
    return EXIT_ERROR;
}

static int run_expression(const struct options *options)
{
    struct session s = {0};
    struct mr_err err;
    int code = EXIT_ERROR;
    if (open_session(&s, options, &err) != MR_OK) {
        fprintf(stderr, "millrace-cel: %s\n", err.text);
        code = err.rc == MR_USAGE ? MR_EXIT_USAGE : EXIT_ERROR;
    } else if (mr_cel_compile(&s.front, s.c.expr, &s.compiled) != MR_OK) {
        code = show_diag(&s.diag, s.c.expr);
    } else if (mr_cel_load(s.compiled.bytes, s.compiled.len, &s.program, &err) != MR_OK) {
        fprintf(stderr, "millrace-cel: %s\n", err.text);
    } else if (options->disassemble) {
        code = show_text(mr_cel_disassemble(&s.program, &s.eval_arena));
    } else if (options->explain) {
        code = show_explanation(&s);
    } else {
        code = options->time ? show_times(&s) : show_value(&s);
    }
    close_session(&s);
    return code;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    int code = parse_options(argc, argv, &options);
    if (code >= 0)
        return code;
    if (!options.ndjson)
        return run_expression(&options);
    struct mr_err err;
    if (mr_cel_batch_run(stdin, stdout, options.line_buffered, &err) == MR_OK)
        return MR_EXIT_DONE;
    fprintf(stderr, "millrace-cel: %s\n", err.text);
    return EXIT_ERROR;
}
