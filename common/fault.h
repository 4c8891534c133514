/* common/fault.h: places where a test can make the outside world fail.
 *
 *   if (MR_FAULT("log.sync"))
 *       result = -EIO;
 *
 * In test builds (-Dtest_build=true) the n-th pass over an armed point is true, once; everywhere
 * else the macro is false and costs nothing. Any thread. */
#ifndef MR_COMMON_FAULT_H
#define MR_COMMON_FAULT_H
#include <stdbool.h>
#include <stdint.h>

#ifdef MR_TEST_BUILD
#define MR_FAULT(point) mr_fault_hit(point)
#else
#define MR_FAULT(point) false
#endif

/* Let the nth pass from now over point fail (1: the next); point is borrowed. One point is armed at
 * a time; nth 0 disarms. */
void mr_fault_arm(const char *point, uint32_t nth);
/* Has the armed point failed? A test that injects a fault checks that it came. */
bool mr_fault_fired(void);
bool mr_fault_hit(const char *point);
#endif
