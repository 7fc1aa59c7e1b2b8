/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One layer of a live image over a file that the test makes, without a header: tables lie where the test
 * puts them. What is done to the file is counted and noted, and may fail or wait. The reserve is made up, too: tables
 * are taken from behind the end.
 */
#ifndef TESTS_RIGS_SLICES_RIG_H
#define TESTS_RIGS_SLICES_RIG_H

#include "common/live/live-commit.h"
#include "common/live/live-slices.h"

#include <glib.h>
#include <pthread.h>

enum slices_event { SLICES_READ, SLICES_WRITE, SLICES_SYNC, SLICES_EVENTS };

struct slices_rig {
    struct live_image image;
    struct live_layer layer;
    char *path, *data_path;
    _Atomic uint64_t count[SLICES_EVENTS], bytes[SLICES_EVENTS];
    atomic_int fails[SLICES_EVENTS]; /* negative errno; 0: it works */
    /* Called before each, by the thread that does it. NULL: nothing. */
    void (*before)(struct slices_rig *r, enum slices_event event, uint64_t offset);
    void *opaque;
    /* "w OFFSET " and "s ", of the data file "S ", as they ended. */
    pthread_mutex_t lock;
    GString *log;

    /* The reserve. */
    atomic_int tables, take_fails, fills;
    _Atomic uint64_t metadata, given_up, counted_down; /* metadata: a host cluster; 0: none */
    _Atomic uint64_t first; /* where it begins; follows slices_rig_grow */
    GPtrArray *told;
};

struct slices_options {
    unsigned cluster_bits; /* 0: 16 */
    bool extended, data_file, read_only;
    uint64_t size; /* of the disk; 0: of two tables */
    size_t memory; /* 0: 1 MiB */
};

void slices_rig_begin(struct slices_rig *r, const struct slices_options *options);
void slices_rig_end(struct slices_rig *r);

/* Put a table into the file and into L1: number `index`, at the end of the file. Returns its place. To
 * be called before anything is looked up. */
uint64_t slices_rig_table(struct slices_rig *r, uint64_t index);
/* Set the entry of a guest cluster in the file, whose table has been put there. */
void slices_rig_entry(struct slices_rig *r, uint64_t cluster, uint64_t word, uint64_t bitmap);
/* The word of an entry in the file, or of L1 there; 0: it is behind the end. */
uint64_t slices_rig_get(struct slices_rig *r, uint64_t cluster);
uint64_t slices_rig_get_bitmap(struct slices_rig *r, uint64_t cluster);
uint64_t slices_rig_get_l1(struct slices_rig *r, uint64_t index);
/* Make the file so long, as if it had been when it was opened: hosts of data must lie inside. */
void slices_rig_grow(struct slices_rig *r, uint64_t size);
/* Make it so long as the reserve does: what comes now is of the reserve. */
void slices_rig_extend(struct slices_rig *r, uint64_t size);

/* The run at a byte; loads what is needed; must work. */
struct live_run slices_rig_run(struct slices_rig *r, uint64_t offset, uint64_t length);
/* Change one entry; must work. */
void slices_rig_change(struct slices_rig *r, uint64_t cluster, uint64_t word, uint64_t bitmap,
                       bool flagged);

/* The log until now, which begins anew. g_free. */
char *slices_rig_log(struct slices_rig *r);

/* Wait until a thread, that has set its id, sleeps in the kernel. */
void slices_rig_wait_sleeping(const _Atomic pid_t *thread);

#endif
