/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Deadlines: moments of CLOCK_MONOTONIC in microseconds, the same numbers as
 * g_get_monotonic_time(3) gives, and as the calls that wait want them. Any thread.
 */
#ifndef COMMON_BASE_DEADLINE_H
#define COMMON_BASE_DEADLINE_H

#include <stdint.h>
#include <time.h>

/* The moment `usec` microseconds from now. */
int64_t deadline_in(int64_t usec);

/* For pthread_cond_clockwait(3) and the like, which wait until a moment. */
struct timespec deadline_timespec(int64_t deadline);

/* For futex(2) and the like, which wait for a length of time: what is left of it, 0 if it has
 * passed. */
struct timespec deadline_left(int64_t deadline);

#endif
