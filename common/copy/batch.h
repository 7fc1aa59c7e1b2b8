/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a lane reads at once, and then writes: many small ranges, or a part of a large one. It is
 * its lane's, but for what says otherwise.
 */
#ifndef COMMON_COPY_BATCH_H
#define COMMON_COPY_BATCH_H

#include "common/copy/source.h"
#include "common/copy/target.h"

/* A range to be copied, of whole blocks. */
struct plan_range {
    uint64_t offset, length; /* bytes */
    bool zero;               /* it reads as zeroes, and is not read */
};

/* What is the same for all batches of a copy. */
struct batch_shape {
    size_t room;            /* bytes of data, a multiple of what ranges are aligned to */
    uint32_t read_most;     /* longest piece that is read */
    uint32_t write_most;    /* longest piece that is written */
    uint32_t zero_block;    /* zeroes are looked for in blocks of it; 0: they are not */
    uint64_t disk_size;     /* bytes */
    struct copy_target *to; /* lent */
};

/* Most ranges in a batch. */
#define BATCH_RANGES 2048

struct batch {
    const struct batch_shape *shape;
    uint8_t *buffer;

    /* Written under the engine's lock, so that others may read them under it. */
    bool in_use;                            /* from taking it to its end */
    uint64_t number;                        /* 0, 1, 2...: ascending as the ranges are */
    struct plan_range ranges[BATCH_RANGES]; /* ascending */
    unsigned n_ranges;

    size_t bytes;           /* of data */
    uint64_t zero;          /* bytes of zero ranges */
    bool reading;           /* it has been begun to be read, and was not waited for */
    GArray *reads, *writes; /* struct copy_piece */
    GArray *zeroes;         /* struct plan_range */
    uint64_t wrote, zeroed; /* bytes that batch_write gave to the target */
};

/* 0, or -1 and *err: there is no memory. Clear it in both cases. */
int batch_init(struct batch *b, const struct batch_shape *shape, GError **err);
void batch_clear(struct batch *b);
/* Make it ready for other ranges. */
void batch_empty(struct batch *b);

/* Add the head of a range, behind those that are there: how many bytes of it, 0 where the batch is
 * full. */
uint64_t batch_add(struct batch *b, const struct plan_range *r);
/* Begin to read; wait until all is read. 0, or -1 and *err. */
int batch_read(struct batch *b, struct copy_source *s, unsigned lane, GError **err);
int batch_wait(struct batch *b, struct copy_source *s, unsigned lane, GError **err);
/* Write what was read, and the zeroes. 0, or -1 and *err. */
int batch_write(struct batch *b, unsigned lane, GError **err);

#endif
