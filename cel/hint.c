/* cel/hint.c: what may be meant by a name that is not known: one that is spelt nearly so, or what
 * other languages call it. */
#include "cel/checker.h"

enum { SHOWN_MAX = 80 }; /* bytes of a name in a message */

static int shown(struct mr_str name)
{
    return (int)(name.len < SHOWN_MAX ? name.len : SHOWN_MAX);
}

struct hint {
    struct mr_str name;
    const char *meant;
};

/* The hint whose name is nearest, at most `allowed` edits away; *edits: how far. */
static const char *nearest(const struct hint *hints, size_t count, struct mr_str name,
                           unsigned allowed, unsigned *edits)
{
    const char *meant = NULL;
    *edits = allowed + 1;
    for (size_t i = 0; i < count; i++) {
        unsigned distance = mr_cel_edit_distance(name, hints[i].name, allowed);
        if (distance < *edits) {
            *edits = distance;
            meant = hints[i].meant;
        }
    }
    return meant;
}

static const char *exactly(const struct hint *hints, size_t count, struct mr_str name)
{
    for (size_t i = 0; i < count; i++)
        if (mr_str_equal(hints[i].name, name))
            return hints[i].meant;
    return NULL;
}

#define HINT(name, meant)               \
    {                                   \
        {name, sizeof(name) - 1}, meant \
    }
#define COUNT(hints) (sizeof(hints) / sizeof(hints)[0])

static const struct hint macros[] = {
    HINT("has", "has(a.b)"),
    HINT("all", "list.all(x, condition)"),
    HINT("exists", "list.exists(x, condition)"),
    HINT("exists_one", "list.exists_one(x, condition)"),
    HINT("existsOne", "list.existsOne(x, condition)"),
    HINT("map", "list.map(x, value) or list.map(x, condition, value)"),
    HINT("filter", "list.filter(x, condition)"),
    HINT("transformList", "list.transformList(i, x, value)"),
    HINT("transformMap", "map.transformMap(k, v, value)"),
    HINT("transformMapEntry", "map.transformMapEntry(k, v, {key: value})"),
    HINT("optMap", "optional.optMap(x, value)"),
    HINT("optFlatMap", "optional.optFlatMap(x, optional)"),
    HINT("sortBy", "list.sortBy(x, key)"),
    HINT("bind", "cel.bind(x, value, expression)"),
};

/* Functions of other languages. */
static const struct hint elsewhere[] = {
    HINT("len", "size"),
    HINT("length", "size"),
    HINT("count", "size"),
    HINT("lower", "lowerAscii"),
    HINT("toLower", "lowerAscii"),
    HINT("toLowerCase", "lowerAscii"),
    HINT("upper", "upperAscii"),
    HINT("toUpper", "upperAscii"),
    HINT("toUpperCase", "upperAscii"),
    HINT("includes", "contains"),
    HINT("match", "matches"),
    HINT("regex", "matches"),
    HINT("any", "list.exists(x, condition)"),
    HINT("some", "list.exists(x, condition)"),
    HINT("every", "list.all(x, condition)"),
    HINT("str", "string"),
    HINT("toString", "string"),
    HINT("float", "double"),
    HINT("number", "double"),
    HINT("boolean", "bool"),
    HINT("date", "timestamp"),
    HINT("datetime", "timestamp"),
    HINT("strip", "trim"),
    HINT("year", "getFullYear"),
    HINT("month", "getMonth"),
    HINT("day", "getDate"),
    HINT("max", "math.greatest"),
    HINT("min", "math.least"),
    HINT("abs", "math.abs"),
    HINT("round", "math.round"),
};

