/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/jobs.h"

#include "common/base/deadline.h"
#include "common/util/error.h"

#include <pthread.h>
#include <stdint.h>

struct job {
    void (*run)(void *data);
    void *data;
};

struct jobs {
    pthread_t thread;
    unsigned interval_ms;
    void (*each)(void *opaque);
    void *opaque;
    pthread_mutex_t lock; /* of the rest */
    pthread_cond_t changed;
    GQueue queue; /* of struct job */
    uint64_t posted, done;
    bool stop, ended;
};

static struct timespec after(unsigned ms)
{
    return deadline_timespec(deadline_in(ms * INT64_C(1000)));
}

/* Lock held; it is not while the job runs. */
static void run_next(struct jobs *j)
{
    struct job *job = g_queue_pop_head(&j->queue);

    pthread_mutex_unlock(&j->lock);
    job->run(job->data);
    g_free(job);
    pthread_mutex_lock(&j->lock);
    j->done++;
    pthread_cond_broadcast(&j->changed);
}

static void *work(void *opaque)
{
    struct jobs *j = opaque;
    struct timespec next = after(j->interval_ms);

    pthread_mutex_lock(&j->lock);
    while (!j->stop || !g_queue_is_empty(&j->queue)) {
        if (!g_queue_is_empty(&j->queue)) {
            run_next(j);
        } else if (pthread_cond_timedwait(&j->changed, &j->lock, &next) != 0) {
            pthread_mutex_unlock(&j->lock);
            j->each(j->opaque);
            next = after(j->interval_ms);
            pthread_mutex_lock(&j->lock);
        }
    }
    j->ended = true;
    pthread_cond_broadcast(&j->changed);
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

struct jobs *jobs_new(unsigned interval_ms, void (*each)(void *opaque), void *opaque, GError **err)
{
    struct jobs *j = g_new0(struct jobs, 1);
    pthread_condattr_t attributes;
    int error;

    j->interval_ms = interval_ms;
    j->each = each;
    j->opaque = opaque;
    g_queue_init(&j->queue);
    pthread_mutex_init(&j->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&j->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    error = pthread_create(&j->thread, NULL, work, j);
    if (!error)
        return j;
    fail_errno(err, error, "state: cannot start a thread");
    pthread_cond_destroy(&j->changed);
    pthread_mutex_destroy(&j->lock);
    g_free(j);
    return NULL;
}

void jobs_post(struct jobs *j, void (*run)(void *data), void *data)
{
    struct job *job = g_new(struct job, 1);

    *job = (struct job){.run = run, .data = data};
    pthread_mutex_lock(&j->lock);
    g_queue_push_tail(&j->queue, job);
    j->posted++;
    pthread_cond_broadcast(&j->changed);
    pthread_mutex_unlock(&j->lock);
}

bool jobs_wait(struct jobs *j, unsigned timeout_ms)
{
    struct timespec until = after(timeout_ms);
    uint64_t posted;
    bool done;

    pthread_mutex_lock(&j->lock);
    posted = j->posted;
    while (j->done < posted && pthread_cond_timedwait(&j->changed, &j->lock, &until) == 0)
        continue;
    done = j->done >= posted;
    pthread_mutex_unlock(&j->lock);
    return done;
}

bool jobs_free(struct jobs *j, unsigned timeout_ms)
{
    struct timespec until = after(timeout_ms);
    bool ended;

    pthread_mutex_lock(&j->lock);
    j->stop = true;
    pthread_cond_broadcast(&j->changed);
    while (!j->ended && pthread_cond_timedwait(&j->changed, &j->lock, &until) == 0)
        continue;
    ended = j->ended;
    pthread_mutex_unlock(&j->lock);
    if (!ended) {
        pthread_detach(j->thread);
        return false;
    }
    pthread_join(j->thread, NULL);
    pthread_cond_destroy(&j->changed);
    pthread_mutex_destroy(&j->lock);
    g_free(j);
    return true;
}
