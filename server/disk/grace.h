/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The grace of a disk, as RCU's: readers of views are inside it while they may hold a pointer into
 * the chain of views or a slot number; whoever unlinks such a thing waits for those who came
 * before. Nobody waits to enter it.
 */
#ifndef DISK_GRACE_H
#define DISK_GRACE_H

#include "server/disk/futex.h"

#include <glib.h>
#include <pthread.h>
#include <stdbool.h>

struct grace {
    atomic_uint phase;
    futex_word readers[2];
    atomic_uint waiting;
    pthread_mutex_t lock; /* one grace_wait at a time */
};

void grace_init(struct grace *g);
void grace_destroy(struct grace *g);
unsigned grace_enter(struct grace *g); /* never waits; give what it returns to grace_leave */
void grace_leave(struct grace *g, unsigned phase);
/* Returns when all who are inside now have left. Not from inside. */
void grace_wait(struct grace *g);
/* The same, at most until `deadline` (g_get_monotonic_time). False: somebody may still be inside.
 */
bool grace_wait_until(struct grace *g, gint64 deadline);

#endif
