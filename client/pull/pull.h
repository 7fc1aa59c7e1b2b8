/* SPDX-License-Identifier: BSD-3-Clause */
/* Copying one export to where a person wants it. One thread. */
#ifndef CLIENT_PULL_PULL_H
#define CLIENT_PULL_PULL_H

#include "client/base/progress.h"
#include "client/pull/destination.h"

struct pull_options {
    const char *uri;
    const char *name;              /* in progress */
    const char *context;           /* a meta context, of which what is dirty is copied; NULL: all */
    struct destination_options to; /* changes, source, keep and again are set here */
    unsigned connections, retry;   /* as in source-nbd.h */
    uint64_t rate;                 /* most bytes a second; 0: any */
    bool discard;                  /* trim the source behind what is durable in the target */
    bool resume;                   /* go on with what a run of the same options has left */
};

struct pull_result {
    enum destination_kind kind;
    enum destination_format format;
    uint64_t size;                /* of the disk */
    uint64_t read, written, zero; /* bytes, of this run */
    uint64_t resumed;             /* from where it went on; 0: it began anew */
    double seconds;
};

/* Do it, to its end or to a signal's. 0, or -1 and *err: then a new file is removed, or kept for
 * another run if there is one to come. */
int pull_run(const struct pull_options *o, struct progress *p, struct pull_result *r, GError **err);

#endif
