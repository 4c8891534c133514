/* cel/example.c: how to use the library in a program: compile an expression once, evaluate it over
 * BSON documents from a file or standard input.   cel-example 'doc.price > 100 &&
 * doc.tags.exists(t, t == "go")' < documents.bson */
#include <stdio.h>
#include <stdlib.h>

#include "cel/cel.h"

enum { DOCUMENT_BYTES_MAX = 1 << 20, ARENA_BYTES = 1 << 16 };

int main(int argc, char **argv)
{
    static _Alignas(8) uint8_t document[DOCUMENT_BYTES_MAX], memory[ARENA_BYTES];
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
    struct mr_str source = mr_str_from(argv[1]);
    char text[1024];
    if (mr_cel_compile(&front, source, &compiled) != MR_OK)
        return mr_cel_diag_render(&diag, source, text, sizeof text), fputs(text, stderr), 1;
    struct mr_cel_program program;
    if (mr_cel_load(compiled.bytes, compiled.len, &program, &err) != MR_OK)
        return fprintf(stderr, "%s\n", err.text), 1;

    int32_t len;
    while (fread(&len, sizeof len, 1, stdin) == 1 && len >= 5 && len <= DOCUMENT_BYTES_MAX) {
        memcpy(document, &len, sizeof len);
        if (fread(document + 4, (size_t)len - 4, 1, stdin) != 1)
            break;
        mr_cel_arena_reset(&arena);
        const struct mr_cel_val variables[] = {mr_cel_document(document, (uint32_t)len)};
        struct mr_cel_run run = {.variables = variables, .variable_count = 1, .arena = &arena};
        struct mr_str value = mr_cel_value_text(mr_cel_eval(&program, &run), &arena);
        printf("%.*s\n", (int)value.len, value.data);
    }
    mr_cel_unload(&program);
    free(compiled.bytes);
    mr_cel_arena_fini(&scratch);
    mr_cel_env_destroy(&env);
    return 0;
}
