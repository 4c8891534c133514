/* matcher/engine/index.h: the engine's inside. Algorithm: docs/matching.md
 *
 * group    one (database, collection), either of which may be "*"
 * slot     one path that leaves of the group read, by one of the two sets of rules; slot 0 is the
 *          document id
 * leaf     one (slot, operator, constant), however many filters state it; evaluated once an event.
 *          ==, prefix and contains are keys: an event's values find them by hash
 * filter   one combination of leaves, however many subscriptions have it
 * anchor   where a filter hangs: a set of places such that whenever it holds, the event passes one
 * posting  a filter at an anchor
 * bucket   the postings of one anchor, those that bound a number too in sorted runs */
#ifndef MR_MATCHER_ENGINE_INDEX_H
#define MR_MATCHER_ENGINE_INDEX_H
#include "cel/value.h"
#include "matcher/engine/engine.h"
#include "matcher/engine/hash.h"
#include "matcher/engine/run.h"
#include "matcher/engine/table.h"

enum { MR_OFFENCES_MAX = 64 };
enum { MR_SLOT_ID = 0, MR_SLOT_SAMPLES = 16, MR_PREFIX_BYTES_MAX = 64 };
#define MR_SLOT_NONE UINT32_MAX

/* A posting: a filter's reference with two bits. EXACT: passing this anchor is all that the filter
 * asks for. MULTI: the filter has other anchors, which the same event may pass. */
enum { MR_POSTING_REF = (1 << MR_HEAP_REF_BITS) - 1, MR_POSTING_MULTI = 1 << 30 };
#define MR_POSTING_EXACT (UINT32_C(1) << 31)

/* one: the first posting, whatever it bounds; sets: the others by what they bound. */
struct mr_bucket {
    uint32_t one;
    mr_ref sets; /* struct mr_sets; 0: none */
};

/* What an order compares. A string's number is its first bytes: it can exclude, not decide. */
enum mr_order { MR_ORDER_NONE, MR_ORDER_NUMBER, MR_ORDER_DATE, MR_ORDER_STRING };
/* A bound on a slot's number that follows from a conjunction. -inf, inf: open. */
struct mr_interval {
    uint32_t slot; /* MR_SLOT_NONE: there is none */
    enum mr_order order;
    bool exact; /* the number within it is all that the leaves say */
    double low, high;
};
enum mr_span { MR_SPAN_ANY, MR_SPAN_LOW, MR_SPAN_HIGH, MR_SPAN_BOTH };
/* Postings that bound one slot in one way. LOW: key is the lower bound; HIGH: key is the upper
 * bound, negated; BOTH: key and other are the two, and other - key is at most 2^width. */
struct mr_set {
    uint32_t slot;
    uint8_t order, span;
    int16_t width;
    struct mr_run run;
    double first; /* key of the run's first entry: most events are turned away by it */
    double reach; /* 2^width */
};
struct mr_sets {
    uint32_t count, capacity;
    struct mr_set set[];
};

/* What the last events had at a slot, to guess how often a leaf holds. */
struct mr_samples {
    uint32_t hashes[MR_SLOT_SAMPLES]; /* of the value as a key; 0: missing or no scalar */
    float numbers[MR_SLOT_SAMPLES];   /* NaN: none */
    uint32_t present;                 /* bit for each */
};

struct mr_slot {
    uint32_t index;
    uint32_t eq_keys, member_keys; /* leaves ==, contains: is a lookup worth it? */
    bool cel;
    uint64_t prefix_lens;      /* bit n - 1: there are prefixes of n bytes, or of more (the last) */
    struct mr_bucket presence; /* looked at whenever the path is there */
    uint32_t anchored;         /* filters in presence */
    uint32_t refs;             /* leaves */
    mr_ref node;               /* 0: the document id */
    mr_ref prefix_counts;      /* uint32_t for each length of prefixes; 0: none */
    struct mr_samples samples;
};

/* A node of the trie of paths. Its table of children decides what one pass over a document reads,
 * and has what the pass needs of them, so that it looks at no node on its way but where it goes
 * down. */
