/* cel/ast.h: the syntax tree of one expression, in an arena that the caller owns.
 *
 * The tree is what the source says, with macros kept as nodes of their own: a consumer sees "all
 * over this range" and not the loop by which the specification describes it. Nothing is lost:
 * mr_cel_ast_print writes the loops out. Children are a list: first, then next of each.
 *
 * The checker works on the same nodes and fills in what they came to mean; see "checked" below.
 *
 *   kind     children, in this order               other members
 *   LITERAL  none                                  sub, value
 *   IDENT    none                                  text: the name; checked: sub, index
 *   SELECT   operand                               text: the field; flags TEST_ONLY (has), OPTIONAL
 *   CALL     [target if flag MEMBER,] arguments    text: the name; operators: function at once
 *   LIST     elements; flag OPTIONAL_ENTRY: [?e]
 *   MAP      key, value, key, value, ...; OPTIONAL_ENTRY on a key: {?k: v}
 *   STRUCT   field, value, ...; fields are IDENT   text: the message's name
 *   AND, OR  2 or more terms: a chain without parentheses is one node
 *   IF       condition, then, else
 *   MACRO    by sub, as follows
 *
 *   ALL EXISTS EXISTS_ONE  range, v, predicate; with flag TWO_VARIABLES: range, i, v, predicate
 *   FILTER                 range, v, predicate
 *   MAP_LIST               range, v, [predicate if flag FILTERED,] value
 *   TRANSFORM_LIST         range, i, v, [predicate,] value
 *   TRANSFORM_MAP          range, k, v, [predicate,] value
 *   TRANSFORM_MAP_ENTRY    range, k, v, [predicate,] entry: a map that is merged into the result
 *   SORT_BY                range, v, key
 *   OPT_MAP OPT_FLAT_MAP   optional, v, value
 *   BIND                   v, init, body
 *   BLOCK                  values..., body; IDENT nodes "@index0"... name the values before them
 *
 * The variables i, k, v are IDENT nodes; index (checked) is the local slot they live in. Locals are
 * numbered by nesting: macros side by side share slots, and local_count of them are enough. The
 * values of a BLOCK live in consecutive slots from the node's index on. */
#ifndef MR_CEL_AST_H
#define MR_CEL_AST_H
#include "cel/function.h"
#include "cel/type.h"

enum mr_cel_node_kind {
    MR_CEL_NODE_LITERAL = 1,
    MR_CEL_NODE_IDENT,
    MR_CEL_NODE_SELECT,
    MR_CEL_NODE_CALL,
    MR_CEL_NODE_LIST,
    MR_CEL_NODE_MAP,
    MR_CEL_NODE_STRUCT,
    MR_CEL_NODE_AND,
    MR_CEL_NODE_OR,
    MR_CEL_NODE_IF,
    MR_CEL_NODE_MACRO,
    MR_CEL_NODE_COUNT
};

enum mr_cel_macro {
    MR_CEL_MACRO_ALL,
    MR_CEL_MACRO_EXISTS,
    MR_CEL_MACRO_EXISTS_ONE,
    MR_CEL_MACRO_MAP_LIST,
    MR_CEL_MACRO_FILTER,
    MR_CEL_MACRO_TRANSFORM_LIST,
    MR_CEL_MACRO_TRANSFORM_MAP,
    MR_CEL_MACRO_TRANSFORM_MAP_ENTRY,
    MR_CEL_MACRO_SORT_BY,
    MR_CEL_MACRO_OPT_MAP,
    MR_CEL_MACRO_OPT_FLAT_MAP,
    MR_CEL_MACRO_BIND,
    MR_CEL_MACRO_BLOCK,
    MR_CEL_MACRO_COUNT
};

enum mr_cel_literal {
    MR_CEL_LITERAL_NULL,
    MR_CEL_LITERAL_BOOL,
    MR_CEL_LITERAL_INT,
    MR_CEL_LITERAL_UINT,
    MR_CEL_LITERAL_DOUBLE,
    MR_CEL_LITERAL_STRING,
    MR_CEL_LITERAL_BYTES,
};

/* checked: what an IDENT turned out to name. */
enum mr_cel_ref {
    MR_CEL_REF_NONE,     /* not known, where the checker lets it pass: an error at run time */
    MR_CEL_REF_VARIABLE, /* of the environment; index: its number */
    MR_CEL_REF_LOCAL,    /* of a macro; index: its slot */
    MR_CEL_REF_TYPE,     /* a type's name; type is type(T) */
};

enum {
    MR_CEL_FLAG_TEST_ONLY = 1,
    MR_CEL_FLAG_OPTIONAL = 2, /* SELECT: .? */
    MR_CEL_FLAG_MEMBER = 4,
    MR_CEL_FLAG_TWO_VARIABLES = 8,
    MR_CEL_FLAG_FILTERED = 16,
    MR_CEL_FLAG_QUOTED = 32,          /* SELECT: the field was written `field` */
    MR_CEL_FLAG_ABSOLUTE = 64,        /* a name with a leading dot, which is not in text */
    MR_CEL_FLAG_PARENS = 128,         /* was written in parentheses */
    MR_CEL_FLAG_OPTIONAL_ENTRY = 256, /* an element or key: the entry may be missing */
};

struct mr_cel_node {
    uint8_t kind;        /* enum mr_cel_node_kind */
    uint8_t sub;         /* enum mr_cel_literal, mr_cel_ref or mr_cel_macro, by kind */
    uint16_t flags;      /* MR_CEL_FLAG_TEST_ONLY... */
    uint16_t function;   /* CALL: enum mr_cel_function; checked, operators at once */
    uint16_t overload;   /* CALL, checked: enum mr_cel_overload; 0: the values decide */
    uint32_t at;         /* offset in the source of what to point at: a sign, a name, a bracket */
    uint32_t start, end; /* offsets of the text: [start, end) */
    uint32_t index;  /* checked: IDENT variable or slot; CALL declared function; BLOCK first slot */
    uint32_t count;  /* children */
    uint32_t height; /* of the tree below; 0: no children */
    struct mr_cel_node *first, *next;
    const struct mr_cel_type *type; /* checked: deduced; NULL before */
    union {
        struct mr_str text; /* STRING, BYTES decoded; names. Borrowed from source or arena */
        int64_t integer;
        uint64_t natural;
        double number;
        bool boolean;
    };
};

struct mr_cel_ast {
    struct mr_str source; /* borrowed: outlives the tree */
    struct mr_cel_node *root;
    uint32_t node_count;
    uint32_t local_count; /* checked: slots that macros need at once */
    bool checked;
};

/* Append child to parent's children; last: the current last child, or NULL. Returns child. */
struct mr_cel_node *mr_cel_node_append(struct mr_cel_node *parent, struct mr_cel_node *last,
                                       struct mr_cel_node *child);
/* Child number index; NULL: there are fewer. */
struct mr_cel_node *mr_cel_node_child(const struct mr_cel_node *node, uint32_t index);
#endif
