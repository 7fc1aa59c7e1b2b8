/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A source and a target of a copy in memory, which check each call that the engine makes: its lane,
 * its range, its order, and, with the model of what the copy has to do, that each byte of the
 * target comes exactly once and no other byte comes at all. A hook can make any call fail or wait.
 */
#ifndef TESTS_RIGS_COPY_RIG_H
#define TESTS_RIGS_COPY_RIG_H

#include "common/copy/copy.h"

#include <pthread.h>

enum rig_call {
    RIG_EXTENTS,
    RIG_READ_START,
    RIG_READ_WAIT,
    RIG_TRIM,
    RIG_WRITE,
    RIG_ZERO,
    RIG_BELOW,
    RIG_SYNC,
    RIG_MARK,
    RIG_FINISH,
    RIG_CALLS
};
extern const char *const rig_call_names[RIG_CALLS];

struct rig_options {
    uint64_t size; /* of the disk, bytes; the rig holds some times that */
    uint32_t source_align, target_align, max_read, max_write;
    unsigned source_lanes, target_lanes;
    bool ordered;
    bool short_ends;          /* the source tells of less than it is asked for */
    unsigned told;            /* percent of the disk that is to be copied */
    unsigned zero;            /* percent of the extents that are told as zero */
    unsigned zero_content;    /* percent of the data's 4 KiB blocks that are zero, untold */
    uint64_t longest;         /* extent, bytes */
    uint32_t grain;           /* extents are multiples of it */
    struct copy_options copy; /* mark and opaque are the rig's */
    bool mark;
};

/* A batch that is under way: a copy of its pieces. */
struct rig_batch {
    struct copy_piece *pieces;
    size_t n;
};

struct rig_lane {
    bool busy; /* in a call */
    struct rig_batch batches[2];
    unsigned n;
};

/* What a byte of the target is. */
enum rig_byte { RIG_UNTOUCHED, RIG_DATA, RIG_ZEROED };

/* A copy in memory takes moments. */
#define RIG_SOON_MS 120000

struct copy_rig {
    struct rig_options o;
    GRand *rand;
    uint8_t *disk;     /* the source's bytes */
    GArray *extents;   /* struct copy_extent: those that the source tells */
    uint8_t *expected; /* an enum rig_byte for each byte, by the rules of copy.h */
    struct copy *copy; /* under the lock, since its threads run before it is known */

    /* Called before each call does anything, with how many of that kind came before it: -1 and *err
     * is its result. NULL: none. */
    int (*hook)(struct copy_rig *r, enum rig_call call, unsigned n, GError **err);
    void *hook_data;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock. */
    unsigned calls[RIG_CALLS];
    bool cancelled; /* both have been told */
    unsigned cancels;
    uint8_t *image;   /* the target's bytes */
    uint8_t *done;    /* enum rig_byte */
    uint8_t *durable; /* done, as it was when the last sync began that has succeeded */
    uint8_t *trimmed;
    uint8_t *was_read;
    uint64_t below, marked, stream_position;
    unsigned under_way; /* batches read and not waited for */
    unsigned most_lanes;
    bool finished;
    bool end_unmarked; /* the mark failed that comes after finish */
    struct rig_lane *source_lanes, *target_lanes;
    bool in_extents, in_follow;

    struct copy_source source; /* with the rig found by its place */
    struct copy_target target;
};

/* Options that make a disk of 4 MiB with everything in it. */
struct rig_options rig_options_usual(void);
struct rig_options rig_options_random(GRand *rand);
struct copy_rig *rig_new(const struct rig_options *o, guint32 seed);
void rig_free(struct copy_rig *r);

/* Start the copy; wait for its end, which must come soon: its error, NULL where all went well. */
void rig_start(struct copy_rig *r);
GError *rig_end(struct copy_rig *r, struct copy_progress *p);
/* After a copy that went well: all is as the model says. */
void rig_check(struct copy_rig *r, const struct copy_progress *p);
/* After one that did not: nothing is under way, and it was not finished, unless the mark of its end
 * failed. */
void rig_check_failed(struct copy_rig *r);

/* What the rig's source and target are made of. */
extern const struct copy_source_ops rig_source_ops;
extern const struct copy_target_ops rig_target_ops;
int rig_mark(void *opaque, uint64_t offset, GError **err);

/* For hooks, with the lock: wait for a change, which must come before `end` (monotonic time,
 * microseconds). */
void rig_wait(struct copy_rig *r, gint64 end);
/* For hooks: wait until the copy was cancelled (source and target have been told). */
void rig_wait_cancelled(struct copy_rig *r);

#endif