struct mr_child {
    mr_ref node;
    uint32_t key_len;
    mr_ref slots[2]; /* of the node: by filters' rules, by CEL's; 0: none */
    uint32_t slot_index[2];
};
struct mr_node {
    uint64_t seen;   /* without slots: the last event that had it */
    uint64_t tag;    /* the key itself up to 8 bytes, else its hash; never 0 */
    mr_ref children; /* 1 << bits tags, 0: empty; then as many struct mr_child; 0: none */
    uint32_t bits, child_count;
    mr_ref parent;
    mr_ref slots[2];
    uint32_t key_len;
    char key[];
};

/* A string of up to 8 bytes is in place; more, and the items of a list, are behind the struct. */
struct mr_leaf {
    uint64_t memo; /* event << 1 | result of the last evaluation */
    uint32_t hash;
    uint32_t refs;
    mr_ref group;
    uint32_t slot;
    uint8_t op;   /* enum mr_predicate_op */
    uint8_t kind; /* enum mr_const_kind */
    bool cel;
    bool resting;            /* code that was quarantined: never holds */
    uint32_t len;            /* of the string; of the list, items */
    struct mr_bucket bucket; /* of keys */
    union {
        uint64_t bits;
        double number;
        char text[8];
        struct mr_code *code; /* heap */
    };
};

enum mr_place { MR_PLACE_KEY, MR_PLACE_PRESENCE, MR_PLACE_ALWAYS };
struct mr_anchor {
    uint32_t at;    /* KEY: the leaf's reference; PRESENCE: the slot's index */
    uint32_t slot;  /* of the number that is bounded, too; MR_SLOT_NONE: none */
    uint16_t token; /* the conjunction it is for */
    uint8_t place;  /* enum mr_place */
};

/* One leaf and one anchor, as most filters have, are in place. */
struct mr_filter {
    uint64_t seen; /* the last event that passed one of several anchors */
    union {
        uint64_t one;
        mr_ref many;
    } subs;                           /* subscription ids, in no order */
    uint32_t sub_count, sub_capacity; /* capacity 1: in place */
    uint32_t hash;
    mr_ref group;
    mr_ref previous, next; /* of the group */
    mr_ref parts; /* leaf_count references, then token_count uint16_t; with one token: the leaf
                     itself, or without a leaf the token */
    uint16_t leaf_count, token_count;
    uint32_t anchor_count : 31; /* 1: in place */
    uint32_t reported : 1;      /* among the offences */
    union {
        struct mr_anchor one;
        mr_ref many;
    } anchors;
};

struct mr_group {
    mr_ref ref;
    uint32_t hash;
    mr_ref root;  /* of the trie */
    mr_ref slots; /* slot_capacity references; 0: free; [0] is the document id */
    uint32_t slot_count, slot_capacity, slot_free; /* slot_free: none is free below it */
    uint32_t always_count;                         /* filters in always */
    struct mr_table keys;                          /* leaves found by a value */
    uint64_t events;
    struct mr_bucket always; /* looked at with every event */
    mr_ref previous, next;
    mr_ref filters;         /* all */
    struct mr_table others; /* leaves that are no keys */
    uint64_t sub_count;
    uint32_t sample_count;
    uint32_t database_len, collection_len;
    char names[]; /* database, collection */
};

struct mr_sub {
    uint64_t id;
    mr_ref filter;
    uint32_t at; /* place among the filter's subscriptions */
};

/* What an event had at a slot. */
struct mr_found {
    uint64_t event;   /* the one it was found in */
    double low, high; /* its number is between: the same but for what a double cannot hold */
    enum mr_order order;
    bool exact;
    struct mr_value value;
    char oid[MR_VALUE_OID_TEXT]; /* its text, when it is looked up by that */
};

