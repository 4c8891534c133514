/* matcher/engine/index.h: the engine's inside. Algorithm: docs/matching.md
 *
 * group      one (database, collection)
 * slot       one path that filters of the group read; slot 0 is the document id
 * predicate  one (slot, operator, constant), however many filters state it; evaluated once an event
 * filter     one conjunction, however many subscriptions have it
 * posting    "when this predicate holds (or this slot is there), look at this filter" */
#ifndef MR_MATCHER_ENGINE_INDEX_H
#define MR_MATCHER_ENGINE_INDEX_H
#include "cel/value.h"
#include "matcher/engine/engine.h"
#include "matcher/engine/hash.h"
#include "matcher/engine/table.h"

struct mr_filter;
struct mr_group;
struct mr_trie_node;

enum { MR_SLOT_ID = 0 };
#define MR_SLOT_NONE UINT32_MAX

/* low and high bound a number that the filter also asks for, so that most events pass by without
 * touching the filter. Rounding keeps order, so nothing that holds is ever passed by. */
struct mr_posting {
    struct mr_filter *filter;
    double low, high;
    uint32_t slot; /* of that number; MR_SLOT_NONE: the filter bounds none */
    uint32_t ref;  /* which of the filter's anchors this is */
};
struct mr_postings {
    uint32_t count, capacity; /* capacity 1: in place */
    union {
        struct mr_posting one;
        struct mr_posting *many;
    };
};

struct mr_slot {
    struct mr_trie_node *node;   /* NULL: the document id */
    uint32_t index;              /* in the group's slots */
    uint32_t refs;               /* predicates */
    uint32_t keys;               /* predicates == with postings: is a hash lookup worth it? */
    struct mr_postings presence; /* filters without an equality: looked at when the path is there */
};

/* A node of the trie of paths. Its key and its children's table decide what one pass reads. */
struct mr_trie_node {
    struct mr_table children;
    struct mr_trie_node *parent;
    struct mr_slot *slot; /* NULL: only on the way to others */
    uint64_t seen;        /* the last event that had it: the first of two equal keys counts */
    uint64_t word;        /* the first 8 bytes of the key, zeros behind its end */
    uint64_t hash;
    uint32_t key_len;
    char key[];
};

struct mr_index_predicate {
    uint64_t hash;
    uint64_t memo; /* event << 1 | result of the last evaluation */
    struct mr_group *group;
    uint32_t refs;
    uint32_t slot;
    uint32_t size; /* bytes of this allocation; the constant's bytes are behind the struct */
    uint32_t op;   /* enum mr_predicate_op */
    struct mr_const value;
    struct mr_postings postings; /* of == only */
};

struct mr_anchor {
    struct mr_postings *list;
    struct mr_index_predicate *predicate; /* whose list it is; NULL: a slot's */
    uint32_t at;                          /* place in the list */
};
struct mr_filter {
    uint64_t hash;
    struct mr_group *group;
    struct mr_filter *previous, *next; /* of the group */
    struct mr_anchor *anchors;         /* anchor_count; the one that most have is in place */
    struct mr_anchor anchor;
    union {
        uint64_t one;
        uint64_t *many;
    } subs; /* subscription ids, in no order */
    uint32_t sub_count, sub_capacity;
    uint32_t anchor_count;
    uint32_t anchor_slot;
    uint16_t conjunct_count;
    uint16_t anchored;                      /* the conjunct that needs no check; = count: none */
    struct mr_index_predicate *conjuncts[]; /* as the program has them */
};

struct mr_group {
    uint64_t hash;
    struct mr_group *previous, *next;
    struct mr_trie_node *root;
    struct mr_slot **slots; /* slot_capacity; NULL: free; [0] is the document id */
    uint32_t slot_count, slot_capacity, slot_free; /* slot_free: none is free below it */
    struct mr_filter *filters;                     /* all */
    struct mr_filter *everyone;                    /* the one without conjuncts; NULL: none */
    uint64_t sub_count;
    uint32_t database_len, collection_len;
    char names[]; /* database, collection */
};

/* Subscription -> filter and place in its list. */
struct mr_sub {
    uint64_t id;
    struct mr_filter *filter; /* NULL: empty */
    uint32_t at;
};
struct mr_sub_table {
    struct mr_sub *subs;
    uint32_t mask, count;
};

/* What an event had at a slot. */
struct mr_found {
    uint64_t event; /* the one it was found in */
    double number;  /* nearest to a number's value; else NaN */
    struct mr_value value;
};

struct mr_engine {
    uint64_t seed;
    uint64_t event; /* number of the event at hand; marks what is of it */
    struct mr_table groups;
    struct mr_tables predicates, filters;
    struct mr_sub_table subs[MR_TABLE_PARTS];
    struct mr_group *first_group;
    /* Scratch of one event, as large as any event can need; grows in add. */
    struct mr_found *found; /* by slot index */
    uint32_t *found_slots;  /* which of them, in the order of the document */
    uint32_t found_count, found_capacity;
    uint64_t *ids, *spare; /* results; the sort's other half */
    uint64_t id_count, id_capacity;
    struct mr_engine_stats stats;
};

/* Memory, counted. resize: like realloc; NULL leaves the old as it was. */
void *mr_index_alloc(struct mr_engine *engine, size_t size);
void *mr_index_resize(struct mr_engine *engine, void *memory, size_t old_size, size_t size);
void mr_index_free(struct mr_engine *engine, void *memory, size_t size);

/* subs.c */
void mr_subs_init(struct mr_sub_table *table);
void mr_subs_fini(struct mr_sub_table *table);
MR_MUST_USE bool mr_subs_reserve(struct mr_sub_table *table);
struct mr_sub *mr_subs_find(const struct mr_sub_table *table, uint64_t id);
void mr_subs_put(struct mr_sub_table *table, struct mr_sub sub);
void mr_subs_remove(struct mr_sub_table *table, struct mr_sub *sub);

/* postings.c */
const struct mr_posting *mr_postings_items(const struct mr_postings *list);
MR_MUST_USE bool mr_postings_add(struct mr_engine *engine, struct mr_anchor *anchor,
                                 struct mr_posting posting);
void mr_postings_remove(struct mr_engine *engine, const struct mr_anchor *anchor);

/* paths.c: slots by path. get: finds or makes; a slot lives while predicates refer to it. */
struct mr_slot *mr_slot_get(struct mr_engine *engine, struct mr_group *group, struct mr_str path);
void mr_slot_release(struct mr_engine *engine, struct mr_group *group, struct mr_slot *slot);
void mr_slots_fini(struct mr_engine *engine, struct mr_group *group);
/* One pass over the document: fills engine->found with what the group reads. False: damaged. */
bool mr_paths_extract(struct mr_engine *engine, struct mr_group *group, struct mr_str document);

/* predicate.c. get takes one reference, release gives one back. */
struct mr_index_predicate *mr_index_predicate_get(struct mr_engine *engine, struct mr_group *group,
                                                  struct mr_slot *slot, enum mr_predicate_op op,
                                                  const struct mr_const *value);
void mr_index_predicate_release(struct mr_engine *engine, struct mr_index_predicate *predicate);
/* Can a hash lookup by a document's value find "== value"? */
bool mr_index_hashable(const struct mr_const *value);
/* The predicate "== value" of a slot, if there is one. */
struct mr_index_predicate *mr_index_predicate_lookup(const struct mr_engine *engine,
                                                     const struct mr_group *group, uint32_t slot,
                                                     const struct mr_value *value);
#endif
