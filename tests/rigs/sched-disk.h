/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the schedules of server/disk/ share (sched.h): two disks of two blocks on fake backends whose
 * calls are steps, a few guests, one view or two of the first disk.
 */
#ifndef TESTS_RIGS_SCHED_DISK_H
#define TESTS_RIGS_SCHED_DISK_H

#include "server/disk/disk-private.h"
#include "server/disk/instant.h"
#include "tests/rigs/fake-backend.h"
#include "tests/rigs/sched.h"

#define UNIT    4096u
#define SIZE    (2 * UNIT)
#define SECTOR  FAKE_SECTOR
#define DISKS   2
#define VIEWS   2
#define GUESTS  3
#define CHANGES 4

/* A write that a guest does, and whether it had entered the gate when an instant closed it. */
struct change {
    unsigned disk;
    uint64_t offset; /* no other change has it */
    bool begun, entered, inside;
};

struct rig {
    struct disk *disks[DISKS];
    struct backend *backends[DISKS];
    struct disk_hooks hooks[DISKS];
    struct place {
        struct rig *rig;
        unsigned disk;
    } places[DISKS];
    struct node_io *guests[DISKS][GUESTS];
    struct view *views[VIEWS];
    struct node_io *readers[VIEWS];
    char was[VIEWS][SIZE];     /* what each view must hold */
    char instant[DISKS][SIZE]; /* the disks when the gates were closed */
    struct change changes[CHANGES];
    bool flipped[DISKS]; /* the gates have been closed for an instant */
    /* Called when a write reaches the image; NULL: nothing. */
    void (*issued)(struct rig *r, unsigned disk, uint64_t offset);
    void *opaque;
};

/* Images that take blocks of min_block bytes. */
struct rig *rig_new(uint32_t min_block);
/* Checks the views that are left. */
void rig_free(struct rig *r);

/* Give a disk a store. Its guests come anew. */
void rig_restore(struct rig *r, unsigned disk, const struct disk_state *state);

/* Write, as guest `guest` of the disk. */
void put(struct rig *r, unsigned guest, unsigned disk, uint64_t offset, uint32_t length, char c);
/* Write a sector, as change `n` of the scene. */
void change(struct rig *r, unsigned guest, unsigned n, unsigned disk, uint64_t offset);

/* Views are of disk 0. */
void add_view(struct rig *r, unsigned n, uint64_t limit, bool discard);
void drop_view(struct rig *r, unsigned n);
/* Check that it reads as the disk was at its instant. */
void check_view(struct rig *r, unsigned n, uint64_t offset, uint32_t length);
/* Check that `have` is what `want` has at `offset`; `what` names it. */
void compare(const char *what, const char *have, const char *want, uint64_t offset,
             uint64_t length);
/* Check that so much has been kept for it. */
void check_kept(struct rig *r, unsigned n, uint64_t bytes);

/* Exactly those sectors are dirty whose change `want` accepts. */
void check_bitmap(struct rig *r, unsigned disk, const char *name,
                  bool (*want)(const struct change *));
/* The same of one that the disk does not have. */
void check_bitmap_of(struct rig *r, unsigned disk, struct dirty_bitmap *db,
                     bool (*want)(const struct change *));
bool before_instant(const struct change *c);
bool after_instant(const struct change *c);
bool always(const struct change *c);
bool never(const struct change *c);
/* It is no failure. */
void must(int result, GError *error);

/* Run each as a test, /schedules/NAME. */
int run_scenarios(int argc, char **argv, const struct scenario *const *scenarios, unsigned n);

#endif
