/* SPDX-License-Identifier: BSD-3-Clause */
/* futex(2), as much of it as we use: wait while a word has a value, wake all who wait on it. */
#ifndef DISK_FUTEX_H
#define DISK_FUTEX_H

#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef _Atomic uint32_t futex_word;

/* Returns at a wake, at once if *w is not `value`, at the relative timeout (NULL: none), or for no
 * reason: the caller looks again. */
static inline void futex_wait(futex_word *w, uint32_t value, const struct timespec *timeout)
{
    (void)syscall(SYS_futex, w, FUTEX_WAIT_PRIVATE, value, timeout, NULL, 0);
}

static inline void futex_wake_all(futex_word *w)
{
    (void)syscall(SYS_futex, w, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

#endif
