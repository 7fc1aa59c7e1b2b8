/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Blocking jobs at the end of the process, any of which may hang for good: a plugin's close.
 *
 * They run one after another in the caller's thread, because some plugins want to be unloaded by
 * the thread that loaded them. When no job has begun or ended for a while, the one under way is
 * left to itself, and another thread does those that have not begun.
 */
#ifndef START_CLOSER_H
#define START_CLOSER_H

#include <stdbool.h>
#include <stdint.h>

struct closer_job {
    const char *what; /* for the log */
    /* False: it could not be done, which has been logged. */
    bool (*run)(void *opaque);
    void *opaque;
};

struct closer_options {
    unsigned patience_ms; /* how long a job may hold up the others */
    unsigned limit_ms;    /* for all of them */
    /* The limit has passed. This job has been under way for so many milliseconds; -1: it has not
     * begun. Called for each such job, from another thread. */
    void (*is_left)(void *opaque, const struct closer_job *job, int64_t since_ms);
    /* Then: all that is left has been told. It need not return; if it does, the jobs are waited
     * for. */
    void (*give_up)(void *opaque);
    void *opaque;
};

/* Do all jobs. Returns whether all could be done. */
bool closer_run(const struct closer_job *jobs, unsigned n_jobs,
                const struct closer_options *options);

#endif
