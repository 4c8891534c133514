/* matcher/engine/run.h: a sorted run of postings by the bounds of a number: which of these
 * intervals hold this value?
 *
 * An entry has a key, another bound, and a reference. Entries are in the order (key, other, item)
 * in blocks of bounded size under one sorted directory, so that adding and removing move little and
 * looking walks through memory in order. What key and other mean is the owner's business
 * (bucket.h). */
#ifndef MR_MATCHER_ENGINE_RUN_H
#define MR_MATCHER_ENGINE_RUN_H
#include "matcher/engine/heap.h"

enum { MR_RUN_BLOCK_MAX = 128 };

struct mr_run_entry {
    double key, other; /* never NaN */
    uint32_t item;
    mr_ref block; /* in a directory: the block of which this is the first entry */
};
struct mr_run {
    uint32_t count;       /* of entries */
    uint32_t block_count; /* 1: root is the block itself; more: the directory */
    uint32_t capacity;    /* entries that root has room for */
    mr_ref root;
};
struct mr_run_block {
    uint32_t count, capacity;
    uint64_t padding;
    struct mr_run_entry entries[];
};

/* False: out of memory, nothing changed. */
MR_MUST_USE bool mr_run_add(struct mr_run *run, struct mr_heap *heap, double key, double other,
                            uint32_t item);
/* False: no such entry. */
bool mr_run_remove(struct mr_run *run, struct mr_heap *heap, double key, double other,
                   uint32_t item);

/* The least key of a run that is not empty. */
double mr_run_first(const struct mr_run *run, const struct mr_heap *heap);

/* Walk in order. begin: at the first entry whose key is at least from. block: the entries of one
 * block from where the walk stands; NULL: the end. */
struct mr_run_walk {
    const struct mr_run *run;
    uint32_t block, at;
};
void mr_run_begin(const struct mr_run *run, const struct mr_heap *heap, double from,
                  struct mr_run_walk *walk);
const struct mr_run_entry *mr_run_block(struct mr_run_walk *walk, const struct mr_heap *heap,
                                        uint32_t *count);
#endif
