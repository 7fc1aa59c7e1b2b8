/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine.
 *
 *   planner.c    asks the source what there is, rounds it to blocks, hands it out ascending
 *   lane.c       threads; each reads one batch while it writes another
 *   batch.c      what is read at once, and the zeroes in it
 *   conductor.c  a thread: what is done below the position goes on to the target (below, sync), to
 *                the caller (mark), and back to the source (trim); the end
 *   trims.c      what is to be trimmed later
 *   rate.c       the limit
 *   engine.c     what all these share; how one of them stops the others
 *
 * A lane takes a batch (its newer one), begins to read it, then waits for the reads of its older one
 * and writes that. So with each lane one batch is on its way here, and one on its way to the target.
 *
 * Invariants.
 * - Batches are numbered as they are taken, and their ranges ascend with their numbers.
 * - A byte is in exactly one range; a range is in one batch, or in parts in several.
 * - The position is below all that is in the planner's queue, that it may still find, and that is in
 *   a batch in use. A batch is in use until the target's calls for it have returned. So all below the
 *   position has come to the target. It only grows.
 * - The conductor reads the position before it has the target synced; trims come after the mark.
 * - A buffer lives until the source was waited for (also where all has failed).
 * - finish is called once, after all lanes have ended with all done; never after a failure.
 *
 * An end by failure. The first error counts. It sets `stop`, wakes all that wait for the engine
 * (changed, the rate) and calls cancel of source and target, which wakes those that wait there.
 *
 * Locks: copy.lock, and the rate's, both leaves: none is held while the other is taken, nor while
 * source, target or mark are called. The one who has set `asking` asks the source for extents.
 */
#include "common/copy/copy.h"

#include "common/copy/conductor.h"
#include "common/copy/copy-private.h"
#include "common/copy/engine.h"
#include "common/copy/lane.h"
#include "common/copy/rate.h"
#include "common/util/error.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LANES  4
#define MEMORY ((size_t)32 << 20)
/* Data in a batch: what a processor's cache holds from when it is read until it is written, and hashed.
 * Smaller ones are made only where a single lane has no memory for them. */
#define BATCH_MOST  ((size_t)2 << 20)
#define BATCH_LEAST ((size_t)64 << 10)
/* With a limit of the rate. */
#define BATCH_SLOW ((uint64_t)4096)
/* What is read is cut to this, so that a source can have many reads under way. */
#define READ_MOST  (UINT32_C(1) << 20)
#define ZERO_BLOCK UINT32_C(4096)
/* Ranges are aligned to this at most; so are the points where a copy goes on. */
#define ALIGN_MOST (UINT32_C(2) << 20)

static uint32_t align_of(const struct copy *c)
{
    return MAX(MAX(c->source->align, c->target->align), 1);
}

static int check(const struct copy *c, GError **err)
{
    const struct copy_source *s = c->source;
    const struct copy_target *t = c->target;

    if (s->size > t->size)
        return fail(err,
                    "The disk has %" G_GUINT64_FORMAT
                    " bytes, and its target takes only %" G_GUINT64_FORMAT,
                    s->size, t->size);
    if (align_of(c) > ALIGN_MOST)
        return fail(err, "Blocks of %u bytes are more than %u", align_of(c), ALIGN_MOST);
    if (s->max_read && s->max_read < s->align)
        return fail(err, "The source's blocks of %u bytes are longer than its reads", s->align);
    if (t->max_write && t->max_write < t->align)
        return fail(err, "The target's blocks of %u bytes are longer than its writes", t->align);
    if (c->options.start > s->size ||
        (c->options.start % align_of(c) != 0 && c->options.start != s->size))
        return fail(err,
                    "A disk of %" G_GUINT64_FORMAT " bytes cannot be copied from %" G_GUINT64_FORMAT
                    " on",
                    s->size, c->options.start);
    if (c->options.trim && !s->ops->trim)
        return fail(err, "The source cannot be trimmed");
    return 0;
}

/* ---- sizes ---- */

static uint32_t cut_of(uint32_t most, uint32_t align)
{
    uint32_t a = MAX(align, 1);

    return MAX(most / a * a, a);
}

