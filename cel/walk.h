/* cel/walk.h: where paths lead: from a variable or a value through documents, which are read in
 * place. Used by run.c alone, and apart from its loop so that each keeps what it needs in the
 * processor's registers. */
#ifndef MR_CEL_WALK_H
#define MR_CEL_WALK_H
#include "cel/machine.h"

/* Variable index; or out, the error that there is none. */
const struct mr_cel_val *mr_cel_walk_variable(const struct mr_cel_machine *m, uint32_t index,
                                              struct mr_cel_val *out);
/* The first count steps of a path.
 *   from  a value; NULL: the path's variable, whose first step may have been taken before
 *   out   room for the result; not from
 * Returns where they lead: out, or a value that is elsewhere; an error where they lead nowhere. */
const struct mr_cel_val *mr_cel_walk(struct mr_cel_machine *m, const struct mr_cel_val *from,
                                     const struct mr_cel_path *path, uint32_t count,
                                     struct mr_cel_val *out);
/* Whether the field at the path's end is there; from as before. */
struct mr_cel_val mr_cel_walk_has(struct mr_cel_machine *m, const struct mr_cel_val *from,
                                  const struct mr_cel_path *path);
/* The quick case of mr_cel_iter_next: the next item of an array in a document, to out. False:
 * nothing is done, mr_cel_iter_next is to be asked. */
bool mr_cel_walk_array(struct mr_cel_iter *it, struct mr_cel_val *out);
#endif
