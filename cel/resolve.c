/* cel/resolve.c: what names mean: variables of macros first, then the names of the environment, in
 * the container from the inside out, the longest name that is one first. */
#include "cel/checker.h"

static const struct mr_cel_local *find_local(const struct mr_cel_checker *c, struct mr_str name)
{
    const struct mr_cel_local *local = c->locals;
    while (local && !mr_str_equal(local->name, name))
        local = local->outer;
    return local;
}

static bool is_value(const struct mr_cel_name *name)
{
    return name && (name->variable || name->type_kind);
}

static bool is_function(const struct mr_cel_name *name)
{
    return name && name->function != MR_CEL_FN_NONE;
}

/* The first of container.name, outer.name, ..., name that is wanted. scratch: room for both and a
 * dot. */
static const struct mr_cel_name *find_in_container(const struct mr_cel_checker *c, char *scratch,
                                                   struct mr_str name,
                                                   bool (*wanted)(const struct mr_cel_name *))
{
    struct mr_str container = mr_cel_env_container(c->front->env);
    while (container.len > 0) {
        memcpy(scratch, container.data, container.len);
        scratch[container.len] = '.';
        memcpy(scratch + container.len + 1, name.data, name.len);
        const struct mr_cel_name *found =
            mr_cel_env_find(c->front->env, (struct mr_str){scratch, container.len + 1 + name.len});
        if (wanted(found))
            return found;
        while (container.len > 0 && container.data[container.len - 1] != '.')
            container.len--;
        if (container.len > 0)
            container.len--;
    }
    const struct mr_cel_name *found = mr_cel_env_find(c->front->env, name);
    return wanted(found) ? found : NULL;
}

static char *scratch_for(struct mr_cel_checker *c, size_t name_len)
{
    char *scratch = mr_cel_arena_alloc(c->front->arena,
                                       mr_cel_env_container(c->front->env).len + 1 + 2 * name_len);
    if (!scratch)
        c->failed = MR_CEL_LIMIT_COMPILE_BYTES;
    return scratch;
}

/* The IDENT at the root of a chain of plain selections; NULL: it is no such chain. */
static struct mr_cel_node *root_of(struct mr_cel_node *top, unsigned *parts, size_t *len)
{
    *parts = 1;
    *len = 0;
    struct mr_cel_node *node = top;
    for (; node->kind == MR_CEL_NODE_SELECT; node = node->first) {
        if (node != top && (node->flags & (MR_CEL_FLAG_OPTIONAL | MR_CEL_FLAG_TEST_ONLY)))
            return NULL;
        *len += node->text.len + 1;
        ++*parts;
    }
    *len += node->text.len;
    return node->kind == MR_CEL_NODE_IDENT ? node : NULL;
}

/* "a.b.c" of a chain, into text of this length. */
static struct mr_str spell(const struct mr_cel_node *top, char *text, size_t len)
{
    size_t at = len;
    for (const struct mr_cel_node *node = top;; node = node->first) {
        at -= node->text.len;
        memcpy(text + at, node->text.data, node->text.len);
        if (node->kind == MR_CEL_NODE_IDENT)
            return (struct mr_str){text, len};
        text[--at] = '.';
    }
}

/* node becomes the IDENT of what was found. */
static bool become(struct mr_cel_checker *c, struct mr_cel_node *node,
                   const struct mr_cel_name *found)
{
    node->kind = MR_CEL_NODE_IDENT;
    node->flags &= (uint16_t)~MR_CEL_FLAG_QUOTED;
    node->first = NULL;
    node->count = 0;
    node->text = found->text;
    if (found->variable) {
        node->sub = MR_CEL_REF_VARIABLE;
        node->index = found->variable - 1;
        node->type = mr_cel_env_variable_type(c->front->env, node->index);
        return true;
    }
    node->sub = MR_CEL_REF_TYPE;
    node->type = mr_cel_type_type(
        c->front->arena, mr_cel_type_simple((enum mr_cel_type_kind)(found->type_kind - 1)));
    if (!node->type)
        c->failed = MR_CEL_LIMIT_COMPILE_BYTES;
    return node->type != NULL;
}

static bool unknown(struct mr_cel_checker *c, struct mr_cel_node *root)
{
    root->type = mr_cel_type_simple(MR_CEL_TYPE_DYN);
    return mr_cel_hint_name(c, root) != NULL;
}

