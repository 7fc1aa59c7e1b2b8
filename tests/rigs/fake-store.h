/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A store (server/state/state.h) that notes the calls that it gets, and fails where the test wants it.
 * Its bits are in memory. It checks what is always so: which thread calls, that no gate is shut
 * where it may wait, and that what it is told fits together.
 */
#ifndef TESTS_RIGS_FAKE_STORE_H
#define TESTS_RIGS_FAKE_STORE_H

#include "tests/rigs/disk-harness.h"

enum fake_store_failure {
    FAIL_BITS = 1,
    FAIL_ATTACH,
    FAIL_RESIZE_BEGIN,
    FAIL_PREPARE,
    FAIL_COMMIT,
};

struct fake_store {
    struct rig *rig;
    struct state_disk *disk; /* the rig's, as the store knows it */
    GPtrArray *others;       /* struct state_disk */
    struct cover cover;      /* of all of them; without regions at first */
    GThread *control;
    pthread_mutex_t lock; /* the lists below */
    GString *calls;
    const struct bitmap *_Atomic lost; /* bits of the store whose file is lost */
    GHashTable *attached;              /* struct bitmap: those that have a file */
    enum fake_store_failure fails;
    bool threads; /* what may wait must come from another thread than the control thread */
    atomic_uint bits, transactions, lines;                  /* in use */
    void (*committing)(struct fake_store *s, void *opaque); /* called in commit */
    void *opaque;
};

/* A disk named vda of 1 MiB that has such a store, with these bitmaps, whose bits the test holds to
 * the end. */
struct fake_store *fake_store_new(void);
/* The same over a rig that the test has made, which becomes the store's. */
struct fake_store *fake_store_new_over(struct rig *rig, const struct disk_restored *bitmaps,
                                       unsigned n);
struct fake_store *fake_store_new_with(const struct disk_restored *bitmaps, unsigned n);
/* Frees its disk, and checks that nothing of the store is still in use. */
void fake_store_free(struct fake_store *s);
/* Another disk joins; the test frees its rig before the store. */
void fake_store_add_disk(struct fake_store *s, struct rig *rig);
/* The store has got these calls since the last time that it was asked, or was told to forget. */
void assert_store_heard(struct fake_store *s, const char *calls);
void fake_store_forget(struct fake_store *s);

#endif
