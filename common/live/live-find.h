/* SPDX-License-Identifier: BSD-3-Clause */
/* What a range of the disk is, through the chain of layers: for the files of common/live that
 * read it. */
#ifndef COMMON_LIVE_LIVE_FIND_H
#define COMMON_LIVE_LIVE_FIND_H

#include "common/live/live-slices.h"

/* The first layer that says something of a range, and what. */
struct live_found {
    struct live_layer *layer; /* NULL: none does; `run` has kind Q2_UNALLOCATED and a length */
    struct live_run run;
};

/*
 * What `layer` and those below it (NULL: zeroes) have at `offset`, at most `length` bytes. Behind
 * the end of a layer the disk reads as zeroes: as Q2_ZERO of that layer, if it has one below, which
 * it hides; else nothing is said. Loads tables. 0 or a negative errno; an entry that breaks a rule
 * is found, as Q2_INVALID.
 */
int live_find(struct live_layer *layer, uint64_t offset, uint64_t length, struct live_found *found);

/* An entry that breaks a rule: told, and in the image itself, if it is writable, marked. Returns
 * -EIO. No lock of live-private.h may be held. */
int live_find_invalid(struct live_layer *layer, uint64_t offset, const char *why);

/* Up to where a file has a hole from `host` on, or none: at most `end`. *hole says which; a file
 * that does not tell has no holes. */
uint64_t live_find_hole(const struct live_file *f, uint64_t host, uint64_t end, bool *hole);

/* Whether what was found may change, and its place be given up: to be looked at again once it has
 * been read. */
static inline bool live_found_may_go(const struct live_found *f)
{
    return f->layer && f->layer->writable &&
           (f->run.kind == Q2_COMPRESSED || (f->run.kind == Q2_DATA && !f->run.own));
}

#endif
