/* SPDX-License-Identifier: BSD-3-Clause */
/* State folders (made-state.h) that are checked, and the oracle that judges what the check has said. */
#ifndef TESTS_RIGS_CHECKED_STATE_H
#define TESTS_RIGS_CHECKED_STATE_H

#include "common/state/state-check.h"
#include "tests/rigs/folder-image.h"
#include "tests/rigs/made-state.h"

/* What a check has found. */
typedef struct checked {
    char *error; /* the folder was refused, and why */
    enum recovery_kind recovery;
    GPtrArray *findings, *notes, *damaged;
    GArray *disks, *bitmaps;
    GPtrArray *bits; /* of struct bitmap *; NULL: inconsistent */
} checked;

/* How much of the folder was found to be good. */
struct verdict {
    bool found;      /* something is wrong */
    unsigned good;   /* bitmaps that are as they were made */
    unsigned wide;   /* have more bits */
    unsigned wrong;  /* have fewer, and are not inconsistent; or recording was lost */
    unsigned absent; /* not there, or inconsistent and should not be */
};

/* All folders are in a temporary one, from _begin to _end. */
void checked_begin(void);
void checked_end(void);
char *checked_path(const char *name); /* of a folder in it; g_free */

/* A folder as made_state makes it. What must be dirty is what was made so. */
folder_image *checked_make(enum made_kind kind);
/* The same, and it is good before it is damaged. After a power loss what must be dirty has the journal's
 * region, too. */
folder_image *checked_make_to_damage(enum made_kind kind);

/* Check the folder at `path`, with repair; a copy of the image. */
checked *checked_folder(const char *path);
checked *checked_image(const folder_image *i);
void checked_free(checked *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(checked, checked_free)

struct verdict checked_judge(const checked *r);
/* Bytes that are dirty in this bitmap, which is there and good, and need not be. */
uint64_t checked_excess(const checked *r, const struct made_bitmap *m);
/* Tell what was found. */
void checked_print(const checked *r);

#endif