/* How many lanes, and how much each reads at once. */
static void set_shape(struct copy *c)
{
    const struct copy_source *s = c->source;
    const struct copy_target *t = c->target;
    uint32_t align = align_of(c);
    size_t memory = c->options.memory ? c->options.memory : MEMORY, room;
    unsigned lanes = c->options.lanes ? c->options.lanes : LANES;

    lanes = MAX(MIN(lanes, s->lanes), 1);
    if (t->lanes)
        lanes = MIN(lanes, t->lanes);
    while (lanes > 1 && memory / (2 * lanes) < MAX(BATCH_LEAST, align))
        lanes--;
    room = MIN(memory / (2 * lanes), BATCH_MOST);
    if (c->options.rate)
        room = MIN(room, MAX(copy_rate_step(c->options.rate), BATCH_SLOW));
    c->n_lanes = lanes;
    c->shape.room = MAX(room / align * align, align);
    c->shape.read_most = cut_of(s->max_read ? MIN(s->max_read, READ_MOST) : READ_MOST, s->align);
    c->shape.write_most = cut_of(t->max_write ? t->max_write : UINT32_MAX, t->align);
    c->shape.zero_block = c->options.detect_zeroes ? MAX(ZERO_BLOCK, align) : 0;
    c->shape.disk_size = s->size;
    c->shape.to = c->target;
}

/* ---- start and end ---- */

static void free_copy(struct copy *c)
{
    for (unsigned i = 0; i < c->n_lanes; i++) {
        batch_clear(&c->lanes[i].batches[0]);
        batch_clear(&c->lanes[i].batches[1]);
    }
    g_free(c->lanes);
    planner_free(c->planner);
    trims_free(c->trims);
    if (c->fd >= 0)
        close(c->fd);
    g_clear_error(&c->error);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    g_free(c);
}

static int make_lanes(struct copy *c, GError **err)
{
    c->lanes = g_new0(struct lane, c->n_lanes);
    for (unsigned i = 0; i < c->n_lanes; i++) {
        c->lanes[i].copy = c;
        c->lanes[i].number = i;
        for (unsigned k = 0; k < 2; k++) {
            if (batch_init(&c->lanes[i].batches[k], &c->shape, err) < 0)
                return -1;
        }
    }
    return 0;
}

/* How many could be started; not all: *error. */
static unsigned start_lanes(struct copy *c, int *error)
{
    unsigned started = 0;

    c->running = c->n_lanes;
    while (started < c->n_lanes && (*error = pthread_create(&c->lanes[started].thread, NULL,
                                                            lane_main, &c->lanes[started])) == 0)
        started++;
    return started;
}

static int start_threads(struct copy *c, GError **err)
{
    int error = 0;
    unsigned started = start_lanes(c, &error);

    if (!error)
        error = pthread_create(&c->conductor, NULL, conductor_main, c);
    if (!error)
        return 0;
    engine_fail(c, g_error_new(FLEECE_ERROR, FLEECE_ERROR_GENERIC, "The copy was not started"));
    for (unsigned i = 0; i < started; i++)
        pthread_join(c->lanes[i].thread, NULL);
    return fail_errno(err, error, "Cannot start a thread to copy with");
}

struct copy *copy_start(struct copy_source *s, struct copy_target *t, const struct copy_options *o,
                        GError **err)
{
    struct copy *c = g_new0(struct copy, 1);

    c->source = s;
    c->target = t;
    c->options = *o;
    c->below = o->start;
    c->fd = -1;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    if (check(c, err) < 0)
        goto failed;
    set_shape(c);
    if (make_lanes(c, err) < 0)
        goto failed;
    c->planner = planner_new(s, align_of(c), o->start);
    c->trims = o->trim ? trims_new() : NULL;
    c->progress.position = o->start;
    c->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->fd < 0) {
        fail_errno(err, errno, "Cannot make a descriptor for the end of a copy");
        goto failed;
    }
    if (start_threads(c, err) == 0)
        return c;

failed:
    free_copy(c);
    return NULL;
}

int copy_fd(const struct copy *c)
{
    return c->fd;
}

void copy_get_progress(const struct copy *c, struct copy_progress *p)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&c->lock; /* what it guards is not changed */

    pthread_mutex_lock(lock);
    *p = c->progress;
    pthread_mutex_unlock(lock);
}

void copy_cancel(struct copy *c)
{
    engine_fail(c, g_error_new(FLEECE_ERROR, FLEECE_ERROR_GENERIC, "The copy was cancelled"));
}

int copy_end(struct copy *c, struct copy_progress *p, GError **err)
{
    int result = 0;

    pthread_join(c->conductor, NULL);
    if (p)
        *p = c->progress;
    if (c->error) {
        g_propagate_error(err, g_steal_pointer(&c->error));
        result = -1;
    }
    free_copy(c);
    return result;
}
