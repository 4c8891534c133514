/* An expression and a document: the input is "expression NUL BSON". Whatever it is, compiling and
 * evaluating end within their limits, and what is compiled can be loaded and shown. */
#include <stdint.h>
#include <stdlib.h>

#include "cel/cel.h"

enum { ARENA_BYTES = 1 << 18 };

static struct mr_cel_env *environment(void)
{
    struct mr_cel_env *env;
    MR_ASSERT(mr_cel_env_create(UINT32_MAX, &env, NULL) == MR_OK);
    MR_ASSERT(mr_cel_env_add_variable(env, MR_STR("doc"), MR_STR("dyn"), NULL) == MR_OK);
    MR_ASSERT(mr_cel_env_add_variable(env, MR_STR("n"), MR_STR("int"), NULL) == MR_OK);
    return env;
}

static void evaluate(const struct mr_cel_front *front, struct mr_str text, struct mr_str bson,
                     struct mr_cel_arena *arena)
{
    struct mr_cel_compiled compiled;
    struct mr_cel_program program;
    mr_cel_arena_reset(front->arena);
    if (mr_cel_compile(front, text, &compiled) != MR_OK)
        return;
    MR_ASSERT(mr_cel_load(compiled.bytes, compiled.len, &program, NULL) == MR_OK);
    const struct mr_cel_val variables[2] = {mr_cel_document(bson.data, (uint32_t)bson.len),
                                            mr_cel_int(5)};
    struct mr_cel_run run = {
        .variables = variables, .variable_count = 2, .arena = arena, .steps_max = 20000};
    mr_cel_arena_reset(arena);
    struct mr_cel_val value = mr_cel_eval(&program, &run);
    MR_ASSERT(run.steps_used <= run.steps_max);
    (void)mr_cel_value_text(value, arena);
    mr_cel_arena_reset(arena);
    (void)mr_cel_disassemble(&program, arena);
    mr_cel_unload(&program);
    free(compiled.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mr_cel_env *env;
    static _Alignas(8) uint8_t bytes[ARENA_BYTES];
    if (!env)
        env = environment();
    const uint8_t *nul = size > 0 ? memchr(data, 0, size) : NULL;
    size_t len = nul ? (size_t)(nul - data) : size;
    struct mr_str text = {(const char *)data, len};
    struct mr_str bson = nul ? (struct mr_str){(const char *)nul + 1, size - len - 1} : MR_STR("");
    struct mr_cel_arena arena, scratch;
    mr_cel_arena_init(&arena, bytes, sizeof bytes, sizeof bytes);
    mr_cel_arena_init(&scratch, NULL, 0, 1 << 22);
    struct mr_cel_diag diag;
    struct mr_cel_front front = {env, &mr_cel_limits_default, &scratch, &diag, 0};
    evaluate(&front, text, bson, &arena);
    front.flags = MR_CEL_NO_CHECK | MR_CEL_EXPLAINED;
    evaluate(&front, text, bson, &arena);
    mr_cel_arena_fini(&scratch);
    return 0;
}
