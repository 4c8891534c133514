#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

#include "proto/event.h"

/* One digest context a thread, made once: making one costs more than hashing an id. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t context_key;
static EVP_MD *sha256;

static void free_context(void *context)
{
    EVP_MD_CTX_free(context);
}

static void set_up(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA2-256", NULL);
    MR_ASSERT(sha256 != NULL); /* a libcrypto without SHA-256 is a broken installation */
    int failed = pthread_key_create(&context_key, free_context);
    MR_ASSERT(failed == 0);
}

static EVP_MD_CTX *thread_context(void)
{
    pthread_once(&once, set_up);
    EVP_MD_CTX *context = pthread_getspecific(context_key);
    if (context)
        return context;
    context = EVP_MD_CTX_new();
    MR_ASSERT(context != NULL && EVP_DigestInit_ex2(context, sha256, NULL) == 1);
    int failed = pthread_setspecific(context_key, context);
    MR_ASSERT(failed == 0);
    return context;
}

static char *put_decimal(char *out, uint32_t value)
{
    char digits[10];
    size_t count = 0;
    do
        digits[count++] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    while (count > 0)
        *out++ = digits[--count];
    return out;
}

size_t mr_event_id(const struct mr_event *event, char out[MR_EVENT_ID_MAX])
{
    if (event->event_id.len > 0) {
        MR_ASSERT(event->event_id.len < MR_EVENT_ID_MAX); /* by decode, or by the intake */
        memcpy(out, event->event_id.data, event->event_id.len);
        out[event->event_id.len] = 0;
        return event->event_id.len;
    }
    EVP_MD_CTX *context = thread_context();
    unsigned char digest[EVP_MAX_MD_SIZE];
    /* One update, not three: each is an indirect call through the provider. */
    char text[2 * MR_EVENT_NAME_MAX + 1];
    MR_ASSERT(event->collection.len <= MR_EVENT_NAME_MAX &&
              event->document_id.len <= MR_EVENT_NAME_MAX);
    size_t len = event->collection.len;
    if (len > 0)
        memcpy(text, event->collection.data, len);
    text[len++] = '/';
    if (event->document_id.len > 0)
        memcpy(text + len, event->document_id.data, event->document_id.len);
    len += event->document_id.len;
    int hashed = EVP_DigestInit_ex2(context, NULL, NULL) == 1 &&
                 EVP_DigestUpdate(context, text, len) == 1 &&
                 EVP_DigestFinal_ex(context, digest, NULL) == 1;
    MR_ASSERT(hashed);
    char *at = put_decimal(out, (uint32_t)(event->head.source_order >> 32));
    *at++ = '-';
    at = put_decimal(at, (uint32_t)event->head.source_order);
    *at++ = '-';
    for (int i = 0; i < 8; i++) {
        *at++ = "0123456789abcdef"[digest[i] >> 4];
        *at++ = "0123456789abcdef"[digest[i] & 15];
    }
    *at = 0;
    return (size_t)(at - out);
}
