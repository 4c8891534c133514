/* publisher/rest/body.h: JSON bodies as requests to the pump. Strict: an unknown member, a member
 * of another type, a name twice are refused, with a message that begins with the member's path. */
#ifndef MR_PUBLISHER_REST_BODY_H
#define MR_PUBLISHER_REST_BODY_H
#include "common/bson.h"
#include "publisher/control.h"
#include "publisher/durable.h"

enum { MR_REST_PAGE_DEFAULT = 100, MR_REST_PAGE_MAX = 1000, MR_REST_CURSOR_MAX = 1 << 24 };

/* What a request points into. Zeroed is empty. */
struct mr_rest_body {
    void *root; /* of the JSON library */
    struct mr_predicate *predicates;
    struct mr_const *constants;
    void *spec;
    struct mr_bson_writer document;
};
void mr_rest_body_fini(struct mr_rest_body *body);

/* {gatewayId, subscriptionId, tenant, collection, filters, cel, ttl}: sets control's gateway and
 * ttl and the item. id: what the path says, if it does; then the body need not. False: control has
 * failed.
 */
bool mr_rest_read_subscription(struct mr_rest_body *body, struct mr_str text, struct mr_str id,
                               struct mr_control *control, struct mr_control_item *item);
/* {tenant, collection, documentId, document, subscriptionId, limit, cursor}: sets control's event,
 * id and page. */
bool mr_rest_read_event(struct mr_rest_body *body, struct mr_str text, struct mr_control *control);
/* A number from low to high, as text; NULL, absent: left as it is. name: of what it is. */
bool mr_rest_read_number(struct mr_control *control, const char *name, const char *text,
                         uint32_t low, uint32_t high, uint32_t *out);
#endif