struct mr_engine {
    struct mr_heap heap;
    uint64_t seed;
    uint64_t event; /* number of the event at hand; marks what is of it */
    struct mr_str document;
    struct mr_table groups, filters, subs;
    mr_ref first_group;
    uint32_t wild_groups; /* with a "*" */
    bool bloom_on;
    /* Scratch of one event, as large as any event can need; grows in add. */
    struct mr_found *found; /* by slot index */
    mr_ref *found_slots;    /* which slots, in the order of the document */
    uint32_t found_count, found_capacity;
    uint64_t *ids, *spare; /* results; the sort's other half; mapped, so only what is used counts */
    uint64_t id_count, id_capacity;
    struct mr_plan *plan;
    struct mr_const *items; /* scratch: a list of a program */
    uint32_t item_capacity;
    struct mr_code_runner *runner;
    mr_ref code_leaves;               /* list of all */
    bool rested;                      /* the filter at hand asked code that is quarantined */
    bool rested_budget;               /* and that because it exhausted its budget */
    mr_ref offences[MR_OFFENCES_MAX]; /* filters, waiting to be asked for */
    bool offence_budget[MR_OFFENCES_MAX];
    uint32_t offence_count, offence_sub;
    mr_ref suspect; /* a filter whose anchor let a failing event pass lately */
    uint32_t failures;
    struct mr_engine_stats stats;
    struct mr_bloom_stats bloom, other;
    uint64_t work;          /* steps since the last pulse */
    mr_engine_pulse *pulse; /* NULL: none */
    void *pulse_context;
};

/* heap */
static inline void *mr_at(const struct mr_engine *engine, mr_ref ref)
{
    return mr_heap_at(&engine->heap, ref);
}
static inline struct mr_slot *mr_group_slot(const struct mr_engine *engine,
                                            const struct mr_group *group, uint32_t index)
{
    return mr_at(engine, ((const mr_ref *)mr_at(engine, group->slots))[index]);
}

struct mr_interval_class {
    enum mr_span span;
    int16_t width;
    double key, other;
};
/* interval.c. narrow: by an ordering leaf; what is not exact is widened instead. classify:
 * one-sided intervals are kept by their bound, two-sided ones by their lower bound together with
 * others of about their width, so that those that hold a value are near each other. */
void mr_interval_narrow(struct mr_interval *interval, const struct mr_leaf *leaf);
struct mr_interval_class mr_interval_classify(const struct mr_interval *interval);

/* bucket.c. add: false: out of memory, nothing changed. item: the posting, filter and bits, with
 * the interval and without. */
MR_MUST_USE bool mr_bucket_add(struct mr_engine *engine, struct mr_bucket *bucket, uint32_t item,
                               const struct mr_interval *interval, uint32_t item_without);
/* Move the first posting to where its interval says. Out of memory: it stays. */
void mr_bucket_settle(struct mr_engine *engine, struct mr_bucket *bucket, uint32_t item,
                      const struct mr_interval *interval);
void mr_bucket_remove(struct mr_engine *engine, struct mr_bucket *bucket, uint32_t item,
                      const struct mr_interval *interval);

/* paths.c: slots by path. get: finds or makes; a slot lives while leaves refer to it. */
struct mr_slot *mr_slot_get(struct mr_engine *engine, struct mr_group *group, struct mr_str path,
                            bool cel);
void mr_slot_release(struct mr_engine *engine, struct mr_group *group, struct mr_slot *slot);
mr_ref mr_paths_create(struct mr_engine *engine); /* the root of a trie; 0: out of memory */
void mr_paths_fini(struct mr_engine *engine, struct mr_group *group);
/* extract.c: one pass over the document: fills engine->found with what the group reads. False:
 * damaged. */
bool mr_paths_extract(struct mr_engine *engine, struct mr_group *group, struct mr_str document);
void mr_extract_put(struct mr_engine *engine, mr_ref slot, uint32_t index,
                    const struct mr_value *value);
/* The number by which a string is ordered: its first 6 bytes. */
double mr_string_number(struct mr_str text);

/* leaf.c. get takes one reference, release gives one back. */
mr_ref mr_leaf_get(struct mr_engine *engine, struct mr_group *group, const struct mr_predicate *p);
/* "==" of a slot that has leaves already. */
mr_ref mr_leaf_get_equal(struct mr_engine *engine, struct mr_group *group, uint32_t slot,
                         const struct mr_const *value);
