/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/workers.h"

#include "common/util/log-limit.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void crew_init(struct crew *c, struct sender *sender, unsigned max_threads,
               struct log_limit *errors, void (*run)(void *opaque, struct job *job), void *opaque)
{
    *c = (struct crew){.sender = sender,
                       .run = run,
                       .opaque = opaque,
                       .max_threads = CLAMP(max_threads, 1, CREW_JOBS),
                       .errors = errors};
    c->last = &c->first;
    c->threads = g_new0(pthread_t, c->max_threads);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->work, NULL);
    pthread_cond_init(&c->room, NULL);
}

void crew_destroy(struct crew *c)
{
    pthread_cond_destroy(&c->room);
    pthread_cond_destroy(&c->work);
    pthread_mutex_destroy(&c->lock);
    g_free(c->threads);
}

static bool has_room(const struct crew *c, size_t charge)
{
    unsigned n = atomic_load_explicit(&c->n_jobs, memory_order_relaxed);
    return n == 0 || (n < CREW_JOBS && c->charged + charge <= CREW_MEMORY);
}

bool crew_admit(struct crew *c, size_t charge, bool wait)
{
    pthread_mutex_lock(&c->lock);
    while (wait && !has_room(c, charge))
        pthread_cond_wait(&c->room, &c->lock);
    bool admitted = has_room(c, charge);
    if (admitted) {
        atomic_fetch_add_explicit(&c->n_jobs, 1, memory_order_relaxed);
        c->charged += charge;
    }
    pthread_mutex_unlock(&c->lock);
    return admitted;
}

void crew_unadmit(struct crew *c, size_t charge)
{
    pthread_mutex_lock(&c->lock);
    c->charged -= charge;
    if (atomic_fetch_sub(&c->n_jobs, 1) == 1 && c->when_idle)
        c->when_idle(c->when_idle_opaque);
    pthread_cond_signal(&c->room);
    pthread_mutex_unlock(&c->lock);
}

struct job *crew_job_new(struct crew *c, size_t charge, size_t lane_size)
{
    struct job *job = malloc(sizeof *job + lane_size);
    if (!job)
        return NULL;
    memset(job, 0, sizeof *job);
    job->crew = c;
    job->charge = charge;
    job->lane = (struct lane){.sender = c->sender, .buf = job->lane_bytes, .size = lane_size};
    return job;
}

/* The reply is with the kernel, or nobody wants it any more. */
static void job_gone(struct parcel *parcel)
{
    struct job *job = (struct job *)parcel;
    struct crew *c = job->crew;
    size_t charge = job->charge;

    if (job->payload_mapped > 0)
        munmap(job->payload, job->payload_mapped);
    else
        free(job->payload);
    free(job);
    crew_unadmit(c, charge);
}

void crew_job_done(struct job *job)
{
    job->parcel.data = job->lane.buf;
    job->parcel.length = job->lane.used;
    job->parcel.sent = job_gone;
    if (job->lane.used > 0)
        sender_post(job->crew->sender, &job->parcel);
    else
        job_gone(&job->parcel);
}

static void *worker(void *opaque)
{
    struct crew *c = opaque;

    pthread_mutex_lock(&c->lock);
    for (;;) {
        c->n_waiting++;
        while (!c->first && !c->stop)
            pthread_cond_wait(&c->work, &c->lock);
        c->n_waiting--;
        struct job *job = c->first;
        if (!job)
            break;
        c->first = job->next;
        if (!c->first)
            c->last = &c->first;
        c->n_queued--;
        pthread_mutex_unlock(&c->lock);

        c->run(c->opaque, job);
        crew_job_done(job);

        pthread_mutex_lock(&c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* Locked. false: there is no worker at all. */
static bool have_worker(struct crew *c)
{
    if (c->n_queued < c->n_waiting || c->n_threads == c->max_threads)
        return true;
    int error = pthread_create(&c->threads[c->n_threads], NULL, worker, c);
    if (error == 0) {
        c->n_threads++;
        return true;
    }
    if (c->n_threads == 0)
        log_error_limited(c->errors, "cannot start a worker: %s", g_strerror(error));
    return c->n_threads > 0;
}

bool crew_start(struct crew *c, struct job *job)
{
    pthread_mutex_lock(&c->lock);
    bool started = have_worker(c);
    if (started) {
        job->next = NULL;
        *c->last = job;
        c->last = &job->next;
        c->n_queued++;
        pthread_cond_signal(&c->work);
    }
    pthread_mutex_unlock(&c->lock);
    return started;
}

/* The connection's thread alone starts and ends workers. */
static void send_home(struct crew *c)
{
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_broadcast(&c->work);
    pthread_mutex_unlock(&c->lock);
    for (unsigned i = 0; i < c->n_threads; i++)
        pthread_join(c->threads[i], NULL);
    c->n_threads = 0;
    c->stop = false;
}

void crew_rest(struct crew *c)
{
    if (c->n_threads > 0 && crew_is_idle(c))
        send_home(c);
}

void crew_finish(struct crew *c)
{
    pthread_mutex_lock(&c->lock);
    while (!crew_is_idle(c))
        pthread_cond_wait(&c->room, &c->lock);
    pthread_mutex_unlock(&c->lock);
    send_home(c);
}

void crew_when_idle(struct crew *c, void (*fn)(void *opaque), void *opaque)
{
    pthread_mutex_lock(&c->lock);
    c->when_idle = fn;
    c->when_idle_opaque = opaque;
    if (crew_is_idle(c))
        fn(opaque);
    pthread_mutex_unlock(&c->lock);
}
