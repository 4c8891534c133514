/* What a gateway's queue gives to be written next: which messages go out together, and which never.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "publisher/control.h"
#include "publisher/sinks/grpc_stream_state.h"

static struct mr_grpc_streams streams = {
    .limits = {.queue_messages = 1000, .queue_bytes = 1 << 30}};
static struct mr_grpc_stream *stream;

static int setup(void **state)
{
    (void)state;
    grpc_init();
    stream = calloc(1, sizeof *stream);
    stream->streams = &streams;
    stream->call.batch = true;
    return pthread_mutex_init(&stream->lock, NULL);
}

static int teardown(void **state)
{
    (void)state;
    pthread_mutex_destroy(&stream->lock);
    free(stream->queue);
    free(stream);
    grpc_shutdown();
    return 0;
}

/* Queue a message of so many bytes for each letter: 'd' a delivery, 'a' an answer. */
static void queue(const char *letters, size_t bytes)
{
    for (; *letters; letters++) {
        bool cut;
        enum mr_rc rc = mr_grpc_stream_queue(stream, grpc_slice_malloc_large(bytes),
                                             grpc_empty_slice(), *letters == 'a', &cut);
        assert_true(rc == MR_OK && !cut);
    }
}

/* The next message is so many of these, written at once; last: nothing follows it now. */
static void expect(uint32_t count, bool answer, bool last)
{
    struct mr_out_run run;
    assert_true(mr_grpc_stream_take(stream, &run));
    assert_int_equal(run.count, count);
    assert_int_equal(run.last, last);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < run.count; i++) {
        assert_int_equal(run.outs[i].answer, answer);
        bytes += GRPC_SLICE_LENGTH(run.outs[i].head);
        mr_out_fini(&run.outs[i]);
    }
    assert_int_equal(run.bytes, bytes);
    stream->writing = false;
}

static void expect_nothing(void)
{
    struct mr_out_run run;
    assert_false(mr_grpc_stream_take(stream, &run));
}

static void deliveries_that_follow_one_another_are_a_batch_and_an_answer_is_alone(void **state)
{
    (void)state;
    queue("ddadaadd", 100);
    stream->flushed = stream->tail;
    expect(2, false, false);
    expect(1, true, false);
    expect(1, false, false);
    expect(1, true, false);
    expect(1, true, false);
    expect(2, false, true);
    expect_nothing();
    assert_int_equal(stream->deliveries + stream->answers + stream->bytes, 0);
}

static void who_has_not_asked_for_batches_gets_each_alone(void **state)
{
    (void)state;
    stream->call.batch = false;
    queue("ddd", 100);
    stream->flushed = stream->tail;
    expect(1, false, false);
    expect(1, false, false);
    expect(1, false, true);
}

static void a_batch_has_a_size_that_only_one_delivery_alone_exceeds(void **state)
{
    (void)state;
    queue("ddd", MR_GRPC_BATCH_BYTES_MAX / 2);
    queue("dd", MR_GRPC_BATCH_BYTES_MAX + 1);
    stream->flushed = stream->tail;
    expect(2, false, false);
    expect(1, false, false);
    expect(1, false, false);
    expect(1, false, true);
}

static void a_batch_ends_with_its_chunk(void **state)
{
    (void)state;
    for (int i = 0; i < MR_GRPC_CHUNK + 3; i++)
        queue("d", 1);
    stream->flushed = stream->tail;
    expect(MR_GRPC_CHUNK, false, false);
    expect(3, false, true);
}

static void the_newest_waits_for_the_flush(void **state)
{
    (void)state;
    queue("d", 100);
    expect_nothing();
    queue("d", 100);
    expect(1, false, false);
    expect_nothing();
    stream->flushed = stream->tail;
    expect(1, false, true);
}

static void drop_answer(void *context, mr_gateway_id gateway, grpc_slice message)
{
    (void)context;
    (void)gateway;
    grpc_slice_unref(message);
}

/* As the queue thread hands it over: a message of 10 bytes, with an empty REGISTER. */
static struct mr_grpc_request *hand_over(enum mr_request_kind kind)
{
    struct mr_err err;
    struct mr_grpc_request *request = calloc(1, sizeof *request);
    request->stream = stream;
    request->bytes = grpc_slice_malloc(10);
    request->request.kind = kind;
    stream->unsettled++;
    stream->unsettled_bytes += 10;
    if (kind == MR_REQUEST_REGISTER)
        assert_int_equal(mr_grpc_registration(stream, &request->request, request->bytes, &err),
                         MR_OK);
    return request;
}

static void a_registration_counts_against_its_stream_until_it_is_answered(void **state)
{
    (void)state;
    streams.answer = drop_answer;
    stream->refs = 1;
    mr_grpc_request_drop(hand_over(MR_REQUEST_HEARTBEAT));
    assert_int_equal(stream->unsettled + stream->unsettled_bytes, 0);
    struct mr_grpc_request *request = hand_over(MR_REQUEST_REGISTER);
    struct mr_control *control = request->request.control;
    mr_grpc_request_drop(request);
    assert_int_equal(stream->unsettled, 1);
    assert_int_equal(stream->unsettled_bytes, 10);
    assert_int_equal(stream->refs, 2);
    control->done(control);
    assert_int_equal(stream->unsettled + stream->unsettled_bytes, 0);
    assert_int_equal(stream->refs, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            deliveries_that_follow_one_another_are_a_batch_and_an_answer_is_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(who_has_not_asked_for_batches_gets_each_alone, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_batch_has_a_size_that_only_one_delivery_alone_exceeds,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_batch_ends_with_its_chunk, setup, teardown),
        cmocka_unit_test_setup_teardown(the_newest_waits_for_the_flush, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_registration_counts_against_its_stream_until_it_is_answered, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
