#include "matcher/engine/index.h"

bool mr_code_holds(struct mr_engine *engine, struct mr_leaf *leaf)
{
    return engine->code && engine->code->holds(engine->code, mr_leaf_text(leaf),
                                               engine->document.data, engine->document.len);
}
