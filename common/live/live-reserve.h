/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Space of a writable image: the reserve, and the counts of clusters.
 *
 * The reserve is a range of clusters behind everything that the file has or counts, prepared in
 * batches (1 MiB, four times as much while it is used up within a second, at most 1 GiB; sparse, so free):
 *  (a) the file is made longer, durably: zeroes;
 *  (b) the clusters' counts are set to 1, durably. A block of counts that is missing is made inside
 *      of the batch, durable before the table refers to it. A table that is too short is made anew,
 *      longer, in the batch, and durable before bytes 48-59 of the header switch to it; then the old
 *      one is given up;
 *  (c) it may be taken.
 * A count is never trusted to be 0: nothing that was in the file when it was opened is ever taken, and
 * nothing that was taken once is taken again.
 *
 * A file system that does not promise zeroes behind the old end (a block device) is not served for
 * writing. The reserve's lock may be held while files are written: takers wait only if the reserve is empty.
 */
#ifndef COMMON_LIVE_LIVE_RESERVE_H
#define COMMON_LIVE_LIVE_RESERVE_H

#include "common/live/live-private.h"

/*
 * Read the table of counts, find where the file's used part ends, and note every cluster of metadata
 * (header, L1, L2 tables, the table and blocks of counts; an image with snapshots or bitmaps is not opened for
 * writing). Nothing is written. -1 and *err: two of them lie at one place, or outside of the file; the sentence tells to run `qemu-img
 * check` or `fleecectl image check`.
 */
int live_reserve_init(struct live_image *image, struct q2_error *err);
void live_reserve_clear(struct live_image *image); /* writes nothing */

/* Take clusters that follow each other: at most `n`, at least 1, *host is the first one's place. How
 * many, or a negative errno (-ENOSPC: the reserve is empty and the file cannot grow; nothing has changed).
 * May wait for the file; image->wake is called when little is left. */
int live_reserve_take(struct live_image *image, unsigned n, uint64_t *host);
/* The same for one cluster that will hold an L2 table: it is noted as metadata. 0 or a negative errno. */
int live_reserve_take_table(struct live_image *image, uint64_t *host);
/* Taken, and not referred to by any entry: writing to it has failed, or it was not needed. Never taken
 * again; counted down with what is given up. */
void live_reserve_drop(struct live_image *image, uint64_t host, unsigned n);

/*
 * Bytes of the file that an entry has referred to until now (a cluster, or the sectors of a compressed one:
 * every host cluster that they touch is counted down once). Remembered, until a commit that began after this has
 * made the entry durable; then live_reserve_count_down. Memory: 16 bytes each, at most some 100,000 are remembered, and
 * farther ones stay leaks (told once). No entry leads to the reserve's places but our own, which are dropped: one that
 * is given up there damages the image. No lock is held but a range.
 */
void live_reserve_give_up(struct live_image *image, uint64_t host, uint64_t bytes);
/* For live-commit.c: how many have been given up, ever: before a commit begins. */
uint64_t live_reserve_given_up(struct live_image *image);
/* And after its last sync: count down the first `n` of them, and make holes of clusters whose count is 0
 * then. It is durable with the next sync: until then a crash leaves a leak. 0 or a negative errno: what is left is
 * a leak. */
int live_reserve_count_down(struct live_image *image, uint64_t n);

/* Have a batch ready, if little is left. For the thread. */
int live_reserve_fill(struct live_image *image);

/* Is the cluster at this place of the file metadata, known when the image was opened or made since? Any
 * thread, no lock, cheap. */
bool live_reserve_is_metadata(const struct live_image *image, uint64_t host);

/* The place of the first cluster that was ever to be taken: bytes. What lies between the file's end at the opening
 * and this was counted, but not there. Any thread, no lock. */
uint64_t live_reserve_first(const struct live_image *image);

/* At the end, when nobody uses the image and all is committed: counts of what was not taken go back to
 * 0, durably, with all else that was counted down; then the file becomes shorter. With nothing to give back,
 * nothing is written. What is taken after this (live_settle) comes from a new batch. */
int live_reserve_return(struct live_image *image);

#endif
