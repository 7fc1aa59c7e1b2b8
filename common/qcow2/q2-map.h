/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where the bytes of one file of a chain are: pieces of its L2 tables, and the run that
 * was found last. One thread each.
 */
#ifndef COMMON_QCOW2_Q2_MAP_H
#define COMMON_QCOW2_Q2_MAP_H

#include "common/qcow2/q2-entry.h"
#include "common/qcow2/q2-error.h"
#include "common/qcow2/q2-slices.h"

#include <stddef.h>
#include <stdint.h>

struct q2_image;

/* A range of the disk that is of one kind. */
struct q2_run {
    uint64_t start, end;
    enum q2_kind kind;
    uint64_t host; /* Q2_DATA: of `start` */
};

struct q2_map {
    const struct q2_image *image;
    struct q2_run run;       /* found last: chains are asked for short ranges of long runs */
    struct q2_slices slices; /* of L2 tables */
};

/* `memory`: most bytes of tables that are kept, but there is one slice in any case. 0, or -1 and *err. */
int q2_map_init(struct q2_map *m, const struct q2_image *image, size_t memory,
                struct q2_error *err);
void q2_map_clear(struct q2_map *m);

/* The run at `offset`, which lies inside of the image: it begins there, and ends at `end` at the
 * latest; it may end before the next run begins. An entry that breaks a rule is an error, where it
 * is the first. 0, or -1 and *err. */
int q2_map_run(struct q2_map *m, uint64_t offset, uint64_t end, struct q2_run *run,
               struct q2_error *err);

/* The entry that says where `offset` is, of a qcow2 file. 0, or -1 and *err. */
int q2_map_entry(struct q2_map *m, uint64_t offset, struct q2_entry *e, struct q2_error *err);

#endif
