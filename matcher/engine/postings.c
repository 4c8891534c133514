#include "matcher/engine/index.h"

const struct mr_posting *mr_postings_items(const struct mr_postings *list)
{
    return list->capacity > 1 ? list->many : &list->one;
}

static bool set_capacity(struct mr_engine *engine, struct mr_postings *list, uint32_t capacity)
{
    size_t size = capacity * sizeof(struct mr_posting);
    if (list->capacity > 1) {
        struct mr_posting *many =
            mr_index_resize(engine, list->many, list->capacity * sizeof *many, size);
        if (!many)
            return false;
        list->many = many;
    } else {
        struct mr_posting *many = mr_index_alloc(engine, size);
        if (!many)
            return false;
        if (list->count == 1)
            many[0] = list->one;
        list->many = many;
    }
    list->capacity = capacity;
    return true;
}

bool mr_postings_add(struct mr_engine *engine, struct mr_anchor *anchor, struct mr_posting posting)
{
    struct mr_postings *list = anchor->list;
    if (list->capacity == 0)
        list->capacity = 1;
    if (list->count == list->capacity && !set_capacity(engine, list, list->capacity * 2))
        return false;
    anchor->at = list->count++;
    if (list->capacity > 1)
        list->many[anchor->at] = posting;
    else
        list->one = posting;
    return true;
}

void mr_postings_remove(struct mr_engine *engine, const struct mr_anchor *anchor)
{
    struct mr_postings *list = anchor->list;
    MR_ASSERT(anchor->at < list->count);
    list->count--;
    if (list->capacity == 1)
        return;
    struct mr_posting moved = list->many[list->count]; /* the last one takes the free place */
    list->many[anchor->at] = moved;
    moved.filter->anchors[moved.ref].at = anchor->at;
    if (list->count == 0) {
        mr_index_free(engine, list->many, list->capacity * sizeof *list->many);
        list->capacity = 0;
    } else if (list->capacity > 8 && list->count < list->capacity / 4) {
        (void)set_capacity(engine, list, list->capacity / 2);
    }
}
