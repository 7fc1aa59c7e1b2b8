/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Copying what a source has into a target: threads of its own, each with a lane of both, which read
 * one batch while they write another. Ranges are handed out in ascending order.
 *
 * (The .c file begins with the design, the invariants and the lock order.)
 */
#ifndef COMMON_COPY_COPY_H
#define COMMON_COPY_COPY_H

#include "common/copy/source.h"
#include "common/copy/target.h"

struct copy;
struct copy_rate; /* a limit that several copies share */

/* Most bytes a second; every byte that is read counts. 0: NULL, no limit. */
struct copy_rate *copy_rate_new(uint64_t bytes_per_second);
void copy_rate_free(struct copy_rate *r); /* NULL is fine; after the copies that use it */

struct copy_options {
    unsigned lanes;         /* threads; cut to what source and target take; 0: 4 */
    size_t memory;          /* most bytes of buffers; 0: 32 MiB */
    struct copy_rate *rate; /* NULL: none. Outlives the copy. */
    bool detect_zeroes;     /* data of nothing but zeroes, in whole `align`s of the target and of
                               4 KiB, goes to the target's zero */
    bool trim;              /* trim in the source what was copied and is durable in the target (its
                               sync, finish). A failure before the end fails the copy */
    uint64_t start;         /* go on here: all below is done already; a multiple of 2 MiB, or the
                               size: then only the target's finish is left */
    /* Called with each multiple of 2 MiB up to which all is durable in the target (by its sync), now and then,
     * ascending, on a thread of the copy; a `start` for another time. With `trim` also with the size,
     * after the target's finish and before the last trims. NULL: none. */
    int (*mark)(void *opaque, uint64_t offset, GError **err);
    void *opaque;
    /* The target is synced, for `mark` and `trim`, when so much has been copied since the last time
     * and so much time has passed; after a minute in any case. 0: 256 MiB; 5000. */
    uint64_t sync_bytes;
    unsigned sync_ms;
    /* How far the position may be above what the target's `below` has dealt with, bytes of the disk.
     * 0: 64 GiB. */
    uint64_t ahead;
};

/* Figures; each only grows. */
struct copy_progress {
    uint64_t position; /* of the disk, up to where all is done */
    uint64_t read;     /* bytes read from the source */
    uint64_t written;  /* bytes given to the target's write */
    uint64_t zero;     /* bytes given to the target's zero */
};

/* Start. Source and target are lent until copy_end. NULL and *err. */
struct copy *copy_start(struct copy_source *s, struct copy_target *t, const struct copy_options *o,
                        GError **err);
/* A descriptor that is readable once the copy has ended, well or not. */
int copy_fd(const struct copy *c);
void copy_get_progress(const struct copy *c, struct copy_progress *p); /* any thread */
void copy_cancel(struct copy *c); /* it ends soon, with an error; any thread */
/* Wait for its end, which includes the target's finish where all went well; free it. 0, or -1 and
 * *err, the first thing that went wrong; *p (may be NULL) is what was done. */
int copy_end(struct copy *c, struct copy_progress *p, GError **err);

#endif