/* The longest part of the chain that names something becomes one IDENT. */
static bool resolve_longest(struct mr_cel_checker *c, struct mr_cel_node *top,
                            struct mr_cel_node *root, unsigned parts, size_t len)
{
    char *scratch = scratch_for(c, len);
    if (!scratch)
        return false;
    struct mr_str name = spell(top, scratch, len);
    struct mr_cel_node *node = top;
    bool absolute = root->flags & MR_CEL_FLAG_ABSOLUTE;
    for (; parts > 0; parts--, node = node->first) {
        bool selects = node->flags & (MR_CEL_FLAG_OPTIONAL | MR_CEL_FLAG_TEST_ONLY |
                                      (node == root ? 0 : MR_CEL_FLAG_QUOTED));
        const struct mr_cel_name *found = selects ? NULL
                                          : absolute
                                              ? mr_cel_env_find(c->front->env, name)
                                              : find_in_container(c, scratch + len, name, is_value);
        if (is_value(found))
            return become(c, node, found);
        if (node->kind == MR_CEL_NODE_SELECT)
            name.len -= node->text.len + 1;
    }
    return unknown(c, root);
}

bool mr_cel_resolve_chain(struct mr_cel_checker *c, struct mr_cel_node *top)
{
    unsigned parts;
    size_t len;
    struct mr_cel_node *root = root_of(top, &parts, &len);
    if (!root || root->type)
        return true;
    bool absolute = root->flags & MR_CEL_FLAG_ABSOLUTE;
    const struct mr_cel_local *local = absolute ? NULL : find_local(c, root->text);
    if (local) {
        root->sub = MR_CEL_REF_LOCAL;
        root->index = local->slot;
        root->type = local->type;
        return true;
    }
    /* Nearly always: no container, and no name that starts like this one. */
    if (absolute || mr_cel_env_container(c->front->env).len == 0) {
        const struct mr_cel_name *found = mr_cel_env_find(c->front->env, root->text);
        if (!found || !found->is_prefix)
            return is_value(found) ? become(c, root, found) : unknown(c, root);
    }
    return resolve_longest(c, top, root, parts, len);
}

/* "a.f" for the call a.f(x): a function of that name. */
static const struct mr_cel_name *qualified(struct mr_cel_checker *c, struct mr_cel_node *call)
{
    unsigned parts;
    size_t len;
    struct mr_cel_node *root = root_of(call->first, &parts, &len);
    if (!root || root->type ||
        (call->first->flags & (MR_CEL_FLAG_OPTIONAL | MR_CEL_FLAG_TEST_ONLY)))
        return NULL;
    bool absolute = root->flags & MR_CEL_FLAG_ABSOLUTE;
    if (!absolute && find_local(c, root->text))
        return NULL;
    bool contained = !absolute && mr_cel_env_container(c->front->env).len > 0;
    if (!contained) {
        const struct mr_cel_name *first = mr_cel_env_find(c->front->env, root->text);
        if (!first || !first->is_prefix)
            return NULL;
    }
    size_t whole = len + 1 + call->text.len;
    char *scratch = scratch_for(c, whole);
    if (!scratch)
        return NULL;
    struct mr_str name = spell(call->first, scratch, len);
    scratch[len] = '.';
    memcpy(scratch + len + 1, call->text.data, call->text.len);
    name.len = whole;
    const struct mr_cel_name *found = contained
                                          ? find_in_container(c, scratch + whole, name, is_function)
                                          : mr_cel_env_find(c->front->env, name);
    return is_function(found) ? found : NULL;
}

const struct mr_cel_name *mr_cel_resolve_function(struct mr_cel_checker *c,
                                                  struct mr_cel_node *call)
{
    if (call->flags & MR_CEL_FLAG_MEMBER) {
        const struct mr_cel_name *found = qualified(c, call);
        if (!found) {
            found = mr_cel_env_find(c->front->env, call->text);
            return is_function(found) ? found : NULL;
        }
        call->flags &= (uint16_t)~MR_CEL_FLAG_MEMBER;
        call->first = call->first->next;
        call->count--;
        call->text = found->text;
        return found;
    }
    bool contained =
        !(call->flags & MR_CEL_FLAG_ABSOLUTE) && mr_cel_env_container(c->front->env).len > 0;
    const struct mr_cel_name *found = NULL;
    if (contained) {
        char *scratch = scratch_for(c, call->text.len);
        found = scratch ? find_in_container(c, scratch, call->text, is_function) : NULL;
    } else {
        found = mr_cel_env_find(c->front->env, call->text);
    }
    if (!is_function(found))
        return NULL;
    call->text = found->text;
    return found;
}
