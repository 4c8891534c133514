/* Sleeping and waking, between threads and between processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "shm/doorbell.h"

/* A counter that a producer raises and a sleeper waits for; in shared memory. */
struct shared {
    struct mr_doorbell_shm bells[2];
    alignas(128) _Atomic uint64_t there;
    alignas(128) _Atomic uint64_t back;
};

static struct shared *map_shared(void)
{
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(shared, MAP_FAILED);
    return shared;
}

static void a_bell_nobody_rings_ends_at_its_bound(void **state)
{
    (void)state;
    struct mr_doorbell_shm bell = {0};
    uint64_t start_ns = mr_clock_ns();
    mr_doorbell_announce(&bell);
    mr_doorbell_wait(&bell, 20 * MR_NS_PER_MS);
    uint64_t slept_ns = mr_clock_ns() - start_ns;
    assert_true(slept_ns >= MR_NS_PER_MS && slept_ns < 5 * MR_NS_PER_S);
    assert_int_equal(atomic_load(&bell.state), MR_DOORBELL_AWAKE);
}

static void a_ring_between_announcing_and_waiting_is_not_lost(void **state)
{
    (void)state;
    struct mr_doorbell_shm bell = {0};
    mr_doorbell_announce(&bell);
    mr_doorbell_ring(&bell);
    uint64_t start_ns = mr_clock_ns();
    mr_doorbell_wait(&bell, 100 * MR_NS_PER_S);
    assert_true(mr_clock_ns() - start_ns < 10 * MR_NS_PER_S);
    assert_int_equal(atomic_load(&bell.wakes), 1);
}

static void a_nudge_wakes_the_sleeper_and_leaves_the_dozer(void **state)
{
    (void)state;
    struct mr_doorbell_shm bell = {0};
    assert_true(mr_doorbell_nudge(&bell));
    mr_doorbell_announce_doze(&bell);
    assert_false(mr_doorbell_nudge(&bell));
    assert_int_equal(atomic_load(&bell.wakes), 0);
    mr_doorbell_ring(&bell);
    assert_int_equal(atomic_load(&bell.wakes), 1);
    uint64_t start_ns = mr_clock_ns();
    mr_doorbell_wait(&bell, 100 * MR_NS_PER_S);
    mr_doorbell_announce(&bell);
    assert_true(mr_doorbell_nudge(&bell));
    mr_doorbell_wait(&bell, 100 * MR_NS_PER_S);
    assert_true(mr_clock_ns() - start_ns < 10 * MR_NS_PER_S);
    assert_int_equal(atomic_load(&bell.wakes), 2);
    mr_doorbell_announce_doze(&bell);
    mr_doorbell_wait(&bell, MR_NS_PER_MS);
    assert_int_equal(atomic_load(&bell.state), MR_DOORBELL_AWAKE);
}

static void ringing_who_is_awake_costs_no_call(void **state)
{
    (void)state;
    struct mr_doorbell_shm bell = {0};
    mr_doorbell_ring(&bell);
    mr_doorbell_ring(NULL);
    mr_doorbell_announce(&bell);
    mr_doorbell_cancel(&bell);
    mr_doorbell_ring(&bell);
    mr_doorbell_wake(&bell);
    assert_int_equal(atomic_load(&bell.wakes), 0);
}

/* Wait until *counter is at least target, sleeping on bell. Returns how often the bound ran out. */
static uint32_t await(struct mr_doorbell_shm *bell, const _Atomic uint64_t *counter,
                      uint64_t target)
{
    uint32_t bounds = 0;
    while (atomic_load_explicit(counter, memory_order_acquire) < target) {
        mr_doorbell_announce(bell);
        if (atomic_load_explicit(counter, memory_order_acquire) >= target) {
            mr_doorbell_cancel(bell);
            break;
        }
        uint64_t start_ns = mr_clock_ns();
        mr_doorbell_wait(bell, 2 * MR_NS_PER_S);
        bounds += mr_clock_ns() - start_ns >= 2 * MR_NS_PER_S;
    }
    return bounds;
}

enum { ROUND_TRIPS = 20000 };

static uint32_t serve(struct shared *shared)
{
    uint32_t bounds = 0;
    for (uint64_t n = 1; n <= ROUND_TRIPS && bounds < 3; n++) {
        bounds += await(&shared->bells[1], &shared->there, n);
        atomic_store_explicit(&shared->back, n, memory_order_release);
        mr_doorbell_ring(&shared->bells[0]);
    }
    return bounds;
}

static uint32_t call(struct shared *shared)
{
    uint32_t bounds = 0;
    for (uint64_t n = 1; n <= ROUND_TRIPS && bounds < 3; n++) {
        atomic_store_explicit(&shared->there, n, memory_order_release);
        mr_doorbell_ring(&shared->bells[1]);
        bounds += await(&shared->bells[0], &shared->back, n);
    }
    return bounds;
}

static void *serve_thread(void *argument)
{
    uint32_t bounds = serve(argument);
    return bounds == 0 ? argument : NULL;
}

static void no_wake_is_lost_between_threads(void **state)
{
    (void)state;
    struct shared *shared = map_shared();
    pthread_t thread;
    void *result;
    assert_int_equal(pthread_create(&thread, NULL, serve_thread, shared), 0);
    assert_int_equal(call(shared), 0);
    pthread_join(thread, &result);
    assert_non_null(result);
    munmap(shared, sizeof *shared);
}

static void no_wake_is_lost_between_processes(void **state)
{
    (void)state;
    struct shared *shared = map_shared();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(serve(shared) == 0 ? 0 : 1);
    }
    assert_int_equal(call(shared), 0);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    munmap(shared, sizeof *shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bell_nobody_rings_ends_at_its_bound),
        cmocka_unit_test(a_ring_between_announcing_and_waiting_is_not_lost),
        cmocka_unit_test(a_nudge_wakes_the_sleeper_and_leaves_the_dozer),
        cmocka_unit_test(ringing_who_is_awake_costs_no_call),
        cmocka_unit_test(no_wake_is_lost_between_threads),
        cmocka_unit_test(no_wake_is_lost_between_processes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
