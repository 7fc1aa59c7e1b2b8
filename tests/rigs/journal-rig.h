/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A journal over a storage in memory, with one disk whose writers and bits are the test's. The rig
 * knows which regions have bits that are not synced, and can check that a power loss would find
 * each of them open.
 */
#ifndef TESTS_RIGS_JOURNAL_RIG_H
#define TESTS_RIGS_JOURNAL_RIG_H

#include "server/state/journal.h"
#include "tests/rigs/journal-storage.h"

#include <pthread.h>

#define RIG_FOLDER  UINT64_C(0x0123456789abcdef)
#define RIG_DISK    7
#define RIG_LINES   20u
#define RIG_REGIONS 4096u
#define REGION      (UINT64_C(1) << JOURNAL_REGION_SHIFT)

struct journal_rig {
    struct storage *storage;
    struct journal *journal;
    struct journal_disk *disk;
    struct journal_disk_options disk_options;
    struct cover cover;
    struct live_line lines[RIG_LINES];
    atomic_int failed;      /* calls of options.failed */
    atomic_int sync_result; /* what the next syncs of bits return */
    atomic_uint bit_syncs;
    pthread_mutex_t lock; /* guards what follows */
    unsigned *marked;     /* by region: the number of its last mark that is not synced; 0: none */
    unsigned marks;
};

/* idle_ms 0: an hour, and so nothing is closed by itself; patience_ms 0: a minute. */
struct journal_rig *journal_rig_new(unsigned idle_ms, unsigned patience_ms, bool break_guest_write);
void journal_rig_free(struct journal_rig *r);
/* Change the patience; no writer is at work. */
void rig_set_patience(struct journal_rig *r, unsigned ms);

/* What a writer of a region does. 0: its bits are marked; it has not left yet. */
int rig_enter(struct journal_rig *r, unsigned line, uint64_t region, unsigned *phase);
void rig_leave(struct journal_rig *r, unsigned line, unsigned phase);
int rig_write_region(struct journal_rig *r, unsigned line, uint64_t region); /* both */

/* How many regions would be found open after a power loss; each that has marks is among them. */
uint64_t rig_check_power_loss(struct journal_rig *r, GRand *rand);
bool rig_is_open_durably(struct journal_rig *r, uint64_t region);

#endif
