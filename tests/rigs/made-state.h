/* SPDX-License-Identifier: BSD-3-Clause */
/* State folders as servers leave them, made without a server. */
#ifndef TESTS_RIGS_MADE_STATE_H
#define TESTS_RIGS_MADE_STATE_H

#include "common/state/catalogue.h"

enum made_kind {
    MADE_CLEAN,  /* left in order */
    MADE_KILLED, /* the server was killed, just now */
    MADE_POWER,  /* another boot's; the journal has region 5 of vda open */
    MADE_FAILED, /* a failure was noted in the catalogue, and the server died */
    MADE_NOTED,  /* the same, but it was noted beside the folder */
};

#define MADE_SIZE (UINT64_C(64) << 20) /* of disk vda */

/* A bitmap of it. Disk vda: a and b (64 KiB; recording), off (4 KiB; disabled), bad (inconsistent).
 * Disk vdb, 10 MiB and 1 byte: a (64 KiB; recording). */
struct made_bitmap {
    const char *disk, *name;
    uint32_t granularity;
    bool recording;
    const char *inconsistent;
    struct {
        uint64_t offset, length;
    } dirty[3]; /* length 0 ends it */
};
extern const struct made_bitmap made_bitmaps[];
extern const unsigned n_made_bitmaps;

/* Records: checkpoint a, of vda and vdb; checkpoint next, which session s1 has begun, of vda, without a
 * bitmap; checkpoint odd, whose text is no JSON. Session s0, committed, of vda and vdb; session s1,
 * aborted, of vda. */

#define MADE_REGION 5 /* open in the journal of MADE_POWER */

/* Make the folder, which is not there yet. Aborts on failure. What is beside it stays until
 * made_state_forget(). */
void made_state(const char *path, enum made_kind kind);
void made_state_forget(const char *path);

#endif
