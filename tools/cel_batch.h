/* tools/cel_batch.h: millrace cel --ndjson: a case a line in, a result a line out (docs/cel.md). */
#ifndef MR_TOOLS_CEL_BATCH_H
#define MR_TOOLS_CEL_BATCH_H
#include <stdbool.h>
#include <stdio.h>

#include "common/err.h"

/* Answer every line of in, in order, whatever is wrong with it. flush_lines: after each line, else
 * at the end. MR_FATAL: in or out failed, or no memory. */
MR_MUST_USE enum mr_rc mr_cel_batch_run(FILE *in, FILE *out, bool flush_lines, struct mr_err *err);
#endif
