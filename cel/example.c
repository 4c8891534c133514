/* cel/example.c: how to embed the library: compile an expression once, evaluate it over each BSON
 * document of standard input.   cel-example 'doc.price > 100.0' < documents.bson */
#include <stdio.h>
#include <stdlib.h>

#include "cel/cel.h"

int main(int argc, char **argv)
{
    static _Alignas(8) uint8_t document[1 << 20], memory[1 << 16];
    struct mr_err err = {.text = "usage: cel-example EXPRESSION < documents.bson"};
    struct mr_cel_env *env = NULL;
    if (argc != 2 || mr_cel_env_create(MR_CEL_LIBRARIES_DEFAULT, &env, &err) != MR_OK ||
        mr_cel_env_add_variable(env, MR_STR("doc"), MR_STR("map(string, dyn)"), &err) != MR_OK)
        return fprintf(stderr, "%s\n", err.text), 1;
    struct mr_cel_arena arena, scratch;
    mr_cel_arena_init(&arena, memory, sizeof memory, sizeof memory); /* never asks the heap */
    mr_cel_arena_init(&scratch, NULL, 0, mr_cel_limits_default.compile_bytes_max);
    struct mr_cel_diag diag;
    struct mr_cel_front front = {env, &mr_cel_limits_default, &scratch, &diag, 0};
    struct mr_cel_compiled compiled;
    struct mr_cel_program program;
    if (mr_cel_compile(&front, mr_str_from(argv[1]), &compiled) != MR_OK)
        return fprintf(stderr, "%u:%u: %s\n", diag.line, diag.column, diag.text), 1;
    if (mr_cel_load(compiled.bytes, compiled.len, &program, &err) != MR_OK)
        return fprintf(stderr, "%s\n", err.text), 1;
    for (uint32_t len; fread(&len, 4, 1, stdin) == 1 && len >= 5 && len <= sizeof document &&
                       fread(document + 4, len - 4, 1, stdin) == 1;) {
        memcpy(document, &len, 4);
        mr_cel_arena_reset(&arena);
        const struct mr_cel_val variables[] = {mr_cel_document(document, len)};
        struct mr_cel_run run = {.variables = variables, .variable_count = 1, .arena = &arena};
        struct mr_str text = mr_cel_value_text(mr_cel_eval(&program, &run), &arena);
        printf("%.*s\n", (int)text.len, text.data);
    }
    mr_cel_unload(&program);
    free(compiled.bytes);
    mr_cel_arena_fini(&scratch);
    return mr_cel_env_destroy(&env), 0;
}
