#include "tools/cel_batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cel/regex.h"
#include "tools/cel_case.h"
#include "tools/cel_json.h"
#include "tools/cel_value.h"

enum { EVAL_ARENA_BYTES = 1 << 16, EVAL_BYTES_MAX = 4 << 20, VALUE_BYTES_MAX = 1 << 20 };

struct batch {
    struct mr_cel_json *reader;
    struct mr_cel_bench *bench;
    struct mr_cel_regex_cache *regex;
    struct mr_cel_arena compile_arena, eval_arena;
    struct mr_json out; /* the line at hand */
    struct mr_cel_case c;
};

static void put(struct batch *b, const char *text)
{
    mr_json_put_raw(&b->out, mr_str_from(text));
}

static void put_error(struct batch *b, const char *stage, struct mr_str message, uint32_t line,
                      uint32_t column)
{
    put(b, ",\"error\":{\"stage\":\"");
    put(b, stage);
    put(b, "\",\"message\":");
    mr_json_put_string(&b->out, message);
    put(b, ",\"line\":");
    mr_json_put_int(&b->out, line);
    put(b, ",\"column\":");
    mr_json_put_int(&b->out, column);
    put(b, "}");
}

static void put_type(struct batch *b, const struct mr_cel_type *type)
{
    char text[512];
    if (b->c.disable_check || !type)
        return;
    mr_cel_type_print(type, text, sizeof text);
    put(b, ",\"type\":");
    mr_json_put_string(&b->out, mr_str_from(text));
}

static void put_eval_error(struct batch *b, const struct mr_cel_program *program,
                           struct mr_cel_val error)
{
    char text[512];
    uint32_t line = 0, column = 0;
    struct mr_str detail = mr_cel_error_detail(error);
    int len = snprintf(text, sizeof text, "%s%s%.*s", mr_cel_code_text(error.aux),
                       detail.len > 0 ? ": " : "", (int)detail.len, detail.data);
    if (!mr_cel_program_place(program, error, &line, &column))
        line = column = 0;
    put_error(b, mr_cel_is_fatal(error) ? "limit" : "eval",
              (struct mr_str){text, (size_t)len < sizeof text ? (size_t)len : sizeof text - 1},
              line, column);
}

/* Evaluate a compiled program. */
static void evaluate(struct batch *b, const struct mr_cel_env *env,
                     const struct mr_cel_compiled *compiled)
{
    struct mr_cel_program program;
    struct mr_err err;
    if (mr_cel_load(compiled->bytes, compiled->len, &program, &err) != MR_OK) {
        put_error(b, "limit", mr_str_from(err.text), 0, 0);
        return;
    }
    struct mr_cel_ctx ctx = {.arena = &b->eval_arena};
    mr_cel_ctx_start(&ctx, UINT64_MAX);
    struct mr_cel_run run = {.variable_count = mr_cel_env_variable_count(env),
                             .arena = &b->eval_arena,
                             .regex = b->regex};
    if (mr_cel_bench_variables(&ctx, env, &b->c, &run.variables, &err) != MR_OK) {
        put_error(b, "eval", mr_str_from(err.text), 0, 0);
    } else {
        struct mr_cel_val value = mr_cel_eval(&program, &run);
        if (value.kind == MR_CEL_ERROR) {
            put_eval_error(b, &program, value);
        } else {
            size_t len = b->out.len;
            put(b, ",\"value\":");
            if (!mr_cel_value_write(&b->out, &ctx, value, MR_CEL_VALUE_TYPED, VALUE_BYTES_MAX)) {
                b->out.len = len;
                put_error(b, "limit", MR_STR("limit of a value's text reached: 1 MiB"), 0, 0);
            }
        }
    }
    mr_cel_unload(&program);
}

