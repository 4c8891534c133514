#include <string.h>

#include "puller/source.h"

static const struct mr_source_ops *const sources[] = {
    &mr_source_postgres,  &mr_source_mongodb,   &mr_source_ndjson,
    &mr_source_jetstream, &mr_source_generator,
};

const struct mr_source_ops *mr_source_find(const char *name)
{
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++)
        if (strcmp(sources[i]->name, name) == 0)
            return sources[i];
    return NULL;
}
