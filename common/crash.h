/* common/crash.h: places where a test can let a process die, as kill -9 would.
 *
 *   atomic_store_explicit(&shm->tail, tail, memory_order_release);
 *   MR_CRASH("ring.tail");
 *
 * In test builds (-Dtest_build=true) the environment says who dies where; everywhere else the macro
 * is nothing. MRTEST_CRASH lists PROGRAM@POINT:N, separated by spaces: the N-th pass (from 1) of
 * a process of that program over POINT is its end, once. MRTEST_CRASH_DIR is a directory in which
 * a file PROGRAM@POINT says that it has happened; so the process that takes the place of the dead
 * one lives, and the test sees that the crash has come. With PROGRAM@POINT:N~MS nobody dies: each
 * process of that program sleeps so many milliseconds there, which makes a narrow race a wide one.
 *
 *   MRTEST_CRASH="millrace-puller@ring.tail:17 millrace@checkpoint.renamed:1"
 *
 * Any thread. */
#ifndef MR_COMMON_CRASH_H
#define MR_COMMON_CRASH_H

#ifdef MR_TEST_BUILD
#define MR_CRASH(point) mr_crash_hit(point)
#else
#define MR_CRASH(point) ((void)0)
#endif

void mr_crash_hit(const char *point);
#endif
