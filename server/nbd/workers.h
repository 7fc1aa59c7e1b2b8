/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A connection's workers: they carry out the requests that might block.
 *
 * A worker is started when a job finds none free, up to a number; all are ended when the connection
 * is idle. A job is charged for the memory that it holds, from workers_admit until its reply has
 * been sent. So the server stops reading from a client that does not read its replies, and the
 * memory that one client can take is bounded: WORKERS_MEMORY, or one request where that alone is
 * more.
 *
 * Locks: workers->lock and sender->lock are leaves; neither is held while taking the other.
 */
#ifndef NBD_WORKERS_H
#define NBD_WORKERS_H

#include "common/util/log-limit.h"
#include "server/nbd/reply-buffer.h"
#include "server/nbd/request.h"

#include <pthread.h>
#include <stdatomic.h>

#define WORKERS_JOBS   64u
#define WORKERS_MEMORY (8u << 20)

struct workers;

/* A request handed to a worker. */
struct worker_job {
    struct outgoing outgoing; /* its reply on its way out */
    struct worker_job *next;
    struct workers *workers;
    struct request request;
    uint8_t *payload;      /* of a write */
    size_t payload_mapped; /* not 0: payload is a mapping of this size, else malloc's */
    size_t charge;
    GList link;    /* among all that were started */
    int64_t since; /* g_get_monotonic_time of that; 0: it was not */
    struct reply_buffer reply;
    uint8_t reply_bytes[];
};

struct workers {
    struct sender *sender;
    void (*run)(void *opaque,
                struct worker_job *job); /* any worker: lay the reply out in job->reply */
    void *opaque;
    unsigned max_threads;
    struct log_limit *errors;

    pthread_mutex_t lock;
    pthread_cond_t work; /* for workers: a job, or stop */
    pthread_cond_t room; /* for the connection's thread: a job has gone */
    struct worker_job *first, **last;
    pthread_t *threads;
    unsigned n_threads, n_waiting, n_queued;
    GQueue started;     /* jobs that have not gone yet, by their links, oldest first */
    atomic_uint n_jobs; /* admitted and not gone; changed under the lock */
    size_t charged;
    bool stop;
    void (*when_idle)(void *opaque); /* to be called whenever n_jobs has become 0 */
    void *when_idle_opaque;
};

/* `errors` limits log lines about workers that cannot be started. */
void workers_init(struct workers *w, struct sender *sender, unsigned max_threads,
                  struct log_limit *errors, void (*run)(void *opaque, struct worker_job *job),
                  void *opaque);
/* Waits for all jobs, also until their replies are sent, then for the workers. */
void workers_finish(struct workers *w);
void workers_destroy(struct workers *w); /* after workers_finish */

/* -- the connection's thread -- */

/* Charge for a job of `charge` bytes. With `wait`, wait for room; else false: there is none now. */
bool workers_admit(struct workers *w, size_t charge, bool wait);
/* A job for what was admitted, its reply buffer `reply_size` bytes. NULL: no memory. */
struct worker_job *worker_job_new(struct workers *w, size_t charge, size_t reply_size);
/* Give up a charge for which no job was made. */
void workers_unadmit(struct workers *w, size_t charge);
/* Give the job to a worker. False: there is no worker at all, and the caller runs and posts it. */
bool workers_start(struct workers *w, struct worker_job *job);
/* Send the job's reply on its way and forget the job. */
void worker_job_done(struct worker_job *job);
/* Nothing is under way. */
static inline bool workers_is_idle(struct workers *w)
{
    return atomic_load(&w->n_jobs) == 0;
}
/* End the workers, if all are idle; the next job starts new ones. */
void workers_rest(struct workers *w);

/* -- any thread -- */

/* The type of the oldest job's request, and since when (g_get_monotonic_time) it is under way. False:
 * there is none. */
bool workers_oldest(struct workers *w, uint16_t *type, int64_t *since);

/* From now on, call fn(opaque) whenever the last job has gone, and now if none is under way. fn
 * must not block or call back. */
void workers_when_idle(struct workers *w, void (*fn)(void *opaque), void *opaque);

#endif
