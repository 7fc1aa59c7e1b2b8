/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Making an image durable, and writing its tables back; and the thread that does so in the background.
 *
 * A commit: take all dirty slices; if any was flagged, sync the data; write the slices; sync. Who asks while one is
 * under way waits for the next one, which is made once for all who wait (group commit). If a step
 * fails, the failure is final (live_file's sync_error, image->broken), and every later commit fails.
 * After the last sync, what was given up before the commit began may be counted down (live_reserve_given_up): the
 * thread does so; where there is none, the commit itself.
 */
#ifndef COMMON_LIVE_LIVE_COMMIT_H
#define COMMON_LIVE_LIVE_COMMIT_H

#include "common/live/live-private.h"

/* 0 or a negative errno. From here on image->make_room is live_commit. */
int live_commit_init(struct live_image *image);
void live_commit_clear(struct live_image *image);

/* Make all that was changed before this call durable: data, tables. 0 or a negative errno. Any
 * thread, with no lock of live-private.h but a range of guest clusters. */
int live_commit(struct live_image *image);
/* Write what is not flagged to the page cache. 0 or a negative errno. */
int live_write_back(struct live_image *image);

/* Count down what may be, by the last commit. By one thread: image->worker's, if there is one. */
void live_commit_count_down(struct live_image *image);

/* Is a commit wanted: is something flagged, or was something given up that is not counted down yet? */
bool live_commit_wanted(struct live_image *image);

/* ---- the thread (live-worker.c) ---- */

/* Writes back every 100 ms what is dirty; makes a commit where something has been flagged, or was given up, for a second;
 * has the reserve filled (live_reserve_fill) when woken. Started, it is woken by image->wake. */
int live_worker_start(struct live_image *image); /* 0 or a negative errno */
/* And wait for its end; image->worker is NULL then, which is fine, too. */
void live_worker_stop(struct live_image *image);
/* Have it stand still: waits until it does. It is let go on by live_worker_resume. NULL worker is fine. */
void live_worker_pause(struct live_image *image);
void live_worker_resume(struct live_image *image);
void live_worker_wake(struct live_image *image); /* the reserve is low; any thread, any lock */

#endif
