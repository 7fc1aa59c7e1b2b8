/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The thread sleeps without a limit as long as nothing is dirty and nothing was given up. The first change wakes it
 * (image->wake), from when on it looks every 100 ms until everything is written.
 *
 * `woken` is exchanged by both sides: who wakes has changed something before, and either the thread has not
 * taken `woken` yet, and sees the change when it has, or he finds it taken and wakes it again.
 */
#include "common/live/live-commit.h"

#include "common/base/deadline.h"
#include "common/live/live-reserve.h"
#include "common/live/live-slices.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#define TICK   (INT64_C(100) * 1000)  /* microseconds from a change to its writing back */
#define COMMIT (INT64_C(1000) * 1000) /* and from when a commit is wanted to that */

struct live_worker {
    struct live_image *image;
    pthread_t thread;
    pthread_mutex_t lock; /* a leaf: nothing is called under it */
    pthread_cond_t wake;
    atomic_bool woken;
    pthread_cond_t stands;
    bool stop, paused, standing; /* under the lock */
    /* The thread's own: moments; 0: none. */
    int64_t tick, commit;
};

/* For ever: no commit succeeds any more. */
static bool has_failed(struct live_image *image)
{
    const struct live_layer *l = image->top;

    return atomic_load(&image->broken) || atomic_load(&l->file.sync_error) ||
           atomic_load(&l->data.sync_error);
}

static bool has_work(struct live_image *image)
{
    return !has_failed(image) && (live_slices_dirty(image->top) || live_commit_wanted(image));
}

/* A failure is told to who asks for a commit. What could not be written is tried again. */
static void write_what_is_due(struct live_worker *w)
{
    struct live_image *image = w->image;

    if (!live_commit_wanted(image))
        w->commit = 0;
    else if (!w->commit)
        w->commit = deadline_in(COMMIT);
    if (w->commit && w->commit <= deadline_in(0)) {
        w->commit = 0;
        live_commit(image);
        live_commit_count_down(image);
    } else {
        live_write_back(image);
    }
}

static void work(struct live_worker *w)
{
    if (w->tick && w->tick <= deadline_in(0)) {
        w->tick = 0;
        write_what_is_due(w);
    }
    if (!has_work(w->image))
        w->tick = 0;
    else if (!w->tick)
        w->tick = deadline_in(TICK);
}

/* With the lock. */
static void sleep_until_due(struct live_worker *w)
{
    struct timespec until = deadline_timespec(w->tick);
    int r = 0;

    while (!w->stop && !w->paused && r == 0 && !atomic_load(&w->woken))
        if (w->tick)
            r = pthread_cond_timedwait(&w->wake, &w->lock, &until);
        else
            r = pthread_cond_wait(&w->wake, &w->lock);
}

/* With the lock. */
static void stand_still(struct live_worker *w)
{
    w->standing = true;
    pthread_cond_signal(&w->stands);
    while (w->paused && !w->stop)
        pthread_cond_wait(&w->wake, &w->lock);
    w->standing = false;
}

static void *run(void *opaque)
{
    struct live_worker *w = opaque;

    pthread_mutex_lock(&w->lock);
    while (!w->stop) {
        if (w->paused) {
            stand_still(w);
            continue;
        }
        pthread_mutex_unlock(&w->lock);
        if (atomic_exchange(&w->woken, false))
            live_reserve_fill(w->image);
        work(w);
        pthread_mutex_lock(&w->lock);
        sleep_until_due(w);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

void live_worker_wake(struct live_image *image)
{
    struct live_worker *w = image->worker;

    if (!w || atomic_exchange(&w->woken, true))
        return;
    pthread_mutex_lock(&w->lock);
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
}

/* Signals are for the threads of whoever serves. */
static int start_thread(struct live_worker *w)
{
    sigset_t all, before;
    int r;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&w->thread, NULL, run, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -r;
}

static void worker_free(struct live_worker *w)
{
    pthread_cond_destroy(&w->wake);
    pthread_cond_destroy(&w->stands);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static struct live_worker *worker_new(struct live_image *image)
{
    struct live_worker *w = calloc(1, sizeof(*w));
    pthread_condattr_t attr;

    if (!w)
        return NULL;
    w->image = image;
    /* The first who takes space has the reserve filled: an image that nobody writes to stays as it is. */
    atomic_init(&w->woken, false);
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_cond_init(&w->stands, NULL);
    return w;
}

int live_worker_start(struct live_image *image)
{
    struct live_worker *w = worker_new(image);
    int r;

    if (!w)
        return -ENOMEM;
    r = start_thread(w);
    if (r < 0) {
        worker_free(w);
        return r;
    }
    image->worker = w;
    image->wake = live_worker_wake;
    return 0;
}

void live_worker_stop(struct live_image *image)
{
    struct live_worker *w = image->worker;

    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    image->worker = NULL;
    image->wake = NULL;
    worker_free(w);
}

void live_worker_pause(struct live_image *image)
{
    struct live_worker *w = image->worker;

    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->paused = true;
    pthread_cond_signal(&w->wake);
    while (!w->standing)
        pthread_cond_wait(&w->stands, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

void live_worker_resume(struct live_image *image)
{
    struct live_worker *w = image->worker;

    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->paused = false;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
}