void mr_leaf_release(struct mr_engine *engine, mr_ref leaf);
bool mr_leaf_is_key(enum mr_predicate_op op, enum mr_const_kind kind);
/* The leaf's constant. The items of a list are in memory. */
struct mr_const mr_leaf_const(const struct mr_leaf *leaf);
struct mr_str mr_leaf_text(const struct mr_leaf *leaf); /* of a string */
/* Does it hold for the event at hand? */
bool mr_leaf_holds(struct mr_engine *engine, struct mr_leaf *leaf);
/* code.c: code leaves: load when made (bytes that are no program never hold), unload, run for the
 * event at hand. False: out of memory. */
MR_MUST_USE bool mr_code_load(struct mr_engine *engine, struct mr_leaf *leaf);
void mr_code_unload(struct mr_engine *engine, struct mr_leaf *leaf);
mr_ref mr_code_next(const struct mr_leaf *leaf); /* of engine->code_leaves */
bool mr_code_holds(struct mr_engine *engine, struct mr_leaf *leaf);
MR_MUST_USE struct mr_code_runner *mr_code_runner_create(void); /* NULL: out of memory */
void mr_code_runner_destroy(struct mr_code_runner *runner);
/* What a document's value is looked up by. False: no key equals it. */
struct mr_key {
    enum mr_const_kind kind;
    uint64_t bits;
    struct mr_str text;
};
bool mr_key_from_value(const struct mr_value *value, struct mr_key *key,
                       char buffer[MR_VALUE_OID_TEXT]);
uint32_t mr_key_hash(const struct mr_engine *engine, const struct mr_group *group, uint32_t slot,
                     enum mr_predicate_op op, const struct mr_key *key);

/* filter.c */
static inline const mr_ref *mr_filter_leaves(const struct mr_engine *engine,
                                             const struct mr_filter *filter)
{
    return filter->token_count > 1 ? mr_at(engine, filter->parts) : &filter->parts;
}
static inline uint16_t mr_filter_token(const struct mr_engine *engine,
                                       const struct mr_filter *filter, uint32_t at)
{
    if (filter->token_count == 1)
        return filter->leaf_count ? 0 : (uint16_t)filter->parts;
    const mr_ref *leaves = mr_at(engine, filter->parts);
    return ((const uint16_t *)(leaves + filter->leaf_count))[at];
}
static inline const uint64_t *mr_filter_ids(const struct mr_engine *engine,
                                            const struct mr_filter *filter)
{
    return filter->sub_capacity > 1 ? mr_at(engine, filter->subs.many) : &filter->subs.one;
}
static inline const struct mr_anchor *mr_filter_anchors(const struct mr_engine *engine,
                                                        const struct mr_filter *filter)
{
    return filter->anchor_count > 1 ? mr_at(engine, filter->anchors.many) : &filter->anchors.one;
}
/* Where the term that begins at a token ends. */
uint32_t mr_filter_skip(const struct mr_engine *engine, const struct mr_filter *filter,
                        uint32_t at);
bool mr_filter_holds(struct mr_engine *engine, struct mr_filter *filter);

/* The filter of a program, made when it is new. 0: out of memory, nothing changed. A new filter has
 * no subscription yet: append one or drop it. */
MR_MUST_USE mr_ref mr_filter_get(struct mr_engine *engine, struct mr_group *group,
                                 const struct mr_program *program);
/* Remove a filter without subscriptions. */
void mr_filter_drop(struct mr_engine *engine, mr_ref filter);
/* Append an id; *at its place. False: out of memory. */
MR_MUST_USE bool mr_filter_append(struct mr_engine *engine, struct mr_filter *filter, uint64_t id,
                                  uint32_t *at);
/* Take out the id at a place. The id that takes the place is in *moved; false: none does. */
bool mr_filter_take(struct mr_engine *engine, struct mr_filter *filter, uint32_t at,
                    uint64_t *moved);

/* anchor.c. hang: false: out of memory, nothing changed. */
MR_MUST_USE bool mr_anchor_hang(struct mr_engine *engine, struct mr_filter *filter);
void mr_anchor_unhang(struct mr_engine *engine, struct mr_filter *filter);
/* Hang it elsewhere, if what the last events had says that this is much better. */
void mr_anchor_reconsider(struct mr_engine *engine, struct mr_filter *filter);
struct mr_plan *mr_plan_create(void); /* its scratch */
void mr_plan_destroy(struct mr_plan *plan);
#endif
