/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A thread that does what others must not wait for, one job after the other: unlink files, note
 * failures in the catalogue. When the folder hangs, it is this thread that hangs.
 */
#ifndef STATE_JOBS_H
#define STATE_JOBS_H

#include <glib.h>
#include <stdbool.h>

struct jobs;

/* `each` is called on the thread about every interval_ms. NULL and *err: no thread. */
struct jobs *jobs_new(unsigned interval_ms, void (*each)(void *opaque), void *opaque, GError **err);
/* Any thread; does not wait. */
void jobs_post(struct jobs *j, void (*run)(void *data), void *data);
/* Wait until all that was posted before is done, for at most timeout_ms. False: it is not. */
bool jobs_wait(struct jobs *j, unsigned timeout_ms);
/* Do what was posted, end the thread and free it. False: it was not done in time; the thread goes on,
 * and all that its jobs use has to stay. */
bool jobs_free(struct jobs *j, unsigned timeout_ms);

#endif
