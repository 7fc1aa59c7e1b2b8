/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How much room images take on their file systems. stat(2) of a file on a dead NFS server or FUSE
 * mount does not come back, so threads call it, and whoever asks waits a bounded time and then
 * takes what is known. A file that was waited for in vain is not asked about again until it
 * answers, so that no more than a few threads hang for each.
 *
 * Main thread.
 */
#ifndef CONTROL_ACTUAL_SIZE_H
#define CONTROL_ACTUAL_SIZE_H

#include <glib.h>
#include <stdbool.h>

struct actual_sizes;

struct actual_sizes *actual_sizes_new(void);
/* NULL: nothing. All `done` that are still to come are called first. A thread that hangs stays. */
void actual_sizes_free(struct actual_sizes *s);

/* Ask about files (char *, absolute). `done` is called once, perhaps before this returns: when all
 * is known, or after a second. */
void actual_sizes_refresh(struct actual_sizes *s, const GPtrArray *paths,
                          void (*done)(void *opaque), void *opaque);

/* The bytes allocated, as they were last known. False: unknown, or no regular file. */
bool actual_size(struct actual_sizes *s, const char *path, gint64 *bytes);

#endif
