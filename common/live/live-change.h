/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Changing what guest clusters are, under their range: for writing, zeroing and trimming.
 *
 * Who wants to change an entry takes the range of the whole clusters, looks at the entry again, and
 * is the only one who changes it until the range is released. New clusters are written before their
 * entries lead there; what the entries led to is given up after. Whatever fails leaves the old
 * entries, with the old content.
 *
 * Each step here does a first part of what is asked, and says in *done how many bytes that was (at
 * least 1, where it returns 0).
 */
#ifndef COMMON_LIVE_LIVE_CHANGE_H
#define COMMON_LIVE_LIVE_CHANGE_H

#include "common/base/range-lock.h"
#include "common/live/live-slices.h"

struct live_ranges {
    struct range_lock lock; /* of bytes of the disk, whole clusters; all alone */
};

struct live_change {
    struct live_image *image;
    struct live_layer *top;
    struct held_range held;
    /* The entry for `where` breaks this rule; NULL: none was found that does. */
    const char *why;
    uint64_t where;
};

/* Take the clusters that a range touches; released by live_change_end, which also tells of a
 * broken entry, and returns `error`. */
void live_change_begin(struct live_change *c, struct live_image *image, uint64_t offset,
                       uint64_t length);
int live_change_end(struct live_change *c, int error);

/* What is at `offset`; an entry that breaks a rule is -EIO. */
int live_change_look(struct live_change *c, uint64_t offset, uint64_t length, struct live_run *run);

/* Write to whatever there is. `from` NULL: zeroes. */
int live_change_write(struct live_change *c, const void *from, uint64_t offset, uint64_t length,
                      uint64_t *done);

/* The same where L2 is extended, and the run is none of the cluster's own data. */
int live_change_write_sub(struct live_change *c, const void *from, uint64_t offset,
                          const struct live_run *run, uint64_t *done);

/* ---- what the steps are made of ---- */

/* Guest clusters that get other entries: those that [begin, end) of the disk touches. */
struct live_span {
    uint64_t first; /* guest cluster */
    unsigned n;     /* at least 1; their entries lie in one slice */
    uint64_t begin, end;
};

/* The clusters of a run (or of its first part, so that they lie in one slice). */
struct live_span live_change_span(const struct live_change *c, uint64_t offset, uint64_t length);

/* Does the layer below read as zeroes in a range, as far as the disk goes? 1, 0 or a negative
 * errno. */
int live_change_zero_below(const struct live_change *c, uint64_t offset, uint64_t length);

/* New content for [begin, end), which `from` has bytes [offset, offset + length) of (NULL:
 * zeroes), and the disk the rest: written to the file of data, `host` being the place of
 * `begin`. */
int live_change_compose(struct live_change *c, const void *from, uint64_t offset, uint64_t length,
                        uint64_t begin, uint64_t end, uint64_t host);

/* Bytes to a place of the file of data; `from` NULL: zeroes. */
int live_change_put(struct live_change *c, const void *from, uint64_t length, uint64_t host);

/* Have a range of a file read as zeroes; -ENOTSUP, with nothing changed: they would have to be
 * written. */
int live_change_clear(struct live_file *f, uint64_t length, uint64_t host, bool hole);

/* Let `n` entries lead to clusters that follow each other from `host` on. */
int live_change_lead(struct live_change *c, uint64_t first, unsigned n, uint64_t host,
                     bool flagged);
/* Give up what the entries of a span led to, as a run of it says: nothing where it is the
 * clusters' own. */
void live_change_give_up(struct live_change *c, const struct live_span *s,
                         const struct live_run *run);

#endif
