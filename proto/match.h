/* proto/match.h: what travels in match rings and in the subscription journal. */
#ifndef MR_PROTO_MATCH_H
#define MR_PROTO_MATCH_H
#include <assert.h>
#include <stdint.h>

/* Types of ring and journal records. */
enum mr_record_type {
    MR_RECORD_EVENT = 1, /* event ring: struct mr_event_head and what follows it */
    MR_RECORD_MATCH,     /* match ring: struct mr_match_head, then its subscription ids */
    MR_RECORD_ANNOUNCE,  /* control ring: struct mr_announce */
    MR_RECORD_SUBSCRIBE, /* journal: struct mr_subscribe_head, then a filter program (cel/program.h)
                          */
    MR_RECORD_UNSUBSCRIBE, /* journal: struct mr_subscribe_head */
};

/* One event and the subscriptions it concerns. An event with more subscriptions than fit into one
 * record gets several in a row, flag MR_MATCH_MORE on all but the last. Events without a match get
 * none. They become visible together, unless they are more than the whole ring holds: then the
 * successor of a matcher that died in between begins with the first again, and a reader drops the
 * ids at or before the last one that it has of the same sequence. The match ring's note
 * (mr_ring_publish) is the event-ring position through which all is matched, so a matcher that
 * restarts matches no event twice. */
struct mr_match_head {
    uint64_t sequence; /* of the event */
    uint64_t position; /* of its record in the event ring of the same shard */
    uint64_t end;      /* where the next record starts there */
    uint32_t count;    /* of ids with their tags that follow, uint64_t each, ascending */
    uint32_t flags;
};
static_assert(sizeof(struct mr_match_head) == 32, "the record layout is an ABI");
enum { MR_MATCH_MORE = 1, MR_MATCH_IDS_MAX = 4096 };

/* What an event did to the result set of a subscription that asked to be told. */
enum mr_transition {
    MR_TRANSITION_NONE,    /* it did not ask */
    MR_TRANSITION_ENTER,   /* in it now, and not before */
    MR_TRANSITION_STAY,    /* in it before and now */
    MR_TRANSITION_LEAVE,   /* in it before, and not now */
    MR_TRANSITION_UNKNOWN, /* an image is missing: what is known of the document is in it */
};

/* Besides slot and use, an id in a match record bears a tag: a transition, and bits. Ids ascend by
 * what they are without it. */
enum {
    MR_TAG_SHIFT = 24, /* slots are below 1 << MR_TAG_SHIFT */
    MR_TAG_TRANSITION = 7,
    MR_TAG_QUARANTINED = 8, /* code of its filter is not evaluated any more, from this event on */
    MR_TAG_BUDGET = 16,     /* and that because it exhausted its budget; else because it failed */
    MR_TAG_ALONE = 32,      /* the event does not concern it: there is only the other news */
};

static inline uint32_t mr_match_tag(uint64_t id)
{
    return (uint32_t)id >> MR_TAG_SHIFT;
}

static inline uint64_t mr_match_id(uint64_t id)
{
    return id & ~(UINT64_C(0xff) << MR_TAG_SHIFT);
}

static inline uint64_t mr_match_tagged(uint64_t id, uint32_t tag)
{
    return id | (uint64_t)tag << MR_TAG_SHIFT;
}

/* The subscription journal has grown: apply it through count. */
struct mr_announce {
    uint64_t generation;
    uint64_t count;
};

/* Subscription id inside the pipeline: slot in the publisher's table, and in the high half a use
 * count, so that a match for an earlier owner of the slot is recognised and dropped. */
struct mr_subscribe_head {
    uint64_t subscription;
    uint32_t flags; /* enum mr_subscribe_flag */
    uint32_t reserved;
};
static_assert(sizeof(struct mr_subscribe_head) == 16, "the record layout is an ABI");
enum mr_subscribe_flag { MR_SUBSCRIBE_TRANSITIONS = 1 /* wants to be told: enum mr_transition */ };
#endif
