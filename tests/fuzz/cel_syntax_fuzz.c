/* Any bytes as an expression: it is refused with a place inside it, or becomes a tree whose parts
 * are where they say they are: the text of a part alone gives the same part again. The first byte
 * chooses flags and limits. */
#include <stdint.h>

#include "cel/print.h"
#include "cel/syntax.h"

enum {
    MEMORY_MAX = 8 << 20,
    SMALL_LIMITS = 4, /* bits of the first byte, beside MR_CEL_NO_MACROS and MR_CEL_NO_CHECK */
    IN_CONTAINER = 8,
    ALL_LIBRARIES = 16,
    PARTS_MAX = 24, /* parts that are parsed again, of one expression */
};

static struct mr_cel_env *environment(bool in_container, bool all_libraries)
{
    static const char *const variables[][2] = {
        {"doc", "dyn"},
        {"i", "int"},
        {"s", "string"},
        {"l", "list(int)"},
        {"m", "map(int, dyn)"},
        {"o", "optional(dyn)"},
        {"a.b", "int"},
        {"c.d.e", "list(dyn)"},
        {"x", "A"},
        {"t", "timestamp"},
        {"q", "Opaque(int, dyn)"},
    };
    static struct mr_cel_env *made[2][2];
    struct mr_cel_env **env = &made[in_container][all_libraries];
    if (*env)
        return *env;
    struct mr_err err;
    const struct mr_str arguments[] = {MR_STR("A"), MR_STR("list(A)")};
    const struct mr_cel_signature signature = {.name = MR_STR("f"),
                                               .result = MR_STR("Pair(A, B)"),
                                               .arguments = arguments,
                                               .argument_count = 2};
    MR_ASSERT(mr_cel_env_create(all_libraries ? UINT32_MAX : MR_CEL_LIBRARIES_DEFAULT, env, &err) ==
              MR_OK);
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        MR_ASSERT(mr_cel_env_add_variable(*env, mr_str_from(variables[i][0]),
                                          mr_str_from(variables[i][1]), &err) == MR_OK);
    MR_ASSERT(mr_cel_env_add_function(*env, &signature, &err) == MR_OK);
    if (in_container)
        MR_ASSERT(mr_cel_env_set_container(*env, MR_STR("c.d"), &err) == MR_OK);
    return *env;
}

static void check_diag(const struct mr_cel_diag *diag, struct mr_str source)
{
    char text[1024];
    MR_ASSERT(diag->at <= source.len && diag->len >= 1 && diag->line >= 1 && diag->column >= 1);
    MR_ASSERT(diag->text[0] != 0);
    size_t len = mr_cel_diag_render(diag, source, text, sizeof text);
    MR_ASSERT(len == strlen(text));
}

/* The text of a part, parsed alone, is printed as the part is. */
static void again(const struct mr_cel_front *front, const struct mr_cel_ast *whole,
                  struct mr_cel_node *node)
{
    struct mr_cel_ast part = {.source = whole->source, .root = node}, alone;
    struct mr_cel_diag diag;
    struct mr_cel_front front_alone = *front;
    front_alone.diag = &diag;
    struct mr_str text = {whole->source.data + node->start, node->end - node->start};
    enum mr_rc rc = mr_cel_parse(&front_alone, text, &alone);
    if (rc != MR_OK && diag.limit == MR_CEL_LIMIT_COMPILE_BYTES)
        return;
    MR_ASSERT(rc == MR_OK);
    struct mr_str a = mr_cel_ast_print(&part, front->arena);
    struct mr_str b = mr_cel_ast_print(&alone, front->arena);
    MR_ASSERT(!a.data || !b.data || mr_str_equal(a, b));
}

static bool is_minus(const struct mr_cel_node *node)
{
    return node->kind == MR_CEL_NODE_CALL && node->function == MR_CEL_FN_NEGATE;
}

static void walk(const struct mr_cel_front *front, const struct mr_cel_ast *ast,
                 struct mr_cel_node *node, bool behind_minus, unsigned *left)
{
    uint32_t count = 0;
    MR_ASSERT(node->start < node->end && node->end <= ast->source.len);
    MR_ASSERT(node->at >= node->start && node->at < node->end);
    for (struct mr_cel_node *child = node->first; child; child = child->next, count++) {
        MR_ASSERT(child->start >= node->start && child->end <= node->end);
        MR_ASSERT(child->height < node->height);
        if (node->kind != MR_CEL_NODE_STRUCT ||
            count % 2 == 1) /* a field's name is no expression */
            walk(front, ast, child, is_minus(node), left);
    }
    MR_ASSERT(count == node->count);
    /* The inner minus of --1, alone, would belong to the number. */
    bool inner = behind_minus && is_minus(node) && !(node->flags & MR_CEL_FLAG_PARENS);
    if (*left > 0 && !inner) {
        --*left;
        again(front, ast, node);
    }
}

static void all_typed(const struct mr_cel_node *node)
{
    for (; node; node = node->next) {
        MR_ASSERT(node->type && node->type->kind != MR_CEL_TYPE_VARIABLE);
        char text[200];
        MR_ASSERT(mr_cel_type_print(node->type, text, sizeof text) == strlen(text));
        if (node->first)
            all_typed(node->first);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mr_cel_arena arena;
    if (size == 0)
        return 0;
    if (!arena.bytes_max)
        mr_cel_arena_init(&arena, NULL, 0, MEMORY_MAX);
    mr_cel_arena_reset(&arena);
    struct mr_cel_limits limits = mr_cel_limits_default;
    if (data[0] & SMALL_LIMITS)
        limits = (struct mr_cel_limits){.source_bytes_max = 200,
                                        .nodes_max = 30,
                                        .depth_max = 6,
                                        .literal_items_max = 4,
                                        .loop_depth_max = 1,
                                        .check_steps_max = 50};
    struct mr_cel_diag diag;
    struct mr_cel_front front = {.env =
                                     environment(data[0] & IN_CONTAINER, data[0] & ALL_LIBRARIES),
                                 .limits = &limits,
                                 .arena = &arena,
                                 .diag = &diag,
                                 .flags = data[0] & (MR_CEL_NO_MACROS | MR_CEL_NO_CHECK)};
    struct mr_str source = {(const char *)data + 1, size - 1};
    struct mr_cel_ast ast;
    unsigned parts = PARTS_MAX;
    if (mr_cel_parse(&front, source, &ast) != MR_OK) {
        check_diag(&diag, source);
        return 0;
    }
    walk(&front, &ast, ast.root, false, &parts);
    if (mr_cel_check(&front, &ast) != MR_OK) {
        check_diag(&diag, source);
        return 0;
    }
    all_typed(ast.root);
    return 0;
}