static void answer_case(struct batch *b)
{
    const struct mr_cel_env *env;
    struct mr_err err;
    struct mr_cel_diag diag;
    struct mr_cel_compiled compiled;
    if (mr_cel_bench_env(b->bench, &b->c, &env, &err) != MR_OK) {
        put_error(b, "check", mr_str_from(err.text), 0, 0);
        return;
    }
    struct mr_cel_front front = {
        .env = env,
        .limits = &mr_cel_limits_default,
        .arena = &b->compile_arena,
        .diag = &diag,
        .flags = (b->c.disable_check ? (uint32_t)MR_CEL_NO_CHECK : 0) |
                 (b->c.disable_macros ? (uint32_t)MR_CEL_NO_MACROS : 0),
    };
    if (mr_cel_compile(&front, b->c.expr, &compiled) != MR_OK) {
        put_error(b, mr_cel_stage_name(diag.stage), mr_str_from(diag.text), diag.line, diag.column);
        return;
    }
    evaluate(b, env, &compiled);
    put_type(b, compiled.type);
    free(compiled.bytes);
}

static void answer_line(struct batch *b, struct mr_str line)
{
    struct mr_str bson;
    struct mr_err err;
    b->c = (struct mr_cel_case){0};
    mr_json_reset(&b->out);
    enum mr_rc rc = mr_cel_json_parse(b->reader, line, &bson, &err);
    if (rc == MR_OK)
        rc = mr_cel_case_read(bson, &b->c, &err);
    put(b, "{\"id\":");
    mr_json_put_string(&b->out, b->c.id);
    if (rc == MR_OK)
        answer_case(b);
    else
        put_error(b, "parse", mr_str_from(err.text), 0, 0);
    put(b, "}\n");
    mr_cel_arena_reset(&b->compile_arena);
    mr_cel_arena_reset(&b->eval_arena);
}

static enum mr_rc run_lines(struct batch *b, FILE *in, FILE *out, bool flush_lines,
                            struct mr_err *err)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t len;
    enum mr_rc rc = MR_OK;
    while (rc == MR_OK && (len = getline(&line, &size, in)) >= 0) {
        while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
            len--;
        if (len == 0)
            continue;
        answer_line(b, (struct mr_str){line, (size_t)len});
        if (b->out.failed)
            rc = mr_fail(err, MR_FATAL, "allocate a result");
        else if (fwrite(b->out.data, 1, b->out.len, out) != b->out.len ||
                 (flush_lines && fflush(out) != 0))
            rc = mr_fail(err, MR_FATAL, "write a result");
    }
    free(line);
    if (rc == MR_OK && ferror(in))
        rc = mr_fail(err, MR_FATAL, "read standard input");
    if (rc == MR_OK && fflush(out) != 0)
        rc = mr_fail(err, MR_FATAL, "write the results");
    return rc;
}

enum mr_rc mr_cel_batch_run(FILE *in, FILE *out, bool flush_lines, struct mr_err *err)
{
    static const struct mr_cel_regex_limits regex_limits = MR_CEL_REGEX_LIMITS_DEFAULT;
    static _Alignas(16) uint8_t compile_bytes[1 << 18], eval_bytes[EVAL_ARENA_BYTES];
    struct batch b = {0};
    mr_cel_arena_init(&b.compile_arena, compile_bytes, sizeof compile_bytes,
                      mr_cel_limits_default.compile_bytes_max);
    mr_cel_arena_init(&b.eval_arena, eval_bytes, sizeof eval_bytes, EVAL_BYTES_MAX);
    enum mr_rc rc = mr_cel_json_create(&b.reader, err);
    if (rc == MR_OK)
        rc = mr_cel_bench_create(&b.bench, err);
    if (rc == MR_OK && mr_cel_regex_cache_create(&regex_limits, &b.regex) != MR_CEL_REGEX_OK)
        rc = mr_fail(err, MR_FATAL, "allocate a cache of patterns");
    if (rc == MR_OK)
        rc = run_lines(&b, in, out, flush_lines, err);
    if (b.regex)
        mr_cel_regex_cache_destroy(&b.regex);
    mr_cel_bench_destroy(&b.bench);
    mr_cel_json_destroy(&b.reader);
    mr_cel_arena_fini(&b.compile_arena);
    mr_cel_arena_fini(&b.eval_arena);
    mr_json_fini(&b.out);
    return rc;
}
