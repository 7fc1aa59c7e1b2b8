/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A live image of which there is only what the reserve and the header need, over a file of
 * qcow2-rig.h; and operations that fail.
 */
#ifndef TESTS_RIGS_SPACE_RIG_H
#define TESTS_RIGS_SPACE_RIG_H

#include "common/live/live-header.h"
#include "common/live/live-reserve.h"
#include "tests/rigs/qcow2-rig.h"

struct space_rig {
    struct qcow2_rig files;
    struct live_layer top;
    struct live_image image;
    GBytes *kept;     /* what space_rig_reset puts there */
    GString *told;    /* a line for each sentence */
    unsigned wakes;   /* calls of image->wake */
    unsigned changes; /* operations that change the file, since it was opened */
    uint64_t read;    /* bytes, since it was opened */
    /* Sectors that were written, and have not been made durable: by their number, what they were. */
    GHashTable *pending;
    /* The operation that fails, by its number from 0; UINT_MAX: none. With `dead` all that follow fail, too. */
    unsigned fail_at;
    int error; /* negative errno */
    bool dead;
    bool applied;  /* what fails happens all the same */
    bool no_holes; /* the file system cannot make any */
};

/* False, and the test is skipped, where QEMU's tools are missing. */
bool space_rig_begin(struct space_rig *r);
void space_rig_end(struct space_rig *r);

/* Open i.qcow2 of the folder; nothing fails. -1 and *err. */
int space_rig_open(struct space_rig *r, struct q2_error *err);
/* The same where something fails already. */
int space_rig_open_failing(struct space_rig *r, struct q2_error *err);
void space_rig_must_open(struct space_rig *r);
void space_rig_close(struct space_rig *r); /* as after a crash: nothing is written */

/* Keep i.qcow2 as it is; and put it there anew, closed. */
void space_rig_keep(struct space_rig *r);
void space_rig_reset(struct space_rig *r);

/* Take clusters, at most `n`; each is checked: aligned, zeroes, inside of the file, no metadata. As
 * live_reserve_take. */
int space_rig_take(struct space_rig *r, unsigned n, uint64_t *host);

uint64_t space_rig_file_size(const struct space_rig *r); /* of i.qcow2 */
uint64_t
space_rig_file_room(const struct space_rig *r); /* bytes that it takes on the file system */
/* The machine dies: of what was not durable, all is lost, or each sector by chance. */
void space_rig_lose(struct space_rig *r, bool all);

/* Leaks of i.qcow2, which must not be corrupt. By common/qcow2 alone, or by `qemu-img check`, too. */
uint64_t space_rig_leaks(struct space_rig *r, bool qemu);

#endif
