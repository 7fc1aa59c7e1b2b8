/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An NBD export as the source of a copy, of any server (libnbd). Each lane has a connection of its
 * own. A server that goes away is connected to anew, for a limited time; what had been asked for is
 * asked again.
 */
#ifndef COMMON_COPY_SOURCE_NBD_H
#define COMMON_COPY_SOURCE_NBD_H

#include "common/copy/nbd-error.h"
#include "common/copy/source.h"

struct source_nbd_options {
    const char *uri;
    /* A meta context whose extents with flag 1 are dirty: only these are copied. NULL: everything
     * is, and what base:allocation says reads as zeroes is told as zero. base:allocation is used
     * in both cases, if the server has it. */
    const char *context;
    unsigned connections; /* most; 0: 4. One where the server does not offer multi-conn. */
    unsigned retry;       /* seconds in which a server that has gone has to come back; 0: none */
    bool awaited;         /* the server is known to be there: so it is for the first connection */
    bool trim;            /* the export must take TRIM, and no WRITE_ZEROES: it is a view */
    int interrupt;        /* a descriptor that ends connecting when it is readable; 0: none */
};

/* Connect. The strings are copied. NULL and *err. Errors do not show the URI: the caller does. */
struct copy_source *source_nbd_new(const struct source_nbd_options *o, GError **err);

#endif
