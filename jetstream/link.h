/* jetstream/link.h: a connection to NATS on which many messages are under way at once, driven by
 * one thread that never waits for the server.
 *
 * nats.c makes the connection (servers, TLS, credentials) and reads it; this file writes the
 * published messages itself, straight into the socket that nats.c has handed to its event loop: a
 * message with headers costs nats.c an object, a hash table and a wake of its collector thread,
 * 5 to 9 microseconds; written by hand it costs one. Over TLS the bytes are nats.c's, and so is the
 * publishing. A connection that is lost stays lost: whoever owns it opens another and knows what to
 * send again. Also here: a second, ordinary connection for requests to JetStream (streams.h). */
#ifndef MR_JETSTREAM_LINK_H
#define MR_JETSTREAM_LINK_H
#include "jetstream/outbox.h"

struct mr_js_options {
    const char *url;         /* servers, separated by commas */
    const char *credentials; /* file; empty: none */
    const char *ca;          /* file; empty: what the system trusts */
    const char *name;        /* as the server shows the connection */
};

struct mr_js_link;

/* Connect, at most 2 s for each server. MR_RETRY: none is there, or refuses; MR_USAGE: url or a
 * file is wrong. */
MR_MUST_USE enum mr_rc mr_js_link_open(struct mr_js_link **out, const struct mr_js_options *options,
                                       struct mr_err *err);
void mr_js_link_close(struct mr_js_link **link);
size_t mr_js_link_payload_max(const struct mr_js_link *link); /* bytes of headers and payload */

/* A message as it is sent: parts of an outbox entry. The server stores it only if the stream's last
 * message has this id, or, when expected_id is empty, this sequence. answer: number by which its
 * acknowledgement comes back; 0: none wanted. */
struct mr_js_publish {
    struct mr_str subject, id, headers, payload, expected_id;
    uint64_t expected, answer;
};
/* Append to what is to be written. MR_FULL: write first (mr_js_link_work). MR_RETRY: the connection
 * is gone. */
MR_MUST_USE enum mr_rc mr_js_link_publish(struct mr_js_link *link,
                                          const struct mr_js_publish *message, struct mr_err *err);

/* Write and read what the socket takes and gives; wait for it, or for wake_fd (-1: none), at most
 * timeout_ns. MR_RETRY: the connection is gone. */
MR_MUST_USE enum mr_rc mr_js_link_work(struct mr_js_link *link, int wake_fd, uint64_t timeout_ns,
                                       struct mr_err *err);

/* The next answer, payload borrowed until the next call. False: none. An empty payload: nobody
 * listens to the subject, there is no such stream. */
struct mr_js_answer {
    uint64_t number;
    struct mr_str payload;
};
bool mr_js_link_answer(struct mr_js_link *link, struct mr_js_answer *out);

/* For streams.c: the ordinary connection. */
struct __natsConnection;
struct __natsConnection *mr_js_link_control(struct mr_js_link *link);

/* For readers: an ordinary connection by itself. Close it with mr_js_disconnect. */
MR_MUST_USE enum mr_rc mr_js_connect(struct __natsConnection **out,
                                     const struct mr_js_options *options, struct mr_err *err);
void mr_js_disconnect(struct __natsConnection **connection);

/* For both: a request has failed just now, in this thread. "WHAT NAME: why (code)"; MR_RETRY.
 * status: natsStatus; code: jsErrCode, 0: none. */
enum mr_rc mr_js_refused(struct mr_err *err, const char *what, const char *name, uint32_t status,
                         uint32_t code);
#endif
