/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the bitmaps of simulated disks have to be: the truth that a store is judged by.
 *
 * A unit of a disk (64 KiB) is marked in each bitmap. MAY: a write was issued that may have changed it
 * since the bitmap was cleared last. MUST: the image was changed there. A unit without a mark has to be
 * clean where the bits are exact.
 */
#ifndef TESTS_RIGS_SIM_MODEL_H
#define TESTS_RIGS_SIM_MODEL_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define SIM_UNIT    65536u
#define SIM_UNITS   384u /* of the largest disk: 24 MiB */
#define SIM_DISKS   2u
#define SIM_BITMAPS 4u /* at most, of one disk */

enum { MAY = 1, MUST = 2 };

struct sim_bitmap {
    char name[8]; /* "": there is none in this place */
    uint32_t granularity;
    bool recording, persistent;
    bool broken;    /* the store has said so while it was used */
    bool may_break; /* something failed: it may be found inconsistent */
    unsigned order; /* of its creation */
    uint8_t marks[SIM_UNITS];
};

struct sim_disk {
    uint64_t size;
    struct sim_bitmap bitmaps[SIM_BITMAPS];
};

struct sim_model {
    unsigned made; /* bitmaps so far */
    struct sim_disk disks[SIM_DISKS];
};

struct sim_bitmap *sim_model_find(struct sim_model *m, unsigned disk, const char *name);

/* A write: all bitmaps that record get the marks. */
void sim_model_mark(struct sim_model *m, unsigned disk, uint64_t offset, uint64_t length,
                    uint8_t marks);

/* What commands do. False: the command has to fail, and nothing has changed. */
bool sim_model_add(struct sim_model *m, unsigned disk, const char *name, uint32_t granularity,
                   bool recording, bool persistent);
bool sim_model_remove(struct sim_model *m, unsigned disk, const char *name);
bool sim_model_clear(struct sim_model *m, unsigned disk, const char *name);
bool sim_model_record(struct sim_model *m, unsigned disk, const char *name, bool recording);
bool sim_model_merge(struct sim_model *m, unsigned disk, const char *target, unsigned source_disk,
                     const char *source);
bool sim_model_persist(struct sim_model *m, unsigned disk, const char *name, bool persistent);
void sim_model_resize(struct sim_model *m, unsigned disk, uint64_t size);

/* Something has failed: any bitmap may be found inconsistent. */
void sim_model_doubt(struct sim_model *m);
/* Bitmaps that do not survive the server are gone. */
void sim_model_restart(struct sim_model *m);

#endif
