/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The loop of a command that copies: it starts copies, some at once, shows their progress, ends them in
 * order on a signal (client/base/interrupt.h), and does meanwhile what else is due. One thread.
 */
#ifndef CLIENT_PULL_LOOP_H
#define CLIENT_PULL_LOOP_H

#include "client/base/progress.h"
#include "common/copy/copy.h"

struct loop_job {
    const char *name;  /* in progress; lent */
    struct copy *copy; /* the loop ends it */
    uint64_t expected; /* bytes of the whole work by which progress is measured: done is
                          progress.read + progress.zero, or, if 0, the position of `size` */
    uint64_t size;     /* of the disk */
    void *opaque;      /* the caller's */
};

struct loop_ops {
    /* Fill in the next copy to be run, which has been started: 1; 0: there is none left; -1 and
     * *err. */
    int (*next)(void *opaque, struct loop_job *job, GError **err);
    /* A copy has ended. `why`: NULL, or what went wrong (lent). 0 to go on with the others, or -1
     * and *err to cancel them. NULL: what went wrong cancels the others and is the loop's error. */
    int (*ended)(void *opaque, const struct loop_job *job, const struct copy_progress *p,
                 const GError *why, GError **err);
    /* Called about each second, and where `fd` (-1: none) is readable. 0, or -1 and *err. May be
     * NULL. */
    int (*tick)(void *opaque, GError **err);
    int fd;
};

/* Run until all have ended, at most `at_once` together. Every copy that was started has ended when it
 * returns, and `ended` was called for each. 0, or -1 and *err: CLIENT_ERROR_INTERRUPTED where a
 * signal came. `p` may be NULL. */
int loop_run(const struct loop_ops *ops, void *opaque, unsigned at_once, struct progress *p,
             GError **err);

#endif