const struct mr_cel_type *mr_cel_hint_function(struct mr_cel_checker *c,
                                               const struct mr_cel_node *call)
{
    struct mr_str name = call->text;
    unsigned allowed = name.len < 5 ? 1 : 2, edits;
    const char *use = nearest(macros, COUNT(macros), name, allowed, &edits);
    if (use && exactly(macros, COUNT(macros), name))
        return mr_cel_checker_mismatch(c, call, "expected %s, got another use of %.*s", use,
                                       shown(name), name.data);
    struct mr_str near = mr_cel_env_nearest(c->front->env, name, true);
    if (near.data && mr_cel_edit_distance(name, near, allowed) <= edits)
        return mr_cel_checker_mismatch(c, call, "unknown function %.*s; did you mean %.*s?",
                                       shown(name), name.data, (int)near.len, near.data);
    const char *known = exactly(elsewhere, COUNT(elsewhere), name);
    if (!known)
        known = use;
    if (known)
        return mr_cel_checker_mismatch(c, call, "unknown function %.*s; did you mean %s?",
                                       shown(name), name.data, known);
    if (mr_str_equal(name, MR_STR("now")))
        return mr_cel_checker_mismatch(
            c, call,
            "unknown function now; the value of an expression does not depend on the time");
    return mr_cel_checker_mismatch(c, call, "unknown function %.*s", shown(name), name.data);
}

const char *mr_cel_hint_minus(const struct mr_cel_checker *c, const struct mr_cel_node *node)
{
    struct mr_str source = c->ast->source;
    if (node->kind != MR_CEL_NODE_IDENT || node->start < 2 || source.data[node->start - 1] != '-')
        return NULL;
    char before = source.data[node->start - 2];
    bool letter = (before >= 'a' && before <= 'z') || (before >= 'A' && before <= 'Z') ||
                  (before >= '0' && before <= '9') || before == '_';
    return letter ? "; a field with - in its name is written doc.`a-b`" : NULL;
}

/* The variable of a macro that is spelt most like the name. */
static struct mr_str nearest_local(const struct mr_cel_checker *c, struct mr_str name,
                                   unsigned allowed, unsigned *edits)
{
    struct mr_str near = {NULL, 0};
    *edits = allowed + 1;
    for (const struct mr_cel_local *local = c->locals; local; local = local->outer) {
        unsigned distance = mr_cel_edit_distance(name, local->name, allowed);
        if (distance < *edits) {
            near = local->name;
            *edits = distance;
        }
    }
    return near;
}

const struct mr_cel_type *mr_cel_hint_name(struct mr_cel_checker *c, const struct mr_cel_node *root)
{
    static const struct hint values[] = {
        HINT("true", "true"), HINT("false", "false"),    HINT("null", "null"),
        HINT("nil", "null"),  HINT("undefined", "null"), HINT("none", "null"),
    };
    struct mr_str name = root->text;
    const struct mr_cel_name *known = mr_cel_env_find(c->front->env, name);
    if (known && known->function != MR_CEL_FN_NONE)
        return mr_cel_checker_mismatch(c, root, "%.*s is a function; expected %.*s(...)",
                                       shown(name), name.data, shown(name), name.data);
    unsigned local_edits, value_edits;
    struct mr_str near = nearest_local(c, name, name.len < 3 ? 0 : 1, &local_edits);
    const char *value = nearest(values, COUNT(values), name, name.len < 4 ? 1 : 2, &value_edits);
    if (!near.data)
        near = mr_cel_env_nearest(c->front->env, name, false);
    if (value && (value_edits <= 1 || !near.data))
        return mr_cel_checker_mismatch(c, root, "unknown name %.*s; did you mean %s?", shown(name),
                                       name.data, value);
    if (near.data)
        return mr_cel_checker_mismatch(c, root, "unknown name %.*s; did you mean %.*s?",
                                       shown(name), name.data, (int)near.len, near.data);
    const char *minus = mr_cel_hint_minus(c, root);
    if (!minus && mr_cel_env_variable_count(c->front->env) > 0 &&
        mr_cel_env_variable_type(c->front->env, 0)->kind == MR_CEL_TYPE_DYN) {
        struct mr_str first = mr_cel_env_variable_name(c->front->env, 0);
        return mr_cel_checker_mismatch(c, root, "unknown name %.*s; did you mean %.*s.%.*s?",
                                       shown(name), name.data, shown(first), first.data,
                                       shown(name), name.data);
    }
    return mr_cel_checker_mismatch(
        c, root, "unknown name %.*s%s", shown(name), name.data,
        minus ? minus : "; expected a declared variable; text is written in quotes");
}
