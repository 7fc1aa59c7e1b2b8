/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A connection's workers: they carry out the requests that might block.
 *
 * Started one by one as jobs find nobody free, at most so many; sent home when the connection is
 * idle. A job is charged for the memory that it holds from crew_admit until its reply has been
 * sent, so a client that does not read its replies stops being read itself, and what it makes us
 * allocate is bounded: CREW_MEMORY, or one request where that alone is more.
 *
 * Locks: crew->lock and sender->lock are leaves; neither is held while taking the other.
 */
#ifndef NBD_WORKERS_H
#define NBD_WORKERS_H

#include "common/util/log-limit.h"
#include "server/nbd/reply-buffer.h"
#include "server/nbd/request.h"

#include <pthread.h>
#include <stdatomic.h>

#define CREW_JOBS   64u
#define CREW_MEMORY (8u << 20)

struct crew;

/* A request handed over. */
struct job {
    struct parcel parcel; /* its reply on its way out */
    struct job *next;
    struct crew *crew;
    struct request request;
    uint8_t *payload;      /* of a write */
    size_t payload_mapped; /* not 0: payload is a mapping of so many bytes, else malloc's */
    size_t charge;
    struct lane lane;
    uint8_t lane_bytes[];
};

struct crew {
    struct sender *sender;
    void (*run)(void *opaque, struct job *job); /* any worker: lay the reply out in job->lane */
    void *opaque;
    unsigned max_threads;
    struct log_limit *errors;

    pthread_mutex_t lock;
    pthread_cond_t work; /* for workers: a job, or stop */
    pthread_cond_t room; /* for the connection's thread: a job has gone */
    struct job *first, **last;
    pthread_t *threads;
    unsigned n_threads, n_waiting, n_queued;
    atomic_uint n_jobs; /* admitted and not gone; changed under the lock */
    size_t charged;
    bool stop;
    void (*when_idle)(void *opaque); /* to be called whenever n_jobs has become 0 */
    void *when_idle_opaque;
};

/* `errors` limits log lines about workers that cannot be started. */
void crew_init(struct crew *c, struct sender *sender, unsigned max_threads,
               struct log_limit *errors, void (*run)(void *opaque, struct job *job), void *opaque);
/* Waits for all jobs, also until their replies are sent, then for the workers. */
void crew_finish(struct crew *c);
void crew_destroy(struct crew *c); /* after crew_finish */

/* -- the connection's thread -- */

/* Charge for a job of so many bytes. false, without `wait`: there is no room now. */
bool crew_admit(struct crew *c, size_t charge, bool wait);
/* A job for what was admitted, its lane `lane_size` bytes. NULL: no memory. */
struct job *crew_job_new(struct crew *c, size_t charge, size_t lane_size);
/* Give up a charge for which no job was made. */
void crew_unadmit(struct crew *c, size_t charge);
/* Hand it over. false: no worker can be had at all, and the job is the caller's to run and post. */
bool crew_start(struct crew *c, struct job *job);
/* Send the job's reply on its way and forget the job. */
void crew_job_done(struct job *job);
/* Nothing is under way. */
static inline bool crew_is_idle(struct crew *c)
{
    return atomic_load(&c->n_jobs) == 0;
}
/* Send the workers home, if all are idle; the next job starts new ones. */
void crew_rest(struct crew *c);

/* -- any thread -- */

/* Call fn(opaque), which must not block or call back, whenever from now on no job is under way any
 * more; and now, if that is so now. */
void crew_when_idle(struct crew *c, void (*fn)(void *opaque), void *opaque);

#endif
