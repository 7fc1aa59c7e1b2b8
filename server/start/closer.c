/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/start/closer.h"

#include "common/util/log.h"

#include <glib.h>
#include <pthread.h>
#include <time.h>

struct state {
    int64_t since; /* g_get_monotonic_time of its beginning; 0: it has not begun */
    bool ended;
};

struct closer {
    const struct closer_job *jobs;
    unsigned n_jobs;
    const struct closer_options *options;

    pthread_mutex_t lock; /* of the rest */
    pthread_cond_t changed;
    struct state *states; /* of each job */
    unsigned next;        /* the first that nobody has begun */
    unsigned unfinished;
    int64_t moved; /* when a job last began or ended */
    int64_t limit;
    bool failed;
    GPtrArray *threads; /* pthread_t, allocated: those that do what others hold up */
};

/* Do what nobody has begun. */
static void *work(void *opaque)
{
    struct closer *c = opaque;

    pthread_mutex_lock(&c->lock);
    while (c->next < c->n_jobs) {
        unsigned i = c->next++;
        const struct closer_job *job = &c->jobs[i];

        c->moved = g_get_monotonic_time();
        c->states[i] = (struct state){.since = c->moved};
        pthread_mutex_unlock(&c->lock);
        bool done = job->run(job->opaque);
        pthread_mutex_lock(&c->lock);
        c->states[i].ended = true;
        c->failed = c->failed || !done;
        c->unfinished--;
        c->moved = g_get_monotonic_time();
        pthread_cond_broadcast(&c->changed);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* Locked. */
static void add_thread(struct closer *c)
{
    pthread_t *thread = g_new(pthread_t, 1);
    int error = pthread_create(thread, NULL, work, c);

    c->moved = g_get_monotonic_time();
    if (error == 0) {
        g_ptr_array_add(c->threads, thread);
        return;
    }
    log_error("cannot start a thread to close the other disks: %s", g_strerror(error));
    g_free(thread);
}

/* Locked. */
static void tell_what_is_left(struct closer *c)
{
    int64_t now = g_get_monotonic_time();

    for (unsigned i = 0; i < c->n_jobs; i++) {
        const struct state *state = &c->states[i];

        if (!state->ended)
            c->options->is_left(c->options->opaque, &c->jobs[i],
                                state->since ? (now - state->since) / 1000 : -1);
    }
}

/* Locked: wait until something has moved, or `usec` have passed. */
static void wait_for_move(struct closer *c, int64_t usec)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += usec / G_USEC_PER_SEC;
    until.tv_nsec += usec % G_USEC_PER_SEC * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&c->changed, &c->lock, &until);
}

/* Watches those that work. */
static void *watch(void *opaque)
{
    struct closer *c = opaque;
    bool in_time = true;

    pthread_mutex_lock(&c->lock);
    while (c->unfinished > 0 && in_time) {
        int64_t now = g_get_monotonic_time();
        int64_t next = c->limit;

        if (c->next < c->n_jobs)
            next = MIN(next, c->moved + c->options->patience_ms * INT64_C(1000));
        if (now < next)
            wait_for_move(c, next - now);
        else if (now < c->limit)
            add_thread(c);
        else
            in_time = false;
    }
    if (!in_time)
        tell_what_is_left(c);
    pthread_mutex_unlock(&c->lock);
    if (!in_time)
        c->options->give_up(c->options->opaque);
    return NULL;
}

static void join_all(struct closer *c)
{
    for (unsigned i = 0; i < c->threads->len; i++)
        pthread_join(*(pthread_t *)c->threads->pdata[i], NULL);
}

static void closer_init(struct closer *c)
{
    pthread_condattr_t attr;

    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->changed, &attr);
    pthread_condattr_destroy(&attr);
    c->states = g_new0(struct state, MAX(c->n_jobs, 1));
    c->threads = g_ptr_array_new_with_free_func(g_free);
    c->moved = g_get_monotonic_time();
    c->limit = c->moved + c->options->limit_ms * INT64_C(1000);
}

static void closer_clear(struct closer *c)
{
    g_ptr_array_unref(c->threads);
    g_free(c->states);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
}

bool closer_run(const struct closer_job *jobs, unsigned n_jobs,
                const struct closer_options *options)
{
    struct closer c = {.jobs = jobs, .n_jobs = n_jobs, .options = options, .unfinished = n_jobs};
    pthread_t watcher;

    closer_init(&c);
    int error = pthread_create(&watcher, NULL, watch, &c);
    if (error != 0)
        log_error("cannot watch over the closing of disks: %s", g_strerror(error));
    work(&c);
    pthread_mutex_lock(&c.lock);
    while (c.unfinished > 0)
        pthread_cond_wait(&c.changed, &c.lock);
    pthread_mutex_unlock(&c.lock);
    if (error == 0)
        pthread_join(watcher, NULL);
    join_all(&c);
    closer_clear(&c);
    return !c.failed;
}
