/* SPDX-License-Identifier: BSD-3-Clause */
/* A simulated storage from inside: what uses it (sim-storage.c), and what copies it (sim-copies.c). */
#ifndef TESTS_RIGS_SIM_STORAGE_PRIVATE_H
#define TESTS_RIGS_SIM_STORAGE_PRIVATE_H

#include "tests/rigs/sim-names.h"
#include "tests/rigs/sim-storage.h"

#include <pthread.h>

struct sim_storage {
    struct storage storage;
    struct sim_vfs *vfs;
    pthread_mutex_t lock;
    unsigned references; /* of one thread at a time */
    /* All below is under the lock. */
    GPtrArray *seen, *medium; /* of struct sim_entry, in order of creation */
    GPtrArray *changes;       /* of struct sim_change */
    GRand *rand;
    /* Set before it is used. */
    sim_hook hook;
    void *opaque;
};

static inline struct sim_storage *sim_of(struct storage *s)
{
    return (struct sim_storage *)s;
}

#endif
