/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/workers.h"

#include "common/util/log-limit.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void workers_init(struct workers *w, struct sender *sender, unsigned max_threads,
                  struct log_limit *errors, void (*run)(void *opaque, struct worker_job *job),
                  void *opaque)
{
    *w = (struct workers){.sender = sender,
                          .run = run,
                          .opaque = opaque,
                          .max_threads = CLAMP(max_threads, 1, WORKERS_JOBS),
                          .errors = errors};
    w->last = &w->first;
    w->threads = g_new0(pthread_t, w->max_threads);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->work, NULL);
    pthread_cond_init(&w->room, NULL);
}

void workers_destroy(struct workers *w)
{
    pthread_cond_destroy(&w->room);
    pthread_cond_destroy(&w->work);
    pthread_mutex_destroy(&w->lock);
    g_free(w->threads);
}

static bool has_room(const struct workers *w, size_t charge)
{
    unsigned n = atomic_load_explicit(&w->n_jobs, memory_order_relaxed);
    return n == 0 || (n < WORKERS_JOBS && w->charged + charge <= WORKERS_MEMORY);
}

bool workers_admit(struct workers *w, size_t charge, bool wait)
{
    pthread_mutex_lock(&w->lock);
    while (wait && !has_room(w, charge))
        pthread_cond_wait(&w->room, &w->lock);
    bool admitted = has_room(w, charge);
    if (admitted) {
        atomic_fetch_add_explicit(&w->n_jobs, 1, memory_order_relaxed);
        w->charged += charge;
    }
    pthread_mutex_unlock(&w->lock);
    return admitted;
}

/* Locked. */
static void give_back(struct workers *w, size_t charge)
{
    w->charged -= charge;
    if (atomic_fetch_sub(&w->n_jobs, 1) == 1 && w->when_idle)
        w->when_idle(w->when_idle_opaque);
    pthread_cond_signal(&w->room);
}

void workers_unadmit(struct workers *w, size_t charge)
{
    pthread_mutex_lock(&w->lock);
    give_back(w, charge);
    pthread_mutex_unlock(&w->lock);
}

struct worker_job *worker_job_new(struct workers *w, size_t charge, size_t reply_size)
{
    struct worker_job *job = malloc(sizeof *job + reply_size);
    if (!job)
        return NULL;
    memset(job, 0, sizeof *job);
    job->workers = w;
    job->charge = charge;
    job->reply =
        (struct reply_buffer){.sender = w->sender, .buf = job->reply_bytes, .size = reply_size};
    return job;
}

/* The reply is with the kernel, or nobody wants it any more. */
static void job_gone(struct outgoing *outgoing)
{
    struct worker_job *job = (struct worker_job *)outgoing;
    struct workers *w = job->workers;

    if (job->payload_mapped > 0)
        munmap(job->payload, job->payload_mapped);
    else
        free(job->payload);
    pthread_mutex_lock(&w->lock);
    if (job->since != 0)
        g_queue_unlink(&w->started, &job->link);
    give_back(w, job->charge);
    pthread_mutex_unlock(&w->lock);
    free(job);
}

void worker_job_done(struct worker_job *job)
{
    job->outgoing.data = job->reply.buf;
    job->outgoing.length = job->reply.used;
    job->outgoing.sent = job_gone;
    if (job->reply.used > 0)
        sender_post(job->workers->sender, &job->outgoing);
    else
        job_gone(&job->outgoing);
}

static void *worker(void *opaque)
{
    struct workers *w = opaque;

    pthread_mutex_lock(&w->lock);
    for (;;) {
        w->n_waiting++;
        while (!w->first && !w->stop)
            pthread_cond_wait(&w->work, &w->lock);
        w->n_waiting--;
        struct worker_job *job = w->first;
        if (!job)
            break;
        w->first = job->next;
        if (!w->first)
            w->last = &w->first;
        w->n_queued--;
        pthread_mutex_unlock(&w->lock);

        w->run(w->opaque, job);
        worker_job_done(job);

        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* Locked. false: there is no worker at all. */
static bool have_worker(struct workers *w)
{
    if (w->n_queued < w->n_waiting || w->n_threads == w->max_threads)
        return true;
    int error = pthread_create(&w->threads[w->n_threads], NULL, worker, w);
    if (error == 0) {
        w->n_threads++;
        return true;
    }
    if (w->n_threads == 0)
        log_error_limited(w->errors, "cannot start a worker: %s", g_strerror(error));
    return w->n_threads > 0;
}

bool workers_start(struct workers *w, struct worker_job *job)
{
    int64_t now = g_get_monotonic_time();

    pthread_mutex_lock(&w->lock);
    bool started = have_worker(w);
    if (started) {
        job->next = NULL;
        *w->last = job;
        w->last = &job->next;
        w->n_queued++;
        job->since = now;
        job->link.data = job;
        g_queue_push_tail_link(&w->started, &job->link);
        pthread_cond_signal(&w->work);
    }
    pthread_mutex_unlock(&w->lock);
    return started;
}

/* The connection's thread alone starts and ends workers. */
static void workers_stop(struct workers *w)
{
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_broadcast(&w->work);
    pthread_mutex_unlock(&w->lock);
    for (unsigned i = 0; i < w->n_threads; i++)
        pthread_join(w->threads[i], NULL);
    w->n_threads = 0;
    w->stop = false;
}

void workers_rest(struct workers *w)
{
    if (w->n_threads > 0 && workers_is_idle(w))
        workers_stop(w);
}

void workers_finish(struct workers *w)
{
    pthread_mutex_lock(&w->lock);
    while (!workers_is_idle(w))
        pthread_cond_wait(&w->room, &w->lock);
    pthread_mutex_unlock(&w->lock);
    workers_stop(w);
}

void workers_when_idle(struct workers *w, void (*fn)(void *opaque), void *opaque)
{
    pthread_mutex_lock(&w->lock);
    w->when_idle = fn;
    w->when_idle_opaque = opaque;
    if (workers_is_idle(w))
        fn(opaque);
    pthread_mutex_unlock(&w->lock);
}

bool workers_oldest(struct workers *w, uint16_t *type, int64_t *since)
{
    pthread_mutex_lock(&w->lock);
    const struct worker_job *job = g_queue_peek_head(&w->started);
    if (job) {
        *type = job->request.type;
        *since = job->since;
    }
    pthread_mutex_unlock(&w->lock);
    return job;
}
