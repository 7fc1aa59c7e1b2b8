/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commits have numbers. Who asks while one is under way needs the next one: that one may have passed by
 * what he changed. The first of those who wait makes it, for all of them. Writing back takes the same turns, so that
 * one thread at a time takes dirty slices (but for evictions, see live-slots.h).
 *
 * The order in a commit: what is not flagged first. A slice that becomes flagged meanwhile is then among the
 * flagged ones, so none that was dirty before is missed by both.
 */
#include "common/live/live-commit.h"

#include "common/live/live-reserve.h"
#include "common/live/live-slices.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct live_commit {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool running;         /* a commit, or a writing back */
    uint64_t begun, done; /* commits, ever */
    int result;           /* of the last one */
    /* How many that were given up no durable entry refers to; and are counted down, or leaks. */
    _Atomic uint64_t durable, counted;
};

int live_commit_init(struct live_image *image)
{
    struct live_commit *c = calloc(1, sizeof(*c));

    if (!c)
        return -ENOMEM;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    image->commit = c;
    image->make_room = live_commit;
    return 0;
}

void live_commit_clear(struct live_image *image)
{
    struct live_commit *c = image->commit;

    if (!c)
        return;
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->changed);
    free(c);
    image->commit = NULL;
    image->make_room = NULL;
}

/* What is not counted down for an error stays a leak. */
void live_commit_count_down(struct live_image *image)
{
    struct live_commit *c = image->commit;
    uint64_t n = atomic_load(&c->durable);

    if (n == atomic_load(&c->counted))
        return;
    live_reserve_count_down(image, n);
    atomic_store(&c->counted, n);
}

/* ---- turns ---- */

static void begin_turn(struct live_commit *c)
{
    c->running = true;
    pthread_mutex_unlock(&c->lock);
}

static void end_turn(struct live_commit *c)
{
    pthread_mutex_lock(&c->lock);
    c->running = false;
    pthread_cond_broadcast(&c->changed);
}

/* ---- a commit ---- */

static int write_flagged(struct live_layer *l)
{
    struct live_copy *copies;
    int r = live_slices_take_flagged(l, &copies);

    if (r < 0 || !copies)
        return r;
    r = live_file_sync(live_layer_data(l));
    return live_slices_end_flagged(l, copies, r);
}

static int sync_files(struct live_layer *l)
{
    int r = l->data.fd >= 0 ? live_file_sync(&l->data) : 0;

    return r < 0 ? r : live_file_sync(&l->file);
}

static int commit_now(struct live_image *image)
{
    struct live_commit *c = image->commit;
    uint64_t given_up = live_reserve_given_up(image);
    int r = atomic_load(&image->broken);

    if (r == 0)
        r = live_slices_write(image->top);
    if (r == 0)
        r = write_flagged(image->top);
    if (r == 0)
        r = sync_files(image->top);
    if (r == 0)
        atomic_store(&c->durable, given_up);
    /* Else it is for the thread, so that no guest waits for it. */
    if (r == 0 && !image->worker)
        live_commit_count_down(image);
    return r;
}

int live_commit(struct live_image *image)
{
    struct live_commit *c = image->commit;
    uint64_t needed;
    int r;

    pthread_mutex_lock(&c->lock);
    needed = c->begun + 1;
    while (c->done < needed) {
        if (c->running) {
            pthread_cond_wait(&c->changed, &c->lock);
            continue;
        }
        c->begun++;
        begin_turn(c);
        r = commit_now(image);
        end_turn(c);
        c->done = c->begun;
        c->result = r;
    }
    r = c->result;
    pthread_mutex_unlock(&c->lock);
    return r;
}

int live_write_back(struct live_image *image)
{
    struct live_commit *c = image->commit;
    int r;

    if (!live_slices_dirty(image->top))
        return 0;
    pthread_mutex_lock(&c->lock);
    while (c->running)
        pthread_cond_wait(&c->changed, &c->lock);
    begin_turn(c);
    r = live_slices_write(image->top);
    end_turn(c);
    pthread_mutex_unlock(&c->lock);
    return r;
}

bool live_commit_wanted(struct live_image *image)
{
    return live_slices_flagged(image->top) ||
           live_reserve_given_up(image) != atomic_load(&image->commit->counted);
}
