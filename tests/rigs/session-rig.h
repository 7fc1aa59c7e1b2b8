/* SPDX-License-Identifier: BSD-3-Clause */
/* Backup sessions of the disks of a house (backup-rig.h), without QMP. */
#ifndef TESTS_RIGS_SESSION_RIG_H
#define TESTS_RIGS_SESSION_RIG_H

#include "tests/rigs/backup-rig.h"

/* With a state folder and sessions, and the disks vda and vdb. */
void house_begin(struct house *h);
void house_end(struct house *h);
/* After house_stop: as house_begin has it. */
void start(struct house *h);
void restart(struct house *h);

/* A session to begin, of vda and vdb. */
struct wish {
    const char *id, *since, *checkpoint, *export; /* the last one: of vdb */
    bool strict;
    bool together;                                     /* some listener serves only added exports */
    void (*spoil)(struct house *h, struct instant *i); /* NULL: nothing fails on purpose */
};
/* NULL, or why it has failed. */
char *begin(struct house *h, const struct wish *w);
/* Of one disk: stage its beginning; begin it. */
int stage_one(struct house *h, struct instant *i, const char *id, struct disk *d, GError **err);
void begin_one(struct house *h, const char *id, struct disk *d);
/* A session that has committed the checkpoint "old". */
void make_old(struct house *h);

struct answer {
    bool done;
    char *why; /* NULL: it has succeeded */
};
/* `done` of what sessions answer, with a struct answer as its opaque. */
void answered(void *opaque, const GError *error);
char *wait_for_answer(struct answer *a);
/* NULL, or why it has failed. */
char *end(struct house *h, const char *id, bool commit, const char *reason);

/* "active", ...; NULL: it is not listed. */
const char *state_of(struct house *h, const char *id);
/* Why there is no such session any more; g_free. */
char *why_gone(struct house *h, const char *id);
unsigned count_views(struct house *h);
unsigned count_exports(struct house *h);
/* Of both disks, as expect_bitmaps. */
void expect_bitmaps_of_both(struct house *h, const char *expected);
/* After make_old: of a session "b" that has not begun, or was aborted, nothing is left: another one can
 * begin then, and leaves nothing either. */
void expect_nothing_left(struct house *h);

#endif
