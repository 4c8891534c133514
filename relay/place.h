/* relay/place.h: where a consumer wants to begin, from the text of SubscribeRequest.after. Beside
 * our own markers (proto/marker.h) those of syntrix's puller are understood: base64url without
 * padding of {"p":{"<backend>":"<event id>",...}}. */
#ifndef MR_RELAY_PLACE_H
#define MR_RELAY_PLACE_H
#include "proto/event.h"
#include "proto/marker.h"

enum mr_place_kind {
    MR_PLACE_NOW,    /* empty text */
    MR_PLACE_OLDEST, /* a marker without a position for this backend */
    MR_PLACE_MARKER,
    MR_PLACE_EVENT, /* behind the event of this id */
};

struct mr_place {
    enum mr_place_kind kind;
    struct mr_marker marker;
    char event_id[MR_EVENT_ID_MAX];
    uint64_t source_order; /* of that event, from its id */
};

/* MR_USAGE: neither kind of marker; err says what was expected. Of several backends ours counts. */
MR_MUST_USE enum mr_rc mr_place_parse(struct mr_str text, struct mr_str backend,
                                      struct mr_place *out, struct mr_err *err);
#endif
