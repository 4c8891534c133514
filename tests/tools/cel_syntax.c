/* tests/tools/cel_syntax.c: the front end of CEL from outside. Each case on standard input is
 *   MODE LIBRARIES LENGTH\n  EXPRESSION
 * with MODE ast (parse and print the tree) or type (check and print the type; every name that is
 * "name:type" in the arguments is a variable), LIBRARIES a set of bits or -1 for all. Each answer
 * is ok|parse|check|limit LINE COLUMN LENGTH\n  TEXT With the argument --render the text of an
 * error has its line and caret. */
#include <stdio.h>
#include <stdlib.h>

#include "cel/print.h"
#include "cel/syntax.h"

enum { EXPRESSION_MAX = 1 << 20 };

static void answer(const char *what, uint32_t line, uint32_t column, struct mr_str text)
{
    printf("%s %u %u %zu\n", what, line, column, text.len);
    fwrite(text.data, 1, text.len, stdout);
    fflush(stdout);
}

static struct mr_cel_env *environment(uint32_t libraries, int argc, char **argv)
{
    struct mr_cel_env *env;
    struct mr_err err;
    if (mr_cel_env_create(libraries, &env, &err) != MR_OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    for (int i = 1; i < argc; i++) {
        const char *colon = strchr(argv[i], ':');
        if (!colon)
            continue;
        struct mr_str name = {argv[i], (size_t)(colon - argv[i])};
        if (mr_cel_env_add_variable(env, name, mr_str_from(colon + 1), &err) != MR_OK) {
            fprintf(stderr, "%s\n", err.text);
            exit(1);
        }
    }
    return env;
}

static void run(const char *mode, const struct mr_cel_front *front, struct mr_str source,
                bool render)
{
    struct mr_cel_ast ast;
    bool types = strcmp(mode, "type") == 0;
    if (mr_cel_parse(front, source, &ast) != MR_OK ||
        (types && mr_cel_check(front, &ast) != MR_OK)) {
        const struct mr_cel_diag *diag = front->diag;
        char text[1024];
        if (render)
            mr_cel_diag_render(diag, source, text, sizeof text);
        answer(mr_cel_stage_name(diag->stage), diag->line, diag->column,
               mr_str_from(render ? text : diag->text));
        return;
    }
    if (types) {
        char text[1024];
        mr_cel_type_print(ast.root->type, text, sizeof text);
        answer("ok", 0, 0, mr_str_from(text));
        return;
    }
    answer("ok", 0, 0, mr_cel_ast_print(&ast, front->arena));
}

int main(int argc, char **argv)
{
    char mode[8];
    int libraries;
    size_t len;
    bool render = argc > 1 && strcmp(argv[1], "--render") == 0;
    char *bytes = malloc(EXPRESSION_MAX);
    if (!bytes)
        return 1;
    while (scanf("%7s %d %zu", mode, &libraries, &len) == 3) {
        if (getchar() != '\n' || len > EXPRESSION_MAX || fread(bytes, 1, len, stdin) != len)
            return 2;
        struct mr_cel_arena arena;
        struct mr_cel_diag diag;
        mr_cel_arena_init(&arena, NULL, 0, 64 << 20);
        struct mr_cel_env *env = environment((uint32_t)libraries, argc, argv);
        const struct mr_cel_front front = {
            .env = env, .limits = &mr_cel_limits_default, .arena = &arena, .diag = &diag};
        run(mode, &front, (struct mr_str){bytes, len}, render);
        mr_cel_env_destroy(&env);
        mr_cel_arena_fini(&arena);
    }
    free(bytes);
    return 0;
}
